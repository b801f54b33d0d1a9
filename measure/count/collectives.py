"""Collectives that torch issues, logged in one process in the name of one of many ranks.

A process group of the backend `fake` answers at once, so that any world size fits one process; on the meta device
nothing is allocated either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import _resolve_process_group
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

Kind = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast"]


@dataclass(frozen=True)
class LoggedCollective:
    """One collective, as far as its cost depends on it."""

    kind: Kind
    bytes: int
    """The whole message: the gathered, the reduced, or the sent tensor."""
    degree: int
    """Ranks of its group."""


@dataclass(frozen=True)
class Traffic:
    """How often each collective was issued."""

    count: Counter[LoggedCollective]

    def bytes(self, kind: Kind, degree: int | None = None) -> int:
        """Bytes of all collectives of a kind, of groups of one size or of any."""
        return sum(
            one.bytes * number
            for one, number in self.count.items()
            if one.kind == kind and degree in (None, one.degree)
        )


_KINDS: dict[str, tuple[Kind, int]] = {
    "allreduce_": ("all_reduce", 0),
    "allreduce_coalesced_": ("all_reduce", 0),
    "_allgather_base_": ("all_gather", 0),
    "allgather_": ("all_gather", 0),
    "allgather_into_tensor_coalesced_": ("all_gather", 0),
    "_reduce_scatter_base_": ("reduce_scatter", 1),
    "reduce_scatter_tensor_coalesced_": ("reduce_scatter", 1),
    "alltoall_base_": ("all_to_all", 1),
    "broadcast_": ("broadcast", 0),
    "all_reduce": ("all_reduce", 0),
    "all_reduce_": ("all_reduce", 0),
    "all_gather_into_tensor": ("all_gather", -1),
    "all_gather_into_tensor_out": ("all_gather", -1),
    "reduce_scatter_tensor": ("reduce_scatter", 0),
    "reduce_scatter_tensor_out": ("reduce_scatter", 0),
    "all_to_all_single": ("all_to_all", 0),
    "broadcast": ("broadcast", 0),
}
"""Kind of each operator, and which argument is the whole message; -1 where only a share of it is an argument."""
_NOTHING_SENT = ("wait_tensor", "_wrap_tensor_autograd", "barrier", "monitored_barrier_")


class _Log(TorchDispatchMode):
    """Writes down collectives of both namespaces; the in-place ones list inputs and outputs as arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[LoggedCollective] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            # First let the distributed tensor take the operator apart; then its collectives come by.
            return NotImplemented
        name = func._schema.name.split("::")[1]
        if func.namespace in ("c10d", "_c10d_functional") and name not in _NOTHING_SENT:
            kind, whole = _KINDS[name]
            degree = _degree(args, kwargs or {})
            size = _bytes(args[max(whole, 0)]) * (degree if whole < 0 else 1)
            self.count[LoggedCollective(kind, size, degree)] += 1
        return func(*args, **(kwargs or {}))


def _bytes(value: Any) -> int:
    """Size of a tensor or of nested lists of them."""
    if isinstance(value, Tensor):
        return int(value.numel() * value.element_size())
    return sum(_bytes(part) for part in value)


def _degree(args: Any, kwargs: Any) -> int:
    """Ranks of the group among an operator's arguments, where it is an object or a name."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.ScriptObject) and "ProcessGroup" in str(value._type()):
            return int(dist.ProcessGroup.unbox(value).size())
    names = [value for value in (*args, *kwargs.values()) if isinstance(value, str)]
    return int(_resolve_process_group(names[-1]).size())


def buckets(replica: Any, run: Callable[[], Any]) -> list[int]:
    """Bytes of each bucket of gradients that a `DistributedDataParallel` module reduces, which no log sees.

    Parameters
    ----------
    replica
        The wrapped module; it takes one hook, so call this once.
    run
        One step with it.
    """
    sent: list[int] = []

    def note(bucket: dist.GradBucket) -> Any:
        sent.append(_bytes(bucket.buffer()))
        done: torch.futures.Future[Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    # A hook with annotations that are kept as strings would be refused.
    replica.register_comm_hook(None, lambda _, bucket: note(bucket))
    run()
    return sent


@contextmanager
def fake_ranks(number: int, rank: int = 0) -> Iterator[None]:
    """Pretend to be one of so many ranks, whose collectives answer at once."""
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=number)
    try:
        yield
    finally:
        dist.destroy_process_group()


def collectives(run: Callable[[], Any]) -> Traffic:
    """Log the collectives that a function issues, such as one training step.

    Parameters
    ----------
    run
        What to run, within `fake_ranks` or a real process group.
    """
    with _Log() as log:
        run()
    return Traffic(log.count)
