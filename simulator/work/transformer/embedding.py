"""Operators of the embedding, on the first stage of a pipeline."""

from __future__ import annotations

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.pricing.requests import StreamKind
from simulator.work.operators import Holding, Operator, flagged, product, stream, untrained
from simulator.work.transformer.exchanges import mode, splits, tensor_exchange
from simulator.work.transformer.tokens import (
    Scenarios,
    Tokens,
    autocasts,
    mask_bytes,
    normalised,
    stream_bytes,
    tokens_of,
)
from simulator.work.weights import Weight, linear_weights, normalisation_weights, table, vectors


def embedding(scenarios: Scenarios) -> list[Operator]:
    """Operators of the embedding, on the first stage of a pipeline."""
    models, workloads = scenarios.models, scenarios.workloads
    tokens = tokens_of(scenarios, workloads.sequence_length + workloads.target_length)
    operators: list[Operator] = [_tables(scenarios, tokens), *_virtual(scenarios), _map(scenarios, tokens)]
    if splits(scenarios):
        operators += _exchanges(scenarios, workloads.sequence_length, "of the embedding", 1.0)
        if np.any(np.asarray(models.encoder_decoder) > 0.0):
            targets = workloads.target_length
            operators += _exchanges(scenarios, targets, "of the targets' embedding", models.encoder_decoder)
    return operators


def _tables(scenarios: Scenarios, tokens: Tokens) -> Operator:
    """Rows of words, positions and token types, added, and perhaps normalised and dropped."""
    models, plans, eager = scenarios.models, scenarios.plans, scenarios.stacks.eager
    element, width, trained = plans.element_bytes, models.embedding_size, scenarios.workloads.tuning.base
    table = np.ceil(np.asarray(models.vocabulary_size) / plans.tp) * width
    rows = np.where(np.asarray(models.maps_words) > 0, models.hidden_size, width)
    beside = rows * models.position_rows + width * models.token_types
    # Each tower adds its own positions and normalises its own sum.
    norms = models.embedding_norm * (1.0 + models.encoder_decoder)
    beside = beside + norms * models.norm_weight * parameters.normalisation(width, bias=models.norm_bias)
    beside = beside + models.relative_rows * models.hidden_size + _relative_norm(scenarios)
    size = tokens.shared * width * element
    norm = normalised(tokens.shared, width, scenarios, statistics=models.norm_statistics)
    mask = activations.dropout_mask(tokens.shared, width, mask_bytes=mask_bytes(scenarios))
    return stream(
        "embedding",
        "embedding",
        StreamKind.EMBEDDING,
        moved=(
            size * (2.0 + models.embedding_norm * 2.0 + 4.0 * eager),
            size * (2.0 + models.embedding_norm * 3.0 + 2.0 * eager) + flagged(2.0 * table * element, trained),
        ),
        launches=(2.0 + 3.0 * eager, 3.0 + 3.0 * eager),
        drawn=models.dropout * tokens.shared * width,
        kept=Holding(
            parameters=table + models.bucket_tables * models.heads / plans.tp + beside,
            partial_parameters=beside,
            weights=_tensors(scenarios),
            trained=trained,
            saved=models.embedding_norm * norm + models.dropout * mask + _kept_positions(scenarios),
        ),
    )


def _virtual(scenarios: Scenarios) -> list[Operator]:
    """Trained embeddings of virtual tokens: as wide as words, or as keys and values of all layers together.

    References
    ----------
    `PromptEmbedding` and `PrefixEncoder` without projection of PEFT 0.21.2 (peft/tuners/prompt_tuning/model.py,
    peft/tuners/prefix_tuning/model.py).
    """
    tuning, plans, models = scenarios.workloads.tuning, scenarios.plans, scenarios.models
    if not np.any((np.asarray(tuning.prompt) > 0.0) | (np.asarray(tuning.prefix) > 0.0)):
        return []
    of_layers: Num = 0.0
    for group in models.layers:
        heads = group.attention.key_value_heads
        of_layers = of_layers + group.count * heads * (group.attention.head_size + group.attention.value_head_size)
    rows = tuning.prompt + tuning.prefix
    width = np.where(np.asarray(tuning.prefix) > 0.0, of_layers, models.hidden_size)
    read = plans.micro_batch * rows * width * plans.element_bytes
    used = np.where(np.asarray(rows) > 0.0, 1.0, 0.0)
    return [
        stream(
            "virtual tokens",
            "embedding",
            StreamKind.EMBEDDING,
            moved=(4.0 * read, 3.0 * read),
            launches=(2.0 * used, 2.0 * used),
            kept=Holding(parameters=rows * width, weights=(table(rows, width, used),), added=True),
        )
    ]


def _tensors(scenarios: Scenarios) -> tuple[Weight, ...]:
    """Tables and normalisations; each tower has tables of positions of its own."""
    models, tp, width = scenarios.models, scenarios.plans.tp, scenarios.models.embedding_size
    towers = 1.0 + models.encoder_decoder
    rows = np.where(np.asarray(models.maps_words) > 0, models.hidden_size, width)
    norms = (models.embedding_norm, towers, models.norm_weight)

    def used(number: Num) -> Num:
        return np.where(np.asarray(number) > 0.0, 1.0, 0.0)

    return (
        table(np.ceil(np.asarray(models.vocabulary_size) / tp), width),
        table(models.bucket_tables / towers, models.heads / tp, towers, used(models.bucket_tables)),
        table(models.position_rows / towers, rows, towers, used(models.position_rows)),
        table(models.token_types, width, used(models.token_types)),
        *normalisation_weights(width, *norms, bias=models.norm_bias),
        table(models.relative_rows, models.hidden_size, used(models.relative_rows)),
        vectors(models.hidden_size, 2.0, models.relative_norm),
    )


def _relative_norm(scenarios: Scenarios) -> Num:
    """Parameters of the normalisation of embedded relative positions."""
    models = scenarios.models
    return models.relative_norm * parameters.normalisation(models.hidden_size, bias=1.0)


def _kept_positions(scenarios: Scenarios) -> Num:
    """Bytes kept of normalised relative positions: statistics, and what all layers read, unless each keeps its own."""
    models = scenarios.models
    statistics = activations.normalisation(models.relative_rows, 0.0, element_bytes=0.0, statistics=2.0)
    read = activations.tensor(models.relative_rows, models.hidden_size, element_bytes=stream_bytes(scenarios))
    read_as_they_are = (1.0 - np.asarray(models.dropout)) * (1.0 - np.asarray(autocasts(scenarios)))
    shared = np.maximum(read_as_they_are, scenarios.plans.keeps_inputs)
    return models.relative_norm * (statistics + shared * read)


def _map(scenarios: Scenarios, tokens: Tokens) -> Operator:
    """The linear map from an embedding's own width to the hidden size."""
    models, element, width = scenarios.models, scenarios.plans.element_bytes, scenarios.models.embedding_size
    used = models.embedding_map
    weights = used * parameters.linear(width, models.hidden_size, bias=1.0 - np.asarray(models.maps_words))
    operator = product(
        "embedding to hidden size",
        "embedding",
        m=tokens.shared,
        k=width,
        n=models.hidden_size,
        count=used,
        element_bytes=element,
        launches=(used, used),
        wide=True,
        kept=Holding(
            saved=used * activations.tensor(tokens.shared, width, element_bytes=element),
            parameters=weights,
            partial_parameters=weights,
            weights=linear_weights(
                width, models.hidden_size, bias=1.0 - np.asarray(models.maps_words), factors=(used,)
            ),
        ),
    )
    return untrained(operator, scenarios.workloads.tuning.base)


def _exchanges(scenarios: Scenarios, length: Num, where: str, used: Num) -> list[Operator]:
    """Sum over the parts of the vocabulary; with sequence parallelism each rank takes its tokens of it."""
    message = tokens_of(scenarios, length).all * scenarios.models.embedding_size * scenarios.plans.element_bytes
    reduces, shares = (used * flag for flag in mode(scenarios))
    return [
        tensor_exchange("all_reduce", where, message, scenarios, counts=(reduces, 0.0)),
        tensor_exchange("reduce_scatter", where, message, scenarios, counts=(shares, 0.0)),
        tensor_exchange("all_gather", where, message, scenarios, counts=(0.0, shares)),
    ]
