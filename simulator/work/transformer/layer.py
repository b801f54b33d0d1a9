"""Operators of one transformer layer."""

from __future__ import annotations

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.pricing.backend import CollectiveKind
from simulator.specs.model import Layers
from simulator.work.operators import Operator, Stream
from simulator.work.transformer.attention import attention, cross_attention
from simulator.work.transformer.exchanges import exchange, mode, splits
from simulator.work.transformer.feed_forward import feed_forward
from simulator.work.transformer.tokens import Scenarios, Tokens, last_output_unused, stream_bytes, tokens_of


def layer(layers: Layers, scenarios: Scenarios) -> list[Operator]:
    """Operators of one layer, in the order of the forward pass."""
    targets = np.asarray(layers.on_targets) > 0
    length = np.where(targets, scenarios.workloads.target_length, scenarios.workloads.sequence_length)
    tokens = tokens_of(scenarios, length)
    operators = [_norms(layers, scenarios, tokens), *attention(layers, scenarios, tokens, tokens.keys)]
    if np.any(np.asarray(layers.cross_attention) > 0):
        memory = tokens_of(scenarios, scenarios.workloads.sequence_length)
        operators += cross_attention(layers, scenarios, tokens, memory)
        operators += _memory_exchanges(scenarios, memory)
    operators += feed_forward(layers, scenarios, tokens)
    operators += _residuals(layers, scenarios, tokens)
    return operators + _tensor_exchanges(layers, scenarios, tokens)


def _norms(layers: Layers, scenarios: Scenarios, tokens: Tokens) -> Operator:
    """All normalisations of the layer; those of a parallel block read the same input."""
    width, plans, eager = layers.hidden_size, scenarios.plans, scenarios.stacks.eager
    element = plans.element_bytes
    inputs = np.where(np.asarray(layers.parallel_block) > 0, 1.0, layers.norms)
    kept = activations.tensor(tokens.shared, width, element_bytes=stream_bytes(scenarios)) * inputs
    statistics = activations.normalisation(tokens.shared, 0.0, element_bytes=element, statistics=layers.norm_statistics)
    weights = layers.norms * parameters.normalisation(width, bias=layers.norm_bias)
    size = layers.norms * tokens.shared * width * element
    return Stream(
        name="normalisation",
        part="normalisation",
        saved=kept + layers.norms * statistics,
        parameters=weights,
        partial_parameters=weights,
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
            drawn=additions * layers.dropout * tokens.shared * layers.hidden_size,
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
    parallel = np.asarray(layers.parallel_block) > 0
    # A parallel block adds up both outputs first; it reads one input unless each half normalises its own.
    outputs = np.where(parallel, 1.0, 2.0) + layers.cross_attention
    inputs = np.where(parallel, np.minimum(layers.norms, 2.0), outputs)
    message = tokens.all * layers.hidden_size * scenarios.plans.element_bytes
    reduces, shares = mode(scenarios)
    regathered = inputs * shares * scenarios.stacks.regathers_inputs
    unused = last_output_unused(layers, scenarios) / outputs
    numbers: tuple[tuple[CollectiveKind, Num, Num, Num], ...] = (
        ("all_reduce", outputs * reduces, inputs * reduces, unused),
        ("all_gather", inputs * shares, outputs * shares + regathered, 0.0),
        ("reduce_scatter", outputs * shares, inputs * shares, unused),
    )
    return [
        exchange(kind, "of a layer", message, scenarios, forward=forward, backward=backward, unused=share)
        for kind, forward, backward, share in numbers
    ]


def _memory_exchanges(scenarios: Scenarios, memory: Tokens) -> list[Operator]:
    """Collectives around the keys and values of the encoder's output, where each layer gathers it again."""
    if not splits(scenarios):
        return []
    message = memory.all * scenarios.models.hidden_size * scenarios.plans.element_bytes
    again = mode(scenarios)[1] * scenarios.stacks.regathers_inputs
    return [
        exchange("all_gather", "of the encoder's output", message, scenarios, forward=again, backward=again),
        exchange("reduce_scatter", "of the encoder's output", message, scenarios, forward=0.0, backward=again),
    ]
