"""Which kernels the named models run, as the simulator lists their operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simulator.formulas.typing import Num
from simulator.pricing.backend import CollectiveKind
from simulator.profiling.records.record import Case, Dtype
from simulator.specs.loading import load_stack
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.workload import Workload
from simulator.work.operators import FusedAttention, Gemm, Operator, Stream
from simulator.work.transformer import Scenarios, embedding, head, layer


@dataclass(frozen=True)
class Size:
    """How much of a model's work one device gets at once."""

    sequence_length: int
    micro_batch: int
    tp: int = 1


@dataclass
class Listing:
    """A backend that prices nothing, and notes what it was asked to price."""

    products: list[tuple[int, int, int, int]] = field(default_factory=list)
    """m, n, k and batch; of a product of the model that of its forward pass, and the two of its backward pass."""
    attentions: list[tuple[dict[str, int], bool]] = field(default_factory=list)
    """Dimensions, and whether it is the backward pass."""

    @property
    def name(self) -> str:
        """The backend's name."""
        return "listing"

    def gemm(
        self,
        m: Num,
        n: Num,
        *,
        k: Num,
        batch: Num,
        element_bytes: Num,
        weight_gradient: Num,
        alignment: Num = 1.0,
    ) -> Num:
        """Note a matrix product."""
        del element_bytes, alignment, weight_gradient
        self.products.append((_whole(m), _whole(n), _whole(k), _whole(batch)))
        return 0.0

    def attention(
        self,
        queries: Num,
        keys: Num,
        *,
        batch: Num,
        heads: Num,
        key_value_heads: Num,
        head_size: Num,
        causal: Num,
        backward: bool,
        portable: Num = 0.0,
    ) -> Num:
        """Note fused attention."""
        del portable
        sizes = {
            "batch": batch,
            "heads": heads,
            "kv_heads": key_value_heads,
            "head_size": head_size,
            "queries": queries,
            "keys": keys,
        }
        whole = {name: _whole(size) for name, size in sizes.items()}
        self.attentions.append(({**whole, "causal": int(np.any(np.asarray(causal) > 0))}, backward))
        return 0.0

    def stream(
        self,
        moved_bytes: Num,
        kernels: Num,
        *,
        reduces: bool,
        kind: str = "",
        backward: bool = False,
        drawn: Num = 0.0,
    ) -> Num:
        """Nothing: a stream's bytes do not tell its shape."""
        del moved_bytes, kernels, reduces, kind, backward, drawn
        return 0.0

    def collective(
        self, kind: CollectiveKind, message_bytes: Num, *, degree: Num, stride: Num, copies: Num = 1.0
    ) -> Num:
        """Nothing: collectives are measured at every size."""
        del kind, message_bytes, degree, stride, copies
        return 0.0

    def send(self, message_bytes: Num, *, degree: Num, stride: Num) -> Num:
        """Nothing, as before."""
        del message_bytes, degree, stride
        return 0.0

    def host_copy(self, moved_bytes: Num) -> Num:
        """Nothing: copies are measured at every size."""
        del moved_bytes
        return 0.0


def _whole(number: Num) -> int:
    """The whole number that a column holds, at least 1."""
    return max(round(float(np.asarray(number))), 1)


def cases_of(model: Model, size: Size, dtype: Dtype, backend: str) -> list[Case]:
    """The kernels of a model's layers, embedding and head, largest arithmetic first.

    Parameters
    ----------
    model
        The architecture.
    size
        Sequences, their length, and tensor-parallel ranks.
    dtype
        Of products and activations.
    backend
        Which kernel fuses attention.
    """
    found: dict[str, Case] = {}
    for attention in ("fused", "unfused"):
        scenarios = _scenarios(model, size, dtype, attention)
        for operator in _operators(scenarios):
            for case in _cases(operator, model, scenarios, size, dtype, backend):
                found.setdefault(case.key, case)
    return list(found.values())


def _scenarios(model: Model, size: Size, dtype: Dtype, attention: str) -> Scenarios:
    """The scenario in which one device does that much."""
    stack = load_stack("pytorch-eager").model_copy(update={"attention": attention, "axes": ("dp", "tp")})
    work = Workload(sequence_length=size.sequence_length, global_batch=size.micro_batch).resolve(model)
    precision: Any = dtype
    plan = Plan(dp=1, tp=size.tp, micro_batch=size.micro_batch, precision=precision, recompute="none")
    full = plan.with_defaults(stack).with_degrees(size.tp)
    return Scenarios(model.columns(), work.columns(), full.columns(work), stack.columns())


def _operators(scenarios: Scenarios) -> Iterator[Operator]:
    """Of one layer of each kind, the embedding and the head."""
    for group in scenarios.models.layers:
        yield from layer(group, scenarios)
    yield from embedding(scenarios)
    yield from head(scenarios)


def _cases(
    operator: Operator, model: Model, scenarios: Scenarios, size: Size, dtype: Dtype, backend: str
) -> Iterator[Case]:
    """What to measure for one operator; nothing where the model does not use it."""
    if isinstance(operator, Gemm) and _used(operator.count):
        yield from _products(operator, dtype)
    elif isinstance(operator, FusedAttention) and _used(operator.used):
        listing = Listing()
        operator.forward_time(listing)
        operator.backward_time(listing)
        for sizes, backward in listing.attentions:
            operation = "backward" if backward else "forward"
            yield Case(phase="attention", operation=operation, dimensions=sizes, dtype=dtype, variant=backend)
    elif isinstance(operator, Stream) and _used(operator.forward_bytes):
        name = operator.name
        for phase, operation, rows, columns in _STREAMS.get(name, lambda *_: [])(model, scenarios, size):
            sizes = {"rows": rows, "columns": columns}
            if operation == "embedding":
                sizes["words"] = -(-model.vocabulary_size // size.tp)
            yield Case(phase=phase, operation=operation, dimensions=sizes, dtype=dtype)
            if operation not in ("add", "dropout", "rotary"):
                yield Case(phase=phase, operation=f"{operation}_backward", dimensions=sizes, dtype=dtype)


_PADDING = 64
"""Frameworks pad vocabularies to multiples of this or more."""


def _used(number: Num) -> bool:
    return bool(np.any(np.asarray(number) > 0.0))


def _products(operator: Gemm, dtype: Dtype) -> Iterator[Case]:
    """The product of the forward pass, and the two of the backward pass."""
    listing = Listing()
    operator.forward_time(listing)
    operator.backward_time(listing)
    names = ("linear", "input_gradient", "weight_gradient")
    wide = _whole(operator.n) if operator.padded else 0
    for name, (*shape, batch) in zip(names, listing.products, strict=True):
        m, n, k = (-(-size // _PADDING) * _PADDING if size == wide else size for size in shape)
        sizes = {"m": m, "n": n, "k": k}
        if batch > 1 or not operator.has_weight:
            yield Case(phase="gemm", operation="batched", dimensions={**sizes, "batch": batch}, dtype=dtype)
        else:
            yield Case(phase="gemm", operation=name, dimensions=sizes, dtype=dtype)


Shapes = list[tuple[Any, str, int, int]]
"""Phase, operation, rows and columns."""


def _tokens(size: Size) -> int:
    return size.sequence_length * size.micro_batch


def _norms(model: Model, scenarios: Scenarios, size: Size) -> Shapes:
    del scenarios
    name = "rms_norm" if model.normalisation == "rmsnorm" else "layer_norm"
    return [("normalisation", name, _tokens(size), model.hidden_size)]


def _activation(model: Model, scenarios: Scenarios, size: Size) -> Shapes:
    del scenarios
    name = "silu_gate" if model.feed_forward == "gated" else "relu" if model.activation == "relu" else "gelu"
    return [("pointwise", name, _tokens(size), max(model.feed_forward_size // size.tp, 1))]


def _residual(model: Model, scenarios: Scenarios, size: Size) -> Shapes:
    del scenarios
    names = ("add", "dropout") if model.dropout else ("add",)
    return [("pointwise", name, _tokens(size), model.hidden_size) for name in names]


def _softmax(model: Model, scenarios: Scenarios, size: Size) -> Shapes:
    del scenarios
    heads = max(model.attention_heads // size.tp, 1)
    return [("normalisation", "softmax", size.micro_batch * heads * size.sequence_length, size.sequence_length)]


def _rotary(model: Model, scenarios: Scenarios, size: Size) -> Shapes:
    del scenarios
    heads = max(model.attention_heads // size.tp, 1)
    return [("pointwise", "rotary", _tokens(size) * heads, model.width_of_head)]


def _embedding(model: Model, scenarios: Scenarios, size: Size) -> Shapes:
    del scenarios
    return [("pointwise", "embedding", _tokens(size), model.embedding_size or model.hidden_size)]


def _cross_entropy(model: Model, scenarios: Scenarios, size: Size) -> Shapes:
    predicted = float(np.asarray(scenarios.workloads.predictions)) * size.micro_batch
    rows = _whole(predicted) if model.objective == "mlm" else _tokens(size)
    return [("normalisation", "cross_entropy", rows, -(-model.vocabulary_size // size.tp))]


_STREAMS: dict[str, Callable[[Model, Scenarios, Size], Shapes]] = {
    "normalisation": _norms,
    "activation function": _activation,
    "dropout and residual": _residual,
    "softmax and dropout": _softmax,
    "rotary positions": _rotary,
    "embedding": _embedding,
    "cross-entropy": _cross_entropy,
}
"""What the streams of the simulator's operators are, by their names."""
