"""Operators of the feed-forward layer, dense or of experts."""

from __future__ import annotations

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.operators import Exchange, Gemm, Operator, Stream
from simulator.specs.model import Layers
from simulator.transformer.tokens import Scenarios, Tokens, last_output_unused, linear_input


def feed_forward(layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """The feed-forward layer: one, or the experts of this rank with the tokens sent to them."""
    plans = scenarios.plans
    kept = activations.tensor(linear_input(tokens, scenarios), layers.hidden_size, element_bytes=plans.element_bytes)
    if not np.any(np.asarray(layers.experts) > 1.0):
        return _two_products(layers, scenarios, rows=tokens.all, kept=kept)
    local = layers.experts / plans.ep
    routed = tokens.all * layers.experts_per_token / local
    permuted = tokens.shared * layers.experts_per_token * layers.hidden_size * plans.element_bytes
    operators = _routing(layers, scenarios, tokens, kept=kept, permuted=permuted)
    operators += _two_products(layers, scenarios, rows=routed, experts=local, kept=permuted)
    if np.any(np.asarray(layers.shared_experts) > 0.0):
        operators += _two_products(layers, scenarios, rows=tokens.all, widen=layers.shared_experts, kept=0.0)
    return operators


def _routing(layers: Layers, scenarios: Scenarios, tokens: Tokens, *, kept: Num, permuted: Num) -> list[Operator]:
    """The router, and tokens on their way to the experts and back."""
    plans = scenarios.plans
    trips = np.where(np.asarray(plans.ep) > 1.0, 2.0, 0.0)
    return [
        Gemm(
            name="router",
            part="feed_forward",
            m=tokens.all,
            k=layers.hidden_size,
            n=layers.experts,
            element_bytes=plans.element_bytes,
            saved=kept
            + activations.routing(
                tokens.all, layers.experts, chosen=layers.experts_per_token, element_bytes=plans.element_bytes
            ),
            parameters=parameters.linear(layers.hidden_size, layers.experts),
        ),
        Stream(
            name="dispatch and combination of tokens",
            part="feed_forward",
            forward_bytes=4.0 * permuted,
            backward_bytes=4.0 * permuted,
            saved=permuted,
            forward_kernels=4.0,
            backward_kernels=4.0,
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
            exposed=1.0 - np.asarray(scenarios.stacks.expert_overlap),
            copies=np.where(np.asarray(scenarios.stacks.sends_once) > 0, layers.experts_per_token, 1.0),
        ),
    ]


def _two_products(
    layers: Layers, scenarios: Scenarios, *, rows: Num, experts: Num | None = None, widen: Num = 1.0, kept: Num
) -> list[Operator]:
    """Into the feed-forward width, activation, and back."""
    element, inputs = scenarios.plans.element_bytes, layers.feed_forward_inputs
    batch: Num = 1.0 if experts is None else experts
    width = widen * layers.feed_forward_size / scenarios.plans.tp
    return [
        Gemm(
            name="feed-forward input",
            part="feed_forward",
            m=rows,
            k=layers.hidden_size,
            n=inputs * width,
            batch=batch,
            element_bytes=element,
            saved=kept,
            parameters=batch * parameters.linear(layers.hidden_size, inputs * width, bias=layers.feed_forward_bias),
            of_experts=experts is not None,
        ),
        _activation(layers, scenarios, batch * rows, width),
        Gemm(
            name="feed-forward output",
            part="feed_forward",
            m=rows,
            k=width,
            n=layers.hidden_size,
            batch=batch,
            element_bytes=element,
            saved=activations.tensor(batch * rows, width, element_bytes=element),
            parameters=batch * parameters.linear(width, layers.hidden_size, bias=layers.feed_forward_bias),
            partial_parameters=batch * layers.feed_forward_bias * layers.hidden_size,
            of_experts=experts is not None,
            # Outputs of experts are kept, since the gradient of the router needs them.
            output_unused=last_output_unused(layers, scenarios) if experts is None else 0.0,
        ),
    ]


def _activation(layers: Layers, scenarios: Scenarios, rows: Num, width: Num) -> Operator:
    """The activation function, and the product with its gate where there is one."""
    element, eager, inputs = scenarios.plans.element_bytes, scenarios.stacks.eager, layers.feed_forward_inputs
    size, gated = rows * width * element, inputs - 1.0
    return Stream(
        name="activation function",
        part="elementwise",
        saved=activations.gate(rows, width, element_bytes=element, inputs=inputs, rectified=layers.rectified),
        forward_bytes=size * (2.0 + gated + (1.0 + gated) * eager),
        backward_bytes=size * (3.0 + 2.0 * gated + (1.0 + 3.0 * gated) * eager),
        forward_kernels=1.0 + gated * eager,
        backward_kernels=1.0 + (1.0 + gated) * eager,
    )
