"""Answers are computed once, can be cancelled, and changes that are applied give what they promise."""

from __future__ import annotations

from typing import Any

import pytest

import simulator
from dashboard.choices.scenario import BEST, fields
from dashboard.choices.state import Choices, opening
from dashboard.content import answers
from dashboard.content.answers import Kept


def _with(**values: Any) -> Choices:
    return opening(fields()).change(values)


def test_an_answer_is_that_of_the_api() -> None:
    choices = _with(tp=2)
    answer = answers.answer(choices)
    assert answer.estimate == simulator.estimate("bert-large", "dgx-a100-640gb", plan={"tp": 2})
    assert answers.answer(choices.change({"of_another_page": 1})) is answer


def test_the_best_plan_is_that_of_a_search() -> None:
    choices = _with(**{BEST: True}, global_batch=1024, recompute="full")
    assert not answers.is_quick(choices)
    calls: list[int] = []
    answer = answers.answer(choices, lambda _, considered: calls.append(considered))
    best = simulator.search(
        "bert-large", "dgx-a100-640gb", plan={"recompute": "full"}, workload={"global_batch": 1024}, top=1
    ).best[0]
    assert answer.estimate == best
    assert simulator.answer(answer.scenario).step_time_s == best.step_time_s
    assert calls == sorted(calls)
    assert calls
    assert answers.is_quick(choices)


def test_a_search_that_finds_nothing_that_fits_says_what_is_nearest() -> None:
    answer = answers.answer(_with(model="gpt3-175b", system="rtx-3090", **{BEST: True}))
    assert not answer.estimate.fits


def test_a_search_is_cancelled_by_what_its_progress_raises() -> None:
    class Cancelled(BaseException):
        pass

    def cancel(*_: object) -> None:
        raise Cancelled

    choices = _with(global_batch=2048, **{BEST: True})
    with pytest.raises(Cancelled):
        answers.answer(choices, cancel)
    assert not answers.is_quick(choices)


def test_errors_are_not_kept() -> None:
    for _ in range(2):
        with pytest.raises(simulator.InputError, match="tp=3 does not divide"):
            answers.answer(_with(tp=3))


def test_the_oldest_answers_are_forgotten() -> None:
    kept: Kept[int] = Kept(2)
    assert [kept.get(question, lambda: question) for question in (1, 2, 1, 3)] == [1, 2, 1, 3]  # noqa: B023
    assert [kept.knows(question) for question in (1, 2, 3)] == [True, False, True]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"recompute": "full", "micro_batch": 4},
        {"model": "gpt3-175b", "system": "superpod-a100", "devices": 1024},
        {"model": "gpt3-175b", "system": "superpod-a100", "devices": 1024, "tp": 8, "pp": 8, "dp": 16},
        {"model": "palm-62b"},
        {"model": "mixtral-8x7b", "system": "superpod-h100", "devices": 64},
        {"model": "gpt3-13b", "system": "superpod-a100", "devices": 64, "recompute": "full", BEST: True},
    ],
)
def test_what_is_applied_gives_what_it_promised(values: dict[str, Any]) -> None:
    choices = _with(**values)
    answer = answers.answer(choices)
    for change in answers.improvements(choices, answer):
        after = answers.answer(choices.change(answers.applied(choices, change)))
        assert after.estimate.step_time_s == pytest.approx(change.step_time_s, rel=1e-9), change.changes
        assert after.estimate.fits_as_wished == change.fits


def test_a_change_is_applied_alone_where_that_suffices() -> None:
    choices = _with(recompute="full", micro_batch=4)
    change = next(
        each for each in answers.improvements(choices, answers.answer(choices)) if each.changes == {"recompute": "none"}
    )
    assert answers.applied(choices, change) == {"recompute": "none", BEST: False}
