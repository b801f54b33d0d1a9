"""The analytic backend: what data sheets and constants of a class say of single requests, worked out by hand."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.catalogue import load_class, load_device, load_system
from hardware.classes import Precision
from hardware.errors import InputError
from simulator.formulas import matmul
from simulator.pricing.analytic import AnalyticBackend, Devices, device_columns, precisions_of, wide_format
from simulator.pricing.requests import (
    Collective,
    FusedAttention,
    HostCopy,
    HostWork,
    MatrixProduct,
    Send,
    Stream,
    StreamKind,
    link_request,
)
from simulator.pricing.wiring import wiring
from tests.work.asking import plain

PLAIN = Devices(
    peak=1e12,
    bandwidth=1e9,
    processors=1.0,
    systolic=0.0,
    vector=0.0,
    aligned=1.0,
    efficiency=0.5,
    bandwidth_efficiency=0.25,
    gemm_launch=1e-3,
    fill=0.0,
    small_tile=0.0,
    sustained=0.8,
    weight_gradient_efficiency=0.5,
    attention_peak=1e12,
    attention_efficiency=0.5,
    attention_backward_efficiency=0.25,
    attention_bandwidth_efficiency=1.0,
    attention_launch=1e-3,
    attention_fill=0.0,
    causal_block=128.0,
    portable_attention=0.5,
    stream_efficiency=0.5,
    reduce_efficiency=0.25,
    stream_launch=2e-3,
    host_bandwidth=1e6,
    memory_capacity=1e9,
)
"""A device of round numbers; its links are those of a DGX H100."""
_LARGE: dict[str, Any] = {"m": 4096.0, "n": 4096.0, "k": 4096.0, "element_bytes": 2.0}
_FLOPS = 2.0 * 4096**3
_ATTENTION: dict[str, Any] = {
    "queries": 1024.0,
    "keys": 1024.0,
    "batch": 2.0,
    "heads": 4.0,
    "key_value_heads": 2.0,
    "head_size": 128.0,
    "causal": 0.0,
}


def _backend(device: Devices = PLAIN, wide: Devices | None = None) -> AnalyticBackend:
    return AnalyticBackend(device, wiring(load_system("dgx-h100"), 8), wide or device)


def _endless(**changes: Any) -> Devices:
    """With a memory that is never in the way."""
    return replace(PLAIN, bandwidth=1e30, gemm_launch=0.0, attention_launch=0.0, **changes)


def _product(device: Devices, **how: Any) -> float:
    return plain(_backend(device).time(MatrixProduct(**{**_LARGE, **how})))


def test_a_large_product_runs_at_the_rate_of_long_load() -> None:
    assert _product(_endless()) == pytest.approx(_FLOPS / (1e12 * 0.5 * 0.8))
    assert _product(_endless(), batch=3.0) == pytest.approx(3 * _FLOPS / (1e12 * 0.5 * 0.8))
    assert _product(replace(_endless(), gemm_launch=1.0)) == pytest.approx(1 + _FLOPS / 4e11)


def test_a_small_product_waits_for_its_operands() -> None:
    """At any rate of arithmetic: three matrices of 64 x 64 in 16 bits over a quarter of 1 GB/s."""
    thin = replace(PLAIN, peak=1e30)
    assert _product(thin, m=64.0, n=64.0, k=64.0) == pytest.approx(1e-3 + 3 * 64 * 64 * 2 / 0.25e9)
    assert _product(thin, m=64.0, n=64.0, k=64.0, element_bytes=4.0) == pytest.approx(1e-3 + 3 * 64 * 64 * 4 / 0.25e9)


def test_gradients_of_weights_have_a_rate_of_their_own() -> None:
    assert _product(_endless(), weight_gradient=True) == pytest.approx(2 * _product(_endless()))


def test_odd_widths_slow_devices_down_that_load_whole_lines() -> None:
    even = _product(_endless())
    assert _product(_endless(), alignment=0.5) == pytest.approx(2 * even)
    assert _product(_endless(aligned=0.0), alignment=0.5) == pytest.approx(even)


def test_products_that_stay_in_16_bits_run_at_their_rate() -> None:
    narrow = _backend(_endless(peak=2e12), wide=_endless())
    asked = MatrixProduct(**_LARGE)
    assert plain(narrow.time(replace(asked, wide=True))) == pytest.approx(2 * plain(narrow.time(asked)))


def test_units_without_tiles_and_units_of_128() -> None:
    """One unit of 100: a systolic array is padded to 128, tiles of 64 as well, vector units hardly."""
    small = {"m": 1024.0, "n": 100.0, "k": 1024.0}
    flops = 2.0 * 1024 * 1024
    assert _product(_endless(systolic=1.0), **small) == pytest.approx(flops * 128 / 4e11)
    assert _product(_endless(vector=1.0), **small) == pytest.approx(flops * 100 / 4e11)
    assert _product(_endless(), **small) == pytest.approx(flops * 128 / 4e11)
    assert _product(_endless(vector=1.0, fill=1024.0), **small) == pytest.approx(2 * flops * 100 / 4e11)
    edges = _product(_endless(vector=1.0, small_tile=16.0), **small)
    assert edges == pytest.approx(2 * 1024 * (1024 * 100 + 16 * (1024 + 100)) / 4e11)
    # Neither has lines to load, so that odd widths do not matter.
    for unit in ("systolic", "vector"):
        device = _endless(**{unit: 1.0})
        assert _product(device, alignment=0.5) == _product(device)


def test_devices_of_all_kinds_in_one_column() -> None:
    kinds = [_endless(), _endless(systolic=1.0), _endless(vector=1.0)]
    asked = MatrixProduct(m=1000.0, n=100.0, k=1000.0, element_bytes=2.0)
    alone = [plain(_backend(device).time(asked)) for device in kinds]
    together = AnalyticBackend.stack([_backend(device) for device in kinds]).time(asked)
    assert list(np.asarray(together)) == pytest.approx(alone, rel=1e-12)
    assert len(set(alone)) == 3


def _attention(device: Devices, **how: Any) -> float:
    return plain(_backend(device).time(FusedAttention(**{**_ATTENTION, **how})))


def test_fused_attention_runs_at_the_rate_of_its_kernel() -> None:
    """Two products forward and five backward, each of 2 b h s t d."""
    one = 2.0 * 2 * 4 * 1024 * 1024 * 128
    assert _attention(_endless()) == pytest.approx(2 * one / (1e12 * 0.5))
    assert _attention(_endless(), backward=True) == pytest.approx(5 * one / (1e12 * 0.25))
    assert _attention(_endless(), portable=1.0) == pytest.approx(2 * _attention(_endless()))
    # A causal mask leaves out half of the blocks but for those on the diagonal.
    assert _attention(_endless(), causal=1.0) == pytest.approx(_attention(_endless()) * (1 - 0.5 * 7 / 8))
    assert _attention(_endless(attention_fill=1024.0)) == pytest.approx(2 * _attention(_endless()))
    assert _attention(replace(_endless(), attention_launch=1.0)) == pytest.approx(1 + _attention(_endless()))


def test_fused_attention_moves_no_scores() -> None:
    """Queries and output of 4 heads, keys and values of 2, in 16 bits; two and a half times as much backward."""
    slow = replace(PLAIN, attention_peak=1e30, attention_launch=0.0)
    moved = 2 * 128 * (2 * 4 * 1024 + 2 * 2 * 1024) * 2
    assert _attention(slow) == pytest.approx(moved / 1e9)
    assert _attention(slow, backward=True) == pytest.approx(2.5 * moved / 1e9)


def _stream(**how: Any) -> float:
    return plain(_backend().time(Stream(kind=StreamKind.RESIDUAL, **how)))


def test_streams_move_bytes_and_are_launched() -> None:
    assert _stream(moved_bytes=1e6, kernels=3.0) == pytest.approx(3 * 2e-3 + 1e6 / 0.5e9)
    assert _stream(moved_bytes=1e6, kernels=0.0, reduces=True) == pytest.approx(1e6 / 0.25e9)
    assert _stream(moved_bytes=1e6, kernels=0.0, drawn=1e9) == _stream(moved_bytes=1e6, kernels=0.0)


def test_the_host_copies_at_four_fifths_of_its_link_and_takes_what_it_says() -> None:
    assert plain(_backend().time(HostCopy(moved_bytes=8e6))) == 10
    assert _backend().time(HostWork(seconds=0.25)) == 0.25
    with pytest.raises(TypeError, match="'much' is no request"):
        _backend().time("much")  # type: ignore[arg-type]


@given(
    st.sampled_from(["peak", "bandwidth", "efficiency", "bandwidth_efficiency", "stream_efficiency", "host_bandwidth"]),
    st.floats(1.0, 10.0),
    st.integers(0, 12),
    st.integers(0, 12),
)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_better_devices_are_never_slower(name: str, by: float, rows: int, depth: int) -> None:
    better = replace(PLAIN, **{name: getattr(PLAIN, name) * by})
    for request in (
        MatrixProduct(m=2.0**rows, n=640.0, k=2.0**depth, element_bytes=2.0),
        FusedAttention(**{**_ATTENTION, "queries": 2.0**rows, "keys": 2.0**depth}),
        Stream(kind=StreamKind.SOFTMAX, moved_bytes=2.0**rows, kernels=2.0, reduces=True),
        HostCopy(moved_bytes=2.0**depth),
    ):
        assert plain(_backend(better).time(request)) <= plain(_backend().time(request)) * (1 + 1e-12)


# Columns of devices


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_columns_of_a_device_are_its_sheet_and_the_constants_of_its_class(precision: Precision) -> None:
    device, columns = load_device("a100-sxm4-80gb"), device_columns(load_device("a100-sxm4-80gb"), precision)
    constants = load_class(device.device_class)
    gemm, memory = constants.gemm[precision], constants.memory
    assert columns.peak == getattr(device.peak, precision)
    assert (columns.bandwidth, columns.processors) == (device.memory.bandwidth, device.processors)
    assert (columns.systolic, columns.vector, columns.aligned) == (0, 0, float(precision != "fp32"))
    for name in ("efficiency", "bandwidth_efficiency", "fill", "small_tile", "sustained"):
        assert getattr(columns, name) == getattr(gemm, name)
    assert columns.gemm_launch == gemm.launch
    assert (columns.stream_efficiency, columns.reduce_efficiency) == (
        memory.efficiency,
        memory.normalisation_efficiency,
    )
    assert columns.stream_launch == memory.launch
    assert (columns.memory_capacity, columns.host_bandwidth) == (device.memory_capacity, device.host_link.bandwidth)
    assert columns.causal_block == constants.causal_block
    fused = constants.attention.get(precision)
    if fused is not None:
        assert columns.attention_efficiency == fused.efficiency
        assert columns.attention_backward_efficiency == fused.backward_efficiency
        assert columns.attention_fill == fused.fill
    else:  # a format that nobody measured: half the rate of plain products
        assert columns.attention_efficiency == columns.attention_backward_efficiency == gemm.efficiency / 2
        assert (columns.attention_bandwidth_efficiency, columns.attention_launch) == (0.4, 9e-6)


@pytest.mark.parametrize(("name", "kind"), [("tpu-v4-pod", "systolic"), ("dgx-h100", ""), ("server-mi300x", "")])
def test_units_of_devices(name: str, kind: str) -> None:
    columns = device_columns(load_system(name).device, "bf16")
    assert {unit for unit in ("systolic", "vector") if getattr(columns, unit)} == ({kind} if kind else set())
    assert columns.aligned == float(kind == "")


def test_attention_stays_in_16_bits_under_8() -> None:
    device = load_device("h100-sxm5-80gb")
    narrow, wide = (device_columns(device, each) for each in ("fp8", "bf16"))
    assert 1.99 * wide.peak < narrow.peak < 2.01 * wide.peak
    for field in fields(Devices):
        if field.name.startswith("attention"):
            assert getattr(narrow, field.name) == getattr(wide, field.name)
    assert (wide_format("fp8"), wide_format("bf16"), wide_format("fp32")) == ("bf16", "bf16", "fp32")
    assert (wide_format("mxfp8"), wide_format("nvfp4")) == ("bf16", "bf16")
    backend = AnalyticBackend.of(load_system("dgx-h100"), 8, "fp8")
    assert (backend.device, backend.wide, backend.name) == (narrow, wide, "analytic")
    assert backend.wires == wiring(load_system("dgx-h100"), 8)


def test_a_format_without_units_is_a_sentence() -> None:
    device = load_device("a100-sxm4-80gb")
    assert precisions_of(device) == ("fp32", "tf32", "fp16", "bf16")
    with pytest.raises(InputError, match="precision=fp8: a100-sxm4-80gb has no units for it; valid: fp32, tf32, fp16"):
        device_columns(device, "fp8")


# Requests


def test_requests_say_how_much_they_ask() -> None:
    product = MatrixProduct(m=3.0, n=5.0, k=7.0, batch=2.0, element_bytes=2.0)
    assert product.flops == product.computed_flops == 2 * 2 * 3 * 5 * 7
    assert (product.recomputed_flops, product.moved_bytes) == (0, 2 * 2 * (21 + 35 + 15))
    one = 2.0 * 2 * 4 * 1024 * 1024 * 128
    forward = FusedAttention(**_ATTENTION)
    backward = replace(forward, backward=True)
    assert (forward.flops, forward.recomputed_flops) == (2 * one, 0)
    assert (backward.flops, backward.recomputed_flops) == (5 * one, one)
    assert plain(replace(forward, causal=1.0).computed_flops) == one
    assert plain(forward.computed_flops) == 2 * one
    assert backward.moved_bytes == 2.5 * plain(forward.moved_bytes) == 2.5 * 2 * 2 * 128 * (8 + 4) * 1024
    stream = Stream(kind=StreamKind.SOFTMAX, moved_bytes=1.0, kernels=1.0)
    assert (stream.flops, stream.recomputed_flops, stream.computed_flops) == (0, 0, 0)


def test_what_links_are_asked_by_name() -> None:
    assert link_request("send", 8.0, degree=4.0, stride=2.0) == Send(message_bytes=8.0, degree=4.0, stride=2.0)
    gather = link_request("all_gather", 8.0, degree=4.0)
    assert gather == Collective(kind="all_gather", message_bytes=8.0, degree=4.0, stride=1.0, copies=1.0)
    assert len({kind.value for kind in StreamKind}) == len(StreamKind)


def test_products_are_priced_by_the_formulas_of_their_unit() -> None:
    asked: dict[str, Any] = {"k": 777.0, "batch": 3.0, "element_bytes": 2.0}
    device = load_device("a100-sxm4-80gb")
    columns = device_columns(device, "bf16")
    seconds = _backend(columns).time(MatrixProduct(m=1234.0, n=555.0, **asked, alignment=0.9))
    expected = matmul.gemm_time(
        1234.0,
        555.0,
        **asked,
        peak=columns.peak,
        bandwidth=columns.bandwidth,
        processors=columns.processors,
        efficiency=columns.efficiency * columns.sustained * 0.9,
        bandwidth_efficiency=columns.bandwidth_efficiency,
        launch=columns.gemm_launch,
        fill=columns.fill,
        small_tile=columns.small_tile,
        sustained=1.0,
    )
    assert plain(seconds) == pytest.approx(plain(expected), rel=1e-12)


def test_formats_with_scales_in_blocks_are_of_devices_with_4_bits() -> None:
    """Products in them reach the share of their units' peak that those in fp8 do; attention stays in 16 bits."""
    device = load_device("gb200")
    assert precisions_of(device)[-2:] == ("mxfp8", "nvfp4")
    eight, scaled, four = (device_columns(device, each) for each in ("fp8", "mxfp8", "nvfp4"))
    assert scaled == eight
    assert four == replace(eight, peak=float(device.peak.fp4 or 0))
    assert four.peak == 2 * eight.peak
    for old in ("h100-sxm5-80gb", "a100-sxm4-80gb", "mi300x"):
        assert {"mxfp8", "nvfp4"}.isdisjoint(precisions_of(load_device(old)))
