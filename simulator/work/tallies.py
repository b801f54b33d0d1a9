"""Tallies: what operators keep and own, added up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from simulator.formulas.typing import Num
from simulator.specs.plans import Plans
from simulator.specs.stack import Stacks
from simulator.work.operators import Operator


@dataclass(frozen=True)
class Tally:
    """Kept bytes and parameters of one micro-batch on one device."""

    saved_bytes: Num = 0.0
    """Kept for the backward pass, as far as the plan does not recompute it [B]."""
    all_saved_bytes: Num = 0.0
    """Kept if nothing were recomputed [B]."""
    parameters: Num = 0.0
    """Of this device, without those of experts [parameter]."""
    expert_parameters: Num = 0.0
    partial_parameters: Num = 0.0
    """Those whose gradient, under sequence parallelism, a tensor-parallel rank has of its tokens only [parameter]."""
    cast_parameters: Num = 0.0
    """Those of products, which automatic casts keep in 16 bits besides [parameter]."""
    widest_bytes: Num = 0.0
    """The largest tensor whose gradient exists while its operator runs backward; one at a time [B]."""

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        both = {name: value + getattr(other, name) for name, value in vars(self).items()}
        return Tally(**{**both, "widest_bytes": np.maximum(self.widest_bytes, other.widest_bytes)})

    def at_most(self, other: Tally) -> Tally:
        """The larger of both, number by number."""
        return Tally(
            *(np.maximum(one, two) for one, two in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def times(self, number: Num, *, shared: Num) -> Tally:
        """So many layers; layers that share one set of parameters (`shared` is 1) have them once."""
        own = np.where(np.asarray(shared) > 0, 1.0, number)
        return Tally(
            saved_bytes=self.saved_bytes * number,
            all_saved_bytes=self.all_saved_bytes * number,
            parameters=self.parameters * own,
            expert_parameters=self.expert_parameters * own,
            partial_parameters=self.partial_parameters * own,
            cast_parameters=self.cast_parameters * own,
            widest_bytes=self.widest_bytes,
        )


def tally(operators: Iterable[Operator]) -> Tally:
    """Add up operators of which nothing is recomputed.

    Parameters
    ----------
    operators
        Of one layer, or of embedding or head.
    """
    saved: Num = 0.0
    parameters: Num = 0.0
    experts: Num = 0.0
    partial: Num = 0.0
    cast: Num = 0.0
    widest: Num = 0.0
    for operator in operators:
        kept = operator.kept
        saved = saved + kept.saved
        parameters = parameters + kept.parameters
        experts = experts + kept.expert_parameters
        partial = partial + kept.partial_parameters
        cast = cast + operator.cast_parameters
        widest = np.maximum(widest, kept.widest)
    return Tally(saved, saved, parameters, experts, partial, cast, widest)


def tally_of_layer(operators: Iterable[Operator], plans: Plans, *, checkpoint: Num) -> Tally:
    """Add up the operators of a layer as the plan recomputes it.

    Parameters
    ----------
    operators
        Of one layer.
    plans
        Decide what is recomputed.
    checkpoint
        Bytes of the layer's input, all that full recomputation keeps [B].
    """
    operators = tuple(operators)
    whole = tally(operators)
    attention = sum((each.kept.saved for each in operators if each.kept.in_attention), start=np.float64(0.0))
    partly = whole.all_saved_bytes - np.asarray(plans.recompute_attention) * attention
    return replace(whole, saved_bytes=np.where(np.asarray(plans.recompute_layer) > 0, checkpoint, partly))


def repeats(operator: Operator, plans: Plans, stacks: Stacks) -> Num:
    """How often the backward pass repeats the forward of an operator of a layer: 0 or 1."""
    kept, drops = operator.kept, np.asarray(stacks.drops_unused_recompute)
    whole = np.asarray(plans.recompute_layer) * (1.0 - kept.output_unused * drops)
    if not kept.in_attention:
        return whole
    return np.maximum(whole, plans.recompute_attention * (1.0 - float(kept.output_kept) * drops))
