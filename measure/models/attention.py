"""Attention of the reference modules: projections, positions and core."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from measure.models.normalisation import HeadNorm
from measure.models.positions import Scores, rotated
from measure.models.setting import DROPOUT, Setting
from simulator.specs.model import LayerKind, Model


class Attention(nn.Module):
    """Self-attention, or attention to an encoder, between its column-parallel and its row-parallel product."""

    def __init__(
        self, model: Model, setting: Setting, kind: LayerKind | None = None, *, to_encoder: bool = False
    ) -> None:
        super().__init__()
        kind = kind or model.kind_of_layer(0)
        heads, kv_heads = setting.heads(model)
        self.head_size, self.cap = model.width_of_head, model.score_cap
        self.widths = [heads * self.head_size, kv_heads * self.head_size, kv_heads * self.head_size]
        self.dropout = DROPOUT if model.dropout else 0.0
        self.rotary = kind.rotary and not to_encoder
        self.masks_documents = setting.masks_documents
        self.fused = setting.fused_attention
        scores_alone = setting.recompute == "selective" and not setting.recompute_modules and not self.fused
        self.selective = scores_alone or setting.repeats("core_attn")
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
        self.head_norms = None
        weighted = model.query_key_norm not in ("none", "unweighted")
        if not to_encoder and (weighted or (model.query_key_norm == "unweighted" and self.rotary)):
            self.head_norms = nn.ModuleList(HeadNorm(model, setting, number) for number in (heads, kv_heads))
        sinks = model.attention_sinks and not to_encoder
        self.sinks = nn.Parameter(torch.zeros(heads, **factory)) if sinks else None

    def forward(self, projected: list[Tensor], scores: Scores) -> Tensor:
        """Mix values: from projections of tokens x sequences x width to the input of the output product."""
        query, key, value = (part.unflatten(-1, (-1, self.head_size)) for part in self._parts(projected))
        if self.head_norms is not None:
            query, key = (normalise(part) for normalise, part in zip(self.head_norms, (query, key), strict=True))
        if scores.cosine is not None and self.rotary:
            query, key = (rotated(part, scores.cosine, scores.sine) for part in (query, key))
        if self.joint:
            # A part of the joint product would keep all of it alive.
            query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        return self.mixed(query, key, value, scores).flatten(-2)

    def mixed(self, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        """Values mixed by the scores of tokens x sequences x heads x width, in one kernel or in products."""
        if self.fused:
            return self._fused(query, key, value, scores)
        if not scores.documents or self.masks_documents:
            return self._unfused(query, key, value, scores)
        cut = [part.split(scores.documents) for part in (query, key, value)]
        alone = zip(*cut, scores.of_documents(), strict=True)
        return torch.cat([self._unfused(query, key, value, each) for query, key, value, each in alone])

    def copied_gradients(self) -> list[Tensor]:
        """Gradients of the key and value projections, of a joint product its last rows."""
        first = self.widths[0] if self.joint else 0
        linears = self.projections if self.joint else list(self.projections)[1:]
        factors = [factor for linear in linears for factor in (linear.weight, linear.bias) if factor is not None]
        return [factor.grad[first:] for factor in factors if factor.grad is not None]

    def _parts(self, projected: list[Tensor]) -> list[Tensor]:
        """Queries, keys and values: products, or the columns of a joint one that a distributed module holds."""
        if not self.joint:
            return projected
        ranks = sum(self.widths) // projected[0].shape[-1]
        parts = projected[0].split([width // ranks for width in self.widths], dim=-1)
        # What normalises a part keeps all that its storage holds.
        return [part.contiguous() for part in parts] if self.head_norms is not None else list(parts)

    def prepared(self, scores: Scores) -> list[Tensor]:
        """What the scores add products with, once for all sequences: distances of Transformer-XL."""
        if self.relative is None or scores.waves is None:
            return []
        return [self.relative(scores.waves).unflatten(-1, (-1, self.head_size)).permute(1, 2, 0).contiguous()]

    def products(self, rows: Tensor, columns: Tensor, prepared: list[Tensor]) -> Tensor:
        """Scores before they are scaled: of queries and keys, and of queries and distances."""
        matrix = torch.bmm(rows, columns.transpose(1, 2))
        for distances in prepared:
            # One product for all sequences, which share the distances.
            by_head = rows.view(distances.shape[0], -1, rows.shape[-1])
            matrix = matrix + _shifted(torch.bmm(by_head, distances).view_as(matrix))
        return matrix

    def _unfused(self, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        """Two products with the matrix of scores between them; query heads that share keys are rows of one product."""
        return self.by_products(*self.laid_out(query, key, value), scores, key.shape, query.shape)

    def laid_out(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, columns and values of the products."""
        tokens, sequences, kv_heads, size = key.shape
        queries, group = query.shape[0], query.shape[2] // kv_heads
        rows = query.unflatten(2, (kv_heads, group)).permute(2, 1, 3, 0, 4)
        rows = rows.reshape(kv_heads * sequences, group * queries, size).contiguous()
        columns, values = (
            part.permute(2, 1, 0, 3).reshape(kv_heads * sequences, tokens, -1).contiguous() for part in (key, value)
        )

        return rows, columns, values

    def by_products(
        self, rows: Tensor, columns: Tensor, values: Tensor, scores: Scores, of_keys: torch.Size, of_queries: torch.Size
    ) -> Tensor:
        """The products, of what was tokens x sequences x heads x width."""
        tokens, sequences, kv_heads, size = of_keys
        queries, group = of_queries[0], of_queries[2] // kv_heads

        def core(rows: Tensor, columns: Tensor, values: Tensor, *prepared: Tensor) -> Tensor:
            matrix = self.products(rows, columns, list(prepared)) * (1.0 / math.sqrt(size))
            matrix = matrix.view(kv_heads, sequences, group, queries, tokens)
            if self.cap is not None:
                matrix = torch.tanh(matrix / self.cap) * self.cap
            if scores.bias is not None:
                shape = (kv_heads, 1, group) if scores.bias.shape[0] > 1 else (1, 1, 1)
                matrix = matrix + scores.bias.view(*shape, queries, tokens)
            weights = dropped(self._softmax(matrix), self.dropout, training=self.training)
            return torch.bmm(weights.view(kv_heads * sequences, group * queries, tokens), values)

        prepared = self.prepared(scores)
        if self.selective and torch.is_grad_enabled():
            mixed = checkpoint(core, rows, columns, values, *prepared, use_reentrant=False)
        else:
            mixed = core(rows, columns, values, *prepared)
        mixed = mixed.view(kv_heads, sequences, group, queries, -1).permute(3, 1, 0, 2, 4)
        return mixed.reshape(queries, sequences, kv_heads * group, -1)

    def _softmax(self, matrix: Tensor) -> Tensor:
        """Softmax of the scores, with those of the sinks where there are any."""
        if self.sinks is None:
            return torch.softmax(matrix, dim=-1)
        return _SoftmaxWithSinks.apply(matrix, self.sinks.view(matrix.shape[0], 1, matrix.shape[2], 1, 1))

    def _fused(self, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        """One kernel, or on a processor that has none for packed documents one for each of them."""
        if scores.documents and query.is_meta:
            return self._again(self._of_documents, query, key, value, scores)
        if scores.documents:
            cut, alone = [part.split(scores.documents) for part in (query, key, value)], replace(scores, documents=())
            return torch.cat([self._fused(query, key, value, alone) for query, key, value in zip(*cut, strict=True)])
        query, key, value = (part.permute(1, 2, 0, 3) for part in (query, key, value))
        return self._again(self._kernel, query, key, value, scores).permute(2, 0, 1, 3)

    def _again(self, kernel: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """What a kernel returns, which the backward pass runs once more where attention is recomputed."""
        if self.selective and torch.is_grad_enabled():
            mixed: Tensor = checkpoint(kernel, *inputs, use_reentrant=False)
            return mixed
        return kernel(*inputs)

    def _kernel(self, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        """The kernel, of sequences x heads x tokens x width."""
        dropout = self.dropout if self.training else 0.0
        if query.is_meta:
            # On meta tensors the public function runs as two products in float32, so name the kernel of a GPU.
            mixed: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(
                query, key, value, dropout, scores.causal
            )[0]
            return mixed
        return functional.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=scores.causal, enable_gqa=key.shape[1] < query.shape[1]
        )

    def _of_documents(self, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        """The kernel of a GPU for documents of different lengths, one after the other in one row of tokens.

        Software that has it lays tokens out in such rows from the beginning. On the meta device, where nothing is
        computed, tokens stay as they lie: to lay them out anew would keep copies that it has not.
        """
        tokens, sequences = query.shape[:2]
        lengths = torch.tensor(scores.documents * sequences, dtype=torch.int32)
        bounds, longest = functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0)), max(scores.documents)
        rows = [part.flatten(0, 1) for part in (query, key, value)]
        dropout = self.dropout if self.training else 0.0
        mixed = torch.ops.aten._flash_attention_forward(
            *rows, bounds, bounds, longest, longest, dropout, scores.causal, False
        )[0]
        return mixed.unflatten(0, (tokens, sequences))


class _SoftmaxWithSinks(torch.autograd.Function):
    """Softmax over keys and one learned score that no value belongs to, which keeps its output alone."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, sinks: Tensor) -> Tensor:
        most = torch.maximum(matrix.amax(-1, keepdim=True), sinks)
        weights = torch.exp(matrix - most)
        weights = weights / (weights.sum(-1, keepdim=True) + torch.exp(sinks - most))
        ctx.save_for_backward(weights)
        ctx.shape = sinks.shape
        return weights

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        (weights,) = ctx.saved_tensors
        mean = (gradient * weights).sum(-1, keepdim=True)
        of_sinks = -(1.0 - weights.sum(-1, keepdim=True)) * mean
        return weights * (gradient - mean), of_sinks.sum_to_size(ctx.shape)


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
