"""What decides how alike two scenarios are, as far as their errors go."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.spec import System
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.plans import Plans
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

Values = NDArray[np.float64]
DIFFERENT = {
    "class": 0.6,
    "kind": 1.0,
    "family": 0.8,
    "stack": 0.6,
    "precision": 0.2,
    "objective": 0.3,
    "experts": 1.0,
}
"""Distance between runs that differ in a trait."""
APART = {
    "devices": 0.1,
    "hidden_size": 0.1,
    "tokens": 0.05,
    "pipeline_across": 0.3,
    "tensor_beyond": 0.5,
    "context": 0.5,
    "hybrid": 0.5,
    "zero_bubble": 0.5,
}
"""Distance between runs one of which has twice of what the other has, or a habit of plans that the other has not."""


class Described(Protocol):
    """A scenario, published or asked for."""

    @property
    def model(self) -> Model:
        """As in a scenario."""

    @property
    def system(self) -> System:
        """As in a scenario."""

    @property
    def devices(self) -> int:
        """As in a scenario."""

    @property
    def plan(self) -> Plan:
        """As in a scenario."""

    @property
    def stack(self) -> Stack:
        """As in a scenario."""

    @property
    def workload(self) -> Workload:
        """As in a scenario."""


def traits_of(scenario: Described) -> dict[str, Any]:
    """What decides how alike two scenarios are; sizes as logarithms to the base of two."""
    plans = scenario.plan.columns(scenario.workload)
    return {
        "class": scenario.system.device.device_class,
        "kind": scenario.system.device.kind,
        "family": scenario.stack.family,
        "stack": scenario.stack.timed_as or scenario.stack.id,
        "precision": scenario.plan.precision or "",
        "objective": scenario.model.objective,
        "experts": str(scenario.model.experts > 1),
        "devices": round(float(np.log2(scenario.devices)), 2),
        "hidden_size": round(float(np.log2(scenario.model.hidden_size)), 2),
        "tokens": float(sized(scenario.plan.micro_batch or 1, scenario.workload.sequence_length or 1)),
        **{name: float(flag) for name, flag in habits_of(plans, fast_reach(scenario.system)).items()},
    }


def sized(micro_batch: Any, sequence_length: float) -> Values:
    """Logarithm to the base of two of the tokens of a micro-batch."""
    return np.asarray(np.round(np.log2(np.asarray(micro_batch, dtype=np.float64) * sequence_length), 2))


def fast_reach(system: System) -> float:
    """Devices that the fast links join: those of a node, or of a pod where a torus goes on beyond nodes."""
    inter = system.inter_node
    if inter is not None and inter.topology == "torus":
        return float(system.devices_per_pod or system.most_devices)
    return float(system.devices_per_node)


def habits_of(plans: Plans, reach: float) -> dict[str, Values]:
    """What sets kinds of plans apart beside their sizes: 0 or 1 each, broadcast as the columns of the plans are.

    Parameters
    ----------
    plans
        One or many.
    reach
        Devices that the fast links join.
    """
    beyond = {
        axis: (np.asarray(getattr(plans, axis)) - 1.0) * getattr(plans, f"{axis}_stride") >= reach
        for axis in ("tp", "pp")
    }
    group = np.asarray(plans.optimizer_group)
    flags = {
        "pipeline_across": beyond["pp"],
        "tensor_beyond": beyond["tp"],
        "context": np.asarray(plans.cp) > 1.0,
        "hybrid": (group > 1.0) & (group < plans.replicas),
        "zero_bubble": np.asarray(plans.zero_bubble) > 0.0,
    }
    return {name: np.asarray(flag, dtype=np.float64) for name, flag in flags.items()}
