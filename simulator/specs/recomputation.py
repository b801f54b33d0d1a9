"""What the backward pass computes again instead of keeping, beside attention or whole layers: words and columns.

The words are those of the software that has them: modules and methods of Megatron Core (`recompute_modules` and
`recompute_method` in `megatron/core/transformer/transformer_config.py`, and `megatron/core/recompute.py`, of
core_v0.19.0), operators and every n-th layer of torchtitan (`torchtitan/distributed/activation_checkpoint.py` of
v0.2.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from hardware.errors import shown, unknown
from simulator.formulas.typing import Num
from simulator.specs.architectures import Models
from simulator.specs.choices import METHODS, MODULES
from simulator.specs.columns import Columns
from simulator.specs.parts import ExpertFeedForward, LatentAttention, Layers

COMPANIONS = ("recompute_modules", "recompute_layers", "recompute_method")
"""Fields of a plan that say more of `recompute`, and go where it changes."""


def read_modules(value: object) -> object:
    """Modules from a list, or from names with commas.

    Raises
    ------
    ValueError
        With a name that is none, or that stands there twice.
    """
    names: Any = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if names is None or not isinstance(names, list | tuple):
        return names
    for name in names:
        if str(name) not in MODULES:
            raise ValueError(f"{unknown('module', str(name), MODULES)}; valid: {', '.join(MODULES)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{shown(','.join(map(str, names)))} must name modules once each, such as core_attn,mlp")
    return tuple(names)


def with_implied(value: Any) -> Any:
    """What somebody said of a plan: modules imply selective recomputation, numbers of layers full recomputation."""
    if not isinstance(value, Mapping) or value.get("recompute") is not None:
        return value
    modules, layers = (value.get(name) is not None for name in COMPANIONS[:2])
    return {**value, "recompute": "selective" if modules else "full"} if modules or layers else value


def contradiction(
    recompute: str | None, modules: Sequence[str] | None, layers: int | None, method: str | None
) -> str | None:
    """Why these do not go together, or nothing.

    >>> contradiction("none", None, 4, "block")
    'recompute_layers=4 belongs to recompute=full, not to recompute=none'
    """
    words = recompute or "left open"
    if modules is not None and recompute != "selective":
        return f"recompute_modules={','.join(modules)} belongs to recompute=selective, not to recompute={words}"
    if layers is not None and recompute != "full":
        return f"recompute_layers={layers} belongs to recompute=full, not to recompute={words}"
    if layers is not None and method is None:
        return f"recompute_layers={layers} needs recompute_method, what it counts: every, block or uniform"
    if method is not None and layers is None:
        return f"recompute_method={method} needs recompute_layers, how many layers"
    return None


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


def in_words(plan: Mapping[str, Any]) -> str:
    """What a plan recomputes, in a few words without blanks.

    >>> in_words({"recompute": "full", "recompute_method": "every", "recompute_layers": 2})
    'full/every-2'
    >>> in_words({"recompute": "selective", "recompute_modules": ["core_attn", "mlp"]}), in_words({"recompute": "none"})
    ('selective/core_attn+mlp', 'none')
    """
    modules, method = plan.get("recompute_modules"), plan.get("recompute_method")
    more = "+".join(modules) if modules else f"{method}-{plan.get('recompute_layers')}" if method else ""
    return f"{plan['recompute']}/{more}" if more else str(plan["recompute"])
