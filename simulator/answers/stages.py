"""What every stage of a pipeline holds, not only the peak-memory stage."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from simulator.scenario.scenario import Scenario
from simulator.step.memory import Memory, layers_on, on_stage
from simulator.work.program import program_of


@dataclass(frozen=True)
class Stage:
    """One stage at its peak; sizes in bytes of one device."""

    index: int
    """From 0."""
    layers: float
    memory_bytes: dict[str, float]
    """By part, with ``total`` and ``capacity`` as `Estimate.memory_bytes` has them."""

    @property
    def fits(self) -> bool:
        """Whether a device holds it."""
        return self.memory_bytes["total"] <= self.memory_bytes["capacity"]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {**vars(self), "fits": self.fits}


def stages(scenario: Scenario) -> tuple[Stage, ...]:
    """Memory of every stage of a scenario's pipeline.

    Parameters
    ----------
    scenario
        What `simulator.resolve` gives.

    Examples
    --------
    >>> import simulator
    >>> each = stages(simulator.resolve("gpt2-1.5b", "dgx-a100-640gb", plan={"pp": 4, "micro_batch": 1}))
    >>> [stage.layers for stage in each], each[0].memory_bytes["activations"] > each[3].memory_bytes["activations"]
    ([12.0, 12.0, 12.0, 12.0], True)
    """
    columns = scenario.columns()
    index = np.arange(float(scenario.plan.pp or 1))
    program = program_of(columns)
    held = on_stage(program, index)
    parts = {field.name: getattr(held, field.name) for field in fields(Memory)} | {"total": held.total}
    rows = {name: np.broadcast_to(part, index.shape) for name, part in parts.items()}
    layers = np.broadcast_to(layers_on(program, index), index.shape)
    capacity = {"capacity": float(scenario.system.device.memory_capacity)}
    return tuple(
        Stage(number, float(layers[number]), {name: float(row[number]) for name, row in rows.items()} | capacity)
        for number in range(len(index))
    )
