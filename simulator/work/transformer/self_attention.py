"""Attention of tokens to each other: multi-head, grouped-query or multi-query, and Transformer-XL's."""

from __future__ import annotations

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.pricing.requests import StreamKind
from simulator.specs.parts import Layers, MultiHeadAttention, RelativeAttention
from simulator.work.operators import Holding, Operator, product, ring, stream, untrained
from simulator.work.transformer.adapters import Linear, Matrix, tuned
from simulator.work.transformer.attention import Heads, attention_core, heads_of, output_projection
from simulator.work.transformer.part import operators_of
from simulator.work.transformer.tokens import Scenarios, Tokens, autocasts, last_output_unused, linear_input

_ROTARY_PASSES = 2.0, 6.0
"""Times that queries and keys cross the memory bus for rotary positions: fused, and in addition where eager."""


@operators_of.register
def self_attention(part: MultiHeadAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Projections, positions and core."""
    return _attention(part, layers, scenarios, tokens, between=[], products=1.0)


@operators_of.register
def relative_attention(part: RelativeAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Attention with a projection of the sinusoids of all distances, which the sequences of a batch share."""
    heads, element = heads_of(part, scenarios.plans), scenarios.plans.element_bytes
    projection = product(
        "relative position projection",
        "attention_projections",
        m=tokens.keys,
        k=layers.hidden_size,
        n=heads.query_width,
        element_bytes=element,
        has_input_gradient=0.0,
        kept=Holding(
            saved=activations.tensor(tokens.keys, heads.query_width, element_bytes=element),
            parameters=parameters.linear(layers.hidden_size, heads.query_width),
        ),
    )
    return _attention(part, layers, scenarios, tokens, between=[projection], products=2.0)


def _attention(
    part: MultiHeadAttention,
    layers: Layers,
    scenarios: Scenarios,
    tokens: Tokens,
    *,
    between: list[Operator],
    products: Num,
) -> list[Operator]:
    """Projections, what stands between them and the core, the core with its ring, and the output."""
    heads = heads_of(part, scenarios.plans)
    core = attention_core(
        part, scenarios, tokens, tokens.keys, causal=part.causal, window=part.window, products=products
    )
    unused = last_output_unused(layers, scenarios) if layers.block.shares_input else 0.0
    return [
        *_projections(part, layers, scenarios, tokens, heads),
        *between,
        *core,
        *_context_ring(scenarios, tokens, heads),
        *output_projection("attention output", part, layers, scenarios, tokens, unused),
    ]


def _projections(
    part: MultiHeadAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens, heads: Heads
) -> list[Operator]:
    """Queries, keys and values, and rotary positions of queries and keys."""
    stacks, element, width = scenarios.stacks, scenarios.plans.element_bytes, layers.hidden_size
    fused, eager = np.asarray(stacks.fused_qkv) > 0, stacks.eager
    both = 2.0 * heads.key_value_width
    apart = np.where(fused, 0.0, 2.0)
    turned = tokens.all * (heads.query_width + heads.key_value_width) * element
    turned = turned * part.rotary * (_ROTARY_PASSES[0] + _ROTARY_PASSES[1] * eager)
    kernels = part.rotary * (1.0 + 5.0 * eager)
    kept = _kept_inputs(layers, scenarios, apart) * activations.tensor(
        linear_input(tokens, scenarios), width, element_bytes=scenarios.plans.product_bytes
    )
    queries = product(
        "query projection",
        "attention_projections",
        m=tokens.all,
        k=width,
        n=heads.query_width + np.where(fused, both, 0.0),
        element_bytes=element,
        kept=Holding(saved=kept, parameters=parameters.linear(width, heads.query_width + both, bias=part.qkv_bias)),
    )
    others = product(
        "key and value projection",
        "attention_projections",
        m=tokens.all,
        k=width,
        n=heads.key_value_width,
        count=apart,
        element_bytes=element,
        launches=(apart, apart),
    )
    return [
        *tuned(queries, _read(layers, scenarios, tokens, heads), scenarios),
        untrained(others, scenarios.workloads.tuning.base),
        stream(
            "rotary positions",
            "elementwise",
            StreamKind.ROTARY,
            moved=(turned, turned),
            launches=(kernels, kernels),
        ),
    ]


def _read(layers: Layers, scenarios: Scenarios, tokens: Tokens, heads: Heads) -> Linear:
    """What the matrices of queries, keys and values read, and keep where adapters of the other half do not."""
    tuning = scenarios.workloads.tuning
    keeps_for_both = np.maximum(tuning.gate, tuning.up) if layers.block.shares_input else np.float64(0.0)
    own = np.where(np.asarray(layers.norms.count) > 1.0, 1.0, 1.0 - keeps_for_both)
    size = activations.tensor(
        linear_input(tokens, scenarios), layers.hidden_size, element_bytes=scenarios.plans.element_bytes
    )
    widths = {"query": heads.query_width, "key": heads.key_value_width, "value": heads.key_value_width}
    return Linear(
        part="attention_projections",
        rows=tokens.all,
        width=layers.hidden_size,
        matrices=tuple(Matrix(width=width, adapted=getattr(tuning, name)) for name, width in widths.items()),
        saved=own * size,
        ranks=scenarios.plans.tp,
    )


def _kept_inputs(layers: Layers, scenarios: Scenarios, apart: Num) -> Num:
    """Copies of its input that a layer keeps for its projections.

    Halves of a parallel block keep one input, unless each normalises its own; casts give each product its own copy.
    """
    cast = autocasts(scenarios)
    each = 1.0 + apart * cast
    if not layers.block.shares_input:
        return each
    return np.where(np.asarray(cast) < 1.0, np.minimum(layers.norms.count - 1.0, 1.0), each)


def _context_ring(scenarios: Scenarios, tokens: Tokens, heads: Heads) -> list[Operator]:
    """Keys and values on their way around the context-parallel ranks."""
    plans = scenarios.plans
    if not np.any(np.asarray(plans.cp) > 1.0):
        return []
    return [
        ring(
            "ring of keys and values",
            2.0 * tokens.all * heads.key_value_width * plans.element_bytes,
            degree=plans.cp,
            stride=plans.cp_stride,
            reach=scenarios.stacks.context_overlap,
        )
    ]
