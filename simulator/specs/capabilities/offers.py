"""Which plans a stack can run: what it states, as masks over one plan or over a grid of millions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import and_

import numpy as np
from numpy.typing import NDArray

from simulator.formulas.typing import Num
from simulator.specs.capabilities.refusals import OF_PLANS, WORDS, Mask, Terms
from simulator.specs.capabilities.sheet import Capabilities
from simulator.specs.choices import LOOPED, METHODS, MODULES, V_SHAPED
from simulator.specs.model import Models
from simulator.specs.plan import Plan
from simulator.specs.plans import Plans
from simulator.specs.stack import Stack
from simulator.specs.workload import Workloads

_LISTS = {
    "sharding": "shardings",
    "schedule": "schedules",
    "recompute": "recompute",
    "precision": "precisions",
    "optimizer": "optimizers",
}
"""Fields of a plan whose values a stack lists, and where."""
_FLAGS = ("sequence_parallel", "offload_optimizer", "optimizer_in_backward", "activation_inputs_in_fp8")
_SEVERAL = ("tp", "pp", "cp", "ep")
"""Axes that are split only where the stack offers them."""


@dataclass(frozen=True)
class Offer:
    """One statement of a stack: what it is about, which plans keep it, and what to say of one that does not."""

    names: frozenset[str]
    """The fields that it is about, the one to blame first where there is one."""
    kept: Mask
    lacking: str | None = None
    """What is missing, for statements that are about one field: such as ``tp={tp}``."""
    sentence: str | None = None
    """Why a combination is refused."""


def terms_of(plans: Plans, models: Models, workloads: Workloads, words: Mapping[str, NDArray[np.str_]]) -> Terms:
    """What conditions may name, of one plan or of a grid.

    Parameters
    ----------
    plans, models, workloads
        Columns that broadcast against each other.
    words
        The fields of the plans that are words, as arrays that broadcast against the columns.
    """
    flags = {
        "offload_optimizer": plans.offload,
        "optimizer_in_backward": plans.in_backward,
        "activation_inputs_in_fp8": plans.narrow_activations,
        "gradients_in_fp32": np.asarray(plans.gradient_bytes) >= 4.0,
    }
    of_work = {
        "layers": models.layer_count,
        "attention_heads": models.heads,
        "key_value_heads": models.key_value_heads,
        "experts": models.experts,
        "tied_head": models.tied_head,
        "sequence_length": workloads.sequence_length,
        "global_batch": workloads.global_batch,
        "multi_token": workloads.multi_token,
        "quantised_base": np.asarray(workloads.tuning.scale_bytes) > 0.0,
    }
    of_plans = {name: getattr(plans, name) for name in OF_PLANS if name not in (*flags, "sharding_group")}
    shares = np.asarray(plans.optimizer_group)
    group = {"sharding_group": np.where((shares > 1.0) & (shares < plans.replicas), shares, 0.0)}
    numbers = {**of_plans, **flags, **of_work, **group, "tp_stride": plans.tp_stride, "cp_stride": plans.cp_stride}
    again = plans.recomputation
    counted: dict[str, Num] = {name: getattr(again, name) for name in METHODS} if again.counts_layers else {}
    every: dict[str, Num] = {**numbers, **again.by_module, **counted}
    return {**{name: np.asarray(value, dtype=np.float64) for name, value in every.items()}, **words}


def words_of(plans: Sequence[Plan]) -> dict[str, NDArray[np.str_]]:
    """The fields of complete plans that are words, one entry a plan."""
    return {name: np.array([getattr(plan, name) for plan in plans], dtype=np.str_) for name in WORDS}


def offers_of(stack: Stack, terms: Terms) -> Iterator[Offer]:
    """What a stack states, about each field alone first, then about combinations."""
    for axis in _SEVERAL:
        if axis not in stack.axes:
            yield Offer(frozenset({axis}), terms[axis] <= 1.0, lacking=f"{axis}={{{axis}}}")
    yield from _of_lists(stack.offers, terms)
    yield from _of_flags(stack.offers, terms)
    yield from _of_recomputation(stack.offers, terms)
    if stack.offers.placements is not None:
        kept = np.asarray(reduce(np.logical_or, (_lies(order, terms) for order in stack.offers.orders)))
        yield Offer(frozenset({"placement"}), kept, lacking="placement={placement}")
    for refusal in stack.offers.refuses:
        yield Offer(refusal.names, ~refusal.holds(terms), sentence=f"{refusal.sentence} ({refusal.source})")


def _of_lists(offers: Capabilities, terms: Terms) -> Iterator[Offer]:
    """Fields whose values are listed, as far as a list does not hold all of them."""
    for name, listed in _LISTS.items():
        every = getattr(offers, listed)
        if set(every) != set(WORDS[name]):
            kept = np.isin(terms[name], every)
            if name == "schedule":
                kept = kept | ((terms["pp"] <= 1.0) & (terms[name] == "1f1b"))  # of one stage, which has no schedule
            yield Offer(frozenset({name}), kept, lacking=f"{name}={{{name}}}")
    if {*LOOPED, *V_SHAPED}.isdisjoint(offers.schedules):
        kept = terms["virtual_stages"] <= 1.0
        yield Offer(frozenset({"virtual_stages"}), kept, lacking="virtual_stages={virtual_stages}")


def _of_flags(offers: Capabilities, terms: Terms) -> Iterator[Offer]:
    """What is offered or not."""
    for name in _FLAGS:
        if not getattr(offers, name):
            yield Offer(frozenset({name}), terms[name] <= 0.0, lacking=name)
    if not offers.quantised_base:
        kept = terms["quantised_base"] <= 0.0
        yield Offer(frozenset({"quantised_base"}), kept, lacking="frozen weights in a few bits (base_precision)")
    if not offers.multi_token:
        why = "modules that predict further tokens (multi_token)"
        yield Offer(frozenset({"multi_token"}), terms["multi_token"] <= 0.0, lacking=why)
    if not offers.expert_tensor_parallel:
        kept = (terms["etp"] == terms["tp"]) | (terms["experts"] <= 1.0)
        yield Offer(frozenset({"etp", "tp"}), kept, lacking="etp={etp} beside tp={tp}")


def _of_recomputation(offers: Capabilities, terms: Terms) -> Iterator[Offer]:
    """Modules and numbers of layers, as far as some plan has them."""
    modules = ((name, "recompute_modules", name in offers.recompute_modules) for name in MODULES)
    methods = ((name, "recompute_method", name in offers.recompute_methods) for name in METHODS)
    for name, place, has in (*modules, *methods):
        if name in terms and not has:
            yield Offer(frozenset({place}), terms[name] <= 0.0, lacking=f"{place}={name}")


def _lies(order: Sequence[str], terms: Terms) -> Mask:
    """Whether ranks lie in an order of the axes; those of axes with one rank may stand anywhere."""
    pairs = (
        (terms[inner] <= 1.0) | (terms[outer] <= 1.0) | (terms[f"{inner}_stride"] < terms[f"{outer}_stride"])
        for inner, outer in combinations(order, 2)
    )
    return np.asarray(reduce(and_, pairs))


def offered(stack: Stack, terms: Terms) -> Mask:
    """Which plans a stack can run; it broadcasts over the terms."""
    return np.asarray(reduce(and_, (offer.kept for offer in offers_of(stack, terms)), np.bool_(True)))
