"""A record as columns of numbers: what `capsim measure` found, ready to fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hardware.errors import InputError, shown
from hardware.reading import build
from simulator.profiling.records.amounts import STREAMS, amounts
from simulator.profiling.records.record import CallTimes, Case, Phase, Record, Result
from simulator.profiling.records.rows import Attentions, Collectives, Measurements, Products, Streams
from simulator.specs.model import Model

STREAM_PHASES = ("pointwise", "normalisation")
_SIZES: dict[Phase, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "attention": ("batch", "heads", "kv_heads", "head_size", "queries", "keys"),
    "pointwise": ("rows", "columns"),
    "normalisation": ("rows", "columns"),
    "collective": ("bytes", "ranks", "stride"),
    "step": ("layers", "sequence_length", "micro_batch"),
}
"""Sizes that a case of each phase must have."""
_MOST_BYTES = 10**15
_MOST = {"ranks": 10**6, "stride": 10**6, "layers": 10**5, "sequence_length": 10**7, "micro_batch": 10**7}
_MOST_OF_A_SIZE = 10**9
_OPERATIONS: dict[Phase, frozenset[str]] = {
    "gemm": frozenset({"linear", "input_gradient", "weight_gradient", "batched"}),
    "attention": frozenset({"forward", "backward"}),
    "pointwise": frozenset(STREAMS),
    "normalisation": frozenset(STREAMS),
}


@dataclass(frozen=True)
class StepTime:
    """One training step that was timed."""

    case: Case
    model: Model
    seconds: float
    parts: dict[str, float]
    """Forward pass, backward pass and optimizer."""


def check(record: Record) -> None:
    """Refuse a record with results that nothing can be learned from: a case without its sizes, a step of no model.

    Raises
    ------
    InputError
        With the case, and what is wrong with it.
    """
    for result in record.results:
        if result.times is not None:
            _check(result.case)
        if result.model is not None:
            _model(result)


def seconds_of(times: CallTimes, method: str | None) -> float:
    """The figure to use [s]: on a CPU, where neighbours only ever slow it, the lower quartile, else the median."""
    return times.lower_quartile if method == "process_time" else times.median


def measurements_of(record: Record) -> Measurements:
    """All kernels and collectives of a record that is sound; the best result of each case."""
    measured = [result for result in record.best.values() if result.times is not None]
    kernels = [result for result in measured if not result.case.warm]
    return Measurements(
        products=_products([r for r in kernels if r.case.phase == "gemm"]),
        attentions=_attentions([r for r in kernels if r.case.phase == "attention"]),
        streams=_streams([r for r in kernels if r.case.phase in STREAM_PHASES]),
        collectives=_collectives([r for r in measured if r.case.phase == "collective"], _ranks_of_node(record)),
    )


def steps_of(record: Record) -> list[StepTime]:
    """All training steps whose model a record names, of a record that is sound."""
    steps = []
    for result in record.best.values():
        if (result.case.phase, result.case.operation) != ("step", "train"):
            continue
        if result.times is None or result.model is None:
            continue
        parts = {name: seconds_of(times, result.method) for name, times in result.parts.items()}
        steps.append(StepTime(result.case, _model(result), seconds_of(result.times, result.method), parts))
    return steps


def _check(case: Case) -> None:
    """Refuse a case that lacks a size that its phase needs, or has one that cannot be."""
    for name in _SIZES.get(case.phase, ()):
        if name not in case.dimensions:
            raise InputError(f"{case.words}: {name} is missing; every {case.phase} has {', '.join(_SIZES[case.phase])}")
    for name, size in case.dimensions.items() if case.phase in _SIZES else ():
        least = 0 if name == "causal" else 1
        most = _MOST_BYTES if name == "bytes" else _MOST.get(name, _MOST_OF_A_SIZE)
        if not least <= size <= most:
            raise InputError(f"{case.words}: {name}={size}: must be from {least} to {most:,}")
    known = _OPERATIONS.get(case.phase)
    if known is not None and case.operation not in known:
        raise InputError(f"{case.words}: unknown operation {shown(case.operation)}; valid: {', '.join(sorted(known))}")
    if case.phase == "step" and case.dtype == "none":
        raise InputError(f"{case.words}: names no number format; valid: fp32, tf32, fp16 or bf16")


def _model(result: Result) -> Model:
    """The architecture that a result names."""
    try:
        return build(Model, dict(result.model or {}))
    except InputError as error:
        raise InputError(f"{result.case.words}: its model: {error}") from None


def _times(results: Sequence[Result]) -> np.ndarray:
    return np.array([seconds_of(r.times, r.method) for r in results if r.times is not None], dtype=np.float64)


def _words(words: Iterable[str]) -> np.ndarray:
    return np.array(list(words), dtype=np.str_)


def _sizes(results: Sequence[Result], name: str, default: float = 1.0) -> np.ndarray:
    return np.array([float(r.case.dimensions.get(name, default)) for r in results], dtype=np.float64)


def _products(results: Sequence[Result]) -> Products:
    return Products(
        seconds=_times(results),
        dtype=_words(r.case.dtype for r in results),
        m=_sizes(results, "m"),
        n=_sizes(results, "n"),
        k=_sizes(results, "k"),
        batch=_sizes(results, "batch"),
        weight_gradient=np.array([float(r.case.operation == "weight_gradient") for r in results]),
        sustained=np.array([float(r.case.sustained) for r in results]),
    )


def _attentions(results: Sequence[Result]) -> Attentions:
    fused = [r for r in results if r.case.variant != "math"]
    return Attentions(
        seconds=_times(fused),
        dtype=_words(r.case.dtype for r in fused),
        kernel=_words(r.case.variant for r in fused),
        queries=_sizes(fused, "queries"),
        keys=_sizes(fused, "keys"),
        batch=_sizes(fused, "batch"),
        heads=_sizes(fused, "heads"),
        key_value_heads=_sizes(fused, "kv_heads"),
        head_size=_sizes(fused, "head_size"),
        causal=_sizes(fused, "causal", 0.0),
        backward=np.array([float(r.case.operation == "backward") for r in fused]),
    )


def _streams(results: Sequence[Result]) -> Streams:
    return Streams(
        seconds=_times(results),
        operation=_words(r.case.operation for r in results),
        dtype=_words(r.case.dtype for r in results),
        rows=_sizes(results, "rows"),
        columns=_sizes(results, "columns"),
        moved_bytes=np.array([amounts(r.case).bytes for r in results], dtype=np.float64),
    )


def _ranks_of_node(record: Record) -> float:
    """Ranks that one node held, where collectives were measured."""
    worlds = [session.environment.world for session in record.sessions if session.environment.world is not None]
    return max((world.ranks / world.nodes for world in worlds), default=1.0)


def _collectives(results: Sequence[Result], per_node: float) -> Collectives:
    kinds = {"send_recv": "send"}
    spanned = _sizes(results, "ranks") * _sizes(results, "stride")
    return Collectives(
        seconds=_times(results),
        kind=_words(kinds.get(r.case.operation, r.case.operation) for r in results),
        degree=_sizes(results, "ranks"),
        nodes=np.maximum(np.ceil(spanned / per_node), 1.0),
        message_bytes=_sizes(results, "bytes"),
    )
