"""A transformer's architecture, as a specification and as columns of numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from hardware.fields import Unit
from hardware.sheet import NO_FLAG, Name, Sheet, Words
from simulator.formulas.typing import Num
from simulator.specs.columns import Columns
from simulator.specs.parts import (
    CrossAttention,
    DenseFeedForward,
    ExpertFeedForward,
    Layers,
    MultiHeadAttention,
    Normalisation,
    ParallelBlock,
    RelativeAttention,
    SerialBlock,
)

Size = Annotated[int, Field(ge=1, le=10_000_000), NO_FLAG]
Few = Annotated[int, Field(ge=0, le=100_000), NO_FLAG]
Tokens = Annotated[Size, Unit("token")]
Width = Annotated[Size, Unit("element")]
Heads = Annotated[Size, Unit("head")]
Experts = Annotated[Size, Unit("expert")]
Bias = Literal["qkv", "attention_output", "feed_forward", "normalisation", "head"]
FeedForward = Literal["plain", "gated"]
Objective = Literal["causal", "mlm", "seq2seq", "classification", "span"]


class Training(Sheet):
    """The workload that the model was published with; the default where a user gives none."""

    sequence_length: Tokens
    """Tokens of a sequence."""
    target_length: Tokens | None = None
    """Tokens of a target sequence, of encoder-decoder models."""
    global_batch: Annotated[Size, Unit("sequence")]
    """Sequences of one optimizer step."""
    tokens: Annotated[float, Field(gt=0, le=1e18), NO_FLAG, Unit("token")] | None = None
    """Tokens of the whole run, padding included."""
    steps: Annotated[Size, Unit("step")] | None = None
    """Optimizer steps of the whole run, where tokens are not given."""
    customary: bool = False
    """Whether nobody published it: lengths and batches that are usual for such a model."""


class LayerKind(NamedTuple):
    """What layers of one tower differ in."""

    has_experts: bool
    window: int | None
    """Keys that a query sees at most."""


class Model(Sheet):
    """A transformer architecture."""

    id: Name
    """The word that names the model."""
    name: Words
    """Name in full."""
    family: Name
    """Models of one family share their form, such as bert, gpt or llama."""
    kind: Literal["encoder", "decoder", "encoder-decoder"]
    """Which towers it has; a decoder's attention is causal."""
    objective: Objective
    """What the head does: predict masked tokens, the next token, a target sequence, a class, or a span."""
    layers: Annotated[Size, Unit("layer")]
    """Transformer layers; of the encoder where there are two towers."""
    decoder_layers: Annotated[Size, Unit("layer")] | None = None
    """Layers of the decoder of an encoder-decoder, which needs it."""
    hidden_size: Width
    """Width of the residual stream."""
    attention_heads: Heads
    """Query heads of a layer."""
    key_value_heads: Heads | None = None
    """Key and value heads of a layer (grouped-query attention); as many as query heads unless given."""
    head_size: Width | None = None
    """Width of one attention head; hidden_size / attention_heads unless given."""
    feed_forward_size: Width
    """Width of the feed-forward layer."""
    feed_forward: FeedForward = "plain"
    """Whether the feed-forward layer has one projection into it, or a second one that gates the first (SwiGLU)."""
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    """Activation function of the feed-forward layer."""
    block: Literal["serial", "parallel"] = "serial"
    """Whether attention and feed-forward layer follow each other or read the same normalised input."""
    normalisation: Literal["layernorm", "rmsnorm"] = "layernorm"
    """Kind of normalisation."""
    norm_position: Literal["pre", "post"] = "pre"
    """Whether attention and feed-forward layer normalise their input, or the sum after them (BERT)."""
    norms_per_layer: Annotated[int, Field(ge=1, le=4), NO_FLAG, Unit("norm")] | None = None
    """Normalisations of a layer; two in a serial and one in a parallel block, unless given."""
    biases: tuple[Bias, ...] = ()
    """Which parts have biases."""
    dropout: bool = False
    """Whether training drops activations and attention probabilities."""
    positions: Literal["learned", "rotary", "alibi", "relative-buckets", "transformer-xl", "none"] = "learned"
    """How positions are encoded."""
    position_rows: Annotated[Few, Unit("row")] = 0
    """Rows of a learned position table, or buckets of relative positions."""
    sliding_window: Annotated[Size, Unit("position")] | None = None
    """Keys that a query sees at most; all unless given."""
    window_pattern: tuple[Annotated[Size, Unit("position")] | None, ...] = ()
    """Windows of successive layers, repeated to the last layer, where they differ: null for one that sees all keys."""
    token_types: Annotated[Few, Unit("row")] = 0
    """Rows of the token-type table (BERT has two)."""
    vocabulary_size: Annotated[Size, Unit("row")]
    """Rows of the embedding table."""
    embedding_size: Width | None = None
    """Width of the embedding table, where a linear map leads from it to the hidden size (ALBERT)."""
    embedding_norm: bool = False
    """Whether the embedding is normalised (BERT, BLOOM)."""
    tied_head: bool = True
    """Whether the vocabulary head uses the embedding table instead of one of its own."""
    head_transform: bool = False
    """Whether a linear map, an activation and a normalisation stand before the vocabulary head (BERT)."""
    pooler: bool = False
    """Whether pretraining also classifies the pooled first token (next sentence, sentence order)."""
    classes: Annotated[Size, Unit("label")] = 2
    """Classes that a classification tells apart."""
    mask_rate: Annotated[float, Field(gt=0, le=1), NO_FLAG, Unit("1")] = 0.15
    """Share of tokens that masked-language modelling predicts."""
    shared_layers: bool = False
    """Whether all layers use one set of parameters (ALBERT)."""
    experts: Experts = 1
    """Experts of a layer that has them; 1 means none."""
    experts_per_token: Experts = 1
    """Experts that a token is routed to."""
    shared_experts: Annotated[Few, Unit("expert")] = 0
    """Experts that every token passes besides."""
    expert_feed_forward_size: Width | None = None
    """Width of an expert; feed_forward_size unless given."""
    expert_feed_forward: FeedForward | None = None
    """Whether experts are plain or gated; as feed_forward unless given."""
    expert_period: Annotated[Size, Unit("layer")] = 1
    """Every how many layers one has experts."""
    dense_layers_first: Annotated[Few, Unit("layer")] = 0
    """Layers at the beginning that have no experts, whatever the period."""
    training: Training
    """The workload that the model was published with; the default where a user gives none."""
    published_parameters: Annotated[float, Field(gt=0, le=1e16), NO_FLAG, Unit("parameter")] | None = None
    """Parameters as published; a test compares those that capsim counts."""
    published_parameters_tolerance: Annotated[float, Field(gt=0, le=0.2), NO_FLAG, Unit("1")] = 0.01
    """Relative tolerance of that comparison; wide where a source rounds or counts without embeddings."""
    source: Words | None = None
    """Where the sizes come from, in words."""
    note: Words | None = None
    """Anything a reader should know of the model."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.head_size is None and self.hidden_size % self.attention_heads:
            raise ValueError(
                f"attention_heads={self.attention_heads} does not divide hidden_size={self.hidden_size}; "
                "change one or give head_size"
            )
        if self.attention_heads % self.kv_heads:
            raise ValueError(f"key_value_heads={self.kv_heads} does not divide attention_heads={self.attention_heads}")
        if self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token={self.experts_per_token} exceeds experts={self.experts}")
        if self.expert_period > self.layers:
            raise ValueError(f"expert_period={self.expert_period} exceeds layers={self.layers}")
        if self.dense_layers_first > (self.layers if self.experts > 1 else 0):
            raise ValueError(
                f"dense_layers_first={self.dense_layers_first} exceeds the {self.layers} layers"
                if self.experts > 1
                else f"dense_layers_first={self.dense_layers_first} belongs to a model with experts"
            )
        if self.window_pattern and self.sliding_window is not None:
            raise ValueError("sliding_window and window_pattern say the same; give one of them")
        if len(self.window_pattern) > self.layers:
            raise ValueError(f"window_pattern has {len(self.window_pattern)} entries for {self.layers} layers")
        if (self.kind == "encoder-decoder") != (self.decoder_layers is not None):
            raise ValueError("decoder_layers belongs to an encoder-decoder, and one needs it")
        if self.objective == "seq2seq" and self.kind != "encoder-decoder":
            raise ValueError(f"objective=seq2seq needs an encoder-decoder, not an {self.kind}")
        return self

    @property
    def kv_heads(self) -> int:
        """Key and value heads: as many as query heads unless grouped."""
        return self.key_value_heads or self.attention_heads

    @property
    def width_of_head(self) -> int:
        """Width of one attention head."""
        return self.head_size or self.hidden_size // self.attention_heads

    def kind_of_layer(self, index: int) -> LayerKind:
        """What a layer of the first tower has that others may lack; `index` counts from 0."""
        after = index - self.dense_layers_first
        has_experts = self.experts > 1 and after >= 0 and (index + 1) % self.expert_period == 0
        window = self.window_pattern[index % len(self.window_pattern)] if self.window_pattern else self.sliding_window
        return LayerKind(has_experts, window)

    @property
    def all_layers(self) -> int:
        """Layers of all towers."""
        return self.layers + (self.decoder_layers or 0)

    def columns(self) -> Models:
        """The architecture as numbers."""
        return _columns(self)


@dataclass(frozen=True)
class Models(Columns):
    """Architectures as numbers."""

    layers: tuple[Layers, ...]
    hidden_size: Num
    embedding_size: Num
    vocabulary_size: Num
    position_rows: Num
    bucket_tables: Num
    """Tables of relative-position buckets, each of a row per bucket and a column per head."""
    token_types: Num
    embedding_map: Num
    """Whether a linear map leads from the embedding's width to the hidden size."""
    embedding_norm: Num
    final_norms: Num
    norm_bias: Num
    norm_statistics: Num
    dropout: Num
    tied_head: Num
    shared_layers: Num
    vocabulary_head: Num
    head_transform: Num
    head_bias: Num
    pooler: Num
    """Whether a linear map of the first token of each sequence stands before the classes; a decoder has none."""
    sequence_classes: Num
    token_classes: Num
    masked: Num
    """Whether the vocabulary head needs only the masked positions."""
    causal: Num
    encoder_decoder: Num
    mask_rate: Num

    @property
    def heads(self) -> Num:
        """Attention heads of the first tower."""
        return self.layers[0].attention.heads

    @property
    def key_value_heads(self) -> Num:
        """Key and value heads of the first tower."""
        return self.layers[0].attention.key_value_heads

    @property
    def experts(self) -> Num:
        """Experts of the layers that have most; 1 where all are dense."""
        first, *others = (group.experts for group in self.layers)
        return reduce(lambda most, more: np.maximum(most, more), others, first)

    @property
    def layer_count(self) -> Num:
        """Layers of all kinds together."""
        return sum((group.count for group in self.layers[1:]), start=self.layers[0].count)


def _columns(model: Model) -> Models:
    """Turn an architecture into numbers."""
    bias = {
        place: float(place in model.biases)
        for place in ("qkv", "attention_output", "feed_forward", "normalisation", "head")
    }
    pretraining = model.objective in ("causal", "mlm", "seq2seq")
    classifies = model.objective == "classification" or (pretraining and model.pooler)
    towers = 2 if model.kind == "encoder-decoder" else 1
    return Models(
        layers=_layer_groups(model),
        hidden_size=float(model.hidden_size),
        embedding_size=float(model.embedding_size or model.hidden_size),
        vocabulary_size=float(model.vocabulary_size),
        position_rows=float(model.position_rows if model.positions == "learned" else 0),
        bucket_tables=float(towers * model.position_rows if model.positions == "relative-buckets" else 0),
        token_types=float(model.token_types),
        embedding_map=float(model.embedding_size is not None),
        embedding_norm=float(model.embedding_norm),
        final_norms=float(towers if model.norm_position == "pre" else 0),
        norm_bias=bias["normalisation"],
        norm_statistics=2.0 if model.normalisation == "layernorm" else 1.0,
        dropout=float(model.dropout),
        tied_head=float(model.tied_head),
        shared_layers=float(model.shared_layers),
        vocabulary_head=float(pretraining),
        head_transform=float(model.head_transform and pretraining),
        head_bias=bias["head"],
        pooler=float(classifies and model.kind != "decoder"),
        sequence_classes=float(model.classes if classifies else 0),
        token_classes=2.0 if model.objective == "span" else 0.0,
        masked=float(model.objective == "mlm"),
        causal=float(model.kind == "decoder"),
        encoder_decoder=float(towers - 1),
        mask_rate=model.mask_rate,
    )


def _layer_groups(model: Model) -> tuple[Layers, ...]:
    """Group layers of one kind, in the order in which the kinds first occur; a decoder's come last."""
    kinds = Counter(model.kind_of_layer(index) for index in range(model.layers))
    groups = [_layers(model, count, kind) for kind, count in kinds.items()]
    if model.decoder_layers is not None:
        groups.append(_layers(model, model.decoder_layers, LayerKind(False, model.sliding_window), decoder=True))
    return tuple(groups)


def _layers(model: Model, count: int, kind: LayerKind, *, decoder: bool = False) -> Layers:
    """Turn one group of equal layers into numbers."""
    norms = model.norms_per_layer or (1 if model.block == "parallel" else 2)
    heads: dict[str, Num] = {
        "heads": float(model.attention_heads),
        "key_value_heads": float(model.kv_heads),
        "head_size": float(model.width_of_head),
        "qkv_bias": float("qkv" in model.biases),
        "output_bias": float("attention_output" in model.biases),
        "dropout": float(model.dropout),
    }
    attends = RelativeAttention if model.positions == "transformer-xl" else MultiHeadAttention
    return Layers(
        count=float(count),
        hidden_size=float(model.hidden_size),
        dropout=float(model.dropout),
        block=ParallelBlock() if model.block == "parallel" else SerialBlock(),
        norms=Normalisation(
            count=float(norms + decoder),
            bias=float("normalisation" in model.biases),
            statistics=2.0 if model.normalisation == "layernorm" else 1.0,
        ),
        attention=attends(
            window=float(kind.window or 1e15),
            causal=float(model.kind == "decoder" or decoder),
            rotary=float(model.positions == "rotary"),
            **heads,
        ),
        cross_attention=CrossAttention(**heads) if decoder else None,
        feed_forward=_feed_forward(model, has_experts=kind.has_experts),
    )


def _feed_forward(model: Model, *, has_experts: bool) -> DenseFeedForward:
    """The feed-forward layer as numbers, dense or of experts."""
    form = model.expert_feed_forward if has_experts and model.expert_feed_forward else model.feed_forward
    shared: dict[str, Num] = {
        "inputs": 2.0 if form == "gated" else 1.0,
        "bias": float("feed_forward" in model.biases),
        "rectified": float(model.activation == "relu"),
    }
    if not has_experts:
        return DenseFeedForward(size=float(model.feed_forward_size), **shared)
    return ExpertFeedForward(
        size=float(model.expert_feed_forward_size or model.feed_forward_size),
        experts=float(model.experts),
        experts_per_token=float(model.experts_per_token),
        shared_experts=float(model.shared_experts),
        **shared,
    )
