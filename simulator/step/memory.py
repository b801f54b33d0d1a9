"""Bytes that each pipeline stage holds at its peak."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from simulator.formulas import pipeline, states
from simulator.formulas.typing import Num
from simulator.specs.columns import Columns
from simulator.specs.plans import Plans
from simulator.step.kept import in_flight_on, kept_again, kept_of_layers, losses_in_flight
from simulator.work.operators import flagged
from simulator.work.orthogonalisation import working_bytes
from simulator.work.program import Program
from simulator.work.transformer import Scenarios, autocasts
from simulator.work.transformer.loss import loss_of
from simulator.work.transformer.multi_token import words_at_both_ends
from simulator.work.updates import StageShare, is_shaped, largest_update, master_bytes, shaped_bytes

_BACKWARD_TENSORS = 2.0
"""Gradients of one operator that exist at once while a layer runs backward: of its output and of its input."""
_COPY_BYTES = 4.0
"""Optimizers copy in fp32."""
_TWO_MOMENTS = 8.0
"""Bytes of a parameter's moments, of optimizers that keep two in fp32."""


@dataclass(frozen=True)
class Memory(Columns):
    """Bytes of one stage [B]."""

    parameters: Num
    gradients: Num
    optimizer: Num
    activations: Num
    """Kept for the backward passes of the micro-batches in flight."""
    buffers: Num
    """Working memory: one layer's recomputed activations, gathered parameters, copies of the logits."""
    reserved: Num
    """Runtime, libraries, and what the allocator holds beyond its allocations."""

    @property
    def total(self) -> Num:
        """The sum of all parts [B], one entry per plan."""
        return sum((getattr(self, field.name) for field in fields(self)), start=np.float64(0.0))


def on_stage(program: Program, stage: Num) -> Memory:
    """Memory of one stage of the pipeline.

    Parameters
    ----------
    program
        Of the scenarios.
    stage
        Index of the stage, from 0 [1].
    """
    scenarios = program.scenarios
    plans, stacks = scenarios.plans, scenarios.stacks
    is_first, is_last = _is_end(plans, stage)
    share, own = _layer_shares(program, stage)
    layers, ends = program.layers, (program.embedding.tally, program.head.tally)
    held, trained, quantised = _held_on(program, stage), _trained_on(program, stage), _quantised_on(program, stage)
    cast = own * layers.cast_parameters + is_first * ends[0].cast_parameters + is_last * ends[1].cast_parameters
    narrow = own * layers.cast_parameters + is_last * program.further.cast_parameters
    cast = cast * _cast_bytes(scenarios) + narrow * _narrow_bytes(scenarios)
    of_layers = kept_of_layers(program, layers_on(program, stage), share)
    kept = in_flight_on(plans, stage) * (of_layers + is_first * ends[0].saved_bytes)
    kept = kept + is_last * losses_in_flight(plans, stacks) * ends[1].saved_bytes
    updated = trained.among(plans.optimizer_group)
    optimizer = _states(program, stage, updated)
    gradients = trained.among(plans.gradient_group) * (plans.gradient_bytes + _unsummed_bytes(scenarios))
    at_once = largest_update(program)
    if at_once is not None:
        gradients = np.where(np.asarray(plans.in_backward) > 0.0, at_once.within * plans.gradient_bytes, gradients)
    later = _in_place_of_activations(scenarios, gradients, kept)
    parts = {
        "parameters": _parameter_bytes(scenarios, held, trained, quantised) + cast + _frozen_parameters(program, stage),
        "gradients": gradients - later if np.any(later) else gradients,
        "optimizer": optimizer * (1.0 - np.asarray(plans.offload)),
        "activations": kept,
        "buffers": _buffers(program, stage, dense=held.dense, updated=updated, kept=kept, sums=(gradients, later)),
    }
    allocated = sum(parts.values(), start=np.float64(0.0))
    return Memory(**parts, reserved=stacks.runtime_memory + stacks.fragmentation * allocated)


@dataclass(frozen=True)
class _Held:
    """Parameters of one stage on one device, before replicas share them [parameter]."""

    dense: Num
    experts: Num
    plans: Plans

    def among(self, group: Num) -> Num:
        """What one of a group of replicas has of them; experts are shared by those of the group that hold the same."""
        return states.shard(self.dense, group) + states.shard(self.experts, self.plans.sharing_experts(group))


def _held_on(program: Program, stage: Num) -> _Held:
    """Parameters of one stage on one device; the last of several has a copy of a tied embedding."""
    scenarios, layers = program.scenarios, program.layers
    is_first, is_last = _is_end(scenarios.plans, stage)
    _, own = _layer_shares(program, stage)
    ends = is_first * program.embedding.tally.parameters + is_last * program.head.tally.parameters
    copied = is_last * (1.0 - is_first) * _tied_table(scenarios)
    experts = own * layers.expert_parameters + is_last * program.head.tally.expert_parameters
    return _Held(own * layers.parameters + ends + copied, experts, scenarios.plans)


def _trained_on(program: Program, stage: Num) -> _Held:
    """Those of them that are trained."""
    scenarios, layers = program.scenarios, program.layers
    is_first, is_last = _is_end(scenarios.plans, stage)
    _, own = _layer_shares(program, stage)
    ends = is_first * program.embedding.tally.trained_parameters + is_last * program.head.tally.trained_parameters
    copied = flagged(is_last * (1.0 - is_first) * _tied_table(scenarios), scenarios.workloads.tuning.base)
    experts = own * layers.trained_expert_parameters + is_last * program.head.tally.trained_expert_parameters
    return _Held(own * layers.trained_parameters + ends + copied, experts, scenarios.plans)


def _quantised_on(program: Program, stage: Num) -> tuple[_Held, _Held]:
    """Those that are held in a few bits, all of layers, and the bytes that they take."""
    layers, plans = program.layers, program.scenarios.plans
    _, own = _layer_shares(program, stage)
    return (
        _Held(own * layers.quantised_parameters, own * layers.quantised_expert_parameters, plans),
        _Held(own * layers.quantised_bytes, own * layers.quantised_expert_bytes, plans),
    )


def _parameter_bytes(scenarios: Scenarios, held: _Held, trained: _Held, quantised: tuple[_Held, _Held]) -> Num:
    """Of parameters: trained ones as the plan holds them, others as products take them, or in a few bits."""
    plans, group = scenarios.plans, scenarios.plans.parameter_group
    own = trained.among(group)
    if np.all(np.asarray(scenarios.workloads.tuning.base) > 0.0):
        return own * plans.parameter_bytes
    few, few_bytes = (part.among(group) for part in quantised)
    return own * plans.parameter_bytes + (held.among(group) - own - few) * plans.element_bytes + few_bytes


def _is_end(plans: Plans, stage: Num) -> tuple[Num, Num]:
    """Whether a stage has the embedding, and whether it has the head: 1 or 0."""
    first = np.where(np.asarray(stage) <= 0.0, 1.0, 0.0)
    last = np.where(np.asarray(stage) >= np.asarray(plans.pp) - 1.0, 1.0, 0.0)
    return first, np.where(np.asarray(plans.ends_together) > 0.0, first, last)


def _layer_shares(program: Program, stage: Num) -> tuple[Num, Num]:
    """Share of the model's layers that a stage runs, and share of their parameters that it holds."""
    models = program.scenarios.models
    share = layers_on(program, stage) / models.layer_count
    return share, np.where(np.asarray(models.shared_layers) > 0, 1.0, share)


def layers_on(program: Program, stage: Num) -> Num:
    """Layers of one stage: as many as the others but for the ends, or by arithmetic with the head's."""
    scenarios = program.scenarios
    plans, models = scenarios.plans, scenarios.models
    even = pipeline.stage_layers(models.layer_count, plans.pp, stage=stage, **plans.ends)
    head = models.vocabulary_head * _table(scenarios) / program.largest_layer.parameters
    balanced = pipeline.balanced_layers(models.layer_count, plans.pp, stage=stage, head_layers=head)
    return np.where(np.asarray(scenarios.stacks.balances_head) > 0.0, balanced, even)


def _cast_bytes(scenarios: Scenarios) -> Num:
    """Of the 16-bit copy of a product's parameter that automatic casts keep for the backward pass."""
    plans = scenarios.plans
    return np.where(np.asarray(plans.parameter_group) > 1.0, 0.0, autocasts(scenarios) * plans.element_bytes)


def _narrow_bytes(scenarios: Scenarios) -> Num:
    """Of the copies in 8 bits that stay beside a layer's weight under fp8; shards are cast as they are gathered."""
    plans, models = scenarios.plans, scenarios.models
    narrow = np.asarray(plans.product_bytes) < plans.element_bytes
    share = 1.0 - np.minimum(plans.wide_layers / models.layer_count, 1.0)
    copies = scenarios.stacks.narrow_weight_bytes * plans.product_bytes
    held = np.where(narrow & (np.asarray(plans.parameter_group) <= 1.0), copies, 0.0)
    return held * share


def _unsummed_bytes(scenarios: Scenarios) -> Num:
    """Of a gradient in 16 bits that stays beside its sum in fp32."""
    plans = scenarios.plans
    apart = np.asarray(plans.gradient_bytes) > np.maximum(plans.element_bytes, plans.parameter_bytes)
    return np.where(apart, scenarios.stacks.keeps_16_bit_gradients * plans.element_bytes, 0.0)


def _frees_gradients(scenarios: Scenarios) -> Num:
    """Whether gradients exist from the backward pass to the update only; sums over micro-batches stay."""
    frees = scenarios.stacks.frees_gradients
    if not np.any(np.asarray(frees) > 0.0):
        return 0.0
    once = np.asarray(scenarios.plans.micro_batches) <= 1.0
    return np.where(once & (np.asarray(scenarios.plans.in_backward) < 1.0), frees, 0.0)


def _in_place_of_activations(scenarios: Scenarios, gradients: Num, kept: Num) -> Num:
    """Bytes of gradients that come when as many of activations have gone."""
    frees = _frees_gradients(scenarios)
    return np.where(np.asarray(frees) > 0.0, np.minimum(gradients, kept), 0.0) if np.any(frees) else 0.0


def _table(scenarios: Scenarios) -> Num:
    """Elements of this rank's part of a table of words."""
    rows = np.ceil(np.asarray(scenarios.models.vocabulary_size) / scenarios.plans.tp)
    return np.asarray(rows * scenarios.models.embedding_size, dtype=np.float64)


def _tied_table(scenarios: Scenarios) -> Num:
    """Elements of the embedding's copy beside the head: of a tied one, or one that further predictions read."""
    return words_at_both_ends(scenarios) * _table(scenarios)


def _states(program: Program, stage: Num, updated: Num) -> Num:
    """Bytes of the optimizer's states, master copies among them, of so many parameters."""
    scenarios, plans = program.scenarios, program.scenarios.plans
    alike = updated * (plans.state_bytes + master_bytes(scenarios))
    return alike + shaped_bytes(program, _share_of(program, stage)) if is_shaped(scenarios) else alike


def _share_of(program: Program, stage: Num) -> StageShare:
    """How much of the model one stage has, with the copy of a tied embedding."""
    is_first, is_last = _is_end(program.scenarios.plans, stage)
    _, own = _layer_shares(program, stage)
    copied = is_last * (1.0 - is_first) * words_at_both_ends(program.scenarios)
    return StageShare(own, is_first, is_last, copied)


def host_bytes(program: Program) -> Num:
    """Bytes that each device puts into its host's memory where states are offloaded, on the fullest stage [B].

    The states, and the fp32 gradients that the host's optimizer reads beside them.
    """
    plans = program.scenarios.plans
    if not np.any(np.asarray(plans.offload) > 0.0):
        return 0.0
    most: Num = 0.0
    for stage in _fullest_stages(program):
        updated = _trained_on(program, stage).among(plans.optimizer_group)
        most = np.maximum(most, _states(program, stage, updated) + updated * _COPY_BYTES)
    return np.asarray(plans.offload) * most


def _buffers(
    program: Program,
    stage: Num,
    *,
    dense: Num,
    updated: Num,
    kept: Num,
    sums: tuple[Num, Num],
) -> Num:
    """Working memory beside what is kept: of the loss or of one layer's backward pass, or of the optimizer's step.

    By the time that a layer runs backward the logits are gone, and by that of the optimizer all activations. Gradients
    that a stack frees are not there while all activations are: `later` bytes of them come as activations go, and the
    rest counts against the backward pass.
    """
    scenarios, (gradients, later) = program.scenarios, sums
    plans, models, stacks = scenarios.plans, scenarios.models, scenarios.stacks
    (is_first, is_last), largest = _is_end(plans, stage), program.largest_layer
    # A quantised weight is made one of 16 bits for each of its products, one at a time.
    gathered = _gathered(program, is_first, is_last, dense) + largest.widest_quantised * plans.element_bytes
    gathered = gathered + largest.widest_passing
    logits = models.vocabulary_head * is_last * program.head.tally.widest_bytes
    again = kept_again(program, layers_on(program, stage))
    of_layer = again + _BACKWARD_TENSORS * largest.widest_bytes - logits
    backward = gathered + np.maximum(loss_of(scenarios).copies * logits, of_layer)
    if np.any(np.asarray(stacks.frees_gradients) > 0.0):
        backward = backward - _frees_gradients(scenarios) * (gradients - later)
    # Adam's denominator and the like: optimizers without two moments in fp32 make no such copies.
    each = np.where(np.asarray(plans.state_bytes) >= _TWO_MOMENTS, _COPY_BYTES, 0.0)
    each = each * (1.0 - np.asarray(plans.offload))
    always = stacks.communication_buffers
    if np.any(np.asarray(stacks.early_optimizer_copies) > 0.0):
        always = always + stacks.early_optimizer_copies * each * updated
    step = stacks.optimizer_copies * each * updated + _updating(program, stage, updated) - (kept - later)
    at_once = largest_update(program)
    if at_once is not None:  # while the backward pass runs, of few parameters
        alone = stacks.optimizer_copies * each * at_once.within + _updating(program, stage, at_once.within)
        backward = backward + plans.in_backward * alone
        last = np.maximum(at_once.at_end - at_once.within, 0.0) * plans.gradient_bytes + alone - kept
        step = np.where(np.asarray(plans.in_backward) > 0.0, last, step)
    working: Num = np.maximum(np.maximum(backward, step), _frozen_buffers(program, is_first, is_last)) + always
    return working


def _frozen_parameters(program: Program, stage: Num) -> Num:
    """Bytes of the weights of a model beside the trained one, where it has its own."""
    frozen, model = program.frozen, program.scenarios.workloads.frozen
    if frozen is None or model is None:
        return 0.0
    held = _held_on(frozen, stage), _trained_on(frozen, stage), _quantised_on(frozen, stage)
    return model.held * _parameter_bytes(frozen.scenarios, *held)


def _frozen_buffers(program: Program, is_first: Num, is_last: Num) -> Num:
    """Working memory of the forward pass of a model beside the trained one, while that one's activations are kept.

    Shared parameters as they are gathered, or the logits in the format of products and once in fp32.
    """
    frozen = program.frozen
    if frozen is None:
        return 0.0
    logits = is_last * frozen.head.tally.widest_bytes * (1.0 + frozen.scenarios.plans.element_bytes / _COPY_BYTES)
    return _gathered(frozen, is_first, is_last, _held_on(frozen, is_last).dense) + logits


def _updating(program: Program, stage: Num, updated: Num) -> Num:
    """Of what an optimizer makes besides: fp32 copies of narrow states, and of a matrix that is orthogonalised."""
    plans = program.scenarios.plans
    made: Num = 0.0
    if np.any(np.asarray(plans.unscaled_bytes) > 0.0):
        made = plans.unscaled_bytes * updated
    if np.any(np.asarray(plans.orthogonal) > 0.0):
        made = made + plans.orthogonal * working_bytes(program, _share_of(program, stage))
    return made * (1.0 - np.asarray(plans.offload))


def _gathered(program: Program, is_first: Num, is_last: Num, dense: Num) -> Num:
    """Bytes of shared parameters while they are gathered, and of their gradients before they are scattered.

    Two layers, of which one is fetched ahead, and embedding or head, which stay gathered from end to end.
    """
    plans, stacks, largest = program.scenarios.plans, program.scenarios.stacks, program.largest_layer
    element, sharded = plans.element_bytes, np.asarray(plans.parameter_group) > 1.0
    of_experts = np.asarray(plans.sharing_experts(plans.parameter_group)) > 1.0

    def of_layer(each: Num, of_expert: Num) -> Num:
        return np.where(sharded, each, 0.0) + np.where(of_experts, of_expert, 0.0)

    def of_ends(kind: str) -> Num:
        first, last = (getattr(block.tally, kind) for block in (program.embedding, program.head))
        return np.where(sharded, (is_first * first + is_last * last) * stacks.keeps_ends_gathered, 0.0)

    bytes_of_layer = largest.gathered_bytes(element)
    shared = of_layer(bytes_of_layer, largest.gathered_expert_bytes(element))
    trained = of_layer(largest.trained_parameters, largest.trained_expert_parameters) + of_ends("trained_parameters")
    each = np.where(
        np.asarray(largest.quantised_bytes) > 0.0, bytes_of_layer / np.maximum(largest.parameters, 1.0), element
    )
    live = np.where(sharded, np.minimum(stacks.live_parameters, dense), 0.0) * each
    gathered = np.maximum(2.0 * shared + of_ends("parameters") * element, live)
    return np.asarray(gathered + trained * plans.reduced_bytes)


def peak(program: Program) -> Memory:
    """Memory of the stage that needs most."""
    most, *others = _candidates(program)
    for other in others:
        larger = np.asarray(other.total) > np.asarray(most.total)
        most = Memory(
            **{
                field.name: np.where(larger, getattr(other, field.name), getattr(most, field.name))
                for field in fields(Memory)
            }
        )
    return most


def peak_total(program: Program) -> Num:
    """What the stage that needs most holds together, without its parts [B]."""
    most, *others = (stage.total for stage in _candidates(program))
    for other in others:
        most = np.maximum(most, other)
    return most


def _candidates(program: Program) -> list[Memory]:
    """Memory of the stages that may need most."""
    return [on_stage(program, stage) for stage in _fullest_stages(program)]


def _fullest_stages(program: Program) -> list[Num]:
    """Indices of the stages that may hold most.

    Those are the first, which holds most micro-batches, the second, which may have a layer more, and the last with the
    head.
    """
    last = np.asarray(program.scenarios.plans.pp) - 1.0
    if not np.any(last > 0.0):
        return [np.zeros_like(last)]
    return [np.zeros_like(last), np.minimum(1.0, last), last]
