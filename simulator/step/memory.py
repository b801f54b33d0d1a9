"""Bytes that each pipeline stage holds at its peak."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from simulator.formulas import pipeline, states
from simulator.formulas.typing import Num
from simulator.specs.columns import Columns
from simulator.work.program import Program
from simulator.work.transformer import Scenarios, autocasts

_BACKWARD_TENSORS = 2.0
"""Gradients of one operator that exist at once while a layer runs backward: of its output and of its input."""
_COPY_BYTES = 4.0
"""Optimizers copy in fp32."""


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
        """All of it."""
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
    plans, stacks, models = scenarios.plans, scenarios.stacks, scenarios.models
    is_first = np.where(np.asarray(stage) <= 0.0, 1.0, 0.0)
    is_last = np.where(np.asarray(stage) >= np.asarray(plans.pp) - 1.0, 1.0, 0.0)
    share = layers_on(program, stage) / models.layer_count
    layers, ends = program.layers, (program.embedding.tally, program.head.tally)
    copied = is_last * (1.0 - is_first) * _tied_table(scenarios)
    own = np.where(np.asarray(models.shared_layers) > 0, 1.0, share)
    held = own * (layers.parameters + layers.expert_parameters)
    held = held + is_first * ends[0].parameters + is_last * ends[1].parameters + copied
    cast = own * layers.cast_parameters + is_first * ends[0].cast_parameters + is_last * ends[1].cast_parameters
    cast = cast * _cast_bytes(scenarios)
    waiting = pipeline.in_flight(
        plans.pp,
        stage,
        micro_batches=plans.micro_batches,
        virtual_stages=plans.virtual_stages,
        all_at_once=plans.all_at_once,
        zero_bubble=plans.zero_bubble,
    )
    saved = layers.saved_bytes / _checkpoint_ranks(scenarios)
    kept = waiting * (share * saved + is_first * ends[0].saved_bytes) + is_last * ends[1].saved_bytes
    optimizer = states.model_state_bytes(
        held,
        0.0,
        gradient_bytes=0.0,
        optimizer_bytes=plans.state_bytes + plans.master_bytes,
        optimizer_group=plans.optimizer_group,
    ) + plans.factored * _factored(scenarios, held)
    parts = {
        "parameters": states.shard(held, plans.parameter_group) * plans.parameter_bytes + cast,
        "gradients": states.shard(held, plans.gradient_group) * (plans.gradient_bytes + _unsummed_bytes(scenarios)),
        "optimizer": optimizer * (1.0 - np.asarray(plans.offload)),
        "activations": kept,
        "buffers": _buffers(program, is_last, held=held, kept=kept),
    }
    allocated = sum(parts.values(), start=np.float64(0.0))
    return Memory(**parts, reserved=stacks.runtime_memory + stacks.fragmentation * allocated)


def layers_on(program: Program, stage: Num) -> Num:
    """Layers of one stage: as many as the others but for the ends, or by arithmetic with the head's."""
    scenarios = program.scenarios
    plans, models = scenarios.plans, scenarios.models
    is_end = (np.asarray(stage) <= 0.0) | (np.asarray(stage) >= np.asarray(plans.pp) - 1.0)
    even = np.where(
        is_end,
        pipeline.end_layers(models.layer_count, plans.pp),
        pipeline.inner_layers(models.layer_count, plans.pp),
    )
    head = models.vocabulary_head * _table(scenarios) / program.largest_layer.parameters
    balanced = pipeline.balanced_layers(models.layer_count, plans.pp, stage=stage, head_layers=head)
    return np.where(np.asarray(scenarios.stacks.balances_head) > 0.0, balanced, even)


def _checkpoint_ranks(scenarios: Scenarios) -> Num:
    """Ranks that share the inputs of recomputed layers, beside those that share all tokens."""
    plans = scenarios.plans
    shares = np.asarray(plans.recompute_layer) * scenarios.stacks.shares_checkpoints
    return np.where(shares > 0.0, np.asarray(plans.tp) / plans.tokens_shared, 1.0)


def _cast_bytes(scenarios: Scenarios) -> Num:
    """Of the 16-bit copy of a product's parameter that automatic casts keep for the backward pass."""
    plans = scenarios.plans
    return np.where(np.asarray(plans.parameter_group) > 1.0, 0.0, autocasts(scenarios) * plans.element_bytes)


def _unsummed_bytes(scenarios: Scenarios) -> Num:
    """Of a gradient in 16 bits that stays beside its sum in fp32."""
    plans = scenarios.plans
    apart = np.asarray(plans.gradient_bytes) > np.maximum(plans.element_bytes, plans.parameter_bytes)
    return np.where(apart, scenarios.stacks.keeps_16_bit_gradients * plans.element_bytes, 0.0)


def _table(scenarios: Scenarios) -> Num:
    """Elements of this rank's part of a table of words."""
    rows = np.ceil(np.asarray(scenarios.models.vocabulary_size) / scenarios.plans.tp)
    return np.asarray(rows * scenarios.models.embedding_size, dtype=np.float64)


def _tied_table(scenarios: Scenarios) -> Num:
    """Elements of a tied embedding's copy beside the head."""
    models = scenarios.models
    return models.tied_head * models.vocabulary_head * _table(scenarios)


def _factored(scenarios: Scenarios, held: Num) -> Num:
    """Bytes of Adafactor's factored moments, for matrices as wide as the model."""
    width = np.asarray(scenarios.models.hidden_size)
    return states.factored_state_bytes(held, held / width**2, width=width) / scenarios.plans.optimizer_group


def _buffers(program: Program, is_last: Num, *, held: Num, kept: Num) -> Num:
    """Working memory beside what is kept: of the loss or of one layer's backward pass, or of the optimizer's step.

    By the time that a layer runs backward the logits are gone, and by that of the optimizer all activations.
    """
    scenarios = program.scenarios
    plans, models, stacks = scenarios.plans, scenarios.models, scenarios.stacks
    largest = program.largest_layer
    parameters = largest.parameters + largest.expert_parameters
    gathered = np.where(
        np.asarray(plans.parameter_group) > 1.0, parameters * (2.0 * plans.element_bytes + plans.gradient_bytes), 0.0
    )
    logits = models.vocabulary_head * is_last * program.head.tally.widest_bytes
    again = np.maximum(largest.all_saved_bytes - largest.saved_bytes, 0.0)
    of_layer = again + _BACKWARD_TENSORS * largest.widest_bytes - logits
    backward = gathered + np.maximum(stacks.logit_copies * logits, of_layer)
    updated = states.shard(held, plans.optimizer_group) * (1.0 - np.asarray(plans.offload))
    step = stacks.optimizer_copies * _COPY_BYTES * updated - kept
    working: Num = np.maximum(backward, step) + stacks.communication_buffers
    return working


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
    """Memory of the stages that may need most.

    Those are the first, which holds most micro-batches, the second, which may have a layer more, and the last with the
    head.
    """
    last = np.asarray(program.scenarios.plans.pp) - 1.0
    if not np.any(last > 0.0):
        return [on_stage(program, np.zeros_like(last))]
    return [on_stage(program, stage) for stage in (np.zeros_like(last), np.minimum(1.0, last), last)]
