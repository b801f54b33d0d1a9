"""Collectives of tensor parallelism."""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num
from simulator.pricing.requests import CollectiveKind
from simulator.specs.choices import RecomputeModule
from simulator.work.hiding import Hiding, OperatorPart
from simulator.work.operators import Operator, exchange
from simulator.work.transformer.tokens import Scenarios

_PRODUCTS = frozenset[OperatorPart]({"attention_projections", "feed_forward", "head"})
"""What tensor-parallel exchanges can be cut up with and hide behind: the products around them."""
_HALVES = frozenset[OperatorPart]({"attention_projections"}), frozenset[OperatorPart]({"feed_forward", "head"})
"""Those of the two halves of a layer, each of which has exchanges of its own."""


def splits(scenarios: Scenarios) -> bool:
    """Whether any plan splits products over ranks."""
    return bool(np.any(np.asarray(scenarios.plans.tp) > 1.0))


def mode(scenarios: Scenarios) -> tuple[Num, Num]:
    """Flags of a split model: whether it reduces whole tensors, or shares tokens and gathers and scatters."""
    split = np.where(np.asarray(scenarios.plans.tp) > 1.0, 1.0, 0.0)
    shares = split * scenarios.plans.sequence_parallel
    return split - shares, shares


def tensor_exchange(
    kind: CollectiveKind,
    where: str,
    message_bytes: Num,
    scenarios: Scenarios,
    *,
    counts: tuple[Num, Num],
    unused: Num = 0.0,
    degree: Num | None = None,
    inside: tuple[tuple[RecomputeModule, Num], ...] = (),
    inside_share: Num = 1.0,
    apart: bool = True,
) -> Operator:
    """So many collectives of tensor-parallel ranks forward and backward, hidden as far as the stack hides them.

    `unused` is the share of those of the forward pass whose output no backward pass needs; `degree` are the ranks where
    they are not those of the dense layers; `inside` are modules that hold a share of them. `apart` says whether each
    half of a layer has its own.
    """
    return exchange(
        f"{kind.replace('_', '-')} {where}",
        "tensor_parallel",
        kind,
        message_bytes,
        degree=scenarios.plans.tp if degree is None else degree,
        stride=scenarios.plans.tp_stride,
        counts=counts,
        launches=counts,
        hiding=Hiding(
            share=scenarios.stacks.tensor_overlap,
            across=scenarios.stacks.tensor_overlap_across,
            line="tensor",
            parts=_PRODUCTS,
            halves=_HALVES if apart else (),
        ),
        unused=unused,
        inside=inside,
        inside_share=inside_share,
    )
