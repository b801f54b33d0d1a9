"""Published facts and claims: exact ones exactly, predicted ones as they come."""

from __future__ import annotations

import pytest

from simulator.answers.claims import ComparedClaim, compare, load, rank

ROWS = compare()


def _row(start: str) -> ComparedClaim:
    return next(row for row in ROWS if row.claim.startswith(start))


def test_counts_are_exact() -> None:
    for row in ROWS:
        if row.quantity in ("parameters", "model_flops_per_token", "kept_bytes_per_layer"):
            assert row.reproduced, row


def test_every_prediction_is_within_a_factor_of_two() -> None:
    """A guard against a broken formula, not a measure of accuracy."""
    for row in ROWS:
        if row.relation == "equal":
            assert 0.5 < row.predicted / row.claimed < 2.0, row


@pytest.mark.parametrize("row", [row for row in ROWS if row.relation != "equal"], ids=lambda row: row.claim[:40])
def test_what_is_said_to_be_more_or_less_is(row: ComparedClaim) -> None:
    assert row.reproduced


def test_palm() -> None:
    assert _row("PaLM 540B reaches").predicted == pytest.approx(0.462, rel=0.2)
    assert _row("Multi-query").predicted == pytest.approx(1.0, abs=0.02)


def test_rankings_price_every_system() -> None:
    for ranking in load().rankings:
        answers = rank(ranking)
        assert {answer.system for answer in answers} == set(ranking.systems)
        fitting = [answer for answer in answers if answer.fits]
        assert fitting
        assert answers[: len(fitting)] == fitting
        assert [answer.run.time_s for answer in fitting] == sorted(answer.run.time_s for answer in fitting)
