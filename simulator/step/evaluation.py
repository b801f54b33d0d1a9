"""The chain from scenarios to program, time and memory; one call for one scenario and for millions."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.pricing.backend import Backend
from simulator.step.memory import Memory, peak
from simulator.step.time import Step, step_time
from simulator.work.program import Program, program_of
from simulator.work.transformer import Scenarios


@dataclass(frozen=True)
class Evaluation:
    """What a step of each scenario takes."""

    program: Program
    step: Step
    memory: Memory


def evaluate(scenarios: Scenarios, backend: Backend) -> Evaluation:
    """Lay out the program of scenarios, and say how long it takes and what it holds.

    Parameters
    ----------
    scenarios
        Columns that broadcast against each other.
    backend
        Says how long requests take.
    """
    program = program_of(scenarios)
    return Evaluation(program, step_time(program, backend), peak(program))
