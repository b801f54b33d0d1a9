"""The feed-forward layer of experts: a router, tokens on their way to the experts and back, and the experts."""

from __future__ import annotations

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.pricing.requests import StreamKind
from simulator.specs.parts import ExpertFeedForward, Layers
from simulator.work.hiding import Hiding
from simulator.work.operators import Holding, Operator, exchange, product, stream
from simulator.work.transformer.feed_forward import kept_input, two_products
from simulator.work.transformer.part import operators_of
from simulator.work.transformer.tokens import Scenarios, Tokens, autocasts


@operators_of.register
def expert_feed_forward(
    part: ExpertFeedForward, layers: Layers, scenarios: Scenarios, tokens: Tokens
) -> list[Operator]:
    """The experts of this rank with the tokens sent to them, evenly used, and those that every token meets."""
    plans = scenarios.plans
    local = part.experts / plans.ep
    permuted = tokens.shared * part.experts_per_token * layers.hidden_size * plans.element_bytes
    inputs = permuted / plans.element_bytes * plans.product_bytes
    rows = tokens.all * (part.experts_per_token / local)
    operators = [
        _router(part, layers, scenarios, tokens),
        *_dispatch(part, scenarios, permuted),
        *two_products(part, layers, scenarios, rows=rows, kept=inputs, experts=local),
    ]
    if np.any(np.asarray(part.shared_experts) > 0.0):
        widen = part.shared_experts * part.shared_size / part.size
        used = np.where(np.asarray(widen) > 0.0, 1.0, 0.0)
        # Their input is the router's, unless each product keeps a cast of its own.
        own = used * autocasts(scenarios) * kept_input(layers, scenarios, tokens)
        operators += two_products(part, layers, scenarios, rows=tokens.all, widen=widen, kept=own, used=used)
        operators += _shared_gate(part, layers, scenarios, tokens)
    return operators


def _shared_gate(part: ExpertFeedForward, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """The product that gives the gate of shared experts, which keeps its sigmoid and what it scales."""
    if not np.any(np.asarray(part.shared_gate) > 0.0):
        return []
    element, used = scenarios.plans.element_bytes, part.shared_gate
    scaled = activations.tensor(tokens.all, layers.hidden_size + 1.0, element_bytes=element)
    return [
        product(
            "gate of shared experts",
            "feed_forward",
            m=tokens.all,
            k=layers.hidden_size,
            n=1.0,
            count=used,
            element_bytes=element,
            launches=(used, used),
            wide=True,
            kept=Holding(saved=used * scaled, parameters=used * parameters.linear(layers.hidden_size, 1.0)),
        )
    ]


def _router(part: ExpertFeedForward, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> Operator:
    """The product that chooses experts."""
    element = scenarios.plans.element_bytes
    chosen = activations.routing(tokens.all, part.experts, chosen=part.experts_per_token, element_bytes=element)
    return product(
        "router",
        "feed_forward",
        m=tokens.all,
        k=layers.hidden_size,
        n=part.experts,
        element_bytes=element,
        wide=True,
        kept=Holding(
            saved=kept_input(layers, scenarios, tokens) + chosen,
            parameters=parameters.linear(layers.hidden_size, part.experts, bias=part.router_bias),
        ),
    )


def _dispatch(part: ExpertFeedForward, scenarios: Scenarios, permuted: Num) -> list[Operator]:
    """Tokens on their way to the experts and back."""
    plans, stacks = scenarios.plans, scenarios.stacks
    trips = np.where(np.asarray(plans.ep) > 1.0, 2.0, 0.0)
    return [
        stream(
            "dispatch and combination of tokens",
            "feed_forward",
            StreamKind.ROUTING,
            moved=(4.0 * permuted, 4.0 * permuted),
            launches=(4.0, 4.0),
            kept=Holding(saved=permuted),
        ),
        exchange(
            "all-to-all of experts",
            "expert_parallel",
            "all_to_all",
            permuted,
            degree=plans.ep,
            stride=plans.dp_stride,
            counts=(trips, trips),
            launches=(1.0, 1.0),
            hiding=Hiding(share=stacks.expert_overlap, line="experts"),
            copies=np.where(np.asarray(stacks.sends_once) > 0, part.experts_per_token, 1.0),
        ),
    ]
