"""Times of products and kernels: sizes at which one term stands alone, and limits that no constant changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.formulas import kernels, matmul

_TILED: dict[str, Any] = {
    "element_bytes": 2.0,
    "peak": 1e12,
    "bandwidth": 1e30,
    "processors": 1.0,
    "efficiency": 0.5,
    "bandwidth_efficiency": 0.25,
    "launch": 0.0,
    "fill": 0.0,
    "small_tile": 0.0,
    "sustained": 1.0,
}
"""One processor of 1 TFLOP/s, of which half is reached, and a memory that is never in the way."""
_UNITS: dict[str, Any] = {
    name: _TILED[name]
    for name in ("element_bytes", "peak", "bandwidth", "efficiency", "bandwidth_efficiency", "launch")
}
_VECTOR: dict[str, Any] = {**_UNITS, "fill": 0.0, "small_tile": 0.0, "sustained": 1.0}


def _tiled(m: float, n: float, k: float, **how: Any) -> float:
    return float(matmul.gemm_time(m, n, k=k, **{**_TILED, **how}))


def _flops(m: float, n: float, k: float) -> float:
    return 2.0 * m * n * k / (1e12 * 0.5)


@pytest.mark.parametrize(
    ("size", "padded"),
    [
        ((4096, 4096, 4096), (4096, 4096, 4096)),
        ((1, 1, 32), (64, 64, 32)),
        ((65, 64, 32), (128, 64, 32)),
        ((64, 65, 32), (64, 128, 32)),
        ((64, 64, 33), (64, 64, 64)),
        ((200, 100, 1000), (256, 128, 1024)),
        ((300, 300, 10), (320, 320, 32)),
    ],
)
def test_one_processor_computes_whole_tiles(size: tuple[float, ...], padded: tuple[float, ...]) -> None:
    assert _tiled(*size) == pytest.approx(_flops(*padded))


def test_blocks_are_served_in_waves() -> None:
    """9 blocks of 64 x 64 on 8 processors take as long as 16."""
    one = 2 * 64 * 64 * 1024 / (1e12 / 8 * 0.5)
    eight = {"processors": 8.0}
    assert _tiled(64 * 8, 64, 1024, **eight) == pytest.approx(one)
    assert _tiled(64, 64, 1024, batch=8.0, **eight) == pytest.approx(one)
    assert _tiled(64 * 9, 64, 1024, **eight) < 2 * one
    # One block may be split along its inner size, down to depths of 32, over the processors.
    assert _tiled(64, 64, 1024, **eight) == pytest.approx(one / 8)
    assert _tiled(64, 64, 1024, processors=1e6) == pytest.approx(2 * 64 * 64 * 64 / (1e6 * 0.5))
    assert _tiled(64, 64, 32, **eight) == pytest.approx(one / 32)


def test_a_split_product_moves_its_parts() -> None:
    """Parts in fp32 are written and read: splitting pays where arithmetic is slow, not where memory is."""
    slow = {"processors": 8.0, "bandwidth": 1e9, "peak": 1e30}
    assert _tiled(64, 64, 1024, **slow) == pytest.approx(2 * (2 * 64 * 1024 + 64 * 64) / 0.25e9)
    # In between: two parts halve the time of arithmetic and add 8 bytes an element for each.
    both = {"processors": 2.0, "bandwidth": 2e7, "peak": 1e9, "bandwidth_efficiency": 1.0, "efficiency": 1.0}
    compute, moved = 2 * 64 * 64 * 32768 / (1e9 / 2), 2 * (2 * 64 * 32768 + 64 * 64)
    whole = (compute**3.3 + (moved / 2e7) ** 3.3) ** (1 / 3.3)
    split = ((compute / 2) ** 3.3 + ((moved + 16 * 64 * 64) / 2e7) ** 3.3) ** (1 / 3.3)
    assert split < whole
    assert _tiled(64, 64, 32768, **both) == pytest.approx(split)


def test_operands_cross_the_memory_bus_once() -> None:
    slow = {"bandwidth": 1e9, "peak": 1e30}
    assert _tiled(1000, 2000, 3000, **slow) == pytest.approx(2 * (3e6 + 6e6 + 2e6) / 0.25e9)
    assert _tiled(1000, 2000, 3000, batch=3.0, **slow) == pytest.approx(6 * (3e6 + 6e6 + 2e6) / 0.25e9)


def test_arithmetic_and_memory_overlap_but_not_perfectly() -> None:
    """As long each, together 2^(1 / 3.3) as long."""
    compute = _flops(4096, 4096, 4096)
    stream = 2 * 3 * 4096**2 / compute / 0.25
    assert _tiled(4096, 4096, 4096, bandwidth=stream) == pytest.approx(compute * 2 ** (1 / 3.3))


def test_filling_a_pipeline_costs_depth() -> None:
    assert _tiled(256, 256, 1024, fill=1024.0) == pytest.approx(2 * _flops(256, 256, 1024))
    assert _tiled(256, 256, 1024, launch=7.0) == pytest.approx(7 + _flops(256, 256, 1024))


def test_small_tiles_load_more_for_each_output() -> None:
    """Against tiles of 256 x 128, of which the constant is told: (1 + a / 64 + a / 64) / (1 + 3 a / 256)."""
    small = 128.0
    assert _tiled(64, 64, 1024, small_tile=small, processors=1e-9) == pytest.approx(
        _tiled(64, 64, 1024, processors=1e-9) * (1 + small / 32) / (1 + 3 * small / 256)
    )
    assert _tiled(256, 128, 1024, small_tile=small) == pytest.approx(_tiled(256, 128, 1024))
    assert _tiled(128, 256, 1024, small_tile=small) == pytest.approx(_tiled(128, 256, 1024))
    assert _tiled(128, 128, 1024, small_tile=small) == pytest.approx(
        _tiled(128, 128, 1024) * (1 + small / 64) / (1 + 3 * small / 256)
    )


@pytest.mark.parametrize(("burst", "share"), [(1e-4, 0.0), (2e-3, 0.0), (2e-3 * 10**0.5, 0.5), (2e-2, 1.0), (1.0, 1.0)])
def test_long_calls_run_at_sustained_clocks(burst: float, share: float) -> None:
    peak = 2.0 * 4096**3 / 0.5 / burst
    expected = burst / (1 - 0.2 * share)
    assert _tiled(4096, 4096, 4096, peak=peak, sustained=0.8) == pytest.approx(expected)
    vector = matmul.vector_gemm_time(4096.0, 4096.0, k=4096.0, **{**_VECTOR, "peak": peak, "sustained": 0.8})
    assert float(vector) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("size", "padded"),
    [((8, 128, 128), (8, 128, 128)), ((1, 1, 1), (8, 128, 128)), ((9, 129, 129), (16, 256, 256))],
)
def test_a_systolic_array_is_filled_with_zeros(size: tuple[float, ...], padded: tuple[float, ...]) -> None:
    m, n, k = size
    assert float(matmul.systolic_gemm_time(m, n, k=k, **_UNITS)) == pytest.approx(_flops(*padded))
    assert float(matmul.systolic_gemm_time(m, n, k=k, batch=3.0, **_UNITS)) == pytest.approx(3 * _flops(*padded))
    slow = {**_UNITS, "peak": 1e30, "bandwidth": 1e9, "launch": 7.0}
    moved = 3 * 2 * (m * k + k * n + m * n)
    assert float(matmul.systolic_gemm_time(m, n, k=k, batch=3.0, **slow)) == pytest.approx(7 + moved / 0.25e9)


def test_both_terms_of_a_systolic_array_and_of_vector_units() -> None:
    compute = _flops(1024, 1024, 1024)
    both = {"bandwidth": 2 * 3 * 1024**2 / compute / 0.25}
    systolic = matmul.systolic_gemm_time(1024.0, 1024.0, k=1024.0, **{**_UNITS, **both})
    vector = matmul.vector_gemm_time(1024.0, 1024.0, k=1024.0, **{**_VECTOR, **both})
    assert float(systolic) == pytest.approx(compute * 2 ** (1 / 3.3))
    assert float(vector) == pytest.approx(compute * 2 ** (1 / 3.3))


def test_vector_units_lose_edges_and_depth() -> None:
    def time(**how: Any) -> float:
        return float(matmul.vector_gemm_time(100.0, 50.0, k=30.0, **{**_VECTOR, **how}))

    assert time() == pytest.approx(_flops(100, 50, 30))
    assert time(batch=3.0) == pytest.approx(3 * time())
    assert time(fill=30.0) == pytest.approx(2 * time())
    assert time(small_tile=10.0) == pytest.approx(2 * 30 * (100 * 50 + 10 * 150) / 5e11)
    assert time(launch=7.0) == pytest.approx(7 + time())
    assert time(peak=1e30, bandwidth=1e9, batch=3.0) == pytest.approx(3 * 2 * (3000 + 1500 + 5000) / 0.25e9)


@given(st.integers(1, 600), st.integers(1, 600), st.integers(1, 600))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_a_product_takes_no_less_than_its_roofline(m: int, n: int, k: int) -> None:
    how = {**_TILED, "bandwidth": 1e10, "processors": 7.0, "small_tile": 20.0, "fill": 100.0, "sustained": 0.9}
    least = kernels.shortest_time(
        2.0 * m * n * k, kernels.gemm_traffic(m, n, k=k, element_bytes=2.0), peak=1e12 * 0.5, bandwidth=1e10 * 0.25
    )
    time = float(matmul.gemm_time(float(m), float(n), k=float(k), **how))
    assert time >= float(least) * (1 - 1e-12)
    for bigger in ((m + 64, n, k), (m, n + 64, k), (m, n, k + 64)):
        assert float(matmul.gemm_time(*map(float, bigger[:2]), k=float(bigger[2]), **how)) >= time * (1 - 1e-12)


@pytest.mark.parametrize(
    ("width", "power"), [(64, 6), (128, 6), (96, 5), (48, 4), (24, 3), (12, 2), (6, 1), (7, 0), (64.5, 6), (0.5, 6)]
)
def test_odd_widths_of_rows_cost_8_percent_for_each_halving(width: float, power: int) -> None:
    assert float(matmul.alignment_share(width, 4096)) == pytest.approx(1 - 0.08 * (6 - power))
    assert float(matmul.alignment_share(4096, width)) == pytest.approx(1 - 0.08 * (6 - power))


# Other kernels

_FUSED: dict[str, Any] = {
    "batch": 2.0,
    "heads": 4.0,
    "key_value_heads": 2.0,
    "head_size": 128.0,
    "causal": 0.0,
    "matmuls": 2.0,
    "element_bytes": 2.0,
    "peak": 1e12,
    "bandwidth": 1e30,
    "processors": 8.0,
    "efficiency": 0.5,
    "bandwidth_efficiency": 0.25,
    "launch": 0.0,
    "fill": 0.0,
    "causal_block": 128.0,
}


def _fused(queries: float, keys: float, **how: Any) -> float:
    return float(kernels.attention_time(queries, keys, **{**_FUSED, **how}))


def _two_products(queries: float, keys: float, heads: float = 8.0) -> float:
    """Seconds of both, of so many heads in all, 128 wide, at half of 1 TFLOP/s."""
    return 2 * 2 * heads * queries * keys * 128 / 5e11


def test_attention_computes_blocks_of_128_queries() -> None:
    assert _fused(1024, 512) == pytest.approx(_two_products(1024, 512))
    assert _fused(1, 512) == pytest.approx(_two_products(128, 512))
    assert _fused(129, 512) == pytest.approx(_two_products(256, 512))
    assert _fused(1024, 512, matmuls=5.0) == pytest.approx(2.5 * _two_products(1024, 512))
    # Blocks fewer than processors leave some of them idle.
    assert _fused(128, 512, processors=16.0) == pytest.approx(2 * _two_products(128, 512))
    assert _fused(128, 512, batch=1.0) == pytest.approx(_two_products(128, 512))
    assert _fused(1024, 512, fill=512.0) == pytest.approx(2 * _two_products(1024, 512))
    assert _fused(1024, 512, launch=7.0) == pytest.approx(7 + _two_products(1024, 512))


def test_narrow_heads_use_less_of_the_units() -> None:
    assert _fused(1024, 512, head_size=64.0) == pytest.approx(_two_products(1024, 512) / 2 / 0.5**0.3)
    assert _fused(1024, 512, head_size=256.0) == pytest.approx(_two_products(1024, 512) * 2)


def test_a_causal_mask_leaves_out_whole_blocks() -> None:
    """Of 8 rows of blocks all but those on the diagonal; where processors idle the longest row counts."""
    assert _fused(1024, 1024, causal=1.0) == pytest.approx(_two_products(1024, 1024) * (1 - 0.5 * 7 / 8))
    assert _fused(128, 1024, causal=1.0) == pytest.approx(_two_products(128, 1024))
    assert _fused(1024, 1024, causal=1.0, causal_block=256.0) == pytest.approx(
        _two_products(1024, 1024) * (1 - 0.5 * 3 / 4)
    )
    idle = {"processors": 128.0, "causal": 1.0}
    assert _fused(1024, 1024, **idle) == pytest.approx(2 * _two_products(1024, 1024) * (1 - 0.5 * 0.5 * 7 / 8))


def test_attention_moves_operands_and_output() -> None:
    """4 heads of queries and of output, 2 of keys and of values, of 2 sequences."""
    slow = {"peak": 1e30, "bandwidth": 1e9}
    moved = 2 * 2 * 128 * (2 * 4 * 100 + 2 * 2 * 300)
    assert _fused(100, 300, **slow) == pytest.approx(moved / 0.25e9)
    assert _fused(100, 300, matmuls=5.0, **slow) == pytest.approx(2.5 * moved / 0.25e9)
    compute = _two_products(1024, 512)
    stream = 2 * 2 * 128 * (2 * 4 * 1024 + 2 * 2 * 512) / compute / 0.25
    assert _fused(1024, 512, bandwidth=stream) == pytest.approx(compute * 2 ** (1 / 3))


def test_streams_are_bytes_over_bandwidth() -> None:
    how: dict[str, Any] = {"bandwidth": 1e9, "efficiency": 0.5, "launch": 3.0}
    assert kernels.stream_time(1e9, 0.0, **how) == 2
    assert kernels.stream_time(0.0, 2.0, **how) == 6
    assert np.isclose(kernels.stream_time(1e9, 2.0, **how), 8)
