"""Attention of the reference modules: projections, positions and core."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from measure.models.setting import DROPOUT, Setting
from simulator.specs.model import Model


@dataclass(frozen=True)
class Scores:
    """What positions and masks do to queries, keys and scores; the same in every layer of a tower."""

    causal: bool = False
    bias: Tensor | None = None
    """Added to the scores: heads or 1, queries, keys."""
    cosine: Tensor | None = None
    """Of rotary positions: tokens, 1, 1, width of a head."""
    sine: Tensor | None = None
    waves: Tensor | None = None
    """Sinusoids of all distances, of Transformer-XL: tokens, hidden size."""


class Attention(nn.Module):
    """Self-attention, or attention to an encoder, between its column-parallel and its row-parallel product."""

    def __init__(self, model: Model, setting: Setting, *, to_encoder: bool = False) -> None:
        super().__init__()
        heads, kv_heads = setting.heads(model)
        self.head_size = model.width_of_head
        self.widths = [heads * self.head_size, kv_heads * self.head_size, kv_heads * self.head_size]
        self.dropout = DROPOUT if model.dropout else 0.0
        self.fused, self.selective = setting.fused_attention, setting.recompute == "selective"
        self.joint = setting.fused_qkv and not to_encoder
        outputs = [sum(self.widths)] if self.joint else self.widths
        biased, factory = "qkv" in model.biases, setting.factory
        self.projections = nn.ModuleList(
            nn.Linear(model.hidden_size, width, bias=biased, **factory) for width in outputs
        )
        self.relative = None
        if model.positions == "transformer-xl" and not to_encoder:
            self.relative = nn.Linear(model.hidden_size, self.widths[0], bias=False, **factory)
        self.output = nn.Linear(self.widths[0], model.hidden_size, bias="attention_output" in model.biases, **factory)

    def forward(self, projected: list[Tensor], scores: Scores) -> Tensor:
        """Mix values: from projections of tokens x sequences x width to the input of the output product."""
        parts = self._parts(projected[0]) if self.joint else projected
        query, key, value = (part.unflatten(-1, (-1, self.head_size)) for part in parts)
        if scores.cosine is not None:
            query, key = (_rotated(part, scores.cosine, scores.sine) for part in (query, key))
        if self.joint:
            # A part of the joint product would keep all of it alive.
            query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        mixed = self._fused(query, key, value, scores) if self.fused else self._unfused(query, key, value, scores)
        return mixed.flatten(-2)

    def copied_gradients(self) -> list[Tensor]:
        """Gradients of the key and value projections, of a joint product its last rows."""
        first = self.widths[0] if self.joint else 0
        linears = self.projections if self.joint else list(self.projections)[1:]
        factors = [factor for linear in linears for factor in (linear.weight, linear.bias) if factor is not None]
        return [factor.grad[first:] for factor in factors if factor.grad is not None]

    def _parts(self, projected: Tensor) -> list[Tensor]:
        """Queries, keys and values of a joint product, or of the columns of it that a distributed module holds."""
        ranks = sum(self.widths) // projected.shape[-1]
        return list(projected.split([width // ranks for width in self.widths], dim=-1))

    def _unfused(self, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        """Two products with the matrix of scores between them; query heads that share keys are rows of one product."""
        tokens, sequences, kv_heads, size = key.shape
        queries, group = query.shape[0], query.shape[2] // kv_heads
        rows = query.unflatten(2, (kv_heads, group)).permute(2, 1, 3, 0, 4)
        rows = rows.reshape(kv_heads * sequences, group * queries, size).contiguous()
        columns, values = (
            part.permute(2, 1, 0, 3).reshape(kv_heads * sequences, tokens, size).contiguous() for part in (key, value)
        )
        distances = None
        if self.relative is not None and scores.waves is not None:
            distances = self.relative(scores.waves).unflatten(-1, (-1, size)).permute(1, 2, 0).contiguous()

        def core(rows: Tensor, columns: Tensor, values: Tensor, distances: Tensor | None) -> Tensor:
            matrix = torch.bmm(rows, columns.transpose(1, 2))
            if distances is not None:
                # One product for all sequences, which share the distances.
                matrix = matrix + _shifted(torch.bmm(rows.view(kv_heads, -1, size), distances).view_as(matrix))
            matrix = (matrix * (1.0 / math.sqrt(size))).view(kv_heads, sequences, group, queries, tokens)
            if scores.bias is not None:
                shape = (kv_heads, 1, group) if scores.bias.shape[0] > 1 else (1, 1, 1)
                matrix = matrix + scores.bias.view(*shape, queries, tokens)
            weights = dropped(torch.softmax(matrix, dim=-1), self.dropout, training=self.training)
            return torch.bmm(weights.view(kv_heads * sequences, group * queries, tokens), values)

        if self.selective and torch.is_grad_enabled():
            mixed = checkpoint(core, rows, columns, values, distances, use_reentrant=False)
        else:
            mixed = core(rows, columns, values, distances)
        mixed = mixed.view(kv_heads, sequences, group, queries, size).permute(3, 1, 0, 2, 4)
        return mixed.reshape(queries, sequences, kv_heads * group, size)

    def _fused(self, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        """One kernel."""
        query, key, value = (part.permute(1, 2, 0, 3) for part in (query, key, value))
        dropout = self.dropout if self.training else 0.0
        if query.is_meta:
            # On meta tensors the public function runs as two products in float32, so name the kernel of a GPU.
            mixed = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, dropout, scores.causal)[0]
        else:
            mixed = functional.scaled_dot_product_attention(
                query, key, value, dropout_p=dropout, is_causal=scores.causal, enable_gqa=key.shape[1] < query.shape[1]
            )
        return mixed.permute(2, 0, 1, 3)


def dropped(values: Tensor, probability: float, *, training: bool) -> Tensor:
    """Drop elements, keeping a mask of one byte each."""
    if probability == 0.0 or not training:
        return values
    # The functional form keeps a mask of the values' own type on meta tensors.
    return torch.native_dropout(values, probability, True)[0]


def _shifted(matrix: Tensor) -> Tensor:
    """Move the scores of distances to the keys that lie so far: each row by one more than the row before."""
    rows, columns = matrix.shape[-2:]
    padded = functional.pad(matrix, (1, 0)).flatten(-2)[..., columns:]
    return padded.unflatten(-1, (rows, columns))


def _rotated(heads: Tensor, cosine: Tensor, sine: Tensor | None) -> Tensor:
    """Turn pairs of a head's elements by the angle of their token."""
    first, second = heads.chunk(2, dim=-1)
    return heads * cosine + torch.cat((-second, first), dim=-1) * sine


class Positions(nn.Module):
    """Masks and positions of one tower, as buffers and, for buckets of relative positions, a table."""

    def __init__(self, model: Model, setting: Setting, length: int, *, causal: bool) -> None:
        super().__init__()
        factory = setting.factory
        heads = setting.heads(model)[0]
        self.causal, self.length = causal, length
        distance = (
            torch.arange(length, device=setting.device)[None, :] - torch.arange(length, device=setting.device)[:, None]
        )
        bias = torch.zeros(1, length, length, **factory)
        if causal:
            bias = bias.masked_fill(distance > 0, float("-inf"))
        if model.positions == "alibi":
            own = torch.arange(1, heads + 1, **factory) + setting.split.rank * heads
            slopes = 2.0 ** (-8.0 * own / model.attention_heads)
            bias = bias - slopes[:, None, None] * distance.abs().to(setting.dtype)
        self.register_buffer("bias", bias if causal or model.positions == "alibi" else None, persistent=False)
        if model.positions == "rotary":
            rates = 10000.0 ** (-torch.arange(0, model.width_of_head, 2, **factory) / model.width_of_head)
            angles = torch.outer(torch.arange(length, **factory), rates).repeat(1, 2)[:, None, None, :]
            self.register_buffer("cosine", angles.cos(), persistent=False)
            self.register_buffer("sine", angles.sin(), persistent=False)
        if model.positions == "transformer-xl":
            rates = 10000.0 ** (-torch.arange(0, model.hidden_size, 2, **factory) / model.hidden_size)
            angles = torch.outer(torch.arange(length - 1, -1, -1, **factory), rates)
            self.register_buffer("waves", torch.cat((angles.sin(), angles.cos()), dim=-1), persistent=False)
        if model.positions == "relative-buckets":
            self.buckets = nn.Embedding(model.position_rows, heads, **factory)
            self.register_buffer("distance", _buckets(distance, model.position_rows, causal=causal), persistent=False)

    def forward(self) -> Scores:
        """What every layer of the tower applies."""
        bias = self.bias
        if hasattr(self, "buckets"):
            relative = self.buckets(self.distance).permute(2, 0, 1)
            bias = relative if bias is None else relative + bias
        cosine, sine, waves = (getattr(self, name, None) for name in ("cosine", "sine", "waves"))
        return Scores(self.causal, bias, cosine, sine, waves)


def _buckets(distance: Tensor, rows: int, *, causal: bool) -> Tensor:
    """Number of the bucket of each distance: exact ones for the near half, logarithmic ones beyond."""
    sides = 1 if causal else 2
    number = rows // sides
    far = -distance.clamp(max=0) if causal else distance.abs()
    exact = number // 2
    spread = torch.log(far.clamp(min=1).float() / exact) / math.log(128 / exact) * (number - exact)
    beyond = (exact + spread.long()).clamp(max=number - 1)
    buckets = torch.where(far < exact, far, beyond)
    return buckets if causal else buckets + (distance > 0).long() * number
