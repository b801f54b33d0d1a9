"""Operators of self-attention and of attention to an encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.specs.model import Layers
from simulator.specs.plans import Plans
from simulator.work.operators import FusedAttention, Gemm, Operator, Ring, Stream
from simulator.work.transformer.tokens import Scenarios, Tokens, autocasts, last_output_unused, linear_input

_ROTARY_PASSES = 2.0, 6.0
"""Times that queries and keys cross the memory bus for rotary positions: fused, and in addition where eager."""


@dataclass(frozen=True)
class _Heads:
    """Attention heads of one rank and the widths they make."""

    query: Num
    key_value: Num
    query_width: Num
    key_value_width: Num


def _heads(layers: Layers, plans: Plans) -> _Heads:
    """Divide heads by tensor parallelism; fewer key-value heads than ranks are copied."""
    query = layers.heads / plans.tp
    key_value = np.maximum(layers.key_value_heads / plans.tp, 1.0)
    return _Heads(query, key_value, query * layers.head_size, key_value * layers.head_size)


def attention(layers: Layers, scenarios: Scenarios, tokens: Tokens, keys: Num) -> list[Operator]:
    """Projections, positions and core of self-attention."""
    heads, element, width = _heads(layers, scenarios.plans), scenarios.plans.element_bytes, layers.hidden_size
    return [
        *_projections(layers, scenarios, tokens, heads),
        *_relative_positions(layers, scenarios, tokens, heads),
        *_attention_core(layers, scenarios, tokens, keys, causal=layers.causal),
        *_context_ring(scenarios, tokens, heads),
        Gemm(
            name="attention output",
            part="attention_projections",
            m=tokens.all,
            k=heads.query_width,
            n=width,
            element_bytes=element,
            saved=activations.tensor(tokens.all, heads.query_width, element_bytes=element),
            parameters=parameters.linear(heads.query_width, width, bias=layers.output_bias),
            partial_parameters=layers.output_bias * width,
            output_unused=layers.parallel_block * last_output_unused(layers, scenarios),
        ),
    ]


def _projections(layers: Layers, scenarios: Scenarios, tokens: Tokens, heads: _Heads) -> list[Operator]:
    """Queries, keys and values, and rotary positions of queries and keys."""
    stacks, element, width = scenarios.stacks, scenarios.plans.element_bytes, layers.hidden_size
    fused = np.asarray(stacks.fused_qkv) > 0
    both = 2.0 * heads.key_value_width
    apart = np.where(fused, 0.0, 2.0)
    # Halves of a parallel block keep one input, unless each normalises its own; casts give each product its own copy.
    cast = autocasts(scenarios)
    kept = np.where(np.asarray(layers.parallel_block) > cast, np.minimum(layers.norms - 1.0, 1.0), 1.0 + apart * cast)
    passes = layers.rotary * (_ROTARY_PASSES[0] + _ROTARY_PASSES[1] * stacks.eager)
    turned = tokens.all * (heads.query_width + heads.key_value_width) * element * passes
    return [
        Gemm(
            name="query projection",
            part="attention_projections",
            m=tokens.all,
            k=width,
            n=heads.query_width + np.where(fused, both, 0.0),
            element_bytes=element,
            saved=kept * activations.tensor(linear_input(tokens, scenarios), width, element_bytes=element),
            parameters=parameters.linear(width, heads.query_width + both, bias=layers.qkv_bias),
        ),
        Gemm(
            name="key and value projection",
            part="attention_projections",
            m=tokens.all,
            k=width,
            n=heads.key_value_width,
            count=apart,
            element_bytes=element,
            forward_kernels=apart,
            backward_kernels=apart,
        ),
        Stream(
            name="rotary positions",
            part="elementwise",
            forward_bytes=turned,
            backward_bytes=turned,
            forward_kernels=layers.rotary * (1.0 + 5.0 * stacks.eager),
            backward_kernels=layers.rotary * (1.0 + 5.0 * stacks.eager),
        ),
    ]


def _relative_positions(layers: Layers, scenarios: Scenarios, tokens: Tokens, heads: _Heads) -> list[Operator]:
    """Transformer-XL: a projection of the sinusoids of all distances, which the sequences of a batch share."""
    used, element = layers.relative_projection, scenarios.plans.element_bytes
    if not np.any(np.asarray(used) > 0.0):
        return []
    return [
        Gemm(
            name="relative position projection",
            part="attention_projections",
            m=tokens.keys,
            k=layers.hidden_size,
            n=heads.query_width,
            count=used,
            element_bytes=element,
            saved=used * activations.tensor(tokens.keys, heads.query_width, element_bytes=element),
            parameters=used * parameters.linear(layers.hidden_size, heads.query_width),
            has_input_gradient=False,
            forward_kernels=used,
            backward_kernels=used,
        )
    ]


def _attention_core(layers: Layers, scenarios: Scenarios, tokens: Tokens, keys: Num, *, causal: Num) -> list[Operator]:
    """Softmax(Q K^T) V: as one kernel, or as two products with the matrix of scores between them."""
    plans, stacks, heads = scenarios.plans, scenarios.stacks, _heads(layers, scenarios.plans)
    element, batch = plans.element_bytes, plans.micro_batch
    fused = np.asarray(stacks.fused_attention)
    eager = 1.0 - fused
    seen = np.where(fused > 0, np.minimum(keys, layers.window), keys)
    rows = batch * heads.query
    matrix = eager * rows * tokens.queries * keys * element
    scored = 1.0 + layers.relative_projection
    apart = np.asarray(stacks.eager) * (1.0 - np.asarray(stacks.fused_softmax))
    operands = activations.tensor(tokens.all, heads.query_width, element_bytes=element)
    operands = operands + 2.0 * activations.tensor(
        tokens.all * keys / tokens.keys, heads.key_value_width, element_bytes=element
    )
    context = fused * activations.attention_statistics(tokens.queries, batch, heads=heads.query)
    moved = tokens.all * (2.0 * heads.query_width + 2.0 * heads.key_value_width) * element * 2.0 * stacks.eager
    return [
        Stream(
            name="layout of heads",
            part="elementwise",
            forward_bytes=moved,
            backward_bytes=moved,
            saved=operands,
            forward_kernels=4.0 * stacks.eager,
            backward_kernels=4.0 * stacks.eager,
        ),
        FusedAttention(
            name="fused attention",
            part="attention",
            queries=tokens.queries,
            keys=seen,
            batch=batch,
            heads=heads.query,
            key_value_heads=heads.key_value,
            head_size=layers.head_size,
            causal=causal,
            efficiency=stacks.attention_efficiency,
            portable=stacks.portable_attention,
            used=fused,
            saved=context,
            forward_kernels=fused,
            backward_kernels=fused,
        ),
        _score_product("scores", layers, scenarios, tokens, keys, rows, eager * scored, into_keys=True),
        Stream(
            name="softmax and dropout",
            part="attention",
            saved=eager
            * (
                activations.attention_matrix(
                    tokens.queries, keys, batch=batch, heads=heads.query, element_bytes=element, dropout=layers.dropout
                )
                + _cast_softmax(rows * tokens.queries * keys, scenarios, layers)
            ),
            widest=matrix,
            in_attention=True,
            drawn=eager * rows * tokens.queries * keys * layers.dropout,
            forward_bytes=matrix * (2.0 + 2.5 * layers.dropout + 4.0 * apart),
            backward_bytes=matrix * (3.0 + 2.5 * layers.dropout + 2.0 * apart),
            reduces=True,
            efficiency=stacks.attention_efficiency,
            forward_kernels=eager * (1.0 + layers.dropout + 2.0 * apart),
            backward_kernels=eager * (1.0 + layers.dropout + 2.0 * apart),
        ),
        _score_product("context", layers, scenarios, tokens, keys, rows, eager, into_keys=False),
    ]


def _cast_softmax(elements: Num, scenarios: Scenarios, layers: Layers) -> Num:
    """Bytes by which a softmax in fp32 exceeds one in 16 bits: its own, and without dropout its cast besides."""
    own = activations.STATISTIC_BYTES - np.asarray(scenarios.plans.element_bytes)
    return autocasts(scenarios) * elements * (own + (1.0 - layers.dropout) * scenarios.plans.element_bytes)


def _score_product(
    name: str,
    layers: Layers,
    scenarios: Scenarios,
    tokens: Tokens,
    keys: Num,
    rows: Num,
    count: Num,
    *,
    into_keys: bool,
) -> Operator:
    """One of the two batched products of unfused attention: Q K^T, or P V."""
    return Gemm(
        name=name,
        part="attention",
        m=tokens.queries,
        n=keys if into_keys else layers.head_size,
        k=layers.head_size if into_keys else keys,
        batch=rows,
        count=count,
        element_bytes=scenarios.plans.element_bytes,
        efficiency=scenarios.stacks.attention_efficiency,
        has_weight=False,
        in_attention=True,
        output_kept=not into_keys,
        forward_kernels=count,
        backward_kernels=count * 2.0,
    )


def _context_ring(scenarios: Scenarios, tokens: Tokens, heads: _Heads) -> list[Operator]:
    """Keys and values on their way around the context-parallel ranks."""
    plans = scenarios.plans
    if not np.any(np.asarray(plans.cp) > 1.0):
        return []
    return [
        Ring(
            name="ring of keys and values",
            part="context_parallel",
            message_bytes=2.0 * tokens.all * heads.key_value_width * plans.element_bytes,
            degree=plans.cp,
            stride=plans.cp_stride,
            exposed=1.0 - np.asarray(scenarios.stacks.context_overlap),
            forward_kernels=plans.cp - 1.0,
            backward_kernels=plans.cp - 1.0,
        )
    ]


def cross_attention(layers: Layers, scenarios: Scenarios, tokens: Tokens, memory: Tokens) -> list[Operator]:
    """Attention of a decoder to the encoder's output."""
    heads, element, width = _heads(layers, scenarios.plans), scenarios.plans.element_bytes, layers.hidden_size
    kept = activations.tensor(linear_input(tokens, scenarios), width, element_bytes=element)
    encoded = activations.tensor(linear_input(memory, scenarios), width, element_bytes=element)
    return [
        Gemm(
            name="query projection to the encoder",
            part="attention_projections",
            m=tokens.all,
            k=width,
            n=heads.query_width,
            element_bytes=element,
            saved=kept,
            parameters=parameters.linear(width, heads.query_width, bias=layers.qkv_bias),
        ),
        Gemm(
            name="key and value projection of the encoder",
            part="attention_projections",
            m=memory.all,
            k=width,
            n=heads.key_value_width,
            count=2.0,
            element_bytes=element,
            saved=autocasts(scenarios) * 2.0 * encoded,
            parameters=2.0 * parameters.linear(width, heads.key_value_width, bias=layers.qkv_bias),
            forward_kernels=2.0,
            backward_kernels=2.0,
        ),
        *_attention_core(layers, scenarios, tokens, memory.keys, causal=0.0),
        Gemm(
            name="output of attention to the encoder",
            part="attention_projections",
            m=tokens.all,
            k=heads.query_width,
            n=width,
            element_bytes=element,
            saved=activations.tensor(tokens.all, heads.query_width, element_bytes=element),
            parameters=parameters.linear(heads.query_width, width, bias=layers.output_bias),
            partial_parameters=layers.output_bias * width,
        ),
    ]
