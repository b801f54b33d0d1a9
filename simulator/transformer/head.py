"""Operators of the final normalisation, the head and the loss, on the last stage of a pipeline."""

from __future__ import annotations

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.operators import Gemm, Operator, Stream
from simulator.transformer.exchanges import exchange, mode, splits
from simulator.transformer.tokens import Scenarios, Tokens, tokens_of


def head(scenarios: Scenarios) -> list[Operator]:
    """Operators of the final normalisation, the head and the loss, on the last stage of a pipeline."""
    models, plans, stacks = scenarios.models, scenarios.plans, scenarios.stacks
    workloads, element = scenarios.workloads, scenarios.plans.element_bytes
    inputs = tokens_of(scenarios, workloads.sequence_length)
    decoded = np.where(np.asarray(models.encoder_decoder) > 0, workloads.target_length, workloads.sequence_length)
    outputs = tokens_of(scenarios, decoded)
    normed = np.where(np.asarray(models.encoder_decoder) > 0, inputs.shared + outputs.shared, outputs.shared)
    finals = np.where(np.asarray(models.final_norms) > 0, 1.0, 0.0)
    masked = np.asarray(models.masked) * (1.0 - np.asarray(stacks.all_positions))
    predicted = np.where(masked > 0, plans.micro_batch * workloads.predictions / plans.cp, outputs.all)
    size = finals * normed * models.hidden_size * element
    final_norm = Stream(
        name="final normalisation",
        part="normalisation",
        saved=finals
        * activations.normalisation(
            normed, models.hidden_size, element_bytes=element, statistics=models.norm_statistics
        ),
        parameters=models.final_norms * parameters.normalisation(models.hidden_size, bias=models.norm_bias),
        forward_bytes=size * (2.0 + stacks.eager),
        backward_bytes=size * (3.0 + stacks.eager),
        reduces=True,
        forward_kernels=finals,
        backward_kernels=2.0 * finals,
    )
    return [
        final_norm,
        *_head_transform(scenarios, predicted),
        *_vocabulary_head(scenarios, predicted),
        *_classes(scenarios, outputs),
        *_head_exchanges(scenarios, outputs),
    ]


def _head_transform(scenarios: Scenarios, rows: Num) -> list[Operator]:
    """The linear map, activation and normalisation before a masked-language head."""
    models, plans = scenarios.models, scenarios.plans
    element, used = plans.element_bytes, models.head_transform
    kept = activations.tensor(rows, models.hidden_size, element_bytes=element)
    width = models.embedding_size
    norm = activations.normalisation(rows, width, element_bytes=element, statistics=models.norm_statistics)
    size = used * rows * width * element
    return [
        Gemm(
            name="head transform",
            part="head",
            m=rows,
            k=models.hidden_size,
            n=width,
            count=used,
            element_bytes=element,
            saved=used * kept,
            parameters=used * parameters.linear(models.hidden_size, width, bias=1.0),
            forward_kernels=used,
            backward_kernels=used,
        ),
        Stream(
            name="activation and normalisation of the head",
            part="head",
            saved=used * (activations.gate(rows, width, element_bytes=element, inputs=1.0) + norm),
            parameters=used * parameters.normalisation(width, bias=1.0),
            forward_bytes=4.0 * size,
            backward_bytes=6.0 * size,
            forward_kernels=2.0 * used,
            backward_kernels=3.0 * used,
        ),
    ]


def _vocabulary_head(scenarios: Scenarios, rows: Num) -> list[Operator]:
    """Logits over the vocabulary, and their cross-entropy in float32."""
    models, plans, eager = scenarios.models, scenarios.plans, scenarios.stacks.eager
    element, used = plans.element_bytes, models.vocabulary_head
    words = np.ceil(np.asarray(models.vocabulary_size) / plans.tp)
    own = np.where(np.asarray(models.tied_head) > 0, 0.0, 1.0)
    logits = used * rows * words
    return [
        Gemm(
            name="vocabulary head",
            part="head",
            m=rows,
            k=models.embedding_size,
            n=words,
            count=used,
            element_bytes=element,
            saved=used * activations.tensor(rows, models.embedding_size, element_bytes=element),
            parameters=used * (own * models.embedding_size * words + models.head_bias * words),
            forward_kernels=used,
            backward_kernels=used * 2.0,
        ),
        Stream(
            name="cross-entropy",
            part="head",
            saved=used * activations.cross_entropy(rows, words),
            forward_bytes=logits * (element + 8.0 * eager + 4.0),
            backward_bytes=logits * (4.0 + element + 12.0 * eager),
            reduces=True,
            forward_kernels=used * (1.0 + 2.0 * eager),
            backward_kernels=used * (1.0 + 2.0 * eager),
        ),
    ]


def _classes(scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Classes of whole sequences behind a pooler, and of single tokens."""
    models, plans = scenarios.models, scenarios.plans
    element, sequences, width = plans.element_bytes, plans.micro_batch, models.hidden_size

    def linear(name: str, used: Num, rows: Num, outputs: Num) -> Gemm:
        kept = activations.tensor(rows, width, element_bytes=element)
        return Gemm(
            name=name,
            part="head",
            m=rows,
            k=width,
            n=outputs,
            count=used,
            element_bytes=element,
            saved=used * kept,
            parameters=used * parameters.linear(width, outputs, bias=1.0),
            forward_kernels=used,
            backward_kernels=used * 2.0,
        )

    classified = np.minimum(models.sequence_classes, 1.0)
    spans = np.minimum(models.token_classes, 1.0)
    return [
        linear("pooler", models.pooler, sequences, width),
        linear("sequence classes", classified, sequences, models.sequence_classes),
        linear("token classes", spans, tokens.all, models.token_classes),
    ]


def _head_exchanges(scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Gather of the head's input, reduction of its gradient, and of the softmax's sums over vocabulary shards."""
    if not splits(scenarios):
        return []
    models, used = scenarios.models, scenarios.models.vocabulary_head
    message = tokens.all * models.hidden_size * scenarios.plans.element_bytes
    reduces, shares = mode(scenarios)
    again = shares * scenarios.stacks.regathers_inputs
    sums = used * (reduces + shares)
    return [
        exchange("all_reduce", "of the head", message, scenarios, forward=0.0, backward=used * reduces),
        exchange("all_gather", "of the head", message, scenarios, forward=used * shares, backward=used * again),
        exchange("reduce_scatter", "of the head", message, scenarios, forward=0.0, backward=used * shares),
        exchange("all_reduce", "of softmax sums", 4.0 * tokens.all, scenarios, forward=3.0 * sums, backward=0.0),
    ]
