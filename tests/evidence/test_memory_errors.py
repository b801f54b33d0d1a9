"""The errors behind the probability of fitting: brackets of what fitted, and how they come true elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulator.evidence.memory_errors import (
    Calibration,
    ToldMemory,
    calibration,
    errors_of,
    of_shipped_runs,
    save,
)
from simulator.evidence.validation import Validation
from simulator.step.chances import SHIPPED, Traits, shipped
from simulator.terminal.evidence.tables import chances_markdown, memory_lines, ranking_markdown
from tests.published.readme import EVIDENCE, with_evidence

_TRAITS: Traits = ("stack", "family", "gpu", "False")


def _measured(name: str, error: float, source: str = "here") -> ToldMemory:
    return ToldMemory(name, source, name, _TRAITS, 0.5, error, True)


def _stated(name: str, room: float, *, did: bool, source: str = "pairs", configuration: str = "one") -> ToldMemory:
    return ToldMemory(name, source, configuration, _TRAITS, room, None, did)


def _entries(told: list[ToldMemory], source: str) -> tuple[list[float], list[float]]:
    errors = errors_of(told)
    chosen = errors.sources == source
    return errors.logarithms[chosen].tolist(), errors.counts[chosen].tolist()


_OTHERS = [_measured(f"run {place}", 0.01 * place) for place in range(-20, 21)]


def test_a_batch_that_fits_beside_one_that_does_not_tells_the_error() -> None:
    told = [_stated("more", 0.04, did=False), _stated("less", 0.08, did=True), _stated("far less", 0.5, did=True)]
    assert _entries([*_OTHERS, *told], "pairs") == ([0.06], [1.0])


def test_a_wide_bracket_counts_as_the_errors_that_others_make_inside_of_it() -> None:
    told = [_stated("more", 0.0, did=False), _stated("less", 0.15, did=True)]
    values, counts = _entries([*_OTHERS, *told], "pairs")
    assert len(values) == 9
    assert sum(counts) == pytest.approx(1.0, abs=1e-3)
    assert 0.0 <= min(values) < 0.03 < 0.12 < max(values) <= 0.15


@pytest.mark.parametrize(("room", "did", "low", "high"), [(0.1, True, -0.2, 0.1), (0.05, False, 0.05, 0.2)])
def test_an_open_bracket_ends_where_others_do(room: float, did: bool, low: float, high: float) -> None:
    values, _ = _entries([*_OTHERS, _stated("alone", room, did=did)], "pairs")
    assert low <= min(values) <= max(values) <= high
    assert np.median(values) == pytest.approx(0.5 * (low + high), abs=0.02)


def test_a_bracket_where_nobody_errs_is_its_limit() -> None:
    values, _ = _entries([*_OTHERS, _stated("alone", -0.7, did=True)], "pairs")
    assert values == [-0.7] * 9


def test_a_larger_batch_that_fitted_where_a_smaller_did_not_lies_between_both() -> None:
    told = [_stated("small", 0.1, did=False), _stated("large", 0.02, did=True)]
    assert _entries([*_OTHERS, *told], "pairs")[0] == [0.06]


def test_configurations_stand_for_themselves() -> None:
    told = [
        _stated("a", 0.04, did=False, configuration="one"),
        _stated("b", 0.08, did=True, configuration="one"),
        _stated("c", -0.12, did=False, configuration="two"),
        _stated("d", -0.08, did=True, configuration="two"),
    ]
    assert sorted(_entries([*_OTHERS, *told], "pairs")[0]) == [-0.1, 0.06]


def test_what_is_shipped_is_what_the_runs_tell(tmp_path: Any) -> None:
    """Where memory changes: python -m simulator.evidence.memory_errors, or make fit."""
    errors = of_shipped_runs()
    for name in ("ids", "sources", "traits"):
        assert getattr(errors, name).tolist() == getattr(shipped(), name).tolist()
    assert errors.logarithms == pytest.approx(shipped().logarithms, abs=1e-4)
    assert errors.factor == pytest.approx(shipped().factor, abs=1e-3)
    save(errors, tmp_path / "one.gz")
    save(errors, tmp_path / "two.gz")
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()
    assert SHIPPED.stat().st_size < 20_000


def _calibration(validation: Validation) -> Calibration:
    assert validation.chances is not None
    return validation.chances


def test_probabilities_come_true_on_sources_that_were_left_out(validation: Validation) -> None:
    judgement = _calibration(validation)
    assert judgement.sources == 13
    assert sum(each.runs for each in judgement.bins) == 287
    shares = [each.fitted for each in judgement.bins]
    assert shares == sorted(shares)
    for each in judgement.bins:
        deviation = np.sqrt(each.predicted * (1.0 - each.predicted) / each.runs)
        assert abs(each.fitted - each.predicted) < 2.5 * deviation + 0.02
    assert judgement.brier is not None
    assert judgement.brier < 0.08


def test_memory_stays_below_its_limits_as_often_as_they_say(validation: Validation) -> None:
    for each in _calibration(validation).quantiles:
        assert each.below == pytest.approx(each.share, abs=0.06)
        assert each.by_source == pytest.approx(each.share, abs=0.04)


def test_no_run_is_judged_by_its_own_source() -> None:
    """A source that is off by a factor of two is not covered by itself."""
    there = [_measured(f"there {place}", 0.7, "there") for place in range(30)]
    judgement = calibration([*_OTHERS, *there, *(_measured(f"third {i}", 0.02 * i - 0.2, "third") for i in range(21))])
    assert judgement is not None
    assert judgement.bins == ()
    (most,) = (each for each in judgement.quantiles if each.share == 0.95)
    assert most.below <= 62 / 92
    assert judgement.coverage_90 is not None
    assert judgement.coverage_90 <= 62 / 92


def test_runs_of_somebody_else_are_judged_by_the_shipped_errors() -> None:
    judgement = calibration([_measured("ours", 0.02), _stated("fits", 1.0, did=True)], of_shipped=False)
    assert judgement is not None
    assert [(each.runs, each.fitted) for each in judgement.bins] == [(1, 1.0)]
    assert calibration([], of_shipped=False) is None


def test_the_interval_of_memory_covers_what_it_says(validation: Validation) -> None:
    chances = validation.chances
    assert chances is not None
    assert chances.coverage_90 is not None
    assert chances.coverage_90_by_source is not None
    assert 0.86 <= chances.coverage_90 <= 0.94
    assert 0.86 <= chances.coverage_90_by_source <= 0.94
    below = {each.share: each.below for each in chances.quantiles}
    assert chances.coverage_90 == pytest.approx(below[0.95] - below[0.05], abs=0.01)
    assert f"holds {100 * chances.coverage_90:.1f} %" in memory_lines(validation)[-1]


def test_the_page_shows_the_tables(validation: Validation) -> None:
    text = EVIDENCE.read_text()
    assert chances_markdown(validation) in text
    assert ranking_markdown(validation) in text
    assert with_evidence(text) == text, "run: python -m tests.published.readme"
