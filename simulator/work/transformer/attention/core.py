"""What all kinds of attention share: heads of one rank, and softmax(Q K^T) V fused or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.formulas import activations, flops, parameters
from simulator.formulas.typing import Num
from simulator.pricing.requests import FusedAttention, StreamKind
from simulator.specs.choices import RecomputeModule
from simulator.specs.parts import AttentionPart, LatentAttention, Layers
from simulator.specs.plans import Plans
from simulator.work.operators import Holding, Operator, fused_attention, product, stream
from simulator.work.transformer.adapted.adapters import tuned
from simulator.work.transformer.adapted.linears import Linear, Matrix
from simulator.work.transformer.attention.documents import seen_of_documents
from simulator.work.transformer.tokens import Scenarios, Tokens, autocasts, mask_bytes, plain, stream_bytes
from simulator.work.weights import linear_weights


@dataclass(frozen=True)
class Heads:
    """Attention heads of one rank and the widths they make."""

    query: Num
    key_value: Num
    query_width: Num
    key_width: Num
    value_width: Num
    context_width: Num
    """Of what attention returns: a value for each query head."""


def heads_of(part: AttentionPart, plans: Plans) -> Heads:
    """Divide heads by tensor parallelism; fewer key-value heads than ranks are copied."""
    query = part.heads / plans.tp
    key_value = np.maximum(part.key_value_heads / plans.tp, 1.0)
    values = part.value_head_size
    return Heads(
        query,
        key_value,
        query_width=query * part.head_size,
        key_width=key_value * part.head_size,
        value_width=key_value * values,
        context_width=query * values,
    )


def output_projection(
    name: str, part: AttentionPart, layers: Layers, scenarios: Scenarios, tokens: Tokens, unused: Num = 0.0
) -> list[Operator]:
    """From all heads back to the residual stream; `unused` is 1 where no backward pass needs its output.

    Fused attention keeps its output, which is the input here, whether or not this product does.
    """
    heads, element, width = heads_of(part, scenarios.plans), scenarios.plans.element_bytes, layers.hidden_size
    mixed = activations.tensor(tokens.all, heads.context_width, element_bytes=element)
    linear = Linear(
        part="attention_projections",
        rows=tokens.all,
        width=heads.context_width,
        matrices=(Matrix(width=width, adapted=scenarios.workloads.tuning.output),),
        saved=mixed,
        otherwise=mixed * scenarios.plans.fused_attention,
        ranks=scenarios.plans.tp,
        adds_up=True,
    )
    made = plain(tokens.all, width, scenarios, bias=part.output_bias)
    operator = product(
        name,
        "attention_projections",
        m=tokens.all,
        k=heads.context_width,
        n=width,
        element_bytes=element,
        kept=Holding(
            saved=activations.tensor(tokens.all, heads.context_width, element_bytes=scenarios.plans.product_bytes),
            parameters=parameters.linear(heads.context_width, width, bias=part.output_bias),
            partial_parameters=part.output_bias * width,
            weights=linear_weights(heads.context_width, width, bias=part.output_bias, column_ranks=scenarios.plans.tp),
            output_unused=unused,
            matrices=(made,),
        ),
    )
    return tuned(operator, linear, scenarios)


def up_projected(part: AttentionPart, kept: Num = 0.0) -> tuple[tuple[RecomputeModule, Num], ...]:
    """The module that makes queries, keys and values of latents, with what is kept where it is repeated [B]."""
    return (("mla_up_proj", kept),) if isinstance(part, LatentAttention) else ()


def sequence_core(
    part: AttentionPart,
    scenarios: Scenarios,
    tokens: Tokens,
    keys: Num,
    *,
    causal: Num,
    window: Num,
    products: Num = 1.0,
    rotary: Num = 0.0,
    cached: Num | None = None,
) -> list[Operator]:
    """Softmax(Q K^T) V: as one kernel, or as two products with the matrix of scores between them.

    Parameters
    ----------
    part, scenarios, tokens
        What it is of.
    keys
        Of one sequence [token].
    causal
        1 under a causal mask, else 0 [1].
    window
        Keys that a query sees at most [token].
    products
        Products that make the scores [1].
    rotary
        Share of queries and keys that rotary positions have turned [1].
    cached
        Keys of each sequence that were there before the queries, which all of them see [token].
    """
    eager = 1.0 - np.asarray(scenarios.plans.fused_attention)
    return [
        _layout(part, scenarios, tokens, keys, rotary),
        _fused(part, scenarios, tokens, keys, causal=causal, window=window, cached=cached),
        _score_product("scores", part, scenarios, tokens, keys, eager * products, into_keys=True),
        *_soft_cap(part, scenarios, tokens, keys),
        _softmax(part, scenarios, tokens, keys),
        _score_product("context", part, scenarios, tokens, keys, eager, into_keys=False),
    ]


def _layout(part: AttentionPart, scenarios: Scenarios, tokens: Tokens, keys: Num, rotary: Num) -> Operator:
    """Queries, keys and values as attention wants them, which it keeps."""
    heads, element, eager = heads_of(part, scenarios.plans), scenarios.plans.element_bytes, scenarios.stacks.eager
    # What selective recomputation starts from is as rotary positions leave it: in fp32 under automatic casts.
    starts = np.maximum(scenarios.plans.recompute_attention, scenarios.plans.recomputation.core_attn)
    starts = starts * (1.0 - np.asarray(scenarios.plans.fused_attention))
    turned = np.where((np.asarray(rotary) > 0.0) & (starts > 0.0), stream_bytes(scenarios), element)
    each = tokens.all * keys / tokens.keys
    operands = activations.tensor(tokens.all, heads.query_width, element_bytes=turned)
    operands = operands + activations.tensor(each, heads.key_width, element_bytes=turned)
    operands = operands + activations.tensor(each, heads.value_width, element_bytes=element)
    widths = heads.query_width + heads.context_width + heads.key_width + heads.value_width
    moved = tokens.all * widths * element * 2.0 * eager
    kernels = 4.0 * eager
    return stream(
        "layout of heads",
        "elementwise",
        StreamKind.HEAD_LAYOUT,
        moved=(moved, moved),
        launches=(kernels, kernels),
        kept=Holding(saved=operands, repeated_in=up_projected(part)),
    )


def _fused(
    part: AttentionPart,
    scenarios: Scenarios,
    tokens: Tokens,
    keys: Num,
    *,
    causal: Num,
    window: Num,
    cached: Num | None = None,
) -> Operator:
    """The one kernel of stacks that fuse attention."""
    stacks, heads = scenarios.stacks, heads_of(part, scenarios.plans)
    fused, batch = np.asarray(scenarios.plans.fused_attention), scenarios.plans.micro_batch
    documents, seen = seen_of_documents(scenarios, keys, window, causal=causal)
    if cached is not None:
        causal, seen = _seen_behind(tokens.queries, keys, window, causal=causal, cached=cached)
    # Its backward pass reads its output in 16 bits, which the product behind it keeps unless that is narrower.
    narrow = np.asarray(scenarios.plans.product_bytes) < scenarios.plans.element_bytes
    output = np.where(narrow, tokens.all * heads.context_width * stacks.attention_output_bytes, 0.0)

    def kernel(*, backward: bool) -> FusedAttention:
        return FusedAttention(
            queries=tokens.queries / documents,
            keys=np.where(fused > 0, seen, keys),
            batch=batch * documents,
            heads=heads.query,
            key_value_heads=heads.key_value,
            head_size=part.head_size,
            value_head_size=part.value_head_size,
            causal=causal,
            backward=backward,
            portable=stacks.portable_attention,
        )

    return fused_attention(
        "fused attention",
        kernel(backward=False),
        kernel(backward=True),
        used=fused,
        efficiency=stacks.attention_efficiency,
        kept=Holding(
            saved=fused * (activations.attention_statistics(tokens.queries, batch, heads=heads.query) + output),
            repeated_in=(("core_attn", 0.0),),
        ),
    )


def _seen_behind(queries: Num, keys: Num, window: Num, *, causal: Num, cached: Num) -> tuple[Num, Num]:
    """How much of a causal mask is left where new tokens see all that is cached, and the keys as if there were none."""
    masked = causal * queries / (cached + queries)
    return masked, np.where(
        np.asarray(causal) > 0.0,
        flops.seen_behind(queries, window, cached=cached) / (1.0 - masked / 2.0),
        np.minimum(keys, window),
    )


def _soft_cap(part: AttentionPart, scenarios: Scenarios, tokens: Tokens, keys: Num) -> list[Operator]:
    """Division by the cap, tanh, which keeps its output, and multiplication; a fused kernel does it on the way."""
    if not np.any(np.asarray(part.capped) > 0.0):
        return []
    used = part.capped * (1.0 - np.asarray(scenarios.plans.fused_attention))
    scores = scenarios.plans.micro_batch * heads_of(part, scenarios.plans).query * tokens.queries * keys
    matrix = used * scores * scenarios.plans.element_bytes
    return [
        stream(
            "soft cap of scores",
            "attention",
            StreamKind.ACTIVATION,
            moved=(6.0 * matrix, 7.0 * matrix),
            launches=(3.0 * used, 3.0 * used),
            efficiency=scenarios.stacks.attention_efficiency,
            kept=Holding(saved=matrix, in_attention=True),
        )
    ]


def _softmax(part: AttentionPart, scenarios: Scenarios, tokens: Tokens, keys: Num) -> Operator:
    """Softmax of the matrix of scores, with its dropout."""
    plans, stacks, dropout = scenarios.plans, scenarios.stacks, part.dropout
    heads, element = heads_of(part, plans), plans.element_bytes
    eager = 1.0 - np.asarray(plans.fused_attention)
    scores = plans.micro_batch * heads.query * tokens.queries * keys
    matrix = eager * scores * element
    apart = np.asarray(stacks.eager) * (1.0 - np.asarray(stacks.fused_softmax))
    kernels = eager * (1.0 + dropout + 2.0 * apart)
    saved = activations.attention_matrix(
        tokens.queries,
        keys,
        batch=plans.micro_batch,
        heads=heads.query,
        element_bytes=element,
        dropout=dropout,
        mask_bytes=mask_bytes(scenarios),
    )
    return stream(
        "softmax and dropout",
        "attention",
        StreamKind.SOFTMAX,
        moved=(
            matrix * (2.0 + 2.5 * dropout + 4.0 * apart),
            matrix * (3.0 + 2.5 * dropout + 2.0 * apart),
        ),
        launches=(kernels, kernels),
        reduces=True,
        drawn=eager * scores * dropout,
        efficiency=stacks.attention_efficiency,
        kept=Holding(
            saved=eager * (saved + _cast_softmax(scores, scenarios, dropout)), widest=matrix, in_attention=True
        ),
    )


def _cast_softmax(elements: Num, scenarios: Scenarios, dropout: Num) -> Num:
    """Bytes by which a softmax in fp32 exceeds one in 16 bits: its own, and without dropout its cast besides."""
    own = activations.STATISTIC_BYTES - np.asarray(scenarios.plans.element_bytes)
    return autocasts(scenarios) * elements * (own + (1.0 - dropout) * scenarios.plans.element_bytes)


def _score_product(
    name: str,
    part: AttentionPart,
    scenarios: Scenarios,
    tokens: Tokens,
    keys: Num,
    count: Num,
    *,
    into_keys: bool,
) -> Operator:
    """One of the two batched products of unfused attention: Q K^T, or P V."""
    return product(
        name,
        "attention",
        m=tokens.queries,
        n=keys if into_keys else part.value_head_size,
        k=part.head_size if into_keys else keys,
        batch=scenarios.plans.micro_batch * heads_of(part, scenarios.plans).query,
        count=count,
        element_bytes=scenarios.plans.element_bytes,
        efficiency=scenarios.stacks.attention_efficiency,
        of_weight=False,
        wide=True,
        launches=(count, count * 2.0),
        kept=Holding(in_attention=True, output_kept=not into_keys),
    )
