"""Operators of the feed-forward layer, dense or of experts."""

from __future__ import annotations

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.specs.model import Layers
from simulator.work.operators import Exchange, Gemm, Operator, Stream
from simulator.work.transformer.tokens import Scenarios, Tokens, last_output_unused, linear_input


def feed_forward(layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """The feed-forward layer: one, or the experts of this rank with the tokens sent to them."""
    plans = scenarios.plans
    kept = activations.tensor(linear_input(tokens, scenarios), layers.hidden_size, element_bytes=plans.element_bytes)
    if not np.any(np.asarray(layers.experts) > 1.0):
        return _two_products(layers, scenarios, rows=tokens.all, kept=kept)
    routes = np.where(np.asarray(layers.experts) > 1.0, 1.0, 0.0)
    local = np.where(routes > 0.0, layers.experts / plans.ep, 1.0)
    rows = tokens.all * np.where(routes > 0.0, layers.experts_per_token / local, 1.0)
    permuted = routes * tokens.shared * layers.experts_per_token * layers.hidden_size * plans.element_bytes
    operators = _routing(layers, scenarios, tokens, routes=routes, kept=kept, permuted=permuted)
    inputs = np.where(routes > 0.0, permuted, kept)
    operators += _two_products(layers, scenarios, rows=rows, experts=local, kept=inputs, of_experts=routes)
    if np.any(np.asarray(layers.shared_experts) > 0.0):
        shared = layers.shared_experts
        used = np.where(np.asarray(shared) > 0.0, 1.0, 0.0)
        operators += _two_products(layers, scenarios, rows=tokens.all, widen=shared, kept=0.0, used=used)
    return operators


def _router(layers: Layers, scenarios: Scenarios, tokens: Tokens, *, routes: Num, kept: Num) -> Operator:
    """The product that chooses experts."""
    element = scenarios.plans.element_bytes
    chosen = activations.routing(tokens.all, layers.experts, chosen=layers.experts_per_token, element_bytes=element)
    return Gemm(
        name="router",
        part="feed_forward",
        m=tokens.all,
        k=layers.hidden_size,
        n=layers.experts,
        count=routes,
        element_bytes=element,
        saved=routes * (kept + chosen),
        parameters=routes * parameters.linear(layers.hidden_size, layers.experts),
        forward_kernels=routes,
        backward_kernels=routes,
    )


def _routing(
    layers: Layers, scenarios: Scenarios, tokens: Tokens, *, routes: Num, kept: Num, permuted: Num
) -> list[Operator]:
    """The router, and tokens on their way to the experts and back, where there are experts."""
    plans = scenarios.plans
    trips = np.where(np.asarray(plans.ep) > 1.0, 2.0 * routes, 0.0)
    return [
        _router(layers, scenarios, tokens, routes=routes, kept=kept),
        Stream(
            name="dispatch and combination of tokens",
            part="feed_forward",
            forward_bytes=4.0 * permuted,
            backward_bytes=4.0 * permuted,
            saved=permuted,
            forward_kernels=4.0 * routes,
            backward_kernels=4.0 * routes,
        ),
        Exchange(
            name="all-to-all of experts",
            part="expert_parallel",
            kind="all_to_all",
            message_bytes=permuted,
            degree=plans.ep,
            stride=plans.dp_stride,
            forward_count=trips,
            backward_count=trips,
            forward_kernels=routes,
            backward_kernels=routes,
            exposed=1.0 - np.asarray(scenarios.stacks.expert_overlap),
            copies=np.where(np.asarray(scenarios.stacks.sends_once) > 0, layers.experts_per_token, 1.0),
        ),
    ]


def _two_products(
    layers: Layers,
    scenarios: Scenarios,
    *,
    rows: Num,
    kept: Num,
    experts: Num = 1.0,
    of_experts: Num = 0.0,
    widen: Num = 1.0,
    used: Num = 1.0,
) -> list[Operator]:
    """Into the feed-forward width, activation, and back."""
    element, inputs, batch = scenarios.plans.element_bytes, layers.feed_forward_inputs, experts
    width = widen * layers.feed_forward_size / scenarios.plans.tp
    return [
        Gemm(
            name="feed-forward input",
            part="feed_forward",
            m=rows,
            k=layers.hidden_size,
            n=inputs * width,
            batch=batch,
            count=used,
            element_bytes=element,
            saved=kept,
            parameters=batch * parameters.linear(layers.hidden_size, inputs * width, bias=layers.feed_forward_bias),
            of_experts=of_experts,
            forward_kernels=used,
            backward_kernels=used,
        ),
        _activation(layers, scenarios, batch * rows, width, used),
        Gemm(
            name="feed-forward output",
            part="feed_forward",
            m=rows,
            k=width,
            n=layers.hidden_size,
            batch=batch,
            count=used,
            element_bytes=element,
            saved=activations.tensor(batch * rows, width, element_bytes=element),
            parameters=batch * parameters.linear(width, layers.hidden_size, bias=layers.feed_forward_bias),
            partial_parameters=batch * layers.feed_forward_bias * layers.hidden_size,
            of_experts=of_experts,
            forward_kernels=used,
            backward_kernels=used,
            # Outputs of experts are kept, since the gradient of the router needs them.
            output_unused=(1.0 - of_experts) * last_output_unused(layers, scenarios),
        ),
    ]


def _activation(layers: Layers, scenarios: Scenarios, rows: Num, width: Num, used: Num) -> Operator:
    """The activation function, and the product with its gate where there is one."""
    element, eager, inputs = scenarios.plans.element_bytes, scenarios.stacks.eager, layers.feed_forward_inputs
    size, gated = rows * width * element, inputs - 1.0
    # Beside what torch keeps: both factors of an activation in single operations; a fused gate keeps its inputs only.
    more = scenarios.stacks.activation_copies - scenarios.stacks.fused_gate * gated
    return Stream(
        name="activation function",
        kind="gated activation function" if np.all(np.asarray(gated) > 0.0) else "activation function",
        part="elementwise",
        saved=activations.gate(rows, width, element_bytes=element, inputs=inputs, rectified=layers.rectified)
        + more * size,
        widest=inputs * size,
        forward_bytes=size * (2.0 + gated + (1.0 + gated) * eager),
        backward_bytes=size * (3.0 + 2.0 * gated + (1.0 + 3.0 * gated) * eager),
        forward_kernels=used * (1.0 + gated * eager),
        backward_kernels=used * (1.0 + (1.0 + gated) * eager),
    )
