"""What of a fine-tuning run may be smaller where no plan for it fits: the frozen weights' format, the sequences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simulator.scenario.defaults import is_fine_tuned
from simulator.scenario.scenario import Scenario
from simulator.specs.training.guidance import PAIR
from simulator.step.memory import host_bytes, peak_total
from simulator.work.program import program_of

_SHORTEST = 256
"""Tokens of a sequence below which nobody is advised to cut [token]."""


@dataclass(frozen=True)
class SmallerWork:
    """A change of the workload, and of the plan where it needs one, with which a run fits."""

    changes: dict[str, Any]
    memory_bytes: float
    """Of the peak-memory stage [B]."""
    fits_probability: float


def smaller_work(scenario: Scenario) -> SmallerWork | None:
    """The least change of a fine-tuning run with which it fits as surely as is wished; nothing where none does.

    Tried are frozen weights in a few bits, then shorter sequences, each by itself, with the smallest micro-batch and
    with what is recomputed at most.

    Parameters
    ----------
    scenario
        A scenario that does not fit.
    """
    if not is_fine_tuned(scenario.workload):
        return None
    for of_work in _of_work(scenario):
        for of_plan in _of_plan(scenario):
            work = scenario.workload.model_copy(update={**of_work, **_following(scenario, of_work)})
            changed = replace(scenario, workload=work, plan=scenario.plan.model_copy(update=of_plan))
            program = program_of(changed.columns())
            memory = float(np.asarray(peak_total(program)))
            host = float(np.asarray(host_bytes(program)))
            if memory <= scenario.room and host <= scenario.host_capacity:
                return SmallerWork({**of_work, **of_plan}, memory, scenario.chance(memory, host))
    return None


def _of_work(scenario: Scenario) -> Iterator[dict[str, Any]]:
    """Changes of the workload, the least first."""
    work = scenario.workload
    quantised = {"base_precision": "nf4"}
    can = work.train == "lora" and work.base_precision is None and scenario.stack.offers.quantised_base
    if can:
        yield quantised
    length = work.sequence_length or 0
    shorter = [length // 2**times for times in (1, 2, 3) if length % 2**times == 0]
    for each in shorter if work.document_lengths is None and work.target_length is None else ():
        if each >= _SHORTEST:
            yield {"sequence_length": each}
            if can:
                yield {**quantised, "sequence_length": each}


def _of_plan(scenario: Scenario) -> Iterator[dict[str, Any]]:
    """Changes of the plan beside them, the least first."""
    plan, offers = scenario.plan, scenario.stack.offers
    least = PAIR if scenario.workload.preference is not None else 1
    smallest = {"micro_batch": least} if (plan.micro_batch or 1) > least else {}
    yield {}
    yield from [smallest] if smallest else []
    if plan.recompute != "full" and "full" in offers.recompute:
        again = {"recompute": "full", **dict.fromkeys(("recompute_modules", "recompute_layers", "recompute_method"))}
        said = {name: value for name, value in again.items() if value is not None or getattr(plan, name) is not None}
        yield said
        yield from [{**smallest, **said}] if smallest else []


def _following(scenario: Scenario, changes: dict[str, Any]) -> dict[str, Any]:
    """What of a resolved workload follows from its sequences' length."""
    if "sequence_length" not in changes:
        return {}
    effective = scenario.workload.effective_tokens or changes["sequence_length"]
    return {"effective_tokens": min(effective, changes["sequence_length"])}
