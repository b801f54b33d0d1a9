"""Products with embeddings of relative positions, which DeBERTa's scores add."""

from __future__ import annotations

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.pricing.requests import StreamKind
from simulator.specs.parts import DisentangledAttention, Layers
from simulator.work.operators import Holding, Operator, product, stream
from simulator.work.transformer.attention.core import heads_of
from simulator.work.transformer.tokens import Scenarios, Tokens, autocasts, plain
from simulator.work.weights import linear_weights


def position_products(
    part: DisentangledAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens
) -> list[Operator]:
    """Projected positions, which the sequences of a batch share, their products, and the choice of each pair's score.

    Parameters
    ----------
    part, layers, scenarios, tokens
        What they are of.

    References
    ----------
    He et al., DeBERTa, arXiv 2006.03654, equation 4 and algorithm 1.
    """
    return [
        _projection(part, layers, scenarios),
        _product("content to position", part, scenarios, tokens.queries, part.content_to_position),
        _product("position to content", part, scenarios, tokens.keys, part.position_to_content),
        _choice(part, scenarios, tokens),
    ]


def _projection(part: DisentangledAttention, layers: Layers, scenarios: Scenarios) -> Operator:
    """Embedded positions, dropped by each layer anew, through projections of their own or those of queries and keys."""
    width, plans = layers.hidden_size, scenarios.plans
    own = heads_of(part, plans).query_width
    kinds = part.content_to_position + part.position_to_content
    # Under automatic casts each product keeps a cast of its own.
    read = np.where(autocasts(scenarios) > 0.0, kinds, layers.dropout)
    dropped = read * activations.tensor(part.position_rows, width, element_bytes=plans.product_bytes)
    dropped = dropped + layers.dropout * activations.dropout_mask(part.position_rows, width)
    projected = kinds * activations.tensor(part.position_rows, own, element_bytes=plans.element_bytes)
    made = plain(part.position_rows, own, scenarios, bias=part.qkv_bias)
    return product(
        "projection of positions",
        "attention_projections",
        m=part.position_rows,
        k=width,
        n=own,
        count=kinds,
        element_bytes=plans.element_bytes,
        launches=(kinds, kinds),
        kept=Holding(
            saved=dropped + projected,
            parameters=kinds * part.own_projections * parameters.linear(width, own, bias=part.qkv_bias),
            matrices=(part.content_to_position * made, part.position_to_content * made),
            weights=linear_weights(
                width, own, bias=part.qkv_bias, factors=(kinds, part.own_projections), row_ranks=plans.tp
            ),
        ),
    )


def _product(name: str, part: DisentangledAttention, scenarios: Scenarios, rows: Num, count: Num) -> Operator:
    """Queries or keys times projected positions; torch keeps all of it for the choice of each pair's score."""
    heads = scenarios.plans.micro_batch * heads_of(part, scenarios.plans).query
    scores = count * heads * rows * part.position_rows * scenarios.plans.element_bytes
    return product(
        name,
        "attention",
        m=rows,
        n=part.position_rows,
        k=part.head_size,
        batch=heads,
        count=count,
        element_bytes=scenarios.plans.element_bytes,
        efficiency=scenarios.stacks.attention_efficiency,
        of_weight=False,
        wide=True,
        launches=(count, count * 2.0),
        kept=Holding(saved=scores, in_attention=True),
    )


def _choice(part: DisentangledAttention, scenarios: Scenarios, tokens: Tokens) -> Operator:
    """Of each product the score of a pair's distance, added up; a fused kernel takes the sum as a matrix, kept."""
    plans, stacks = scenarios.plans, scenarios.stacks
    heads = plans.micro_batch * heads_of(part, plans).query
    pairs = heads * tokens.queries * tokens.keys * plans.element_bytes
    kinds = part.content_to_position + part.position_to_content
    table = heads * part.position_rows * plans.element_bytes
    table = table * (part.content_to_position * tokens.queries + part.position_to_content * tokens.keys)
    fused = np.asarray(scenarios.plans.fused_attention)
    return stream(
        "scores of relative positions",
        "attention",
        StreamKind.SOFTMAX,
        moved=(3.0 * kinds * pairs, 3.0 * kinds * pairs + table),
        launches=(2.0 * kinds, 2.0 * kinds),
        efficiency=stacks.attention_efficiency,
        kept=Holding(saved=fused * pairs, in_attention=True),
    )
