"""Modules that replicas share, and what they send in a step: torch's FSDP, data parallelism and sharded optimizer."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from measure.count.collectives import LoggedCollective, Traffic, buckets, collectives
from measure.models import Batch, Transformer

with warnings.catch_warnings():
    # Importing it compiles other optimizers in a way that torch itself calls deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch.distributed.optim import ZeroRedundancyOptimizer


def mesh_of(degree: int, across: int = 1) -> DeviceMesh:
    """Ranks that share parameters, and groups of them that hold the same."""
    shape, names = ((across, degree), ("replicate", "shard")) if across > 1 else ((degree,), ("shard",))
    return init_device_mesh("cpu", shape, mesh_dim_names=names)


@dataclass(frozen=True)
class Sharded:
    """A module whose embedding, layers, and head with the final normalisation torch shards one by one."""

    module: FSDPModule
    groups: tuple[tuple[nn.Parameter, ...], ...]
    """Parameters that are gathered together."""
    ranks: int

    def without_padding(self, traffic: Traffic, sizes: Sequence[int]) -> Traffic:
        """What was sent, but for the rows by which torch fills tensors up that ranks cannot cut equally.

        Sums across groups, of one rank's shards, count with the bytes of the shards of all ranks.

        Parameters
        ----------
        traffic
            What was logged.
        sizes
            Bytes of an element, gathered or reduced.
        """
        true = {}
        for group in self.groups:
            # The first rank has as much as any.
            most: list[Any] = [parameter.to_local() for parameter in group]
            padded, exact = self.ranks * sum(part.numel() for part in most), sum(part.numel() for part in group)
            true.update({padded * size: exact * size for size in sizes})
        plain: Counter[LoggedCollective] = Counter()
        for one, number in traffic.count.items():
            size = one.bytes * (self.ranks if one.kind == "all_reduce" else 1)
            plain[replace(one, bytes=true.get(size, size))] += number
        return Traffic(plain)


def sharded(
    module: Transformer,
    mesh: DeviceMesh,
    *,
    tied: bool,
    again: bool = True,
    computed: torch.dtype = torch.bfloat16,
    reduced: torch.dtype = torch.float32,
) -> Sharded:
    """Let torch shard a module over the last axis of a mesh.

    Parameters
    ----------
    module
        On a real device, or pretended.
    mesh
        Ranks that share parameters.
    tied
        Whether head and embedding share a table, and so are gathered together.
    again
        Whether layers are gathered again for the backward pass.
    computed, reduced
        What parameters are gathered in and gradients reduced in.
    """
    precision = MixedPrecisionPolicy(param_dtype=computed, reduce_dtype=reduced)
    towers = [tower for tower in (module.tower, module.decoder) if tower is not None]
    groups: list[list[nn.Module]] = [[layer] for tower in towers for layer in tower.layers]
    for group in groups:
        fully_shard(group, mesh=mesh, mp_policy=precision, reshard_after_forward=again)
    if not tied:
        starts: list[nn.Module] = [module.embedding, *(tower.positions for tower in towers)]
        ends: list[nn.Module] = [*(tower.final_norm for tower in towers), module.head]
        for group in (starts, ends):
            fully_shard(group, mesh=mesh, mp_policy=precision, reshard_after_forward=False)
            groups.append(group)
    whole = fully_shard(module, mesh=mesh, mp_policy=precision)
    held = [tuple(dict.fromkeys(one for part in group for one in part.parameters())) for group in groups]
    inside = {id(one) for group in held for one in group}
    rest = tuple(one for one in module.parameters() if id(one) not in inside)
    return Sharded(whole, tuple(group for group in (*held, rest) if group), mesh.size(-1))


def sharded_step(wrapped: Sharded, batch: Batch, micro_batches: int, *, waits: bool = False) -> Traffic:
    """Collectives of a step, in which only the last micro-batch reduces gradients across groups.

    Parameters
    ----------
    found
        The module.
    batch
        A micro-batch.
    micro_batches
        How many of them.
    waits
        Whether gradients are added up until the last micro-batch within a group, too.
    """
    module: Any = wrapped.module

    def step() -> None:
        for number in range(micro_batches):
            module.set_requires_all_reduce(number == micro_batches - 1)
            if waits:
                module.set_requires_gradient_sync(number == micro_batches - 1)
            module(batch).backward()

    return collectives(step)


def replicated_step(module: Transformer, batch: Batch, micro_batches: int, *, each: bool = False) -> int:
    """Bytes of gradients that `DistributedDataParallel` reduces in a step.

    Parameters
    ----------
    module
        The module of a replica; on the meta device nothing is allocated.
    batch
        A micro-batch.
    micro_batches
        How many of them.
    each
        Whether each of them is reduced, or their sum.
    """
    replica = DistributedDataParallel(module, init_sync=False)

    def step() -> None:
        for number in range(micro_batches):
            replica.require_backward_grad_sync = each or number == micro_batches - 1
            replica(batch).backward()

    return sum(buckets(replica, step))


def updated_parameters(module: Transformer, batch: Batch) -> Traffic:
    """Collectives of a step of torch's sharded optimizer: each rank sends the parameters that it updated."""
    parts = ZeroRedundancyOptimizer(module.parameters(), optimizer_class=torch.optim.AdamW)
    module(batch).backward()
    return collectives(parts.step)
