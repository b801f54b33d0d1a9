"""Operators of one transformer layer."""

from __future__ import annotations

import numpy as np

from simulator.formulas import activations, parameters
from simulator.operators import Operator, Stream
from simulator.specs.model import Layers
from simulator.transformer.attention import attention, cross_attention
from simulator.transformer.exchanges import exchange, mode, splits
from simulator.transformer.feed_forward import feed_forward
from simulator.transformer.tokens import Scenarios, Tokens, tokens_of


def layer(layers: Layers, scenarios: Scenarios) -> list[Operator]:
    """Operators of one layer, in the order of the forward pass."""
    targets = np.asarray(layers.on_targets) > 0
    length = np.where(targets, scenarios.workloads.target_length, scenarios.workloads.sequence_length)
    tokens = tokens_of(scenarios, length)
    operators = [_norms(layers, scenarios, tokens), *attention(layers, scenarios, tokens, tokens.keys)]
    if np.any(np.asarray(layers.cross_attention) > 0):
        memory = tokens_of(scenarios, scenarios.workloads.sequence_length)
        operators += cross_attention(layers, scenarios, tokens, memory)
    operators += feed_forward(layers, scenarios, tokens)
    operators += _residuals(layers, scenarios, tokens)
    return operators + _tensor_exchanges(layers, scenarios, tokens)


def _norms(layers: Layers, scenarios: Scenarios, tokens: Tokens) -> Operator:
    """All normalisations of the layer; those of a parallel block read the same input."""
    width, plans, eager = layers.hidden_size, scenarios.plans, scenarios.stacks.eager
    element = plans.element_bytes
    inputs = np.where(np.asarray(layers.parallel_block) > 0, 1.0, layers.norms)
    kept = activations.tensor(tokens.shared, width, element_bytes=element) * inputs
    statistics = activations.normalisation(tokens.shared, 0.0, element_bytes=element, statistics=layers.norm_statistics)
    size = layers.norms * tokens.shared * width * element
    return Stream(
        name="normalisation",
        part="normalisation",
        saved=kept + layers.norms * statistics,
        parameters=layers.norms * parameters.normalisation(width, bias=layers.norm_bias),
        forward_bytes=size * (2.0 + eager),
        backward_bytes=size * (3.0 + eager),
        reduces=True,
        forward_kernels=layers.norms,
        backward_kernels=layers.norms * (1.0 + eager),
    )


def _residuals(layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Dropouts and additions to the residual stream, one after attention and one after the feed-forward layer."""
    plans, eager = scenarios.plans, scenarios.stacks.eager
    additions = 2.0 + layers.cross_attention
    size = additions * tokens.shared * layers.hidden_size * plans.element_bytes
    return [
        Stream(
            name="dropout and residual",
            part="elementwise",
            saved=additions * layers.dropout * activations.dropout_mask(tokens.shared, layers.hidden_size),
            forward_bytes=size * (3.0 + 0.5 * layers.dropout + 2.0 * layers.dropout * eager),
            backward_bytes=size * (2.0 + 0.5 * layers.dropout + eager),
            forward_kernels=additions * (1.0 + layers.dropout * eager),
            backward_kernels=additions * (1.0 + layers.dropout * eager),
        )
    ]


def _tensor_exchanges(layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Collectives around each pair of a column-parallel and a row-parallel product of the layer."""
    if not splits(scenarios):
        return []
    pairs = np.where(np.asarray(layers.parallel_block) > 0, 1.0, 2.0) + layers.cross_attention
    message = tokens.all * layers.hidden_size * scenarios.plans.element_bytes
    reduces, shares = mode(scenarios)
    again = 1.0 + scenarios.stacks.regathers_inputs
    return [
        exchange("all_reduce", "of a layer", message, scenarios, forward=pairs * reduces, backward=pairs * reduces),
        exchange(
            "all_gather", "of a layer", message, scenarios, forward=pairs * shares, backward=pairs * shares * again
        ),
        exchange("reduce_scatter", "of a layer", message, scenarios, forward=pairs * shares, backward=pairs * shares),
    ]
