"""The program of a step and a backend make its time, broken down into parts that add up to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from simulator.formulas import pipeline
from simulator.formulas.collectives import exposed
from simulator.formulas.typing import Num
from simulator.pricing.backend import Backend
from simulator.pricing.requests import Collective
from simulator.work.exchanges import LAYERS, each_micro_batch
from simulator.work.hiding import Hiding, Phase
from simulator.work.once import on_fullest, once_a_step
from simulator.work.program import Block, Program
from simulator.work.tasks import PlaceKind, Resource, Task

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
    piped_together = first + last + (plans.pp - 2.0) * of_stages.mean.time
    together = np.where(np.asarray(plans.pp) > 1.0, np.maximum(piped_together, slowest), slowest)
    share = pipeline.idle_share(plans.virtual_stages, zero_bubble=plans.zero_bubble)
    piped = pipeline.step_time(slowest, together, micro_batches=plans.micro_batches, idle_share=share)
    once = _once(program, backend, of_stages)
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
    host: Num
    transfer: Num

    @property
    def time(self) -> Num:
        """Time of computing and transfer together [s], one entry per plan."""
        return self.together + self.transfer

    def waiting(self, waits: Num) -> Num:
        """The same where the device waits for links besides, while its host goes on [s]."""
        return _together(self.device + waits, self.host) + self.transfer


@dataclass(frozen=True)
class _Pipeline:
    """The stages of a pipeline: the fullest inside, the first and the last."""

    layers: Pass
    places: tuple[_PipelineStage, _PipelineStage, _PipelineStage]
    mean: _PipelineStage
    """One inside that has as many layers as they have in the mean."""

    def slowest(self, waits: Num) -> Num:
        """Time of the slowest stage where devices wait for links besides [s]."""
        middle, first, last = (stage.waiting(waits) for stage in self.places)
        return np.maximum(np.maximum(middle, first), last)


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
    at_first, fullest, at_last = (
        pipeline.stage_layers(
            models.layer_count, plans.pp, stage=stage, first=plans.first_stage_layers, last=plans.last_stage_layers
        )
        / even
        for stage in (0.0, 1.0, plans.pp - 1.0)
    )
    several = np.asarray(plans.pp) > 2.0
    mean = (plans.pp - at_first - at_last) / np.maximum(plans.pp - 2.0, 1.0)
    alone = np.where(np.asarray(plans.pp) > 1.0, 0.0, 1.0)
    return _Pipeline(
        layers,
        (
            _joined(((layers, np.where(several, fullest, 0.0)),), transfer),
            _joined(((layers, at_first), (first, 1.0), (last, alone)), transfer),
            _joined(((layers, at_last), (first, alone), (last, 1.0)), transfer),
        ),
        _joined(((layers, np.where(several, mean, 0.0)),), transfer),
    )


def _joined(held: tuple[tuple[Pass, Num], ...], transfer: Num) -> _PipelineStage:
    """Time of one micro-batch on a stage with its share of layers and perhaps the ends."""
    device = sum((number * part.device for part, number in held), start=np.float64(0.0))
    host = sum((number * part.host for part, number in held), start=np.float64(0.0))
    return _PipelineStage(held, _together(device, host), device, host, transfer)


def _together(device: Num, host: Num) -> Num:
    """Time of a device and the host that launches for it [s]."""
    joined: Num = np.maximum(slower(device, host), device)
    return joined


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
    """Time of tasks of one block for one micro-batch.

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
    timed = list(_timed(tasks, backend))
    sums = _Sums(broken_down=broken_down)
    for task, seconds in timed:
        open_ = seconds if not _in_line(task) else (1.0 - task.hiding.share) * seconds
        sums.add(task.phase, task.part, open_)
        sums.launched[task.phase] = sums.launched[task.phase] + task.kernels

    def beside(hiding: Hiding, phase: Phase) -> Num:
        wanted = (
            seconds
            for task, seconds in timed
            if task.phase is phase
            and task.resource is Resource.DEVICE
            and (hiding.parts is None or task.part in hiding.parts)
        )
        return sum(wanted, start=np.float64(0.0))

    passed: dict[Phase, Num] = {}
    for line in _lines(timed):
        # What hides behind all compute also runs beside what shows of other lines, so that no work covers two at once.
        more: Num = 0.0 if line.hiding.parts is not None else passed.get(line.behind, 0.0)
        shown = line.hiding.occasions * line.shown(beside(line.hiding, line.behind) + more)
        passed[line.phase] = passed.get(line.phase, 0.0) + shown
        sums.add(line.phase, line.part, shown)
    return sums.total(launch)


class _Sums:
    """Time and launches of each phase of a block [s], and the time of each part."""

    def __init__(self, *, broken_down: bool) -> None:
        passes = (Phase.FORWARD, Phase.BACKWARD, Phase.RECOMPUTE)
        self.time: dict[Phase, Num] = dict.fromkeys(passes, 0.0)
        self.launched: dict[Phase, Num] = dict.fromkeys(passes, 0.0)
        self.parts: dict[str, Num] | None = {} if broken_down else None

    def add(self, phase: Phase, part: str, seconds: Num) -> None:
        """Add time of a part in a phase; what is recomputed is a part of its own."""
        self.time[phase] = self.time[phase] + seconds
        if self.parts is not None:
            name = "recompute" if phase is Phase.RECOMPUTE else part
            self.parts[name] = self.parts.get(name, 0.0) + seconds

    def total(self, launch: Num) -> Pass:
        """Times of all phases [s]; the host starts what is recomputed as it starts the backward pass."""
        again = self.launched[Phase.BACKWARD] + self.launched[Phase.RECOMPUTE]
        host = launch * (self.launched[Phase.FORWARD] + BACKWARD_LAUNCH * again)
        back = self.time[Phase.BACKWARD] + self.time[Phase.RECOMPUTE]
        return Pass(self.time[Phase.FORWARD], back, host, self.parts)


def _timed(tasks: Iterable[Task], backend: Backend) -> Iterator[tuple[Task, Num]]:
    """Tasks, and the time of all their calls [s], what is hidden outright left out."""
    known: dict[int, Num] = {}
    for task in tasks:
        request = task.request
        if id(request) not in known:
            known[id(request)] = backend.time(request)
        time = _scaled(known[id(request)], task.count)
        if task.hiding.across is not None and isinstance(request, Collective):
            task = replace(task, hiding=_where_it_is(task.hiding, task.hiding.across, backend.leaves_node(request)))
        if not task.hiding.line:
            time = _scaled(time, 1.0 - task.hiding.share)
        yield task, time if _is_one(task.efficiency) else time / task.efficiency


def _where_it_is(hiding: Hiding, across: Num, leaves_node: Num) -> Hiding:
    """What covers a collective, by whether its ranks share a node."""
    apart = np.asarray(leaves_node) > 0.0
    return replace(hiding, share=np.where(apart, across, hiding.share), across=None) if np.any(apart) else hiding


def _scaled(time: Num, factor: Num) -> Num:
    """A multiple of a time; plain ones are not multiplied by."""
    return time if _is_one(factor) else factor * time


def _is_one(number: Num) -> bool:
    """Whether something is a plain 1."""
    return isinstance(number, float) and number == 1.0


def _in_line(task: Task) -> bool:
    """Whether some of a task may hide behind named work."""
    share = task.hiding.share
    return bool(task.hiding.line) and not (isinstance(share, float) and share == 0.0)


@dataclass(frozen=True)
class _Line:
    """Tasks of one place and phase that wait for each other and share the work that they may hide behind."""

    phase: Phase
    part: str
    hiding: Hiding
    taken: Num
    """Time of what may be hidden [s]."""

    @property
    def behind(self) -> Phase:
        """The pass whose compute covers it."""
        return self.hiding.behind or self.phase

    def shown(self, passing: Num) -> Num:
        """What work of so long a pass leaves of one occasion [s]."""
        return exposed(self.taken / self.hiding.occasions, self.hiding.reach * passing)


def _lines(timed: Iterable[tuple[Task, Num]]) -> list[_Line]:
    """What may hide behind named work, line by line; lines behind all compute last."""
    lines: dict[tuple[Phase, str], list[tuple[Task, Num]]] = {}
    for task, seconds in timed:
        if _in_line(task):
            lines.setdefault((task.phase, task.hiding.line), []).append((task, seconds))
    joined = []
    for (phase, _), line in lines.items():
        first = line[0][0]
        taken = sum((_scaled(seconds, task.hiding.share) for task, seconds in line), start=np.float64(0.0))
        joined.append(_Line(phase, first.part, first.hiding, taken))
    return sorted(joined, key=lambda line: line.hiding.parts is None)


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
    own = pass_of((task for task in beside if not _in_line(task)), backend, stacks.launch)
    backward = backward + own.backward
    return _with_covered(Pass(forward, backward, host, parts | (own.parts or {})), beside, backend)


def _with_covered(one: Pass, beside: Iterable[Task], backend: Backend) -> Pass:
    """A pass with the exposed time of the tasks that hide behind all of it."""
    covered = list(_timed((task for task in beside if _in_line(task)), backend))
    if not covered:
        return one
    by_phase = {Phase.FORWARD: one.forward, Phase.BACKWARD: one.backward}
    added: dict[Phase, Num] = {Phase.FORWARD: 0.0, Phase.BACKWARD: 0.0}
    parts = dict(one.parts or {})
    for line in _lines(covered):
        time = line.hiding.occasions * line.shown(by_phase[line.behind])
        added[line.phase] = added[line.phase] + time
        parts[line.part] = parts.get(line.part, 0.0) + time
    return Pass(one.forward + added[Phase.FORWARD], one.backward + added[Phase.BACKWARD], one.host, parts)


def _end(block: Block, beside: Iterable[Task], program: Program, backend: Backend, *, broken_down: bool) -> Pass:
    """Embedding or head of a stage, with the gather and the scatter of its parameters where they are sharded."""
    one = pass_of(block.tasks, backend, program.scenarios.stacks.launch, broken_down=broken_down)
    return _with_covered(one, [task for task in beside if task.place == block.place], backend)


def _transfers(beside: Iterable[Task], backend: Backend) -> Num:
    """Exposed time of what a stage sends and receives for one micro-batch.

    A stage waits for what it receives as for what it sends, so that an end counts like a stage between two others.
    """
    borders = (PlaceKind.STAGE, PlaceKind.NEXT, PlaceKind.PREVIOUS)
    sent = _timed((task for task in beside if task.place.kind in borders), backend)
    return sum((seconds for _, seconds in sent), start=np.float64(0.0))


def _once(program: Program, backend: Backend, stages: _Pipeline) -> dict[str, Num]:
    """What happens once a step on the stage that holds most, part by part.

    What is not hidden holds up the device, not its host: where a micro-batch takes as long as its launches, the device
    has time to wait for links.
    """
    launch = program.scenarios.stacks.launch
    by_phase = {Phase.FORWARD: stages.layers.forward, Phase.BACKWARD: stages.layers.backward}
    parts: dict[str, Num] = {"gradient_reduction": 0.0}
    timed = list(_timed(once_a_step(program, on_fullest(program)), backend))
    for task, seconds in timed:
        if not _in_line(task):
            time = np.maximum(seconds, launch * task.kernels) if task.resource is Resource.DEVICE else seconds
            parts[task.part] = parts.get(task.part, 0.0) + time
    waits: Num = 0.0
    before = stages.slowest(0.0)
    for line in _lines(timed):
        waits = waits + line.shown(by_phase[line.behind])
        held_up = stages.slowest(waits)
        parts[line.part] = parts.get(line.part, 0.0) + line.hiding.occasions * (held_up - before)
        before = held_up
    return parts
