"""Collectives among ranks: which there are, how one is called, and how long it takes on the slowest rank.

Sizes are those of the whole message: the reduced tensor, the gathered or scattered one, what one rank sends to all, or
what one sends to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from measure.clock.timer import Effort
from simulator.profiling.records.record import Case, Dtype

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "send_recv")
WARM_UPS = 10
"""The first calls of a size set up channels."""
_MOST_REPEATS = 1000
EFFORT = Effort(warm_up_s=0.0, block_s=0.02, samples=9, most_s=2.0)
"""How much time a collective may take."""


@dataclass(frozen=True)
class RankGroup:
    """Ranks that take part: so many, so far apart, from the first."""

    ranks: int
    stride: int = 1

    @property
    def members(self) -> list[int]:
        """Their numbers."""
        return [index * self.stride for index in range(self.ranks)]


def groups_of(world: int, per_node: int) -> list[RankGroup]:
    """Every size of group: neighbours by powers of two, of a node and up to all, and one rank of each node.

    Parameters
    ----------
    world
        Ranks altogether.
    per_node
        Ranks of one node.

    Examples
    --------
    >>> [(group.ranks, group.stride) for group in groups_of(16, 8)]
    [(2, 1), (4, 1), (8, 1), (16, 1), (2, 8)]
    """
    sizes = [2**exponent for exponent in range(1, world.bit_length()) if 2**exponent <= world]
    near = [RankGroup(size) for size in sorted({*sizes, per_node, world}) if 1 < size <= world]
    nodes = world // max(per_node, 1)
    across = [size for size in dict.fromkeys([*sizes, nodes]) if 1 < size <= nodes] if 1 < per_node < world else []
    return near + [RankGroup(size, per_node) for size in across]


def cases_of(world: int, per_node: int, backend: str, smallest: int, largest: int) -> list[Case]:
    """All collectives: every fourth size first, of the largest group first; then those between.

    Parameters
    ----------
    world
        Ranks altogether.
    per_node
        Ranks of one node.
    backend
        The library.
    smallest
        Message [B].
    largest
        Message [B].
    """
    dtype: Dtype = "fp32" if backend == "gloo" else "bf16"
    sizes = []
    size = smallest
    while size <= largest:
        sizes.append(size)
        size *= 2
    ordered = sorted(dict.fromkeys([*sizes, largest]))
    groups = sorted(groups_of(world, per_node), key=lambda group: -group.ranks)
    cases = []
    for some in (ordered[::-4], [each for index, each in enumerate(ordered[::-1]) if index % 4]):
        for group in groups:
            for operation in OPERATIONS:
                for each in some:
                    dimensions = {"bytes": each, "ranks": group.ranks, "stride": group.stride}
                    case = Case(phase="collective", operation=operation, dimensions=dimensions, dtype=dtype)
                    cases.append(case.model_copy(update={"variant": backend}))
    return cases


def caller(case: Case, group: RankGroup, handle: Any, target: str) -> Callable[[], object]:
    """Make the buffers of a collective on this rank, and its call.

    Parameters
    ----------
    case
        Which, and its size.
    group
        The ranks.
    handle
        What torch knows the group by.
    target
        Where tensors lie.
    """
    dtype = torch.float32 if case.dtype == "fp32" else torch.bfloat16
    share = max(case.dimensions["bytes"] // dtype.itemsize // group.ranks, 1)

    def some(numbers: int) -> Tensor:
        return torch.randn(numbers, device=target, dtype=dtype)

    name = case.operation
    if name == "all_reduce":
        whole = some(share * group.ranks)
        return lambda: dist.all_reduce(whole, group=handle)
    if name == "broadcast":
        whole = some(share * group.ranks)
        return lambda: dist.broadcast(whole, src=0, group=handle)
    if name == "send_recv":
        return _around(some(share * group.ranks), group, handle)
    one, whole = some(share), some(share * group.ranks)
    if name == "all_gather":
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # the older name
        return lambda: gather(whole, one, group=handle)
    if name == "reduce_scatter":
        scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
        return lambda: scatter(one, whole, group=handle)
    other = some(share * group.ranks)
    return lambda: dist.all_to_all_single(other, whole, group=handle)


def _around(message: Tensor, group: RankGroup, handle: Any) -> Callable[[], object]:
    """Each rank sends to the next and receives from the one before."""
    here = group.members.index(dist.get_rank())
    after, before = (group.members[(here + step) % group.ranks] for step in (1, -1))
    received = torch.empty_like(message)

    def exchange() -> None:
        pair = [
            dist.P2POp(dist.isend, message, after, handle),
            dist.P2POp(dist.irecv, received, before, handle),
        ]
        for request in dist.batch_isend_irecv(pair):
            request.wait()

    return exchange


class Stopwatch:
    """Times calls that ranks make together: by device events, or by the wall clock where the CPU communicates.

    Parameters
    ----------
    target
        Where tensors lie.
    """

    def __init__(self, target: str) -> None:
        self.gpu = target.startswith("cuda")

    def block(self, call: Callable[[], object], repeats: int) -> float:
        """Time of one of so many calls [s]."""
        if not self.gpu:
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            return (time.perf_counter() - start) / repeats
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) * 1e-3 / repeats


def sample(
    call: Callable[[], object],
    watch: Stopwatch,
    effort: Effort,
    *,
    meet: Callable[[], object],
    agree: Callable[[Sequence[float]], list[float]],
) -> tuple[list[float], int]:
    """Time a collective; every rank makes the same calls.

    Parameters
    ----------
    call
        The collective on this rank.
    watch
        Its clock.
    effort
        How much time it may take.
    meet
        Waits for the other ranks of the group.
    agree
        The largest of each number among the ranks of the group.

    Returns
    -------
    tuple
        Time of one call in each sample, of the slowest rank [s], and calls of a sample.
    """
    meet()
    watch.block(call, 1)
    (each,) = agree([watch.block(call, WARM_UPS)])
    repeats = min(max(int(effort.block_s / max(each, 1e-9)), 1), _MOST_REPEATS)
    number = max(min(effort.samples, int(effort.most_s / max(each * repeats, 1e-9))), 3)
    samples = []
    for _ in range(number):
        meet()
        samples.append(watch.block(call, repeats))
    return agree(samples), repeats
