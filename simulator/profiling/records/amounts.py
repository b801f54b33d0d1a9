"""What one call of a case does: arithmetic, bytes that it must move, and memory that it needs.

Only dimensions enter, so that a plan can be priced before anything is run, and a time that is impossible be refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulator.profiling.records.record import Case, Dtype

ELEMENT_BYTES: dict[Dtype, int] = {"none": 1, "fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2}


@dataclass(frozen=True)
class Amounts:
    """Arithmetic [FLOP], traffic [B] and the like of one call of a kernel."""

    flops: float = 0.0
    """Arithmetic of matrix products [FLOP]; of other kernels none is counted."""
    bytes: float = 0.0
    """The least that it reads and writes [B]."""
    footprint: float = 0.0
    """Memory of one set of its buffers [B]."""


STREAMS: dict[str, tuple[float, float]] = {
    "add": (3.0, 0.0),
    "dropout": (2.0, 1.0),
    "gelu": (2.0, 0.0),
    "gelu_backward": (3.0, 0.0),
    "relu": (2.0, 0.0),
    "relu_backward": (3.0, 0.0),
    "silu_gate": (3.0, 0.0),
    "silu_gate_backward": (5.0, 0.0),
    "rotary": (2.0, 0.0),
    "cast": (1.0, 4.0),
    "layer_norm": (2.0, 0.0),
    "layer_norm_backward": (3.0, 0.0),
    "rms_norm": (2.0, 0.0),
    "rms_norm_backward": (3.0, 0.0),
    "softmax": (2.0, 0.0),
    "softmax_backward": (3.0, 0.0),
    "cross_entropy": (1.0, 8.0),
    "cross_entropy_backward": (1.0, 8.0),
    "embedding": (2.0, 0.0),
    "embedding_backward": (1.0, 0.0),
}
"""Of kernels bound by memory: elements of the case's type, and further bytes, that are moved for each of rows times
columns. A softmax or normalisation of one pass; a cross-entropy in float32 of logits that are cast."""

ADAM_BYTES = 28.0
"""Of a parameter in float32: value, gradient and two moments read, all but the gradient written."""


def amounts(case: Case) -> Amounts:
    """What one call of a kernel does; a step is not a kernel."""
    return _BY_PHASE[case.phase](case)


def _launch(case: Case) -> Amounts:
    del case
    return Amounts(bytes=8.0, footprint=4096.0)


def _copy(case: Case) -> Amounts:
    size = float(case.dimensions["bytes"])
    return Amounts(bytes=2.0 * size, footprint=2.0 * size)


def _host_copy(case: Case) -> Amounts:
    size = float(case.dimensions["bytes"])
    return Amounts(bytes=size, footprint=size)


def _gemm(case: Case) -> Amounts:
    sizes = case.dimensions
    m, n, k, batch = (float(sizes.get(name, 1)) for name in ("m", "n", "k", "batch"))
    moved = ELEMENT_BYTES[case.dtype] * batch * (m * k + k * n + m * n)
    return Amounts(flops=2.0 * batch * m * n * k, bytes=moved, footprint=moved)


def _attention(case: Case) -> Amounts:
    sizes = case.dimensions
    batch, heads, kv_heads, width = (float(sizes[name]) for name in ("batch", "heads", "kv_heads", "head_size"))
    queries, keys = float(sizes["queries"]), float(sizes["keys"])
    seen = keys - (queries - 1.0) / 2.0 if sizes.get("causal") else keys
    products = 5.0 if case.operation == "backward" else 2.0
    moved = ELEMENT_BYTES[case.dtype] * batch * width * (2.0 * heads * queries + 2.0 * kv_heads * keys)
    matrix = ELEMENT_BYTES[case.dtype] * batch * heads * queries * keys if case.variant == "math" else 0.0
    scale = 2.0 if case.operation == "backward" else 1.0
    return Amounts(
        flops=2.0 * products * batch * heads * queries * seen * width,
        bytes=scale * moved,
        footprint=2.0 * moved + 4.0 * matrix,
    )


def _stream(case: Case) -> Amounts:
    elements = float(case.dimensions["rows"]) * float(case.dimensions["columns"])
    own, further = STREAMS[case.operation]
    moved = elements * (own * ELEMENT_BYTES[case.dtype] + further)
    table = 4.0 * float(case.dimensions.get("words", 0)) * float(case.dimensions["columns"])
    return Amounts(bytes=moved, footprint=2.0 * moved + table)


def _optimizer(case: Case) -> Amounts:
    parameters = float(case.dimensions["parameters"])
    return Amounts(bytes=ADAM_BYTES * parameters, footprint=(16.0 + 4.0) * parameters)


_BY_PHASE: dict[str, Callable[[Case], Amounts]] = {
    "launch": _launch,
    "copy": _copy,
    "host_copy": _host_copy,
    "gemm": _gemm,
    "attention": _attention,
    "pointwise": _stream,
    "normalisation": _stream,
    "optimizer": _optimizer,
}
