"""A run among the ranks that torchrun started: the first rank decides and writes, the others follow.

They time collectives, and training steps that they share.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from hardware.errors import InputError
from measure.clock.cases import Tier, scope_of
from measure.clock.collectives import EFFORT, RankGroup, Stopwatch, caller, cases_of, groups_of, sample
from measure.clock.outcomes import without
from measure.clock.shared_steps import measure_shared, step_cases
from measure.clock.timer import TINY, Effort, TooFastError, times_of
from measure.device.environment import environment_of
from measure.device.machines import Cuda, Machine, SharedCpu, knows_bf16
from measure.device.naming import models_of
from measure.runs.forecast import Forecast
from measure.runs.progress import Teller
from measure.runs.running import told
from measure.runs.session import MeasuringSession, Summary, finished
from simulator.profiling.records.journal import Journal
from simulator.profiling.records.record import Case, Phase, Result, World
from simulator.profiling.records.scenarios import shrunk
from simulator.specs.model import Model

_GO, _END = 1.0, 0.0
_INTERRUPTED = 130
_LARGEST = {"nccl": 2**30, "gloo": 2**26}
_TINY_SIZES = 2**10, 2**16
_PATIENCE = timedelta(minutes=10)
_LATE = "TORCH_NCCL_ASYNC_ERROR_HANDLING", "2"
"""NCCL gives up an exchange that others do not come to, and leaves the process alone, which has more to measure."""


@dataclass(frozen=True)
class Wanted:
    """What a run is asked for."""

    budget_s: float
    phases: Collection[Phase]
    models: str
    backend: str | None
    smallest: int
    largest: int | None
    tiny: bool


@dataclass(frozen=True)
class _World:
    """The ranks that there are."""

    rank: int
    ranks: int
    per_node: int
    backend: str

    @classmethod
    def here(cls, backend: str | None) -> _World:
        """As torchrun tells it."""
        rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if ranks < 2:
            raise InputError("collectives need at least two ranks: torchrun --nproc-per-node 2 -m measure collectives")
        chosen = backend or ("nccl" if torch.cuda.is_available() else "gloo")
        return cls(rank, ranks, int(os.environ.get("LOCAL_WORLD_SIZE", ranks)), chosen)

    @property
    def machine(self) -> Machine:
        """The device of this rank."""
        if self.backend == "nccl":
            return Cuda(int(os.environ.get("LOCAL_RANK", self.rank)))
        return SharedCpu(self.per_node)

    @property
    def sharing(self) -> list[RankGroup]:
        """Groups that share training steps: all ranks, and where there are several nodes those of one."""
        return [RankGroup(self.ranks)] + ([RankGroup(self.per_node)] if 1 < self.per_node < self.ranks else [])


def measure(path: Path, wanted: Wanted) -> int:
    """Time collectives and steps among all ranks; the status to end with.

    Raises
    ------
    InputError
        Where the ranks cannot meet or the record cannot be written.
    """
    started = time.monotonic()
    world = _World.here(wanted.backend)
    named = models_of(wanted.models)
    models = {model.id: model for model in (map(shrunk, named) if wanted.tiny else named)}
    machine = world.machine
    if world.backend == "nccl":
        os.environ.setdefault(*_LATE)
    dist.init_process_group(world.backend, timeout=_PATIENCE)
    plan = _plan(wanted, world, machine, list(models.values()))
    ranks = _Ranks(machine, wanted, models, groups_of(world.ranks, world.per_node), [case for _, case in plan])
    interrupted = False
    try:
        if world.rank:
            ranks.follow()
        else:
            about = World(ranks=world.ranks, nodes=max(world.ranks // world.per_node, 1), backend=world.backend)
            summary = ranks.lead(plan, path, about, started)
            sys.stdout.write(told(summary, path) + "\n")
            interrupted = summary.interrupted
    except KeyboardInterrupt:
        interrupted = True
    if interrupted:
        sys.stdout.flush()
        os._exit(_INTERRUPTED)  # the other ranks are ending too, and any further word to them might wait for ever
    dist.destroy_process_group()
    return 0


def _plan(wanted: Wanted, world: _World, machine: Machine, models: Sequence[Model]) -> list[tuple[Tier, Case]]:
    """All cases in order; the same on all ranks."""
    exchanges, steps = [], []
    if "collective" in wanted.phases:
        top = wanted.largest or _LARGEST[world.backend]
        low, top = _TINY_SIZES if wanted.tiny else (min(wanted.smallest, top), top)
        exchanges = cases_of(world.ranks, world.per_node, world.backend, low, top)
    if "step" in wanted.phases:
        scope = scope_of(machine.kind, bf16=knows_bf16(machine), tiny=wanted.tiny)
        steps = step_cases(scope, models, world.sharing)
    return list(in_turns(exchanges, steps))


def in_turns(exchanges: Sequence[Case], steps: Sequence[Case]) -> Iterator[tuple[Tier, Case]]:
    """Steps of a group as soon as a few sizes of its collectives have told most of its links.

    Parameters
    ----------
    exchanges
        Collectives in their order, group by group.
    steps
        Training steps that groups share.
    """
    left = list(steps)
    for members, some in groupby(exchanges, _members):
        yield from (("size", case) for case in some)
        yield from (("step", case) for case in left if _members(case) == members)
        left = [case for case in left if _members(case) != members]
    yield from (("step", case) for case in left)


def _members(case: Case) -> tuple[int, int]:
    """Ranks of a case, and how far they are apart."""
    return case.dimensions["ranks"], case.dimensions["stride"]


class _Ranks:
    """The ranks of a run, as one of them sees them."""

    def __init__(
        self,
        machine: Machine,
        wanted: Wanted,
        models: Mapping[str, Model],
        groups: Sequence[RankGroup],
        cases: Sequence[Case],
    ) -> None:
        self.machine, self.budget_s, self.models, self.cases = machine, wanted.budget_s, models, cases
        self.step_effort = TINY if wanted.tiny else Effort.within(wanted.budget_s)
        self.effort = TINY if wanted.tiny else EFFORT
        self.rank = dist.get_rank()
        # Every rank makes every group, in the same order.
        self.groups = {(group.ranks, group.stride): (group, dist.new_group(group.members)) for group in groups}

    def lead(self, plan: Sequence[tuple[Tier, Case]], path: Path, about: World, started: float) -> Summary:
        """Decide what is measured next, and write it down."""
        teller = Teller()
        known = self.machine.known if isinstance(self.machine, Cuda) else None
        try:
            with Journal(path, environment_of(self.machine, world=about)) as journal:
                done = finished(journal.record.results) if journal.record is not None else set()
                forecast = Forecast(self.machine, self.step_effort, self.models, known)
                session = MeasuringSession(self, forecast, journal, self.budget_s, tell=teller)
                summary = session.run(plan, done=done, started=started)
        except KeyboardInterrupt:
            raise
        except BaseException:
            self._tell(None)
            raise
        finally:
            teller.clear()
        if not summary.interrupted:
            self._tell(None)
        return summary

    def follow(self) -> None:
        """Do what the first rank decides, until it ends."""
        while (index := self._hear()) is not None:
            self._one(self.cases[index])

    def run(self, case: Case) -> Result:
        """Measure a case on all ranks, from the first."""
        self._tell(self.cases.index(case))
        return self._one(case)

    def _tell(self, index: int | None) -> None:
        """Say to all ranks what comes next."""
        words = [_END, 0.0] if index is None else [_GO, float(index)]
        dist.broadcast(torch.tensor(words, dtype=torch.float64, device=self.machine.target), src=0)

    def _hear(self) -> int | None:
        """What the first rank says."""
        words = torch.zeros(2, dtype=torch.float64, device=self.machine.target)
        dist.broadcast(words, src=0)
        return int(words[1]) if float(words[0]) == _GO else None

    def _one(self, case: Case) -> Result:
        """Measure one case on the ranks of its group; the others wait for the next."""
        group, handle = self.groups[_members(case)]
        start = time.monotonic()
        torch.manual_seed(0)
        if case.phase == "step":
            model = self.models[case.variant.partition("/")[0]]
            result = measure_shared(case, model, group, handle, self.machine, self.step_effort)
        elif self.rank in group.members:
            result = self._exchange(case, group, handle)
        else:
            result = without(case, "unsupported", "this rank has no part in it")
        return result.model_copy(update={"at": time.time(), "took_s": time.monotonic() - start})

    def _exchange(self, case: Case, group: RankGroup, handle: Any) -> Result:
        """A collective."""
        failure, call = "", None
        try:
            call = caller(case, group, handle, self.machine.target)
        except RuntimeError as error:
            failure = str(error) or type(error).__name__
        (failed,) = self._largest([float(bool(failure))], handle)
        if failed or call is None:
            self.machine.release()
            return without(case, "out_of_memory", failure or "another rank has too little memory")
        try:
            durations, repeats = sample(
                call,
                Stopwatch(self.machine.target),
                self.effort,
                meet=lambda: self._largest([0.0], handle),
                agree=lambda numbers: self._largest(numbers, handle),
            )
            times = times_of(durations, repeats)
        except (TooFastError, RuntimeError) as error:
            return without(case, "rejected" if isinstance(error, TooFastError) else "unsupported", error)
        return Result(
            case=case,
            outcome="measured",
            method=self.machine.method,
            times=times,
            bytes=float(case.dimensions["bytes"]),
            state=self.machine.state(),
        )

    def _largest(self, numbers: Sequence[float], handle: Any) -> list[float]:
        """The largest of each number among the ranks of a group, once all of them are there."""
        tensor = torch.tensor(list(numbers), dtype=torch.float64, device=self.machine.target)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=handle)
        largest: list[float] = tensor.tolist()
        return largest
