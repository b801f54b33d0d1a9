"""What optimizers keep and move of trained tensors as their shapes say, beside what is alike of every parameter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from itertools import zip_longest

import numpy as np

from simulator.formulas import states
from simulator.formulas.typing import Num
from simulator.work.operators import Holding, Operator, flagged
from simulator.work.program import Program
from simulator.work.transformer import Scenarios
from simulator.work.weights import Weight, table

LEAST_SCALED = 4096.0
"""Elements below which bitsandbytes keeps a tensor's states in fp32 (optim/optimizer.py, min_8bit_size) [parameter]."""
_SPLIT_BYTES = 2.0
"""Of what a bf16 parameter lacks of its fp32 master copy [B]."""
_UNFUSED_BYTES = 22.0
"""Beside a fused update: torch mixes momentum and gradient in fp32, casts that to bf16, reads it for its norm, divides
by it, and reads what it has orthogonalised (torch 2.13, torch/optim/_muon.py) [B/parameter]."""
_ADDED_TABLES = 3.0
"""Gradients of a tied table that exist as those of head and embedding are added."""
_PASSES_OF_COPIES = 5.0
"""Of fp32 copies of states: written, read and written by the update, read for the largest number and again for the cast
(transformer_engine/pytorch/optimizers/fused_adam.py at d0067d0d, get_unscaled_state and set_scaled_state)."""


@dataclass(frozen=True)
class StageShare:
    """How much of the model a device has: of its layers, of the embedding, of the head, and a copy of tied words."""

    layers: Num
    first: Num
    last: Num
    copied: Num = 0.0


@dataclass(frozen=True)
class TensorShapes:
    """Trained tensors of a device, added up by what optimizers make of their shapes."""

    parameters: Num = 0.0
    """All of them [parameter]."""
    hidden: Num = 0.0
    """Those in hidden matrices [parameter]."""
    vectors: Num = 0.0
    """Those in vectors [parameter]."""
    rows: Num = 0.0
    """Rows of all matrices and tables [1]."""
    columns: Num = 0.0
    small: Num = 0.0
    """Those in tensors too small for states with scales [parameter]."""
    tables: Num = 0.0
    """Those in tables that are not [parameter]."""
    scales: Num = 0.0
    """Blocks of other tensors, the last of each perhaps not full [1]."""
    scales_of_tables: Num = 0.0

    def plus(self, other: TensorShapes) -> TensorShapes:
        """Both together."""
        return TensorShapes(*(one + two for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))

    def times(self, number: Num) -> TensorShapes:
        """So many of it."""
        return TensorShapes(*(value * number for value in vars(self).values()))


@dataclass(frozen=True)
class TrainedTensors:
    """Trained tensors of a device: dense ones, and those of experts, which fewer ranks share."""

    dense: TensorShapes
    experts: TensorShapes


def trained_on(program: Program, held: StageShare) -> TrainedTensors:
    """Trained tensors of a device.

    Parameters
    ----------
    program
        Of the scenarios.
    held
        How much of the model the device has.
    """
    scenarios = program.scenarios
    plans, models = scenarios.plans, scenarios.models
    words = table(np.ceil(np.asarray(models.vocabulary_size) / plans.tp), models.embedding_size)
    copied = _shapes_of(words, plans.scale_block).times(flagged(held.copied, scenarios.workloads.tuning.base))
    both = {False: copied, True: TensorShapes()}
    for weight, number, of_experts in trained_weights(program, held):
        both[of_experts] = both[of_experts].plus(_shapes_of(weight, plans.scale_block).times(number))
    return TrainedTensors(both[False], both[True])


def trained_weights(program: Program, held: StageShare) -> Iterator[tuple[Weight, Num, bool]]:
    """Weights of a device that are trained, how many times it has them, and whether they are of experts."""
    shared = np.asarray(program.scenarios.models.shared_layers) > 0
    for group in program.groups:
        number = held.layers * np.where(shared, 1.0, group.number)
        yield from _weights_of(group.operators, number)
    yield from _weights_of(program.embedding.operators, held.first)
    yield from _weights_of(program.head.operators, held.last)


def tensors_of(program: Program, share: StageShare) -> Num:
    """Trained tensors of a device [1]."""
    counted = (
        number * many
        for weight, number, _ in trained_weights(program, share)
        for many, rows, _ in weight.tensors
        if np.any(np.asarray(rows) > 0.0)
    )
    return sum(counted, start=np.float64(0.0))


@dataclass(frozen=True)
class UpdatesAtOnce:
    """Parameters whose gradients exist at once where an optimizer runs in the backward pass [parameter]."""

    within: Num
    """While layers run backward."""
    at_end: Num
    """While the embedding does, when no activations are left."""


def largest_update(program: Program) -> UpdatesAtOnce | None:
    """Parameters whose gradients exist at once where the optimizer runs in the backward pass; none where none does.

    Those of one tensor with its bias, of fully sharded ones those that are gathered together: of a layer or of an end.
    The gradient that the head has of a tied table waits for that of the embedding, and torch adds both to a third.
    """
    scenarios, plans = program.scenarios, program.scenarios.plans
    if not np.any(np.asarray(plans.in_backward) > 0.0):
        return None
    group = plans.parameter_group
    of_experts, ends = plans.sharing_experts(group), (program.embedding, program.head)
    layer: Num = 0.0
    for block in (*program.groups, *ends):
        own = block.tally.trained_parameters / group + block.tally.trained_expert_parameters / of_experts
        layer = np.maximum(layer, own)
    tied, sharded = _tied_table(scenarios), np.asarray(plans.dp) * plans.cp > 1.0
    listed = [operator.kept for block in (*program.groups, program.head) for operator in block.operators]
    embedded = [operator.kept for operator in program.embedding.operators]
    tables = [_without(kept, tables=False) for kept in embedded]
    within = tied + _largest_tensor([*listed, *(_without(kept, tables=True) for kept in embedded)])
    at_end = np.where(tied > 0.0, _ADDED_TABLES * tied, _largest_tensor(tables))
    return UpdatesAtOnce(np.where(sharded, layer, within), np.where(sharded, layer, at_end))


def _tied_table(scenarios: Scenarios) -> Num:
    """Trained elements of this rank's table of words, where the head has it too; else 0 [parameter]."""
    models = scenarios.models
    tied = np.asarray(models.tied_head) * models.vocabulary_head * scenarios.workloads.tuning.base
    return tied * np.ceil(np.asarray(models.vocabulary_size) / scenarios.plans.tp) * models.embedding_size


def _without(kept: Holding, *, tables: bool) -> Holding:
    """The holding without its tables, or without all else."""
    return replace(kept, weights=tuple(weight for weight in kept.weights if (weight.kind == "table") is not tables))


def _largest_tensor(holdings: Iterable[Holding]) -> Num:
    """Elements of the largest trained tensor, with the bias whose gradient comes with its own; experts are one."""
    most: Num = 0.0
    for kept in holdings:
        of_experts = bool(np.any(np.asarray(kept.expert_parameters) > 0.0))
        for weight, after in zip_longest(kept.weights, kept.weights[1:]):
            has_bias = after is not None and after.kind == "vector" and after.blocks == weight.blocks
            bias = np.where(np.asarray(after.number) > 0.0, 1.0, 0.0) if after is not None and has_bias else 0.0
            for many, rows, columns in weight.tensors:
                apart = many if of_experts else np.where(np.asarray(many) > 0.0, 1.0, 0.0)
                most = np.maximum(most, flagged(apart * (np.asarray(rows) * columns + rows * bias), kept.trained))
    return most


def _weights_of(operators: Iterable[Operator], number: Num) -> Iterator[tuple[Weight, Num, bool]]:
    for operator in operators:
        of_experts = bool(np.any(np.asarray(operator.kept.expert_parameters) > 0.0))
        for weight in operator.kept.weights:
            yield weight, flagged(number, operator.kept.trained), of_experts


def _shapes_of(weight: Weight, scale_block: Num) -> TensorShapes:
    """The shapes of one weight."""
    every: list[TensorShapes] = []
    of_vector, of_table = float(weight.kind == "vector"), float(weight.kind == "table")
    for number, rows, columns in weight.tensors:
        each = np.asarray(rows) * columns
        small = np.where(each < LEAST_SCALED, 1.0, 0.0)
        scales = np.ceil(each / np.maximum(scale_block, 1.0)) * (1.0 - small)
        every.append(
            TensorShapes(
                parameters=each,
                hidden=each * float(weight.kind == "matrix"),
                vectors=each * of_vector,
                rows=rows * (1.0 - of_vector),
                columns=columns * (1.0 - of_vector),
                small=each * small,
                tables=each * (1.0 - small) * of_table,
                scales=scales * (1.0 - of_table),
                scales_of_tables=scales * of_table,
            ).times(number)
        )
    return reduce(TensorShapes.plus, every, TensorShapes())


def is_shaped(scenarios: Scenarios) -> bool:
    """Whether shapes matter to an optimizer of some scenario."""
    plans = scenarios.plans
    return any(bool(np.any(np.asarray(each) > 0.0)) for each in (plans.factored, plans.orthogonal, plans.scale_block))


def master_bytes(scenarios: Scenarios) -> Num:
    """Of the master copy of a parameter [B]."""
    plans, splits = scenarios.plans, scenarios.plans.splits_master * scenarios.stacks.splits_master_weights
    if not np.any(np.asarray(splits) > 0.0):
        return plans.master_bytes
    return np.where(np.asarray(splits) > 0.0, np.minimum(plans.master_bytes, _SPLIT_BYTES), plans.master_bytes)


def shaped_bytes(program: Program, share: StageShare) -> Num:
    """States that shapes decide, on one of the ranks that share them [B].

    Sums of rows and columns, second moments of what Muon does not orthogonalise, scales, and states that stay in fp32
    where others are in 8 bits.
    """
    scenarios, trained = program.scenarios, trained_on(program, share)
    group = scenarios.plans.optimizer_group
    of_experts = scenarios.plans.sharing_experts(group)
    return _shaped(scenarios, trained.dense, group) + _shaped(scenarios, trained.experts, of_experts)


def _shaped(scenarios: Scenarios, shapes: TensorShapes, group: Num) -> Num:
    plans, stacks = scenarios.plans, scenarios.stacks
    unmixed = plans.orthogonal * 4.0 * (shapes.parameters - shapes.hidden) / group
    wide = shapes.small + stacks.wide_table_states * shapes.tables
    scales = shapes.scales + (1.0 - np.asarray(stacks.wide_table_states)) * shapes.scales_of_tables
    # Two moments of a byte are 6 bytes less than two in fp32, and have a scale in fp32 each.
    scaled = np.where(np.asarray(plans.scale_block) > 0.0, (6.0 * wide + 8.0 * scales) / group, 0.0)
    return unmixed + scaled + plans.factored * _factored(scenarios, shapes, group)


def _factored(scenarios: Scenarios, shapes: TensorShapes, group: Num) -> Num:
    """Adafactor's second moments on one of so many ranks.

    Owners of whole tensors have them with their sums; a flat buffer has no rows; of a matrix that is cut by rows each
    rank has the sums of all columns.
    """
    whole = states.factored_state_bytes(shapes.rows, shapes.columns, unfactored=shapes.vectors)
    by_rows = states.factored_state_bytes(shapes.rows / group, shapes.columns, unfactored=shapes.vectors / group)
    flat = states.factored_state_bytes(0.0, 0.0, unfactored=shapes.parameters / group)
    is_flat, is_cut = np.asarray(scenarios.stacks.flat_shards) > 0.0, np.asarray(scenarios.plans.gradient_group) > 1.0
    shared = np.where(is_flat, flat, np.where(is_cut, by_rows, whole / group))
    return np.where(np.asarray(group) > 1.0, shared, whole)


def shaped_traffic(scenarios: Scenarios, trained: TrainedTensors | None, updated: Num) -> Num:
    """Bytes that an update moves beside those of one fused kernel [B].

    Parameters
    ----------
    scenarios
        Whose plans say the optimizer.
    trained
        The tensors of the stage, where shapes matter.
    updated
        Parameters that the rank updates [parameter].
    """
    plans = scenarios.plans
    moved = _PASSES_OF_COPIES * plans.unscaled_bytes * updated
    if trained is None or not np.any(np.asarray(plans.orthogonal) > 0.0):
        return moved
    group = plans.optimizer_group
    dense, experts = trained.dense, trained.experts
    of_experts = plans.sharing_experts(group)
    hidden = dense.hidden / group + experts.hidden / of_experts
    others = dense.parameters / group + experts.parameters / of_experts - hidden
    return moved + plans.orthogonal * (_UNFUSED_BYTES * hidden + 2.0 * 4.0 * others)
