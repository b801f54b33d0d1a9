"""The chain from scenarios to counts, time and memory; one call for one scenario and for millions."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.pricing.backend import Backend
from simulator.step.memory import Memory, peak
from simulator.step.time import Step, price
from simulator.work.counts import ModelCounts, count
from simulator.work.transformer import Scenarios


@dataclass(frozen=True)
class Evaluation:
    """What a step of each scenario takes."""

    counts: ModelCounts
    step: Step
    memory: Memory


def evaluate(scenarios: Scenarios, backend: Backend) -> Evaluation:
    """Count, price and weigh scenarios.

    Parameters
    ----------
    scenarios
        Columns that broadcast against each other.
    backend
        Prices kernels and collectives.
    """
    of_device = count(scenarios)
    return Evaluation(of_device, price(scenarios, of_device, backend), peak(scenarios, of_device))
