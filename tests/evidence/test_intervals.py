"""Intervals: quantiles by their definition, coverage, and what is near."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from simulator.evidence import held_out
from simulator.evidence.batch import mapped
from simulator.evidence.errors import SCHEMES, Scheme, shipped_errors
from simulator.evidence.intervals import LEVEL, HeldOutErrors, interval_score, widening
from simulator.evidence.traits import APART, DIFFERENT, habits_of, traits_of
from simulator.evidence.validation import Validation
from simulator.scenario.scenario import resolve
from simulator.step.likeness import Values, quantiles, weighted_quantiles
from tests.evidence.examples import fitted_to, timed

_TRAITS: dict[str, Any] = {
    "class": "a100-sxm",
    "kind": "gpu",
    "family": "megatron",
    "stack": "megatron-lm",
    "precision": "bf16",
    "objective": "causal",
    "experts": "False",
    "devices": 6.0,
    "hidden_size": 12.0,
    "tokens": 12.0,
    "pipeline_across": 0.0,
    "tensor_beyond": 0.0,
    "context": 0.0,
    "hybrid": 0.0,
    "zero_bubble": 0.0,
}
_TAILS = np.array([0.05, 0.95])
_OTHER = {"class": "v100", "family": "huggingface", "stack": "huggingface", "objective": "mlm"}


def _errors(scores: Values, traits: list[dict[str, Any]], sources: list[str] | None = None) -> HeldOutErrors:
    """Errors of made-up runs, each a source of its own unless told."""
    names = sources or [f"source {row}" for row in range(len(scores))]
    return HeldOutErrors(
        ids=np.array([f"run {row}" for row in range(len(scores))]),
        sources=np.array(names),
        groups=np.array(names),
        traits={name: np.array([each[name] for each in traits]) for name in _TRAITS},
        scores=np.asarray(scores, dtype=np.float64),
        factor=1.0,
    )


# Quantiles


def _defined(values: list[float], weights: list[float], share: float) -> float:
    """Where the weight below, counting half of a value's own, is a share of all; straight lines between values."""
    pairs = sorted(zip(values, weights, strict=True))
    whole, below = sum(weights), 0.0
    corners = []
    for value, weight in pairs:
        corners.append(((below + weight / 2.0) / whole, value))
        below += weight
    for (left, low), (right, high) in pairwise(corners):
        if left <= share <= right:
            return low + (high - low) * (share - left) / (right - left)
    return corners[0][1] if share < corners[0][0] else corners[-1][1]


@pytest.mark.parametrize("seed", range(20))
def test_quantiles_are_as_defined(seed: int) -> None:
    random = np.random.default_rng(seed)
    values, weights = random.normal(size=random.integers(1, 40)), random.uniform(0.01, 3.0, 40)
    weights = weights[: len(values)]
    tail = float(random.uniform(0.01, 0.4))
    low, high = quantiles(values, weights, np.array([tail, 1.0 - tail]))
    assert low == pytest.approx(_defined(values.tolist(), weights.tolist(), tail))
    assert high == pytest.approx(_defined(values.tolist(), weights.tolist(), 1.0 - tail))
    assert values.min() <= low <= high <= values.max()


def test_quantiles_of_equal_weights_are_hazens() -> None:
    values = np.random.default_rng(1).normal(size=57)
    for weight in (1.0, 7.5):
        weighted_quantiles = quantiles(values, np.full(57, weight), _TAILS)
        assert weighted_quantiles == pytest.approx(np.quantile(values, _TAILS, method="hazen"))


def test_values_without_weight_do_not_count() -> None:
    values, weights = np.array([0.0, 1.0, 5.0, 6.0]), np.array([1.0, 1.0, 1.0, 1.0])
    shares = np.array([0.05, 0.3, 0.5, 0.7, 0.95])
    whole = quantiles(values, weights, shares)
    more = np.array([-9.0, 0.9, 5.9, 99.0])
    assert quantiles(np.append(values, more), np.append(weights, np.zeros(4)), shares) == pytest.approx(whole)


# Coverage


@pytest.mark.parametrize("seed", range(3))
def test_fresh_runs_of_one_kind_are_covered(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.standard_t(3, size=2000) * 0.1 + 0.05
    interval = _errors(scores[:1000], [_TRAITS] * 1000).around(_TRAITS)
    inside = (np.log(interval.low) <= scores[1000:]) & (scores[1000:] <= np.log(interval.high))
    assert np.mean(inside) == pytest.approx(LEVEL, abs=0.035)


def test_runs_that_are_alike_decide() -> None:
    random = np.random.default_rng(5)
    narrow, wide = random.normal(size=(2, 900)) * np.array([[0.05], [0.4]])
    errors = _errors(np.concatenate([narrow[:600], wide[:600]]), [_TRAITS] * 600 + [_TRAITS | _OTHER] * 600)
    for traits, fresh in ((_TRAITS, narrow[600:]), (_TRAITS | _OTHER, wide[600:])):
        interval = errors.around(traits)
        assert 0.86 <= np.mean((np.log(interval.low) <= fresh) & (fresh <= np.log(interval.high))) <= 0.97
    assert errors.around(_TRAITS).high < errors.around(_TRAITS | _OTHER).high / 1.3


def test_an_interval_always_holds_the_prediction() -> None:
    interval = _errors(np.linspace(0.2, 0.4, 50), [_TRAITS] * 50).around(_TRAITS)
    assert interval.low == 1.0
    assert interval.high > 1.2


def test_the_factor_scales_intervals() -> None:
    errors = _errors(np.linspace(-0.3, 0.4, 50), [_TRAITS] * 50)
    one, two = errors.around(_TRAITS), replace(errors, factor=2.0).around(_TRAITS)
    assert two.low == pytest.approx(one.low**2)
    assert two.high == pytest.approx(one.high**2)


def test_a_large_source_weighs_less_than_in_proportion() -> None:
    sources = ["large"] * 400 + ["small"] * 40
    errors = _errors(np.zeros(440), [_TRAITS] * 440, sources)
    large, small = errors.weights[:400].sum(), errors.weights[400:].sum()
    assert small == pytest.approx(40.0)
    assert small < large < 10.0 * small


@pytest.mark.parametrize("scheme", SCHEMES)
def test_left_out_runs_are_covered(validation: Validation, scheme: Scheme) -> None:
    document = validation.to_dict()
    coverage = document["known_stack"]["coverage_90"] if scheme == "known stack" else document["interval_coverage_90"]
    assert 0.88 <= coverage <= 0.92


@pytest.mark.parametrize("scheme", SCHEMES)
def test_stored_errors_are_those_of_the_validation(validation: Validation, scheme: Scheme) -> None:
    errors = shipped_errors(scheme)
    stored = dict(zip(errors.ids.tolist(), errors.logarithms.tolist(), strict=True))
    assert set(stored) == {each.id for each in validation.outcomes}
    for each in validation.outcomes:
        predicted = each.predicted_s if scheme == "new source" else each.known_stack_s
        assert np.log(each.measured_s / predicted) == pytest.approx(stored[each.id], abs=1e-3)


# Distance


def test_widening_starts_beyond_the_evidence_and_grows() -> None:
    distances = np.linspace(0.0, 4.0, 81)
    factors = widening(distances)
    assert np.all(factors[distances <= 0.25] == 1.0)
    assert np.all(np.diff(factors) >= 0.0)
    assert np.all(np.diff(factors[distances > 0.5]) > 0.0)


def test_intervals_grow_with_distance() -> None:
    errors = _errors(np.linspace(-0.3, 0.3, 60), [_TRAITS] * 60)
    intervals = [errors.around(_TRAITS | {"devices": 6.0 + more}) for more in (0.0, 4.0, 8.0, 16.0, 64.0)]
    assert [each.distance for each in intervals] == pytest.approx([0.0, 0.4, 0.8, 1.6, 6.4])
    widths = [np.log(each.high / each.low) for each in intervals]
    assert all(more > less for less, more in pairwise(widths))


def test_each_trait_counts() -> None:
    errors = _errors(np.zeros(3), [_TRAITS] * 3)
    for name, value in _TRAITS.items():
        other = value + 1.0 if isinstance(value, float) else "something else"
        assert errors.around(_TRAITS | {name: other}).distance > 0.0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_nearest_runs_are_the_nearest(scheme: Scheme) -> None:
    errors = shipped_errors(scheme)
    for case in mapped(timed()[5::211]).cases:
        traits = traits_of(case)
        distances, interval = errors.distances(traits), errors.around(traits)
        assert interval.distance == distances.min()
        named = [float(distances[errors.ids == name][0]) for name in interval.nearest]
        assert named == sorted(distances)[:3]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scenario_equal_to_a_run_has_no_distance(scheme: Scheme) -> None:
    errors = shipped_errors(scheme)
    for case in mapped(fitted_to("bigscience", 5) + fitted_to("maxtext_tpu", 5)).cases:
        traits = traits_of(case)
        assert errors.distances(traits)[errors.ids == case.run.id] == pytest.approx([0.0])
        assert errors.around(traits).distance == 0.0


# What is left out


def test_what_is_not_among_is_left_out() -> None:
    random = np.random.default_rng(3)
    errors = _errors(random.normal(size=60) * 0.2, [_TRAITS] * 30 + [_TRAITS | _OTHER] * 30)
    among = np.arange(60) >= 30
    interval = errors.around(_TRAITS, among=among)
    assert interval.distance == pytest.approx(0.6 + 0.8 + 0.6 + 0.3)
    assert set(interval.nearest) <= {f"run {row}" for row in range(30, 60)}
    assert (interval.runs, interval.sources) == (30, 30)
    assert errors.around(_TRAITS).distance == 0.0


@pytest.mark.parametrize("seed", range(6))
def test_the_errors_of_what_is_left_out_have_no_influence(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, among = random.normal(size=60) * 0.2, np.arange(60) >= 30
    changed = np.where(among, scores, 10.0 * scores)
    before, after = (_errors(each, [_TRAITS] * 60).around(_TRAITS, among=among) for each in (scores, changed))
    assert (after.low, after.high) == pytest.approx((before.low, before.high), rel=1e-12)


def test_around_each_is_around_without_its_group() -> None:
    random = np.random.default_rng(6)
    sources = [f"source {row // 4}" for row in range(40)]
    traits = [_TRAITS | {"devices": float(row % 5)} for row in range(40)]
    errors = _errors(random.normal(size=40) * 0.2, traits, sources)
    low, high = errors.around_each()
    nearest = errors.nearest_of_others
    for row in (0, 7, 39):
        interval = errors.around(traits[row], among=errors.groups != errors.groups[row])
        wide = float(widening(nearest[row]))
        assert interval.distance == nearest[row]
        assert interval.low == pytest.approx(min(np.exp(wide * low[row]), 1.0))
        assert interval.high == pytest.approx(max(np.exp(wide * high[row]), 1.0))


# Many scenarios at once, and the score


@pytest.mark.parametrize("seed", range(10))
def test_quantiles_of_rows_are_those_of_each(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = np.sort(random.normal(size=int(random.integers(1, 40))))
    weights, shares = random.uniform(0.01, 3.0, (4, len(values))), np.array([0.0, 0.05, 0.5, 0.7, 1.0])
    together = weighted_quantiles(values, weights, shares)
    for row, each in zip(together, weights, strict=True):
        assert row == pytest.approx(quantiles(values, each, shares))
        assert weighted_quantiles(values, each, shares) == pytest.approx(row)


def test_several_scenarios_are_as_each_alone() -> None:
    errors, shares = shipped_errors("new source"), np.array([0.3, 0.7])
    sizes, beyond = np.array([9.0, 12.5, 15.0]), np.array([0.0, 1.0, 0.0])
    together = errors.factors({**_TRAITS, "tokens": sizes, "tensor_beyond": beyond}, shares)
    for row, size, flag in zip(together, sizes, beyond, strict=True):
        alone = errors.factors({**_TRAITS, "tokens": size, "tensor_beyond": flag}, shares)
        assert alone == pytest.approx(row, rel=1e-12)


def test_few_runs_that_are_alike_are_held_by_all() -> None:
    scores = np.concatenate([np.linspace(0.5, 0.6, 4), np.linspace(-0.2, 0.2, 400)])
    errors = _errors(scores, [_TRAITS] * 4 + [_TRAITS | _OTHER] * 400)
    held, free = replace(errors, prior=100.0), replace(errors, prior=1e-6)
    assert free.around(_TRAITS).high == pytest.approx(np.exp(0.6), rel=0.02)
    assert held.around(_TRAITS).high < free.around(_TRAITS).high


def test_narrow_intervals_score_best_while_they_cover() -> None:
    truth = np.random.default_rng(8).normal(size=4000)
    means = [float(np.mean(interval_score(truth, np.full(4000, -z), np.full(4000, z)))) for z in (1.0, 1.645, 3.0)]
    assert means[1] < means[0]
    assert means[1] < means[2]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_shipped_way_scores_least(scheme: Scheme) -> None:
    errors = shipped_errors(scheme)
    wide = widening(errors.nearest_of_others)
    chosen, same = held_out._covering(errors, wide)
    assert same.factor == pytest.approx(errors.factor, abs=2e-3)
    for reach, prior in held_out._WAYS[::3]:
        assert chosen <= held_out._covering(replace(errors, reach=reach, prior=prior), wide)[0] + 1e-3


def test_habits_are_read_from_degrees_and_places() -> None:
    scenario = resolve("gpt3-175b", "superpod-a100", devices=256)
    degrees = {"dp": 4, "tp": 8, "pp": 8, "cp": 1, "placement": ("tp", "cp", "dp", "pp")}
    plan = scenario.plan.model_copy(update={**degrees, "sharding": "zero1", "sharding_group": None})

    def habits(**changes: Any) -> set[str]:
        flags = habits_of(plan.model_copy(update=changes).columns(scenario.workload), 8.0)
        return {name for name, flag in flags.items() if flag}

    assert habits() == {"pipeline_across"}
    assert habits(placement=("pp", "tp", "cp", "dp")) == {"tensor_beyond"}
    assert habits(pp=1, dp=32) == set()
    assert habits(tp=16, dp=2) == {"pipeline_across", "tensor_beyond"}
    assert habits(cp=2, dp=2) == {"pipeline_across", "context"}
    assert habits(sharding_group=2) == {"pipeline_across", "hybrid"}
    assert habits(schedule="zero-bubble") == {"pipeline_across", "zero_bubble"}


def test_traits_have_a_cost_each() -> None:
    (case,) = mapped(fitted_to("maxtext_tpu", 1)).cases
    assert set(traits_of(case)) == {*DIFFERENT, *APART}
