"""Operators added up: time of each part, arithmetic, kept bytes and parameters of one micro-batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from simulator.formulas.typing import Num
from simulator.pricing.backend import Backend
from simulator.specs.plans import Plans
from simulator.specs.stack import Stacks
from simulator.work.operators import FusedAttention, Operator


@dataclass(frozen=True)
class Times:
    """Time of a list of operators for one micro-batch on the device [s]."""

    forward: Num = 0.0
    backward: Num = 0.0
    recompute: Num = 0.0
    parts: dict[str, Num] = field(default_factory=dict)
    """Forward and backward time of each part, without recomputation."""
    forward_kernels: Num = 0.0
    backward_kernels: Num = 0.0
    """With those of the recomputation."""


@dataclass(frozen=True)
class Counts:
    """What needs no clock: arithmetic, kept bytes and parameters of a list of operators."""

    model_flops: Num = 0.0
    """Forward and backward [FLOP]."""
    recomputed_flops: Num = 0.0
    saved_bytes: Num = 0.0
    """Kept for the backward pass, as far as the plan does not recompute it."""
    all_saved_bytes: Num = 0.0
    """Kept if nothing were recomputed."""
    parameters: Num = 0.0
    """Of this device, without those of experts."""
    expert_parameters: Num = 0.0
    partial_parameters: Num = 0.0
    """Those whose gradient, under sequence parallelism, a tensor-parallel rank has of its tokens only."""
    cast_parameters: Num = 0.0
    """Those of products, which automatic casts keep in 16 bits besides."""
    widest_bytes: Num = 0.0
    """The largest tensor whose gradient exists while its operator runs backward; one at a time."""

    def scaled(self, factor: Num) -> Counts:
        """The same, so many times."""
        many = {name: value * factor for name, value in vars(self).items()}
        return Counts(**{**many, "widest_bytes": self.widest_bytes})

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        both = {name: value + getattr(other, name) for name, value in vars(self).items()}
        return Counts(**{**both, "widest_bytes": np.maximum(self.widest_bytes, other.widest_bytes)})


def times(operators: Sequence[Operator], backend: Backend, plans: Plans, stacks: Stacks, *, layer: bool) -> Times:
    """Price operators.

    Parameters
    ----------
    operators
        Of one layer, or of embedding or head.
    backend
        Prices primitives.
    plans, stacks
        Decide what is recomputed.
    layer
        Whether recomputation applies; embedding and head are never recomputed.
    """
    parts: dict[str, Num] = {}
    forward: Num = 0.0
    backward: Num = 0.0
    recompute: Num = 0.0
    launched: Num = 0.0
    launched_back: Num = 0.0
    for operator in operators:
        ahead, back = operator.forward_time(backend), operator.backward_time(backend)
        again = repeats(operator, plans, stacks) if layer else 0.0
        parts[operator.part] = parts.get(operator.part, 0.0) + ahead + back
        forward, backward, recompute = forward + ahead, backward + back, recompute + again * ahead
        launched = launched + operator.forward_kernels
        launched_back = launched_back + operator.backward_kernels + again * operator.forward_kernels
    return Times(forward, backward, recompute, parts, launched, launched_back)


def repeats(operator: Operator, plans: Plans, stacks: Stacks) -> Num:
    """How often the backward pass repeats the forward of an operator of a layer: 0 or 1."""
    drops = np.asarray(stacks.drops_unused_recompute)
    in_attention = float(operator.in_attention) * (1.0 - float(operator.output_kept) * drops)
    return np.maximum(
        np.asarray(plans.recompute_layer) * (1.0 - operator.output_unused * drops),
        plans.recompute_attention * in_attention,
    )


def counts(operators: Sequence[Operator], plans: Plans, stacks: Stacks, *, checkpoint: Num | None = None) -> Counts:
    """Add up what needs no clock.

    Parameters
    ----------
    operators
        Of one layer, or of embedding or head.
    plans, stacks
        Decide what is recomputed.
    checkpoint
        Bytes of a layer's input, all that full recomputation keeps; none for embedding and head.
    """
    total = Counts()
    attention: Num = 0.0
    for operator in operators:
        again = repeats(operator, plans, stacks) * operator.forward_flops if checkpoint is not None else 0.0
        if isinstance(operator, FusedAttention):
            again = again + operator.recomputed_flops
        attention = attention + float(operator.in_attention) * operator.saved
        total = total.plus(
            Counts(
                model_flops=operator.forward_flops + operator.backward_flops,
                recomputed_flops=again,
                saved_bytes=operator.saved,
                all_saved_bytes=operator.saved,
                parameters=(1.0 - operator.of_experts) * operator.parameters,
                expert_parameters=operator.of_experts * operator.parameters,
                partial_parameters=operator.partial_parameters,
                cast_parameters=operator.cast_parameters,
                widest_bytes=operator.widest,
            )
        )
    if checkpoint is None:
        return total
    partly = total.all_saved_bytes - np.asarray(plans.recompute_attention) * attention
    kept = np.where(np.asarray(plans.recompute_layer) > 0, checkpoint, partly)
    return Counts(**{**vars(total), "saved_bytes": kept})
