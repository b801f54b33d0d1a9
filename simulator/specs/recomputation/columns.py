"""What is recomputed beside attention or whole layers, as columns, and what a model lacks of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from simulator.formulas.typing import Num
from simulator.specs.architectures import Models
from simulator.specs.choices import METHODS, MODULES
from simulator.specs.columns import Columns
from simulator.specs.parts import ExpertFeedForward, LatentAttention, Layers


@dataclass(frozen=True)
class Recomputation(Columns):
    """What is recomputed beside attention or whole layers, as numbers; flags are 0 or 1."""

    operators: Num = 0.0
    """Whether all is recomputed but the outputs of some operators."""
    core_attn: Num = 0.0
    moe_act: Num = 0.0
    layernorm: Num = 0.0
    mla_up_proj: Num = 0.0
    mlp: Num = 0.0
    moe: Num = 0.0
    shared_experts: Num = 0.0
    every: Num = 0.0
    """Each so many-th layer is recomputed [layer]; 0 where they are not counted."""
    block: Num = 0.0
    """So many layers of each stage are recomputed, the first ones [layer]; 0 where they are not counted."""
    uniform: Num = 0.0
    """So many layers keep one input [layer]; 0 where each keeps its own."""

    @property
    def by_module(self) -> dict[str, Num]:
        """Modules that some plan recomputes, and whether it does."""
        return {name: value for name in MODULES if np.any(np.asarray(value := getattr(self, name)) > 0.0)}

    @property
    def counts_layers(self) -> bool:
        """Whether some plan counts layers."""
        return any(np.any(np.asarray(each) > 0.0) for each in (self.every, self.block, self.uniform))

    @property
    def by_operator(self) -> bool:
        """Whether some plan keeps outputs of operators."""
        return bool(np.any(np.asarray(self.operators) > 0.0))


NAMES = tuple(each.name for each in fields(Recomputation))
"""Columns of it."""


def numbers_of(
    recompute: str | None, modules: Sequence[str] | None, layers: int | None, method: str | None
) -> dict[str, float]:
    """Columns of one plan, by name.

    Of one layer at a time every layer is recomputed and keeps its input, as full recomputation has it anyway.
    """
    counted = 0 if layers == 1 and method != "block" else layers or 0
    return {
        "operators": float(recompute == "operators"),
        **{name: float(name in (modules or ())) for name in MODULES},
        **{each: float(counted * (method == each)) for each in METHODS},
    }


def lacking_modules(again: Recomputation, models: Models) -> Iterator[tuple[str, str]]:
    """Modules that some plan recomputes and that a model does not have, or that no software finds in it, and why.

    Parameters
    ----------
    again, models
        Columns; what they lack follows from the kinds of parts, which all rows share.
    """
    layers = models.layers
    of_experts = [each.feed_forward for each in layers if isinstance(each.feed_forward, ExpertFeedForward)]
    has = {
        "mla_up_proj": (any(isinstance(each.attention, LatentAttention) for each in layers), "no latent attention"),
        "moe_act": (bool(of_experts), "no experts"),
        "moe": (bool(of_experts), "no experts"),
        "shared_experts": (any(np.any(np.asarray(e.shared_experts) > 0.0) for e in of_experts), "no shared experts"),
        "mlp": (len(of_experts) < len(layers), "no dense feed-forward layer"),
        "layernorm": (_normalises_inputs(models), "normalisations of other than the inputs of attention and MLP"),
    }
    for name in again.by_module:
        present, why = has.get(name, (True, ""))
        if not present:
            yield name, why
    odd = next((each for each in map(_odd, layers) if each is not None), None)
    if odd is not None:
        yield from ((name, odd) for name in again.by_module if name in ("layernorm", "mlp", "moe"))


def _normalises_inputs(models: Models) -> bool:
    """Whether all normalisations of layers are of the inputs of attention and feed-forward layer."""
    outputs = any(np.any(np.asarray(each.norms.outputs) > 0.0) for each in models.layers)
    return bool(np.all(np.asarray(models.final_norms) > 0.0)) and not outputs


def _odd(layers: Layers) -> str | None:
    """Why modules of a layer are not what Megatron's are."""
    if layers.block.shares_input:
        return "parallel blocks, in which attention and MLP share an input"
    return "attention to an encoder" if layers.cross_attention is not None else None
