"""What of memory is there at a time: bytes of tensors that operators have made and that nothing has freed yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Made(TorchDispatchMode):
    """Remembers which storages exist after each operator."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.moments: list[frozenset[int]] = []
        self.at_end: int | None = None
        """The moment from which on the embedding runs backward."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(outputs):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                # A weak reference keeps the number of a storage from being given again.
                self.storages.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        if func is torch.ops.aten.embedding_dense_backward.default and self.at_end is None:
            self.at_end = len(self.moments)
        self.moments.append(frozenset(key for key, (held, _) in self.storages.items() if not held.expired()))
        return outputs

    def most(self, among: set[int]) -> tuple[int, int]:
        """Bytes of those storages among some, where these are most: before the embedding runs backward, and then."""
        held = [sum(self.storages[key][1] for key in moment & among) for moment in self.moments]
        return max(held[: self.at_end]), max(held[self.at_end :]) if self.at_end is not None else 0


def _contributions(loss: Tensor, trained: Collection[Tensor]) -> Iterator[tuple[Any, int]]:
    """Nodes of a graph that make gradients of parameters, with the number of the output that is one."""
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        for number, (following, _) in enumerate(node.next_functions):
            if following is None:
                continue
            if hasattr(following, "variable"):
                if any(following.variable is parameter for parameter in trained):
                    yield node, number
            elif following not in seen:
                seen.add(following)
                waiting.append(following)


def updated_in_backward(module: nn.Module, run: Callable[[], Tensor]) -> tuple[int, int]:
    """Bytes of the gradients that exist at once while an optimizer for each parameter runs in the backward pass.

    As `register_optim_in_bwd_hooks` of torchtune 0.6.1 (torchtune/training/memory.py) has it; gradients of a parameter
    that is used more than once wait for each other. First before the embedding runs backward, then from there on.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizers = {parameter: torch.optim.SGD([parameter]) for parameter in trained}
    gradients: set[int] = set()

    def note(gradient: Tensor | None) -> None:
        if gradient is not None:
            gradients.add(gradient.untyped_storage()._cdata)

    def update(parameter: Tensor) -> None:
        note(parameter.grad)
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in trained:
        parameter.register_post_accumulate_grad_hook(update)
    with _Made() as made:
        loss = run()
        for node, number in list(_contributions(loss, trained)):
            node.register_hook(lambda made, _, number=number: note(made[number]))
        loss.backward()
    return made.most(gradients)
