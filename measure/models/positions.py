"""Masks and positions of one tower of the reference modules."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from measure.models.setting import Setting
from simulator.specs.model import Model


@dataclass(frozen=True)
class Scores:
    """What positions and masks do to queries, keys and scores; the same in every layer of a tower."""

    causal: bool = False
    documents: tuple[int, ...] = ()
    """Lengths of the documents of a sequence, which attend to themselves only; one where there are none."""
    bias: Tensor | None = None
    """Added to the scores: heads or 1, queries, keys."""
    cosine: Tensor | None = None
    """Of rotary positions: tokens, 1, 1, width that is turned."""
    sine: Tensor | None = None
    waves: Tensor | None = None
    """Sinusoids of all distances, of Transformer-XL: tokens, hidden size."""
    embedded: Tensor | None = None
    """Embeddings of relative positions, of DeBERTa: rows, hidden size."""

    def of_documents(self) -> list[Scores]:
        """The same of each document by itself, between its rows and columns."""
        ends = [sum(self.documents[: index + 1]) for index in range(len(self.documents))]
        rows = [slice(end - length, end) for end, length in zip(ends, self.documents, strict=True)]
        biases = [None if self.bias is None else self.bias[:, row, row] for row in rows]
        return [replace(self, documents=(), bias=bias) for bias in biases]


class Positions(nn.Module):
    """Masks and positions of one tower, as buffers and, for relative positions, tables."""

    def __init__(self, model: Model, setting: Setting, length: int, *, causal: bool, layers: int = 1) -> None:
        super().__init__()
        self.causal, self.length = causal, length
        factory = setting.factory
        heads = setting.heads(model)[0]
        distance = (
            torch.arange(length, device=setting.device)[None, :] - torch.arange(length, device=setting.device)[:, None]
        )
        bias = torch.zeros(1, length, length, **factory)
        if causal:
            bias = bias.masked_fill(distance > 0, float("-inf"))
        self.documents = setting.document_lengths
        if self.documents:
            number = torch.repeat_interleave(torch.arange(len(self.documents)), torch.tensor(self.documents))
            apart = (number[None, :] != number[:, None]).to(setting.device)
            bias = bias.masked_fill(apart, float("-inf"))
        if model.positions == "alibi":
            own = torch.arange(1, heads + 1, **factory) + setting.split.rank * heads
            slopes = 2.0 ** (-8.0 * own / model.attention_heads)
            bias = bias - slopes[:, None, None] * distance.abs().to(setting.dtype)
        self.register_buffer(
            "bias", bias if causal or model.positions == "alibi" or self.documents else None, persistent=False
        )
        if model.positions == "rotary":
            turned = _turned_width(model)
            rates = 10000.0 ** (-torch.arange(0, turned, 2, **factory) / turned)
            angles = torch.outer(torch.arange(length, **factory), rates).repeat(1, 2)[:, None, None, :]
            self.register_buffer("cosine", angles.cos(), persistent=False)
            self.register_buffer("sine", angles.sin(), persistent=False)
        if model.positions == "transformer-xl":
            rates = 10000.0 ** (-torch.arange(0, model.hidden_size, 2, **factory) / model.hidden_size)
            angles = torch.outer(torch.arange(length - 1, -1, -1, **factory), rates)
            self.register_buffer("waves", torch.cat((angles.sin(), angles.cos()), dim=-1), persistent=False)
        self._add_tables(model, setting, distance, layers, causal=causal)

    def _add_tables(self, model: Model, setting: Setting, distance: Tensor, layers: int, *, causal: bool) -> None:
        """Tables of relative positions: of buckets, whose rows add to scores, or of embeddings."""
        factory = setting.factory
        rows = model.position_rows if model.positions == "relative-buckets" else model.relative_rows
        if model.position_products:
            self.relative = nn.Embedding(model.relative_rows, model.hidden_size, **factory)
            self.relative_norm = nn.LayerNorm(model.hidden_size, **factory) if model.relative_norm else nn.Identity()
        elif rows:
            tables = layers if model.buckets_in_every_layer else 1
            heads = setting.heads(model)[0]
            self.buckets = nn.ModuleList(nn.Embedding(rows, heads, **factory) for _ in range(tables))
            self.register_buffer("distance", _buckets(distance, rows, causal=causal), persistent=False)

    def forward(self, layer: int = 0) -> Scores:
        """What a layer of the tower applies: all layers the same, unless each has a table of buckets."""
        bias, embedded = self.bias, None
        if hasattr(self, "buckets"):
            table = self.buckets[min(layer, len(self.buckets) - 1)]
            relative = table(self.distance).permute(2, 0, 1)
            bias = relative if bias is None else relative + bias
        if hasattr(self, "relative"):
            embedded = self.relative_norm(self.relative.weight)
        cosine, sine, waves = (getattr(self, name, None) for name in ("cosine", "sine", "waves"))
        return Scores(self.causal, self.documents, bias, cosine, sine, waves, embedded)


def _turned_width(model: Model) -> int:
    """Width of the part of a head that rotary positions turn."""
    if model.rotary_head_size is not None:
        return model.rotary_head_size
    return max(2 * round(model.width_of_head * model.rotary_share / 2), 2)


def rotated(heads: Tensor, cosine: Tensor, sine: Tensor | None) -> Tensor:
    """Turn pairs of a head's elements by the angle of their token, as many of the first as have an angle."""
    turned, rest = heads[..., : cosine.shape[-1]], heads[..., cosine.shape[-1] :]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cosine + torch.cat((-second, first), dim=-1) * sine
    return turned if rest.shape[-1] == 0 else torch.cat((turned, rest), dim=-1)


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
