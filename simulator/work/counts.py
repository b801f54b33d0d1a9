"""Exact counts of a scenario: arithmetic, parameters and kept bytes of a device and of the whole step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from simulator.formulas import activations
from simulator.formulas.typing import Num
from simulator.work.tally import Counts, counts
from simulator.work.transformer import Scenarios, embedding, head, layer, stream_bytes, tokens_of


@dataclass(frozen=True)
class ModelCounts:
    """Counts of one micro-batch on one device, by place."""

    layers: Counts
    """All layers of the model, as if one stage held them."""
    embedding: Counts
    head: Counts
    largest_layer: Counts
    """Of the layer that keeps most, for working memory."""

    @property
    def together(self) -> Counts:
        """Layers, embedding and head."""
        return self.layers.plus(self.embedding).plus(self.head)


def count(scenarios: Scenarios) -> ModelCounts:
    """Count what one device executes and keeps for one micro-batch if it held all layers.

    Parameters
    ----------
    scenarios
        Columns that broadcast against each other.
    """
    plans, stacks, models = scenarios.plans, scenarios.stacks, scenarios.models
    layers, largest = Counts(), Counts()
    for group in models.layers:
        length = np.where(
            np.asarray(group.on_targets) > 0, scenarios.workloads.target_length, scenarios.workloads.sequence_length
        )
        checkpoint = activations.tensor(
            tokens_of(scenarios, length).shared, group.hidden_size, element_bytes=stream_bytes(scenarios)
        )
        one = counts(layer(group, scenarios), plans, stacks, checkpoint=checkpoint)
        layers = layers.plus(_counted(one, group.count, models.shared_layers))
        largest = Counts(*(np.maximum(a, b) for a, b in zip(vars(largest).values(), vars(one).values(), strict=True)))
    return ModelCounts(
        layers=layers,
        embedding=counts(embedding(scenarios), plans, stacks),
        head=counts(head(scenarios), plans, stacks),
        largest_layer=largest,
    )


def _counted(one: Counts, number: Num, shared: Num) -> Counts:
    """So many layers; layers that share one set of parameters have them once."""
    many = one.scaled(number)
    own = np.where(np.asarray(shared) > 0, 1.0, number)
    names = ("parameters", "expert_parameters", "partial_parameters", "cast_parameters")
    return Counts(**{**vars(many), **{name: getattr(one, name) * own for name in names}})


def undivided(scenarios: Scenarios) -> Scenarios:
    """The same work on one device that holds the whole model and batch: what the model needs, not how it is split."""
    one = dict.fromkeys(("dp", "tp", "pp", "cp", "ep", "virtual_stages", "micro_batches"), 1.0)
    batch = scenarios.workloads.global_batch
    plans = replace(scenarios.plans, **one, sequence_parallel=0.0, micro_batch=batch)
    stacks = replace(scenarios.stacks, all_positions=0.0)
    return replace(scenarios, plans=plans, stacks=stacks)


@dataclass(frozen=True)
class Totals:
    """Counts of the whole model and step."""

    parameters: Num
    """Trainable parameters of the model."""
    active_parameters: Num
    """Those that one token meets: of experts only the chosen ones."""
    model_flops: Num
    """Arithmetic of one step without recomputation, attention in full [FLOP]."""
    executed_flops: Num
    """Arithmetic that all devices execute in one step, with recomputation and copies [FLOP]."""


def totals(scenarios: Scenarios, of_device: ModelCounts) -> Totals:
    """Count parameters of the model, and the arithmetic of a step.

    Parameters
    ----------
    scenarios
        Columns that broadcast against each other.
    of_device
        What `count` says of the same scenarios.
    """
    plans, whole = scenarios.plans, count(undivided(scenarios)).together
    device = of_device.together
    ranks = plans.tp * plans.dp * plans.cp * plans.micro_batches
    return Totals(
        parameters=whole.parameters + whole.expert_parameters,
        active_parameters=whole.parameters + whole.expert_parameters * _chosen_share(scenarios),
        model_flops=whole.model_flops,
        executed_flops=(device.model_flops + device.recomputed_flops) * ranks,
    )


def _chosen_share(scenarios: Scenarios) -> Num:
    """Share of an expert layer's parameters that one token meets."""
    share: Num = 1.0
    for group in scenarios.models.layers:
        share = np.minimum(share, group.experts_per_token / np.asarray(group.experts))
    return share
