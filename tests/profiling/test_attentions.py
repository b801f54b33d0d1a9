"""Constants of fused attention: known ones come back, few rows borrow, and tables are met where nothing was fitted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hardware.catalogue import load_class, load_device, load_profile, plain_host
from simulator.pricing.analytic import AnalyticBackend
from simulator.pricing.measured import device_of
from simulator.profiling.fit import attentions as subject
from simulator.profiling.fit.sheet import DataSheet
from simulator.profiling.records.rows import Attentions
from simulator.profiling.tables import reading as tables
from tests.pricing import asking
from tests.profiling.examples import A100, ATTENTION_START, attention_constants, attentions, timed

FIVE = ("efficiency", "backward_efficiency", "bandwidth_efficiency", "launch", "fill")
TRUE = {
    "efficiency": 0.45,
    "backward_efficiency": 0.3,
    "bandwidth_efficiency": 0.3,
    "launch": 14e-6,
    "fill": 260.0,
}


def _timed(rows: Attentions, noise: float = 0.0, outliers: float = 0.0) -> Attentions:
    times = subject.seconds(rows, A100, attention_constants(**TRUE))
    timed_rows: Attentions = timed(rows, times, noise=noise, outliers=outliers)
    return timed_rows


@pytest.mark.parametrize(("noise", "outliers", "off"), [(0.0, 0.0, 0.02), (0.05, 0.08, 0.1)])
def test_known_constants_come_back(noise: float, outliers: float, off: float) -> None:
    fitted = subject.fit(_timed(attentions(500), noise, outliers), A100, ATTENTION_START)
    constants = fitted.constants.model_dump()
    assert {name: constants[name] for name in FIVE} == pytest.approx(TRUE, rel=off)
    assert fitted.borrowed == {}


def test_no_rows_leave_all_as_it_was() -> None:
    learned = subject.learn(attentions(0), A100, ATTENTION_START)
    constants = learned.fitted.constants.model_dump()
    assert {name: constants[name] for name in FIVE} == pytest.approx({n: getattr(ATTENTION_START, n) for n in FIVE})
    assert set(learned.fitted.borrowed) == set(FIVE)
    assert (learned.scores, learned.shapes.sizes) == ((), ())


def test_a_few_kernels_fit_efficiency_and_borrow_the_rest() -> None:
    fitted = subject.fit(_timed(attentions(8, queries=4096.0, keys=4096.0, backward=0.0)), A100, ATTENTION_START)
    assert "efficiency" not in fitted.borrowed
    assert {"bandwidth_efficiency", "fill", "backward_efficiency"} <= set(fitted.borrowed)
    assert fitted.constants.fill == ATTENTION_START.fill


def test_without_backward_passes_their_ratio_is_borrowed() -> None:
    fitted = subject.fit(_timed(attentions(300, backward=0.0)), A100, ATTENTION_START)
    assert fitted.borrowed == {"backward_efficiency": "0 backward passes, 2 needed"}
    ratio = ATTENTION_START.backward_efficiency / ATTENTION_START.efficiency
    assert fitted.constants.backward_efficiency == pytest.approx(ratio * fitted.constants.efficiency, rel=1e-3)
    assert fitted.constants.efficiency == pytest.approx(TRUE["efficiency"], rel=0.02)


def test_times_that_cannot_be_are_left_out_and_counted() -> None:
    rows = _timed(attentions(200))
    wrong = rows.seconds.copy()
    wrong[:3] = 1e-9
    fitted = subject.fit(replace(rows, seconds=wrong), A100, ATTENTION_START)
    assert (fitted.used, fitted.dropped) == (197, 3)


def test_the_form_prices_rows_as_the_backend_does() -> None:
    backend = AnalyticBackend.of(plain_host(load_device("a100-sxm4-80gb")), 1, "bf16")
    rows = attentions(40)
    names = ("batch", "heads", "key_value_heads", "head_size", "causal")
    priced = [
        asking.attention(
            backend, rows.queries, rows.keys, **{name: getattr(rows, name) for name in names}, backward=bool(backward)
        )
        for backward in (0, 1)
    ]
    expected = np.where(rows.backward > 0, priced[1], priced[0])
    assert subject.seconds(rows, A100, ATTENTION_START) == pytest.approx(expected)


def _of(rows: Attentions, kernel: str, seconds: float) -> Attentions:
    return replace(rows, kernel=np.full(len(rows), kernel), seconds=np.full(len(rows), seconds))


def test_the_fastest_kernel_is_compared_on_equal_shapes() -> None:
    rows = attentions(60)
    rare = rows.where(np.arange(60) < 20)
    others = attentions(50, head_size=80.0)
    both = Attentions.joined(
        [_of(rows, "slow", 3.0), _of(rows, "quick", 2.0), _of(rare, "rare", 1.0), _of(others, "other shapes", 1.0)]
    )
    assert subject.fastest_kernel(both) == "quick"
    assert subject.fastest_kernel(_of(rows, "only", 1.0)) == "only"
    with pytest.raises(ValueError, match="no attention"):
        subject.fastest_kernel(attentions(0))


@pytest.mark.parametrize(
    ("device", "kernel", "most", "with_residuals"),
    [
        ("a100-sxm4-80gb", "trtllm:torch_flow", 0.04, 0.02),
        ("a100-sxm4-80gb", "sglang:flash_attention", 0.08, 0.03),
        ("a100-sxm4-80gb", "vllm:vllm_flash_attn", 0.09, 0.045),
        ("h100-sxm5-80gb", "sglang:fa3", 0.095, 0.05),
        ("h100-sxm5-80gb", "vllm:vllm_flash_attn_fa3", 0.105, 0.06),
        ("h100-sxm5-80gb", "sglang:flash_attention_v3", 0.1, 0.06),
    ],
)
def test_tables_are_met_on_heads_that_were_held_out(
    device: str, kernel: str, most: float, with_residuals: float
) -> None:
    rows = tables.read("attention_aic_fwd_a100_h100.csv.gz", device, where={"kernel": kernel}).attentions
    start = load_class(load_device(device).device_class).attention["bf16"]
    learned = subject.learn(rows, DataSheet.of(load_device(device), "bf16"), start)
    every = next(score for score in learned.scores if score.what == "all bf16 attention")
    assert every.scored > 800
    assert every.median <= most
    assert every.with_residuals is not None
    assert every.with_residuals <= with_residuals
    assert len(learned.shapes.sizes) == subject.MOST_SHAPES


def test_backward_passes_of_a_table_are_slower_than_their_arithmetic() -> None:
    rows = tables.read("attention_simumax_fwd_bwd.csv.gz", "a100-pcie-80gb").attentions
    sheet = DataSheet.of(load_device("a100-pcie-80gb"), "bf16")
    fitted = subject.fit(rows, sheet, load_class("a100-pcie").attention["bf16"])
    assert "backward_efficiency" not in fitted.borrowed
    assert 0.75 <= fitted.constants.backward_efficiency / fitted.constants.efficiency <= 0.9


def test_a_mask_saves_nothing_within_a_block_of_keys() -> None:
    """Kernels for CPUs take 512 keys at a time, those for GPUs 128."""
    cores = AnalyticBackend.of(plain_host(device_of(load_profile("cpu-amd-epyc"))), 1, "fp32")
    graphics = AnalyticBackend.of(plain_host(load_device("a100-sxm4-80gb")), 1, "bf16")

    def left(backend: AnalyticBackend, keys: float) -> float:
        """Share of the time that a mask leaves, of many heads."""
        sizes: dict[str, Any] = {
            "batch": 64.0,
            "heads": 16.0,
            "key_value_heads": 16.0,
            "head_size": 128.0,
            "backward": False,
        }
        masked, whole = (asking.attention(backend, keys, keys, causal=causal, **sizes) for causal in (1.0, 0.0))
        return float(masked / whole)

    assert left(cores, 512.0) == 1.0
    assert left(cores, 2048.0) == pytest.approx(0.625, abs=0.01)
    assert left(graphics, 512.0) < 0.8
    assert left(graphics, 8192.0) == pytest.approx(0.52, abs=0.02)
