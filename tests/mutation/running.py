"""Mutants against tests, each in a fork of its own: the working tree is never touched.

A process that has collected the tests once forks for every mutant. In the fork the code of the function that holds the
mistake replaces the one that is loaded, wherever it was imported to; mistakes outside of functions are made as their
module is first imported, in a fork of a process that has imported nothing of the simulator. Only tests that reach the
line run, those first that killed most so far, until one fails.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import select
import signal
import sys
import time
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.mutation.forks import collected, folders, quietly, read_all
from tests.mutation.mutating import Mutant
from tests.mutation.reach import Reach
from tests.mutation.rooms import ROOT

_MEMORY = 4 * 2**30
"""Of address space that a mutant may take beyond what its parent has [B]."""
_ERROR = "error: "
"""What a fork says first where the check itself went wrong."""
_TAKEN = Path("/proc/self/statm")
"""Where Linux says how much address space a process has."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant."""

    mutant: Mutant
    killer: str
    """The test that failed, or what else ended it; empty where it survived."""
    tests: int
    """How many reach it."""
    seconds: float = 0.0

    @property
    def killed(self) -> bool:
        """Whether anything noticed."""
        return bool(self.killer)


@dataclass
class _Child:
    """A fork that runs tests."""

    mutant: Mutant
    tests: int
    pipe: int
    started: float = field(default_factory=time.monotonic)


def check(mutants: Sequence[Mutant], reach: Reach, *, limit: float) -> None:
    """Make sure that a mutant without a mistake survives, in a function and outside: else nothing below is true.

    Raises
    ------
    RuntimeError
        Where it does not.
    """
    if not mutants:
        return
    one = min(mutants, key=lambda each: (not reach.tests_of(each), len(reach.tests_of(each))))
    sound = replace(one, source=(ROOT / one.module).read_text())
    inside = next((each.function for each in mutants if each.module == one.module and each.function), None)
    for control in {replace(sound, function=None), replace(sound, function=inside)}:
        for verdict in judge([control], reach, jobs=1, limit=limit):
            if verdict.killed:
                raise RuntimeError(f"{verdict.killer} kills {one.module} without a mistake; mend that first")


def judge(mutants: Sequence[Mutant], reach: Reach, *, jobs: int, limit: float) -> Iterator[Verdict]:
    """Try mutants, `jobs` at a time, each for at most `limit` seconds; those outside of functions come first.

    Parameters
    ----------
    mutants
        In any order.
    reach
        Which tests reach what.
    jobs
        How many processes run tests side by side [1].
    limit
        Time for one mutant; one that takes longer counts as killed [s].
    """
    outside = [each for each in mutants if each.function is None]
    yield from _judged(outside, reach, jobs=jobs, limit=limit, run=_imported)
    inside = [each for each in mutants if each.function is not None]
    yield from _from_collected(inside, reach, jobs=jobs, limit=limit)


def _from_collected(mutants: Sequence[Mutant], reach: Reach, *, jobs: int, limit: float) -> Iterator[Verdict]:
    """Verdicts of a fork that collects the tests, and forks again for each mutant."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)

        def loop(session: pytest.Session) -> None:
            _warm()
            items = {item.nodeid: item for item in session.items}
            run = functools.partial(_swapped, items)
            for number, verdict in _numbered(mutants, _judged(mutants, reach, jobs=jobs, limit=limit, run=run)):
                line = json.dumps([number, verdict.killer, verdict.tests, verdict.seconds])
                os.write(writer, line.encode() + b"\n")

        quietly(lambda: collected(folders(mutant.module for mutant in mutants), loop))
    os.close(writer)
    with os.fdopen(reader) as lines:
        for line in lines:
            number, *rest = json.loads(line)
            yield Verdict(mutants[number], *rest)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("the process that forks for each mutant ended early; set CAPSIM_MUTANTS_LOUD=1 to see why")


def _numbered(mutants: Sequence[Mutant], verdicts: Iterable[Verdict]) -> Iterator[tuple[int, Verdict]]:
    numbers = {id(mutant): number for number, mutant in enumerate(mutants)}
    for verdict in verdicts:
        yield numbers[id(verdict.mutant)], verdict


def _judged(
    mutants: Sequence[Mutant],
    reach: Reach,
    *,
    jobs: int,
    limit: float,
    run: Callable[[Mutant, list[str], Callable[[str], None]], None],
) -> Iterator[Verdict]:
    """Fork for each mutant, and collect what its fork says."""
    kills: Counter[str] = Counter()
    running: dict[int, _Child] = {}
    waiting = list(reversed(mutants))
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            tests = sorted(reach.tests_of(mutant), key=lambda test: (-kills[test], reach.seconds[test], test))
            if not tests:
                yield Verdict(mutant, "", 0)
                continue
            pid, pipe = _forked(mutant, tests, limit, run)
            running[pid] = _Child(mutant, len(tests), pipe)
        for pid, child in _ended(running, limit):
            said = read_all(child.pipe)
            if said.startswith(_ERROR):
                raise RuntimeError(said)
            killer = said if said != "survived" else ""
            if killer in reach.seconds:
                kills[killer] += 1
            yield Verdict(child.mutant, killer if said else "crash", child.tests, time.monotonic() - child.started)
            del running[pid]


def _ended(running: dict[int, _Child], limit: float) -> Iterator[tuple[int, _Child]]:
    """Children that have ended, or had to be ended; waits a little for one."""
    select.select([child.pipe for child in running.values()], [], [], 0.2)
    for pid, child in list(running.items()):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            yield pid, child
        elif time.monotonic() - child.started > 4.0 * limit:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            yield pid, child


def _forked(
    mutant: Mutant,
    tests: list[str],
    limit: float,
    run: Callable[[Mutant, list[str], Callable[[str], None]], None],
) -> tuple[int, int]:
    """Start a fork that runs tests on a mutant; its id, and where it will write what killed the mutant."""
    reader, writer = os.pipe()

    def say(killer: str) -> NoReturn:
        os.write(writer, killer.encode())
        os._exit(0)

    def work() -> None:
        signal.signal(signal.SIGXCPU, lambda *_: say("time"))
        resource.setrlimit(resource.RLIMIT_CPU, (spent() + int(limit), spent() + 4 * int(limit)))
        if _TAKEN.exists():
            taken = int(_TAKEN.read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (taken + _MEMORY, taken + _MEMORY))
        try:
            run(mutant, tests, say)
        except BaseException as error:
            say(f"{_ERROR}{mutant}: {error!r}")
        say("survived")

    def spent() -> int:
        return int(sum(os.times()[:2])) + 1

    pid = os.fork()
    if not pid:
        quietly(work)
    os.close(writer)
    return pid, reader


def _swapped(items: dict[str, pytest.Item], mutant: Mutant, tests: list[str], say: Callable[[str], None]) -> None:
    """Put a mutant's code into the function that is loaded, and run tests that were collected."""
    swap(mutant)
    _run([items[test] for test in tests], say)


def _imported(mutant: Mutant, tests: list[str], say: Callable[[str], None]) -> None:
    """Import the simulator with a mutant in place of its module, and run tests."""
    finder = _Finder(mutant)
    order = {test: number for number, test in enumerate(tests)}
    files = list(dict.fromkeys(test.split("::")[0] for test in tests))

    def loop(session: pytest.Session) -> None:
        if not isinstance(getattr(sys.modules.get(finder.name), "__loader__", None), _Finder):
            say(f"{_ERROR}{finder.name} was loaded without its mistake")
        chosen = [item for item in session.items if item.nodeid in order]
        if len(chosen) < len(order):
            say("collection")
        _run(sorted(chosen, key=lambda item: order[item.nodeid]), say)

    if collected(files, loop, finder):
        say("collection")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds one module, and loads a mutant of it."""

    def __init__(self, mutant: Mutant) -> None:
        self.name, self._mutant = mutant.module.removesuffix(".py").replace("/", "."), mutant

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """The mutant for its module, nothing for others."""
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, ROOT / self._mutant.module, loader=self)

    def get_source(self, fullname: str) -> str:
        """The source with the mistake in it."""
        return self._mutant.source

    def get_filename(self, fullname: str) -> str:
        """Where the module stands without it."""
        return str(ROOT / self._mutant.module)


def swap(mutant: Mutant) -> None:
    """Give the loaded function the code with the mistake in it.

    Raises
    ------
    LookupError
        Where no function of that name is loaded.
    """
    assert mutant.function is not None
    module = sys.modules[mutant.module.removesuffix(".py").replace("/", ".")]
    names = mutant.function.split(".")
    code = compile(mutant.source, str(ROOT / mutant.module), "exec", dont_inherit=True)
    for name in names:
        code = next(each for each in code.co_consts if isinstance(each, types.CodeType) and each.co_name == name)
    holder: Any = module
    for name in names[:-1]:
        holder = getattr(holder, name)
    function_of(vars(holder)[names[-1]]).__code__ = code


def function_of(holder: Any) -> types.FunctionType:
    """The function inside properties, class methods and caches.

    Raises
    ------
    LookupError
        Where there is none.
    """
    for name in ("fget", "func", "__func__", "__wrapped__"):
        inner = getattr(holder, name, None)
        if not isinstance(holder, types.FunctionType) and inner is not None:
            return function_of(inner)
    if isinstance(holder, types.FunctionType):
        return holder
    raise LookupError(f"{holder!r} holds no function")


def _run(items: Sequence[pytest.Item], say: Callable[[str], None]) -> None:
    """Run tests in order, and say which of them failed first."""

    class Listener:
        @pytest.hookimpl
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                sys.stderr.write(report.longreprtext)
                say(report.nodeid)

    items[0].config.pluginmanager.register(Listener())
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


def _warm() -> None:
    """Read the catalogue once for all forks: what it holds comes from none of the rooms."""
    from hardware import catalogue
    from simulator.specs import loading

    for name in ("dgx-a100-640gb", "dgx-h100"):
        catalogue.load_class(catalogue.load_system(name).device.device_class)
    catalogue.link_classes()
    for model in ("bert-large", "gpt2-355m", "llama-3.2-1b"):
        loading.load_model(model)
