"""A run of collectives under torchrun: the first rank decides and writes, the others follow."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from hardware.errors import InputError
from measure.clock.collectives import Group, Stopwatch, caller, cases_of, groups_of, sample
from measure.clock.environment import environment_of
from measure.clock.machines import Cpu, Cuda, Machine
from measure.clock.progress import Teller
from measure.clock.running import told
from measure.clock.session import Progress, Summary, finished
from measure.clock.timer import TINY, Effort, TooFastError, times_of
from simulator.profiling.journal import Journal
from simulator.profiling.record import Case, Result, World

_GO, _END = 1.0, 0.0
_INTERRUPTED = 130
_LARGEST = {"nccl": 2**30, "gloo": 2**26}
_TINY_SIZES = 2**10, 2**16
_PATIENCE = timedelta(minutes=10)


def measure(path: Path, *, budget_s: float, backend: str | None, smallest: int, largest: int | None, tiny: bool) -> int:
    """Time collectives among all ranks; the status to end with.

    Raises
    ------
    InputError
        Where the ranks cannot meet or the record cannot be written.
    """
    started = time.monotonic()
    chosen = backend or ("nccl" if torch.cuda.is_available() else "gloo")
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    per_node = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    if world < 2:
        raise InputError("collectives need at least two ranks: torchrun --nproc-per-node 2 -m measure collectives")
    machine: Machine = Cuda(int(os.environ.get("LOCAL_RANK", rank))) if chosen == "nccl" else Cpu()
    dist.init_process_group(chosen, timeout=_PATIENCE)
    top = largest or _LARGEST[chosen]
    low, top = _TINY_SIZES if tiny else (min(smallest, top), top)
    cases = cases_of(world, per_node, chosen, low, top)
    effort = TINY if tiny else Effort(warm_up_s=0.0, block_s=0.02, samples=9, most_s=2.0)
    ranks = _Ranks(machine, effort, groups_of(world, per_node))
    about = World(ranks=world, nodes=max(world // per_node, 1), backend=chosen)
    try:
        if rank:
            ranks.follow(cases)
        else:
            sys.stdout.write(told(ranks.lead(cases, path, about, started + budget_s), path) + "\n")
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)  # the other ranks are ending too, and any further word to them might wait for ever
    dist.destroy_process_group()
    return 0


class _Ranks:
    """The ranks of a run, as one of them sees them."""

    def __init__(self, machine: Machine, effort: Effort, groups: Sequence[Group]) -> None:
        self.machine, self.effort = machine, effort
        self.rank = dist.get_rank()
        # Every rank makes every group, in the same order.
        self.groups = {(group.ranks, group.stride): (group, dist.new_group(group.members)) for group in groups}

    def lead(self, cases: Sequence[Case], path: Path, about: World, end: float) -> Summary:
        """Decide what is measured next, and write it down."""
        summary, teller = Summary(), Teller()
        begin = time.monotonic()
        try:
            with Journal(path, environment_of(self.machine, world=about)) as journal:
                done = finished(journal.found.results) if journal.found is not None else set()
                left = [case for case in cases if case.key not in done]
                summary.before = len(cases) - len(left)
                for number, case in enumerate(left):
                    if time.monotonic() > end:
                        summary.left_out = len(left) - number
                        break
                    teller(Progress(summary.before + number, len(cases), max(end - time.monotonic(), 0.0), case))
                    self._tell(cases.index(case))
                    result = self._one(case)
                    journal.add(result)
                    summary.outcomes[result.outcome] += 1
        except KeyboardInterrupt:
            raise
        except BaseException:
            self._tell(None)
            raise
        finally:
            teller.clear()
        self._tell(None)
        summary.took_s = time.monotonic() - begin
        return summary

    def follow(self, cases: Sequence[Case]) -> None:
        """Do what the first rank decides, until it ends."""
        while (index := self._hear()) is not None:
            self._one(cases[index])

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
        group, handle = self.groups[case.dimensions["ranks"], case.dimensions["stride"]]
        start = time.time()
        if self.rank not in group.members:
            return _without(case, "this rank has no part in it", start)
        failure, call = "", None
        try:
            call = caller(case, group, handle, self.machine.target)
        except RuntimeError as error:
            failure = str(error).splitlines()[0][:120] or type(error).__name__
        (failed,) = self._largest([float(bool(failure))], handle)
        if failed or call is None:
            self.machine.release()
            return _without(case, failure or "another rank has too little memory", start)
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
            reason = str(error).splitlines()[0][:120] or type(error).__name__
            outcome = "rejected" if isinstance(error, TooFastError) else "unsupported"
            return Result(case=case, outcome=outcome, reason=reason, at=time.time(), took_s=time.time() - start)
        return Result(
            case=case,
            outcome="measured",
            method="events" if self.machine.kind == "cuda" else "wall",
            times=times,
            bytes=float(case.dimensions["bytes"]),
            state=self.machine.state(),
            at=time.time(),
            took_s=time.time() - start,
        )

    def _largest(self, numbers: Sequence[float], handle: Any) -> list[float]:
        """The largest of each number among the ranks of a group, once all of them are there."""
        tensor = torch.tensor(list(numbers), dtype=torch.float64, device=self.machine.target)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=handle)
        found: list[float] = tensor.tolist()
        return found


def _without(case: Case, reason: str, start: float) -> Result:
    """A result without times."""
    now = time.time()
    return Result(case=case, outcome="out_of_memory", reason=reason, at=now, took_s=now - start)
