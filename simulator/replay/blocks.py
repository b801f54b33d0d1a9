"""One layer, the embedding, or the head, laid out on the lanes of its device: compute, and the exchanges around it.

A program lists what a layer asks, and what may hide behind what; here each exchange gets its place. Gathers stand
before the half of a layer that reads them, sums and scatters behind the half that made them, tokens travel to experts
and back where the program lists it. What an exchange hides runs on its links beside the compute; for the rest the
device waits, also where the links are still busy with what came before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from simulator.formulas.collectives import exposed
from simulator.formulas.typing import Num
from simulator.pricing.backend import Backend
from simulator.pricing.requests import Collective, MatrixProduct
from simulator.replay.spans import Piece, Span, chained, span_of
from simulator.step.passes import BACKWARD_LAUNCH, exposures, in_line, timed_tasks
from simulator.work.program import Block
from simulator.work.tasks import Phase, Resource, Task
from simulator.work.transformer.exchanges import FEED_FORWARD

Gradients = Literal["all", "inputs", "weights"]
"""Which gradients a backward pass makes: where a schedule separates them, those of inputs and those of weights."""
_HALVED = frozenset({"normalisation", "dropout and residual"})
"""Operators of a layer that stand once for both halves of it."""


@dataclass(frozen=True)
class LaidBlock:
    """One pass of a block on its lanes."""

    piece: Piece
    host: float = 0.0
    """Time that the host needs to launch it [s]."""


@dataclass(frozen=True)
class _Item:
    """A task with the part of its time that shows, and the part that hides [s]."""

    task: Task
    shown: float
    hidden: float = 0.0
    share: float = 1.0
    """Of the task's calls that this is [1]."""
    ahead: bool = False
    """Whether the compute beside it waits for it, rather than makes what it sends."""


def lay(block: Block, phases: Iterable[Phase], backend: Backend, launch: float, gradients: Gradients) -> LaidBlock:
    """Lay a block out.

    Parameters
    ----------
    block
        Of a program of one scenario.
    phases
        In the order in which they run.
    backend
        Says how long requests take.
    launch
        Host time of a launch of the forward pass [s].
    gradients
        Which of them a backward pass makes.
    """
    pieces, host = [], 0.0
    for phase in phases:
        tasks = [task for task in block.tasks if task.phase is phase]
        pace = launch if phase is Phase.FORWARD else launch * BACKWARD_LAUNCH
        host += pace * sum(float(task.kernels) for task in tasks if _is_in(task, gradients))
        pieces.append(("", _lay_phase(tasks, backend, gradients, back=phase is Phase.BACKWARD)))
    return LaidBlock(chained(pieces), host)


def _is_in(task: Task, gradients: Gradients) -> bool:
    """Whether a task belongs to the pass."""
    if gradients == "all":
        return True
    weights = isinstance(task.request, MatrixProduct) and task.request.weight_gradient
    return weights == (gradients == "weights")


def _lay_phase(tasks: Sequence[Task], backend: Backend, gradients: Gradients, *, back: bool) -> Piece:
    """Tasks of one phase on their lanes."""
    items = [item for item in _items(list(timed_tasks(tasks, backend))) if item.shown + item.hidden > 0.0]
    lanes = Lanes()
    for item in _of_pass(_sequence(items, back=back), gradients):
        lanes.add(item.task, item.shown, item.hidden, ahead=item.ahead, share=item.share)
    return lanes.piece()


def _of_pass(items: Sequence[_Item], gradients: Gradients) -> list[_Item]:
    """Items of one of two separate backward passes; what exchanges hide goes beside the compute of both."""
    if gradients == "all":
        return list(items)
    compute = [item for item in items if item.task.resource is Resource.DEVICE]
    whole = sum(item.shown for item in compute)
    own = sum(item.shown for item in compute if _is_in(item.task, gradients)) / whole if whole > 0.0 else 0.0
    listed = []
    for item in items:
        if item.task.resource is Resource.DEVICE:
            listed += [item] if _is_in(item.task, gradients) else []
        else:
            # It is waited for before weight gradients are made; those of another micro-batch may cover the rest.
            share = own if item.hidden > 0.0 else float(gradients == "inputs")
            shown = item.shown if gradients == "inputs" else 0.0
            listed.append(replace(item, shown=shown, hidden=item.hidden * own, share=item.share * share))
    return [item for item in listed if item.shown + item.hidden > 0.0]


def _items(timed: Sequence[tuple[Task, Num]]) -> list[_Item]:
    """Tasks with what shows and what hides of each; what a line hides is shared by its tasks."""
    shares = {}
    for line, shown in exposures(timed):
        taken = float(line.taken)
        shares[line.phase, line.hiding.line] = float(shown) / taken if taken > 0.0 else 0.0
    items = []
    for task, seconds in timed:
        whole = float(seconds)
        hides = whole * float(task.hiding.share) if in_line(task) else 0.0
        hides -= hides * shares[task.phase, task.hiding.line] if hides > 0.0 else 0.0
        request = task.request
        gathers = isinstance(request, Collective) and request.kind == "all_gather"
        items.append(_Item(task, whole - hides, hides, ahead=gathers))
    return items


def _sequence(items: Sequence[_Item], *, back: bool) -> list[_Item]:
    """Items in the order in which they run: half by half of a layer, the backward pass from its end."""
    split = next((place for place, item in enumerate(items) if item.task.part == "feed_forward"), None)
    if split is None or not any(item.task.part == "attention" for item in items):
        ends = [item for item in items if item.task.part == "tensor_parallel"]
        inside = [item for item in items if item.task.part != "tensor_parallel"]
        return _surrounded(_reversed(inside) if back else inside, ends)
    halves: tuple[list[_Item], list[_Item]] = ([], [])
    around: tuple[list[_Item], list[_Item]] = ([], [])
    for place, item in enumerate(items):
        if item.task.part == "tensor_parallel":
            for number, share in enumerate(_shares_of_halves(item, back=back)):
                around[number].append(_part_of(item, share))
        elif item.task.part == "expert_parallel":
            # Tokens leave for the experts where the program says so, and come back at the end.
            leaves, returns = _trips(item, items)
            halves[1].append(leaves)
            around[1].append(replace(returns, ahead=back))
        elif item.task.name in _HALVED:
            for half in halves:
                half.append(_part_of(item, 0.5))
        else:
            halves[int(place >= split)].append(item)
    hiding = _hidden_by(halves, around)
    whole = []
    for half, ends in zip(halves, hiding, strict=True):
        of_experts = [item for item in ends if item.task.hiding.parts == FEED_FORWARD]
        inside = _before_attention(_reversed(half) if back else half)
        inside = _around_experts(inside, of_experts, back=back)
        whole.append(_surrounded(inside, [item for item in ends if item not in of_experts]))
    ordered = [item for half in (reversed(whole) if back else whole) for item in half]
    return [item for item in ordered if item.share > 0.0]


def _hidden_by(halves: tuple[list[_Item], ...], around: tuple[list[_Item], ...]) -> list[list[_Item]]:
    """Exchanges around both halves, where each half hides what its own products cover."""
    whole = []
    for half, own in zip(halves, around, strict=True):
        ends = [item for item in own if item.task.part == "tensor_parallel" and item.task.hiding.halves]
        taken = sum((item.shown + item.hidden) * float(item.task.hiding.share) for item in ends)
        parts = ends[0].task.hiding.parts if ends else frozenset()
        work = sum(item.shown for item in half if parts is None or item.task.part in parts)
        share = 1.0 - float(exposed(taken, work)) / taken if taken > 0.0 and work > 0.0 else 0.0
        whole.append([_hiding(item, share) if item in ends else item for item in own])
    return whole


def _hiding(item: _Item, share: float) -> _Item:
    """An exchange that hides a share of what it may hide."""
    whole = item.shown + item.hidden
    hidden = min(whole * float(item.task.hiding.share) * share, whole)
    return replace(item, shown=whole - hidden, hidden=hidden)


def _before_attention(items: Sequence[_Item]) -> list[_Item]:
    """Items with what goes around a ring ahead of the attention that it runs beside."""
    rings = [replace(item, ahead=True) for item in items if item.task.part == "context_parallel"]
    others = [item for item in items if item.task.part != "context_parallel"]
    place = next((place for place, item in enumerate(others) if item.task.part == "attention"), 0)
    return [*others[:place], *rings, *others[place:]]


def _around_experts(items: Sequence[_Item], exchanges: Sequence[_Item], *, back: bool) -> list[_Item]:
    """Items with gathers and scatters among ranks that split experts, between the trips there and back."""
    trips = [place for place, item in enumerate(items) if item.task.part == "expert_parallel"]
    trip = trips[0] if trips else (len(items) if back else -1)
    gathers, scatters = ([item for item in exchanges if item.ahead == ahead] for ahead in (True, False))
    if back:
        return [*gathers, *items[:trip], *scatters, *items[trip:]]
    return [*items[: trip + 1], *gathers, *items[trip + 1 :], *scatters]


def _trips(item: _Item, items: Sequence[_Item]) -> tuple[_Item, _Item]:
    """What an exchange of experts has of the way there and of the way back: all of one, or half of each."""
    of_experts = [each for each in items if each.task.part == "expert_parallel"]
    there = 0.5 if len(of_experts) == 1 else float(item is not of_experts[-1])
    return _part_of(item, there), _part_of(item, 1.0 - there)


def _reversed(items: Sequence[_Item]) -> list[_Item]:
    """Operators from the last to the first, the requests of each in their order."""
    operators: list[list[_Item]] = []
    for item in items:
        if operators and operators[-1][0].task.name == item.task.name:
            operators[-1].append(item)
        else:
            operators.append([item])
    return [item for operator in reversed(operators) for item in operator]


def _part_of(item: _Item, share: float) -> _Item:
    """A share of an item."""
    return replace(item, shown=item.shown * share, hidden=item.hidden * share, share=item.share * share)


def _shares_of_halves(item: _Item, *, back: bool) -> tuple[float, float]:
    """What each half of a layer has of an exchange; one around all of it stands at the end that it belongs to."""
    hiding = item.task.hiding
    if hiding.halves:
        attention, feed_forward = (float(np.asarray(share)) for _, share in hiding.halves)
        return attention, feed_forward
    if hiding.parts == FEED_FORWARD:
        return 0.0, 1.0
    if float(np.asarray(item.task.count)) >= 2.0:
        return 0.5, 0.5
    at_first = item.ahead != back
    return float(at_first), float(not at_first)


def _surrounded(compute: Sequence[_Item], exchanges: Sequence[_Item]) -> list[_Item]:
    """Gathers, what reads them, and what carries on their results.

    Normalisation, dropout and residual at either end work on each rank's own part of the sequence (Korthikanti et al.,
    2022, arXiv:2205.05198, figure 5): they stand outside of the exchanges.
    """
    own = [item.task.name in _HALVED for item in compute]
    first = next((place for place, each in enumerate(own) if not each), 0)
    last = len(own) - next((place for place, each in enumerate(reversed(own)) if not each), 0)
    before = [item for item in exchanges if item.ahead]
    behind = [item for item in exchanges if not item.ahead]
    return [*compute[:first], *before, *compute[first:last], *behind, *compute[last:]]


class Lanes:
    """Lanes that are filled from left to right."""

    def __init__(self) -> None:
        self.now = 0.0
        self._free: dict[Resource, float] = {}
        self._spans: list[Span] = []

    def add(self, task: Task, shown: float, hidden: float = 0.0, *, ahead: bool = False, share: float = 1.0) -> None:
        """Add a task: the device is busy with it, or waits for what shows of it."""
        whole = span_of(task, 0.0, shown + hidden, calls=float(task.count) * share)
        if task.resource is Resource.DEVICE:
            self._spans.append(replace(whole, start=self.now, duration=shown))
            self.now += shown
            return
        free = self._free.get(task.resource, 0.0)
        start = max(free, self.now if ahead else self.now - hidden)
        until = start + (shown if ahead else shown + hidden)
        self._spans.append(replace(whole, start=start))
        self._free[task.resource] = start + shown + hidden
        self._wait(until, whole)

    def _wait(self, until: float, span: Span) -> None:
        """The device waits for a span until a time."""
        if until > self.now:
            self._spans.append(span.waited_for(self.now, until - self.now))
            self.now = until

    def piece(self) -> Piece:
        """What has been added, once all links are free."""
        late = max(self._free, key=self._free.__getitem__, default=None)
        if late is not None and self._free[late] > self.now:
            span = next(span for span in reversed(self._spans) if span.resource is late)
            self._wait(self._free[late], span)
        return Piece(self.now, tuple(self._spans))
