"""The measured profiles that come with capsim: what they are fitted to, and how far off they are on what they had not
seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hardware.catalogue import load_device, load_profile, names, plain_host
from hardware.measured import HeldOutScore, MeasuredProfile
from simulator.formulas.matmul import alignment_share
from simulator.pricing.analytic import AnalyticBackend
from simulator.pricing.measured import device_of
from simulator.profiling import shipped
from simulator.profiling.calibrate import calibrate
from simulator.profiling.fit.steps import compare
from simulator.profiling.records.journal import read
from simulator.profiling.records.reading import steps_of
from simulator.profiling.tables import reading as tables
from simulator.profiling.writing import text_of
from tests.pricing import asking

STEPS = Path(__file__).parent / "records" / "cpu-amd-epyc-steps.jsonl"
"""Steps of models that the shipped record of the CPU does not have, timed in turns with it."""


def _score(profile: MeasuredProfile, what: str) -> HeldOutScore:
    return next(each for each in profile.held_out if each.what == what)


def test_all_that_is_shipped_has_a_recipe_or_a_record() -> None:
    assert set(names("profiles")) == {*shipped.recipes(), *(each.id for each in shipped.records())}


def test_a_profile_is_what_its_recipe_makes_of_the_tables() -> None:
    profile = shipped.fit("a100-pcie", shipped.recipes()["a100-pcie"])
    assert text_of(profile) == text_of(load_profile("a100-pcie"))


def test_a_profile_is_what_is_made_of_its_record() -> None:
    (record,) = shipped.records()
    assert text_of(calibrate([record.file], name=record.id)) == text_of(load_profile(record.id))


@pytest.mark.parametrize("name", ["a100-sxm", "h100-sxm"])
def test_large_products_are_within_five_per_cent(name: str) -> None:
    score = _score(load_profile(name), "large bf16 products")
    assert score.scored > 400
    assert score.median <= 0.05
    assert score.with_residuals is not None
    assert score.with_residuals <= 0.04


@pytest.mark.parametrize("name", ["v100-pcie", "a100-pcie-40gb", "a100-pcie"])
def test_large_products_of_plain_cores_are_within_five_per_cent(name: str) -> None:
    score = _score(load_profile(name), "large fp32 products")
    assert score.scored > 200
    assert score.median <= 0.05


@pytest.mark.parametrize("device", ["v100-pcie-32gb", "t4", "h100-sxm5-80gb"])
def test_odd_widths_do_not_slow_products_of_plain_cores_down(device: str) -> None:
    """A vocabulary of 30,522 is as fast as its neighbours: what the simulator prices, and what the tables say."""
    rows = tables.read("gemm_neusight_fp32_large.csv.gz", device, shortest=300e-6).products
    rows = rows.where(rows.large & (rows.batch == 1.0))
    sheet = load_device(device)
    backend = AnalyticBackend.of(plain_host(sheet), 1, "fp32")
    share = np.asarray(alignment_share(rows.n, rows.k))
    priced = asking.gemm(backend, rows.m, rows.n, k=rows.k, element_bytes=4.0, alignment=share)
    odd = share < 0.7
    assert odd.sum() > 50
    off = np.log(np.asarray(priced) / rows.seconds)
    assert abs(np.median(off[odd]) - np.median(off[~odd])) < 0.15


@pytest.mark.parametrize("name", ["a100-sxm", "h100-sxm", "h200-sxm", "b200-sxm", "b300", "gb200", "gb300"])
def test_collectives_on_nvlink_are_within_six_per_cent(name: str) -> None:
    score = _score(load_profile(name), "all")
    assert score.phase == "collective"
    assert score.scored > 50
    assert score.median <= 0.06


def test_steps_on_a_cpu_that_were_not_fitted_are_within_five_per_cent() -> None:
    profile = load_profile("cpu-amd-epyc")
    steps = steps_of(read(STEPS))
    fitted = {step.model.id for record in shipped.records() for step in steps_of(read(record.file))}
    assert not fitted & {step.model.id for step in steps}
    compared = compare(steps, profile, device_of(profile))
    errors = np.abs([each.error for each in compared])
    before = np.abs([each.before_s / each.step.seconds - 1.0 for each in compared])
    assert len({(each.step.case.key) for each in compared}) >= 12
    assert {step.model.family for step in steps} == {"bert", "palm"}
    assert float(np.median(errors)) <= 0.05 < float(np.median(before))
    assert float(errors.max()) <= 0.15
