"""Runs for the tests of the mapping: shipped ones by id, and small ones in the schema."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

from simulator.corpus.mapping import MappedRun
from simulator.corpus.runs import Run, shipped

_PARTS: dict[str, dict[str, Any]] = {
    "model": {"name": "a model", "family": "llama", "layers": 32, "hidden": 4096, "heads": 32, "ffn": 11008},
    "hardware": {"device": "a100-sxm4-80gb", "devices": 64, "devices_per_node": 8},
    "plan": {"framework": "pytorch", "precision": "bf16", "global_batch": 256, "micro_batch": 1},
    "measured": {"step_time_s": 1.0},
}


@cache
def published(name: str) -> Run:
    """The shipped run with an id."""
    return next(run for run in shipped() if run.id == name)


def made(task: str = "pretrain", extra: dict[str, Any] | None = None, **changes: Any) -> Run:
    """A Llama of 7B on 64 A100; a change is named part__field."""
    row: dict[str, Any] = {part: dict(fields) for part, fields in _PARTS.items()}
    for name, value in changes.items():
        part, _, field = name.partition("__")
        row.setdefault(part, {})[field] = value
    return Run.model_validate({"id": "made", "task": task, "extra": extra or {}, **row})


def timed() -> list[Run]:
    """The shipped training runs with a step time."""
    return [run for run in shipped() if run.measured.step_time_s is not None and run.task != "forward"]


def fitted_to(collection: str, most: int) -> list[Run]:
    """Some shipped runs of one source that count in a fit, spread over it."""
    rows = [run for run in timed() if run.collection == collection and run.suspect is None]
    return rows[:: max(1, len(rows) // most)][:most]


def written(run: Run, **changes: Any) -> dict[str, Any]:
    """A run as it stands in a published file."""
    plain: dict[str, Any] = json.loads(run.model_dump_json(exclude_defaults=True))
    return {name: value for name, value in plain.items() if name != "collection"} | changes


def timed_as(case: MappedRun, seconds: float) -> MappedRun:
    """A case with another measured step time."""
    measured = case.run.measured.model_copy(update={"step_time_s": seconds})
    return replace(case, run=case.run.model_copy(update={"measured": measured}))
