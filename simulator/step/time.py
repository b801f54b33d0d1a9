"""Operators, plan and backend make a step time, broken down into parts that add up to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.formulas import pipeline, states
from simulator.formulas.overlap import exposed
from simulator.formulas.typing import Num
from simulator.pricing.backend import Backend
from simulator.work import messages as traffic
from simulator.work.counts import ModelCounts
from simulator.work.tally import Counts, Times, times
from simulator.work.transformer import Scenarios, embedding, head, layer
from simulator.work.transformer.exchanges import splits

BACKWARD_LAUNCH = 0.55
"""Host time of a kernel of the backward pass over one of the forward pass, which Python drives."""
_GRADIENT_SUMS = 2.0
"""Times that gradients cross the memory bus when a micro-batch adds to them: read and written."""


@dataclass(frozen=True)
class Step:
    """Time of a step, and of its parts, which add up to it [s]."""

    time: Num
    parts: dict[str, Num]


@dataclass(frozen=True)
class _Pass:
    """One micro-batch through all layers of a stage, or through its embedding or head [s]."""

    forward: Num
    backward: Num
    host: Num
    """Time of the launches on the host."""
    parts: dict[str, Num]

    @property
    def device(self) -> Num:
        """Time on the device."""
        return self.forward + self.backward


def price(scenarios: Scenarios, of_device: ModelCounts, backend: Backend, *, broken_down: bool = True) -> Step:
    """Time of one optimizer step.

    Parameters
    ----------
    scenarios
        Columns that broadcast against each other.
    of_device
        What `simulator.work.counts.count` says of the same scenarios.
    backend
        Prices kernels and collectives.
    broken_down
        Whether the parts are wanted; a search over many plans does without them.

    Returns
    -------
    Step
        Its parts: those of the compute on the slowest stage for all micro-batches, what it waits for, and what
        happens once a step.
    """
    plans = scenarios.plans
    of_stages = _stages(scenarios, of_device, backend)
    middle, first, last = (stage.time for stage in of_stages.places)
    slowest = np.maximum(np.maximum(middle, first), last)
    piped_together = first + last + (plans.pp - 2.0) * middle
    together = np.where(np.asarray(plans.pp) > 1.0, np.maximum(piped_together, slowest), slowest)
    share = pipeline.idle_share(plans.virtual_stages, zero_bubble=plans.zero_bubble)
    piped = pipeline.step_time(slowest, together, micro_batches=plans.micro_batches, idle_share=share)
    once = _once_a_step(scenarios, of_device, backend, of_stages.layers)
    time = piped + sum(once.values(), start=np.float64(0.0))
    if not broken_down:
        return Step(time, {})
    bubble = {"pipeline_bubble": piped - plans.micro_batches * slowest}
    return Step(time, _parts(of_stages, slowest, plans.micro_batches) | bubble | once)


@dataclass(frozen=True)
class _Stage:
    """One micro-batch on one stage of the pipeline [s]."""

    held: tuple[tuple[_Pass, Num], ...]
    """Layers, embedding and head, and how much of each."""
    together: Num
    """Time that device and host take."""
    device: Num
    transfer: Num

    @property
    def time(self) -> Num:
        """All of it."""
        return self.together + self.transfer


@dataclass(frozen=True)
class _Stages:
    """The stages of a pipeline: one inside, the first and the last."""

    layers: _Pass
    places: tuple[_Stage, _Stage, _Stage]


def _stages(scenarios: Scenarios, of_device: ModelCounts, backend: Backend) -> _Stages:
    """Time of one micro-batch on each kind of stage."""
    plans, stacks, models = scenarios.plans, scenarios.stacks, scenarios.models
    layers = _layers(scenarios, of_device.layers, backend)
    with_embedding, with_head = traffic.end_parameters(scenarios, of_device)
    of_first = times(embedding(scenarios), backend, plans, stacks, layer=False)
    of_last = times(head(scenarios), backend, plans, stacks, layer=False)
    first = _ends(of_first, scenarios, with_embedding, backend)
    last = _ends(of_last, scenarios, with_head, backend)
    transfer = _transfers(scenarios, backend)
    even = models.layer_count / plans.pp
    inside = pipeline.inner_layers(models.layer_count, plans.pp) / even
    at_ends = pipeline.end_layers(models.layer_count, plans.pp) / even
    alone = np.where(np.asarray(plans.pp) > 1.0, 0.0, 1.0)
    between = np.where(np.asarray(plans.pp) > 2.0, inside, 0.0)
    return _Stages(
        layers,
        (
            _joined(((layers, between),), transfer),
            _joined(((layers, at_ends), (first, 1.0), (last, alone)), transfer),
            _joined(((layers, at_ends), (first, alone), (last, 1.0)), transfer),
        ),
    )


def _joined(held: tuple[tuple[_Pass, Num], ...], transfer: Num) -> _Stage:
    """Time of one micro-batch on a stage with its share of layers and perhaps the ends."""
    device = sum((number * part.device for part, number in held), start=np.float64(0.0))
    host = sum((number * part.host for part, number in held), start=np.float64(0.0))
    return _Stage(held, np.maximum(slower(device, host), device), device, transfer)


def slower(device: Num, host: Num) -> Num:
    """The larger of two times with a soft corner: their norm of order 4."""
    norm: Num = np.sqrt(np.sqrt(np.square(np.square(device)) + np.square(np.square(host))))
    return norm


def _parts(stages: _Stages, slowest: Num, micro_batches: Num) -> dict[str, Num]:
    """What the slowest stage does for all micro-batches, part by part."""
    parts: dict[str, Num] = {}
    taken: Num = 0.0
    for stage in reversed(stages.places):
        chosen = np.where(stage.time >= slowest, 1.0 - taken, 0.0)
        taken = taken + chosen
        each = [("host", stage.together - stage.device), ("pipeline_transfer", stage.transfer)]
        each += [(name, number * value) for part, number in stage.held for name, value in part.parts.items()]
        for name, value in each:
            parts[name] = parts.get(name, 0.0) + chosen * value * micro_batches
    return parts


def _layers(scenarios: Scenarios, of_layers: Counts, backend: Backend) -> _Pass:
    """All layers of one stage of equal share, with what every micro-batch does to their parameters."""
    plans, stacks = scenarios.plans, scenarios.stacks
    forward: Num = 0.0
    backward: Num = 0.0
    host: Num = 0.0
    parts: dict[str, Num] = {}
    for group in scenarios.models.layers:
        one = times(layer(group, scenarios), backend, plans, stacks, layer=True)
        of_parts = {**one.parts, "recompute": one.recompute}
        share = group.count / plans.pp
        forward = forward + share * one.forward
        backward = backward + share * (one.backward + one.recompute)
        host = host + share * _launches(one, stacks.launch)
        for name, value in of_parts.items():
            parts[name] = parts.get(name, 0.0) + share * value
    held = (of_layers.parameters + of_layers.expert_parameters) / plans.pp
    summed = _gradient_sums(scenarios, held, backend)
    backward = backward + summed
    parts["gradient_accumulation"] = summed
    ahead, behind = _gathers(scenarios, of_layers, backend, forward, backward)
    parts["parameter_gather"] = ahead + behind
    return _Pass(forward + ahead, backward + behind, host, parts)


def _launches(one: Times, launch: Num) -> Num:
    """Host time of the launches of one micro-batch."""
    return launch * (one.forward_kernels + BACKWARD_LAUNCH * one.backward_kernels)


def _gradient_sums(scenarios: Scenarios, held: Num, backend: Backend) -> Num:
    """Adding the gradients of a micro-batch to those before it, and casting parameters that are kept in fp32."""
    plans, eager = scenarios.plans, scenarios.stacks.eager
    adds = np.where(np.asarray(plans.micro_batches) > 1.0, plans.gradient_bytes * _GRADIENT_SUMS, 0.0) * eager
    casts = np.where(
        np.asarray(plans.parameter_bytes) > plans.element_bytes,
        2.0 * (plans.parameter_bytes + plans.element_bytes),
        0.0,
    )
    return backend.stream(held / plans.parameter_group * (adds + casts), 0.0, reduces=False, kind="gradient sums")


def _gathers(scenarios: Scenarios, of_layers: Counts, backend: Backend, forward: Num, backward: Num) -> tuple[Num, Num]:
    """Exposed time of gathering sharded parameters of a stage's layers, and of scattering their gradients.

    The gather of one layer hides behind the compute of the one before it, so layers are compared one by one.
    """
    plans, stacks = scenarios.plans, scenarios.stacks
    if not np.any(np.asarray(plans.parameter_group) > 1.0):
        return 0.0, 0.0
    number = scenarios.models.layer_count / plans.pp
    gathers, scatters = traffic.layer_shards(scenarios, of_layers)
    gather, scatter = gathers.time(backend), scatters.time(backend)
    hidden = stacks.parameter_overlap / number
    ahead = exposed(gather, hidden * forward)
    behind = exposed(gather * stacks.gathers_each_pass + scatter, hidden * backward)
    return scatters.count * number * ahead, scatters.count * number * behind


def _ends(one: Times, scenarios: Scenarios, held: Num, backend: Backend) -> _Pass:
    """Embedding or head of a stage, with the gather and the scatter of its parameters where they are sharded."""
    launches = _launches(one, scenarios.stacks.launch)
    if not np.any(np.asarray(scenarios.plans.parameter_group) > 1.0):
        return _Pass(one.forward, one.backward, launches, one.parts)
    gathers, scatters = traffic.end_shards(scenarios, held)
    hidden = scenarios.stacks.parameter_overlap
    ahead = gathers.count * exposed(gathers.time(backend), hidden * one.forward)
    behind = scatters.count * exposed(scatters.time(backend), hidden * one.backward)
    parts = {**one.parts, "parameter_gather": ahead + behind}
    return _Pass(one.forward + ahead, one.backward + behind, launches, parts)


def _transfers(scenarios: Scenarios, backend: Backend) -> Num:
    """Exposed time of sending activations to the next stage and their gradients back, for one micro-batch."""
    plans, stacks = scenarios.plans, scenarios.stacks
    if not np.any(np.asarray(plans.pp) > 1.0):
        return 0.0
    sent = traffic.transfer(scenarios)
    waited = 2.0 * plans.virtual_stages * sent.time(backend) * (1.0 - np.asarray(stacks.pipeline_overlap))
    return np.where(np.asarray(sent.count) > 0.0, waited, 0.0)


def _once_a_step(scenarios: Scenarios, of_device: ModelCounts, backend: Backend, layers: _Pass) -> dict[str, Num]:
    """What happens once a step: reduction of gradients, optimizer, offloading, fixed host time."""
    plans, stacks = scenarios.plans, scenarios.stacks
    ends = _more_of(scenarios, of_device.embedding.parameters, of_device.head.parameters)
    dense = of_device.layers.parameters / plans.pp + ends
    experts = of_device.layers.expert_parameters / plans.pp
    updated = (dense + experts) / plans.optimizer_group
    moved = stacks.optimizer_passes * states.optimizer_traffic(
        updated,
        plans.state_bytes + plans.factored * 4.0,
        master_bytes=plans.master_bytes,
        gradient_bytes=plans.gradient_bytes,
        parameter_bytes=plans.parameter_bytes,
        sweeps=plans.gradient_sweeps,
    )
    kernels = stacks.optimizer_kernels * scenarios.models.layer_count / plans.pp
    on_device = backend.stream(moved, kernels, reduces=False, kind="optimizer")
    on_host = backend.host_copy(moved + updated * (plans.gradient_bytes + plans.parameter_bytes))
    offload = np.asarray(plans.offload)
    return {
        "gradient_reduction": _reductions(scenarios, dense, experts, backend, layers)
        + _tensor_reductions(scenarios, of_device, backend)
        + _tied_embedding(scenarios, backend),
        "optimizer": np.where(offload > 0, 0.0, np.maximum(on_device, kernels * stacks.launch)),
        "offload": offload * on_host,
        "step_overhead": stacks.step_overhead + 0.0 * on_device,
    }


def _more_of(scenarios: Scenarios, first: Num, last: Num) -> Num:
    """What embedding and head add to one stage: both of them, or in a pipeline the one that adds more."""
    return np.where(np.asarray(scenarios.plans.pp) > 1.0, np.maximum(first, last), first + last)


def _reductions(scenarios: Scenarios, dense: Num, experts: Num, backend: Backend, layers: _Pass) -> Num:
    """Exposed time of reducing the gradients over the replicas, and of gathering updated parameters."""
    stacks = scenarios.stacks
    *reduced, gathers = traffic.reductions(scenarios, dense, experts)
    number = np.maximum(np.maximum(reduced[0].count, reduced[1].count), 1.0)
    alone = sum((message.count / number * message.time(backend) for message in reduced), start=np.float64(0.0))
    once = alone / stacks.reduction_efficiency
    behind = number * exposed(once, stacks.gradient_overlap * layers.backward)
    ahead = gathers.count * exposed(gathers.time(backend), stacks.parameter_overlap * layers.forward)
    return behind + ahead


def _tensor_reductions(scenarios: Scenarios, of_device: ModelCounts, backend: Backend) -> Num:
    """Adding up gradients that tensor-parallel ranks have parts of."""
    if not splits(scenarios):
        return 0.0
    ends = _more_of(scenarios, of_device.embedding.partial_parameters, of_device.head.partial_parameters)
    partial = of_device.layers.partial_parameters / scenarios.plans.pp + ends
    sums = traffic.tensor_reductions(scenarios, partial)
    return sum((message.count * message.time(backend) for message in sums), start=np.float64(0.0))


def _tied_embedding(scenarios: Scenarios, backend: Backend) -> Num:
    """Adding up the gradients of an embedding that the first and the last stage of a pipeline share."""
    message = traffic.tied_embedding(scenarios)
    return message.count * message.time(backend)
