"""The tensors of a transformer on one device, listed one by one in plain Python for an independent check of memory.

Nothing of `simulator.work` or `simulator.step` is used, and of `simulator.formulas` only how many tokens the busiest of
the ranks that share experts receives, which is an expectation and no tensor. Shapes are those of the modules in
Megatron-LM and torch, and of which ones a backward pass needs those of Korthikanti et al., arXiv 2205.05198, section 4.
What software does in its own way (which copies it keeps, what it fuses) is read from the sheet of the stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod
from typing import NamedTuple

from simulator.formulas.flops import busiest_rank
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

_FULL, _MASK = 4, 1
"""Bytes of fp32 and of an entry of a dropout mask."""


class Weight(NamedTuple):
    """A parameter tensor of one device."""

    name: str
    shape: tuple[int, ...]
    of_experts: bool = False
    of_product: bool = True
    """Whether automatic casts keep it in 16 bits besides."""

    @property
    def size(self) -> int:
        return prod(self.shape)


class Kept(NamedTuple):
    """A tensor that waits for the backward pass."""

    name: str
    numbers: float
    width: float
    """Bytes of each."""
    in_scores: bool = False
    """Whether it belongs to the matrix of scores, which selective recomputation drops."""

    @property
    def bytes(self) -> float:
        return self.numbers * self.width


@dataclass(frozen=True)
class Setting:
    """What is trained, and how."""

    model: Model
    plan: Plan
    stack: Stack
    work: Workload

    @property
    def tp(self) -> int:
        return self.plan.tp or 1

    @property
    def etp(self) -> int:
        """Ranks that split each expert."""
        return self.plan.etp or self.tp

    @property
    def element(self) -> int:
        """Bytes of an activation."""
        return _FULL if self.plan.precision in ("fp32", "tf32") else 2

    @property
    def casts(self) -> bool:
        """Whether the model is in fp32 and each product casts what it reads."""
        return self.stack.autocast and bool(self.plan.parameters_in_fp32) and self.element < _FULL

    @property
    def stream(self) -> int:
        """Bytes of an element of the residual stream."""
        return _FULL if self.casts else self.element

    @property
    def tokens(self) -> int:
        """Of one micro-batch on one device."""
        return (self.plan.micro_batch or 1) * (self.work.sequence_length or 0) // (self.plan.cp or 1)

    @property
    def shared(self) -> float:
        """Those that normalisations and dropouts see, where tensor-parallel ranks share them."""
        return self.tokens / self.tp if self.plan.sequence_parallel else self.tokens

    @property
    def received(self) -> float:
        """Those that the experts of the busiest rank receive: of its ranks that split them, each to several experts."""
        assert not self.work.capacity_factor
        assert not self.stack.capacity_factor
        model, imbalance = self.model, self.work.expert_imbalance or 1.0
        busiest = float(busiest_rank(imbalance, model.experts, ranks=self.plan.ep or 1))
        return self.tokens / self.tp * self.etp * model.experts_per_token * busiest

    @property
    def read(self) -> float:
        """Those that are kept of what a column-parallel product reads: it gathers the others again, or keeps all."""
        return self.shared if self.stack.regathers_inputs else self.tokens

    @property
    def words(self) -> int:
        """Rows of a table of words on one rank, whose last one is padded."""
        return ceil(self.model.vocabulary_size / self.tp)

    @property
    def heads(self) -> tuple[int, int]:
        """Width of all query heads of a rank, and of its key heads; few of these are copied."""
        own = max(self.model.kv_heads // self.tp, 1)
        return self.model.attention_heads // self.tp * self.model.width_of_head, own * self.model.width_of_head


def _linear(name: str, rows: int, columns: int, *, bias: bool, of_experts: bool = False) -> Iterator[Weight]:
    yield Weight(name, (rows, columns), of_experts)
    if bias:
        yield Weight(f"{name} bias", (columns,), of_experts)


def _norm(name: str, width: int, model: Model, *, bias: bool | None = None) -> Iterator[Weight]:
    yield Weight(f"{name} scale", (width,), of_product=False)
    if "normalisation" in model.biases if bias is None else bias:
        yield Weight(f"{name} shift", (width,), of_product=False)


def norms_of(model: Model) -> int:
    return model.norms_per_layer or (1 if model.block == "parallel" else 2)


def weights_of_layer(of: Setting, index: int) -> Iterator[Weight]:
    """Of one layer on one rank."""
    model, width = of.model, of.model.hidden_size
    queries, keys = of.heads
    for number in range(norms_of(model)):
        yield from _norm(f"norm {number}", width, model)
    for name, columns in (("query", queries), ("key", keys), ("value", keys)):
        yield from _linear(name, width, columns, bias="qkv" in model.biases)
    if model.query_key_norm != "none":
        assert model.query_key_norm == "shared"
        yield from _norm("query norm", model.width_of_head, model)
        yield from _norm("key norm", model.width_of_head, model)
    if model.attention_sinks:
        yield Weight("sinks", (model.attention_heads // of.tp,), of_product=False)
    yield from _linear("attention output", queries, width, bias="attention_output" in model.biases)
    bias = "feed_forward" in model.biases
    if not model.kind_of_layer(index).has_experts:
        yield from _feed_forward("", model.feed_forward, model.feed_forward_size // of.tp, width, bias=bias)
        return
    yield from _linear("router", width, model.experts, bias="router" in model.biases)
    form = model.expert_feed_forward or model.feed_forward
    inner = model.expert_feed_forward_size or model.feed_forward_size
    for expert in range(model.experts // (of.plan.ep or 1)):
        yield from _feed_forward(f"expert {expert} ", form, inner // of.etp, width, bias=bias, of_experts=True)
    for expert in range(model.shared_experts):
        yield from _feed_forward(f"shared expert {expert} ", form, inner // of.tp, width, bias=bias)


def _feed_forward(
    name: str, form: str, inner: int, width: int, *, bias: bool, of_experts: bool = False
) -> Iterator[Weight]:
    for into in ("up", "gate") if form == "gated" else ("up",):
        yield from _linear(name + into, width, inner, bias=bias, of_experts=of_experts)
    yield from _linear(f"{name}down", inner, width, bias=bias, of_experts=of_experts)


def weights_of_embedding(of: Setting) -> Iterator[Weight]:
    """Of the embedding on one rank of the first stage."""
    model = of.model
    assert model.embedding_size is None
    width = model.hidden_size
    yield Weight("words", (of.words, width), of_product=False)
    if model.positions == "learned":
        yield Weight("positions", (model.position_rows, width), of_product=False)
    if model.token_types:
        yield Weight("token types", (model.token_types, width), of_product=False)
    if model.embedding_norm:
        yield from _norm("embedding norm", width, model)


def weights_of_head(of: Setting, *, has_words: bool) -> Iterator[Weight]:
    """Of what follows the layers on one rank of the last stage, which may have the words of a tied embedding."""
    model, width = of.model, of.model.hidden_size
    if model.norm_position == "pre":
        yield from _norm("final norm", width, model)
    if model.head_transform:
        yield from _linear("head transform", width, width, bias=True)
        yield from _norm("head norm", width, model, bias=True)
    if not model.tied_head:
        yield Weight("head", (of.words, width))
    elif not has_words:
        yield Weight("copy of the words", (of.words, width))
    if "head" in model.biases:
        yield Weight("head bias", (of.words,))
    if model.pooler:
        yield from _linear("pooler", width, width, bias=True)
        yield from _linear("classes", width, model.classes, bias=True)


def kept_of_layer(of: Setting, index: int) -> Iterator[Kept]:
    """What one layer keeps of a micro-batch where nothing is recomputed."""
    model, width, element = of.model, of.model.hidden_size, of.element
    statistics = 2 if model.normalisation == "layernorm" else 1
    one_input = model.block == "parallel"
    for number in range(norms_of(model)):
        if not (one_input and number):
            yield Kept(f"input of norm {number}", of.shared * width, of.stream)
        yield Kept(f"statistics of norm {number}", of.shared * statistics, _FULL)
    yield from _attention(of, shares_input=one_input)
    for place in ("attention", "feed-forward") if model.dropout else ():
        yield Kept(f"mask after {place}", of.shared * width, _MASK)
    if model.kind_of_layer(index).has_experts:
        yield from _experts(of)
        return
    yield Kept("input of feed-forward", of.read * width, element)
    yield from _between(of, "", model.feed_forward, of.tokens, model.feed_forward_size / of.tp)


def _attention(of: Setting, *, shares_input: bool) -> Iterator[Kept]:
    """Projections, scores and output; halves of a parallel block keep one input, which the feed-forward layer lists."""
    model, width, element = of.model, of.model.hidden_size, of.element
    statistics = 2 if model.normalisation == "layernorm" else 1
    queries, keys = of.heads
    copies = 3 if of.casts and not of.stack.fused_qkv else 1
    for number in range(0 if shares_input else copies):
        yield Kept(f"input of queries, keys and values {number}", of.read * width, element)
    for name, columns in (("queries", queries), ("keys", keys), ("values", keys)):
        yield Kept(name, of.tokens * columns, element)
    heads = model.attention_heads / of.tp
    if model.query_key_norm != "none":
        yield Kept("inputs of norms of queries and keys", of.tokens * (queries + keys), of.stream)
        of_heads = heads + keys / model.width_of_head
        yield Kept("statistics of norms of queries and keys", of.tokens * of_heads * statistics, _FULL)
    if of.stack.attention == "fused":
        yield Kept("logarithms of sums of scores", of.tokens * heads, _FULL)
    else:
        pairs = of.tokens * heads * (of.work.sequence_length or 0)
        yield Kept("softmax", pairs, _FULL if of.casts else element, True)
        if model.dropout:
            yield Kept("mask of scores", pairs, _MASK, True)
        if model.dropout or of.casts:
            yield Kept("factors of values", pairs, element, True)
    yield Kept("input of attention output", of.tokens * queries, element)


def _experts(of: Setting) -> Iterator[Kept]:
    """Routed tokens before and after the experts, each sent to several, and what the experts keep between."""
    model, width, element, chosen = of.model, of.model.hidden_size, of.element, of.model.experts_per_token
    assert not model.shared_experts
    yield Kept("input of router", of.shared * width, element)
    yield Kept("shares of experts", of.shared * model.experts, _FULL)
    # Weights that scale inside of the experts spare what comes back, of which only they would need the gradient.
    inside = of.stack.expert_weights == "activations"
    yield Kept("weights of the chosen", of.shared * chosen, _FULL if inside else element)
    yield Kept("tokens at the experts", of.received * width, element)
    form = model.expert_feed_forward or model.feed_forward
    inner = (model.expert_feed_forward_size or model.feed_forward_size) / of.etp
    yield from _between(of, "experts' ", form, of.received, inner)
    if inside and not of.stack.fused_gate:
        yield Kept("activation before its weight", of.received * inner, element)
    if not inside:
        yield Kept("tokens on their way back", of.shared * chosen * width, element)


def _between(of: Setting, name: str, form: str, rows: float, inner: float) -> Iterator[Kept]:
    """Between the two products of a feed-forward layer."""
    element, plain = of.element, form != "gated"
    names = ["product with the gate"]
    if not plain:
        names += ["gate before its activation", "up"] + ([] if of.stack.fused_gate else ["gate after its activation"])
    elif of.model.activation != "relu":
        names += ["input of activation"]
    names += [f"factor {number} of activation" for number in range(round(of.stack.activation_copies))]
    for each in names:
        yield Kept(name + each, rows * inner, element)


def kept_of_embedding(of: Setting) -> Iterator[Kept]:
    model, width = of.model, of.model.hidden_size
    if model.embedding_norm:
        yield Kept("input of embedding norm", of.shared * width, of.stream)
        yield Kept("statistics of embedding norm", of.shared * (2 if model.normalisation == "layernorm" else 1), _FULL)
    if model.dropout:
        yield Kept("mask of the embedding", of.shared * width, _MASK)


def kept_of_head(of: Setting) -> Iterator[Kept]:
    model, width, element = of.model, of.model.hidden_size, of.element
    statistics, batch = 2 if model.normalisation == "layernorm" else 1, of.plan.micro_batch or 1
    if model.norm_position == "pre":
        yield Kept("input of final norm", of.shared * width, of.stream)
        yield Kept("statistics of final norm", of.shared * statistics, _FULL)
    if model.head_transform:
        rows = predicted(of)
        yield Kept("input of head transform", rows * width, element)
        yield Kept("input of its activation", rows * width, element)
        yield Kept("input of its norm", rows * width, of.stream)
        yield Kept("statistics of its norm", rows * statistics, _FULL)
    yield Kept("input of head", (predicted(of) if model.objective == "mlm" else of.read) * width, element)
    if of.stack.keeps_logits:
        yield logits(of)
    if model.pooler:
        yield Kept("first tokens", batch * width, element)
        yield Kept("pooled", batch * width, element)
        yield Kept("likelihoods of classes", batch * model.classes, _FULL)


def predicted(of: Setting) -> float:
    """Tokens whose words are predicted."""
    if of.model.objective == "mlm" and of.stack.head_positions == "masked":
        return (of.plan.micro_batch or 1) * (of.work.predictions or 0) / (of.plan.cp or 1)
    return of.tokens


def logits(of: Setting) -> Kept:
    return Kept("logits", predicted(of) * of.words, _FULL)
