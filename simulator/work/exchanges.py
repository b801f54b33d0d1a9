"""Tasks of each micro-batch beside the layers' own: sharded parameters, sums of gradients, transfers between stages.

What happens once a step is in `simulator.work.once`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from simulator.formulas.typing import Num
from simulator.pricing.requests import Collective, Request, Send, Stream, StreamKind
from simulator.work.operators import flagged
from simulator.work.program import EMBEDDING, HEAD, Program
from simulator.work.tasks import Hiding, Phase, PlaceKind, Resource, Task, TaskPlace
from simulator.work.transformer import Scenarios, tokens_of

LAYERS, STAGE = TaskPlace(PlaceKind.LAYERS), TaskPlace(PlaceKind.STAGE)
_NEXT, _PREVIOUS = TaskPlace(PlaceKind.NEXT), TaskPlace(PlaceKind.PREVIOUS)
_GRADIENT_SUMS = 2.0
"""Times that gradients cross the memory bus when a micro-batch adds to them: read and written."""


def each_micro_batch(program: Program) -> tuple[Task, ...]:
    """Tasks of a stage for one micro-batch beside those of its blocks."""
    return (*_of_layers(program), *_of_ends(program), *_transfers(program.scenarios))


def beside_frozen(frozen: Program) -> tuple[Task, ...]:
    """Those of a frozen model's forward pass: gathers of shared parameters, transfers between stages."""
    return tuple(task for task in each_micro_batch(frozen) if task.phase is Phase.FORWARD)


def _of_layers(program: Program) -> list[Task]:
    """What every micro-batch does to the parameters of a stage's layers."""
    plans, held = program.scenarios.plans, program.layers
    group = plans.parameter_group
    of_experts = plans.sharing_experts(group)
    summed = held.trained_parameters / group + held.trained_expert_parameters / of_experts
    # Experts that the same ranks share are gathered with the rest of their layer.
    together = np.where(np.asarray(of_experts) == group, 1.0, 0.0)
    element, reduced, stride = plans.element_bytes, plans.reduced_bytes, plans.replica_stride
    gathered, of_gathered = held.gathered_bytes(element), held.gathered_expert_bytes(element)
    scattered, of_scattered = held.trained_parameters * reduced, held.trained_expert_parameters * reduced
    dense = gathered + together * of_gathered, scattered + together * of_scattered
    apart = (1.0 - together) * of_gathered, (1.0 - together) * of_scattered
    return [
        _gradient_sums(program.scenarios, summed),
        *_layer_shards(program.scenarios, "a layer", *dense, group, stride),
        *_layer_shards(program.scenarios, "experts", *apart, of_experts, plans.expert_replica_stride),
    ]


def _gradient_sums(scenarios: Scenarios, held: Num) -> Task:
    """Adding the gradients of a micro-batch to those before it, and casting parameters that are kept in fp32.

    `held` are the trained parameters of all layers, divided by the ranks that share them.
    """
    plans, eager = scenarios.plans, scenarios.stacks.eager
    adds = np.where(np.asarray(plans.micro_batches) > 1.0, plans.gradient_bytes * _GRADIENT_SUMS, 0.0) * eager
    casts = np.where(
        np.asarray(plans.parameter_bytes) > plans.element_bytes,
        2.0 * (plans.parameter_bytes + plans.element_bytes),
        0.0,
    )
    moved = held / plans.pp * (adds + casts)
    return Task(
        name="sums of gradients",
        part="gradient_accumulation",
        request=Stream(kind=StreamKind.GRADIENT_SUMS, moved_bytes=moved, kernels=0.0),
        phase=Phase.BACKWARD,
        place=LAYERS,
        resource=Resource.DEVICE,
    )


def _layer_shards(
    scenarios: Scenarios, where: str, gathered: Num, scattered: Num, group: Num, stride: Num
) -> list[Task]:
    """Gathers of the layers' sharded parameters and scatters of their gradients.

    The gather of one layer hides behind the compute of the one before it. Layers that share their parameters gather all
    of them each time, and scatter them once, told as a part for each. `gathered` and `scattered` are bytes of
    all layers.
    """
    if not np.any((np.asarray(group) > 1.0) & (np.asarray(gathered) > 0.0)):
        return []
    plans, stacks, models = scenarios.plans, scenarios.stacks, scenarios.models
    number = models.layer_count
    size = gathered / np.where(np.asarray(models.shared_layers) > 0, 1.0, number)
    on_stage = number / plans.pp
    sharded = on_stage * _sharded(group, size)
    reach = stacks.parameter_overlap / on_stage
    hiding = Hiding(share=1.0, line="shards", reach=reach, occasions=on_stage)
    gather, scatter = _gather(size, group, stride), _scatter(scattered / number, group, stride)
    again = sharded * flagged(stacks.gathers_each_pass, scenarios.workloads.tuning.flows)
    back = on_stage * _sharded(group, scattered)
    return [
        _shard(f"parameters of {where}", gather, Phase.FORWARD, LAYERS, sharded, hiding),
        _shard(f"parameters of {where}", gather, Phase.BACKWARD, LAYERS, again, hiding),
        _shard(f"gradients of {where}", scatter, Phase.BACKWARD, LAYERS, back, hiding),
    ]


def _of_ends(program: Program) -> list[Task]:
    """Collectives of shards of embedding and head, which stay gathered from their forward to their backward pass."""
    scenarios, plans = program.scenarios, program.scenarios.plans
    if not np.any(np.asarray(plans.parameter_group) > 1.0):
        return []
    overlap, group, stride = scenarios.stacks.parameter_overlap, plans.parameter_group, plans.replica_stride
    hiding = Hiding(share=1.0, line="shards", reach=overlap)
    tasks = []
    held, trained = _end_parameters(program, "parameters"), _end_parameters(program, "trained_parameters")
    for place, size, own in zip((EMBEDDING, HEAD), held, trained, strict=True):
        gather = _gather(size * plans.element_bytes, group, stride)
        scatter = _scatter(own * plans.reduced_bytes, group, stride)
        ahead, back = _sharded(group, size), _sharded(group, own)
        tasks += [
            _shard("parameters of embedding or head", gather, Phase.FORWARD, place, ahead, hiding),
            _shard("gradients of embedding or head", scatter, Phase.BACKWARD, place, back, hiding),
        ]
    return tasks


def _end_parameters(program: Program, kind: Literal["parameters", "trained_parameters"]) -> tuple[Num, Num]:
    """Parameters that go with the embedding and with the head; those of a tied head at once with it."""
    models, of_head = program.scenarios.models, getattr(program.head.tally, kind)
    together = models.tied_head * models.vocabulary_head * program.scenarios.plans.ends_together
    return getattr(program.embedding.tally, kind) + together * of_head, (1.0 - together) * of_head


def _sharded(group: Num, size: Num) -> Num:
    """1 where there are parameters that ranks share, else 0."""
    return np.where((np.asarray(group) > 1.0) & (np.asarray(size) > 0.0), 1.0, 0.0)


def _gather(message: Num, group: Num, stride: Num) -> Collective:
    """Of so many bytes of parameters [B]."""
    return Collective(kind="all_gather", message_bytes=message, degree=group, stride=stride)


def _scatter(message: Num, group: Num, stride: Num) -> Collective:
    """Of so many bytes of gradients [B]."""
    return Collective(kind="reduce_scatter", message_bytes=message, degree=group, stride=stride)


def _shard(name: str, request: Request, phase: Phase, place: TaskPlace, count: Num, hiding: Hiding) -> Task:
    """The task of one collective of shards; `count` is how often it is called in its phase."""
    return Task(
        name=name,
        part="parameter_gather",
        request=request,
        phase=phase,
        place=place,
        resource=Resource.DATA_LINKS,
        count=count,
        hiding=hiding,
    )


def _transfers(scenarios: Scenarios) -> list[Task]:
    """Activations of one micro-batch to the next stage, and their gradients back, for each chunk of layers."""
    plans, stacks = scenarios.plans, scenarios.stacks
    if not np.any(np.asarray(plans.pp) > 1.0):
        return []
    longest = np.maximum(scenarios.workloads.sequence_length, scenarios.workloads.target_length)
    message = tokens_of(scenarios, longest).all / plans.tp * scenarios.models.hidden_size * plans.element_bytes
    request = Send(message_bytes=message, degree=plans.pp, stride=plans.pp_stride)
    piped = np.where(np.asarray(plans.pp) > 1.0, 1.0, 0.0)
    within, flows = piped * (plans.virtual_stages - 1.0), scenarios.workloads.tuning.flows
    hiding = Hiding(share=stacks.pipeline_overlap)

    def transfer(name: str, phase: Phase, place: TaskPlace, count: Num) -> Task:
        return Task(
            name=name,
            part="pipeline_transfer",
            request=request,
            phase=phase,
            place=place,
            resource=Resource.PIPELINE_LINKS,
            count=count,
            hiding=hiding,
        )

    return [
        transfer("activations between stages", Phase.FORWARD, STAGE, within),
        transfer("activations between stages", Phase.FORWARD, _NEXT, piped),
        transfer("gradients between stages", Phase.BACKWARD, STAGE, flagged(within, flows)),
        transfer("gradients between stages", Phase.BACKWARD, _PREVIOUS, flagged(piped, flows)),
    ]
