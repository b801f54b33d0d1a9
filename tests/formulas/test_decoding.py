"""Kernels of decoding: limits, and means worked out one by one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from simulator.formulas import decoding, flops, kernels, matmul

DEVICE: dict[str, Any] = {"peak": 989e12, "bandwidth": 3.35e12}


@pytest.mark.parametrize(("experts", "chosen", "tokens"), [(4, 1, 3), (4, 2, 2), (5, 2, 3)])
def test_touched_experts_are_the_mean_over_all_choices(experts: int, chosen: int, tokens: int) -> None:
    choices = list(itertools.combinations(range(experts), chosen))
    distinct = [len(set().union(*each)) for each in itertools.product(choices, repeat=tokens)]
    assert decoding.touched_experts(tokens, experts, chosen=chosen) == pytest.approx(np.mean(distinct))


@pytest.mark.parametrize(
    ("new", "window", "cached"), [(64, 1e15, 0), (64, 1e15, 100), (64, 32, 0), (64, 120, 100), (9, 5, 50)]
)
def test_keys_seen_behind_a_cache_are_the_mean_over_tokens(new: int, window: float, cached: int) -> None:
    seen = np.mean([min(cached + place + 0.5, window) for place in range(new)])
    assert flops.seen_behind(new, window, cached=cached) == pytest.approx(seen, rel=1e-3)


def test_without_a_cache_that_is_half_of_what_a_causal_mask_would_leave_in_full() -> None:
    for window in (10.0, 100.0, 1e15):
        whole = flops.seen_keys(100.0, window, causal=1.0)
        assert float(flops.seen_behind(100.0, window, cached=0.0)) == pytest.approx(float(whole) / 2)


def _attention(**changes: float) -> float:
    said = {"batch": 64.0, "heads": 32.0, "key_value_heads": 8.0, "context": 8192.0, **changes}
    context = said.pop("context")
    moved = decoding.cache_traffic(
        context,
        batch=said["batch"],
        key_value_heads=said["key_value_heads"],
        head_size=128,
        value_head_size=128,
        element_bytes=2,
    )
    arithmetic = 4.0 * said["batch"] * said["heads"] * 128 * context
    constants = {
        "processors": 132,
        "efficiency": 0.5,
        "bandwidth_efficiency": 0.9,
        "launch": 1e-5,
        "each": 1e-6,
        "ramp": 1e-10,
    }
    return float(decoding.decode_attention_time(moved, arithmetic, **said, **DEVICE, **constants))


def test_a_long_cache_is_read_at_the_bandwidth() -> None:
    longer = _attention(context=1e6) - _attention(context=5e5)
    assert longer == pytest.approx(64 * 5e5 * 8 * 256 * 2 / (0.9 * 3.35e12), rel=0.02)


def test_fewer_key_heads_make_it_faster_until_arithmetic_binds() -> None:
    times = [_attention(heads=64.0, key_value_heads=float(2**power)) for power in range(7)]
    assert times == sorted(times)
    assert _attention(heads=512.0, key_value_heads=1.0) > 2.0 * _attention(heads=64.0, key_value_heads=1.0)


def test_products_of_few_rows_go_by_the_bytes_of_their_weights() -> None:
    shared = {
        "k": 8192.0,
        "element_bytes": 2.0,
        "input_bytes": 2.0,
        "efficiency": 0.7,
        "bandwidth_efficiency": 0.85,
        "launch": 0.0,
    }
    full, half, quarter = (
        float(decoding.streamed_gemm_time(1.0, 8192.0, packed_bytes=size, unpacking=0.0, **shared, **DEVICE))
        for size in (2.0, 1.0, 0.5)
    )
    assert half == pytest.approx(full / 2, rel=0.01)
    assert quarter == pytest.approx(full / 4, rel=0.01)
    slow = decoding.streamed_gemm_time(1.0, 8192.0, packed_bytes=0.5, unpacking=500.0, **shared, **DEVICE)
    assert float(slow) > 1.2 * quarter


def test_stored_weights_change_the_bytes_and_nothing_else() -> None:
    shared: dict[str, Any] = {"k": 64.0, "batch": 3.0, "element_bytes": 2.0}
    assert kernels.gemm_traffic(8.0, 16.0, packed_bytes=2.0, **shared) == kernels.gemm_traffic(8.0, 16.0, **shared)
    less = kernels.gemm_traffic(8.0, 16.0, **shared) - kernels.gemm_traffic(8.0, 16.0, packed_bytes=0.5, **shared)
    assert less == 3 * 64 * 16 * 1.5
    constants: dict[str, Any] = {"efficiency": 0.8, "bandwidth_efficiency": 0.8, "launch": 1e-6}
    plain = matmul.systolic_gemm_time(8.0, 4096.0, k=4096.0, element_bytes=2.0, **constants, **DEVICE)
    stored = matmul.systolic_gemm_time(
        8.0, 4096.0, k=4096.0, element_bytes=2.0, packed_bytes=2.0, **constants, **DEVICE
    )
    assert plain == stored


def test_small_messages_take_one_shot_and_large_ones_two() -> None:
    shared = {"latency": 4.6e-6, "latency_per_rank": 0.87e-6, "rate": 378e9}
    start = 0.45 * 4.6e-6 + 0.25 * 0.87e-6 * 7
    small, large = (float(decoding.direct_all_reduce_time(size, 8, **shared)) for size in (1e3, 64e6))
    assert small == pytest.approx(start + 7e3 / 378e9)
    assert large == pytest.approx(2 * start + 2 * 7 / 8 * 64e6 / 378e9)
