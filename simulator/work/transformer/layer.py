"""Operators of one transformer layer."""

from __future__ import annotations

from simulator.specs.parts import Layers
from simulator.work.operators import Operator
from simulator.work.transformer.part import operators_of
from simulator.work.transformer.tokens import Scenarios, Tokens, tokens_of


def tokens_of_layers(layers: Layers, scenarios: Scenarios) -> Tokens:
    """What one rank handles in such a layer: target tokens behind an encoder, else those of the input."""
    work = scenarios.workloads
    return tokens_of(scenarios, work.sequence_length if layers.cross_attention is None else work.target_length)


def layer(layers: Layers, scenarios: Scenarios) -> list[Operator]:
    """Operators of one layer, in the order of the forward pass; exchanges stand last."""
    tokens = tokens_of_layers(layers, scenarios)
    return [operator for part in layers.parts for operator in operators_of(part, layers, scenarios, tokens)]
