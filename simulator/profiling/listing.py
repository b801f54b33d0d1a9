"""Which kernels the named models run, as the simulator lists their operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.formulas.typing import Num
from simulator.pricing.requests import FusedAttention, MatrixProduct, Stream, StreamKind
from simulator.profiling.records.record import Case, Dtype
from simulator.specs.loading import load_stack
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.workload import Workload
from simulator.work.program import program_of
from simulator.work.tasks import Phase, Task
from simulator.work.transformer import Scenarios


@dataclass(frozen=True)
class Size:
    """How much of a model's work one device gets at once."""

    sequence_length: int
    micro_batch: int
    tp: int = 1


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
    cases: dict[str, Case] = {}
    for attention in ("fused", "unfused"):
        scenarios = _scenarios(model, size, dtype, attention)
        for block in program_of(scenarios).blocks:
            for task in block.tasks:
                if np.any(np.asarray(task.count) > 0.0):
                    for case in _cases(task, model, scenarios, size, dtype, backend):
                        cases.setdefault(case.key, case)
    return list(cases.values())


def _scenarios(model: Model, size: Size, dtype: Dtype, attention: str) -> Scenarios:
    """The scenario in which one device does that much."""
    stack = load_stack("pytorch-eager").model_copy(update={"axes": ("dp", "tp")})
    work = Workload(sequence_length=size.sequence_length, global_batch=size.micro_batch).resolve(model)
    kinds: dict[str, Any] = {"precision": dtype, "attention": attention}
    plan = Plan(dp=1, tp=size.tp, micro_batch=size.micro_batch, recompute="none", **kinds)
    full = plan.with_defaults(stack).with_degrees(size.tp)
    return Scenarios(model.columns(), work.columns(), full.columns(work), stack.columns())


def _cases(task: Task, model: Model, scenarios: Scenarios, size: Size, dtype: Dtype, backend: str) -> Iterator[Case]:
    """What to measure for one task; collectives and copies are measured at every size, not at a model's."""
    match task.request:
        case MatrixProduct() as asked:
            yield _product(asked, task.phase, model, size, dtype)
        case FusedAttention() as asked:
            operation = "backward" if asked.backward else "forward"
            yield Case(phase="attention", operation=operation, dimensions=_sizes(asked), dtype=dtype, variant=backend)
        case Stream() as asked if not asked.backward and np.any(np.asarray(asked.moved_bytes) > 0.0):
            shapes = _STREAMS.get(asked.kind)
            for phase, operation, rows, columns in shapes(model, scenarios, size) if shapes else ():
                sizes = {"rows": rows, "columns": columns}
                if operation == "embedding":
                    sizes["words"] = -(-model.vocabulary_size // size.tp)
                yield Case(phase=phase, operation=operation, dimensions=sizes, dtype=dtype)
                if operation not in ("add", "dropout", "rotary"):
                    yield Case(phase=phase, operation=f"{operation}_backward", dimensions=sizes, dtype=dtype)


def _sizes(asked: FusedAttention) -> dict[str, int]:
    """Dimensions of a case of attention."""
    sizes = {
        "batch": asked.batch,
        "heads": asked.heads,
        "kv_heads": asked.key_value_heads,
        "head_size": asked.mean_head_size,
        "queries": asked.queries,
        "keys": asked.keys,
    }
    whole = {name: _whole(size) for name, size in sizes.items()}
    return {**whole, "causal": int(np.any(np.asarray(asked.causal) > 0))}


_PADDING = 64
"""Frameworks pad vocabularies to multiples of this or more."""


def _product(asked: MatrixProduct, phase: Phase, model: Model, size: Size, dtype: Dtype) -> Case:
    """The product of the forward pass, or one of the two of the backward pass."""
    wide = -(-model.vocabulary_size // size.tp) if asked.padded else 0
    m, n, k, batch = (_whole(each) for each in (asked.m, asked.n, asked.k, asked.batch))
    m, n, k = (-(-each // _PADDING) * _PADDING if each == wide else each for each in (m, n, k))
    sizes = {"m": m, "n": n, "k": k}
    if batch > 1 or not asked.of_weight:
        return Case(phase="gemm", operation="batched", dimensions={**sizes, "batch": batch}, dtype=dtype)
    back = "weight_gradient" if asked.weight_gradient else "input_gradient"
    operation = "linear" if phase is Phase.FORWARD else back
    return Case(phase="gemm", operation=operation, dimensions=sizes, dtype=dtype)


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


_STREAMS: dict[StreamKind, Callable[[Model, Scenarios, Size], Shapes]] = {
    StreamKind.NORMALISATION: _norms,
    StreamKind.ACTIVATION: _activation,
    StreamKind.GATED_ACTIVATION: _activation,
    StreamKind.RESIDUAL: _residual,
    StreamKind.SOFTMAX: _softmax,
    StreamKind.ROTARY: _rotary,
    StreamKind.EMBEDDING: _embedding,
    StreamKind.CROSS_ENTROPY: _cross_entropy,
}
"""What the streams of the simulator's operators are."""
