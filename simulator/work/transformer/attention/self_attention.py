"""Attention of tokens to each other: multi-head, grouped-query or multi-query, Transformer-XL's and DeBERTa's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.pricing.requests import StreamKind
from simulator.specs.choices import RecomputeModule
from simulator.specs.parts import DisentangledAttention, Layers, MultiHeadAttention, RelativeAttention
from simulator.work.operators import Holding, Operator, exchange, product, ring, stream, untrained
from simulator.work.transformer.adapted.adapters import tuned
from simulator.work.transformer.adapted.linears import Linear, Matrix
from simulator.work.transformer.attention.cached import attention_core, copies_of_keys
from simulator.work.transformer.attention.core import Heads, heads_of, output_projection
from simulator.work.transformer.attention.head_normalisation import head_normalisation
from simulator.work.transformer.attention.position_products import position_products
from simulator.work.transformer.part import operators_of
from simulator.work.transformer.tokens import (
    Scenarios,
    Tokens,
    autocasts,
    last_output_unused,
    linear_input,
    normalised_input,
    plain,
)
from simulator.work.weights import Weight, linear_weights, vectors

_DEALT = 4.0
"""Tensors that Ulysses deals out in a pass: queries, keys, values and output, or their gradients."""
_ROTARY_PASSES = 2.0, 6.0
"""Times that queries and keys cross the memory bus for rotary positions: fused, and in addition where eager."""


@operators_of.register
def self_attention(part: MultiHeadAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Projections, positions and core."""
    return _attention(part, layers, scenarios, tokens)


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
            matrices=(plain(tokens.keys, heads.query_width, scenarios, bias=0.0),),
            weights=linear_weights(layers.hidden_size, heads.query_width, row_ranks=scenarios.plans.tp),
        ),
    )
    return _attention(part, layers, scenarios, tokens, between=[projection], products=2.0)


@operators_of.register
def disentangled_attention(
    part: DisentangledAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens
) -> list[Operator]:
    """Attention with products of queries and of keys with projected embeddings of relative positions."""
    between = position_products(part, layers, scenarios, tokens)
    return _attention(part, layers, scenarios, tokens, between=between)


def _attention(
    part: MultiHeadAttention,
    layers: Layers,
    scenarios: Scenarios,
    tokens: Tokens,
    *,
    between: Sequence[Operator] = (),
    products: Num = 1.0,
) -> list[Operator]:
    """Projections, what stands between them and the core, the core with its ring, and the output."""
    prefix = scenarios.workloads.tuning.prefix
    core = attention_core(
        part,
        scenarios,
        tokens,
        tokens.keys + prefix,
        causal=part.causal,
        window=part.window,
        products=products,
        rotary=part.rotary,
    )
    unused = last_output_unused(layers, scenarios) if layers.block.shares_input else 0.0
    return [
        *_projections(part, layers, scenarios, tokens, heads_of(part, scenarios.plans)),
        *between,
        *_prefix(part, scenarios, prefix),
        *core,
        *context_exchanges(part, scenarios, tokens),
        *output_projection("attention output", part, layers, scenarios, tokens, unused),
    ]


def _projections(
    part: MultiHeadAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens, heads: Heads
) -> list[Operator]:
    """Queries, keys and values, and normalisation and rotary positions of queries and keys."""
    element, width = scenarios.plans.element_bytes, layers.hidden_size
    fused = np.asarray(scenarios.stacks.fused_qkv) > 0
    both = heads.key_width + heads.value_width
    weights = parameters.linear(width, heads.query_width + both, bias=part.qkv_bias)
    apart = np.where(fused, 0.0, 2.0)
    alike = copies_of_keys(part, scenarios)  # ranks that share sequences make keys and values of their own ones
    first, rest = _made_one_by_one(part, scenarios, tokens, heads)
    kept = kept_inputs(layers, scenarios, apart) * activations.tensor(
        linear_input(tokens, scenarios), width, element_bytes=scenarios.plans.product_bytes
    )
    tensors, discards = _weights(part, layers, scenarios, heads), normalised_input(kept, scenarios)
    queries = product(
        "query projection",
        "attention_projections",
        m=tokens.all,
        k=width,
        n=heads.query_width + np.where(fused, both / alike, 0.0),
        element_bytes=element,
        cast_before=(True, False),
        kept=Holding(saved=kept, parameters=weights, weights=tensors, matrices=first, discards=discards),
    )
    others = product(
        "key and value projection",
        "attention_projections",
        m=tokens.all,
        k=width,
        n=heads.key_width / alike,
        count=apart,
        element_bytes=element,
        launches=(apart, apart),
        cast_before=(True, False),
        kept=Holding(matrices=rest),
    )
    return [
        *tuned(queries, _read(layers, scenarios, tokens, heads), scenarios),
        untrained(others, scenarios.workloads.tuning.base),
        *_sinks(part, heads),
        *head_normalisation(part.normalisation, part, scenarios, tokens),
        rotary_positions(scenarios, part.rotary, tokens.all * part.rotary * (heads.query_width + heads.key_width)),
    ]


def _made_one_by_one(
    part: MultiHeadAttention, scenarios: Scenarios, tokens: Tokens, heads: Heads
) -> tuple[tuple[Num, ...], tuple[Num, ...]]:
    """Bytes of queries, and of keys and values, as matrices of their own make them, with the first product and beside.

    Policies by operator are of models with a matrix each, also where a stack joins them in one kernel.
    """
    if not scenarios.plans.recomputation.by_operator:
        return (), ()
    widths = (heads.query_width, heads.key_width, heads.value_width)
    queries, *others = (plain(tokens.all, each, scenarios, bias=part.qkv_bias) for each in widths)
    joint = np.asarray(scenarios.stacks.fused_qkv) > 0.0
    first = tuple(np.where(joint, size, 0.0) for size in others)
    return (queries, *first), tuple(np.where(joint, 0.0, size) for size in others)


def _weights(part: MultiHeadAttention, layers: Layers, scenarios: Scenarios, heads: Heads) -> tuple[Weight, ...]:
    """Matrices of queries, keys and values; DeBERTa's are never one, since positions pass two of them alone."""
    fused = np.where(np.asarray(scenarios.stacks.fused_qkv) > 0.0, 1.0, 0.0)
    return linear_weights(
        layers.hidden_size,
        heads.query_width,
        heads.key_width,
        heads.value_width,
        bias=part.qkv_bias,
        joined=0.0 if isinstance(part, DisentangledAttention) else fused,
        apart=1.0,
        row_ranks=scenarios.plans.tp,
    )


def _read(layers: Layers, scenarios: Scenarios, tokens: Tokens, heads: Heads) -> Linear:
    """What the matrices of queries, keys and values read, and keep where adapters of the other half do not."""
    tuning = scenarios.workloads.tuning
    keeps_for_both = np.maximum(tuning.gate, tuning.up) if layers.block.shares_input else np.float64(0.0)
    own = np.where(np.asarray(layers.norms.count) > 1.0, 1.0, 1.0 - keeps_for_both)
    size = activations.tensor(
        linear_input(tokens, scenarios), layers.hidden_size, element_bytes=scenarios.plans.element_bytes
    )
    widths = {"query": heads.query_width, "key": heads.key_width, "value": heads.value_width}
    return Linear(
        part="attention_projections",
        rows=tokens.all,
        width=layers.hidden_size,
        matrices=tuple(Matrix(width=width, adapted=getattr(tuning, name)) for name, width in widths.items()),
        saved=own * size,
        ranks=scenarios.plans.tp,
    )


def _prefix(part: MultiHeadAttention, scenarios: Scenarios, prefix: Num) -> list[Operator]:
    """Keys and values of virtual tokens, joined with those of a sequence: all of both are copied."""
    if not np.any(np.asarray(prefix) > 0.0):
        return []
    plans, heads = scenarios.plans, heads_of(part, scenarios.plans)
    keys = (scenarios.workloads.sequence_length + prefix) * plans.micro_batch
    copied = 2.0 * keys * (heads.key_width + heads.value_width) * plans.element_bytes
    used = np.where(np.asarray(prefix) > 0.0, 2.0, 0.0)
    moved, launches = (copied * used / 2.0, copied * used / 2.0), (used, used)
    return [stream("prefix", "attention", StreamKind.HEAD_LAYOUT, moved=moved, launches=launches)]


def _sinks(part: MultiHeadAttention, heads: Heads) -> list[Operator]:
    """One score a head, which the softmax reads besides the others; it costs no time of its own."""
    if not np.any(np.asarray(part.sinks) > 0.0):
        return []
    owned = Holding(parameters=part.sinks * heads.query, weights=(vectors(heads.query, part.sinks),))
    nothing = (0.0, 0.0)
    return [stream("attention sinks", "attention", StreamKind.SOFTMAX, moved=nothing, launches=nothing, kept=owned)]


def rotary_positions(
    scenarios: Scenarios, used: Num, elements: Num, inside: tuple[tuple[RecomputeModule, Num], ...] = ()
) -> Operator:
    """Turning of so many elements of queries and keys, `inside` of modules; `used` is 0 where there is none."""
    eager = scenarios.stacks.eager
    turned = elements * scenarios.plans.element_bytes * (_ROTARY_PASSES[0] + _ROTARY_PASSES[1] * eager)
    kernels = np.where(np.asarray(used) > 0.0, 1.0 + 5.0 * eager, 0.0)
    return stream(
        "rotary positions",
        "elementwise",
        StreamKind.ROTARY,
        moved=(turned, turned),
        launches=(kernels, kernels),
        kept=Holding(repeated_in=inside),
    )


def kept_inputs(layers: Layers, scenarios: Scenarios, apart: Num) -> Num:
    """Copies of its input that a layer keeps for its projections, of which `apart` stand beside the first.

    Halves of a parallel block keep one input, unless each normalises its own; casts give each product its own copy.
    """
    cast = autocasts(scenarios)
    each = 1.0 + apart * cast
    if not layers.block.shares_input:
        return each
    return np.where(np.asarray(cast) < 1.0, np.minimum(layers.norms.count - 1.0, 1.0), each)


def context_exchanges(part: MultiHeadAttention, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """What ranks that share a sequence send each other: keys and values around them, or tokens of some heads to each.

    Ulysses deals queries, keys, values and the output out in one all-to-all each, in both passes: of a rank's tokens it
    sends all heads but its own, and gets its heads of all tokens (Jacobs et al., DeepSpeed Ulysses, arXiv 2309.14509,
    section 3.2).
    """
    plans, heads = scenarios.plans, heads_of(part, scenarios.plans)
    if not np.any(np.asarray(plans.cp) > 1.0):
        return []
    deals = np.asarray(scenarios.stacks.deals_heads)
    turned = tokens.all * (heads.key_width + heads.value_width) * plans.element_bytes
    operators = []
    if np.any(deals < 1.0):
        around = ring(
            "ring of keys and values",
            turned * (1.0 - deals),
            degree=np.where(deals > 0.0, 1.0, plans.cp),
            stride=plans.cp_stride,
            reach=scenarios.stacks.context_overlap,
        )
        operators.append(around)
    if np.any(deals > 0.0):
        dealt = turned + tokens.all * (heads.query_width + heads.context_width) * plans.element_bytes
        times = _DEALT * deals * np.where(np.asarray(plans.cp) > 1.0, 1.0, 0.0)
        each = exchange(
            "all-to-all of heads",
            "context_parallel",
            "all_to_all",
            dealt / _DEALT,
            degree=plans.cp,
            stride=plans.cp_stride,
            counts=(times, times),
            launches=(times, times),
            inside=(("core_attn", 0.0),),
        )
        operators.append(each)
    return operators
