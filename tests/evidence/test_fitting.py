"""Fits on runs whose truth is known: they find it, shrug off outliers, stay near their priors, and repeat exactly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from hardware.errors import InputError
from simulator.corpus.mapping import MappedRun
from simulator.corpus.runs import Run
from simulator.evidence import refit
from simulator.evidence.batch import Mapped, RunBatch, Values, mapped, shifts_of
from simulator.evidence.fitting import ConstantsFit, Jacobian, Mask, Parameters
from simulator.pricing.constants import KINDS, Constants, shipped
from tests.evidence.examples import fitted_to, made, timed_as

_SOURCES = {"bigscience": 18, "megatron_sc21": 12, "mosaic_gpt_2022": 20, "internevo": 10}
_SLOWER = -float(np.log(1.4))


def _cases() -> Mapped:
    return mapped(run for source, most in _SOURCES.items() for run in fitted_to(source, most))


def _truth(cases: Sequence[MappedRun]) -> Constants:
    """Made-up constants for everything that the cases feel, each within its prior."""
    parameters = Parameters.of(cases)
    random = np.random.default_rng(11)
    return parameters.constants(random.uniform(-0.7, 0.7, len(parameters.names)) * parameters.deviation, "made up")


def _noise(size: int, width: float = 0.004) -> Values:
    return np.asarray(np.exp(width * np.sin(2.3 * np.arange(size))), dtype=np.float64)


def _measured(cases: Sequence[MappedRun], times: Values) -> list[MappedRun]:
    """Cases that took as long as said."""
    return [timed_as(case, float(seconds)) for case, seconds in zip(cases, times, strict=True)]


@pytest.fixture(scope="module")
def cases() -> list[MappedRun]:
    """Shipped cases that took what known constants say, nearly."""
    mapped_runs = list(_cases().cases)
    times = RunBatch(mapped_runs).price(shifts_of(mapped_runs, _truth(mapped_runs))).time
    return _measured(mapped_runs, times * _noise(len(mapped_runs)))


@pytest.fixture(scope="module")
def fit(cases: list[MappedRun]) -> ConstantsFit:
    return ConstantsFit(cases)


@pytest.fixture(scope="module")
def solution(fit: ConstantsFit) -> Values:
    return fit.solve(_every(fit))


@pytest.fixture(scope="module")
def slopes(fit: ConstantsFit) -> Jacobian:
    """Derivatives at the centre."""
    return fit.jacobian(fit.centre)


def _every(fit: ConstantsFit) -> Mask:
    return np.ones(len(fit.measured), dtype=bool)


# Recovery


def test_there_is_something_to_find(fit: ConstantsFit) -> None:
    assert len(fit.measured) >= 50
    assert np.median(np.abs(fit.residuals(fit.centre))) > 0.04


def test_a_fit_recovers_what_is_predicted(fit: ConstantsFit, solution: Values) -> None:
    errors = np.abs(fit.residuals(solution))
    assert np.median(errors) < 0.01
    assert np.quantile(errors, 0.9) < 0.02


def test_gross_outliers_change_little(cases: list[MappedRun], fit: ConstantsFit, solution: Values) -> None:
    times = fit.measured.copy()
    times[::10] *= np.where(np.arange(len(times[::10])) % 2, 4.0, 0.2)
    spoilt = ConstantsFit(_measured(cases, times))
    spoilt_solution = spoilt.solve(_every(spoilt))
    changed = np.abs(fit.residuals(spoilt_solution) - fit.residuals(solution))
    assert np.median(changed) < 0.01
    assert np.median(np.abs(fit.residuals(spoilt_solution))) < 0.015


def test_a_fit_repeats_exactly(cases: list[MappedRun], fit: ConstantsFit, slopes: Jacobian) -> None:
    other = ConstantsFit(cases)
    again = other.jacobian(other.centre)
    assert all(np.array_equal(again[kind], slopes[kind]) for kind in KINDS)
    solutions = [each.solve(_every(each)) for each in (fit, fit, other)]
    assert np.array_equal(solutions[0], solutions[1])
    assert np.array_equal(solutions[0], solutions[2])


# Derivatives


@pytest.fixture(scope="module")
def tilted(fit: ConstantsFit) -> tuple[Values, Jacobian]:
    """Parameters beside the centre, where no share of time is 0 or 1, and the derivatives there."""
    vector = 0.05 * np.cos(np.arange(len(fit.centre)))
    return vector, fit.jacobian(vector)


@pytest.mark.parametrize("kind", ["products", "launches", "eager", "tensor_overlap", "outer_links", "optimizer"])
def test_the_jacobian_is_a_finite_difference(fit: ConstantsFit, tilted: tuple[Values, Jacobian], kind: str) -> None:
    vector, slopes, step = tilted[0], tilted[1][kind], 0.01
    for level, at in zip(KINDS[kind].levels, fit.parameters.felt[kind], strict=True):
        number = int(np.bincount(at).argmax())
        assert fit.parameters.names[number][:2] == (kind, level)
        moved = np.zeros_like(vector)
        moved[number] = step
        difference = (fit.residuals(vector + moved) - fit.residuals(vector - moved)) / (2.0 * step)
        assert difference == pytest.approx(np.where(at == number, slopes, 0.0), abs=2e-2)


def test_a_run_feels_one_parameter_a_level(cases: list[MappedRun], fit: ConstantsFit) -> None:
    parameters = fit.parameters
    assert len(set(parameters.names)) == len(parameters.names) == len(parameters.deviation)
    vector = np.arange(len(parameters.names), dtype=np.float64) / 1000.0
    constants = parameters.constants(vector, "numbered")
    shifts, numbered = shifts_of(cases, constants), parameters.shifts(vector)
    for kind in KINDS:
        assert getattr(shifts, kind) == pytest.approx(getattr(numbered, kind))
    assert parameters.vector(constants) == pytest.approx(vector)


# What does not count


def test_runs_that_are_not_used_have_no_influence(cases: list[MappedRun], fit: ConstantsFit) -> None:
    used = np.arange(len(cases)) % 3 > 0
    other = ConstantsFit(_measured(cases, np.where(used, fit.measured, 7.0 * fit.measured)))
    before, after = (each.solve(used) for each in (fit, other))
    assert np.array_equal(before, after)
    assert not np.array_equal(before, fit.centre)


def test_without_used_runs_nothing_moves(fit: ConstantsFit) -> None:
    assert np.array_equal(fit.solve(~_every(fit)), fit.centre)


def test_parameters_that_nothing_tells_of_stay_where_they_are(
    fit: ConstantsFit, solution: Values, slopes: Jacobian
) -> None:
    told = np.zeros(len(fit.centre), dtype=bool)
    for kind, levels in fit.parameters.felt.items():
        for at in levels:
            told[at[slopes[kind] != 0.0]] = True
    assert np.any(~told)
    assert np.all(solution[~told] == 0.0)


def test_trust_draws_to_the_centre(cases: list[MappedRun], fit: ConstantsFit) -> None:
    start = _truth(cases)
    slower = _measured(cases, 1.3 * fit.measured)
    away = []
    for trust in (0.1, 1.0, 10.0, 1e5):
        one = ConstantsFit(slower, start, trust)
        moved = one.solve(_every(one)) - one.centre
        away.append(float(np.linalg.norm(moved / one.parameters.deviation)))
    assert all(more > less for more, less in pairwise(away))
    assert away[-1] < 0.01 * away[1]


def test_priors_keep_constants_moderate(fit: ConstantsFit, solution: Values) -> None:
    assert np.max(np.abs(solution) / fit.parameters.deviation) < 3.0


def test_a_fit_to_few_runs_keeps_the_constants_of_the_others(cases: list[MappedRun]) -> None:
    base, parameters = shipped(), Parameters.of(cases[:1])
    constants = dict(parameters.constants(np.full(len(parameters.names), 0.25), "few", base).items())
    felt = set(parameters.names)
    assert all(constants[name] == 0.25 for name in felt)
    assert all(constants[name] == value for name, value in base.items() if name not in felt)


# Own runs


def _own(number: int) -> tuple[list[Run], list[MappedRun]]:
    """Runs of a stack whose products are 40 % slower, and more of them to judge by."""
    mapped_runs = list(mapped(fitted_to("mosaic_gpt_2022", 12)).cases)
    shifts = shifts_of(mapped_runs, shipped())
    times = RunBatch(mapped_runs).price(type(shifts)(**{**vars(shifts), "products": shifts.products + _SLOWER})).time
    slower = _measured(mapped_runs, times * _noise(len(mapped_runs)))
    chosen = np.linspace(0, len(mapped_runs) - 1, number).round().astype(int).tolist()
    return [slower[row].run for row in chosen], [case for row, case in enumerate(slower) if row not in chosen]


def _error(cases: list[MappedRun], constants: Constants) -> float:
    """Median error of constants."""
    measured = np.array([case.run.measured.step_time_s for case in cases], dtype=np.float64)
    return float(np.median(np.abs(RunBatch(cases).price(shifts_of(cases, constants)).time / measured - 1.0)))


def test_own_runs_improve_what_is_said_of_others() -> None:
    own_runs, others = _own(3)
    fitted_constants = refit.own(own_runs)
    before, after = _error(others, shipped()), _error(others, fitted_constants.constants)
    assert before > 0.12
    assert after < 0.5 * before
    assert fitted_constants.after < fitted_constants.before
    assert fitted_constants.before == pytest.approx(_error(list(fitted_constants.cases), shipped()))
    assert any(name.startswith("products") and shift < -0.05 for name, shift in fitted_constants.moved.items())
    assert fitted_constants.to_dict()["runs"] == 3
    assert "3 runs of 1 source" in fitted_constants.constants.origin


def test_own_runs_that_fit_already_move_nothing() -> None:
    mapped_runs = list(mapped(fitted_to("mosaic_gpt_2022", 12)).cases)[:2]
    exact = _measured(mapped_runs, RunBatch(mapped_runs).price(shifts_of(mapped_runs, shipped())).time)
    fitted = refit.own([case.run for case in exact])
    assert fitted.moved == {}
    assert fitted.before == pytest.approx(0.0, abs=1e-9)


def test_suspect_runs_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConstantsFit, "solve", lambda self, *_: self.centre)
    suspect = made().model_copy(update={"suspect": "contradicts itself"})
    assert len(refit.own([made(), suspect]).cases) == 1
    assert _refusal([suspect]) == _refusal([])


def _refusal(runs: list[Run]) -> str:
    with pytest.raises(InputError) as caught:
        refit.own(runs)
    said = str(caught.value)
    assert said.startswith("no run to fit to: ")
    assert said.isprintable()
    assert len(said) < 600
    return said


@pytest.mark.parametrize(
    ("runs", "fragment"),
    [
        ([], "none trained with a step time"),
        ([made(measured__step_time_s=None)], "none trained with a step time"),
        ([made(task="forward")], "none trained with a step time"),
        ([made(plan__tp=7)] * 2, "inconsistent or impossible plan (2)"),
        ([made(plan__peft="ia3")], "trains adapters only (1)"),
    ],
)
def test_nothing_to_fit_to_is_one_sentence(runs: list[Run], fragment: str) -> None:
    assert fragment in _refusal(runs)
