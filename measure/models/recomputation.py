"""Recomputation of the reference modules: of modules that discard what they return, and of all but some operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

_KEPT = (
    torch.ops.aten.mm.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops._c10d_functional.reduce_scatter_tensor.default,
    torch.ops._c10d_functional.all_to_all_single.default,
    torch.ops.aten.max.default,
)
"""Of the operators whose outputs torchtitan keeps those that reference modules call: `_op_sac_save_list` in
`torchtitan/models/llama3/infra/parallelize.py` and `models/llama4/infra/parallelize.py` of v0.2.2."""


class Discarding:
    """A function of which neither the inside nor what it returns is kept: the backward pass makes both again.

    As Megatron Core's `CheckpointWithoutOutput` (`megatron/core/tensor_parallel/random.py` of core_v0.19.0): what reads
    the outputs keeps tensors without storage, which come back as the gradient of a later tensor is there.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.inputs: tuple[Tensor, ...] = ()
        self.outputs: tuple[Tensor, ...] = ()
        self.made: tuple[Tensor, ...] = ()

    def __call__(self, *inputs: Tensor) -> Any:
        """Run it without keeping the inside."""
        if not torch.is_grad_enabled():
            return self.function(*inputs)
        outputs = _WithoutOutput.apply(self, *inputs)
        self.outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return outputs

    def discard(self, later: Tensor) -> None:
        """Free the outputs, until the gradient of a tensor that was made of them is there."""
        if not self.outputs:
            return
        for output in self.outputs:
            output.untyped_storage().resize_(0)
        later.register_hook(self._again)

    def _again(self, _: Tensor) -> None:
        """Run it again, and fill the outputs."""
        with torch.enable_grad():
            made = self.function(*self.inputs)
        self.made = made if isinstance(made, tuple) else (made,)
        for output, filled in zip(self.outputs, self.made, strict=True):
            # Through storages, so that autograd does not take what it has kept for changed.
            output.untyped_storage().resize_(filled.untyped_storage().nbytes())
            output.untyped_storage().copy_(filled.untyped_storage())


class _WithoutOutput(torch.autograd.Function):
    """The function without a graph; its backward pass goes through what was made again."""

    @staticmethod
    def forward(ctx: Any, discarding: Discarding, *inputs: Tensor) -> Any:
        with torch.no_grad():
            outputs = discarding.function(*inputs)
        ctx.save_for_backward(*inputs)
        ctx.discarding = discarding
        discarding.inputs = tuple(each.detach().requires_grad_(each.requires_grad) for each in inputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        discarding = ctx.discarding
        torch.autograd.backward(discarding.made, gradients)
        own = tuple(each.grad for each in discarding.inputs)
        discarding.made = discarding.inputs = ()
        return None, *own


class OperatorContexts:
    """Contexts of torch's selective checkpointing that keep what torchtitan's policy keeps, and count it."""

    def __init__(self, never: set[torch.Size]) -> None:
        self.never = never
        """Shapes of second factors whose products are always made again: of routers."""
        self.caches: list[Any] = []

    def kept(self) -> Iterator[Tensor]:
        """What operators returned and is kept."""
        for caching in self.caches:
            for entries in caching.storage.values():
                yield from (leaf.val for leaf in tree_leaves(list(entries.values())) if hasattr(leaf, "val"))

    def __call__(self) -> tuple[TorchDispatchMode, TorchDispatchMode]:
        """Contexts of the forward pass and of its repetition, of one layer."""
        number = {False: 0, True: 0}

        def policy(context: Any, operator: Any, *inputs: Any, **_: Any) -> CheckpointPolicy:
            if operator is torch.ops.aten.mm.default:
                if inputs[1].shape in self.never:
                    return CheckpointPolicy.PREFER_RECOMPUTE
                number[context.is_recompute] += 1
                if number[context.is_recompute] % 2 == 0:
                    return CheckpointPolicy.PREFER_RECOMPUTE
            return CheckpointPolicy.MUST_SAVE if operator in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE

        caching, cached = create_selective_checkpoint_contexts(policy)
        self.caches.append(caching)
        return caching, cached


def outputs_kept(module: nn.Module) -> list[Tensor]:
    """What operators of a module's last forward pass returned and is kept for its backward pass."""
    contexts = (getattr(part, "contexts", None) for part in module.modules())
    return [output for each in contexts if each is not None for output in each.kept() if isinstance(output, Tensor)]
