"""Multi-head latent attention: queries, keys and values pass through narrow latents.

In the form in which it is trained: keys and values of all heads are made of the latent and then attended to. Each rank
of tensor parallelism makes the latents anew, of its own tokens where ranks share them.

References
----------
DeepSeek-AI, DeepSeek-V2, arXiv 2405.04434, section 2.1 and appendix C; the class of the same name in transformers.
"""

from __future__ import annotations

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.pricing.requests import StreamKind
from simulator.specs.parts import LatentAttention, Layers
from simulator.work.operators import Holding, Operator, product, stream
from simulator.work.transformer.attention.core import attention_core, heads_of, output_projection, up_projected
from simulator.work.transformer.attention.head_normalisation import head_normalisation
from simulator.work.transformer.attention.self_attention import context_exchanges, kept_inputs, rotary_positions
from simulator.work.transformer.part import operators_of
from simulator.work.transformer.tokens import (
    Scenarios,
    Tokens,
    autocasts,
    last_output_unused,
    linear_input,
    normalised_input,
    plain,
    stream_bytes,
)
from simulator.work.weights import linear_weights, vectors


@operators_of.register
def latent_attention(part: LatentAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Latents and their normalisation, projections out of them, rotary positions, core and output."""
    heads = heads_of(part, scenarios.plans)
    turned = tokens.all * part.rotary_size * (heads.query + 1.0)
    return [
        *_queries(part, layers, scenarios, tokens),
        *_keys_and_values(part, layers, scenarios, tokens),
        *head_normalisation(part.normalisation, part, scenarios, tokens),
        rotary_positions(scenarios, part.rotary, part.rotary * turned, up_projected(part)),
        *attention_core(
            part, scenarios, tokens, tokens.keys, causal=part.causal, window=part.window, rotary=part.rotary
        ),
        *context_exchanges(part, scenarios, tokens),
        *output_projection(
            "attention output",
            part,
            layers,
            scenarios,
            tokens,
            last_output_unused(layers, scenarios) if layers.block.shares_input else 0.0,
        ),
    ]


def _queries(part: LatentAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Queries of all heads, through their latent or without one."""
    out = heads_of(part, scenarios.plans).query_width
    through = np.where(np.asarray(part.query_rank) > 0.0, 1.0, 0.0)
    # The input is that of keys and values too: it is kept once, with the first product that reads it.
    kept = _hidden_input(layers, scenarios, tokens)
    direct = product(
        "query projection",
        "attention_projections",
        m=tokens.all,
        k=layers.hidden_size,
        n=out,
        count=1.0 - through,
        element_bytes=scenarios.plans.element_bytes,
        launches=(1.0 - through, 1.0 - through),
        kept=Holding(
            saved=(1.0 - through) * kept,
            matrices=((1.0 - through) * plain(tokens.all, out, scenarios, bias=part.qkv_bias),),
            repeated_in=up_projected(part, (1.0 - through) * kept),
            discards=normalised_input((1.0 - through) * kept, scenarios),
            parameters=(1.0 - through) * parameters.linear(layers.hidden_size, out, bias=part.qkv_bias),
            weights=linear_weights(
                layers.hidden_size,
                out,
                bias=part.qkv_bias,
                factors=(1.0 - through,),
                row_ranks=scenarios.plans.tp,
            ),
        ),
    )
    if not np.any(through):
        return [direct]
    latent = _latent("latent of queries", part, layers, scenarios, tokens, through, part.query_rank, 0.0, kept)
    up = _out_of_latent("query projection out of the latent", scenarios, tokens, through, part.query_rank, out)
    return [direct, *latent, up] if np.any(through < 1.0) else [*latent, up]


def _keys_and_values(part: LatentAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Keys and values of all heads out of one latent, and beside it the part of the keys with rotary positions."""
    heads, rank = heads_of(part, scenarios.plans), part.key_value_rank
    out = heads.query * (part.head_size - part.rotary_size) + heads.value_width
    return [
        *_latent("latent of keys and values", part, layers, scenarios, tokens, 1.0, rank, part.rotary_size, 0.0),
        _out_of_latent("key and value projection out of the latent", scenarios, tokens, 1.0, rank, out),
    ]


def _hidden_input(layers: Layers, scenarios: Scenarios, tokens: Tokens) -> Num:
    """Bytes of the input that both latents read."""
    read = linear_input(tokens, scenarios)
    one = activations.tensor(read, layers.hidden_size, element_bytes=scenarios.plans.product_bytes)
    return kept_inputs(layers, scenarios, 1.0) * one


def _latent(
    name: str,
    part: LatentAttention,
    layers: Layers,
    scenarios: Scenarios,
    tokens: Tokens,
    used: Num,
    rank: Num,
    beside: Num,
    kept: Num,
) -> list[Operator]:
    """The product into a latent, with what is `beside` it in one tensor [element], and the latent's normalisation."""
    element, eager = scenarios.plans.element_bytes, scenarios.stacks.eager
    owned = used * parameters.linear(layers.hidden_size, rank + beside, bias=part.latent_bias)
    norm = used * parameters.normalisation(rank, bias=0.0)
    size = used * tokens.shared * rank * element
    # The normalisation reads a part of the product's output, so that all of it stays, unless it reads a cast.
    width = rank + np.where(autocasts(scenarios) > 0.0, 0.0, beside)
    read = activations.normalisation(
        tokens.shared, width, element_bytes=stream_bytes(scenarios), statistics=layers.norms.statistics
    )
    return [
        product(
            name,
            "attention_projections",
            m=tokens.shared,
            k=layers.hidden_size,
            n=rank + beside,
            count=used,
            element_bytes=element,
            launches=(used, used),
            cast_before=(True, False),
            kept=Holding(
                saved=used * kept,
                parameters=owned,
                partial_parameters=owned,
                matrices=(used * plain(tokens.shared, rank + beside, scenarios, bias=part.latent_bias),),
                discards=normalised_input(used * kept, scenarios),
                weights=linear_weights(layers.hidden_size, rank + beside, bias=part.latent_bias, factors=(used,)),
            ),
        ),
        stream(
            f"normalisation of the {name}",
            "normalisation",
            StreamKind.NORMALISATION,
            moved=(size * (2.0 + eager), size * (3.0 + eager)),
            launches=(used, used * (1.0 + eager)),
            reduces=True,
            kept=Holding(saved=used * read, parameters=norm, partial_parameters=norm, weights=(vectors(rank, used),)),
        ),
    ]


def _out_of_latent(name: str, scenarios: Scenarios, tokens: Tokens, used: Num, rank: Num, out: Num) -> Operator:
    """The product from a normalised latent, which it keeps, to the heads of this rank."""
    element = scenarios.plans.element_bytes
    kept = activations.tensor(linear_input(tokens, scenarios), rank, element_bytes=scenarios.plans.product_bytes)
    return product(
        name,
        "attention_projections",
        m=tokens.all,
        k=rank,
        n=out,
        count=used,
        element_bytes=element,
        launches=(used, used),
        cast_before=(True, False),
        kept=Holding(
            saved=used * kept,
            parameters=used * parameters.linear(rank, out),
            matrices=(used * plain(tokens.all, out, scenarios, bias=0.0),),
            repeated_in=(("mla_up_proj", used * kept),),
            weights=linear_weights(rank, out, factors=(used,), row_ranks=scenarios.plans.tp),
        ),
    )
