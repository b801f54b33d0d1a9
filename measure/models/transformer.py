"""The whole reference module: embedding, towers, head and loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from measure.models.attention import dropped
from measure.models.feed_forward import activated
from measure.models.layer import Tower
from measure.models.multi_token import FurtherModules
from measure.models.normalisation import norm
from measure.models.parallel import ShardedCrossEntropy, ShardedEmbedding
from measure.models.setting import DROPOUT, Setting
from simulator.specs.model import Model


@dataclass(frozen=True)
class Batch:
    """One micro-batch: indices only. Sequences come first; what a model does not use is absent."""

    tokens: Tensor
    labels: Tensor
    """Words to predict: of every position, or of the masked ones only."""
    masked: Tensor | None = None
    """Where they are, counted through tokens x sequences."""
    types: Tensor | None = None
    targets: Tensor | None = None
    """Input of the decoder."""
    classes: Tensor | None = None
    """Class of each sequence."""
    spans: Tensor | None = None
    """First and last token of each sequence's answer."""


_OF_SEQUENCES = ("classification", "multiple-choice", "next-sentence")


class Embedding(nn.Module):
    """Embedding of words, positions and token types, with its normalisation and dropout.

    The second tower of an encoder-decoder uses the words of the first, and has its own positions and normalisation.
    """

    def __init__(self, model: Model, setting: Setting, words: nn.Module | None = None) -> None:
        super().__init__()
        self.split, self.dropout = setting.split, DROPOUT if model.dropout else 0.0
        width, factory = model.embedding_size or model.hidden_size, setting.factory
        rows = setting.words(model)
        split = setting.split
        self.words: Any = words
        if words is None:
            sharded = split.degree > 1
            self.words = (
                ShardedEmbedding(rows, width, split, **factory) if sharded else nn.Embedding(rows, width, **factory)
            )
        learned = model.positions == "learned" and model.position_rows > 0
        self.maps_words = model.maps_words
        summed = model.hidden_size if model.maps_words else width
        self.positions = nn.Parameter(torch.randn(model.position_rows, summed, **factory) * 0.02) if learned else None
        self.types = nn.Embedding(model.token_types, width, **factory) if model.token_types else None
        for table in (*(() if words is not None else (self.words.weight,)), *_own(self.types)):
            nn.init.normal_(table, std=0.02)
        self.norm = norm(model, width, setting) if model.embedding_norm else nn.Identity()
        self.map: nn.Module = nn.Identity()
        if model.embedding_size is not None:
            self.map = nn.Linear(width, model.hidden_size, bias=not model.maps_words, **factory)

    def forward(self, tokens: Tensor, types: Tensor | None = None) -> Tensor:
        """From ids of sequences x tokens to hidden states of tokens x sequences x width."""
        hidden = self.split.join(self.words(tokens.t()))
        rows = hidden.shape[0]
        first = self.split.rank * rows if self.split.sequence_parallel else 0
        if self.maps_words:
            hidden = self.map(dropped(self.norm(hidden), self.dropout, training=self.training))
        if self.positions is not None:
            hidden = hidden + self.positions[first : first + rows].unsqueeze(1)
        if self.maps_words:
            return hidden
        if self.types is not None and types is not None:
            hidden = hidden + self.types(types.t()[first : first + rows])
        return self.map(dropped(self.norm(hidden), self.dropout, training=self.training))


class Head(nn.Module):
    """Prediction of words, of a class of each sequence, or of a span of tokens, and its loss."""

    def __init__(self, model: Model, setting: Setting, words: nn.Module) -> None:
        super().__init__()
        self.model, self.split, self.all_positions = model, setting.split, setting.all_positions
        hidden, factory = model.hidden_size, setting.factory
        width = model.embedding_size or hidden
        predicts = model.objective in ("causal", "mlm", "seq2seq")
        classifies = model.objective in _OF_SEQUENCES or (predicts and model.pooler)
        transforms = model.head_transform and (predicts or (model.transforms_classes and model.objective != "encoding"))
        pools = classifies and model.kind != "decoder" and not (transforms and model.transforms_classes)
        pools = pools or (model.objective == "encoding" and model.pooler)
        self.cap = model.logit_cap
        self.back = nn.Linear(hidden, width, bias=False, **factory) if model.maps_words else nn.Identity()
        self._add_transform(model, setting, hidden, (width if predicts else hidden) if transforms else 0)
        self.words: Any = (
            nn.Linear(width, setting.words(model), bias="head" in model.biases, **factory) if predicts else None
        )
        if self.words is not None and model.tied_head:
            self.words.weight = words.weight
        self.pooler = nn.Linear(hidden, hidden, **factory) if pools else None
        told = width if model.maps_words else hidden
        sequences = {"multiple-choice": 1, "next-sentence": 2}.get(model.objective, model.classes)
        biased = model.kind != "decoder"
        self.classes = nn.Linear(told, sequences, bias=biased, **factory) if classifies else None
        self.spans = nn.Linear(told, 2, **factory) if model.objective == "span" else None
        of_tokens = model.objective == "token-classification"
        self.tokens = nn.Linear(told, model.classes, **factory) if of_tokens else None

    def _add_transform(self, model: Model, setting: Setting, hidden: int, width: int) -> None:
        """The map, and the normalisation behind it; none where `width` is 0."""
        parts, factory = model.transform_parts, setting.factory
        self.transform = nn.Linear(hidden, width, bias="bias" in parts, **factory) if width else None
        biased = "normalisation_bias" in parts
        self.norm: nn.Module = nn.Identity()
        if width and "normalisation" in parts:
            # Heads of masked-language models normalise by LayerNorm whatever their layers do.
            self.norm = nn.LayerNorm(width, bias=biased, **factory)

    def _transformed(self, rows: Tensor) -> Tensor:
        """Rows through the map, the activation function and the normalisation."""
        if self.transform is None:
            return rows
        return self.norm(activated(self.transform(rows), self.model, "plain"))

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """From the last hidden states of tokens x sequences x width to the loss."""
        losses = []
        hidden = self.back(hidden)
        if self.model.objective in ("causal", "seq2seq") and self.words is not None:
            losses.append(self._every_word(hidden, batch.labels))
        else:
            hidden = self.split.gather(hidden)
        if self.model.objective == "mlm":
            losses.append(self._masked_words(hidden, batch))
        if self.classes is not None:
            # A copy: a view of one token of each sequence would keep all hidden states alive.
            pooled = hidden[-1 if self.model.kind == "decoder" else 0].clone()
            if self.model.transforms_classes:
                pooled = self._transformed(pooled)
            if self.pooler is not None:
                pooled = torch.tanh(self.pooler(pooled))
            losses.append(self._of_sequences(self.classes(pooled), batch))
        if self.spans is not None and batch.spans is not None:
            logits = self.spans(hidden).float().permute(2, 1, 0)
            losses += [functional.cross_entropy(ends, wanted) for ends, wanted in zip(logits, batch.spans, strict=True)]
        if self.tokens is not None:
            logits = self.tokens(self._transformed(hidden)).float().flatten(0, 1)
            losses.append(_of_classes(logits, batch.labels.t().flatten()))
        if self.model.objective == "encoding":
            losses.append((hidden if self.pooler is None else self.pooler(hidden[0].clone())).sum())
        return torch.stack(losses).sum()

    def _of_sequences(self, logits: Tensor, batch: Batch) -> Tensor:
        """Loss of the classes of sequences, or of the right one of all sequences that were given to choose from."""
        logits = logits.float()
        if self.model.objective == "multiple-choice" and batch.classes is not None:
            return functional.cross_entropy(logits.t(), batch.classes[:1])
        return functional.cross_entropy(logits, batch.classes)

    def _every_word(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Loss of a word at each position."""
        (logits,) = self.split.enter(hidden, [self.words])
        return self._loss(logits.flatten(0, 1), labels.t().flatten())

    def _masked_words(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Loss of the words at masked positions; every rank runs the transform alike."""
        rows = hidden.flatten(0, 1)
        labels = batch.labels.flatten()
        if not self.all_positions:
            rows = rows.index_select(0, batch.masked)
        return self._loss(self.words(self.split.copy(self._transformed(rows))), labels)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy in float32, over the ranks' parts of the vocabulary."""
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        if self.split.degree > 1:
            return ShardedCrossEntropy.apply(self.split, logits.float(), labels).mean()
        return functional.cross_entropy(logits.float(), labels)


class Transformer(nn.Module):
    """A model of a specification, with the parameters and products that the specification says."""

    def __init__(self, model: Model, setting: Setting) -> None:
        super().__init__()
        self.split, self.tied = setting.split, model.tied_head
        self.holders = max(setting.split.degree // model.kv_heads, 1)
        self.embedding = Embedding(model, setting)
        self.tower = Tower(model, setting)
        self.decoder, self.targets = None, self.embedding
        if model.kind == "encoder-decoder":
            self.decoder = Tower(model, setting, decoder=True)
            if self.embedding.positions is not None or model.embedding_norm:
                self.targets = Embedding(model, setting, self.embedding.words)
        self.head = Head(model, setting, self.embedding.words)
        further = model.multi_token_modules if setting.multi_token else 0
        self.further = FurtherModules(model, setting) if further else None

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        hidden = self.tower(self.embedding(batch.tokens, batch.types))
        if self.decoder is not None:
            hidden = self.decoder(self.targets(batch.targets), hidden)
        loss: Tensor = self.head(hidden, batch)
        if self.further is None:
            return loss
        read = self.further(hidden, lambda: self.embedding(batch.tokens), lambda states: self.head(states, batch))
        return torch.stack([loss, *read]).sum()

    def loss(self, batch: Batch) -> Tensor:
        """The loss of a batch, which `backward` may be called on."""
        return self(batch)

    def finish_gradients(self) -> None:
        """Add up the gradients that tensor-parallel ranks have parts of, once all micro-batches have run backward.

        With their own tokens each, ranks have a part of the gradients of normalisations, of biases added after a
        product of all ranks, and of what the embedding adds; and where several hold a copy of a key and value head,
        each has the part of its own query heads.
        """
        layers = [layer for tower in (self.tower, self.decoder) if tower is not None for layer in tower.layers]
        if self.split.degree > 1 and self.split.sequence_parallel:
            sums = dict.fromkeys((self.embedding, self.targets))
            beside = [part for each in sums for part in (each.positions, *_own(each.types, each.norm, each.map))]
            finals = [tower.final_norm for tower in (self.tower, self.decoder) if tower is not None]
            shared = [parameter for parameter in beside if parameter is not None] + _own(*finals)
            for layer in layers:
                shared += layer.after_products()
            self.split.add_up([parameter.grad for parameter in shared if parameter.grad is not None])
        if self.holders > 1:
            self.split.add_up([part for layer in layers for part in layer.copied_gradients()], self.holders)


def _of_classes(logits: Tensor, labels: Tensor) -> Tensor:
    """Loss of one class of many, or of a yes or no where there is one logit, such as of replaced tokens."""
    classes = logits.shape[1]
    if classes > 1:
        return functional.cross_entropy(logits, labels % classes)
    return functional.binary_cross_entropy_with_logits(logits.squeeze(1), (labels % 2).float())


def _own(*modules: nn.Module | None) -> list[nn.Parameter]:
    """Parameters of modules, of those that there are."""
    return [parameter for module in modules if module is not None for parameter in module.parameters()]


def build(model: Model, setting: Setting) -> Transformer:
    """Build the reference module of a specification, or the part of it that one tensor-parallel rank holds.

    Parameters
    ----------
    model
        The architecture.
    setting
        Device, precision, kernels, recomputation and split.

    Raises
    ------
    ValueError
        Where the architecture has a part that is not built.
    """
    if setting.fused_attention and (
        model.sliding_window
        or model.window_pattern
        or model.positions == "transformer-xl"
        or model.position_products
        or model.score_cap
        or model.attention_sinks
    ):
        raise ValueError(f"{model.id}: fused attention is built for whole sequences and plain scores")
    return Transformer(model, setting)


def random_batch(model: Model, setting: Setting, sequences: int, *, predictions: int = 0, seed: int = 0) -> Batch:
    """Make a batch of random ids; on the meta device, its shapes.

    Parameters
    ----------
    model
        The architecture.
    setting
        Lengths of sequences, and the device.
    sequences
        Sequences of the batch.
    predictions
        Masked positions of a sequence, of masked-language models.
    seed
        Of the random numbers.
    """
    device = setting.device
    generator = None if device == "meta" else torch.Generator(device).manual_seed(seed)

    def ids(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, device=device, generator=generator)

    length, targets = setting.sequence_length, setting.target_length
    vocabulary = model.vocabulary_size
    masks = model.objective == "mlm" and not setting.all_positions
    labels = (sequences, predictions) if masks else (sequences, targets or length)
    return Batch(
        tokens=ids(vocabulary, sequences, length),
        labels=ids(vocabulary, *labels),
        masked=ids(sequences * length, sequences * predictions) if masks else None,
        types=ids(model.token_types, sequences, length) if model.token_types else None,
        targets=ids(vocabulary, sequences, targets) if targets else None,
        classes=ids({"multiple-choice": sequences, "next-sentence": 2}.get(model.objective, model.classes), sequences),
        spans=ids(length, 2, sequences),
    )
