"""Time of tasks of one place for one micro-batch: what hides behind named work, and what the host launches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from simulator.formulas.collectives import exposed
from simulator.formulas.typing import Num
from simulator.pricing.backend import Backend
from simulator.pricing.requests import Collective, MatrixProduct
from simulator.work.hiding import Hiding, OperatorPart, Phase
from simulator.work.tasks import Resource, Task

BACKWARD_LAUNCH = 0.55
"""Host time of a kernel of the backward pass over one of the forward pass, which Python drives."""


@dataclass(frozen=True)
class Pass:
    """One micro-batch through all layers of a stage, or through its embedding or head [s]."""

    forward: Num = 0.0
    backward: Num = 0.0
    """With what is recomputed."""
    host: Num = 0.0
    """Time of the launches on the host."""
    parts: dict[str, Num] | None = None
    of_weights: Num = 0.0
    """Of the backward pass the products that make gradients of weights."""
    host_backward: Num = 0.0
    """Of the launches those of the backward pass."""

    @property
    def device(self) -> Num:
        """Time on the device."""
        return self.forward + self.backward


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
    return pass_of_timed(list(timed_tasks(tasks, backend)), launch, broken_down=broken_down)


def pass_of_timed(timed: Sequence[tuple[Task, Num]], launch: Num, *, broken_down: bool = True) -> Pass:
    """The same of tasks whose times are known.

    Parameters
    ----------
    timed
        Tasks of one block, each with its time [s].
    launch, broken_down
        As of `pass_of`.
    """
    sums = _Sums(broken_down=broken_down)
    for task, seconds in timed:
        open_ = seconds if not in_line(task) else (1.0 - task.hiding.share) * seconds
        sums.add(task.phase, task.part, open_)
        if isinstance(task.request, MatrixProduct) and task.request.weight_gradient:
            sums.of_weights = sums.of_weights + open_
        sums.launched[task.phase] = sums.launched[task.phase] + task.kernels

    for line, shown in exposures(timed):
        sums.add(line.phase, line.part, shown)
    return sums.total(launch)


def exposures(timed: Sequence[tuple[Task, Num]]) -> Iterator[tuple[HiddenLine, Num]]:
    """What may hide behind named work in a block, line by line, and the time of it that shows [s].

    Parameters
    ----------
    timed
        Tasks of one block, each with its time [s].
    """

    def beside(parts: frozenset[OperatorPart] | None, phase: Phase) -> Num:
        wanted = (
            seconds
            for task, seconds in timed
            if task.phase is phase and task.resource is Resource.DEVICE and (parts is None or task.part in parts)
        )
        return sum(wanted, start=np.float64(0.0))

    passed: dict[Phase, Num] = {}

    def beside_all(line: HiddenLine) -> Num:
        # What hides behind all compute also runs beside what shows of other lines, so that no work covers two at once.
        more: Num = 0.0 if line.hiding.parts is not None else passed.get(line.behind, 0.0)
        return beside(line.hiding.parts, line.behind) + more

    for line in lines_of(timed):
        shown = _shown(
            line,
            [(beside(parts, line.behind), share) for parts, share in line.hiding.halves],
            partial(beside_all, line),
        )
        passed[line.phase] = passed.get(line.phase, 0.0) + shown
        yield line, shown


def _shown(line: HiddenLine, works: Sequence[tuple[Num, Num]], together: Callable[[], Num]) -> Num:
    """What shows of a line: its share beside each work, where there is all of it, else beside everything [s]."""
    own = [(np.asarray(work) > 0.0) | (np.asarray(share) <= 0.0) for work, share in works]
    each = np.logical_and.reduce(np.broadcast_arrays(*own)) if own else np.False_
    if not np.any(each):
        return line.hiding.occasions * line.shown(together())
    apart = sum((line.shown(work, share) for work, share in works), start=np.float64(0.0))
    return apart if np.all(each) else np.where(each, apart, line.hiding.occasions * line.shown(together()))


class _Sums:
    """Time and launches of each phase of a block [s], and the time of each part."""

    def __init__(self, *, broken_down: bool) -> None:
        passes = (Phase.FORWARD, Phase.BACKWARD, Phase.RECOMPUTE)
        self.time: dict[Phase, Num] = dict.fromkeys(passes, 0.0)
        self.launched: dict[Phase, Num] = dict.fromkeys(passes, 0.0)
        self.of_weights: Num = 0.0
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
        behind = launch * BACKWARD_LAUNCH * again
        host = launch * self.launched[Phase.FORWARD] + behind
        back = self.time[Phase.BACKWARD] + self.time[Phase.RECOMPUTE]
        return Pass(self.time[Phase.FORWARD], back, host, self.parts, self.of_weights, behind)


def timed_tasks(tasks: Iterable[Task], backend: Backend) -> Iterator[tuple[Task, Num]]:
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


def in_line(task: Task) -> bool:
    """Whether some of a task may hide behind named work."""
    share = task.hiding.share
    return bool(task.hiding.line) and not (isinstance(share, float) and share == 0.0)


@dataclass(frozen=True)
class HiddenLine:
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

    def shown(self, passing: Num, share: Num = 1.0, idle: Num = 0.0) -> Num:
        """What work of so long a pass leaves of an occasion, or of a share of it, with what hiding slows it by [s].

        Whatever it hides behind, it also goes on while the device is idle.
        """
        taken = share * self.taken / self.hiding.occasions
        left = exposed(taken, self.hiding.reach * passing + idle)
        slowing = self.hiding.slowing
        return left if isinstance(slowing, float) and slowing == 0.0 else left + slowing * (taken - left)


def lines_of(timed: Iterable[tuple[Task, Num]]) -> list[HiddenLine]:
    """What may hide behind named work, line by line; lines behind all compute last."""
    lines: dict[tuple[Phase, str], list[tuple[Task, Num]]] = {}
    for task, seconds in timed:
        if in_line(task):
            lines.setdefault((task.phase, task.hiding.line), []).append((task, seconds))
    joined = []
    for (phase, _), line in lines.items():
        first = line[0][0]
        taken = sum((_scaled(seconds, task.hiding.share) for task, seconds in line), start=np.float64(0.0))
        joined.append(HiddenLine(phase, first.part, first.hiding, taken))
    return sorted(joined, key=lambda line: line.hiding.parts is None)


def together(device: Num, host: Num) -> Num:
    """Time of a device and the host that launches for it [s]."""
    joined: Num = np.maximum(slower(device, host), device)
    return joined


def slower(device: Num, host: Num) -> Num:
    """The larger of two times with a soft corner: their norm of order 4 [s]."""
    norm: Num = np.sqrt(np.sqrt(np.square(np.square(device)) + np.square(np.square(host))))
    return norm
