"""Programs of small scenarios, and a backend whose answers are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import simulator
from simulator.formulas.typing import Num
from simulator.pricing.requests import Collective, Request, Send
from simulator.specs.plans import Plans
from simulator.specs.stack import IN_ONE_KERNEL
from simulator.work.program import Program, program_of
from tests.stacks import unrestricted

_FREE: dict[str, float] = {
    "launch": 0.0,
    "step_overhead": 0.0,
    "gradient_overlap": 0.0,
    "parameter_overlap": 0.0,
    "tensor_overlap": 0.0,
    "tensor_overlap_across": 0.0,
    "pipeline_overlap": 0.0,
    "context_overlap": 0.0,
    "expert_overlap": 0.0,
    "reduction_efficiency": 1.0,
    "attention_efficiency": 1.0,
    "experts_at_once": IN_ONE_KERNEL,
}
"""Columns of a stack under which nothing hides, the host takes no time, and experts are multiplied in one call."""


@dataclass(frozen=True)
class Told:
    """A backend that says of each request what it was told to."""

    of: Callable[[Request], float]
    name: str = "told"

    def time(self, request: Request) -> Num:
        """What it was told [s]."""
        return np.float64(self.of(request))

    def leaves_node(self, request: Collective) -> Num:
        """All ranks share a node."""
        return 0.0 * np.asarray(request.degree)


def links(request: Request) -> float:
    """A second for whatever links carry, and nothing for the rest."""
    return float(isinstance(request, Collective | Send))


def program(
    model: Any = "bert-large",
    plan: dict[str, Any] | None = None,
    *,
    devices: int = 16,
    stack: str = "megatron-lm",
    system: str = "dgx-a100-640gb",
    workload: dict[str, Any] | None = None,
    **how: float,
) -> Program:
    """The program of a plan; unless told on A100s, with balanced experts.

    Its stack hides nothing and runs every plan; `how` are columns of plans and stacks.
    """
    full_plan = {"micro_batch": 2, "recompute": "none", "precision": "bf16", "tp": 1, "pp": 1, **(plan or {})}
    work = {"sequence_length": 512, "global_batch": 64, **(workload or {})}
    scenario = simulator.resolve(
        model, system, devices=devices, stack=unrestricted(stack), plan=full_plan, workload=work
    )
    columns = scenario.columns()
    works = columns.workloads if "expert_imbalance" in work else replace(columns.workloads, expert_imbalance=1.0)
    split: dict[str, Any] = {name: value for name, value in how.items() if name in Plans.__dataclass_fields__}
    software = {name: value for name, value in how.items() if name not in split}
    plans, stacks = replace(columns.plans, **split), replace(columns.stacks, **{**_FREE, **software})
    return program_of(replace(columns, plans=plans, workloads=works, stacks=stacks))


def plain(value: Any) -> float:
    """The number that a column of one row holds."""
    return float(np.asarray(value).reshape(-1)[0])
