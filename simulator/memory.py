"""Bytes that each pipeline stage holds at its peak."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from simulator.columns import Columns
from simulator.counts import ModelCounts
from simulator.formulas import pipeline, states
from simulator.formulas.typing import Num
from simulator.transformer import Scenarios

_LOGIT_COPIES = 2.0
"""Copies of the logits in float32 that exist beside the kept one while the loss runs backward."""


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


def on_stage(scenarios: Scenarios, of_device: ModelCounts, stage: Num) -> Memory:
    """Memory of one stage of the pipeline.

    Parameters
    ----------
    scenarios
        Columns that broadcast against each other.
    of_device
        What `simulator.counts.count` says of the same scenarios.
    stage
        Index of the stage, from 0 [1].
    """
    plans, stacks, models = scenarios.plans, scenarios.stacks, scenarios.models
    is_first = np.where(np.asarray(stage) <= 0.0, 1.0, 0.0)
    is_last = np.where(np.asarray(stage) >= np.asarray(plans.pp) - 1.0, 1.0, 0.0)
    at_end = np.maximum(is_first, is_last)
    number = at_end * pipeline.end_layers(models.layer_count, plans.pp) + (1.0 - at_end) * pipeline.inner_layers(
        models.layer_count, plans.pp
    )
    share = number / models.layer_count
    layers, ends = of_device.layers, (of_device.embedding, of_device.head)
    copied = is_last * (1.0 - is_first) * _tied_table(scenarios)
    own = np.where(np.asarray(models.shared_layers) > 0, 1.0, share)
    held = own * (layers.parameters + layers.expert_parameters)
    held = held + is_first * ends[0].parameters + is_last * ends[1].parameters + copied
    waiting = pipeline.in_flight(
        plans.pp,
        stage,
        micro_batches=plans.micro_batches,
        virtual_stages=plans.virtual_stages,
        all_at_once=plans.all_at_once,
        zero_bubble=plans.zero_bubble,
    )
    kept = waiting * (share * layers.saved_bytes + is_first * ends[0].saved_bytes) + is_last * ends[1].saved_bytes
    optimizer = states.model_state_bytes(
        held,
        0.0,
        gradient_bytes=0.0,
        optimizer_bytes=plans.state_bytes + plans.master_bytes,
        optimizer_group=plans.optimizer_group,
    ) + plans.factored * _factored(scenarios, held)
    parts = {
        "parameters": states.shard(held, plans.parameter_group) * plans.parameter_bytes,
        "gradients": states.shard(held, plans.gradient_group) * plans.gradient_bytes,
        "optimizer": optimizer * (1.0 - np.asarray(plans.offload)),
        "activations": kept,
        "buffers": _buffers(scenarios, of_device, is_last),
    }
    allocated = sum(parts.values(), start=np.float64(0.0))
    return Memory(**parts, reserved=stacks.runtime_memory + stacks.fragmentation * allocated)


def _tied_table(scenarios: Scenarios) -> Num:
    """Elements of a tied embedding's copy beside the head."""
    models = scenarios.models
    rows = np.ceil(np.asarray(models.vocabulary_size) / scenarios.plans.tp)
    return models.tied_head * models.vocabulary_head * rows * models.embedding_size


def _factored(scenarios: Scenarios, held: Num) -> Num:
    """Bytes of Adafactor's factored moments, for matrices as wide as the model."""
    width = np.asarray(scenarios.models.hidden_size)
    return states.factored_state_bytes(held, held / width**2, width=width) / scenarios.plans.optimizer_group


def _buffers(scenarios: Scenarios, of_device: ModelCounts, is_last: Num) -> Num:
    """Working memory beside what is kept."""
    plans, models = scenarios.plans, scenarios.models
    largest = of_device.largest_layer
    again = np.maximum(largest.all_saved_bytes - largest.saved_bytes, 0.0)
    parameters = largest.parameters + largest.expert_parameters
    gathered = np.where(
        np.asarray(plans.parameter_group) > 1.0, parameters * (2.0 * plans.element_bytes + plans.gradient_bytes), 0.0
    )
    logits = models.vocabulary_head * of_device.head.saved_bytes
    return again + gathered + is_last * _LOGIT_COPIES * logits


def peak(scenarios: Scenarios, of_device: ModelCounts) -> Memory:
    """Memory of the stage that needs most: the first, which holds most micro-batches, or the last with the head."""
    candidates = [on_stage(scenarios, of_device, stage) for stage in (0.0, np.asarray(scenarios.plans.pp) - 1.0)]
    first, last = candidates
    return Memory(
        **{
            field.name: np.where(first.total >= last.total, getattr(first, field.name), getattr(last, field.name))
            for field in fields(Memory)
        }
    )
