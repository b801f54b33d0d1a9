"""Cross-entropies as kernels compute them, after Liger Kernel 0.5: in the place of the logits, and piece by piece."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from measure.models import Transformer


class InPlace(torch.autograd.Function):
    """The gradient of the logits takes their place in the forward pass (`ops/cross_entropy.py`)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        own = logits.detach()
        loss = functional.cross_entropy(own.float(), labels)
        own.copy_((torch.softmax(own.float(), -1) - functional.one_hot(labels, own.shape[-1])) / len(labels))
        ctx.save_for_backward(own)
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * gradient, None


class ByPieces(torch.autograd.Function):
    """Pieces of logits leave the gradients of hidden states and weights (`ops/fused_linear_cross_entropy.py`)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, pieces: int) -> Tensor:
        of_hidden, of_weight = torch.empty_like(hidden), torch.zeros_like(weight) if weight.requires_grad else None
        losses = []
        for rows, wanted, made in zip(hidden.chunk(pieces), labels.chunk(pieces), of_hidden.chunk(pieces), strict=True):
            logits = rows @ weight.t()
            losses.append(functional.cross_entropy(logits.float(), wanted))
            back = torch.softmax(logits.float(), -1).to(logits.dtype)
            made.copy_(back @ weight)
            if of_weight is not None:
                of_weight += back.t() @ rows
        ctx.save_for_backward(of_hidden, of_weight)
        return torch.stack(losses).mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        of_hidden, of_weight = ctx.saved_tensors
        return of_hidden * gradient, None if of_weight is None else of_weight * gradient, None, None


def set_loss(module: Transformer, kind: str, z_loss: float = 0.0) -> int:
    """Give a reference module another loss; bytes of a gradient of weights that is made in the forward pass."""
    head = module.head
    if kind == "fused":
        head._loss = InPlace.apply
    if z_loss and kind == "unfused":

        def with_z_loss(logits: Tensor, labels: Tensor) -> Tensor:
            wide = (logits if head.cap is None else torch.tanh(logits / head.cap) * head.cap).float()
            return functional.cross_entropy(wide, labels) + z_loss * (torch.logsumexp(wide, -1) ** 2).mean()

        head._loss = with_z_loss
    if kind != "chunked":
        return 0

    def by_pieces(hidden: Tensor, labels: Tensor) -> Tensor:
        return ByPieces.apply(hidden.flatten(0, 1), head.words.weight, labels.t().flatten(), 4)

    head._every_word = by_pieces
    return head.words.weight.nbytes if head.words.weight.requires_grad else 0
