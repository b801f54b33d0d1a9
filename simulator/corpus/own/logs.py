"""Time of a step in a steady state, read from what training software logs: Megatron, W&B exports, TensorBoard."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from hardware.errors import InputError, shown
from hardware.reading import build, read_mapping, read_text
from simulator.corpus.own.events import scalars
from simulator.specs.loading import ScenarioFile, beside

_MOST_BYTES = 500_000_000
"""The largest log that is read."""
_MEGATRON = re.compile(
    r"\biteration\s+\d+\s*/\s*\d+\s*\|[^\n]*?elapsed time per iteration \((ms|s)\):\s*([\d.]+(?:e[+-]?\d+)?)", re.I
)
"""A line of Megatron-LM's training_log (megatron/training/training.py), each a mean over the log interval."""
_TIMED = re.compile(
    r"(?:iter(?:ation)?|step|batch)[\W_]*time(?!stamp)|time[\W_]*(?:per|/)[\W_]*(?:iter(?:ation)?|step|batch)", re.I
)
"""Names under which software logs the time of a step."""
_MILLISECONDS = re.compile(r"(?:[\W_]|^)(?:ms|msec|milliseconds)(?:[\W_]|$)", re.I)
_STEPS = ("_step", "step", "global_step", "trainer/global_step", "iteration")
_CLOCKS = ("_runtime", "_timestamp", "relative time (process)", "wall time", "timestamp")
_ENDS = ("__MIN", "__MAX")
"""Of columns that W&B writes beside each mean."""
_SHARE, _FEWEST, _MOST = 0.2, 1, 20
"""Records that are taken for warm-up unless told: a fifth, but so many at least and at most."""


@dataclass(frozen=True)
class StepLog:
    """Times of steps in a log, and what they come to once the run is steady."""

    kind: str
    """What the log is of."""
    name: str
    """Under which name it has them, or which clock they are differences of."""
    times: tuple[float, ...]
    """Of all records [s]; where records are means over several steps, of these."""
    warm_up: int
    """Records at the beginning that do not count."""

    @property
    def steady(self) -> tuple[float, ...]:
        """Times after the warm-up [s]."""
        return self.times[self.warm_up :]

    @property
    def step_time_s(self) -> float:
        """Median of the steady times [s]."""
        return float(np.median(self.steady))

    @property
    def spread(self) -> tuple[float, float]:
        """Times between which eight of ten steady ones lie [s]."""
        low, high = np.quantile(self.steady, [0.1, 0.9])
        return float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        low, high = self.spread
        told = {"kind": self.kind, "name": self.name, "records": len(self.times), "warm_up": self.warm_up}
        return {**told, "step_time_s": self.step_time_s, "low_s": low, "high_s": high}


def read_log(path: str | Path, *, name: str | None = None, warm_up: int | None = None) -> StepLog:
    """Read times of steps from a log.

    Parameters
    ----------
    path
        Output of Megatron-LM, a W&B history as CSV or as JSON lines, or an event file of TensorBoard.
    name
        Column or tag that holds the time of a step; found by its name unless given, and else the differences of the
        clock that the log has.
    warm_up
        Records at the beginning that do not count; a fifth of them, 20 at most, unless given.

    Raises
    ------
    InputError
        Where nothing tells the time of a step, or too little is left after the warm-up.
    """
    file = Path(path)
    kind, used, times = _times(file, name)
    skipped = min(max(_FEWEST, round(_SHARE * len(times))), _MOST) if warm_up is None else warm_up
    if skipped < 0 or skipped >= len(times):
        raise InputError(
            f"{path}: {len(times)} records, of which {skipped} are warm-up; give fewer, or a longer log",
            fields=["warm_up"],
        )
    return StepLog(kind, used, tuple(times), skipped)


def _times(path: Path, name: str | None) -> tuple[str, str, list[float]]:
    """What a log is, where it has times, and these."""
    if "tfevents" in path.name:
        return "TensorBoard", *_of_records(_events(path), name, path)
    text = read_text(path, most_bytes=_MOST_BYTES)
    elapsed = [float(value) / (1e3 if unit.lower() == "ms" else 1.0) for unit, value in _MEGATRON.findall(text)]
    if elapsed and name is None:
        return "Megatron", "elapsed time per iteration", elapsed
    if path.suffix in (".jsonl", ".ndjson", ".json"):
        return "W&B history", *_of_records(_lines(text, path), name, path)
    if path.suffix == ".csv":
        return "W&B table", *_of_records(csv.DictReader(StringIO(text.lstrip("\ufeff"))), name, path)
    raise InputError(
        f"{path}: no line of Megatron with its time per iteration; other logs are W&B histories (.csv, .jsonl) and "
        "event files of TensorBoard (events.out.tfevents...)"
    )


def _lines(text: str, path: Path) -> Iterator[Mapping[str, Any]]:
    """Records of JSON lines, or of one JSON list."""
    try:
        lines = [text] if text.lstrip().startswith("[") else [line for line in text.splitlines() if line.strip()]
        whole = [json.loads(line) for line in lines]
    except (json.JSONDecodeError, RecursionError):
        raise InputError(f"{path}: is no JSON, nor a line of JSON for each record") from None
    for record in whole[0] if len(whole) == 1 and isinstance(whole[0], list) else whole:
        if not isinstance(record, dict):
            raise InputError(f"{path}: must hold a record with names in each line, not {shown(record)}")
        yield record


def _events(path: Path) -> Iterator[Mapping[str, Any]]:
    """Scalars of an event file as records."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    by_step: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for scalar in scalars(content, str(path)):
        by_step[scalar.step] |= {"_step": scalar.step, "_timestamp": scalar.wall_time, scalar.tag: scalar.value}
    yield from (by_step[step] for step in sorted(by_step))


def _of_records(records: Iterable[Mapping[str, Any]], name: str | None, path: Path) -> tuple[str, list[float]]:
    """Where records have the time of a step, and the times [s]."""
    every = list(records)
    columns = list(dict.fromkeys(str(key) for record in every for key in record if key is not None))
    if name is not None and name not in columns:
        there = ", ".join(columns[:12]) or "none"
        raise InputError(f"{path}: no column {shown(name)}; there are {there}", fields=["name"])
    used = name or next((each for each in columns if _TIMED.search(each) and not each.endswith(_ENDS)), None)
    if used is not None:
        scale = 1e-3 if _MILLISECONDS.search(used) else 1.0
        times = [scale * value for record in every if (value := _number(record.get(used))) is not None and value > 0.0]
    else:
        used, times = _by_clock(every, columns, path)
    if not times:
        raise InputError(f"{path}: {shown(used)} holds no times; name the column or tag that does with --name")
    return used, times


def _by_clock(every: Sequence[Mapping[str, Any]], columns: Sequence[str], path: Path) -> tuple[str, list[float]]:
    """Differences of a clock over those of the steps [s]."""
    lower = {each.lower(): each for each in columns}
    clock, counter = (next((lower[each] for each in names if each in lower), None) for names in (_CLOCKS, _STEPS))
    if clock is None or counter is None:
        raise InputError(
            f"{path}: nothing tells the time of a step: no column such as step_time, nor a clock beside a count of "
            "steps; name the column or tag with --name"
        )
    pairs = [(_number(record.get(counter)), _number(record.get(clock))) for record in every]
    known = sorted({step: time for step, time in pairs if step is not None and time is not None}.items())
    steps = np.array(known, dtype=np.float64).reshape(-1, 2)
    return clock, (np.diff(steps[:, 1]) / np.diff(steps[:, 0])).tolist()


def _number(value: Any) -> float | None:
    """A finite number, where there is one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def with_measured(scenario: str | Path, log: StepLog) -> dict[str, Any]:
    """A scenario file as an own run, with what a log says was measured.

    Raises
    ------
    InputError
        Where the file holds no scenario.
    """
    path = Path(scenario).resolve()
    document = {name: value for name, value in read_mapping(path).items() if name not in ("id", "measured", "note")}
    run = beside(build(ScenarioFile, document, path=path), path).model_dump(mode="json", exclude_unset=True)
    told = f"median of {len(log.steady)} records of {log.name}, {log.kind}"
    return {"id": path.stem, **run, "measured": {"step_time_s": log.step_time_s, "step_time_from": told}}
