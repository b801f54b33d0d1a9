"""Architectures as columns of numbers, made of the typed parts of their layers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from simulator.formulas.typing import Num
from simulator.specs.columns import Columns
from simulator.specs.parts import (
    CrossAttention,
    DenseFeedForward,
    DisentangledAttention,
    ExpertFeedForward,
    HeadNormalisation,
    LatentAttention,
    Layers,
    MultiHeadAttention,
    Normalisation,
    ParallelBlock,
    RelativeAttention,
    SerialBlock,
)

if TYPE_CHECKING:
    from simulator.specs.model import LayerKind, Model

_PRETRAINING = ("causal", "mlm", "seq2seq")
_OF_SEQUENCES = ("classification", "multiple-choice", "next-sentence")
_CLASSES = {"multiple-choice": 1, "next-sentence": 2}
_NORMS_OF_OUTPUTS = {"pre": 0, "post": 0, "output": 2, "sandwich": 2}


@dataclass(frozen=True)
class Models(Columns):
    """Architectures as numbers."""

    layers: tuple[Layers, ...]
    multi_token: Layers | None
    """Layers of modules that predict a token further each; none of models without them, or without words to predict."""
    hidden_size: Num
    embedding_size: Num
    vocabulary_size: Num
    position_rows: Num
    """Rows of all tables of absolute positions."""
    bucket_tables: Num
    """Tables of relative-position buckets, each of a row per bucket and a column per head."""
    relative_rows: Num
    """Embeddings of relative positions, of the hidden size (DeBERTa)."""
    relative_norm: Num
    """1 where those are normalised, else 0."""
    token_types: Num
    embedding_map: Num
    """Whether a linear map leads from the embedding's width to the hidden size."""
    maps_words: Num
    """Whether that map is of words alone and without bias, and another leads back before the head."""
    embedding_norm: Num
    final_norms: Num
    norm_weight: Num
    norm_bias: Num
    norm_statistics: Num
    dropout: Num
    tied_head: Num
    shared_layers: Num
    vocabulary_head: Num
    head_transform: Num
    transform_width: Num
    transform_bias: Num
    transform_norm: Num
    transform_norm_bias: Num
    transforms_classes: Num
    """Whether the transform stands before classes too."""
    head_bias: Num
    logits_capped: Num
    """1 where logits pass a soft cap, else 0."""
    pooler: Num
    """Whether a linear map of the first token of each sequence stands before the classes; a decoder has none."""
    class_width: Num
    """Width of what classes are told from."""
    class_bias: Num
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


def columns_of(model: Model) -> Models:
    """Turn an architecture into numbers.

    Parameters
    ----------
    model
        The architecture.
    """
    towers = 2 if model.kind == "encoder-decoder" else 1
    return Models(
        layers=_layer_groups(model),
        multi_token=_further_layers(model),
        hidden_size=float(model.hidden_size),
        embedding_size=float(model.embedding_size or model.hidden_size),
        vocabulary_size=float(model.vocabulary_size),
        token_types=float(model.token_types),
        embedding_map=float(model.embedding_size is not None),
        maps_words=float(model.maps_words),
        embedding_norm=float(model.embedding_norm),
        final_norms=float(0 if model.norm_position == "post" else towers),
        norm_weight=float(model.norm_weights),
        norm_bias=float("normalisation" in model.biases),
        norm_statistics=_statistics(model),
        dropout=float(model.dropout),
        tied_head=float(model.tied_head),
        shared_layers=float(model.shared_layers),
        head_bias=float("head" in model.biases),
        logits_capped=float(model.logit_cap is not None),
        causal=float(model.kind == "decoder"),
        encoder_decoder=float(towers - 1),
        mask_rate=model.mask_rate,
        **_positions(model, towers),
        **_head(model),
    )


def _positions(model: Model, towers: int) -> dict[str, Num]:
    """Tables of positions: each tower has its own, or with tables in every layer each layer."""
    buckets = model.position_rows if model.positions == "relative-buckets" else 0
    buckets += 0 if model.position_products else model.relative_rows
    return {
        "position_rows": float(towers * model.position_rows if model.positions == "learned" else 0),
        "bucket_tables": float(buckets * (model.all_layers if model.buckets_in_every_layer else towers)),
        "relative_rows": float(model.relative_rows if model.position_products else 0),
        "relative_norm": float(model.relative_norm),
    }


def _head(model: Model) -> dict[str, Num]:
    """What the model predicts, and what stands before it."""
    pretraining = model.objective in _PRETRAINING
    classifies = model.objective in _OF_SEQUENCES or (pretraining and model.pooler)
    transforms = model.head_transform and (pretraining or (model.transforms_classes and model.objective != "encoding"))
    of_words = float(model.embedding_size or model.hidden_size)
    pooled = classifies and model.kind != "decoder" and not (transforms and model.transforms_classes)
    tokens = {"span": 2, "token-classification": model.classes}
    return {
        "vocabulary_head": float(pretraining),
        "head_transform": float(transforms),
        "transform_width": of_words if pretraining else float(model.hidden_size),
        "transform_bias": float("bias" in model.transform_parts),
        "transform_norm": float("normalisation" in model.transform_parts),
        "transform_norm_bias": float("normalisation_bias" in model.transform_parts),
        "transforms_classes": float(model.transforms_classes),
        "pooler": float(pooled or (model.objective == "encoding" and model.pooler)),
        "class_width": of_words if model.maps_words else float(model.hidden_size),
        "class_bias": float(model.kind != "decoder"),
        "sequence_classes": float(_CLASSES.get(model.objective, model.classes) if classifies else 0),
        "token_classes": float(tokens.get(model.objective, 0)),
        "masked": float(model.objective == "mlm"),
    }


def _statistics(model: Model) -> float:
    """Numbers that a normalisation keeps of each vector."""
    return 2.0 if model.normalisation == "layernorm" else 1.0


def _layer_groups(model: Model) -> tuple[Layers, ...]:
    """Group layers of one kind, in the order in which the kinds first occur; a decoder's come last."""
    kinds = Counter(model.kind_of_layer(index) for index in range(model.layers))
    groups = [_layers(model, count, kind) for kind, count in kinds.items()]
    if model.decoder_layers is not None:
        groups.append(_layers(model, model.decoder_layers, model.kind_of_decoder_layer, decoder=True))
    return tuple(groups)


def _further_layers(model: Model) -> Layers | None:
    """Layers of modules that predict further tokens, of the kind of the last one."""
    if not model.multi_token_modules or model.objective != "causal":
        return None
    return _layers(model, model.multi_token_modules, model.kind_of_layer(model.layers - 1))


def _layers(model: Model, count: int, kind: LayerKind, *, decoder: bool = False) -> Layers:
    """Turn one group of equal layers into numbers."""
    heads = _heads(model)
    return Layers(
        count=float(count),
        hidden_size=float(model.hidden_size),
        dropout=float(model.dropout),
        block=ParallelBlock() if model.block == "parallel" else SerialBlock(),
        norms=Normalisation(
            count=float(kind.norms + decoder),
            weight=float(model.norm_weights),
            bias=float("normalisation" in model.biases),
            statistics=_statistics(model),
            outputs=float(_NORMS_OF_OUTPUTS[model.norm_position]),
        ),
        attention=_attention(model, kind, heads, causal=float(model.kind == "decoder" or decoder)),
        cross_attention=CrossAttention(**heads) if decoder else None,
        feed_forward=_feed_forward(model, has_experts=kind.has_experts),
    )


def _heads(model: Model) -> dict[str, Num]:
    """What self-attention and attention to an encoder have in common."""
    return {
        "heads": float(model.attention_heads),
        "key_value_heads": float(model.kv_heads),
        "head_size": float(model.width_of_head),
        "value_head_size": float(model.value_head_size or model.width_of_head),
        "qkv_bias": float("qkv" in model.biases),
        "output_bias": float("attention_output" in model.biases),
        "dropout": float(model.dropout),
        "capped": float(model.score_cap is not None),
    }


def _attention(model: Model, kind: LayerKind, heads: dict[str, Num], causal: float) -> MultiHeadAttention:
    """The attention of tokens to each other, of the kind that the model's keys say."""
    fields: dict[str, Num] = {
        **heads,
        "window": float(kind.window or 1e15),
        "causal": causal,
        "rotary": model.rotary_share if kind.rotary else 0.0,
        "sinks": float(model.attention_sinks),
    }
    normalised = _head_normalisation(model, kind)
    if model.key_value_rank is not None:
        return LatentAttention(
            **fields,
            normalisation=normalised,
            query_rank=float(model.query_rank or 0),
            key_value_rank=float(model.key_value_rank),
            rotary_size=float(model.rotary_head_size or 0),
            latent_bias=float("latent" in model.biases),
        )
    if model.position_products:
        return DisentangledAttention(
            **fields,
            normalisation=normalised,
            position_rows=float(model.relative_rows),
            content_to_position=float("content-to-position" in model.position_products),
            position_to_content=float("position-to-content" in model.position_products),
            own_projections=float(model.position_projections),
        )
    attends = RelativeAttention if model.positions == "transformer-xl" else MultiHeadAttention
    return attends(**fields, normalisation=normalised)


def _head_normalisation(model: Model, kind: LayerKind) -> HeadNormalisation | None:
    """The normalisation of queries and keys; one without weights goes with rotary positions (Llama 4)."""
    form = model.query_key_norm
    if form == "none" or (form == "unweighted" and not kind.rotary):
        return None
    return HeadNormalisation(
        joint=float(form == "joint"),
        weights={"unweighted": 0.0, "shared": 1.0}.get(form, 2.0),
        bias=float("query_key_norm" in model.biases),
        statistics=_statistics(model),
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
    width = model.expert_feed_forward_size or model.feed_forward_size
    return ExpertFeedForward(
        size=float(width),
        experts=float(model.experts),
        experts_per_token=float(model.experts_per_token),
        expert_groups=float(model.expert_groups),
        groups_per_token=float(model.groups_per_token),
        router_bias=float("router" in model.biases),
        shared_experts=float(model.shared_experts),
        shared_size=float(model.shared_expert_feed_forward_size or width),
        shared_gate=float(model.shared_expert_gate),
        **shared,
    )
