"""Operators, plan and backend make a step time, broken down into parts that add up to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.backends.protocol import Backend
from simulator.counts import ModelCounts
from simulator.formulas import pipeline, states
from simulator.formulas.typing import Num
from simulator.tally import Counts, Times, times
from simulator.transformer import Scenarios, embedding, head, layer, tokens_of

_HOST_NORM = 6.0
"""Exponent of the norm that joins the time of device and host: the slower of the two, with a soft corner."""
_BACKWARD_LAUNCH = 0.55
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


def price(scenarios: Scenarios, of_device: ModelCounts, backend: Backend) -> Step:
    """Time of one optimizer step.

    Parameters
    ----------
    scenarios
        Columns that broadcast against each other.
    of_device
        What `simulator.counts.count` says of the same scenarios.
    backend
        Prices kernels and collectives.

    Returns
    -------
    Step
        Its parts: those of the compute on the slowest stage for all micro-batches, what it waits for, and what
        happens once a step.
    """
    plans, stacks, models = scenarios.plans, scenarios.stacks, scenarios.models
    layers = _layers(scenarios, of_device.layers, backend)
    first = _ends(times(embedding(scenarios), backend, plans, stacks, layer=False), scenarios)
    last = _ends(times(head(scenarios), backend, plans, stacks, layer=False), scenarios)
    transfer = _transfers(scenarios, backend)
    crowded = np.ceil(models.layer_count / plans.pp) / (models.layer_count / plans.pp)
    alone = np.where(np.asarray(plans.pp) > 1.0, 0.0, 1.0)

    stage = {
        "middle": _joined(layers, crowded, first, alone, last, alone, transfer),
        "first": _joined(layers, 1.0, first, 1.0, last, alone, transfer),
        "last": _joined(layers, 1.0, first, alone, last, 1.0, transfer),
    }
    slowest = np.maximum(np.maximum(stage["middle"][0], stage["first"][0]), stage["last"][0])
    usual = _joined(layers, 1.0, first, 0.0, last, 0.0, transfer)[0]
    together = np.where(
        np.asarray(plans.pp) > 1.0, stage["first"][0] + stage["last"][0] + (plans.pp - 2.0) * usual, slowest
    )
    share = pipeline.idle_share(plans.virtual_stages, zero_bubble=plans.zero_bubble)
    piped = pipeline.step_time(
        slowest, np.maximum(together, slowest), micro_batches=plans.micro_batches, idle_share=share
    )

    parts: dict[str, Num] = {}
    taken: Num = 0.0
    for time, of_stage in (stage["last"], stage["first"], stage["middle"]):
        chosen = np.where(time >= slowest, 1.0 - taken, 0.0)
        taken = taken + chosen
        for name, value in of_stage.items():
            parts[name] = parts.get(name, 0.0) + chosen * value * plans.micro_batches
    parts["pipeline_bubble"] = piped - plans.micro_batches * slowest
    parts |= _once_a_step(scenarios, of_device, backend, layers)
    return Step(time=sum(parts.values(), start=np.float64(0.0)), parts=parts)


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
    return launch * (one.forward_kernels + _BACKWARD_LAUNCH * one.backward_kernels)


def _gradient_sums(scenarios: Scenarios, held: Num, backend: Backend) -> Num:
    """Adding the gradients of a micro-batch to those before it, and casting parameters that are kept in fp32."""
    plans, eager = scenarios.plans, scenarios.stacks.eager
    adds = np.where(np.asarray(plans.micro_batches) > 1.0, plans.gradient_bytes * _GRADIENT_SUMS, 0.0) * eager
    casts = np.where(
        np.asarray(plans.parameter_bytes) > plans.element_bytes,
        2.0 * (plans.parameter_bytes + plans.element_bytes),
        0.0,
    )
    return backend.stream(held / plans.parameter_group * (adds + casts), 0.0, reduces=False)


def _gathers(scenarios: Scenarios, of_layers: Counts, backend: Backend, forward: Num, backward: Num) -> tuple[Num, Num]:
    """Exposed time of gathering sharded parameters of a stage's layers, and of scattering their gradients.

    The gather of one layer hides behind the compute of the one before it, so layers are compared one by one.
    """
    plans, stacks = scenarios.plans, scenarios.stacks
    if not np.any(np.asarray(plans.parameter_group) > 1.0):
        return 0.0, 0.0
    number = scenarios.models.layer_count / plans.pp
    size = (of_layers.parameters + of_layers.expert_parameters) / scenarios.models.layer_count
    sharded = np.where(np.asarray(plans.parameter_group) > 1.0, 1.0, 0.0)
    group = {"degree": plans.parameter_group, "stride": plans.replica_stride}
    gather = backend.collective("all_gather", size * plans.element_bytes, **group)
    scatter = backend.collective("reduce_scatter", size * plans.gradient_bytes, **group)
    hidden = stacks.parameter_overlap / number
    ahead = np.maximum(gather - hidden * forward, 0.0)
    behind = np.maximum(gather * stacks.gathers_each_pass + scatter - hidden * backward, 0.0)
    return sharded * number * ahead, sharded * number * behind


def _ends(one: Times, scenarios: Scenarios) -> _Pass:
    """Embedding or head of a stage."""
    return _Pass(one.forward, one.backward, _launches(one, scenarios.stacks.launch), one.parts)


def _transfers(scenarios: Scenarios, backend: Backend) -> Num:
    """Exposed time of sending activations to the next stage and their gradients back, for one micro-batch."""
    plans, stacks = scenarios.plans, scenarios.stacks
    if not np.any(np.asarray(plans.pp) > 1.0):
        return 0.0
    longest = np.maximum(scenarios.workloads.sequence_length, scenarios.workloads.target_length)
    message = tokens_of(scenarios, longest).all / plans.tp * scenarios.models.hidden_size * plans.element_bytes
    send = backend.send(message, degree=plans.pp, stride=plans.pp_stride)
    exposed = 2.0 * plans.virtual_stages * send * (1.0 - np.asarray(stacks.pipeline_overlap))
    return np.where(np.asarray(plans.pp) > 1.0, exposed, 0.0)


def _joined(
    layers: _Pass, crowded: Num, first: _Pass, has_first: Num, last: _Pass, has_last: Num, transfer: Num
) -> tuple[Num, dict[str, Num]]:
    """Time of one micro-batch on a stage with its share of layers and perhaps the ends, and its parts."""
    shares = ((layers, crowded), (first, has_first), (last, has_last))
    device = sum((share * part.device for part, share in shares), start=np.float64(0.0))
    host = sum((share * part.host for part, share in shares), start=np.float64(0.0))
    together = np.maximum((device**_HOST_NORM + host**_HOST_NORM) ** (1.0 / _HOST_NORM), device)
    parts: dict[str, Num] = {"host": together - device, "pipeline_transfer": transfer}
    for part, share in shares:
        for name, value in part.parts.items():
            parts[name] = parts.get(name, 0.0) + share * value
    return together + transfer, parts


def _once_a_step(scenarios: Scenarios, of_device: ModelCounts, backend: Backend, layers: _Pass) -> dict[str, Num]:
    """What happens once a step: reduction of gradients, optimizer, offloading, fixed host time."""
    plans, stacks = scenarios.plans, scenarios.stacks
    ends = np.where(
        np.asarray(plans.pp) > 1.0,
        np.maximum(of_device.embedding.parameters, of_device.head.parameters),
        of_device.embedding.parameters + of_device.head.parameters,
    )
    dense = of_device.layers.parameters / plans.pp + ends
    experts = of_device.layers.expert_parameters / plans.pp
    updated = (dense + experts) / plans.optimizer_group
    traffic = stacks.optimizer_passes * states.optimizer_traffic(
        updated,
        plans.state_bytes + plans.factored * 4.0,
        master_bytes=plans.master_bytes,
        gradient_bytes=plans.gradient_bytes,
        parameter_bytes=plans.parameter_bytes,
        sweeps=plans.gradient_sweeps,
    )
    kernels = stacks.optimizer_kernels * scenarios.models.layer_count / plans.pp
    on_device = backend.stream(traffic, kernels, reduces=False)
    on_host = backend.host_copy(traffic + updated * (plans.gradient_bytes + plans.parameter_bytes))
    offload = np.asarray(plans.offload)
    return {
        "gradient_reduction": _reductions(scenarios, dense, experts, backend, layers)
        + _tied_embedding(scenarios, backend),
        "optimizer": np.where(offload > 0, 0.0, np.maximum(on_device, kernels * stacks.launch)),
        "offload": offload * on_host,
        "step_overhead": stacks.step_overhead + 0.0 * on_device,
    }


def _reductions(scenarios: Scenarios, dense: Num, experts: Num, backend: Backend, layers: _Pass) -> Num:
    """Exposed time of reducing the gradients over the replicas, and of gathering updated parameters."""
    plans, stacks = scenarios.plans, scenarios.stacks
    width, group = plans.gradient_bytes, plans.parameter_group
    others = plans.replicas / group
    stride = plans.replica_stride * group
    sharded = np.where((np.asarray(plans.optimizer_group) > 1.0) & (np.asarray(group) <= 1.0), 1.0, 0.0)
    reduced = backend.collective("all_reduce", dense / group * width, degree=others, stride=stride)
    scattered = backend.collective("reduce_scatter", dense / group * width, degree=others, stride=stride)
    gathered = backend.collective("all_gather", dense / group * plans.element_bytes, degree=others, stride=stride)
    fewer = np.maximum(others / plans.ep, 1.0)
    of_experts = backend.collective("all_reduce", experts / group * width, degree=fewer, stride=stride * plans.ep)
    once = np.where(sharded > 0, scattered, reduced) + np.where(experts > 0.0, of_experts, 0.0)
    each = np.where(
        (np.asarray(stacks.reduces_each_micro_batch) > 0)
        | ((np.asarray(plans.gradient_group) > 1.0) & (np.asarray(group) <= 1.0)),
        plans.micro_batches,
        1.0,
    )
    exposed = each * np.maximum(once - stacks.gradient_overlap * layers.backward, 0.0)
    late = sharded * np.maximum(gathered - stacks.parameter_overlap * layers.forward, 0.0)
    return np.where(others > 1.0, exposed + late, 0.0)


def _tied_embedding(scenarios: Scenarios, backend: Backend) -> Num:
    """Adding up the gradients of an embedding that the first and the last stage of a pipeline share."""
    plans, models = scenarios.plans, scenarios.models
    table = np.ceil(np.asarray(models.vocabulary_size) / plans.tp) * models.embedding_size
    apart = plans.pp_stride * np.maximum(plans.pp - 1.0, 1.0)
    time = backend.collective("all_reduce", table * plans.gradient_bytes, degree=2.0, stride=apart)
    return np.where(np.asarray(plans.pp) > 1.0, models.tied_head * models.vocabulary_head * time, 0.0)
