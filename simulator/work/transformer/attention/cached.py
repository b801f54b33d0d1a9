"""The core of attention, in training and in serving, where keys and values of former tokens lie in a cache."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simulator.formulas.typing import Num
from simulator.pricing.requests import DecodeAttention, StreamKind
from simulator.specs.parts import AttentionPart, LatentAttention
from simulator.work.operators import Call, Operator, exchange, product, stream
from simulator.work.transformer.attention.core import heads_of, sequence_core
from simulator.work.transformer.tokens import Scenarios, Tokens


def attention_core(
    part: AttentionPart,
    scenarios: Scenarios,
    tokens: Tokens,
    keys: Num,
    *,
    causal: Num = 0.0,
    window: Num = np.inf,
    products: Num = 1.0,
    rotary: Num = 0.0,
) -> list[Operator]:
    """Attention of whole sequences, or of what an engine's iteration has of them.

    Parameters
    ----------
    part, scenarios, tokens, keys, causal, window, products, rotary
        As of `simulator.work.transformer.attention.core.sequence_core`.
    """
    if scenarios.iterations is None:
        return sequence_core(
            part, scenarios, tokens, keys, causal=causal, window=window, products=products, rotary=rotary
        )
    return _served(part, scenarios, tokens, causal=causal, window=window, products=products, rotary=rotary)


def _served(
    part: AttentionPart,
    scenarios: Scenarios,
    tokens: Tokens,
    *,
    causal: Num = 0.0,
    window: Num = np.inf,
    products: Num = 1.0,
    rotary: Num = 0.0,
) -> list[Operator]:
    """Attention of an engine's iteration: prompts among themselves and to their cache, single tokens to theirs."""
    work = scenarios.iterations
    assert work is not None
    operators: list[Operator] = []
    behind = scenarios.models.encoder_decoder * causal  # all tokens of a decoder behind an encoder are single ones
    prompts = work.prompts * (1.0 - np.asarray(behind))
    if np.any(np.asarray(prompts) > 0.0):
        new, some = work.prompt_tokens, np.where(np.asarray(prompts) > 0.0, 1.0, 0.0)
        cached = work.cached * causal
        alone = replace(
            scenarios, iterations=None, plans=replace(scenarios.plans, micro_batch=np.maximum(prompts, 1.0))
        )
        its = replace(tokens, all=prompts * new, shared=prompts * new, queries=new, keys=new + cached)
        core = sequence_core(
            part, alone, its, its.keys, causal=causal, window=window, products=products, rotary=rotary, cached=cached
        )
        operators += [_times(operator, some) for operator in core]
    if np.any(np.asarray(causal) > 0.0):
        context = np.minimum(work.context, window)
        if isinstance(part, LatentAttention):
            return [*operators, *_absorbed(part, scenarios, tokens, context)]
        heads = heads_of(part, scenarios.plans)
        operators.append(_write(scenarios, tokens, heads.key_width + heads.value_width))
        operators.append(_decode("attention over the cache", part, scenarios, context))
        operators += _dealt_sequences(part, scenarios, heads.query_width + heads.context_width)
    return operators


def attention_to_encoder(part: AttentionPart, scenarios: Scenarios, keys: Num) -> list[Operator]:
    """Attention of each sequence's new token to the encoder's output, whose keys and values have a cache of their own.

    Parameters
    ----------
    part, scenarios
        What it is of.
    keys
        Tokens of the encoder's output of a sequence [token].
    """
    return [_decode("attention over the encoder's cache", part, scenarios, keys)]


def _absorbed(part: LatentAttention, scenarios: Scenarios, tokens: Tokens, context: Num) -> list[Operator]:
    """Attention of single tokens to latents as they are: what would make keys and values of them moves to both ends.

    Queries are multiplied with the map out of the latent to keys, and what attention returns with the one to values, so
    that nothing is made of cached tokens (DeepSeek-AI, DeepSeek-V2, arXiv 2405.04434, section 2.1.2).
    """
    heads, rank = heads_of(part, scenarios.plans), part.key_value_rank
    work = scenarios.iterations
    assert work is not None
    used = np.where(np.asarray(work.decodes) > 0.0, 1.0, 0.0)

    def absorbing(name: str, inner: Num, outer: Num) -> Operator:
        return product(
            name,
            "attention_projections",
            m=np.maximum(work.decodes, 1.0),
            k=inner,
            n=outer,
            batch=heads.query,
            count=used,
            element_bytes=scenarios.plans.element_bytes,
            launches=(used, 0.0),
        )

    return [
        _write(scenarios, tokens, rank + part.rotary_size),
        absorbing("queries into the latent", part.head_size - part.rotary_size, rank),
        _decode("attention over the latent cache", part, scenarios, context, latent=(rank + part.rotary_size, rank)),
        *_dealt_sequences(part, scenarios, heads.query * (2.0 * rank + part.rotary_size)),
        absorbing("values out of the latent", rank, part.value_head_size),
    ]


def copies_of_keys(part: AttentionPart, scenarios: Scenarios) -> Num:
    """Ranks with the same key head, where they hold the cache of some sequences each instead of copies; else 1."""
    work, tp = scenarios.iterations, np.asarray(scenarios.plans.tp)
    if work is None or not np.any(np.asarray(work.shares_sequences) > 0.0):
        return 1.0
    heads = 1.0 if isinstance(part, LatentAttention) else part.key_value_heads
    return np.where(np.asarray(work.shares_sequences) > 0.0, np.maximum(tp / heads, 1.0), 1.0)


def _dealt_sequences(part: AttentionPart, scenarios: Scenarios, width: Num) -> list[Operator]:
    """Queries of all heads to the rank that holds a sequence, and what attention returns back (Pope et al., 3.3)."""
    work, alike = scenarios.iterations, copies_of_keys(part, scenarios)
    assert work is not None
    if not np.any(np.asarray(alike) > 1.0):
        return []
    times = np.where((np.asarray(alike) > 1.0) & (np.asarray(work.decodes) > 0.0), 2.0, 0.0)
    return [
        exchange(
            "all-to-all of sequences",
            "tensor_parallel",
            "all_to_all",
            work.decodes * width / 2.0 * scenarios.plans.element_bytes,
            degree=alike,
            stride=scenarios.plans.tp_stride,
            counts=(times, 0.0),
            launches=(times, 0.0),
        )
    ]


def _times(operator: Operator, number: Num) -> Operator:
    """An operator whose forward pass is made so many times."""
    if np.all(np.asarray(number) == 1.0):
        return operator
    calls = tuple(replace(call, count=call.count * number, kernels=call.kernels * number) for call in operator.forward)
    return replace(operator, forward=calls)


def _write(scenarios: Scenarios, tokens: Tokens, width: Num) -> Operator:
    """Keys and values of the new tokens on their way into the cache."""
    work = scenarios.iterations
    assert work is not None
    moved = tokens.all * width * (scenarios.plans.element_bytes + np.asarray(work.cache_bytes))
    return stream(
        "keys and values into the cache",
        "attention",
        StreamKind.HEAD_LAYOUT,
        moved=(moved, 0.0),
        launches=(1.0, 0.0),
    )


def _decode(
    name: str,
    part: AttentionPart,
    scenarios: Scenarios,
    context: Num,
    *,
    latent: tuple[Num, Num] | None = None,
) -> Operator:
    """Attention of one token of each sequence to its cache.

    Parameters
    ----------
    name, part, scenarios
        What it is of.
    context
        Tokens that it attends to [token].
    latent
        Width of what all heads share, which is multiplied with queries, and of its part that is the value [1].
    """
    work, heads = scenarios.iterations, heads_of(part, scenarios.plans)
    assert work is not None
    used = np.where(np.asarray(work.decodes) > 0.0, 1.0, 0.0)
    alike = copies_of_keys(part, scenarios)
    request = DecodeAttention(
        context=np.maximum(context, 1.0),
        batch=np.maximum(work.decodes / alike, np.minimum(work.decodes, 1.0)),
        heads=heads.query * alike,
        key_value_heads=heads.key_value if latent is None else 1.0,
        head_size=part.head_size if latent is None else latent[0],
        value_head_size=part.value_head_size if latent is None else latent[1],
        cache_bytes=work.cache_bytes,
        is_shared=latent is not None,
        portable=scenarios.stacks.portable_attention,
    )
    return Operator(
        name=name,
        part="attention",
        forward=(Call(request, used, used),),
        backward=(),
        efficiency=scenarios.stacks.attention_efficiency,
    )
