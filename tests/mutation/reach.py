"""Which tests reach which lines."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.mutation.forks import collected, folders, quietly, read_all
from tests.mutation.mutating import Mutant
from tests.mutation.rooms import ROOT, TESTS, room_of


@dataclass(frozen=True)
class Reach:
    """Which tests reach which lines."""

    lines: dict[str, dict[int, list[str]]]
    """Of each module, tests by line."""
    seconds: dict[str, float]
    """Processor time of each test [s]."""

    def tests_of(self, mutant: Mutant) -> set[str]:
        """The tests of the room that reach a mutant.

        Where it stands in no function these are all: fields and constants are used without a line of their module.
        """
        by_line = self.lines.get(mutant.module, {})
        places = tuple(f"{folder}/" for folder in TESTS[room_of(mutant.module)])
        if mutant.function is None:
            reaching = set(self.seconds)
        else:
            lines = range(mutant.statement[0], mutant.statement[1] + 1)
            reaching = {test for line in lines for test in by_line.get(line, ())}
        return {test for test in reaching if test.startswith(places)}


def measure(modules: Iterable[str]) -> Reach:
    """Run every test of the rooms of some modules once, in a fork, and note the lines that it reaches.

    Raises
    ------
    RuntimeError
        Where a test fails without any mistake.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        quietly(lambda: collected(folders(modules), lambda session: _measured(session, writer)))
    os.close(writer)
    report = json.loads(read_all(reader) or '{"failed": ["collection"]}')
    os.waitpid(pid, 0)
    if report["failed"]:
        raise RuntimeError(f"fails without a mutant: {', '.join(report['failed'][:3])}; mend that first")
    lines: dict[str, dict[int, list[str]]] = {}
    for test, reached in report["reached"].items():
        for module, numbers in reached.items():
            for number in numbers:
                lines.setdefault(module, {}).setdefault(number, []).append(test)
    return Reach(lines, report["seconds"])


def _measured(session: pytest.Session, writer: int) -> None:
    """Run all tests, and write which lines each of them reaches, and how long it takes."""
    failed: list[str] = []
    reached: dict[str, dict[str, list[int]]] = {}
    seconds: dict[str, float] = {}

    class Listener:
        @pytest.hookimpl
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                failed.append(report.nodeid)

    session.config.pluginmanager.register(Listener())
    rooms = {str(ROOT / room): room for room in TESTS}
    for item, following in zip(session.items, [*session.items[1:], None], strict=True):
        began = time.process_time()
        with _traced(tuple(rooms)) as lines:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        seconds[item.nodeid] = time.process_time() - began
        numbers: dict[str, list[int]] = {}
        for path, line in sorted(lines):
            numbers.setdefault(os.path.relpath(path, ROOT), []).append(line)
        reached[item.nodeid] = numbers
    with os.fdopen(writer, "w") as pipe:
        json.dump({"failed": failed, "reached": reached, "seconds": seconds}, pipe)


@contextlib.contextmanager
def _traced(folders: tuple[str, ...]) -> Iterator[set[tuple[str, int]]]:
    """Note lines that run in files of some folders."""
    lines: set[tuple[str, int]] = set()
    wanted: dict[types.CodeType, bool] = {}

    def local(frame: types.FrameType, event: str, argument: Any) -> Any:
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    def call(frame: types.FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code not in wanted:
            wanted[code] = code.co_filename.startswith(folders)
        return local if wanted[code] else None

    sys.settrace(call)
    try:
        yield lines
    finally:
        sys.settrace(None)
