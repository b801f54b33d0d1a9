"""Multi-head latent attention: queries, keys and values pass through narrow latents.

In the form in which it is trained: keys and values of all heads are made of the latent and then attended to. Each rank
of tensor parallelism makes the latents anew, of its own tokens where ranks share them.

References
----------
DeepSeek-AI, DeepSeek-V2, arXiv 2405.04434, section 2.1 and appendix C; the class of the same name in transformers,
beside whose q_proj, q_a_proj, q_b_proj, kv_a_proj_with_mqa, kv_b_proj and o_proj adapters stand as PEFT has them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.pricing.requests import StreamKind
from simulator.specs.parts import LatentAttention, Layers
from simulator.work.operators import Holding, Operator, product, stream
from simulator.work.transformer.adapted.adapters import tuned
from simulator.work.transformer.adapted.linears import Linear, Matrix
from simulator.work.transformer.attention.cached import attention_core
from simulator.work.transformer.attention.core import heads_of, output_projection, up_projected
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
    out, tuning = heads_of(part, scenarios.plans).query_width, scenarios.workloads.tuning
    through = np.where(np.asarray(part.query_rank) > 0.0, 1.0, 0.0)
    # The input is that of keys and values too: it is kept once, with the first product that reads it.
    kept = _hidden_input(layers, scenarios, tokens)
    directly = _direct(part, layers, scenarios, tokens, (1.0 - through, kept, out))
    if not np.any(through):
        return directly
    up = _out_of_latent(
        "query projection out of the latent", scenarios, tokens, through, part.query_rank, out, tuning.query_heads
    )
    into = _latent(
        "latent of queries", part, layers, scenarios, tokens, _IntoLatent(through, part.query_rank, 0.0, kept)
    )
    return [*directly, *into, *up] if np.any(through < 1.0) else [*into, *up]


def _direct(
    part: LatentAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens, sizes: tuple[Num, Num, Num]
) -> list[Operator]:
    """Queries without a latent: whether there are such, bytes of the input that is kept, and what is made."""
    used, kept, out = sizes
    operator = product(
        "query projection",
        "attention_projections",
        m=tokens.all,
        k=layers.hidden_size,
        n=out,
        count=used,
        element_bytes=scenarios.plans.element_bytes,
        launches=(used, used),
        kept=Holding(
            saved=used * kept,
            matrices=(used * plain(tokens.all, out, scenarios, bias=part.qkv_bias),),
            repeated_in=up_projected(part, used * kept),
            discards=normalised_input(used * kept, scenarios),
            parameters=used * parameters.linear(layers.hidden_size, out, bias=part.qkv_bias),
            weights=linear_weights(
                layers.hidden_size, out, bias=part.qkv_bias, factors=(used,), row_ranks=scenarios.plans.tp
            ),
        ),
    )
    linear = Linear(
        part="attention_projections",
        rows=tokens.all,
        width=layers.hidden_size,
        matrices=(Matrix(width=out, adapted=scenarios.workloads.tuning.query),),
        saved=_read_by_adapters(layers, scenarios, tokens),
        ranks=scenarios.plans.tp,
        used=used,
    )
    return tuned(operator, linear, scenarios)


def _keys_and_values(part: LatentAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Keys and values of all heads out of one latent, and beside it the part of the keys with rotary positions."""
    heads, rank = heads_of(part, scenarios.plans), part.key_value_rank
    out = heads.query * (part.head_size - part.rotary_size) + heads.value_width
    name, adapted = "key and value projection out of the latent", scenarios.workloads.tuning.key_value_heads
    into = _IntoLatent(1.0, rank, part.rotary_size, 0.0)
    expanded, used = _expanded(scenarios, tokens)
    return [
        *_latent("latent of keys and values", part, layers, scenarios, tokens, into),
        *_out_of_latent(name, scenarios, expanded, used, rank, out, adapted),
    ]


def _expanded(scenarios: Scenarios, tokens: Tokens) -> tuple[Tokens, Num]:
    """Tokens whose keys and values are made of their latents, and whether there are such: in serving those of prompts.

    Single tokens attend to latents as they are; behind a cache a prompt's former tokens are expanded again.
    """
    work = scenarios.iterations
    if work is None:
        return tokens, 1.0
    used = np.where(np.asarray(work.prompts) > 0.0, 1.0, 0.0)
    rows = np.maximum(work.prompts * (work.prompt_tokens + work.cached), 1.0)
    return replace(tokens, all=rows, shared=rows), used


def _hidden_input(layers: Layers, scenarios: Scenarios, tokens: Tokens) -> Num:
    """Bytes of the input that both latents read."""
    read = linear_input(tokens, scenarios)
    one = activations.tensor(read, layers.hidden_size, element_bytes=scenarios.plans.product_bytes)
    return kept_inputs(layers, scenarios, 1.0) * one


def _read_by_adapters(layers: Layers, scenarios: Scenarios, tokens: Tokens) -> Num:
    """Bytes of the same where adapters alone read it."""
    read = linear_input(tokens, scenarios)
    return activations.tensor(read, layers.hidden_size, element_bytes=scenarios.plans.element_bytes)


@dataclass(frozen=True)
class _IntoLatent:
    """A product into a latent."""

    used: Num
    """1 or 0 [1]."""
    rank: Num
    beside: Num
    """What stands beside the latent in one tensor: keys with rotary positions [1]."""
    kept: Num
    """Bytes of the input that it keeps, unless another product does [B]."""

    def linear(self, part: LatentAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> Linear:
        """The matrix into the latent, which every rank has; of two that read one input the first one keeps it."""
        tuning, of_keys = scenarios.workloads.tuning, np.any(np.asarray(self.beside) > 0.0)
        through = np.asarray(part.query_rank) > 0.0
        queries = np.where(through, tuning.query_latent, tuning.query)
        saved = _read_by_adapters(layers, scenarios, tokens) * (1.0 - queries if of_keys else 1.0)
        adapted = tuning.key_value_latent if of_keys else tuning.query_latent
        return Linear(
            part="attention_projections",
            rows=tokens.shared,
            width=layers.hidden_size,
            matrices=(Matrix(width=self.rank + self.beside, adapted=adapted),),
            saved=saved,
            ranks=1.0,
            used=self.used,
        )


def _latent(
    name: str, part: LatentAttention, layers: Layers, scenarios: Scenarios, tokens: Tokens, into: _IntoLatent
) -> list[Operator]:
    """The product into a latent, and the latent's normalisation."""
    element, eager, kept = scenarios.plans.element_bytes, scenarios.stacks.eager, into.used * into.kept
    used, rank, beside = into.used, into.rank, into.beside
    owned = used * parameters.linear(layers.hidden_size, rank + beside, bias=part.latent_bias)
    norm = used * parameters.normalisation(rank, bias=0.0)
    size = used * tokens.shared * rank * element
    read = _read_of_latent(layers, scenarios, tokens, into)
    projection = product(
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
            saved=kept,
            parameters=owned,
            partial_parameters=owned,
            matrices=(used * plain(tokens.shared, rank + beside, scenarios, bias=part.latent_bias),),
            discards=normalised_input(kept, scenarios),
            weights=linear_weights(layers.hidden_size, rank + beside, bias=part.latent_bias, factors=(used,)),
        ),
    )
    return [
        *tuned(projection, into.linear(part, layers, scenarios, tokens), scenarios),
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


def _read_of_latent(layers: Layers, scenarios: Scenarios, tokens: Tokens, into: _IntoLatent) -> Num:
    """Bytes that the normalisation keeps: all that the product makes, of which it reads a part, unless that is cast."""
    width = into.rank + np.where(autocasts(scenarios) > 0.0, 0.0, into.beside)
    return activations.normalisation(
        tokens.shared, width, element_bytes=stream_bytes(scenarios), statistics=layers.norms.statistics
    )


def _out_of_latent(
    name: str, scenarios: Scenarios, tokens: Tokens, used: Num, rank: Num, out: Num, adapted: Num
) -> list[Operator]:
    """The product from a normalised latent, which it keeps, to the heads of this rank."""
    element, read = scenarios.plans.element_bytes, linear_input(tokens, scenarios)
    kept = activations.tensor(read, rank, element_bytes=scenarios.plans.product_bytes)
    operator = product(
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
    linear = Linear(
        part="attention_projections",
        rows=tokens.all,
        width=rank,
        matrices=(Matrix(width=out, adapted=adapted),),
        saved=activations.tensor(read, rank, element_bytes=element),
        ranks=scenarios.plans.tp,
        used=used,
    )
    return tuned(operator, linear, scenarios)
