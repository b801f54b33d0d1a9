"""The program of a step and a backend make its time, broken down into parts that add up to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from simulator.formulas import pipeline
from simulator.formulas.overlap import exposed
from simulator.formulas.typing import Num
from simulator.pricing.backend import Backend
from simulator.work.exchanges import LAYERS, each_micro_batch
from simulator.work.once import on_fullest, once_a_step
from simulator.work.program import Block, Program
from simulator.work.tasks import Hiding, Phase, PlaceKind, Resource, Task

BACKWARD_LAUNCH = 0.55
"""Host time of a kernel of the backward pass over one of the forward pass, which Python drives."""


@dataclass(frozen=True)
class Step:
    """Time of a step, and of its parts, which add up to it [s]."""

    time: Num
    parts: dict[str, Num]


@dataclass(frozen=True)
class Pass:
    """One micro-batch through all layers of a stage, or through its embedding or head [s]."""

    forward: Num = 0.0
    backward: Num = 0.0
    """With what is recomputed."""
    host: Num = 0.0
    """Time of the launches on the host."""
    parts: dict[str, Num] | None = None

    @property
    def device(self) -> Num:
        """Time on the device."""
        return self.forward + self.backward


def step_time(program: Program, backend: Backend, *, broken_down: bool = True) -> Step:
    """Time of one optimizer step.

    Parameters
    ----------
    program
        What `simulator.work.program.program_of` says of the scenarios.
    backend
        Says how long requests take.
    broken_down
        Whether the parts are wanted; a search over many plans does without them.

    Returns
    -------
    Step
        Its time [s], which broadcasts over the scenarios, and its parts: those of the compute on the slowest stage for
        all micro-batches, what it waits for, and what happens once a step.
    """
    plans = program.scenarios.plans
    of_stages = _stages(program, backend, broken_down=broken_down)
    middle, first, last = (stage.time for stage in of_stages.places)
    slowest = np.maximum(np.maximum(middle, first), last)
    piped_together = first + last + (plans.pp - 2.0) * middle
    together = np.where(np.asarray(plans.pp) > 1.0, np.maximum(piped_together, slowest), slowest)
    share = pipeline.idle_share(plans.virtual_stages, zero_bubble=plans.zero_bubble)
    piped = pipeline.step_time(slowest, together, micro_batches=plans.micro_batches, idle_share=share)
    once = _once(program, backend, of_stages.layers)
    time = piped + sum(once.values(), start=np.float64(0.0))
    if not broken_down:
        return Step(time, {})
    bubble = {"pipeline_bubble": piped - plans.micro_batches * slowest}
    return Step(time, _parts(of_stages, slowest, plans.micro_batches) | bubble | once)


@dataclass(frozen=True)
class _PipelineStage:
    """One micro-batch on one stage of the pipeline [s]."""

    held: tuple[tuple[Pass, Num], ...]
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
class _Pipeline:
    """The stages of a pipeline: one inside, the first and the last."""

    layers: Pass
    places: tuple[_PipelineStage, _PipelineStage, _PipelineStage]


def _stages(program: Program, backend: Backend, *, broken_down: bool) -> _Pipeline:
    """Time of one micro-batch on each kind of stage."""
    plans, models = program.scenarios.plans, program.scenarios.models
    beside = each_micro_batch(program)
    layers = _layers(program, [task for task in beside if task.place == LAYERS], backend, broken_down=broken_down)
    first, last = (
        _end(block, beside, program, backend, broken_down=broken_down) for block in (program.embedding, program.head)
    )
    transfer = _transfers(beside, backend)
    even = models.layer_count / plans.pp
    inside = pipeline.inner_layers(models.layer_count, plans.pp) / even
    at_ends = pipeline.end_layers(models.layer_count, plans.pp) / even
    alone = np.where(np.asarray(plans.pp) > 1.0, 0.0, 1.0)
    between = np.where(np.asarray(plans.pp) > 2.0, inside, 0.0)
    return _Pipeline(
        layers,
        (
            _joined(((layers, between),), transfer),
            _joined(((layers, at_ends), (first, 1.0), (last, alone)), transfer),
            _joined(((layers, at_ends), (first, alone), (last, 1.0)), transfer),
        ),
    )


def _joined(held: tuple[tuple[Pass, Num], ...], transfer: Num) -> _PipelineStage:
    """Time of one micro-batch on a stage with its share of layers and perhaps the ends."""
    device = sum((number * part.device for part, number in held), start=np.float64(0.0))
    host = sum((number * part.host for part, number in held), start=np.float64(0.0))
    return _PipelineStage(held, np.maximum(slower(device, host), device), device, transfer)


def slower(device: Num, host: Num) -> Num:
    """The larger of two times with a soft corner: their norm of order 4 [s]."""
    norm: Num = np.sqrt(np.sqrt(np.square(np.square(device)) + np.square(np.square(host))))
    return norm


def _parts(stages: _Pipeline, slowest: Num, micro_batches: Num) -> dict[str, Num]:
    """What the slowest stage does for all micro-batches, part by part."""
    parts: dict[str, Num] = {}
    taken: Num = 0.0
    for stage in reversed(stages.places):
        chosen = np.where(stage.time >= slowest, 1.0 - taken, 0.0)
        taken = taken + chosen
        each = [("host", stage.together - stage.device), ("pipeline_transfer", stage.transfer)]
        each += [(name, number * value) for part, number in stage.held for name, value in (part.parts or {}).items()]
        for name, value in each:
            parts[name] = parts.get(name, 0.0) + chosen * value * micro_batches
    return parts


def pass_of(tasks: Iterable[Task], backend: Backend, launch: Num, *, broken_down: bool = True) -> Pass:
    """Time of tasks of one block for one micro-batch, of those that no named work covers.

    Parameters
    ----------
    tasks
        Of one block.
    backend
        Says how long requests take; each is asked once, however many tasks share it.
    launch
        Host time of one launch of the forward pass [s].
    broken_down
        Whether the parts are wanted.
    """
    known: dict[int, Num] = {}
    sums: dict[Phase, Num] = {Phase.FORWARD: 0.0, Phase.BACKWARD: 0.0, Phase.RECOMPUTE: 0.0}
    launched = dict(sums)
    parts: dict[str, Num] = {}
    for task in tasks:
        request = task.request
        if id(request) not in known:
            known[id(request)] = backend.time(request)
        seconds = _times(known[id(request)], task)
        sums[task.phase] = sums[task.phase] + seconds
        launched[task.phase] = launched[task.phase] + task.kernels
        if broken_down:
            part = "recompute" if task.phase is Phase.RECOMPUTE else task.part
            parts[part] = parts.get(part, 0.0) + seconds
    again = launched[Phase.BACKWARD] + launched[Phase.RECOMPUTE]
    return Pass(
        sums[Phase.FORWARD],
        sums[Phase.BACKWARD] + sums[Phase.RECOMPUTE],
        launch * (launched[Phase.FORWARD] + BACKWARD_LAUNCH * again),
        parts,
    )


def _times(one: Num, task: Task) -> Num:
    """Time of all calls of a task, as far as no share of its own is hidden; ones and zeros are not multiplied by."""
    time = one
    for factor in (task.count, 1.0 - task.hiding.own):
        if not (isinstance(factor, float) and factor == 1.0):
            time = factor * time
    if isinstance(task.efficiency, float) and task.efficiency == 1.0:
        return time
    return time / task.efficiency


def _layers(program: Program, beside: Iterable[Task], backend: Backend, *, broken_down: bool) -> Pass:
    """All layers of one stage of equal share, with what every micro-batch does to their parameters."""
    plans, stacks = program.scenarios.plans, program.scenarios.stacks
    forward: Num = 0.0
    backward: Num = 0.0
    host: Num = 0.0
    parts: dict[str, Num] = {}
    for group in program.groups:
        one = pass_of(group.tasks, backend, stacks.launch, broken_down=broken_down)
        share = group.number / plans.pp
        forward = forward + share * one.forward
        backward = backward + share * one.backward
        host = host + share * one.host
        for name, value in (one.parts or {}).items():
            parts[name] = parts.get(name, 0.0) + share * value
    own = pass_of((task for task in beside if task.hiding.behind is None), backend, stacks.launch)
    backward = backward + own.backward
    return _with_covered(Pass(forward, backward, host, parts | (own.parts or {})), beside, backend)


def _with_covered(one: Pass, beside: Iterable[Task], backend: Backend) -> Pass:
    """A pass with the exposed time of the tasks that hide behind it."""
    covered = [task for task in beside if task.hiding.behind is not None]
    if not covered:
        return one
    by_phase = {Phase.FORWARD: one.forward, Phase.BACKWARD: one.backward}
    shown: dict[Phase, Num] = {Phase.FORWARD: 0.0, Phase.BACKWARD: 0.0}
    parts = dict(one.parts or {})
    for part, hiding, tasks in _in_line(covered):
        phase = hiding.behind or Phase.FORWARD
        time = _exposed(hiding, tasks, backend, by_phase[phase])
        shown[phase] = shown[phase] + time
        parts[part] = parts.get(part, 0.0) + time
    return Pass(one.forward + shown[Phase.FORWARD], one.backward + shown[Phase.BACKWARD], one.host, parts)


def _in_line(tasks: Iterable[Task]) -> Iterator[tuple[str, Hiding, list[Task]]]:
    """Tasks that hide together: those of one `Hiding`."""
    lines: dict[int, list[Task]] = {}
    for task in tasks:
        lines.setdefault(id(task.hiding), []).append(task)
    for line in lines.values():
        yield line[0].part, line[0].hiding, line


def _exposed(hiding: Hiding, tasks: Iterable[Task], backend: Backend, beside: Num) -> Num:
    """What the work beside them leaves of the time of tasks that wait in line."""
    alone = sum((_times(backend.time(task.request), task) for task in tasks), start=np.float64(0.0))
    return hiding.occasions * exposed(alone / hiding.occasions, hiding.reach * beside)


def _end(block: Block, beside: Iterable[Task], program: Program, backend: Backend, *, broken_down: bool) -> Pass:
    """Embedding or head of a stage, with the gather and the scatter of its parameters where they are sharded."""
    one = pass_of(block.tasks, backend, program.scenarios.stacks.launch, broken_down=broken_down)
    return _with_covered(one, [task for task in beside if task.place == block.place], backend)


def _transfers(beside: Iterable[Task], backend: Backend) -> Num:
    """Exposed time of what a stage sends and receives for one micro-batch.

    A stage waits for what it receives as for what it sends, so that an end counts like a stage between two others.
    """
    borders = (PlaceKind.STAGE, PlaceKind.NEXT, PlaceKind.PREVIOUS)
    sent = [task for task in beside if task.place.kind in borders]
    known = {id(task.request): backend.time(task.request) for task in sent}
    return sum((_times(known[id(task.request)], task) for task in sent), start=np.float64(0.0))


def _once(program: Program, backend: Backend, layers: Pass) -> dict[str, Num]:
    """What happens once a step on the stage that holds most, part by part."""
    tasks = once_a_step(program, on_fullest(program))
    launch = program.scenarios.stacks.launch
    by_phase = {Phase.FORWARD: layers.forward, Phase.BACKWARD: layers.backward}
    parts: dict[str, Num] = {"gradient_reduction": 0.0}
    for task in tasks:
        if task.hiding.behind is None:
            time = _times(backend.time(task.request), task)
            if task.resource is Resource.DEVICE:
                time = np.maximum(time, launch * task.kernels)
            parts[task.part] = parts.get(task.part, 0.0) + time
    for part, hiding, line in _in_line(task for task in tasks if task.hiding.behind is not None):
        beside = by_phase[hiding.behind or Phase.FORWARD]
        parts[part] = parts.get(part, 0.0) + _exposed(hiding, line, backend, beside)
    return parts
