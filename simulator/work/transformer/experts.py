"""The feed-forward layer of experts: a router, tokens on their way to the experts and back, and the experts.

Ranks that share experts wait for each other twice a layer, so that all take the time of the busiest. What counts the
arithmetic and the bytes of messages goes by the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.formulas import activations, decoding, flops, parameters
from simulator.formulas.typing import Num
from simulator.pricing.requests import StreamKind
from simulator.specs.parts import ExpertFeedForward, Layers
from simulator.specs.stack import IN_ONE_KERNEL
from simulator.work.hiding import Hiding
from simulator.work.operators import Holding, Operator, exchange, product, stream, untrained
from simulator.work.transformer.feed_forward import ExpertProducts, kept_input, two_products
from simulator.work.transformer.part import operators_of
from simulator.work.transformer.tokens import Scenarios, Tokens, autocasts, normalised_input, own_input, plain
from simulator.work.weights import linear_weights

_PERMUTED = 4.0
"""Times that a token crosses memory where it is copied for its experts, and where what they return is added up."""
_COPIED = 4.0
"""Times that it does so where it is copied on its way there and on its way back."""
_SCALE_BYTES = 4.0 / 128.0
"""Of the fp32 scale that 128 elements of a token in 8 bits share, of one [B] (DeepSeek-V3, section 3.3.2)."""


@operators_of.register
def expert_feed_forward(
    part: ExpertFeedForward, layers: Layers, scenarios: Scenarios, tokens: Tokens
) -> list[Operator]:
    """The experts of the busiest rank with the tokens sent to them, and those that every token meets.

    Experts keep what they read in full: tensor-parallel ranks gather the tokens before they deal them out to experts,
    and nobody gathers them again (Megatron core, `dispatch_postprocess` of `MoEAlltoAllTokenDispatcher` in
    `megatron/core/transformer/moe/token_dispatcher.py`; grouped products in `extensions/transformer_engine.py` leave
    communication to it).
    """
    plans = scenarios.plans
    sent = routed(part, scenarios, tokens)
    permuted = tokens.shared * part.experts_per_token * layers.hidden_size * plans.element_bytes
    read = tokens.all * (plans.etp / np.asarray(plans.tp)) * part.experts_per_token
    inputs = read * layers.hidden_size * plans.product_bytes * sent.load
    operators = [
        _router(part, layers, scenarios, tokens),
        *_dispatch(part, scenarios, permuted, sent),
        *two_products(
            part,
            layers,
            scenarios,
            rows=sent.rows,
            kept=inputs,
            experts=_products(scenarios, sent),
            modules=("moe",),
        ),
    ]
    if np.any(np.asarray(part.shared_experts) > 0.0):
        widen = part.shared_experts * part.shared_size / part.size
        used = np.where(np.asarray(widen) > 0.0, 1.0, 0.0)
        # Their input is the router's, unless each product keeps a cast of its own, or the router is not trained.
        own = used * autocasts(scenarios) * kept_input(layers, scenarios, tokens)
        read = used * activations.tensor(tokens.all, layers.hidden_size, element_bytes=plans.element_bytes)
        operators += two_products(
            part,
            layers,
            scenarios,
            rows=tokens.all,
            widen=widen,
            kept=own,
            used=used,
            read=read,
            modules=("moe", "shared_experts"),
        )
        operators += _shared_gate(part, layers, scenarios, tokens)
    return operators


@dataclass(frozen=True)
class Routed:
    """Where the tokens of an expert-parallel group go."""

    local: Num
    """Experts of one rank; in serving those that the batch touches [1]."""
    rows: Num
    """Rows of one expert of the busiest rank, with padding [token]."""
    useful: Num
    """Share of these rows that an expert has in the mean [1]."""
    filled: Num
    """Tokens that each rank sends, with those that fill experts up to their capacity, over the chosen ones [1]."""
    load: Num
    """Tokens that the busiest rank receives over the mean of the chosen ones [1]."""
    aligned: Num
    """Multiple that the tokens of an expert are filled up to [token]."""


def routed(part: ExpertFeedForward, scenarios: Scenarios, tokens: Tokens) -> Routed:
    """Rows of the experts: as many as their capacity where they have one, else those of the busiest rank."""
    plans, stacks, work = scenarios.plans, scenarios.stacks, scenarios.workloads
    local = part.experts / plans.ep
    factor = np.where(np.asarray(work.capacity_factor) < 0.0, stacks.capacity_factor, work.capacity_factor)
    limited = factor > 0.0
    filled = np.where(limited, factor, 1.0)
    busiest = flops.busiest_rank(work.expert_imbalance, part.experts, ranks=plans.ep)
    load = np.where(limited, factor, busiest)
    mean = tokens.all * (plans.etp / np.asarray(plans.tp)) * (part.experts_per_token / local)
    narrow = np.asarray(plans.product_bytes) < plans.element_bytes
    aligned = np.where(narrow, stacks.narrow_expert_padding, stacks.expert_padding)
    if scenarios.iterations is not None:
        all_tokens = tokens.all * (plans.etp * plans.ep / np.asarray(plans.tp))
        share = decoding.touched_experts(all_tokens, part.experts, chosen=part.experts_per_token) / part.experts
        touched = np.maximum(local * share, np.finfo(float).tiny)
        rows, held = flops.padded_rows(mean * local / touched * load, aligned), np.maximum(touched, 1.0)
        return Routed(held, rows, np.minimum(mean * local / (rows * held), 1.0), filled, load, aligned)
    rows = flops.padded_rows(mean * load, aligned)
    return Routed(local, rows, np.minimum(mean / rows, 1.0), filled, load, aligned)


def _dealt(scenarios: Scenarios) -> tuple[Num, Num]:
    """Whether tokens are sent to experts, and the share of them that a rank sends.

    In serving ranks that split all else share experts by summing up what each has made of all tokens, and nothing is
    sent before; where experts are spread wider each rank sends its part.
    """
    plans = scenarios.plans
    if scenarios.iterations is None:
        return np.where(np.asarray(plans.ep) > 1.0, 1.0, 0.0), 1.0
    return np.where(np.asarray(plans.ep) * plans.etp > plans.tp, 1.0, 0.0), plans.etp / np.asarray(plans.tp)


def _products(scenarios: Scenarios, sent: Routed) -> ExpertProducts:
    """How the stack launches the products of the experts."""
    at_once = np.asarray(scenarios.stacks.experts_at_once)
    calls = np.ceil(sent.local / np.minimum(at_once, sent.local))
    launches = np.where(at_once < IN_ONE_KERNEL, sent.local, 1.0)
    modules = np.where(at_once <= 1.0, sent.local, 1.0)
    return ExpertProducts(experts=sent.local, calls=calls, launches=launches, modules=modules, useful=sent.useful)


def _shared_gate(part: ExpertFeedForward, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """The product that gives the gate of shared experts, which keeps its sigmoid and what it scales.

    Every rank has all of it; ranks that share tokens do it for their own (Megatron core, `SharedExpertMLP`).
    """
    if not np.any(np.asarray(part.shared_gate) > 0.0):
        return []
    element, used = scenarios.plans.element_bytes, part.shared_gate
    scaled = activations.tensor(tokens.shared, layers.hidden_size + 1.0, element_bytes=element)
    weights = used * parameters.linear(layers.hidden_size, 1.0)
    return [
        product(
            "gate of shared experts",
            "feed_forward",
            m=tokens.shared,
            k=layers.hidden_size,
            n=1.0,
            count=used,
            element_bytes=element,
            launches=(used, used),
            wide=True,
            kept=Holding(
                saved=used * scaled,
                parameters=weights,
                partial_parameters=weights,
                weights=linear_weights(layers.hidden_size, 1.0, factors=(used,)),
                matrices=(used * plain(tokens.all, 1.0, scenarios, bias=0.0, wide=True),),
                repeated_in=(("moe", 0.0), ("shared_experts", 0.0)),
            ),
        )
    ]


def _router(part: ExpertFeedForward, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> Operator:
    """The product that chooses experts; ranks that share tokens choose for their own (Megatron core, `Router`)."""
    element = scenarios.plans.element_bytes
    weights = parameters.linear(layers.hidden_size, part.experts, bias=part.router_bias)
    kept = activations.tensor(tokens.shared, layers.hidden_size, element_bytes=scenarios.plans.product_bytes)
    # Weights that scale inside of experts travel with the tokens, in fp32 as the softmax made them.
    inside = np.asarray(scenarios.stacks.weighs_activations) > 0.0
    weight = np.where(inside, activations.STATISTIC_BYTES, element)
    chosen = activations.routing(tokens.shared, part.experts, chosen=part.experts_per_token, element_bytes=weight)
    operator = product(
        "router",
        "feed_forward",
        m=tokens.shared,
        k=layers.hidden_size,
        n=part.experts,
        element_bytes=element,
        wide=True,
        kept=Holding(
            saved=kept + chosen,
            parameters=weights,
            partial_parameters=weights,
            repeated_in=(("moe", own_input(tokens, layers.hidden_size, scenarios)),),
            discards=normalised_input(kept, scenarios),
            weights=linear_weights(layers.hidden_size, part.experts, bias=part.router_bias),
        ),
    )
    return untrained(operator, scenarios.workloads.tuning.base, saved=chosen)


def _dispatch(part: ExpertFeedForward, scenarios: Scenarios, permuted: Num, sent: Routed) -> list[Operator]:
    """Tokens on their way to the experts and back.

    What experts return is kept for the gradient of the router's weights, unless these scale what is inside of experts:
    `weighted_bias_swiglu_impl` in `megatron/core/transformer/moe/experts.py` of core_v0.19.0, and
    `swiglu_apply_weight_to_fp8` in the tests of DeepSeek's DeepGEMM.

    Tokens are copied for their experts where they come from, and those received sorted by expert where a rank has
    several; a stack that sends each once copies them where they arrive instead. Megatron Core 0.12, token_dispatcher.py
    and experts.py: ``permute``, ``sort_chunks_by_idxs``, ``Fp8Padding``.
    """
    plans, stacks = scenarios.plans, scenarios.stacks
    spread, once = np.asarray(plans.ep) > 1.0, np.asarray(stacks.sends_once) > 0.0
    sorts = np.where(spread & ~once & (np.asarray(sent.local) > 1.0), _COPIED, 0.0)
    pads = np.where(np.asarray(sent.aligned) > 1.0, _COPIED, 0.0)
    # Ranks that share tokens and split experts have what each of them was sent by the time that they sort it.
    gathered = np.where(np.asarray(plans.tokens_shared) > 1.0, plans.etp, 1.0) * sent.load
    moved = permuted * (_PERMUTED * np.where(spread & once, gathered, sent.filled) + (sorts + pads) * gathered)
    kernels = 4.0 + (sorts + pads) / 2.0
    return [
        stream(
            "dispatch and combination of tokens",
            "feed_forward",
            StreamKind.ROUTING,
            moved=(moved, moved),
            launches=(kernels, kernels),
            kept=Holding(
                saved=permuted * sent.filled * (1.0 - np.asarray(stacks.weighs_activations)),
                repeated_in=(("moe", 0.0),),
            ),
        ),
        *_exchanges(part, scenarios, permuted, sent),
    ]


def _exchanges(part: ExpertFeedForward, scenarios: Scenarios, permuted: Num, sent: Routed) -> list[Operator]:
    """All-to-alls there and back in each pass, apart where what goes there is narrower than what comes back."""
    plans, stacks = scenarios.plans, scenarios.stacks
    (spread, part_sent), once = _dealt(scenarios), np.asarray(stacks.sends_once) > 0.0

    def trips(name: str, message: Num, count: Num) -> Operator:
        return exchange(
            name,
            "expert_parallel",
            "all_to_all",
            message * sent.filled * part_sent,
            degree=plans.ep,
            stride=plans.expert_stride,
            counts=(count * spread, count * spread),
            launches=(count / 2.0, count / 2.0),
            hiding=Hiding(share=stacks.expert_overlap, line="experts", slowing=stacks.expert_slowing),
            copies=np.where(once, part.experts_per_token, 1.0),
            groups=(part.expert_groups, part.groups_per_token),
            inside=(("moe", 0.0),),
            busiest=sent.load / sent.filled,
        )

    narrow = (np.asarray(plans.product_bytes) < plans.element_bytes) & (np.asarray(stacks.narrow_dispatch) > 0.0)
    if not np.any(narrow):
        return [trips("all-to-all of experts", permuted, 2.0)]
    width = np.where(narrow, plans.product_bytes + _SCALE_BYTES, plans.element_bytes) / plans.element_bytes
    there = trips("all-to-all to experts", permuted * width, 1.0)
    return [there, trips("all-to-all from experts", permuted, 1.0)]
