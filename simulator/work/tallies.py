"""Tallies: what operators keep and own, added up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from simulator.formulas.typing import Num
from simulator.work.operators import Operator, flagged


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
    trained_parameters: Num = 0.0
    """Those of this device that are trained, without those of experts [parameter]."""
    trained_expert_parameters: Num = 0.0
    quantised_parameters: Num = 0.0
    """Those of this device that are held in a few bits, without those of experts [parameter]."""
    quantised_expert_parameters: Num = 0.0
    quantised_bytes: Num = 0.0
    """What these take, with their scales [B]."""
    quantised_expert_bytes: Num = 0.0
    widest_quantised: Num = 0.0
    """The most quantised parameters of one operator, of which 16-bit weights are made at once [parameter]."""
    widest_passing: Num = 0.0
    """The most that one operator makes and frees again, as far as these are counted [B]."""
    checkpoint_bytes: Num = 0.0
    """Inputs of layers, which those keep that are recomputed, where a plan counts these [B]."""

    def gathered_bytes(self, element_bytes: Num) -> Num:
        """Of parameters as ranks gather them, without those of experts: in 16 bits, or in a few [B]."""
        return (self.parameters - self.quantised_parameters) * element_bytes + self.quantised_bytes

    def gathered_expert_bytes(self, element_bytes: Num) -> Num:
        """Of those of experts [B]."""
        plain = self.expert_parameters - self.quantised_expert_parameters
        return plain * element_bytes + self.quantised_expert_bytes

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        both = {name: _added(value, getattr(other, name)) for name, value in vars(self).items()}
        return Tally(**both | {name: np.maximum(getattr(self, name), getattr(other, name)) for name in _WIDEST})

    def at_most(self, other: Tally) -> Tally:
        """The larger of both, number by number."""
        return Tally(
            *(np.maximum(one, two) for one, two in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def times(self, number: Num, *, shared: Num) -> Tally:
        """So many layers; layers that share one set of parameters (`shared` is 1) have them once."""
        own = np.where(np.asarray(shared) > 0, 1.0, number)
        kept = ("saved_bytes", "all_saved_bytes", "checkpoint_bytes")
        return Tally(
            **{
                name: value if name in _WIDEST else value * (number if name in kept else own)
                for name, value in vars(self).items()
            }
        )


_WIDEST = ("widest_bytes", "widest_quantised", "widest_passing")
"""Fields of a tally that are of one operator, the largest."""


def _added(one: Num, other: Num) -> Num:
    """The sum; plain zeros, which most operators have of most, are not added to columns."""
    if isinstance(other, float) and other == 0.0:
        return one
    return other if isinstance(one, float) and one == 0.0 else one + other


def tally(operators: Iterable[Operator]) -> Tally:
    """Add up operators of which nothing is recomputed.

    Parameters
    ----------
    operators
        Of one layer, or of embedding or head.
    """
    together = Tally()
    for operator in operators:
        together = together.plus(_of_one(operator))
    return together


def _of_one(operator: Operator) -> Tally:
    """What one operator keeps and owns; the weights of an operator are of experts all or none."""
    kept, trained = operator.kept, operator.kept.trained
    of_experts = np.any(np.asarray(kept.expert_parameters) > 0.0)
    held = {"parameters": kept.quantised_parameters, "bytes": kept.quantised_bytes}
    return Tally(
        saved_bytes=kept.saved,
        all_saved_bytes=kept.saved,
        parameters=kept.parameters,
        expert_parameters=kept.expert_parameters,
        partial_parameters=flagged(kept.partial_parameters, trained),
        cast_parameters=operator.cast_parameters,
        trained_parameters=flagged(kept.parameters, trained),
        trained_expert_parameters=flagged(kept.expert_parameters, trained),
        **{f"quantised_expert_{name}" if of_experts else f"quantised_{name}": value for name, value in held.items()},
        widest_bytes=kept.widest,
        widest_quantised=kept.quantised_parameters,
        widest_passing=kept.passing,
    )
