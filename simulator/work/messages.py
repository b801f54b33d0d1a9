"""What a device sends in a step: the collectives and transfers that the step time is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from simulator.formulas import parameters
from simulator.formulas.typing import Num
from simulator.pricing.backend import Backend, CollectiveKind
from simulator.work.counts import ModelCounts
from simulator.work.operators import Exchange, Operator, Ring
from simulator.work.tally import Counts, repeats
from simulator.work.transformer import Scenarios, embedding, head, layer, tokens_of


@dataclass(frozen=True)
class Message:
    """Collectives, or transfers to a neighbour, of one kind and size among the ranks of a group."""

    name: str
    kind: CollectiveKind | Literal["send"]
    message_bytes: Num
    """The whole message: the gathered, the reduced, or the sent tensor [B]."""
    degree: Num
    """Ranks of the group [1]."""
    stride: Num
    """Distance from one of them to the next [device]."""
    count: Num = 1.0
    """How many of them [1]."""

    def time(self, backend: Backend) -> Num:
        """Time of one of them [s]."""
        if self.kind == "send":
            return backend.send(self.message_bytes, degree=self.degree, stride=self.stride)
        return backend.collective(self.kind, self.message_bytes, degree=self.degree, stride=self.stride)

    def times(self, count: Num) -> Message:
        """The same, so many times as often."""
        return replace(self, count=self.count * count)


def messages(scenarios: Scenarios, of_device: ModelCounts, stage: Num = 0.0) -> list[Message]:
    """List what one device of a pipeline stage sends in one step; where a count is 0 it sends nothing.

    Parameters
    ----------
    scenarios
        Columns that broadcast against each other.
    of_device
        What `simulator.work.counts.count` says of the same scenarios.
    stage
        Index of the stage, from 0; layers are spread evenly over stages [1].
    """
    plans = scenarios.plans
    is_first = np.where(np.asarray(stage) <= 0.0, 1.0, 0.0)
    is_last = np.where(np.asarray(stage) >= np.asarray(plans.pp) - 1.0, 1.0, 0.0)
    ends = end_parameters(scenarios, of_device)
    each = _of_operators(embedding(scenarios), scenarios, is_first, layer=False)
    each += _of_operators(head(scenarios), scenarios, is_last, layer=False)
    for group in scenarios.models.layers:
        each += _of_operators(layer(group, scenarios), scenarios, group.count / plans.pp, layer=True)
    for message in layer_shards(scenarios, of_device.layers):
        each.append(message.times(scenarios.models.layer_count / plans.pp))
    for present, held in zip((is_first, is_last), ends, strict=True):
        each += [message.times(present) for message in end_shards(scenarios, held)]
    each.append(transfer(scenarios).times(2.0 * plans.virtual_stages - is_first - is_last))
    held = is_first * of_device.embedding.parameters + is_last * of_device.head.parameters
    partial = is_first * of_device.embedding.partial_parameters + is_last * of_device.head.partial_parameters
    once = [
        *reductions(
            scenarios,
            of_device.layers.parameters / plans.pp + held,
            of_device.layers.expert_parameters / plans.pp,
        ),
        *tensor_reductions(scenarios, of_device.layers.partial_parameters / plans.pp + partial),
        tied_embedding(scenarios).times(np.maximum(is_first, is_last)),
    ]
    return [message.times(plans.micro_batches) for message in each] + once


def _of_operators(operators: Sequence[Operator], scenarios: Scenarios, number: Num, *, layer: bool) -> list[Message]:
    """What so many of a list of operators send for one micro-batch, with their recomputation."""
    found = []
    for operator in operators:
        if isinstance(operator, Exchange):
            again = repeats(operator, scenarios.plans, scenarios.stacks) if layer else 0.0
            count = operator.forward_count * (1.0 + again) + operator.backward_count
            sent = Message(
                operator.name, operator.kind, operator.message_bytes, operator.degree, operator.stride, count
            )
            found.append(sent.times(number))
        elif isinstance(operator, Ring):
            # Backward twice as much as forward: keys and values again, and their gradients.
            count = 3.0 * (operator.degree - 1.0)
            sent = Message(operator.name, "send", operator.message_bytes, operator.degree, operator.stride, count)
            found.append(sent.times(number))
    return found


def end_parameters(scenarios: Scenarios, of_device: ModelCounts) -> tuple[Num, Num]:
    """Parameters that are gathered with the embedding and with the head; those of a tied head at once with it."""
    models = scenarios.models
    together = models.tied_head * models.vocabulary_head * np.where(np.asarray(scenarios.plans.pp) > 1.0, 0.0, 1.0)
    of_head = of_device.head.parameters
    return of_device.embedding.parameters + together * of_head, (1.0 - together) * of_head


def layer_shards(scenarios: Scenarios, of_layers: Counts) -> tuple[Message, Message]:
    """Gathers of a layer's sharded parameters and the scatter of its gradients, for one micro-batch.

    Layers that share their parameters gather all of them each time, and scatter them once, told as a part for each.
    """
    held, number = of_layers.parameters + of_layers.expert_parameters, scenarios.models.layer_count
    size = held / np.where(np.asarray(scenarios.models.shared_layers) > 0, 1.0, number)
    return _shards(scenarios, "a layer", size, 1.0 + scenarios.stacks.gathers_each_pass, scattered=held / number)


def end_shards(scenarios: Scenarios, size: Num) -> tuple[Message, Message]:
    """The same of embedding or head, which stays gathered from its forward to its backward pass."""
    return _shards(scenarios, "embedding or head", size, np.where(np.asarray(size) > 0.0, 1.0, 0.0))


def _shards(
    scenarios: Scenarios, where: str, size: Num, gathers: Num, *, scattered: Num | None = None
) -> tuple[Message, Message]:
    """Gathers and one scatter of sharded parameters, none where they are not sharded."""
    plans, given = scenarios.plans, size if scattered is None else scattered
    sharded = np.where((np.asarray(plans.parameter_group) > 1.0) & (np.asarray(size) > 0.0), 1.0, 0.0)
    group = (plans.parameter_group, plans.replica_stride)
    return (
        Message(f"parameters of {where}", "all_gather", size * plans.element_bytes, *group, sharded * gathers),
        Message(f"gradients of {where}", "reduce_scatter", given * plans.gradient_bytes, *group, sharded),
    )


def reductions(scenarios: Scenarios, dense: Num, experts: Num) -> tuple[Message, Message, Message, Message]:
    """Reduction of gradients over the replicas in one step, and the gather of what each of them updated.

    Parameters
    ----------
    scenarios
        Columns that broadcast against each other.
    dense, experts
        Parameters of the device, without and of experts [parameter].

    Returns
    -------
    tuple
        All-reduce and reduce-scatter, of which a plan uses one, all-reduce of experts, and all-gather.
    """
    plans, width, group = scenarios.plans, scenarios.plans.gradient_bytes, scenarios.plans.parameter_group
    others = plans.replicas / group
    stride = plans.replica_stride * group
    apart = np.where(others > 1.0, 1.0, 0.0)
    sharers = np.asarray(plans.optimizer_group)
    sharded = np.where((sharers > 1.0) & (np.asarray(group) <= 1.0), apart, 0.0)
    by_all = np.where(sharers >= others, sharded, 0.0)
    # In a pipeline a stage adds up the gradients of all micro-batches, also where replicas will share them.
    each = np.where(
        (np.asarray(scenarios.stacks.reduces_each_micro_batch) > 0)
        | ((np.asarray(plans.gradient_group) > 1.0) & (np.asarray(group) <= 1.0) & (np.asarray(plans.pp) <= 1.0)),
        plans.micro_batches,
        1.0,
    )
    fewer = np.maximum(others / plans.ep, 1.0)
    of_experts = each * np.where((np.asarray(experts) > 0.0) & (fewer > 1.0), 1.0, 0.0)
    gradients = dense / group * width
    return (
        Message("gradients", "all_reduce", gradients, others, stride, each * (apart - by_all)),
        Message("gradients", "reduce_scatter", gradients, others, stride, each * by_all),
        Message("gradients of experts", "all_reduce", experts / group * width, fewer, stride * plans.ep, of_experts),
        Message("updated parameters", "all_gather", dense / group * plans.element_bytes, sharers, stride, sharded),
    )


def tensor_reductions(scenarios: Scenarios, partial: Num) -> tuple[Message, Message]:
    """Sums over tensor-parallel ranks of gradients that each of them has a part of, once a step.

    Parameters
    ----------
    scenarios
        Columns that broadcast against each other.
    partial
        Parameters of the device that ranks with their own tokens use alike: normalisations and biases [parameter].

    Returns
    -------
    tuple
        Of those parameters, and of key and value projections that several ranks hold a copy of.
    """
    plans = scenarios.plans
    copied: Num = 0.0
    degree: Num = 1.0
    for group in scenarios.models.layers:
        holders = np.maximum(plans.tp / np.asarray(group.key_value_heads), 1.0)
        each = (1.0 + group.cross_attention) * parameters.linear(
            group.hidden_size, 2.0 * group.head_size, bias=group.qkv_bias
        )
        copied = copied + np.where(holders > 1.0, each * group.count / plans.pp, 0.0)
        degree = np.maximum(degree, holders)
    shares = np.where((np.asarray(plans.tp) > 1.0) & (np.asarray(plans.sequence_parallel) > 0.0), 1.0, 0.0)
    width, stride = plans.gradient_bytes / plans.parameter_group, plans.tp_stride
    held = np.where(np.asarray(copied) > 0.0, 1.0, 0.0)
    return (
        Message("gradients of shared tokens", "all_reduce", partial * width, plans.tp, stride, shares),
        Message("gradients of copied heads", "all_reduce", copied * width, degree, stride, held),
    )


def tied_embedding(scenarios: Scenarios) -> Message:
    """Sum of the gradients of an embedding that the first and the last stage of a pipeline share."""
    plans, models = scenarios.plans, scenarios.models
    table = np.ceil(np.asarray(models.vocabulary_size) / plans.tp) * models.embedding_size
    apart = plans.pp_stride * np.maximum(plans.pp - 1.0, 1.0)
    shared = np.where(np.asarray(plans.pp) > 1.0, models.tied_head * models.vocabulary_head, 0.0)
    return Message("gradients of the tied embedding", "all_reduce", table * plans.gradient_bytes, 2.0, apart, shared)


def transfer(scenarios: Scenarios) -> Message:
    """Activations of one micro-batch to the next stage, or their gradients back."""
    plans = scenarios.plans
    longest = np.maximum(scenarios.workloads.sequence_length, scenarios.workloads.target_length)
    message = tokens_of(scenarios, longest).all / plans.tp * scenarios.models.hidden_size * plans.element_bytes
    piped = np.where(np.asarray(plans.pp) > 1.0, 1.0, 0.0)
    return Message("activations between stages", "send", message, plans.pp, plans.pp_stride, piped)
