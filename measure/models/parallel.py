"""Tensor parallelism as Megatron-LM does it: each rank holds its part of every product, and collectives join them.

Hidden states are laid out as tokens, sequences, width, so that sharing the tokens of a sequence cuts the first axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

# The names that torch 2.13 gave to `all_gather_into_tensor` and `reduce_scatter_tensor`.
_all_gather = dist.all_gather_single if hasattr(dist, "all_gather_single") else dist.all_gather_into_tensor
_reduce_scatter = dist.reduce_scatter_single if hasattr(dist, "reduce_scatter_single") else dist.reduce_scatter_tensor


@dataclass(frozen=True)
class Split:
    """The part of a model that one of several tensor-parallel ranks holds."""

    degree: int = 1
    rank: int = 0
    group: Any = None
    """The process group of the ranks; the default one if none is given."""
    sequence_parallel: bool = False
    """Whether ranks share the tokens of normalisations, dropouts and residual additions."""
    regathers_inputs: bool = False
    """Whether a product keeps this rank's share of its gathered input and gathers it again for the backward pass."""

    def enter(self, hidden: Tensor, linears: Sequence[nn.Linear]) -> list[Tensor]:
        """Column-parallel products of one input, which is gathered once for all of them."""
        if self.degree > 1 and self.sequence_parallel and self.regathers_inputs:
            factors = [factor for linear in linears for factor in (linear.weight, linear.bias)]
            return list(_GatheredProducts.apply(self, hidden, *factors))
        entered = self._whole(hidden)
        return [linear(entered) for linear in linears]

    def enter_all(self, memory: Tensor) -> Tensor:
        """Prepare an input that many layers read: gathered once, unless each of them gathers it again."""
        return memory if self.sequence_parallel and self.regathers_inputs else self._whole(memory)

    def read(self, memory: Tensor, linears: Sequence[nn.Linear]) -> list[Tensor]:
        """Column-parallel products of an input that `enter_all` prepared."""
        if self.sequence_parallel and self.regathers_inputs:
            return self.enter(memory, linears)
        return [linear(memory) for linear in linears]

    def _whole(self, hidden: Tensor) -> Tensor:
        """The whole input, whose gradient is the sum of all ranks'."""
        if self.degree == 1:
            return hidden
        return _Gather.apply(self, hidden) if self.sequence_parallel else self.copy(hidden)

    def copy(self, whole: Tensor) -> Tensor:
        """The tensor itself, whose gradient is the sum of all ranks'."""
        return whole if self.degree == 1 else _Copy.apply(self, whole)

    def leave(self, products: Sequence[tuple[nn.Linear, Tensor]]) -> list[Tensor]:
        """Row-parallel products: each of them alone on one rank, else their sum over products and ranks."""
        if self.degree == 1:
            return [linear(activations) for linear, activations in products]
        parts = [functional.linear(activations, linear.weight) for linear, activations in products]
        joined = self.join(sum(parts[1:], start=parts[0]))
        return [sum((linear.bias for linear, _ in products if linear.bias is not None), start=joined)]

    def join(self, part: Tensor) -> Tensor:
        """Sum over the ranks; with sequence parallelism this rank's tokens of it."""
        if self.degree == 1:
            return part
        return _Scatter.apply(self, part) if self.sequence_parallel else _Reduce.apply(self, part)

    def gather(self, hidden: Tensor) -> Tensor:
        """All tokens, for modules that every rank runs alike: each then takes its own tokens of the gradient."""
        return _GatherCopies.apply(self, hidden) if self.degree > 1 and self.sequence_parallel else hidden

    def reduced(self, tensor: Tensor, operation: Any = dist.ReduceOp.SUM) -> Tensor:
        """All-reduce in place."""
        dist.all_reduce(tensor, op=operation, group=self.group)
        return tensor

    def gathered(self, share: Tensor) -> Tensor:
        """All-gather along the first axis."""
        whole = share.new_empty(share.shape[0] * self.degree, *share.shape[1:])
        _all_gather(whole, share.contiguous(), group=self.group)
        return whole

    def scattered(self, whole: Tensor) -> Tensor:
        """Reduce-scatter along the first axis."""
        share = whole.new_empty(whole.shape[0] // self.degree, *whole.shape[1:])
        _reduce_scatter(share, whole.contiguous(), group=self.group)
        return share

    def add_up(self, parts: Sequence[Tensor], holders: int | None = None) -> None:
        """Sum tensors over the ranks, or over neighbouring ones that hold the same, in one message."""
        flat = self.summed(torch.cat([part.flatten() for part in parts]), holders or self.degree)
        for part, summed in zip(parts, flat.split([part.numel() for part in parts]), strict=True):
            part.copy_(summed.view_as(part))

    def summed(self, tensor: Tensor, holders: int) -> Tensor:
        """Sum in place over neighbouring ranks, so many together."""
        group = self.group if holders == self.degree else dist.new_subgroups(holders)[0]
        dist.all_reduce(tensor, group=group)
        return tensor

    def own(self, whole: Tensor) -> Tensor:
        """The part of the first axis that belongs to this rank."""
        return whole.chunk(self.degree)[self.rank]


@dataclass(frozen=True)
class Alone(Split):
    """A rank whose collectives send nothing and return tensors of the right shape: for counting what others send."""

    def reduced(self, tensor: Tensor, operation: Any = dist.ReduceOp.SUM) -> Tensor:  # noqa: ARG002
        """The tensor itself, unchanged."""
        return tensor

    def gathered(self, share: Tensor) -> Tensor:
        """As many tokens as all ranks have."""
        return share.new_empty(share.shape[0] * self.degree, *share.shape[1:])

    def scattered(self, whole: Tensor) -> Tensor:
        """As many tokens as one rank has."""
        return whole.new_empty(whole.shape[0] // self.degree, *whole.shape[1:])

    def summed(self, tensor: Tensor, holders: int) -> Tensor:  # noqa: ARG002
        """The tensor itself, unchanged."""
        return tensor


class _Copy(torch.autograd.Function):
    """Nothing forward, all-reduce backward."""

    @staticmethod
    def forward(ctx: Any, split: Split, whole: Tensor) -> Tensor:
        ctx.split = split
        return whole.view_as(whole)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, ctx.split.reduced(gradient.clone())


class _Reduce(torch.autograd.Function):
    """All-reduce forward, nothing backward."""

    @staticmethod
    def forward(_: Any, split: Split, part: Tensor) -> Tensor:
        return split.reduced(part.clone())

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


class _Gather(torch.autograd.Function):
    """All-gather forward, reduce-scatter backward."""

    @staticmethod
    def forward(ctx: Any, split: Split, share: Tensor) -> Tensor:
        ctx.split = split
        return split.gathered(share)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, ctx.split.scattered(gradient)


class _Scatter(torch.autograd.Function):
    """Reduce-scatter forward, all-gather backward."""

    @staticmethod
    def forward(ctx: Any, split: Split, part: Tensor) -> Tensor:
        ctx.split = split
        return split.scattered(part)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, ctx.split.gathered(gradient)


class _GatherCopies(torch.autograd.Function):
    """All-gather forward; backward each rank takes its part of a gradient that all of them have in full."""

    @staticmethod
    def forward(ctx: Any, split: Split, share: Tensor) -> Tensor:
        ctx.split = split
        return split.gathered(share)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, ctx.split.own(gradient)


class _GatheredProducts(torch.autograd.Function):
    """Products of a gathered input of which only this rank's share is kept."""

    @staticmethod
    def forward(ctx: Any, split: Split, share: Tensor, *factors: Tensor | None) -> tuple[Tensor, ...]:
        ctx.split, ctx.biased = split, [bias is not None for bias in factors[1::2]]
        ctx.save_for_backward(share, *factors[::2])
        whole = split.gathered(share)
        return tuple(
            functional.linear(whole, weight, bias) for weight, bias in zip(factors[::2], factors[1::2], strict=True)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        share, *weights = ctx.saved_tensors
        whole = ctx.split.gathered(share).flatten(0, -2)
        parts = [gradient @ weight for gradient, weight in zip(gradients, weights, strict=True)]
        of_weight: list[Tensor | None] = []
        for gradient, biased in zip(gradients, ctx.biased, strict=True):
            rows = gradient.flatten(0, -2)
            of_weight += [rows.t() @ whole, rows.sum(0) if biased else None]
        return None, ctx.split.scattered(sum(parts[1:], start=parts[0])), *of_weight


class ShardedEmbedding(nn.Module):
    """Rows of an embedding table on one rank; those of other ranks count as zero until all are added up."""

    def __init__(self, rows: int, width: int, split: Split, **factory: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, width, **factory) * 0.02)
        self.first = split.rank * rows

    def forward(self, ids: Tensor) -> Tensor:
        """Look up ids of the whole vocabulary."""
        return _Lookup.apply(self.weight, ids - self.first)


class _Lookup(torch.autograd.Function):
    """Rows of a table, zero for ids outside of it; keeps the ids alone."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape = table.shape
        outside = (ids < 0) | (ids >= table.shape[0])
        return functional.embedding(ids.clamp(0, table.shape[0] - 1), table).masked_fill_(outside.unsqueeze(-1), 0.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        outside = (ids < 0) | (ids >= ctx.shape[0])
        rows = gradient.masked_fill(outside.unsqueeze(-1), 0.0).flatten(0, -2)
        table = gradient.new_zeros(ctx.shape)
        return table.index_add_(0, ids.clamp(0, ctx.shape[0] - 1).flatten(), rows), None


class ShardedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of each row over a vocabulary that the ranks share; keeps the softmax of this rank's words."""

    @staticmethod
    def forward(ctx: Any, split: Split, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of each row from float32 logits."""
        words = logits.shape[1]
        local = targets - split.rank * words
        outside = (local < 0) | (local >= words)
        column = local.clamp(0, words - 1).unsqueeze(1)
        logits = logits - split.reduced(logits.amax(1), dist.ReduceOp.MAX).unsqueeze(1)
        chosen = split.reduced(logits.gather(1, column).squeeze(1).masked_fill_(outside, 0.0))
        softmax = logits.exp_()
        sums = split.reduced(softmax.sum(1))
        softmax.div_(sums.unsqueeze(1))
        ctx.save_for_backward(softmax, local)
        return sums.log() - chosen

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        """Softmax less one at the target."""
        softmax, local = ctx.saved_tensors
        words = softmax.shape[1]
        inside = ((local >= 0) & (local < words)).to(softmax.dtype)
        of_logits = softmax.clone()
        of_logits.scatter_add_(1, local.clamp(0, words - 1).unsqueeze(1), -inside.unsqueeze(1))
        return None, of_logits * gradient.unsqueeze(1), None
