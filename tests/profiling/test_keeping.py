"""Kinds of work that keep the catalogue's constants, because a fit is worse on rows that it had not seen."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hardware.catalogue import load_class
from hardware.measured import HeldOutScore, MeasuredProfile
from simulator.pricing.measured import device_of
from simulator.profiling.fit import keeping
from simulator.profiling.fit.steps import compare
from simulator.profiling.records.reading import steps_of
from simulator.profiling.records.record import Case, Record, Result, Session
from tests.profiling.conftest import Fit
from tests.profiling.made_up import graphics


def _scores(profile: MeasuredProfile) -> dict[str, HeldOutScore]:
    return {score.what: score for score in profile.held_out}


def test_a_fit_that_is_worse_on_other_rows_is_not_taken(fit: Fit) -> None:
    """The device is as the catalogue says, and its times are mostly noise."""
    made = graphics()
    as_catalogued = replace(made, truth=made.truth.model_copy(update={"constants": load_class("rtx-3090")}))
    words = []
    for seed in range(3):
        probes = as_catalogued.record(tiers=("probe",), noise=0.6, seed=seed, keep=lambda case: case.phase == "gemm")
        profile = fit(probes)
        refused = "gemm.bf16" in profile.kept
        assert refused == ("bf16" not in profile.fitted)
        assert refused == (profile.constants.gemm["bf16"] == load_class("rtx-3090").gemm["bf16"])
        assert {score.constants for score in profile.held_out} == {"catalogue" if refused else "fitted"}
        assert refused or not any(keeping.is_worse(score) for score in profile.held_out)
        words += [profile.kept["gemm.bf16"]] if refused else []
    assert words
    assert all("off by a fit to" in each and each.endswith("% by the catalogue") for each in words)


def _slowed(record: Record, factor: Callable[[Case], float]) -> Record:
    """A record in which cases take so many times as long."""

    def slower(result: Result) -> Result:
        if result.times is None:
            return result
        names = ("least", "lower_quartile", "median", "upper_quartile")
        times = {name: factor(result.case) * getattr(result.times, name) for name in names}
        return result.model_copy(update={"times": result.times.model_copy(update=times)})

    (session,) = record.sessions
    return Record((Session(session.environment, tuple(slower(result) for result in session.results)),))


def _noisy(seed: int, wanted: Callable[[Case], bool]) -> Callable[[Case], float]:
    """Noise on some cases, the same for each whenever it is asked."""

    def factor(case: Case) -> float:
        random = np.random.default_rng([seed, zlib.crc32(case.key.encode())])
        return float(np.exp(random.normal(0.0, 0.9))) if wanted(case) else 1.0

    return factor


def _is_large(case: Case) -> bool:
    sizes = case.dimensions
    return case.phase == "gemm" and min(sizes["m"] * sizes.get("batch", 1), sizes["n"], sizes["k"]) >= 512


def test_what_paces_large_products_stays_where_only_these_are_told_worse(fit: Fit) -> None:
    """Launches take four times as long as the catalogue says, and large products are mostly noise about it."""
    known = load_class("rtx-3090")
    slow = known.gemm["bf16"].model_copy(update={"launch": 4.0 * known.gemm["bf16"].launch})
    truth = known.model_copy(update={"gemm": {**known.gemm, "bf16": slow}})
    made = graphics()
    made = replace(made, truth=made.truth.model_copy(update={"constants": truth}))
    record = made.record(tiers=("probe", "model"), noise=0.01, keep=lambda case: case.phase == "gemm")
    for seed in range(8):
        profile = fit(_slowed(record, _noisy(seed, _is_large)))
        if "gemm.bf16.efficiency" in profile.kept:
            break
    fitted = profile.constants.gemm["bf16"]
    assert fitted.efficiency == known.gemm["bf16"].efficiency
    assert fitted.bandwidth_efficiency == known.gemm["bf16"].bandwidth_efficiency
    assert fitted.launch == pytest.approx(slow.launch, rel=0.25)
    assert "; large bf16 products " in profile.kept["gemm.bf16.efficiency"]
    scores = _scores(profile)
    assert not any(keeping.is_worse(score) for score in profile.held_out)
    small = scores["small bf16 products"]
    assert small.before is not None
    assert small.median < 0.5 * small.before


def test_steps_that_are_told_worse_than_by_the_catalogue_keep_its_prices(fit: Fit) -> None:
    """Each model's steps are off by a factor of its own, which no other model tells."""
    off = {"bert-base": 5.0, "gpt2-124m": 0.2, "llama-3.2-1b": 3.0}
    profile = fit(
        _with_parts(graphics().record(tiers=("step",)), lambda case: off.get(case.variant.partition("/")[0], 1.0))
    )
    (score,) = [each for each in profile.held_out if each.phase == "step"]
    assert score.before is not None
    assert keeping.is_worse(score) == (score.constants == "catalogue") == ("steps" in profile.kept)
    assert ("steps" in profile.kept) == (profile.stacks == {})
    assert "steps" in profile.kept


def _with_parts(record: Record, factor: Callable[[Case], float]) -> Record:
    """A record in which steps and their parts take so many times as long."""
    (session,) = _slowed(record, factor).sessions

    def parts_too(result: Result) -> Result:
        names = ("least", "lower_quartile", "median", "upper_quartile")
        parts = {
            part: times.model_copy(update={name: factor(result.case) * getattr(times, name) for name in names})
            for part, times in result.parts.items()
        }
        return result.model_copy(update={"parts": parts})

    return Record((Session(session.environment, tuple(parts_too(result) for result in session.results)),))


def test_streams_that_are_told_worse_keep_the_catalogue(fit: Fit) -> None:
    made = graphics()
    as_catalogued = replace(made, truth=made.truth.model_copy(update={"constants": load_class("rtx-3090")}))
    record = as_catalogued.record(tiers=("model", "size", "spread"), keep=lambda case: case.phase == "normalisation")
    kept = []
    for seed in range(6):
        profile = fit(_slowed(record, _noisy(seed, lambda case: case.phase == "normalisation")))
        scores = [each for each in profile.held_out if each.what == "normalisation and softmax"]
        same = (
            profile.constants.memory.normalisation_efficiency == load_class("rtx-3090").memory.normalisation_efficiency
        )
        worse = any(keeping.is_worse(each) for each in scores)
        assert worse == same == ("memory.normalisation_efficiency" in profile.kept)
        kept.append(worse)
    assert any(kept)
    assert not all(kept)


def test_collectives_that_are_told_worse_keep_the_catalogue(fit: Fit) -> None:
    """Measured all-gathers are mostly noise; all-reduces are as they are."""
    made = graphics()
    record = made.record(tiers=(), ranks=4)
    for seed in range(8):
        profile = fit(_noisy_collectives(record, seed))
        if "links.all_gather" in profile.kept:
            break
    assert "all_gather" not in profile.links
    assert "all_reduce" in profile.links
    score = _scores(profile)["all-gather"]
    assert (score.phase, score.constants) == ("collective", "catalogue")
    assert _scores(profile)["all-reduce"].constants == "fitted"
    assert profile.kept["links.all_gather"].startswith("all-gather ")


def _noisy_collectives(record: Record, seed: int) -> Record:
    noisy = _noisy(seed, lambda case: case.operation == "all_gather")
    kernels, exchanges = record.sessions
    (changed,) = _slowed(Record((exchanges,)), noisy).sessions
    return Record((kernels, changed))


def test_one_step_is_held_against_what_kernels_alone_say(fit: Fit) -> None:
    made = graphics()
    record = made.record(("bert-base",), ("first", "probe", "whole", "model"))
    profile = fit(record)
    assert profile.borrowed["steps"] == "1 training step was measured, and 3 are needed"
    (score,) = [each for each in profile.held_out if each.phase == "step"]
    assert (score.what, score.fitted, score.scored) == ("steps by kernels alone", 0, 1)
    (asked,) = compare(steps_of(record), profile, device_of(profile))
    assert score.median == pytest.approx(abs(asked.error), abs=1e-4)
