"""Tasks of a stage once a step: reduction of gradients, optimizer, offloading, the host's own work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.formulas import parameters, states
from simulator.formulas.typing import Num
from simulator.pricing.requests import Collective, CollectiveKind, HostCopy, HostWork, Request, Stream, StreamKind
from simulator.work.operators import flagged
from simulator.work.orthogonalisation import newton_schulz
from simulator.work.program import Program
from simulator.work.tasks import OPEN, Hiding, Part, Phase, PlaceKind, Resource, Task, TaskPlace
from simulator.work.transformer import Scenarios
from simulator.work.transformer.exchanges import splits
from simulator.work.transformer.multi_token import words_at_both_ends
from simulator.work.updates import StageShare, master_bytes, shaped_traffic, tensors_of, trained_on

STEP = TaskPlace(PlaceKind.STEP)


@dataclass(frozen=True)
class Held:
    """What a stage holds of trained parameters, which alone matter once a step [parameter]."""

    dense: Num
    """Parameters of the device, without those of experts."""
    experts: Num
    partial: Num
    """Parameters whose gradient, under sequence parallelism, each tensor-parallel rank has of its tokens only."""
    is_end: Num
    """1 of the first and of the last stage, which share a tied embedding, else 0 [1]."""
    share: StageShare
    """How much of the model this is."""


def on_stage(program: Program, *, first: Num, last: Num) -> Held:
    """What a stage with an even share of the layers holds; `first` and `last` are 1 where it has that end, else 0."""
    pp, layers = program.scenarios.plans.pp, program.layers
    ends = program.embedding.tally, program.head.tally
    return Held(
        dense=layers.trained_parameters / pp + (first * ends[0].trained_parameters + last * ends[1].trained_parameters),
        experts=layers.trained_expert_parameters / pp + last * ends[1].trained_expert_parameters,
        partial=layers.partial_parameters / pp
        + (first * ends[0].partial_parameters + last * ends[1].partial_parameters),
        is_end=np.maximum(first, last),
        share=StageShare(1.0 / np.asarray(pp), first, last),
    )


def on_fullest(program: Program) -> Held:
    """What the stage holds that holds most: both ends, or in a pipeline the one that adds more."""
    plans, layers = program.scenarios.plans, program.layers
    pp, together = plans.pp, plans.ends_together
    one, other = program.embedding.tally, program.head.tally

    def more(first: Num, last: Num) -> Num:
        return np.where(np.asarray(together) > 0.0, first + last, np.maximum(first, last))

    return Held(
        dense=layers.trained_parameters / pp + more(one.trained_parameters, other.trained_parameters),
        experts=layers.trained_expert_parameters / pp + other.trained_expert_parameters,
        partial=layers.partial_parameters / pp + more(one.partial_parameters, other.partial_parameters),
        is_end=1.0,
        share=_fullest_share(program),
    )


def _fullest_share(program: Program) -> StageShare:
    """Layers, and both ends, or in a pipeline the one that has more parameters."""
    plans = program.scenarios.plans
    together = np.asarray(plans.ends_together) > 0.0
    first = np.asarray(program.embedding.tally.trained_parameters) >= program.head.tally.trained_parameters
    return StageShare(1.0 / np.asarray(plans.pp), *(np.where(together | has, 1.0, 0.0) for has in (first, ~first)))


def once_a_step(program: Program, held: Held) -> tuple[Task, ...]:
    """Tasks of a stage that holds so much, once a step.

    Parameters
    ----------
    program
        Of the scenarios.
    held
        What the stage holds.
    """
    scenarios = program.scenarios
    return (
        *_reductions(scenarios, held),
        *_tensor_reductions(scenarios, held.partial),
        *_tied_embedding(scenarios, held.is_end),
        *_update(program, held),
    )


def _collective(
    name: str,
    kind: CollectiveKind,
    size: Num,
    degree: Num,
    stride: Num,
    count: Num,
    resource: Resource,
    *,
    hiding: Hiding = OPEN,
    efficiency: Num = 1.0,
) -> Task:
    """A reduction or a gather of so many bytes."""
    return Task(
        name=name,
        part="gradient_reduction",
        request=Collective(kind=kind, message_bytes=size, degree=degree, stride=stride),
        phase=Phase.STEP,
        place=STEP,
        resource=resource,
        count=count,
        efficiency=efficiency,
        hiding=hiding,
    )


def _reductions(scenarios: Scenarios, held: Held) -> list[Task]:
    """Reduction of gradients over the replicas, and the gather of what each of them updated.

    The same of dense parameters and of experts, which fewer ranks hold.
    """
    plans = scenarios.plans
    if not np.any((np.asarray(plans.replicas) > 1.0) | (np.asarray(plans.expert_copies) > 1.0)):
        return []
    group, sharers, stride = plans.parameter_group, plans.optimizer_group, plans.replica_stride
    tasks = _reduced(scenarios, "", held.dense, _Copies(group, plans.replicas / group, sharers, stride * group))
    if np.any(np.asarray(held.experts) > 0.0):
        group, sharers = plans.sharing_experts(group), plans.sharing_experts(sharers)
        copies = plans.expert_copies / group
        tasks += _reduced(
            scenarios, " of experts", held.experts, _Copies(group, copies, sharers, plans.expert_replica_stride * group)
        )
    return tasks


@dataclass(frozen=True)
class _Copies:
    """How ranks hold parameters [1]."""

    group: Num
    """Ranks that share each of them."""
    others: Num
    """Such groups that hold the same."""
    sharers: Num
    """Ranks that share the optimizer's states."""
    stride: Num
    """Distance from a rank to that of the next group [device]."""


def _reduced(scenarios: Scenarios, of: str, size: Num, copies: _Copies) -> list[Task]:
    """All-reduce or reduce-scatter of so many parameters' gradients, and the all-gather of what was updated."""
    plans, stacks, links = scenarios.plans, scenarios.stacks, Resource.DATA_LINKS
    group, others, stride = copies.group, copies.others, copies.stride
    apart = np.where((np.asarray(others) > 1.0) & (np.asarray(size) > 0.0), 1.0, 0.0)
    sharded = np.where((np.asarray(copies.sharers) > 1.0) & (np.asarray(plans.parameter_group) <= 1.0), apart, 0.0)
    by_all = np.where(np.asarray(copies.sharers) >= others, sharded, 0.0)
    each = reductions_of_a_step(scenarios)
    behind = Hiding(share=1.0, line="gradients", behind=Phase.BACKWARD, reach=stacks.gradient_overlap, occasions=each)
    ahead = Hiding(share=1.0, line="updates", behind=Phase.FORWARD, reach=stacks.parameter_overlap)
    gradients, updated = size / group * plans.reduced_bytes, size / group * plans.element_bytes

    def reduction(kind: CollectiveKind, count: Num) -> Task:
        rate = stacks.reduction_efficiency
        name = f"gradients{of}"
        return _collective(name, kind, gradients, others, stride, each * count, links, hiding=behind, efficiency=rate)

    name = f"updated parameters{of}"
    return [
        reduction("all_reduce", apart - by_all),
        reduction("reduce_scatter", by_all),
        _collective(name, "all_gather", updated, copies.sharers, stride, sharded, links, hiding=ahead),
    ]


def reductions_of_a_step(scenarios: Scenarios) -> Num:
    """How often gradients are reduced in a step: once, or after every micro-batch.

    Replicas that share gradients hold no more than their own part, in a pipeline too: those of each micro-batch travel.
    """
    plans = scenarios.plans
    shares = (np.asarray(plans.gradient_group) > 1.0) & (np.asarray(plans.parameter_group) <= 1.0)
    each = (np.asarray(scenarios.stacks.reduces_each_micro_batch) > 0) | shares
    return np.where(each, plans.micro_batches, 1.0)


def _tensor_reductions(scenarios: Scenarios, partial: Num) -> list[Task]:
    """Sums over tensor-parallel ranks of gradients that each of them has a part of.

    Of parameters that ranks with their own tokens use alike (normalisations and biases), and of key and value
    projections that several ranks hold a copy of.
    """
    if not splits(scenarios):
        return []
    plans, links = scenarios.plans, Resource.TENSOR_LINKS
    copied, degree = _copied_projections(scenarios)
    shares = np.where((np.asarray(plans.tp) > 1.0) & (np.asarray(plans.sequence_parallel) > 0.0), 1.0, 0.0)
    width, stride = plans.reduced_bytes / plans.parameter_group, plans.tp_stride
    held = np.where(np.asarray(copied) > 0.0, 1.0, 0.0)
    return [
        _collective("gradients of shared tokens", "all_reduce", partial * width, plans.tp, stride, shares, links),
        _collective("gradients of copied heads", "all_reduce", copied * width, degree, stride, held, links),
    ]


def _copied_projections(scenarios: Scenarios) -> tuple[Num, Num]:
    """Parameters of a stage's key and value projections that ranks hold copies of, and how many hold one."""
    plans, tuning = scenarios.plans, scenarios.workloads.tuning
    copied: Num = 0.0
    degree: Num = 1.0
    for group in scenarios.models.layers:
        for part in (group.attention, group.cross_attention):
            if part is None:
                continue
            holders = np.maximum(plans.tp / np.asarray(part.key_value_heads), 1.0)
            each = parameters.linear(group.hidden_size, 2.0 * part.head_size, bias=part.qkv_bias)
            each = flagged(each, tuning.base) + tuning.rank * (tuning.key + tuning.value) * part.head_size
            copied = copied + np.where(holders > 1.0, each * group.count / plans.pp, 0.0)
            degree = np.maximum(degree, holders)
    return copied, degree


def _tied_embedding(scenarios: Scenarios, is_end: Num) -> list[Task]:
    """Sum of the gradients of an embedding that two stages share, the first and the last of a pipeline."""
    plans, models = scenarios.plans, scenarios.models
    if not np.any(np.asarray(plans.pp) > 1.0):
        return []
    table = np.ceil(np.asarray(models.vocabulary_size) / plans.tp) * models.embedding_size
    apart = plans.pp_stride * np.maximum(plans.pp - 1.0, 1.0)
    tied = flagged(words_at_both_ends(scenarios), scenarios.workloads.tuning.base)
    shared = is_end * np.where(np.asarray(plans.ends_together) > 0.0, 0.0, tied)
    size = table * plans.reduced_bytes
    name = "gradients of the tied embedding"
    return [_collective(name, "all_reduce", size, 2.0, apart, shared, Resource.PIPELINE_LINKS)]


def _update(program: Program, held: Held) -> list[Task]:
    """The optimizer on the device, or its states' way to the host and back, and the host's fixed work."""
    scenarios = program.scenarios
    plans, stacks = scenarios.plans, scenarios.stacks
    shaped = np.any(np.asarray(plans.orthogonal) > 0.0)
    trained = trained_on(program, held.share) if shaped else None
    of_experts = plans.sharing_experts(plans.optimizer_group)
    updated = held.dense / plans.optimizer_group + held.experts / of_experts
    moved = stacks.optimizer_passes * states.optimizer_traffic(
        updated,
        plans.state_bytes + plans.factored * 4.0,
        master_bytes=master_bytes(scenarios),
        gradient_bytes=plans.gradient_bytes,
        parameter_bytes=plans.parameter_bytes,
        sweeps=plans.gradient_sweeps,
    )
    if shaped or np.any(np.asarray(plans.unscaled_bytes) > 0.0):
        moved = moved + shaped_traffic(scenarios, trained, updated)
    kernels = stacks.optimizer_kernels * scenarios.models.layer_count / plans.pp
    if np.any(np.asarray(plans.in_backward) > 0.0):  # tensor by tensor
        each = np.maximum(kernels, tensors_of(program, held.share))
        kernels = np.where(np.asarray(plans.in_backward) > 0.0, each, kernels)
    offload = np.asarray(plans.offload)
    copied = moved + updated * (plans.gradient_bytes + plans.parameter_bytes)

    def task(name: str, part: Part, request: Request, resource: Resource, count: Num, kernels: Num = 0.0) -> Task:
        return Task(name, part, request, Phase.STEP, STEP, resource, count, kernels)

    on_device, on_host = Resource.DEVICE, Resource.HOST
    optimizer = Stream(kind=StreamKind.OPTIMIZER, moved_bytes=moved, kernels=kernels)
    return [
        task("optimizer", "optimizer", optimizer, on_device, 1.0 - offload, kernels * (1.0 - offload)),
        task("offloaded optimizer", "offload", HostCopy(moved_bytes=copied), on_host, offload),
        task("host work of a step", "step_overhead", HostWork(seconds=stacks.step_overhead), on_host, 1.0),
        *(newton_schulz(program, held.share) if shaped else ()),
    ]
