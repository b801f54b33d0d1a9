"""Measure: `python -m measure`, or `capsim measure`. It needs numpy, pydantic, PyYAML and torch, and no more."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from hardware.errors import InputError, one_line
from measure import arguments, tuning

INTERRUPTED = 130
"""The status that a shell expects of what Ctrl-C ended."""


def main(arguments: Sequence[str] | None = None, *, program: str = "python -m measure") -> int:
    """Run a command; the status to end with.

    Raises
    ------
    InputError
        One sentence, for a mistake of the user.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    command, rest = (words[0], words[1:]) if words and not words[0].startswith("-") else ("run", words)
    if command == "show":
        return _show(rest, program)
    if command == "merge":
        return _merge(rest, program)
    if command not in ("run", "collectives"):
        raise InputError(f"unknown command {command!r}; valid: run, show, merge, collectives")
    if command == "collectives":
        return _collectives(rest, program)
    if any(word.split("=")[0] == "--trace" for word in rest):
        return _trace(rest, program)
    return _run(rest, program)


def _run(words: list[str], program: str) -> int:
    """Measure on one device."""
    started = time.monotonic()
    options = arguments.run_parser(program).parse_args(words)
    budget = arguments.seconds("--budget", options.budget)
    phases = arguments.phases("--phases", options.phases)
    path = Path(options.output)
    if options.resume and not path.exists():
        raise InputError(f"{path}: is not there to go on with; leave --resume out to begin it")
    _check(path, options.models, reads=not options.plan_only)
    _need_torch()
    if options.device == "cpu" and not (options.plan_only or tuning.is_tuned()):
        return tuning.restart(words)
    from measure.runs import running

    with _ended_by_signal():
        prepared = running.prepare(options.device, options.models, budget, phases=phases, tiny=options.tiny)
        if options.plan_only:
            running.show_plan(prepared)
            return 0
        if prepared.machine.kind == "cpu" and not tuning.is_tuned():
            return tuning.restart(words)
        summary = running.measure(prepared, path, started)
    return INTERRUPTED if summary.interrupted else 0


def _trace(words: list[str], program: str) -> int:
    """Trace a few steps on one device."""
    from hardware.writing import check_output
    from measure.device.naming import models_of

    options = arguments.trace_parser(program).parse_args(words)
    sizes = {"sequence_length": ("--seq-len", options.seq_len), "micro_batch": ("--micro-batch", options.micro_batch)}
    numbers = {name: arguments.whole(*each, 1_000_000) for name, each in sizes.items()}
    layers = None if options.layers is None else arguments.whole("--layers", options.layers, 10_000)
    steps = arguments.whole("--steps", options.steps, 20)
    path = Path(options.trace)
    check_output(path)
    models_of(options.model)
    _need_torch()
    if options.device == "cpu" and not tuning.is_tuned():
        return tuning.restart(words)
    from measure.runs import tracing

    wishes = tracing.TraceWishes(
        options.model, **numbers, layers=layers, precision=options.precision, attention=options.attention, steps=steps
    )
    with _ended_by_signal():
        traced = tracing.prepare(options.device, wishes)
        if traced.machine.kind == "cpu" and not tuning.is_tuned():
            return tuning.restart(words)
        sys.stdout.write(tracing.record(traced, path) + "\n")
    return 0


def _check(path: Path, models: str, *, reads: bool) -> None:
    """Refuse what cannot work, before torch is loaded."""
    from hardware.writing import check_output
    from measure.device.naming import models_of
    from simulator.profiling.records.journal import read

    models_of(models)
    if reads:
        check_output(path)
        if path.exists():
            read(path)


def _collectives(words: list[str], program: str) -> int:
    """Measure among the ranks that torchrun started."""
    options = arguments.collectives_parser(f"{program} collectives").parse_args(words)
    budget = arguments.seconds("--budget", options.budget)
    smallest = arguments.size("--smallest", options.smallest)
    largest = None if options.largest is None else arguments.size("--largest", options.largest)
    phases = arguments.phases("--phases", options.phases, arguments.SHARED_PHASES)
    _check(Path(options.output), options.models, reads=False)
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        raise InputError("collectives need several processes: torchrun --nproc-per-node 8 -m measure collectives")
    _need_torch()
    from measure.runs import ranks

    wanted = ranks.Wanted(budget, phases, options.models, options.backend, smallest, largest, options.tiny)
    with _ended_by_signal():
        return ranks.measure(Path(options.output), wanted)


def _merge(words: list[str], program: str) -> int:
    """Two records become one."""
    from hardware.writing import check_output
    from simulator.profiling.records.journal import merge, read, write

    options = arguments.merge_parser(f"{program} merge").parse_args(words)
    check_output(Path(options.output))
    records = [read(Path(name)) for name in (options.first, options.second)]
    merged = merge(*records, names=(options.first, options.second))
    write(Path(options.output), merged)
    counts = [len(record.results) for record in (*records, merged)]
    sys.stdout.write(f"{counts[0]} and {counts[1]} results, {counts[2]} together in {options.output}\n")
    return 0


def _show(words: list[str], program: str) -> int:
    """A record in words."""
    from measure.report import lines
    from simulator.profiling.records.journal import read

    options = arguments.show_parser(f"{program} show").parse_args(words)
    sys.stdout.write("\n".join(lines(read(Path(options.record)), everything=options.all)) + "\n")
    return 0


def _need_torch() -> None:
    """Refuse where there is no torch."""
    if importlib.util.find_spec("torch") is None:
        raise InputError("measuring needs torch, which is not installed; pip install 'capsim[measure]'")


class _ended_by_signal:  # noqa: N801
    """Within it, being told to terminate is as Ctrl-C."""

    def __enter__(self) -> None:
        try:
            self._before = signal.signal(signal.SIGTERM, _interrupt)
        except ValueError:  # not the main thread
            self._before = None

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt


def _ended(words: Sequence[str] | None = None) -> int:
    """Run, and turn what goes wrong into one sentence and a status."""
    try:
        status = main(words)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the answer has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("CAPSIM_TRACEBACK"):
            raise
        sentence, status = _told(error)
        if sys.stderr is not None:
            sys.stderr.write(f"measure: {one_line(sentence)}\n")
    return status


def _told(error: BaseException) -> tuple[str, int]:
    """What to say of an error, and the status to end with."""
    if isinstance(error, InputError):
        return str(error), 2
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if isinstance(error, OSError):
        return f"cannot write ({error.strerror or error})", 1
    return f"failed with {type(error).__name__}: {error}; CAPSIM_TRACEBACK=1 shows where, please report it", 1


if __name__ == "__main__":
    sys.exit(_ended())
