"""Bytes that autograd keeps of a forward pass for the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed.tensor import DTensor

_INDICES = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64)


@dataclass(frozen=True)
class SavedActivations:
    """What autograd kept of one forward pass."""

    bytes: int
    tensors: int
    """Distinct storages."""


class _Packed:
    """A tensor that a graph has kept, for as long as that graph is there."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def saved_activations(
    run: Callable[[], Tensor],
    module: nn.Module,
    copies: Mapping[int, Tensor] | None = None,
    outputs: Callable[[], Iterable[Tensor]] = tuple,
) -> SavedActivations:
    """Count the storages that a forward pass keeps for its backward pass.

    Each storage counts once and whole, however many views of it are kept, and as long as something needs it: what a
    part of the graph kept that leads nowhere is gone by the end. These do not count, everywhere alike:
    parameters and buffers, which are there anyway; integers, which are the batch, or positions found from it; and
    single numbers, such as the total weight of a loss. A distributed tensor counts with its local part.

    Parameters
    ----------
    run
        The forward pass; on the meta device it allocates nothing.
    module
        Whose parameters and buffers do not count.
    copies
        What the run makes of parameters, such as casts of them, which do not count either; it is read afterwards.
    outputs
        Tells what a policy by operator has kept of the run beside what autograd has.
    """
    own = {_storage(tensor) for tensor in _held(module)}
    packed: WeakSet[_Packed] = WeakSet()

    def pack(tensor: Tensor) -> _Packed:
        held = _Packed(tensor)
        packed.add(held)
        return held

    with saved_tensors_hooks(pack, lambda held: held.tensor):
        output = run()
    kept: dict[int, Tensor] = {}
    for tensor in (*(held.tensor for held in packed), *outputs()):
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        if local.dtype not in _INDICES and local.numel() > 1 and _storage(local) not in own:
            kept[_storage(local)] = local
    for tensor in (copies or {}).values():
        kept.pop(_storage(tensor), None)
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del output
    return SavedActivations(bytes=size, tensors=len(kept))


def _held(module: nn.Module) -> Iterable[Tensor]:
    """Parameters and buffers, the local parts of distributed ones."""
    for tensor in (*module.parameters(), *module.buffers()):
        yield tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _storage(tensor: Tensor) -> int:
    """Identify a storage; those of the meta device have no address."""
    return int(tensor.untyped_storage()._cdata)
