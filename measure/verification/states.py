"""Bytes of parameters, gradients and optimizer states that a device holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import get_args

import torch
from torch import nn

from measure.count.optimizer import OptimizerName, hidden_matrices, local_bytes, optimizer_state
from measure.models import Transformer, build
from measure.verification.kinds import kinds, shallow
from measure.verification.reference import Reference, number
from measure.verification.rows import Row, attempt, row
from simulator.formulas import pipeline
from simulator.step.memory import on_stage

_OPTIMIZERS: dict[str, OptimizerName] = {name: name for name in get_args(OptimizerName)}
"""Those that torch has."""
_SPLIT_COPY = torch.int16
"""Type of what a bf16 parameter lacks of its master copy."""
_Size = Callable[[list[nn.Parameter]], int]


@dataclass(frozen=True)
class _Place:
    """What a stage holds."""

    name: str
    stage: int
    layers: tuple[Fraction, ...]
    """Of each kind."""
    first: bool
    last: bool


def states(reference: Reference) -> Iterator[Row]:
    """What the first and the last stage hold: parameters, gradients, optimizer states."""
    plans = reference.columns.plans
    casts = "with 16-bit copies of weights, cast as torch.autocast does on a GPU" if reference.autocasts else None
    copies = "with master copies of parameters in fp32" if number(plans.master_bytes) else None
    for place in _places(reference):
        formula = on_stage(reference.program, float(place.stage))
        quantities = (
            ("parameters", formula.parameters, plans.parameter_group, _parameters, None, casts),
            ("gradients", formula.gradients, plans.gradient_group, _gradients, _unsummed(reference), None),
            ("optimizer", formula.optimizer, plans.optimizer_group, _optimizer, _lacks(reference), copies),
        )
        for name, said, sharers, count, obstacle, note in quantities:
            counted = attempt(partial(count, reference, place), *_obstacles(reference, place), obstacle)
            ranks = Fraction(number(sharers))
            where = f", 1/{int(ranks):,}" if ranks > 1 else ""
            group = "held by " + place.name
            yield row(group, name + where, "B", number(said), counted, partial(_shard, ranks), note)


def _shard(ranks: Fraction, whole: Fraction) -> float:
    """The mean part of so many ranks that share something."""
    return float(whole / ranks)


def _places(reference: Reference) -> list[_Place]:
    """The first and the last stage, or the only one."""
    every, stages = kinds(reference.model), reference.scenario.plan.pp or 1
    layers = sum(kind.number for kind in every)
    if stages == 1:
        return [_Place("a device", 0, tuple(Fraction(kind.number) for kind in every), first=True, last=True)]
    share = Fraction(float(pipeline.end_layers(float(layers), float(stages)))) / layers
    held = tuple(share * kind.number for kind in every)
    return [
        _Place("the first stage", 0, held, first=True, last=False),
        _Place("the last stage", stages - 1, held, first=False, last=True),
    ]


def _obstacles(reference: Reference, place: _Place) -> tuple[str | None, ...]:
    """What stands in the way of counting a stage."""
    balanced = reference.scenario.stack.balances_head and (reference.scenario.plan.pp or 1) > 1
    broken = next((layers for layers in place.layers if layers.denominator > 1), None)
    tables = reference.model.buckets_in_every_layer and reference.model.all_layers > len(kinds(reference.model))
    return (
        reference.spread_experts,
        "tables of positions in every layer are held with the first stage" if tables else None,
        # Only a forward pass shows what is cast.
        reference.unequal_experts(reference.scenario.plan.micro_batch or 1) if reference.autocasts else None,
        reference.unequal_columns,
        "the stack cuts stages by arithmetic" if balanced else None,
        None if broken is None else f"the formula gives the stage {float(broken):g} layers",
    )


def _unsummed(reference: Reference) -> str | None:
    """Why gradients are not as torch holds them."""
    plans = reference.columns.plans
    summed = number(plans.gradient_bytes) > max(number(plans.element_bytes), number(plans.parameter_bytes))
    apart = summed and reference.scenario.stack.keeps_16_bit_gradients
    return "the stack keeps gradients in 16 bits beside their sums" if apart else None


def _lacks(reference: Reference) -> str | None:
    """Why torch has no such optimizer states."""
    plan = reference.scenario.plan
    if plan.offload_optimizer:
        return "they are on the host"
    plans = reference.columns.plans
    if plan.optimizer == "adafactor" and number(plans.optimizer_group) > 1 and plan.sharding != "zero1":
        return "torch's Adafactor updates nothing that fully_shard has cut"
    return None if plan.optimizer in _OPTIMIZERS else f"torch has no {plan.optimizer}"


def _module(reference: Reference, dtype: torch.dtype) -> Transformer:
    """A module with one layer of each kind, of one tensor-parallel rank."""
    return build(shallow(reference.model), reference.of_replica(dtype=dtype))


def _on_stage(reference: Reference, place: _Place, module: Transformer, size: _Size) -> Fraction:
    """Size of what a stage holds, from the parts of a module; layers that share their parameters have them once."""
    towers = [tower for tower in (module.tower, module.decoder) if tower is not None]
    total = Fraction(0)
    layers = [layer for tower in towers for layer in tower.layers]
    for layer, number_of_them in zip(layers, place.layers, strict=True):
        total += (1 if reference.model.shared_layers else number_of_them) * size(list(layer.parameters()))
    ends: list[nn.Parameter] = []
    if place.first:
        ends += [*module.embedding.parameters(), *module.targets.parameters()]
        ends += [parameter for tower in towers for parameter in tower.positions.parameters()]
    if place.last:
        ends += [parameter for tower in towers for parameter in tower.final_norm.parameters()]
        ends += module.head.parameters()
    return total + size(list(dict.fromkeys(ends)))


def _parameters(reference: Reference, place: _Place) -> Fraction:
    """Parameters, with the copies that automatic casts make of them in a forward pass."""
    module, casts = _module(reference, reference.parameter), reference.casts()
    with casts or nullcontext():
        if casts:
            module(reference.batch(reference.model, reference.of_replica()))
    copies = casts.copies if casts else {}

    def size(held: list[nn.Parameter]) -> int:
        return local_bytes(held) + local_bytes(copies[id(one)] for one in held if id(one) in copies)

    return _on_stage(reference, place, module, size)


def _gradients(reference: Reference, place: _Place) -> Fraction:
    """What a backward pass leaves."""
    module = _module(reference, reference.gradient)
    module(reference.batch(reference.model, reference.of_replica())).backward()
    return _on_stage(
        reference, place, module, lambda held: local_bytes(one.grad for one in held if one.grad is not None)
    )


def _optimizer(reference: Reference, place: _Place) -> Fraction:
    """What an optimizer keeps after a step on its master copy, and that copy where it is not the parameters."""
    plan, splits = reference.scenario.plan, number(reference.columns.plans.splits_master)
    held_in = torch.float32 if plan.master_weights else reference.parameter
    module = _module(reference, torch.bfloat16 if plan.optimizer == "adam-bf16" else held_in)
    hidden = hidden_matrices(module) if plan.optimizer == "muon" else []
    copied = _SPLIT_COPY if splits and reference.scenario.stack.splits_master_weights else torch.float32

    def size(held: list[nn.Parameter]) -> int:
        kept = optimizer_state(_OPTIMIZERS[plan.optimizer or "adamw"], held, hidden).bytes
        return kept + (local_bytes(torch.empty_like(one, dtype=copied) for one in held) if plan.master_weights else 0)

    return _on_stage(reference, place, module, size)
