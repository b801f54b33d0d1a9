"""Layers of the reference modules, and towers of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from measure.models.attention import Attention, dropped
from measure.models.feed_forward import Experts, FeedForward
from measure.models.normalisation import norm
from measure.models.positions import Positions, Scores
from measure.models.recomputation import Discarding, OperatorContexts
from measure.models.setting import DROPOUT, Setting
from measure.models.special_attention import attention_of
from simulator.specs.model import LayerKind, Model


class Layer(nn.Module):
    """One transformer layer: attention, attention to an encoder where there is one, and a feed-forward layer."""

    def __init__(
        self,
        model: Model,
        setting: Setting,
        *,
        experts: bool = False,
        to_encoder: bool = False,
        kind: LayerKind | None = None,
    ) -> None:
        super().__init__()
        kind = kind or (model.kind_of_decoder_layer if to_encoder else model.kind_of_layer(model.layers - 1))
        self.model, self.split = model, setting.split
        self.discards = setting.repeats("layernorm")
        self.repeats_last = setting.repeats("moe" if experts else "mlp")
        self.dropout = DROPOUT if model.dropout else 0.0
        parallel = model.block == "parallel"
        if parallel and model.dropout and setting.split.degree > 1:
            raise ValueError(f"{model.id}: a parallel block that drops cannot join its two products before they drop")
        if parallel and experts:
            raise ValueError(f"{model.id}: experts in a parallel block are not built")
        inputs, outputs = _norms(model, kind, to_encoder=to_encoder)
        width = model.hidden_size
        self.norms = nn.ModuleList(norm(model, width, setting) if own else nn.Identity() for own in inputs)
        self.output_norms = nn.ModuleList(norm(model, width, setting) if own else nn.Identity() for own in outputs)
        self.attention = attention_of(model, setting, kind)
        self.to_encoder = Attention(model, setting, to_encoder=True) if to_encoder else None
        self.feed_forward: nn.Module = Experts(model, setting) if experts else FeedForward(model, setting)

    def forward(
        self, hidden: Tensor, scores: Scores, memory: Tensor | None = None, embedded: Tensor | None = None
    ) -> Tensor:
        """From hidden states of tokens x sequences x width to the next.

        Embedded positions stand by themselves, so that recomputation keeps them once for all layers.
        """
        scores = scores if embedded is None else replace(scores, embedded=embedded)
        if self.model.block == "parallel":
            return self._parallel(hidden, scores)
        blocks = [lambda inputs: self._attend(inputs, scores)]
        if memory is not None:
            blocks.append(lambda inputs: self._attend_to(inputs, memory))
        blocks.append(self._feed_forward)
        for normalise, finish, block in zip(self.norms, self.output_norms, blocks, strict=True):
            if self.model.norm_position == "post":
                hidden = normalise(self._added(hidden, block(hidden)))
            else:
                hidden = self._added(hidden, finish(self._block(normalise, block, hidden)))
        return hidden

    def _block(self, normalise: nn.Module, block: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
        """What a block returns of its normalised input, as it is recomputed."""
        again = torch.is_grad_enabled() and self.repeats_last and block == self._feed_forward
        normal = Discarding(normalise)
        inputs = normal(hidden) if self.discards else normalise(hidden)
        output = checkpoint(block, inputs, use_reentrant=False) if again else block(inputs)
        normal.discard(output)
        return output

    def after_products(self) -> list[nn.Parameter]:
        """Parameters that tensor-parallel ranks apply to their own tokens: normalisations, and biases of sums."""
        outputs = [self.attention.output, self.feed_forward.outward]
        outputs += [self.to_encoder.output] if self.to_encoder is not None else []
        biases = [linear.bias for linear in outputs if linear.bias is not None]
        norms = [*self.norms.parameters(), *self.output_norms.parameters()]
        heads = [] if self.attention.head_norms is None else list(self.attention.head_norms.parameters())
        return [*norms, *heads, *biases]

    def copied_gradients(self) -> list[Tensor]:
        """Gradients of the key and value projections."""
        attentions = [self.attention, self.to_encoder]
        return [part for attention in attentions if attention is not None for part in attention.copied_gradients()]

    def _parallel(self, hidden: Tensor, scores: Scores) -> Tensor:
        """Attention and feed-forward layer of the same input, normalised once or by each of them."""
        attention, feed_forward = self.attention, self.feed_forward
        if len(self.norms) == 1:
            linears = [*attention.projections, feed_forward.inward]
            *projected, wide = self.split.enter(self.norms[0](hidden), linears)
        else:
            projected = self.split.enter(self.norms[0](hidden), list(attention.projections))
            (wide,) = self.split.enter(self.norms[1](hidden), [feed_forward.inward])
        products = [(attention.output, attention(projected, scores)), (feed_forward.outward, feed_forward(wide))]
        return self._added(hidden, *self.split.leave(products))

    def _attend(self, hidden: Tensor, scores: Scores) -> Tensor:
        projected = self.split.enter(hidden, list(self.attention.projections))
        return self.split.leave([(self.attention.output, self.attention(projected, scores))])[0]

    def _attend_to(self, hidden: Tensor, memory: Tensor) -> Tensor:
        """Queries of this tower, keys and values of the encoder's output."""
        attention: Any = self.to_encoder
        query, key, value = attention.projections
        projected = [*self.split.enter(hidden, [query]), *self.split.read(memory, [key, value])]
        return self.split.leave([(attention.output, attention(projected, Scores()))])[0]

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        feed_forward = self.feed_forward
        if isinstance(feed_forward, Experts):
            return feed_forward(hidden)
        (wide,) = self.split.enter(hidden, [feed_forward.inward])
        return self.split.leave([(feed_forward.outward, feed_forward(wide))])[0]

    def _added(self, hidden: Tensor, *outputs: Tensor) -> Tensor:
        """Drop and add to the residual stream."""
        for output in outputs:
            hidden = hidden + dropped(output, self.dropout, training=self.training)
        return hidden


def _norms(model: Model, kind: LayerKind, *, to_encoder: bool) -> tuple[list[bool], list[bool]]:
    """Which blocks of a layer normalise their input or their sum, and which what they return."""
    parallel, blocks = model.block == "parallel", 2 + to_encoder
    inputs, outputs = kind.norms + to_encoder, 0
    if model.norm_position in ("output", "sandwich"):
        inputs, outputs = inputs - blocks, blocks
    if parallel:
        blocks = kind.norms
    if not 0 <= inputs <= blocks or to_encoder * outputs or (parallel and outputs):
        raise ValueError(f"{model.id}: layers with {kind.norms} normalisations are not built")
    # A layer that has fewer leaves out the first: the embedding has been normalised.
    return [False] * (blocks - inputs) + [True] * inputs, [True] * outputs or [False] * blocks


class Tower(nn.Module):
    """A stack of layers; of an encoder-decoder, one of its two."""

    def __init__(self, model: Model, setting: Setting, *, decoder: bool = False) -> None:
        super().__init__()
        length = setting.target_length if decoder else setting.sequence_length
        number = model.decoder_layers if decoder else model.layers
        causal = decoder or model.kind == "decoder"
        self.full, self.split, self.setting = setting.recompute == "full", setting.split, setting
        never = {torch.Size((model.hidden_size, model.experts))} if model.experts > 1 else set()
        self.contexts = OperatorContexts(never) if setting.recompute == "operators" else None
        self.positions = Positions(model, setting, length, causal=causal, layers=number or 1)
        own = 1 if model.shared_layers else number or 0
        self.repeats = (number or 0) // own
        of_layer = [model.kind_of_decoder_layer if decoder else model.kind_of_layer(index) for index in range(own)]
        self.layers = nn.ModuleList(
            Layer(model, setting, experts=kind.has_experts, to_encoder=decoder, kind=kind) for kind in of_layer
        )
        summed = model.norm_position == "post"
        self.final_norm = nn.Identity() if summed else norm(model, model.hidden_size, setting)

    def forward(self, hidden: Tensor, memory: Tensor | None = None) -> Tensor:
        """From embedded tokens to the input of the head, or of the decoder."""
        scores = self.positions()
        embedded, each = scores.embedded, len(getattr(self.positions, "buckets", ())) > 1
        memory = None if memory is None else self.split.enter_all(memory)
        listed = list(self.layers) * self.repeats
        how: dict[str, Any] = {} if self.contexts is None else {"context_fn": self.contexts}
        for first, last, again in self._pieces(len(listed)):
            piece = [(listed[i], self.positions(i) if each and i else scores) for i in range(first, last)]
            if again and torch.is_grad_enabled():
                hidden = checkpoint(_run, piece, hidden, memory, embedded, use_reentrant=False, **how)
            else:
                hidden = _run(piece, hidden, memory, embedded)
        return self.final_norm(hidden)

    def _pieces(self, number: int) -> Iterator[tuple[int, int, bool]]:
        """Layers that keep one input, and whether they are recomputed."""
        counted, method = self.setting.recompute_layers, self.setting.recompute_method
        step = counted or 1 if method == "uniform" else 1
        for first in range(0, number, step):
            chosen = {"every": (first + 1) % (counted or 1) == 0, "block": first < (counted or 0)}
            again = self.contexts is not None or (self.full and chosen.get(method or "", True))
            yield first, min(first + step, number), again


def _run(
    piece: Sequence[tuple[nn.Module, Scores]], hidden: Tensor, memory: Tensor | None, embedded: Tensor | None
) -> Tensor:
    """Some layers one after the other, each with its scores."""
    for layer, scores in piece:
        hidden = layer(hidden, scores, memory, embedded)
    return hidden


def parameters_of(modules: Sequence[nn.Module]) -> int:
    """Number of trainable parameters, those shared between modules once."""
    unique = {id(parameter): parameter.numel() for module in modules for parameter in module.parameters()}
    return sum(unique.values())
