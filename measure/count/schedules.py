"""Pipeline schedules of torch, replayed: idle time of each rank and micro-batches in flight.

The order of each rank's actions comes from `torch.distributed.pipelining.schedules`; the replay only decides when each
action can start. Times may be integers or fractions, and then everything that comes out is exact.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, Literal

from torch.distributed.pipelining import schedules

Time = int | Fraction
ScheduleName = Literal[
    "GPipe", "1F1B", "LoopedBFS", "Interleaved1F1B", "InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV"
]
Kind = Literal["F", "I", "W", "B"]
"""Forward, gradient of inputs, gradient of weights, and both gradients together."""
_KINDS: tuple[Kind, ...] = ("F", "I", "W", "B")


@dataclass(frozen=True)
class Action:
    """One pass of one micro-batch through one chunk of layers."""

    kind: Kind
    chunk: int
    """Index of the chunk in the order of the forward pass, over all ranks."""
    micro_batch: int


@dataclass(frozen=True)
class Replay:
    """What replaying a schedule shows; per rank where it is a tuple."""

    time: Time
    """From the first action of the first rank to the last action of any."""
    busy: tuple[Time, ...]
    in_flight: tuple[Fraction, ...]
    """Micro-batches whose activations the rank holds at its peak, in units of all its layers."""

    @property
    def idle(self) -> tuple[Time, ...]:
        """Time in which each rank waits."""
        return tuple(self.time - busy for busy in self.busy)


def orders(name: ScheduleName, stages: int, micro_batches: int, virtual_stages: int = 1) -> list[list[Action]]:
    """List the actions of every rank in the order in which torch's schedule runs them.

    Parameters
    ----------
    name
        As `torch.distributed.pipelining.schedules.get_schedule_class` knows it.
    stages
        Ranks of the pipeline.
    micro_batches
        Micro-batches of one step.
    virtual_stages
        Chunks of layers of one rank; the schedules in the shape of a V need two.
    """
    kind = schedules.get_schedule_class(name)
    chunks = [_chunk(index, stages, virtual_stages) for index in range(virtual_stages)]
    single = issubclass(kind, schedules.PipelineScheduleSingle)
    schedule = kind(chunks[0] if single else chunks, micro_batches)
    ranks = [
        [action for entry in schedule.pipeline_order[rank] for action in _actions(entry)] for rank in range(stages)
    ]
    return [_renumbered(actions, micro_batches) for actions in ranks] if single else ranks


def _chunk(index: int, stages: int, virtual_stages: int) -> SimpleNamespace:
    """What a schedule asks of a pipeline stage when it is built, without processes or a module."""
    return SimpleNamespace(
        num_stages=stages * virtual_stages, group_size=stages, group_rank=0, stage_index=index * stages, submod=None
    )


def _actions(entry: Any) -> list[Action]:
    """The passes of an entry of torch's order: none for a pause, two for one that overlaps them."""
    if entry is None:
        return []
    if entry.sub_actions:
        return [action for part in entry.sub_actions for action in _actions(part)]
    kinds = [kind for kind in _KINDS if kind == entry.computation_type.value]
    return [Action(kind, entry.stage_index, entry.microbatch_index) for kind in kinds]


def _renumbered(actions: list[Action], micro_batches: int) -> list[Action]:
    """Number passes of each kind from zero, and leave out those beyond the last micro-batch.

    A rank with one chunk takes micro-batches in order. Torch's listing of 1F1B, of which only the kinds of passes are
    used at run time, starts with number one on the last rank, and with too many forwards where micro-batches are few.
    """
    passes: dict[Kind, int] = defaultdict(int)
    numbered = []
    for action in actions:
        number = passes[action.kind]
        passes[action.kind] += 1
        if number < micro_batches:
            numbered.append(Action(action.kind, action.chunk, number))
    return numbered


def replay(
    name: ScheduleName,
    stages: int,
    micro_batches: int,
    *,
    virtual_stages: int = 1,
    forward: Time = 1,
    backward: Time = 2,
    weight: Time = 1,
) -> Replay:
    """Run a schedule on paper: every action starts when its rank is free and what it needs is there.

    Parameters
    ----------
    name, stages, micro_batches, virtual_stages
        As for `orders`.
    forward, backward
        Times of one micro-batch through one chunk.
    weight
        Part of the backward time that is the gradient of the weights.

    Raises
    ------
    RuntimeError
        Where the order can never run to its end.
    """
    ranks = orders(name, stages, micro_batches, virtual_stages)
    length: dict[Kind, Time] = {"F": forward, "I": backward - weight, "W": weight, "B": backward}
    last = stages * virtual_stages - 1
    ends: dict[tuple[str, int, int], Time] = {}
    free: list[Time] = [0] * stages
    following = [0] * stages
    moved = True
    while moved:
        moved = False
        for rank, actions in enumerate(ranks):
            while following[rank] < len(actions):
                action = actions[following[rank]]
                ready = _ready(action, ends, last)
                if ready is None:
                    break
                end = max(free[rank], ready) + length[action.kind]
                ends[_result(action)] = free[rank] = end
                following[rank] += 1
                moved = True
    if any(following[rank] < len(actions) for rank, actions in enumerate(ranks)):
        raise RuntimeError(f"{name} with {stages} stages and {micro_batches} micro-batches waits for itself")
    return Replay(
        time=max(free),
        busy=tuple(sum((length[action.kind] for action in actions), start=Fraction(0)) for actions in ranks),
        in_flight=tuple(Fraction(_most_held(actions), virtual_stages) for actions in ranks),
    )


def _result(action: Action) -> tuple[str, int, int]:
    """Name what an action leaves for others: either kind of backward leaves the gradient of its inputs."""
    kind = {"F": "F", "I": "B", "B": "B", "W": "W"}[action.kind]
    return kind, action.chunk, action.micro_batch


def _ready(action: Action, ends: dict[tuple[str, int, int], Time], last: int) -> Time | None:
    """When the inputs of an action are there, or none where they are not yet."""
    if action.kind == "F":
        needed = [("F", action.chunk - 1)] if action.chunk > 0 else []
    elif action.kind == "W":
        needed = [("B", action.chunk)]
    else:
        needed = [("F", action.chunk)] + ([("B", action.chunk + 1)] if action.chunk < last else [])
    times = [ends.get((kind, chunk, action.micro_batch)) for kind, chunk in needed]
    known = [time for time in times if time is not None]
    return max(known, default=0) if len(known) == len(times) else None


def _most_held(actions: list[Action]) -> int:
    """Most chunks of activations between their forward and the end of their backward pass."""
    held = most = 0
    for action in actions:
        held += {"F": 1, "I": 0, "W": -1, "B": -1}[action.kind]
        most = max(most, held)
    return most
