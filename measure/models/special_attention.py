"""Attention of the reference modules that is not like that of others: DeBERTa's, and through latents."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from measure.models.attention import Attention, dropped
from measure.models.normalisation import RootMeanSquareNorm
from measure.models.positions import Scores, rotated
from measure.models.recomputation import Discarding
from measure.models.setting import Setting
from simulator.specs.model import LayerKind, Model


class DisentangledReference(Attention):
    """Scores that add products of queries and of keys with projected embeddings of relative positions."""

    def __init__(self, model: Model, setting: Setting, kind: LayerKind | None = None) -> None:
        # Positions pass the projections of queries and of keys, which no kernel joins.
        super().__init__(model, replace(setting, fused_qkv=False), kind)
        self.kinds, self.rows = model.position_products, model.relative_rows
        self.own = None
        if model.position_projections:
            biased, width = "qkv" in model.biases, self.widths[0]
            self.own = nn.ModuleDict(
                {kind: nn.Linear(model.hidden_size, width, bias=biased, **setting.factory) for kind in self.kinds}
            )

    def prepared(self, scores: Scores) -> list[Tensor]:
        """Projected positions by head: rows of keys for queries, rows of queries for keys."""
        if scores.embedded is None:
            raise ValueError("embeddings of relative positions are missing")
        embedded = dropped(scores.embedded, self.dropout, training=self.training)
        shared = {"content-to-position": self.projections[1], "position-to-content": self.projections[0]}
        projections = [shared[kind] if self.own is None else self.own[kind] for kind in self.kinds]
        return [
            project(embedded).unflatten(-1, (-1, self.head_size)).permute(1, 2, 0).contiguous()
            for project in projections
        ]

    def products(self, rows: Tensor, columns: Tensor, prepared: list[Tensor]) -> Tensor:
        """Scores of queries and keys, and of each with the positions that lie between them."""
        matrix = torch.bmm(rows, columns.transpose(1, 2))
        for kind, positions in zip(self.kinds, prepared, strict=True):
            of_queries = kind == "content-to-position"
            side = rows if of_queries else columns
            product = torch.bmm(side.view(positions.shape[0], -1, side.shape[-1]), positions)
            product = product.view(*side.shape[:2], -1)
            chosen = product.gather(-1, self._between(side.shape[1], matrix).expand(side.shape[0], -1, -1))
            matrix = matrix + (chosen if of_queries else chosen.transpose(1, 2))
        return matrix

    def _between(self, length: int, matrix: Tensor) -> Tensor:
        """The row of the table for each pair of tokens."""
        place = torch.arange(length, device=matrix.device)
        half = self.rows // 2
        return ((place[:, None] - place[None, :]).clamp(-half, half - 1) + half).unsqueeze(0)


class LatentReference(Attention):
    """Multi-head latent attention in the form in which it is trained."""

    def __init__(self, model: Model, setting: Setting, kind: LayerKind | None = None) -> None:
        if setting.split.degree > 1 or setting.fused_attention:
            raise ValueError(f"{model.id}: latent attention is built of two products and a softmax, on one rank")
        super().__init__(model, replace(setting, fused_qkv=False), kind)
        factory, heads = setting.factory, model.attention_heads
        self.discards = setting.repeats("mla_up_proj")
        self.rank, self.turned = model.key_value_rank or 0, model.rotary_head_size or 0
        self.value_size = model.value_head_size or self.head_size
        biased = "latent" in model.biases
        queries, into = heads * self.head_size, self.rank + self.turned
        self.query_norm, self.query_out = None, None
        if model.query_rank is None:
            first = nn.Linear(model.hidden_size, queries, bias="qkv" in model.biases, **factory)
        else:
            first = nn.Linear(model.hidden_size, model.query_rank, bias=biased, **factory)
            self.query_norm = RootMeanSquareNorm(model.query_rank, **factory)
            self.query_out = nn.Linear(model.query_rank, queries, bias=False, **factory)
        self.projections = nn.ModuleList([first, nn.Linear(model.hidden_size, into, bias=biased, **factory)])
        self.latent_norm = RootMeanSquareNorm(self.rank, **factory)
        out = heads * (self.head_size - self.turned + self.value_size)
        self.latent_out = nn.Linear(self.rank, out, bias=False, **factory)
        self.output = nn.Linear(
            heads * self.value_size, model.hidden_size, bias="attention_output" in model.biases, **factory
        )

    def forward(self, projected: list[Tensor], scores: Scores) -> Tensor:
        """From the latents of tokens x sequences x width to the input of the output product."""
        query, latent = projected
        if self.discards:
            return self._discarding(query, latent, scores)
        return self.mixed(*self._made(*self._normalised(query, latent), scores), scores).flatten(-2)

    def _normalised(self, query: Tensor, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both latents after their normalisation, and the part of the keys that all heads share."""
        if self.query_norm is not None:
            query = self.query_norm(query)
        return query, self.latent_norm(latent[..., : self.rank]), latent[..., self.rank :]

    def _discarding(self, query: Tensor, latent: Tensor, scores: Scores) -> Tensor:
        """With queries, keys and values made again, as Megatron's `mla_up_proj` does."""
        shapes: list[torch.Size] = []

        def laid_out(query: Tensor, latent: Tensor, shared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            made = self._made(query, latent, shared, scores)
            shapes[:] = [made[1].shape, made[0].shape]
            return self.laid_out(*made)

        up = Discarding(laid_out)
        rows, columns, values = up(*self._normalised(query, latent))
        mixed = self.by_products(rows, columns, values, scores, *shapes).flatten(-2)
        up.discard(mixed)
        return mixed

    def _made(self, query: Tensor, latent: Tensor, shared: Tensor, scores: Scores) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of all heads."""
        if self.query_out is not None:
            query = self.query_out(query)
        query = query.unflatten(-1, (-1, self.head_size))
        plain = self.head_size - self.turned
        both = self.latent_out(latent)
        key, value = both.unflatten(-1, (-1, plain + self.value_size)).split([plain, self.value_size], dim=-1)
        shared = shared.unsqueeze(-2)
        asked = query[..., plain:]
        if scores.cosine is not None and self.rotary:
            asked, shared = (rotated(part, scores.cosine, scores.sine) for part in (asked, shared))
        query = torch.cat((query[..., :plain], asked), dim=-1)
        key = torch.cat((key, shared.expand(*key.shape[:-1], -1)), dim=-1)
        return query, key, value

    def copied_gradients(self) -> list[Tensor]:
        """None: no rank holds a copy of a head."""
        return []


def attention_of(model: Model, setting: Setting, kind: LayerKind) -> Attention:
    """The self-attention of a layer."""
    if model.key_value_rank is not None:
        return LatentReference(model, setting, kind)
    return (DisentangledReference if model.position_products else Attention)(model, setting, kind)
