"""Collectives of tensor parallelism."""

from __future__ import annotations

from typing import Literal

import numpy as np

from simulator.formulas.typing import Num
from simulator.pricing.requests import CollectiveKind
from simulator.specs.choices import RecomputeModule
from simulator.work.hiding import Hiding, OperatorPart
from simulator.work.operators import Operator, exchange
from simulator.work.transformer.tokens import Scenarios

_PRODUCTS = frozenset[OperatorPart]({"attention_projections", "feed_forward", "head"})
"""What tensor-parallel exchanges can be cut up with and hide behind: the products around them."""
_ATTENTION = frozenset[OperatorPart]({"attention_projections"})
FEED_FORWARD = frozenset[OperatorPart]({"feed_forward"})
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
    half: Literal["both", "feed-forward", "one"] = "one",
) -> Operator:
    """So many collectives of tensor-parallel ranks forward and backward, hidden as far as the stack hides them.

    `unused` is the share of those of the forward pass whose output no backward pass needs; `degree` are the ranks where
    they are not those of the dense layers; `inside` are modules that hold a share of them. `half` says
    where they stand: around both halves of a layer, of which the second has that share, around the second, or around
    all at once.
    """
    apart = (_ATTENTION, 1.0 - inside_share), (FEED_FORWARD, inside_share)
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
            line="tokens of experts" if half == "feed-forward" else "tensor",
            parts=FEED_FORWARD if half == "feed-forward" else _PRODUCTS,
            halves=apart if half == "both" else (),
        ),
        unused=unused,
        inside=inside,
        inside_share=inside_share,
    )
