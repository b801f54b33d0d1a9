"""Operators of the final normalisation, the head and the loss, on the last stage of a pipeline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simulator.formulas import activations, parameters
from simulator.formulas.typing import Num
from simulator.pricing.requests import StreamKind
from simulator.specs.training.tuning import Tunings
from simulator.work.operators import Holding, Operator, flagged, product, stream, untrained, without_backward
from simulator.work.transformer.exchanges import mode, splits, tensor_exchange
from simulator.work.transformer.loss import loss_of
from simulator.work.transformer.sampling import choice, gather_of_logits
from simulator.work.transformer.tokens import (
    Scenarios,
    Tokens,
    autocasts,
    linear_input,
    normalised,
    stream_bytes,
    tokens_of,
)
from simulator.work.weights import linear_weights, normalisation_weights, table, vectors


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
    kept = finals * normalised(normed, models.hidden_size, scenarios, statistics=models.norm_statistics)
    norms = models.final_norms * models.norm_weight
    weights = norms * parameters.normalisation(models.hidden_size, bias=models.norm_bias)
    final_norm = stream(
        "final normalisation",
        "normalisation",
        StreamKind.FINAL_NORMALISATION,
        moved=(size * (2.0 + stacks.eager), size * (3.0 + stacks.eager)),
        launches=(finals, 2.0 * finals),
        reduces=True,
        kept=Holding(
            saved=kept + _encoded(scenarios, inputs),
            parameters=weights,
            partial_parameters=weights,
            weights=normalisation_weights(models.hidden_size, norms, bias=models.norm_bias),
            trained=workloads.tuning.base,
        ),
    )
    followed, outputs = _followed(scenarios, predicted, outputs)
    return [
        without_backward(final_norm, workloads.tuning.flows),
        *_map_back(scenarios, outputs),
        *_head_transform(scenarios, _transformed(scenarios, followed, outputs)),
        *_vocabulary_head(scenarios, followed, outputs),
        *_distillation(scenarios, followed),
        *_classes(scenarios, outputs),
        *_head_exchanges(scenarios, followed, outputs),
        *_memory_exchanges(scenarios, inputs),
    ]


def _followed(scenarios: Scenarios, predicted: Num, outputs: Tokens) -> tuple[Num, Tokens]:
    """What is predicted, and tokens behind the final normalisation: in serving the last ones of sequences alone."""
    work = scenarios.iterations
    if work is None:
        return predicted, outputs
    return work.sampled, replace(outputs, all=work.sampled, shared=work.sampled)


def predictions(scenarios: Scenarios) -> list[Operator]:
    """The vocabulary head of a decoder and its loss, of every token, with their exchanges."""
    tokens = tokens_of(scenarios, scenarios.workloads.sequence_length)
    return [*_vocabulary_head(scenarios, tokens.all, tokens), *_head_exchanges(scenarios, tokens.all, tokens)]


def _encoded(scenarios: Scenarios, inputs: Tokens) -> Num:
    """Bytes of the encoder's output, kept once for all layers of the decoder, unless each keeps casts of its own."""
    plans = scenarios.plans
    once = np.where(autocasts(scenarios) > 0.0, plans.keeps_inputs * stream_bytes(scenarios), plans.element_bytes)
    memory = activations.tensor(linear_input(inputs, scenarios), scenarios.models.hidden_size, element_bytes=once)
    return scenarios.models.encoder_decoder * _read_again(scenarios) * memory


def _read_again(scenarios: Scenarios) -> Num:
    """Whether the encoder's output is kept: for weights that read it, their adapters, or layers to recompute."""
    tuning = scenarios.workloads.tuning
    adapted = np.maximum(tuning.key, tuning.value) * (1.0 - np.asarray(tuning.drops))
    return np.maximum(np.maximum(tuning.base, adapted), scenarios.plans.keeps_inputs)


def _reads_shares(scenarios: Scenarios) -> Num:
    """Whether the vocabulary head reads the shared tokens itself; a masked-language head first picks from all."""
    return 1.0 - np.asarray(scenarios.models.masked)


def _map_back(scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """The linear map from the hidden size to the width of the words, of models that map the words alone."""
    models, element = scenarios.models, scenarios.plans.element_bytes
    used = np.where(np.asarray(models.maps_words) > 0, 1.0, 0.0)
    if not np.any(used):
        return []
    weights, tuning = used * parameters.linear(models.hidden_size, models.embedding_size), scenarios.workloads.tuning
    operator = product(
        "hidden size to embedding",
        "head",
        m=tokens.shared,
        k=models.hidden_size,
        n=models.embedding_size,
        count=used,
        element_bytes=element,
        launches=(used, used),
        wide=True,
        kept=Holding(
            saved=used * activations.tensor(tokens.shared, models.hidden_size, element_bytes=element),
            parameters=weights,
            partial_parameters=weights,
            weights=linear_weights(models.hidden_size, models.embedding_size, factors=(used,)),
        ),
    )
    return [without_backward(untrained(operator, tuning.base), tuning.flows)]


def _transformed(scenarios: Scenarios, predicted: Num, tokens: Tokens) -> Num:
    """Rows that pass the transform: of the words that are predicted, of whole sequences, or of all tokens."""
    models = scenarios.models
    classes = np.where(np.asarray(models.sequence_classes) > 0, scenarios.plans.micro_batch, tokens.all)
    return np.where(np.asarray(models.vocabulary_head) > 0, predicted, classes)


def _head_transform(scenarios: Scenarios, rows: Num) -> list[Operator]:
    """The linear map, activation and normalisation before a masked-language head, or before classes."""
    models, plans = scenarios.models, scenarios.plans
    element, used = plans.element_bytes, models.head_transform
    kept = activations.tensor(rows, models.hidden_size, element_bytes=element)
    width, with_norm = models.transform_width, models.transform_norm
    norm = normalised(rows, width, scenarios, statistics=models.norm_statistics)
    weights = with_norm * parameters.normalisation(width, bias=models.transform_norm_bias)
    linear = parameters.linear(models.hidden_size, width, bias=models.transform_bias)
    tensors = linear_weights(models.hidden_size, width, bias=models.transform_bias, factors=(used,))
    rectified = models.layers[0].feed_forward.rectified
    gate = activations.gate(rows, width, element_bytes=element, inputs=1.0, rectified=rectified)
    size = used * rows * width * element
    tuning = scenarios.workloads.tuning
    transform = product(
        "head transform",
        "head",
        m=rows,
        k=models.hidden_size,
        n=width,
        count=used,
        element_bytes=element,
        has_input_gradient=tuning.flows,
        launches=(used, used),
        wide=True,
        kept=Holding(saved=used * kept, parameters=used * linear, weights=tensors),
    )
    after = stream(
        "activation and normalisation of the head",
        "head",
        StreamKind.HEAD_TRANSFORM,
        moved=((2.0 + 2.0 * with_norm) * size, (3.0 + 3.0 * with_norm) * size),
        launches=(used * (1.0 + with_norm), used * (1.0 + 2.0 * with_norm)),
        kept=Holding(
            saved=used * (gate + with_norm * norm),
            parameters=used * weights,
            trained=tuning.head,
            weights=normalisation_weights(width, used, with_norm, bias=models.transform_norm_bias),
        ),
    )
    return [untrained(transform, tuning.head), after]


def _vocabulary_head(scenarios: Scenarios, rows: Num, tokens: Tokens) -> list[Operator]:
    """Logits over the vocabulary, and their cross-entropy in float32."""
    models, plans, tuning = scenarios.models, scenarios.plans, scenarios.workloads.tuning
    element, used = plans.element_bytes, models.vocabulary_head
    words = np.ceil(np.asarray(models.vocabulary_size) / plans.tp)
    own = np.where(np.asarray(models.tied_head) > 0, 0.0, 1.0)
    logits = used * rows * words
    kept = np.where(_reads_shares(scenarios) > 0, linear_input(tokens, scenarios), rows)
    product_of_words = product(
        "vocabulary head",
        "head",
        m=rows,
        k=models.embedding_size,
        n=words,
        count=used,
        has_input_gradient=_before(models.head_transform, tuning),
        padded=True,
        wide=True,
        element_bytes=element,
        launches=(used, used * 2.0),
        kept=Holding(
            saved=used * activations.tensor(kept, models.embedding_size, element_bytes=element),
            parameters=used * (own * models.embedding_size * words + models.head_bias * words),
            tied_parameters=used * (1.0 - own) * models.embedding_size * words,
            weights=(table(words, models.embedding_size, used, own), vectors(words, used, models.head_bias)),
        ),
    )
    return [
        # Made in pieces, the gradient of its input is kept in the place of that.
        untrained(product_of_words, tuning.head, saved=plans.chunked_loss * product_of_words.kept.saved),
        *_soft_cap(scenarios, logits),
        _cross_entropy(scenarios, used, rows, words) if scenarios.iterations is None else choice(scenarios, used),
    ]


def _cross_entropy(scenarios: Scenarios, used: Num, rows: Num, words: Num) -> Operator:
    """The loss of so many rows of logits, where there are any (`used` is 1)."""
    habits, workloads, element = loss_of(scenarios), scenarios.workloads, scenarios.plans.element_bytes
    loss, kernels = used * habits.saved_bytes(rows, words, element), used * (1.0 + 0.4 * habits.passes)
    terms = used * habits.of_terms(rows, words, z_loss=workloads.z_loss, smoothed=workloads.label_smoothing)
    return stream(
        "cross-entropy",
        "head",
        StreamKind.CROSS_ENTROPY,
        moved=habits.moved(used * rows * words, element),
        launches=(kernels, kernels),
        reduces=True,
        kept=Holding(saved=loss + terms, widest=loss),
    )


def _distillation(scenarios: Scenarios, rows: Num) -> list[Operator]:
    """Divergence from a teacher: its probabilities of all words in fp32, times the student's logarithms, added up.

    References
    ----------
    `ForwardKLLoss` of torchtune 0.6.1, torchtune/modules/loss/kd_losses.py.
    """
    frozen, stacks = scenarios.workloads.frozen, scenarios.stacks
    if frozen is None:
        return []
    words = np.ceil(np.asarray(scenarios.models.vocabulary_size) / scenarios.plans.tp)
    each = frozen.teaches * scenarios.models.vocabulary_head * rows * words
    keeps = np.where(np.asarray(frozen.keeps_logits) < 0.0, loss_of(scenarios).keeps, frozen.keeps_logits)
    kernels = frozen.teaches * (1.0 + stacks.eager)
    width = activations.STATISTIC_BYTES
    return [
        stream(
            "divergence from the teacher",
            "head",
            StreamKind.CROSS_ENTROPY,
            moved=(each * width * (2.0 + 2.0 * stacks.eager), each * width * 2.0),
            launches=(kernels, frozen.teaches),
            reduces=True,
            kept=Holding(saved=keeps * each * width),
        )
    ]


def _before(trained: Num, tuning: Tunings) -> Num:
    """Whether something before a product has a gradient: what is `trained` with the head, or the layers."""
    if isinstance(tuning.flows, float) and tuning.flows == 1.0:
        return 1.0
    return np.maximum(tuning.flows, trained * np.asarray(tuning.head))


def _soft_cap(scenarios: Scenarios, logits: Num) -> list[Operator]:
    """Division of the logits by the cap, tanh, which keeps its output, and multiplication."""
    used, stacks = scenarios.models.logits_capped, scenarios.stacks
    if not np.any(np.asarray(used) > 0.0):
        return []
    size = used * logits * scenarios.plans.element_bytes
    return [
        stream(
            "soft cap of logits",
            "head",
            StreamKind.ACTIVATION,
            moved=(2.0 * size + 4.0 * size * stacks.eager, 3.0 * size + 4.0 * size * stacks.eager),
            launches=(used * (1.0 + 2.0 * stacks.eager), used * (1.0 + 2.0 * stacks.eager)),
            kept=Holding(saved=loss_of(scenarios).keeps * size),
        )
    ]


def _classes(scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Classes of whole sequences (behind a pooler, or without pooler and bias in a decoder), and of single tokens."""
    models, plans = scenarios.models, scenarios.plans
    element, sequences, width = plans.element_bytes, plans.micro_batch, models.class_width

    tuning = scenarios.workloads.tuning
    # The transform is of words where there are any, else of classes.
    behind = models.head_transform * (1.0 - np.asarray(models.vocabulary_head))

    def linear(
        name: str, used: Num, rows: Num, outputs: Num, bias: Num = 1.0, *, predicts: bool = True, labels: Num = 0.0
    ) -> Operator:
        kept = activations.tensor(rows, width, element_bytes=element) + activations.tensor(
            rows, labels, element_bytes=4.0
        )
        kept = kept + flagged(activations.cross_entropy(rows, outputs), float(predicts))
        tensors = linear_weights(width, outputs, bias=bias, factors=(used,), kind="table" if predicts else "matrix")
        owned = parameters.linear(width, outputs, bias=bias)
        return product(
            name,
            "head",
            m=rows,
            k=width,
            n=outputs,
            count=used,
            element_bytes=element,
            has_input_gradient=_before(behind if predicts else 0.0, tuning),
            launches=(used, used * 2.0),
            wide=True,
            kept=Holding(saved=used * kept, parameters=used * owned, weights=tensors),
        )

    classified = np.minimum(models.sequence_classes, 1.0)
    spans = np.minimum(models.token_classes, 1.0)
    # The binary cross-entropy of a single class reads its labels as float32.
    of_one = np.where(np.asarray(models.token_classes) == 1.0, 1.0, 0.0)
    pooler = linear("pooler", models.pooler, sequences, width, predicts=False)
    return [
        without_backward(untrained(pooler, tuning.base), tuning.flows),
        linear("sequence classes", classified, sequences, models.sequence_classes, bias=models.class_bias),
        linear("token classes", spans, tokens.all, models.token_classes, labels=of_one),
    ]


def _head_exchanges(scenarios: Scenarios, rows: Num, tokens: Tokens) -> list[Operator]:
    """Gather of the head's input, reduction of its gradient, and of the softmax's sums over vocabulary shards.

    A masked-language head and the classes run alike on every rank, so that behind them only the product with the
    vocabulary shards leaves a gradient to reduce.
    """
    if not splits(scenarios):
        return []
    if scenarios.iterations is not None:
        return [gather_of_logits(scenarios)]
    models, plans, used = scenarios.models, scenarios.plans, scenarios.models.vocabulary_head
    message = tokens.all * models.hidden_size * plans.element_bytes
    picked = rows * models.embedding_size * plans.element_bytes
    reduces, shares = mode(scenarios)
    direct = used * shares * _reads_shares(scenarios)
    again = direct * scenarios.stacks.regathers_inputs
    each, flows = used * (reduces + shares), scenarios.workloads.tuning.flows
    listed = [
        tensor_exchange("all_reduce", "of the head", picked, scenarios, counts=(0.0, each - direct)),
        tensor_exchange("all_gather", "of the head", message, scenarios, counts=(shares, again)),
        tensor_exchange("reduce_scatter", "of the head", message, scenarios, counts=(0.0, direct)),
        tensor_exchange("all_reduce", "of softmax sums", 4.0 * rows, scenarios, counts=(3.0 * each, 0.0)),
    ]
    return [without_backward(operator, flows) for operator in listed]


def _memory_exchanges(scenarios: Scenarios, inputs: Tokens) -> list[Operator]:
    """Collectives around the encoder's output, which layers of the decoder share unless each gathers it again."""
    if not splits(scenarios) or not np.any(np.asarray(scenarios.models.encoder_decoder) > 0.0):
        return []
    models = scenarios.models
    message = inputs.all * models.hidden_size * scenarios.plans.element_bytes
    reduces, shares = (models.encoder_decoder * flag for flag in mode(scenarios))
    once = shares * (1.0 - np.asarray(scenarios.stacks.regathers_inputs))
    flows = scenarios.workloads.tuning.flows
    listed = [
        tensor_exchange("all_reduce", "of the encoder's output", message, scenarios, counts=(0.0, reduces)),
        tensor_exchange("all_gather", "of the encoder's output", message, scenarios, counts=(once, 0.0)),
        tensor_exchange("reduce_scatter", "of the encoder's output", message, scenarios, counts=(0.0, once)),
    ]
    return [without_backward(operator, flows) for operator in listed]
