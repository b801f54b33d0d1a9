"""Collectives of tensor parallelism."""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num
from simulator.pricing.backend import CollectiveKind
from simulator.work.operators import Exchange
from simulator.work.transformer.tokens import Scenarios


def splits(scenarios: Scenarios) -> bool:
    """Whether any plan splits products over ranks."""
    return bool(np.any(np.asarray(scenarios.plans.tp) > 1.0))


def mode(scenarios: Scenarios) -> tuple[Num, Num]:
    """Flags of a split model: whether it reduces whole tensors, or shares tokens and gathers and scatters."""
    split = np.where(np.asarray(scenarios.plans.tp) > 1.0, 1.0, 0.0)
    shares = split * scenarios.plans.sequence_parallel
    return split - shares, shares


def exchange(
    kind: CollectiveKind,
    where: str,
    message_bytes: Num,
    scenarios: Scenarios,
    *,
    forward: Num,
    backward: Num,
    unused: Num = 0.0,
) -> Exchange:
    """So many collectives of tensor-parallel ranks in each pass, exposed as far as the stack does not hide them.

    `unused` is the share of those of the forward pass whose output no backward pass needs.
    """
    plans = scenarios.plans
    return Exchange(
        name=f"{kind.replace('_', '-')} {where}",
        part="tensor_parallel",
        kind=kind,
        message_bytes=message_bytes,
        degree=plans.tp,
        stride=plans.tp_stride,
        forward_count=forward,
        backward_count=backward,
        exposed=1.0 - np.asarray(scenarios.stacks.tensor_overlap),
        output_unused=unused,
        forward_kernels=forward,
        backward_kernels=backward,
    )
