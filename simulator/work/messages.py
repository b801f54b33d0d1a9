"""What one device of a pipeline stage executes and sends in one step, read from the program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from simulator.formulas.typing import Num
from simulator.pricing.requests import Collective, CollectiveKind, Send
from simulator.work.exchanges import beside_frozen, each_micro_batch
from simulator.work.frozen import part_of
from simulator.work.once import on_stage, once_a_step
from simulator.work.program import Program
from simulator.work.tasks import Part, PlaceKind, Resource, Task, TaskPlace


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
    part: Part
    """Of the step, as its breakdown names it."""
    resource: Resource
    """Which links carry it."""
    count: Num = 1.0
    """How many of them [1]."""


@dataclass(frozen=True)
class _Ends:
    """What of a pipeline's ends a stage is, each 1 or 0."""

    first: Num
    """It has the embedding."""
    last: Num
    """It has the head."""
    turn: Num
    """It is the last one in the shape of a V, which hands on to itself."""


def tasks_of_stage(program: Program, *, first: Num, last: Num, turn: Num = 0.0) -> Iterator[tuple[Task, Num]]:
    """Every task of one device of a stage, and how often the stage has its place in a whole step.

    Parameters
    ----------
    program
        Of the scenarios.
    first, last
        1 where the stage has the embedding, or the head, else 0 [1]; layers are spread evenly.
    turn
        1 where it is the last of a pipeline in the shape of a V, which hands on to itself, else 0 [1].
    """
    ends = _Ends(first, last, turn)
    micro_batches = program.scenarios.plans.micro_batches
    for block in program.blocks:
        number = micro_batches * _number(program, block.place, ends)
        for task in block.tasks:
            yield task, number
    for task in each_micro_batch(program):
        yield task, micro_batches * _number(program, task.place, ends)
    yield from _of_frozen(program, ends)
    for task in once_a_step(program, on_stage(program, first=first, last=last)):
        yield task, 1.0


def _of_frozen(program: Program, ends: _Ends) -> Iterator[tuple[Task, Num]]:
    """Tasks of the model beside the trained one, which together are one part of the step."""
    frozen, model = program.frozen, program.scenarios.workloads.frozen
    if frozen is None or model is None:
        return
    part, micro_batches = part_of(model), program.scenarios.plans.micro_batches
    of_blocks = (task for block in frozen.blocks for task in block.tasks)
    for task in (*of_blocks, *beside_frozen(frozen)):
        number = micro_batches * _number(frozen, task.place, ends)
        yield replace(task, part=part, name=f"{task.name} ({part.replace('_', ' ')})"), number


def _number(program: Program, place: TaskPlace, ends: _Ends) -> Num:
    """How many of a place a stage has."""
    match place.kind:
        case PlaceKind.GROUP:
            return program.groups[place.group].number / program.scenarios.plans.pp
        case PlaceKind.EMBEDDING:
            return ends.first
        case PlaceKind.HEAD:
            return ends.last
        case PlaceKind.NEXT:
            return 1.0 - np.maximum(ends.last, ends.turn)
        case PlaceKind.PREVIOUS:
            return 1.0 - np.maximum(ends.first, ends.turn)
    return 1.0


def messages(program: Program, stage: Num = 0.0) -> list[Message]:
    """List what one device of a pipeline stage sends in one step; where a count is 0 it sends nothing.

    Parameters
    ----------
    program
        Of the scenarios.
    stage
        Index of the stage, from 0; layers are spread evenly over stages [1].
    """
    first = np.where(np.asarray(stage) <= 0.0, 1.0, 0.0)
    at_end = np.where(np.asarray(stage) >= np.asarray(program.scenarios.plans.pp) - 1.0, 1.0, 0.0)
    bent = program.scenarios.plans.ends_together
    last = np.where(np.asarray(bent) > 0.0, first, at_end)
    listed = []
    for task, number in tasks_of_stage(program, first=first, last=last, turn=bent * at_end * (1.0 - first)):
        asked = task.request
        if isinstance(asked, Collective | Send):
            kind: CollectiveKind | Literal["send"] = "send" if isinstance(asked, Send) else asked.kind
            sizes = (asked.message_bytes, asked.degree, asked.stride)
            listed.append(Message(task.name, kind, *sizes, task.part, task.resource, task.count * number))
    return listed
