"""Constants of matrix products: known ones come back, few rows borrow, and tables are met where nothing was fitted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.catalogue import load_class, load_device, plain_host
from simulator.formulas import matmul
from simulator.pricing.analytic import AnalyticBackend
from simulator.profiling.fit import products as subject
from simulator.profiling.fit.sheet import DataSheet
from simulator.profiling.records.rows import Products
from simulator.profiling.tables import reading as tables
from tests.pricing import asking
from tests.profiling.examples import A100, START, gemm_constants, products, some_products, timed

SIX = ("efficiency", "bandwidth_efficiency", "launch", "fill", "small_tile", "sustained")
TRUE = {
    "efficiency": 0.8,
    "bandwidth_efficiency": 0.9,
    "launch": 6e-6,
    "fill": 60.0,
    "small_tile": 4.0,
    "sustained": 0.8,
}
_PROBES = np.array(
    [
        (8192, 8192, 8192),
        (4096, 4096, 4096),
        (2048, 2048, 2048),
        (1024, 1024, 1024),
        (256, 256, 256),
        (4096, 4096, 1024),
        (4096, 1024, 4096),
        (8192, 4096, 256),
        (128, 8192, 8192),
        (16, 16384, 4096),
        (512, 512, 16384),
        (2048, 32768, 4096),
    ]
)


def _timed(rows: Products, sheet: DataSheet = A100, weight_gradient: float = 1.0, **how: Any) -> Products:
    seconds = subject.seconds(rows, sheet, gemm_constants(**TRUE), weight_gradient=weight_gradient)
    timed_rows: Products = timed(rows, seconds, **how)
    return timed_rows


def test_known_constants_come_back_to_the_digit() -> None:
    fitted = subject.fit(_timed(some_products(600)), A100, START)
    constants = fitted.constants.model_dump()
    assert {name: constants[name] for name in SIX} == pytest.approx(TRUE, rel=0.02)
    assert set(fitted.borrowed) == {"weight_gradient"}
    assert (fitted.used, fitted.dropped) == (600, 0)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), efficiency=st.floats(0.3, 1.0), launch=st.floats(1e-6, 60e-6))
def test_noise_and_outliers_do_not_mislead(seed: int, efficiency: float, launch: float) -> None:
    truth = gemm_constants(**{**TRUE, "efficiency": efficiency, "launch": launch})
    rows = some_products(600, seed)
    measured = timed(rows, subject.seconds(rows, A100, truth), noise=0.04, outliers=0.08, seed=seed)
    fitted = subject.fit(measured, A100, START)
    assert not {"efficiency", "launch", "sustained"} & set(fitted.borrowed)
    for name, off in {"efficiency": 0.05, "launch": 0.15, "sustained": 0.08, "bandwidth_efficiency": 0.15}.items():
        expected = getattr(START if name in fitted.borrowed else truth, name)
        assert getattr(fitted.constants, name) == pytest.approx(expected, rel=off, abs=0.5e-6), name


def test_no_rows_leave_all_as_it_was() -> None:
    learned = subject.learn(some_products(0), A100, START, weight_gradient=0.95)
    constants = learned.fitted.constants.model_dump()
    assert {name: constants[name] for name in SIX} == {name: getattr(START, name) for name in SIX}
    assert learned.fitted.weight_gradient == 0.95
    assert set(learned.fitted.borrowed) == {*SIX, "weight_gradient"}
    assert learned.fitted.borrowed["efficiency"] == "no rows"
    assert (learned.fitted.used, learned.scores, learned.shapes.sizes) == (0, (), ())


def test_one_row_says_something_of_efficiency_only() -> None:
    fitted = subject.fit(_timed(products([4096], [4096], [4096])), A100, START)
    assert "efficiency" not in fitted.borrowed
    assert set(fitted.borrowed) >= {"bandwidth_efficiency", "launch", "fill", "small_tile", "sustained"}
    assert fitted.constants.launch == START.launch


def test_twelve_probes_fit_four_constants_and_borrow_two() -> None:
    probes = products(*_PROBES.T)
    long = products(*_PROBES[:1].T, sustained=1.0)
    fitted = subject.fit(
        _timed(Products.joined([probes, long]), noise=0.02), A100, gemm_constants(fill=60, small_tile=4)
    )
    assert set(fitted.borrowed) == {"fill", "small_tile", "weight_gradient"}
    assert fitted.borrowed["fill"] == "12 shapes, 60 needed"
    for name in ("efficiency", "bandwidth_efficiency", "sustained"):
        assert getattr(fitted.constants, name) == pytest.approx(TRUE[name], rel=0.06)
    assert fitted.constants.launch == pytest.approx(TRUE["launch"], abs=1e-6)


def test_short_calls_say_nothing_of_long_load() -> None:
    rows = _timed(some_products(400))
    short = rows.where(rows.seconds < 1.5e-3)
    fitted = subject.fit(short, A100, START)
    assert fitted.borrowed["sustained"] == "no call ran under long load"
    assert fitted.constants.sustained == START.sustained


def test_calls_of_seconds_decide_the_clock_under_load() -> None:
    """Even where long calls in short bursts say otherwise."""
    burst = some_products(300)
    cool = timed(burst, subject.seconds(burst, A100, gemm_constants(**{**TRUE, "sustained": 1.0})))
    long = _timed(products([8192, 4096], [8192, 4096], [8192, 8192], sustained=1.0))
    fitted = subject.fit(Products.joined([cool, long]), A100, START)
    assert fitted.constants.sustained == pytest.approx(TRUE["sustained"], rel=0.04)
    assert fitted.constants.efficiency == pytest.approx(TRUE["efficiency"], rel=0.03)


def test_weight_gradients_have_an_efficiency_of_their_own() -> None:
    rows = some_products(200)
    rows = replace(rows, weight_gradient=(np.arange(200) % 3 == 0).astype(float))
    fitted = subject.fit(_timed(rows, weight_gradient=0.85, noise=0.02), A100, START, weight_gradient=0.95)
    assert fitted.weight_gradient == pytest.approx(0.85, rel=0.02)
    assert "weight_gradient" not in fitted.borrowed


def test_times_that_cannot_be_are_left_out_and_counted() -> None:
    rows = _timed(some_products(300))
    wrong = rows.seconds.copy()
    wrong[:5] = rows.flops[:5] / (1.1 * A100.peak)
    wrong[5:8] *= 30.0
    wrong[8] = np.nan
    fitted = subject.fit(replace(rows, seconds=wrong), A100, START)
    assert (fitted.used, fitted.dropped) == (291, 9)
    assert fitted.constants.efficiency == pytest.approx(TRUE["efficiency"], rel=0.02)


@pytest.mark.parametrize(
    ("unit", "known"),
    [
        ("vector", {"efficiency", "bandwidth_efficiency", "launch", "fill", "small_tile", "sustained"}),
        ("systolic-array", {"efficiency", "bandwidth_efficiency"}),
    ],
)
def test_other_units_are_fitted_too(unit: Any, known: set[str]) -> None:
    sheet = DataSheet(peak=2e12, bandwidth=40e9, processors=32.0, element_bytes=4.0, matrix_unit=unit)
    m, n, k = np.round(2.0 ** np.random.default_rng(0).uniform(2.0, 12.0, (3, 600)))
    fitted = subject.fit(_timed(products(m, n, k), sheet, noise=0.02), sheet, START)
    assert known <= set(SIX) - set(fitted.borrowed)
    for name in known:
        assert getattr(fitted.constants, name) == pytest.approx(TRUE[name], rel=0.1, abs=0.5e-6), name


def test_the_analytic_backend_prices_vector_units() -> None:
    device = load_device("a100-sxm4-80gb").model_copy(update={"device_class": "cpu"})
    graphics = AnalyticBackend.of(plain_host(load_device("a100-sxm4-80gb")), 1, "fp32")
    cores = AnalyticBackend.of(plain_host(device), 1, "fp32")
    sizes = {"k": 768.0, "batch": 1.0, "element_bytes": 4.0}
    gemm, sheet = load_class("cpu").gemm["fp32"], DataSheet.of(device, "fp32")
    assert sheet.matrix_unit == "vector"
    assert asking.gemm(cores, 512.0, 3072.0, **sizes) == pytest.approx(
        matmul.vector_gemm_time(
            512.0,
            3072.0,
            k=768.0,
            element_bytes=4.0,
            peak=sheet.peak,
            bandwidth=sheet.bandwidth,
            efficiency=gemm.efficiency * gemm.sustained,
            bandwidth_efficiency=gemm.bandwidth_efficiency,
            launch=gemm.launch,
            fill=gemm.fill,
            small_tile=gemm.small_tile,
            sustained=1.0,
        )
    )
    both = asking.gemm(AnalyticBackend.stack([graphics, cores]), 512.0, 3072.0, **sizes)
    assert both == pytest.approx([float(asking.gemm(each, 512.0, 3072.0, **sizes)) for each in (graphics, cores)])


def test_the_form_prices_rows_as_the_backend_does() -> None:
    """Fitted constants would mean something else otherwise."""
    backend = AnalyticBackend.of(plain_host(load_device("a100-sxm4-80gb")), 1, "bf16")
    rows = products([4096.0, 1000.0], [3072.0, 1024.0], [1024.0, 4096.0], sustained=1.0)
    shared: dict[str, Any] = {"k": rows.k, "batch": 1.0, "element_bytes": 2.0}
    assert subject.seconds(rows, A100, START) == pytest.approx(
        asking.gemm(backend, rows.m, rows.n, alignment=matmul.alignment_share(rows.n, rows.k), **shared)
    )


def test_number_formats_are_not_mixed() -> None:
    rows = replace(some_products(2), dtype=np.array(["bf16", "fp32"]))
    with pytest.raises(ValueError, match="bf16, fp32"):
        subject.fit(rows, A100, START)


def test_residuals_give_measured_times_back_and_stay_small() -> None:
    rows = _timed(some_products(3000), noise=0.1)
    learned = subject.learn(rows, A100, START, most_shapes=2000)
    sizes, residuals = np.array(learned.shapes.sizes), np.array(learned.shapes.residuals)
    fitted = subject.seconds(products(*sizes.T[:3]), A100, learned.fitted.constants)
    truth: dict[tuple[float, ...], list[float]] = {}
    for shape, seconds in zip(subject.sizes(rows).tolist(), rows.seconds.tolist(), strict=True):
        truth.setdefault(tuple(shape), []).append(float(np.log(seconds)))
    means = [np.mean(truth[shape]) for shape in learned.shapes.sizes]
    assert np.log(fitted) + residuals == pytest.approx(means, abs=1e-4)
    assert len(sizes) == 2000
    assert len(yaml.safe_dump(learned.shapes.model_dump(mode="json"), default_flow_style=True)) < 150_000


def test_noise_is_not_learned_from_the_rows_that_are_scored() -> None:
    """Residuals of scored rows would take their own noise away."""
    learned = subject.learn(_timed(some_products(1200), noise=0.1), A100, START)
    assert learned.scores[0].fitted + learned.scores[0].scored == 1200
    for score in learned.scores:
        assert 0.055 < score.median < 0.085
        assert score.with_residuals is not None
        assert 0.055 < score.with_residuals < 0.085


def test_few_rows_are_not_scored() -> None:
    assert subject.learn(_timed(some_products(7)), A100, START).scores == ()


def _table(name: str, device: str, **where: str) -> Products:
    return tables.read(f"{name}.csv.gz", device, where=where).products


@pytest.mark.parametrize(
    ("table", "device", "where", "most"),
    [
        ("gemm_aic_a100_bf16", "a100-sxm4-80gb", {"collector": "trtllm-1.0.0"}, (0.04, 0.032, 0.02)),
        ("gemm_aic_hopper_bf16", "h100-sxm5-80gb", {}, (0.048, 0.04, 0.02)),
    ],
)
def test_tables_are_met_on_weights_that_were_held_out(
    table: str, device: str, where: dict[str, str], most: tuple[float, float, float]
) -> None:
    profile = load_class(load_device(device).device_class)
    sheet = DataSheet.of(load_device(device), "bf16")
    learned = subject.learn(_table(table, device, **where), sheet, profile.gemm["bf16"])
    scores = {score.what: score for score in learned.scores}
    large = scores["large bf16 products"]
    assert large.scored > 400
    assert large.median <= most[0]
    assert large.with_residuals is not None
    assert large.with_residuals <= most[1]
    assert abs(large.bias) <= most[2]
    every = scores["all bf16 products"]
    assert every.median <= 0.07
    assert every.with_residuals is not None
    assert every.with_residuals <= 0.055
    assert set(learned.fitted.borrowed) == {"weight_gradient"}


@pytest.mark.parametrize(
    ("device", "sheet", "most"),
    [("b200", "b200-sxm-180gb", 0.055), ("gb300", "gb300", 0.055), ("l40s", "l40s", 0.095)],
)
def test_another_generation_is_met_from_far_constants(device: str, sheet: str, most: float) -> None:
    rows = _table("gemm_aic_ada_blackwell_bf16", device)
    learned = subject.learn(rows, DataSheet.of(load_device(sheet), "bf16"), START)
    large = next(score for score in learned.scores if score.what.startswith("large"))
    assert large.before is not None
    assert large.median <= most < large.before


def test_training_passes_of_a_table_give_the_weight_gradient() -> None:
    sheet = DataSheet.of(load_device("a100-pcie-80gb"), "bf16")
    rows = _table("gemm_simumax_bf16_passes", "a100-pcie-80gb")
    learned = subject.learn(rows, sheet, load_class("a100-pcie").gemm["bf16"])
    assert learned.fitted.weight_gradient == pytest.approx(0.95, abs=0.02)
    assert learned.scores[0].median <= 0.03
