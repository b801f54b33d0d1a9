"""Formulas of one's own scenario beside what real torch counts of it, without a clock and without a GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from measure.verification.exchanges import to_partners, to_replicas
from measure.verification.passes import arithmetic, kept, parameters
from measure.verification.pipelines import pipelines
from measure.verification.reference import Reference
from measure.verification.report import show
from measure.verification.rows import Row, Verification
from measure.verification.states import states
from measure.verification.uncounted import uncounted
from simulator.scenario.scenario import Scenario

__all__ = ["Row", "Verification", "show", "verify"]


def verify(scenario: Scenario) -> Verification:
    """Count a scenario in torch, on devices that only pretend, and put the formulas beside it.

    Modules have one layer of each kind, and counts are multiplied by how many there are; bytes and FLOP are of one
    device, a micro-batch or a step as each row says.

    Parameters
    ----------
    scenario
        What is to be verified, complete.

    Returns
    -------
    Verification
        One row a quantity: equal, different, or not counted and why.
    """
    start = time.perf_counter()
    rows = tuple(_rows(Reference(scenario)))
    return Verification(
        model=scenario.model.id,
        system=scenario.system.id,
        devices=scenario.devices,
        stack=scenario.stack.id,
        plan=scenario.plan.model_dump(mode="json", exclude_none=True),
        workload=scenario.workload.model_dump(mode="json", exclude_none=True),
        torch_version=torch.__version__,
        time_s=time.perf_counter() - start,
        rows=rows,
        assumed=tuple(line for line in scenario.assumed if not line.startswith("price")),
    )


def _rows(reference: Reference) -> Iterator[Row]:
    """All quantities, in the order in which they are read."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # nothing here is computed, and threads wait for each other
    try:
        for quantities in (parameters, arithmetic, kept, states, to_partners, to_replicas, pipelines, uncounted):
            yield from quantities(reference)
    finally:
        torch.set_num_threads(threads)
