"""What was measured, in words: what a tooltip or a table calls kinds of work, and their rows."""

from __future__ import annotations

from hardware import units
from hardware.measured import Phase
from simulator.profiling.records.reading import StepTime
from simulator.profiling.records.rows import Attentions, Collectives, Products, Streams

PHASES: dict[Phase, str] = {
    "gemm": "matrix products",
    "attention": "fused attention",
    "stream": "memory-bound kernels",
    "optimizer": "optimizer",
    "collective": "collectives",
    "step": "training steps",
}
"""Every kind of work."""


def products(rows: Products) -> tuple[str, ...]:
    """Products in words."""
    columns = (rows.m, rows.n, rows.k, rows.batch, rows.weight_gradient, rows.sustained, rows.dtype)
    return tuple(
        f"m {m:,.0f}, n {n:,.0f}, k {k:,.0f}{f', {batch:,.0f} of them' * (batch > 1)}"
        f"{', gradient of a weight' * (gradient > 0)}{', under long load' * (long > 0)}, {dtype}"
        for m, n, k, batch, gradient, long, dtype in zip(*(column.tolist() for column in columns), strict=True)
    )


def attentions(rows: Attentions) -> tuple[str, ...]:
    """Attention in words."""
    columns = (rows.batch, rows.queries, rows.keys, rows.heads, rows.key_value_heads, rows.head_size)
    flags = (rows.causal, rows.backward, rows.dtype)
    return tuple(
        f"{batch:,.0f} x {queries:,.0f}{f' by {keys:,.0f}' * (keys != queries)} tokens, "
        f"{heads:,.0f}{f' over {shared:,.0f}' * (shared != heads)} heads of {width:,.0f}"
        f"{', causal' * (causal > 0)}{', backward' * (backward > 0)}, {dtype}"
        for batch, queries, keys, heads, shared, width, causal, backward, dtype in zip(
            *(column.tolist() for column in (*columns, *flags)), strict=True
        )
    )


def streams(rows: Streams) -> tuple[str, ...]:
    """Kernels bound by memory in words."""
    columns = (rows.operation, rows.rows, rows.columns, rows.dtype)
    return tuple(
        f"{operation.replace('_', ' ')}, {high:,.0f} x {wide:,.0f}, {dtype}"
        for operation, high, wide, dtype in zip(*(column.tolist() for column in columns), strict=True)
    )


def collectives(rows: Collectives) -> tuple[str, ...]:
    """Collectives in words."""
    columns = (rows.kind, rows.message_bytes, rows.degree)
    return tuple(
        f"{kind.replace('_', '-')} of {units.size(message)} over {degree:,.0f} ranks"
        for kind, message, degree in zip(*(column.tolist() for column in columns), strict=True)
    )


def step(one: StepTime) -> str:
    """A step in words."""
    sizes, model = one.case.dimensions, one.case.variant.partition("/")[0]
    shape = f"{sizes['micro_batch']:,} x {sizes['sequence_length']:,} tokens"
    return f"{model}, {sizes['layers']} layers, {shape}, {one.case.dtype}"
