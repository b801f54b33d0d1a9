"""Variations as rows of a table for spreadsheets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simulator.answers.costs import flat
from simulator.answers.estimate import Estimate
from simulator.variations.sensitivity import Sensitivity
from simulator.variations.whatif import Variation, WhatIf

_ANSWERS = (
    "step_time_s",
    "step_time_low_s",
    "step_time_high_s",
    "tokens_per_s",
    "samples_per_s",
    "mfu",
    "hfu",
    "limited_by",
    "fits",
)
_RUN = (
    "of",
    "steps",
    "tokens",
    "time_s",
    "device_hours",
    "cost_usd",
    "energy_kwh",
    "co2_kg",
    "goodput",
    "expected_time_s",
    "expected_cost_usd",
)
_PLAN = (
    "dp",
    "tp",
    "pp",
    "virtual_stages",
    "cp",
    "ep",
    "micro_batch",
    "sharding",
    "recompute",
    "attention",
    "precision",
)


def rows_of(varied: WhatIf | Sensitivity) -> Iterator[dict[str, Any]]:
    """The scenario as it is, then every variation; every row has the same columns."""
    if isinstance(varied, WhatIf):
        yield {"row": 0, **dict.fromkeys(varied.paths, ""), **_answer(varied.base, 1.0, None)}
        for number, each in enumerate(varied.variations, start=1):
            texts = {edit.path: edit.text for edit in each.changes}
            yield {"row": number, **texts, **_of(each)}
        return
    yield {"lever": "", "changes": "", "ratio": 1.0, "span": "", "elasticity": "", **_answer(varied.base, 1.0, None)}
    for lever in varied.levers:
        for each in lever.variations:
            changes = "; ".join(f"{edit.path}={edit.text}" for edit in each.changes)
            head = {"lever": lever.name, "changes": changes, "ratio": each.changes[0].ratio}
            yield {**head, "span": lever.span, "elasticity": lever.elasticity, **_of(each)}


def _of(variation: Variation) -> dict[str, Any]:
    """The answer of one variation, with what there is to say of it."""
    words = "; ".join(text for text in (variation.problem, variation.note) if text)
    return _answer(variation.estimate, variation.time_ratio, words)


def _answer(answer: Estimate | None, ratio: float | None, words: str | None) -> dict[str, Any]:
    """One answer in columns; empty where there is none."""
    memory, plan = (answer.memory_bytes, answer.plan) if answer else ({}, {})
    return {
        "time_per_token_ratio": ratio,
        **{name: getattr(answer, name, None) for name in _ANSWERS},
        "memory_bytes": memory.get("total"),
        "memory_capacity_bytes": memory.get("capacity"),
        **{f"run_{name}": getattr(answer.run, name) if answer else None for name in _RUN},
        **flat(answer.run.price if answer else None),
        **{f"plan_{name}": plan.get(name) for name in _PLAN},
        "problem": words or "",
    }
