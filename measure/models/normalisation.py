"""Normalisations of the reference modules, each as the one kernel that a GPU has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from measure.models.setting import Setting
from simulator.specs.model import Model


class RootMeanSquareNorm(nn.Module):
    """RMSNorm without bias, which keeps its input and one number a token."""

    def __init__(self, width: int, *, scales: bool = True, **factory: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, **factory)) if scales else None
        self.width = width

    def forward(self, hidden: Tensor) -> Tensor:
        """Divide by the root of the mean square."""
        if hidden.is_cuda:
            return functional.rms_norm(hidden, (self.width,), self.weight, 1e-6)
        # Elsewhere torch composes it of five kernels, each of which keeps its input.
        return _RootMeanSquare.apply(_raised(hidden, self.weight), self.weight)


class _RootMeanSquare(torch.autograd.Function):
    """The one kernel that a GPU has, with what it keeps."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor | None) -> Tensor:
        rate = torch.rsqrt(hidden.float().square().mean(-1, keepdim=True) + 1e-6)
        ctx.save_for_backward(hidden, weight, rate)
        return (hidden * rate * _or_one(weight)).to(hidden.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        hidden, weight, rate = ctx.saved_tensors
        normal = hidden.float() * rate
        scaled = gradient.float() * _or_one(weight)
        inputs = rate * (scaled - normal * (scaled * normal).mean(-1, keepdim=True))
        return inputs.to(hidden.dtype), _of_weight(gradient.float() * normal, weight)


class _LayerNorm(torch.autograd.Function):
    """LayerNorm with weights of a shape of their own, which keeps its input and two numbers a vector."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        variance, mean = torch.var_mean(hidden.float(), dim=-1, keepdim=True, correction=0)
        rate = torch.rsqrt(variance + 1e-5)
        ctx.save_for_backward(hidden, weight, bias, mean, rate)
        normal = (hidden.float() - mean) * rate * _or_one(weight)
        return (normal if bias is None else normal + bias).to(hidden.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        hidden, weight, bias, mean, rate = ctx.saved_tensors
        normal = (hidden.float() - mean) * rate
        scaled = gradient.float() * _or_one(weight)
        inputs = scaled - scaled.mean(-1, keepdim=True) - normal * (scaled * normal).mean(-1, keepdim=True)
        weights = _of_weight(gradient.float() * normal, weight)
        return (rate * inputs).to(hidden.dtype), weights, _of_weight(gradient.float(), bias)


def _raised(hidden: Tensor, weight: Tensor | None) -> Tensor:
    """The input as the kernel reads it: in fp32 where weights are, as automatic casts do."""
    return hidden if weight is None else hidden.to(weight.dtype)


def _or_one(weight: Tensor | None) -> Tensor | float:
    """What a normalised vector is scaled by."""
    return 1.0 if weight is None else weight


def _of_weight(gradients: Tensor, weight: Tensor | None) -> Tensor | None:
    """The gradient of weights, which all vectors but those of other heads share."""
    if weight is None:
        return None
    return gradients.flatten(0, gradients.dim() - weight.dim() - 1).sum(0).to(weight.dtype)


class HeadNorm(nn.Module):
    """Normalisation of queries or keys: of each head, or of all heads of a token together."""

    def __init__(self, model: Model, setting: Setting, heads: int) -> None:
        super().__init__()
        size, form = model.width_of_head, model.query_key_norm
        if form == "joint" and setting.split.degree > 1:
            raise ValueError(f"{model.id}: heads that are normalised together are not built apart")
        shapes = {"shared": (size,), "per-head": (heads, size), "joint": (heads * size,)}
        shape, factory = shapes.get(form), setting.factory
        self.joint, self.centred = form == "joint", model.normalisation == "layernorm"
        biased = shape is not None and "query_key_norm" in model.biases
        self.weight = None if shape is None else nn.Parameter(torch.ones(shape, **factory))
        self.bias = nn.Parameter(torch.zeros(shape, **factory)) if biased and shape is not None else None

    def forward(self, heads: Tensor) -> Tensor:
        """From tokens x sequences x heads x width to the same."""
        vectors = _raised(heads.flatten(-2) if self.joint else heads, self.weight)
        if self.centred:
            normal: Tensor = _LayerNorm.apply(vectors, self.weight, self.bias)
        else:
            normal = _RootMeanSquare.apply(vectors, self.weight)
        return normal.view_as(heads)


def norm(model: Model, width: int, setting: Setting, *, bias: bool | None = None) -> nn.Module:
    """The normalisation of a model; a `bias` as its layers have unless said."""
    if model.normalisation == "rmsnorm":
        return RootMeanSquareNorm(width, scales=model.norm_weights, **setting.factory)
    biased = "normalisation" in model.biases if bias is None else bias
    return nn.LayerNorm(width, bias=biased, elementwise_affine=model.norm_weights, **setting.factory)
