"""Operators of the embedding, on the first stage of a pipeline."""

from __future__ import annotations

import numpy as np

from simulator.formulas import activations, parameters
from simulator.operators import Gemm, Operator, Stream
from simulator.transformer.exchanges import exchange, mode, splits
from simulator.transformer.tokens import Scenarios, tokens_of


def embedding(scenarios: Scenarios) -> list[Operator]:
    """Operators of the embedding, on the first stage of a pipeline."""
    models, plans, eager = scenarios.models, scenarios.plans, scenarios.stacks.eager
    element, width = plans.element_bytes, models.embedding_size
    both = scenarios.workloads.sequence_length + scenarios.workloads.target_length
    tokens = tokens_of(scenarios, both)
    rows = np.ceil(np.asarray(models.vocabulary_size) / plans.tp)
    table = rows * width
    others = models.position_rows + models.token_types
    size = tokens.shared * width * element
    maps = np.where(np.asarray(models.embedding_size) != models.hidden_size, 1.0, 0.0)
    norm = activations.normalisation(tokens.shared, width, element_bytes=element, statistics=models.norm_statistics)
    operators: list[Operator] = [
        Stream(
            name="embedding",
            part="embedding",
            parameters=table
            + others * width
            + models.bucket_tables * models.heads / plans.tp
            + models.embedding_norm * parameters.normalisation(width, bias=models.norm_bias),
            saved=models.embedding_norm * norm
            + models.dropout * activations.dropout_mask(tokens.shared, models.hidden_size),
            forward_bytes=size * (2.0 + models.embedding_norm * 2.0 + 4.0 * eager),
            backward_bytes=size * (2.0 + models.embedding_norm * 3.0 + 2.0 * eager) + 2.0 * table * element,
            forward_kernels=2.0 + 3.0 * eager,
            backward_kernels=3.0 + 3.0 * eager,
        ),
        Gemm(
            name="embedding to hidden size",
            part="embedding",
            m=tokens.all,
            k=width,
            n=models.hidden_size,
            count=maps,
            element_bytes=element,
            saved=maps * activations.tensor(tokens.all, width, element_bytes=element),
            parameters=maps * parameters.linear(width, models.hidden_size, bias=1.0),
            forward_kernels=maps,
            backward_kernels=maps,
        ),
    ]
    if splits(scenarios):
        message = tokens.all * models.hidden_size * element
        reduces, shares = mode(scenarios)
        operators += [
            exchange("all_reduce", "of the embedding", message, scenarios, forward=reduces, backward=0.0),
            exchange("reduce_scatter", "of the embedding", message, scenarios, forward=shares, backward=0.0),
            exchange("all_gather", "of the embedding", message, scenarios, forward=0.0, backward=shares),
        ]
    return operators
