"""Training steps that ranks share: replicas that sum their gradients, or parameters in shards that are gathered.

No rank waits for another that has failed: all agree before a step is built, before it communicates, and after every few
steps, and whatever waits within a step ends after a while.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.parallel import DistributedDataParallel

from measure.clock.cases import CaseScope, step_of, usual_attention
from measure.clock.collectives import RankGroup
from measure.clock.kernels import UnsupportedError
from measure.clock.outcomes import beyond, without
from measure.clock.steps import PARTS, StepSamples, Wrap, prepare_step, result_of, sample_steps
from measure.clock.timer import Effort, TooFastError
from measure.device.machines import DTYPES, Machine, lost, out_of_memory
from measure.models import Batch, Transformer
from simulator.profiling.records.record import Case, Outcome, Result
from simulator.profiling.records.scenarios import step_amounts
from simulator.specs.model import Model

OPERATIONS = ("ddp", "fsdp")
_LAYERS = 2
PATIENCE = timedelta(minutes=2)
"""How long a rank waits within a step for the others."""
_SILENT, _UNSUPPORTED, _OUT_OF_MEMORY = 1, 2, 3
"""What a rank may say instead of that all is well: that others do not answer, that torch cannot, that memory is out."""
_WORDS = {
    _SILENT: "another rank does not answer any more",
    _UNSUPPORTED: "another rank could not run it",
    _OUT_OF_MEMORY: "another rank ran out of memory",
}
_EXCHANGES = ("gloo", "NCCL", "ProcessGroup", "process group")


def step_cases(scope: CaseScope, models: Sequence[Model], groups: Sequence[RankGroup]) -> list[Case]:
    """A step of two layers of each model, in both ways, of each group.

    Parameters
    ----------
    scope
        Number format and sizes of the device.
    models
        Those named.
    groups
        Ranks that share a step.
    """
    cases = []
    for group in groups:
        for operation in OPERATIONS:
            for model in models:
                alone = step_of(scope, model, scope.sizes_of(model)[0], _LAYERS, usual_attention(scope, model))
                dimensions = {**alone.dimensions, "ranks": group.ranks, "stride": group.stride}
                cases.append(alone.model_copy(update={"operation": operation, "dimensions": dimensions}))
    return cases


class RankStoppedError(RuntimeError):
    """A rank has said that it cannot go on, and all have heard it."""

    def __init__(self, trouble: int) -> None:
        super().__init__(_WORDS[trouble])
        self.trouble = trouble


class Members:
    """The ranks of a group, which speak in turns, each as often as the others.

    Whatever they tell each other, each also says whether all is well. A rank that fails says so instead, in the next
    turn of the others, and that turn is the last of all of them.

    Parameters
    ----------
    handle
        What torch knows the group by; not what the step itself communicates over.
    target
        Where tensors lie.
    most
        Numbers that are told at once, at most.
    """

    def __init__(self, handle: Any, target: str, most: int) -> None:
        self._handle, self._target, self._most = handle, target, most

    def agree(self, numbers: Sequence[float] = ()) -> list[float]:
        """The largest of each number among the ranks.

        Raises
        ------
        StoppedError
            Where one of them has stopped.
        """
        worst, heard = self._turn(0, numbers)
        if worst:
            raise RankStoppedError(worst)
        return heard

    def stop(self, trouble: int) -> int:
        """Say what this rank's trouble is; the worst of all ranks."""
        return self._turn(trouble, ())[0]

    def _turn(self, trouble: int, numbers: Sequence[float]) -> tuple[int, list[float]]:
        said = [float(trouble), *numbers, *[0.0] * (self._most - len(numbers))]
        words = torch.tensor(said, dtype=torch.float64, device=self._target)
        dist.all_reduce(words, dist.ReduceOp.MAX, group=self._handle)
        worst, *heard = words.tolist()
        return int(worst), heard[: len(numbers)]


def measure_shared(
    case: Case,
    model: Model,
    group: RankGroup,
    handle: Any,
    machine: Machine,
    effort: Effort,
    *,
    patience: timedelta = PATIENCE,
) -> Result:
    """Time a step of all ranks of a group; every rank of the run calls this.

    Parameters
    ----------
    case
        The step.
    model
        Its model, whole.
    group
        The ranks.
    handle
        What torch knows the group by, to agree over.
    machine
        This rank's device.
    effort
        How much time it may take.
    patience
        How long a rank waits within the step for the others.

    Returns
    -------
    Result
        Of the slowest rank.
    """
    # A group of its own: a rank that fails in the middle of a step leaves it in pieces.
    own = dist.new_group(group.members, timeout=patience)
    if dist.get_rank() not in group.members:
        return without(case, "unsupported", "this rank has no part in it")
    members = Members(handle, machine.target, most=2 + effort.samples * (1 + len(PARTS)))
    try:
        result = _attempt(case, model, own, members, machine, effort)
    except RankStoppedError as error:
        result = without(case, _outcome(error.trouble), error)
    except TooFastError as error:  # of times that all ranks have agreed on
        result = without(case, "rejected", error)
    except Exception as error:  # whatever it is, the others must hear of it
        if lost(error):
            raise
        error.__traceback__ = None  # its frames hold tensors, and the group
        _leave(own, machine, failed=True)
        del own  # with the last of it gloo closes its connections, and the others need not be patient
        trouble = _trouble_of(error)
        worst = members.stop(trouble)
        return without(case, _outcome(worst), error if worst == trouble else _WORDS[worst])
    _leave(own, machine)
    return result


def _attempt(case: Case, model: Model, own: Any, members: Members, machine: Machine, effort: Effort) -> Result:
    """Build, warm up and time the step, as long as no rank stops."""
    counted = step_amounts(case, model)
    (free,) = members.agree([-machine.free_bytes()])
    if too_much := beyond(counted.footprint, -free):
        return without(case, "out_of_memory", too_much)
    step = prepare_step(case, model, machine, _wrap(case, own, members, machine))
    members.agree()
    machine.watch_memory()
    taken = sample_steps(step, machine, effort, members.agree)
    return result_of(case, model, counted, _slowest(taken, members), machine)


def _wrap(case: Case, own: Any, members: Members, machine: Machine) -> Wrap:
    """What a rank makes of its module, once all ranks have built theirs."""

    def replicated(module: Transformer, few: Model) -> Callable[[Batch], Any]:
        del few
        members.agree()
        where = [torch.cuda.current_device()] if machine.kind == "cuda" else None
        replica: Callable[[Batch], Any] = DistributedDataParallel(module, device_ids=where, process_group=own)
        return replica

    def in_shards(module: Transformer, few: Model) -> Callable[[Batch], Any]:
        try:
            from measure.count.sharding import sharded
        except ImportError:
            raise UnsupportedError("this version of torch has no fully_shard") from None
        members.agree()
        # A name of its own: torch remembers meshes, and would take one whose group is gone for an equal one.
        mesh = DeviceMesh.from_group(own, machine.kind, mesh_dim_names=(f"shard_{own.group_name}",))
        dtype = DTYPES[case.dtype]
        sharded(module, mesh, tied=few.tied_head, computed=dtype, reduced=dtype)
        return module.loss

    return replicated if case.operation == "ddp" else in_shards


def _slowest(taken: StepSamples, members: Members) -> StepSamples:
    """Every sample as the slowest rank had it, and the most memory of all."""
    rows = [taken.whole, *taken.parts]
    peaks = [size or 0.0 for size in taken.memory]
    heard = members.agree([number for row in rows for number in row] + peaks)
    number = len(taken.whole)
    whole, *parts = (tuple(heard[at * number : (at + 1) * number]) for at in range(len(rows)))
    peak, reserved = (size or None for size in heard[-2:])
    return replace(taken, whole=whole, parts=tuple(parts), memory=(peak, reserved))


def _trouble_of(error: Exception) -> int:
    """What a rank says of its failure."""
    if out_of_memory(error):
        return _OUT_OF_MEMORY
    return _SILENT if any(word in str(error) for word in _EXCHANGES) else _UNSUPPORTED


def _outcome(trouble: int) -> Outcome:
    return "out_of_memory" if trouble == _OUT_OF_MEMORY else "unsupported"


def _leave(own: Any, machine: Machine, *, failed: bool = False) -> None:
    """Drop what the step held, and its group; after a failure so that the others in it notice."""
    machine.release()
    if failed and machine.kind == "cuda":
        with suppress(AttributeError, RuntimeError):  # older versions of torch leave it to the others' patience
            own.abort()
    dist.destroy_process_group(own)
