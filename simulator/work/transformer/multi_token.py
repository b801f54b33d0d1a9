"""Modules behind the last layer that predict one token further each (multi-token prediction).

Each reads the hidden states that the one before it gave to the head, and the words one place further: both normalised,
side by side through a projection, a layer of the model's kind, a normalisation of its own, and the head that all share,
with a loss of its own. They run where the head is.

References
----------
DeepSeek-AI, DeepSeek-V3, arXiv 2412.19437, section 2.2, equations 21 to 25; `MultiTokenPredictionLayer` in
`megatron/core/transformer/multi_token_prediction.py` of core_v0.19.0 (enorm, hnorm, eh_proj, final_layernorm).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.pricing.requests import StreamKind
from simulator.work.operators import Holding, Operator, product, stream
from simulator.work.transformer.embedding import embedding
from simulator.work.transformer.head import predictions
from simulator.work.transformer.layer import layer, tokens_of_layers
from simulator.work.transformer.tokens import Scenarios, normalised, stream_bytes
from simulator.work.weights import linear_weights, normalisation_weights

_NAME = "of a further prediction"


@dataclass(frozen=True)
class FurtherPredictions:
    """What all modules execute for one micro-batch."""

    before: list[Operator]
    """Words, normalisations and projection."""
    layer: list[Operator]
    after: list[Operator]
    """Normalisation, head and loss."""
    checkpoint: Num
    """Bytes of the inputs of the layers, which full recomputation keeps [B]."""


def modules_of(scenarios: Scenarios) -> Num:
    """Modules that are trained [1]."""
    layers = scenarios.models.multi_token
    return 0.0 if layers is None else layers.count * scenarios.workloads.multi_token


def words_at_both_ends(scenarios: Scenarios) -> Num:
    """1 where the last stage of a pipeline has a copy of the table of words: a tied head, or modules that read it."""
    models, number = scenarios.models, modules_of(scenarios)
    tied = models.tied_head * models.vocabulary_head
    return np.where(np.asarray(number) > 0.0, 1.0, tied) if np.any(np.asarray(number) > 0.0) else tied


def further_predictions(scenarios: Scenarios) -> FurtherPredictions | None:
    """Operators of the modules that are trained; nothing where there are none."""
    layers, number = scenarios.models.multi_token, modules_of(scenarios)
    if layers is None or not np.any(np.asarray(number) > 0.0):
        return None
    tokens = tokens_of_layers(layers, scenarios)
    once = activations.tensor(tokens.shared, layers.hidden_size, element_bytes=stream_bytes(scenarios))
    return FurtherPredictions(
        before=_times([*_shared(embedding(scenarios)), *_joined(scenarios)], number),
        layer=_times(layer(layers, scenarios), number),
        after=_times([_final_norm(scenarios), *_shared(predictions(scenarios))], number),
        checkpoint=number * once,
    )


def _joined(scenarios: Scenarios) -> list[Operator]:
    """Normalisations of words and hidden states, and the projection of both.

    The hidden states are kept by the head before, which reads them too.
    """
    models, plans, eager = scenarios.models, scenarios.plans, scenarios.stacks.eager
    layers = scenarios.models.multi_token
    assert layers is not None
    tokens, hidden, element = tokens_of_layers(layers, scenarios), models.hidden_size, plans.element_bytes
    size = 2.0 * tokens.shared * hidden * element
    words = normalised(tokens.shared, hidden, scenarios, statistics=models.norm_statistics)
    states = activations.normalisation(tokens.shared, 0.0, element_bytes=0.0, statistics=models.norm_statistics)
    weights = 2.0 * models.norm_weight * parameters.normalisation(hidden, bias=models.norm_bias)
    owned = parameters.linear(2.0 * hidden, hidden)
    return [
        stream(
            f"normalisations {_NAME}",
            "normalisation",
            StreamKind.NORMALISATION,
            moved=(size * (2.0 + eager) + 2.0 * size, size * (3.0 + eager) + 2.0 * size),
            launches=(3.0, 1.0 + 2.0 * (1.0 + eager)),
            reduces=True,
            kept=Holding(
                saved=words + states,
                parameters=weights,
                partial_parameters=weights,
                weights=normalisation_weights(hidden, 2.0, models.norm_weight, bias=models.norm_bias),
            ),
        ),
        product(
            f"projection {_NAME}",
            "feed_forward",
            m=tokens.shared,
            k=2.0 * hidden,
            n=hidden,
            element_bytes=element,
            cast_before=(True, False),
            kept=Holding(
                saved=activations.tensor(tokens.shared, 2.0 * hidden, element_bytes=plans.product_bytes),
                parameters=owned,
                partial_parameters=owned,
                weights=linear_weights(2.0 * hidden, hidden),
            ),
        ),
    ]


def _final_norm(scenarios: Scenarios) -> Operator:
    """The normalisation before the head, which has weights of its own."""
    models, eager, layers = scenarios.models, scenarios.stacks.eager, scenarios.models.multi_token
    assert layers is not None
    tokens = tokens_of_layers(layers, scenarios)
    size = tokens.shared * models.hidden_size * scenarios.plans.element_bytes
    weights = models.norm_weight * parameters.normalisation(models.hidden_size, bias=models.norm_bias)
    return stream(
        f"final normalisation {_NAME}",
        "normalisation",
        StreamKind.FINAL_NORMALISATION,
        moved=(size * (2.0 + eager), size * (3.0 + eager)),
        launches=(1.0, 2.0),
        reduces=True,
        kept=Holding(
            saved=normalised(tokens.shared, models.hidden_size, scenarios, statistics=models.norm_statistics),
            parameters=weights,
            partial_parameters=weights,
            weights=normalisation_weights(models.hidden_size, models.norm_weight, bias=models.norm_bias),
        ),
    )


def _shared(operators: Iterable[Operator]) -> list[Operator]:
    """Operators whose weights are those of embedding and head."""
    return [
        replace(
            each,
            kept=replace(each.kept, parameters=0.0, partial_parameters=0.0, tied_parameters=0.0, weights=()),
        )
        for each in operators
    ]


def _times(operators: Iterable[Operator], number: Num) -> list[Operator]:
    """The operators of so many modules, one after the other; gradients of single tensors are of one."""
    return [_multiplied(each, number) for each in operators]


def _multiplied(operator: Operator, number: Num) -> Operator:
    """An operator so many times, with weights of its own each time."""
    of = operator.kept
    kept = replace(
        of,
        saved=of.saved * number,
        parameters=of.parameters * number,
        expert_parameters=of.expert_parameters * number,
        partial_parameters=of.partial_parameters * number,
        widest=0.0,
        matrices=tuple(size * number for size in of.matrices),
        repeated_in=tuple((name, size * number) for name, size in of.repeated_in),
        discards=tuple((name, size * number) for name, size in of.discards),
        weights=tuple(replace(weight, factors=(*weight.factors, number)) for weight in of.weights),
    )
    ahead, back = (
        tuple(replace(call, count=call.count * number, kernels=call.kernels * number) for call in calls)
        for calls in (operator.forward, operator.backward)
    )
    return replace(operator, forward=ahead, backward=back, kept=kept)
