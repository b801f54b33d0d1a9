"""The program of a step and a backend make its time, broken down into parts that add up to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from simulator.formulas import pipeline
from simulator.formulas.typing import Num
from simulator.pricing.backend import Backend
from simulator.specs.plans import Plans
from simulator.step.filling import Filling
from simulator.step.passes import Pass, in_line, lines_of, pass_of, timed_tasks, together
from simulator.work.exchanges import LAYERS, beside_frozen, each_micro_batch
from simulator.work.frozen import part_of
from simulator.work.hiding import Phase
from simulator.work.once import on_fullest, once_a_step
from simulator.work.program import Program
from simulator.work.tasks import PlaceKind, Resource, Task


@dataclass(frozen=True)
class Step:
    """Time of a step, and of its parts, which add up to it [s]."""

    time: Num
    parts: dict[str, Num]


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
    busiest = _busiest(of_stages, slowest, plans)
    piped_together = first + last + (plans.pp - 2.0) * of_stages.mean.time
    of_all = np.where(np.asarray(plans.pp) > 1.0, np.maximum(piped_together, busiest), busiest)
    filling = Filling.of(program, of_stages.layers, of_all - busiest)
    piped = filling.step_time(busiest, of_all, (middle, first, last))
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

    @property
    def forward_time(self) -> Num:
        """Of it the forward pass, with half of the transfers [s]."""
        share = self._summed("forward") / np.maximum(self.device, np.finfo(float).tiny)
        return self.together * share + self.transfer / 2.0

    def idle_backward(self, waits: Num, time: Num) -> Num:
        """Time that the device waits for its host in the backward pass, where it waits for links ahead of it [s].

        Both passes share the wait of the whole, which takes `time`, as each would wait alone.
        """
        device = self._summed("backward")
        host = self._summed("host_backward")
        before = self.device - device + waits
        ahead = together(before, self.host - host) - before
        back = together(device, host) - device
        whole = np.maximum(ahead + back, np.finfo(float).tiny)
        return (time - self.transfer - self.device - waits) * (back / whole)

    def _summed(self, name: str) -> Num:
        """One of the times of all that the stage holds [s]."""
        return sum((number * getattr(part, name) for part, number in self.held), start=np.float64(0.0))

    def waiting(self, waits: Num) -> Num:
        """The same where the device waits for links besides, while its host goes on [s]."""
        if isinstance(waits, float) and waits == 0.0:
            return self.time
        return together(self.device + waits, self.host) + self.transfer


@dataclass(frozen=True)
class _Pipeline:
    """The stages of a pipeline: the fullest inside, the first and the last."""

    layers: Pass
    places: tuple[_PipelineStage, _PipelineStage, _PipelineStage]
    mean: _PipelineStage
    """One inside that has as many layers as they have in the mean."""

    def waiting(self, waits: Num) -> tuple[Num, Num, Num]:
        """Time of each stage where devices wait for links besides [s]."""
        middle, first, last = (stage.waiting(waits) for stage in self.places)
        return middle, first, last

    def idle_backward(self, waits: Num, times: tuple[Num, Num, Num]) -> Num:
        """Time that the device of the slowest stage waits for its host in the backward pass [s].

        All wait for links so long besides, ahead of the forward pass, and take these `times`.
        """
        longest, idle = times[0], self.places[0].idle_backward(waits, times[0])
        for stage, time in zip(self.places[1:], times[1:], strict=True):
            idle = np.where(time >= longest, stage.idle_backward(waits, time), idle)
            longest = np.maximum(time, longest)
        return idle


def _longest(times: tuple[Num, Num, Num]) -> Num:
    """The longest of three times [s]."""
    return np.maximum(np.maximum(times[0], times[1]), times[2])


def _stages(program: Program, backend: Backend, *, broken_down: bool) -> _Pipeline:
    """Time of one micro-batch on each kind of stage."""
    plans, models = program.scenarios.plans, program.scenarios.models
    beside = each_micro_batch(program)
    layers = _layers(program, [task for task in beside if task.place == LAYERS], backend, broken_down=broken_down)
    first, last = _ends(program, beside, layers, backend, broken_down=broken_down)
    transfer = _transfers(beside, backend)
    frozen = _frozen(program, backend)
    transfer = transfer + frozen.transfer
    # The first stage receives no activations for its first chunk, the last no gradients for its last; in the shape of
    # a V the first has both ends, and the last turns what it has made around.
    at_end = transfer * (1.0 - (0.5 + 0.5 * np.asarray(plans.v_shaped)) / np.asarray(plans.virtual_stages))
    even = models.layer_count / plans.pp
    at_first, fullest, at_last = (
        pipeline.stage_layers(models.layer_count, plans.pp, stage=stage, **plans.ends) / even
        for stage in (0.0, 1.0, plans.pp - 1.0)
    )
    several = np.asarray(plans.pp) > 2.0
    inside = np.where(several, 1.0, 0.0)
    mean = (plans.pp - at_first - at_last) / np.maximum(plans.pp - 2.0, 1.0)
    alone = np.where(np.asarray(plans.pp) > 1.0, 0.0, 1.0)
    both, apart = plans.ends_together, 1.0 - plans.ends_together * (1.0 - alone)
    return _Pipeline(
        layers,
        (
            _joined(((layers, np.where(several, fullest, 0.0)), *frozen.on(inside, 0.0, 0.0)), transfer),
            _joined(((layers, at_first), (first, 1.0), (last, both), *frozen.on(1.0, 1.0, both)), at_end),
            _joined(((layers, at_last), (first, alone), (last, apart), *frozen.on(1.0, alone, apart)), at_end),
        ),
        _joined(((layers, np.where(several, mean, 0.0)), *frozen.on(inside, 0.0, 0.0)), transfer),
    )


def _busiest(stages: _Pipeline, slowest: Num, plans: Plans) -> Num:
    """Time of a micro-batch on the slowest stage [s].

    Where every forward pass comes before a backward pass, all wait for the stage that is slowest in each of the two;
    with several chunks of layers, for the one that is slowest in each chunk: both ends of the model.
    """
    all_at_once = (np.asarray(plans.all_at_once) > 0.0) & (np.asarray(plans.pp) > 1.0)
    if not np.any(all_at_once):
        return slowest
    forward = [stage.forward_time for stage in stages.places]
    backward = [stage.time - ahead for stage, ahead in zip(stages.places, forward, strict=True)]
    ahead, back = _of_chunks(forward, plans), _of_chunks(backward, plans)
    return np.where(all_at_once, ahead + back, slowest)


def _of_chunks(times: Sequence[Num], plans: Plans) -> Num:
    """The longest time of stages inside, the first and the last, or what their chunks wait for in turn [s]."""
    middle, first, last = times
    longest = np.maximum(np.maximum(middle, first), last)
    least = np.where(np.asarray(plans.pp) > 2.0, middle, np.minimum(first, last))
    return np.where(np.asarray(plans.virtual_stages) > 1.0, np.maximum(longest, first + last - least), longest)


@dataclass(frozen=True)
class _Frozen:
    """One micro-batch forward through a model beside the trained one, on stages with an even share of its layers."""

    blocks: tuple[Pass, ...] = ()
    """Layers, embedding and head; nothing where there is no such model."""
    transfer: Num = 0.0

    def on(self, layers: Num, first: Num, last: Num) -> tuple[tuple[Pass, Num], ...]:
        """What a stage has of it."""
        return tuple(zip(self.blocks, (layers, first, last), strict=False))


def _frozen(program: Program, backend: Backend) -> _Frozen:
    """The forward pass of the model beside the trained one, all of it one part of the step."""
    frozen, model = program.frozen, program.scenarios.workloads.frozen
    if frozen is None or model is None:
        return _Frozen()
    beside = beside_frozen(frozen)
    blocks = [_layers(frozen, [task for task in beside if task.place == LAYERS], backend, broken_down=False)]
    blocks += _ends(frozen, beside, blocks[0], backend, broken_down=False)
    part = part_of(model)
    named = tuple(replace(block, parts={part: block.device}) for block in blocks)
    return _Frozen(named, _transfers(beside, backend))


def _joined(held: tuple[tuple[Pass, Num], ...], transfer: Num) -> _PipelineStage:
    """Time of one micro-batch on a stage with its share of layers and perhaps the ends."""
    device = sum((number * part.device for part, number in held), start=np.float64(0.0))
    host = sum((number * part.host for part, number in held), start=np.float64(0.0))
    return _PipelineStage(held, together(device, host), device, host, transfer)


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


def _layers(program: Program, beside: Iterable[Task], backend: Backend, *, broken_down: bool) -> Pass:
    """All layers of one stage of equal share, with what every micro-batch does to their parameters."""
    plans, stacks = program.scenarios.plans, program.scenarios.stacks
    each = [pass_of(group.tasks, backend, stacks.launch, broken_down=broken_down) for group in program.groups]
    shares = [group.number / plans.pp for group in program.groups]
    own = pass_of((task for task in beside if not in_line(task)), backend, stacks.launch)
    parts = dict(own.parts or {})
    for one, share in zip(each, shares, strict=True):
        for name, value in (one.parts or {}).items():
            parts[name] = parts.get(name, 0.0) + share * value

    def of(name: str) -> Num:
        return sum((share * getattr(one, name) for one, share in zip(each, shares, strict=True)), start=np.float64(0.0))

    # Sums of gradients follow the products that make them.
    backward, of_weights = of("backward") + own.backward, of("of_weights") + own.backward
    whole = Pass(of("forward"), backward, of("host"), parts, of_weights, of("host_backward"))
    on_stage = program.scenarios.models.layer_count / plans.pp
    works = [
        (share / on_stage, _Beside(on_stage * one.forward, on_stage * one.backward + own.backward))
        for one, share in zip(each, shares, strict=True)
    ]
    return _with_covered(whole, beside, backend, works)


@dataclass(frozen=True)
class _Beside:
    """Compute that covers what each pass gathers and scatters [s]."""

    forward: Num
    backward: Num

    def of(self, phase: Phase) -> Num:
        """That of one pass."""
        return self.forward if phase is Phase.FORWARD else self.backward


def _with_covered(one: Pass, beside: Iterable[Task], backend: Backend, works: Sequence[tuple[Num, _Beside]]) -> Pass:
    """A pass with the exposed time of the tasks that hide behind some work: each kind of it covers a share of them."""
    covered = list(timed_tasks((task for task in beside if in_line(task)), backend))
    if not covered:
        return one
    added: dict[Phase, Num] = {Phase.FORWARD: 0.0, Phase.BACKWARD: 0.0}
    parts = dict(one.parts or {})
    for line in lines_of(covered):
        shown = (share * line.shown(work.of(line.behind)) for share, work in works)
        time = line.hiding.occasions * sum(shown, start=np.float64(0.0))
        added[line.phase] = added[line.phase] + time
        parts[line.part] = parts.get(line.part, 0.0) + time
    return replace(
        one, forward=one.forward + added[Phase.FORWARD], backward=one.backward + added[Phase.BACKWARD], parts=parts
    )


def _ends(
    program: Program, beside: Sequence[Task], layers: Pass, backend: Backend, *, broken_down: bool
) -> tuple[Pass, Pass]:
    """Embedding and head of a stage, with gathers and scatters of their parameters where these are sharded.

    The embedding is gathered first, beside the micro-batch before where there is one, and its gradients are scattered
    last; those of the head go beside the layer before it and behind it.
    """
    plans, launch = program.scenarios.plans, program.scenarios.stacks.launch
    first, last = (
        pass_of(block.tasks, backend, launch, broken_down=broken_down) for block in (program.embedding, program.head)
    )
    follows = np.where(np.asarray(plans.micro_batches) > 1.0, 1.0, 0.0)
    on_stage = program.scenarios.models.layer_count / plans.pp
    works = _Beside(follows * first.forward, 0.0), _Beside(layers.forward / on_stage, layers.backward / on_stage)
    of_ends = ([task for task in beside if task.place == block.place] for block in (program.embedding, program.head))
    embedding, head = (
        _with_covered(one, tasks, backend, [(1.0, work)])
        for one, tasks, work in zip((first, last), of_ends, works, strict=True)
    )
    return embedding, head


def _transfers(beside: Iterable[Task], backend: Backend) -> Num:
    """Exposed time of what a stage between two others receives for one micro-batch, as much as it sends."""
    borders = (PlaceKind.STAGE, PlaceKind.NEXT, PlaceKind.PREVIOUS)
    sent = timed_tasks((task for task in beside if task.place.kind in borders), backend)
    return sum((seconds for _, seconds in sent), start=np.float64(0.0))


def _once(program: Program, backend: Backend, stages: _Pipeline) -> dict[str, Num]:
    """What happens once a step on the stage that holds most, part by part.

    What is not hidden ahead of the forward pass holds up the device, not its host: where a micro-batch takes as long as
    its launches, the device has time to wait for links. Behind the backward pass no launches are left to wait for;
    there links go on while the device waits for those of the backward pass.
    """
    launch = program.scenarios.stacks.launch
    layers, plans = stages.layers, program.scenarios.plans
    # With zero bubbles gradients come when those of inputs are long made.
    apart = (np.maximum(plans.zero_bubble, plans.paired) > 0.0) & (np.asarray(plans.pp) > 1.0)
    making = np.where(apart, layers.of_weights / np.maximum(layers.backward, np.finfo(float).tiny), 1.0)
    by_phase = {Phase.FORWARD: layers.forward, Phase.BACKWARD: making * layers.backward}
    parts: dict[str, Num] = {"gradient_reduction": 0.0}
    timed = list(timed_tasks(once_a_step(program, on_fullest(program)), backend))
    for task, seconds in timed:
        if not in_line(task):
            time = np.maximum(seconds, launch * task.kernels) if task.resource is Resource.DEVICE else seconds
            parts[task.part] = parts.get(task.part, 0.0) + time
    waits: Num = 0.0
    times = stages.waiting(waits)
    lines = lines_of(timed)
    for line in (line for line in lines if line.behind is not Phase.BACKWARD):
        waits = waits + line.shown(by_phase[line.behind])
        before, times = times, stages.waiting(waits)
        held_up = _longest(times) - _longest(before)
        parts[line.part] = parts.get(line.part, 0.0) + line.hiding.occasions * held_up
    for line in (line for line in lines if line.behind is Phase.BACKWARD):
        shown = line.shown(by_phase[Phase.BACKWARD], idle=making * stages.idle_backward(waits, times))
        parts[line.part] = parts.get(line.part, 0.0) + line.hiding.occasions * shown
    return parts
