"""Attention of a decoder's tokens to the encoder's output."""

from __future__ import annotations

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.specs.parts import CrossAttention, Layers
from simulator.work.operators import Holding, Operator, product
from simulator.work.transformer.adapted.adapters import tuned
from simulator.work.transformer.adapted.linears import Linear, Matrix
from simulator.work.transformer.attention.cached import attention_core, attention_to_encoder
from simulator.work.transformer.attention.core import Heads, heads_of, output_projection
from simulator.work.transformer.exchanges import mode, splits, tensor_exchange
from simulator.work.transformer.part import operators_of
from simulator.work.transformer.tokens import Scenarios, Tokens, autocasts, linear_input, plain, tokens_of
from simulator.work.weights import linear_weights


@operators_of.register
def cross_attention(part: CrossAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Projections of both sides, core and output, and with tensor parallelism the gathers of the encoder's output."""
    memory, served = tokens_of(scenarios, scenarios.workloads.sequence_length), scenarios.iterations
    core = (
        attention_core(part, scenarios, tokens, memory.keys)
        if served is None
        else attention_to_encoder(part, scenarios, served.encoded)
    )
    return [
        *_projections(part, layers, scenarios, tokens, memory),
        *core,
        *output_projection("output of attention to the encoder", part, layers, scenarios, tokens),
        *_exchanges(scenarios, memory),
    ]


def _projections(
    part: CrossAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens, memory: Tokens
) -> list[Operator]:
    """Queries of the decoder's tokens, keys and values of the encoder's."""
    heads, element, width = heads_of(part, scenarios.plans), scenarios.plans.element_bytes, layers.hidden_size
    kept = activations.tensor(linear_input(tokens, scenarios), width, element_bytes=scenarios.plans.product_bytes)
    encoded = activations.tensor(linear_input(memory, scenarios), width, element_bytes=element)
    # In serving they are made once, with the encoder's output, and kept in a cache.
    served = scenarios.iterations
    made = 2.0 if served is None else np.where(np.asarray(served.prompts) > 0.0, 2.0, 0.0)
    query = product(
        "query projection to the encoder",
        "attention_projections",
        m=tokens.all,
        k=width,
        n=heads.query_width,
        element_bytes=element,
        kept=Holding(
            saved=kept,
            parameters=parameters.linear(width, heads.query_width, bias=part.qkv_bias),
            matrices=(plain(tokens.all, heads.query_width, scenarios, bias=part.qkv_bias),),
            weights=linear_weights(width, heads.query_width, bias=part.qkv_bias, row_ranks=scenarios.plans.tp),
        ),
    )
    both = product(
        "key and value projection of the encoder",
        "attention_projections",
        m=memory.all,
        k=width,
        n=heads.key_width,
        count=made,
        element_bytes=element,
        launches=(made, made),
        kept=Holding(
            saved=autocasts(scenarios) * 2.0 * encoded,
            parameters=2.0 * parameters.linear(width, heads.key_width, bias=part.qkv_bias),
            matrices=(plain(memory.all, heads.key_width, scenarios, bias=part.qkv_bias),) * 2,
            weights=linear_weights(
                width, heads.key_width, bias=part.qkv_bias, factors=(2.0,), row_ranks=scenarios.plans.tp
            ),
        ),
    )
    reads = _read(layers, scenarios, tokens, memory, heads)
    return [*tuned(query, reads[0], scenarios), *tuned(both, reads[1], scenarios)]


def _read(layers: Layers, scenarios: Scenarios, tokens: Tokens, memory: Tokens, heads: Heads) -> tuple[Linear, Linear]:
    """What the matrices read; the encoder's output is kept once for all layers, beside the head."""
    tuning, ranks, element = scenarios.workloads.tuning, scenarios.plans.tp, scenarios.plans.element_bytes
    saved = activations.tensor(linear_input(tokens, scenarios), layers.hidden_size, element_bytes=element)
    query = Matrix(width=heads.query_width, adapted=tuning.query)
    others = tuple(Matrix(width=heads.key_width, adapted=flag) for flag in (tuning.key, tuning.value))
    width = layers.hidden_size

    def linear(rows: Num, matrices: tuple[Matrix, ...], saved: Num) -> Linear:
        return Linear(part="attention_projections", rows=rows, width=width, matrices=matrices, saved=saved, ranks=ranks)

    return linear(tokens.all, (query,), saved), linear(memory.all, others, 0.0)


def _exchanges(scenarios: Scenarios, memory: Tokens) -> list[Operator]:
    """Collectives around the keys and values of the encoder's output, where each layer gathers it again."""
    if not splits(scenarios):
        return []
    message = memory.all * scenarios.models.hidden_size * scenarios.plans.element_bytes
    again = mode(scenarios)[1] * scenarios.stacks.regathers_inputs
    where = "of the encoder's output"
    return [
        tensor_exchange("all_gather", where, message, scenarios, counts=(again, again)),
        tensor_exchange("reduce_scatter", where, message, scenarios, counts=(0.0, again)),
    ]
