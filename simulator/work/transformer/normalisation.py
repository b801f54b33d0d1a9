"""All normalisations of a layer."""

from __future__ import annotations

from simulator.formulas import activations, parameters
from simulator.pricing.requests import StreamKind
from simulator.specs.parts import Layers, Normalisation
from simulator.work.operators import Holding, Operator, stream
from simulator.work.transformer.part import operators_of
from simulator.work.transformer.tokens import Scenarios, Tokens, normalised, stream_bytes
from simulator.work.weights import normalisation_weights


@operators_of.register
def normalisation(part: Normalisation, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """All normalisations of the layer; those of a parallel block read the same input, which is kept once."""
    width, element, eager = layers.hidden_size, scenarios.plans.element_bytes, scenarios.stacks.eager
    inputs = 1.0 if layers.block.shares_input else part.count
    own = activations.tensor(tokens.shared, width, element_bytes=stream_bytes(scenarios))
    alike = own * (part.count - inputs)
    each = normalised(tokens.shared, width, scenarios, statistics=part.statistics)
    weights = part.count * part.weight * parameters.normalisation(width, bias=part.bias)
    size = part.count * tokens.shared * width * element
    return [
        stream(
            "normalisation",
            "normalisation",
            StreamKind.NORMALISATION,
            moved=(size * (2.0 + eager), size * (3.0 + eager)),
            launches=(part.count, part.count * (1.0 + eager)),
            reduces=True,
            kept=Holding(
                saved=part.count * each - alike,
                repeated_in=(("layernorm", inputs * own),),
                parameters=weights,
                partial_parameters=weights,
                weights=normalisation_weights(width, part.count, part.weight, bias=part.bias),
            ),
        )
    ]
