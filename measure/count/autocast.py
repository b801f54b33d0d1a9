"""Automatic casts to 16 bits where torch has none: on tensors of the meta device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_PRODUCTS = frozenset(
    {
        functional.linear,
        functional.scaled_dot_product_attention,
        torch.bmm,
        torch.baddbmm,
        torch.matmul,
        Tensor.matmul,
        Tensor.__matmul__,
        torch.ops.aten._scaled_dot_product_flash_attention,
    }
)
"""Products run in 16 bits."""
_EXACT = frozenset(
    {functional.layer_norm, functional.rms_norm, functional.cross_entropy, functional.softmax, torch.softmax}
)
"""Normalisations, softmax and losses run in fp32; whatever else takes its inputs as they are."""


class Autocast(TorchFunctionMode):
    """Casts the inputs of functions by the lists that `torch.autocast` has for GPUs, as far as transformers use them.

    Parameters
    ----------
    dtype
        The 16 bits of products.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.copies: dict[int, Tensor] = {}
        """Casts of parameters, each made once, by the parameter's identity."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function on inputs that are cast as its list says."""
        kwargs = kwargs or {}
        if func in _PRODUCTS:
            return func(*map(self._lowered, args), **{name: self._lowered(value) for name, value in kwargs.items()})
        if func in _EXACT:
            return func(*map(_raised, args), **{name: _raised(value) for name, value in kwargs.items()})
        return func(*args, **kwargs)

    def _lowered(self, value: Any) -> Any:
        """The 16 bits of a tensor in fp32; those of a parameter from the first time on."""
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        if value.is_leaf and value.requires_grad:
            if id(value) not in self.copies:
                self.copies[id(value)] = value.to(self.dtype)
            return self.copies[id(value)]
        return value.to(self.dtype)


def _raised(value: Any) -> Any:
    """A tensor of 16 bits in fp32."""
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
