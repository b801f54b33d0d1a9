"""Published runs beside predictions: work that sessions share, groups, filters, tables."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

import pytest
import yaml

import simulator
from dashboard.content import evidence
from dashboard.content.answers import Tell
from dashboard.content.evidence import GROUPINGS, OTHERS, SCHEMES, Shared, WorkStoppedError
from hardware import units
from hardware.errors import InputError
from simulator import Validation
from simulator.evidence import scores
from tests.dashboard.published import small_validation

_VALIDATION = small_validation()


def test_shared_work_is_done_once_and_says_how_far_it_is() -> None:
    began, go_on, calls = Event(), Event(), []

    def compute(tell: Tell) -> int:
        calls.append(1)
        tell("half")
        began.set()
        assert go_on.wait(10.0)
        return 7

    work, said, results = Shared(compute), list[str](), list[int]()
    assert work.result is None
    others = [Thread(target=lambda: results.append(work.wait(lambda _: None))) for _ in range(2)]
    for other in others:
        other.start()

    def heard(words: str) -> None:
        said.append(words)
        go_on.set()

    assert began.wait(10.0)
    assert work.wait(heard) == 7
    for other in others:
        other.join()
    assert (said[0], results, calls, work.result) == ("half", [7, 7], [1], 7)
    assert work.wait(lambda _: None) == 7
    assert calls == [1]


def test_who_leaves_lets_the_work_go_on() -> None:
    go_on = Event()
    work = Shared(lambda tell: go_on.wait(10.0))

    def leave(words: str) -> None:
        raise KeyError(words)

    with pytest.raises(KeyError):
        work.wait(leave)
    go_on.set()
    assert work.wait(lambda _: None) is True


def test_stopped_work_ends_and_begins_anew_for_whoever_still_waits() -> None:
    first, calls = Event(), []

    def compute(tell: Tell) -> str:
        calls.append(1)
        if len(calls) == 1:
            first.set()
            try:
                while True:
                    tell("working")
            except WorkStoppedError:
                calls.append(0)
                raise
        return "done"

    work, results = Shared(compute), list[str]()
    waiting = Thread(target=lambda: results.append(work.wait(lambda _: None)))
    waiting.start()
    assert first.wait(10.0)
    while 0 not in calls:  # whoever waits wants it again every tenth of a second
        work.stop()
    waiting.join(10.0)
    assert results == ["done"]


def test_an_error_reaches_whoever_waits_and_is_tried_again() -> None:
    answers: list[Callable[[], int]] = [lambda: 1 // 0, lambda: 5]
    work = Shared(lambda tell: answers.pop(0)())
    with pytest.raises(ZeroDivisionError):
        work.wait(lambda _: None)
    assert work.result is None
    assert work.wait(lambda _: None) == 5


def test_validation_says_how_far_it_is_and_can_be_ended() -> None:
    told: list[str] = []

    def heard(words: str) -> None:
        told.append(words)
        if len(told) == 20:
            raise WorkStoppedError

    with pytest.raises(WorkStoppedError):
        evidence.VALIDATION._compute(heard)
    assert told[0].endswith(" runs read")
    assert told[19].startswith("19 of ")


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_every_run_is_in_one_group(grouping: str) -> None:
    groups = evidence.grouped(_VALIDATION.outcomes, grouping)
    assert sorted(each.id for members in groups.values() for each in members) == sorted(
        each.id for each in _VALIDATION.outcomes
    )
    sizes = [len(members) for members in groups.values()]
    assert sizes == sorted(sizes, reverse=True)
    few = evidence.grouped(_VALIDATION.outcomes, grouping, 2)
    assert len(few) <= 3
    assert sum(map(len, few.values())) == len(_VALIDATION.outcomes)
    assert len(groups) <= 3 or list(few)[-1] == OTHERS


@pytest.mark.parametrize("scheme", SCHEMES)
def test_scores_are_those_of_the_api(scheme: scores.Scheme) -> None:
    by_stack = scores.by(_VALIDATION.outcomes, "stack", scores.SCORINGS[scheme])
    groups = evidence.scored(_VALIDATION.outcomes, "stack", scheme)
    assert {each.name: each.score for each in groups} == by_stack
    for row, each in zip(evidence.score_rows(groups, "stack"), groups, strict=True):
        assert row["median error"] == pytest.approx(100.0 * each.score.median_abs_error)
        assert ("interval" in row) == (scheme != "nothing fitted")
    whole = {each.name: each.score for each in evidence.merit(_VALIDATION.outcomes)}
    assert whole[scheme] == scores.SCORINGS[scheme](_VALIDATION.outcomes)


def test_words_choose_runs() -> None:
    selection = evidence.chosen(_VALIDATION.outcomes, "A100 megatron")
    assert 0 < len(selection) < len(_VALIDATION.outcomes)
    assert all("a100" in each.device or "a100" in each.id for each in selection)
    assert evidence.chosen(_VALIDATION.outcomes, None) == _VALIDATION.outcomes
    with pytest.raises(InputError) as caught:
        evidence.chosen(_VALIDATION.outcomes, "abacus")
    assert str(caught.value).startswith("evidence_only='abacus': no run has all of this")


def test_runs_are_told_with_their_sources() -> None:
    known = evidence.by_id(_VALIDATION.outcomes)
    assert set(known) == {each.id for each in _VALIDATION.outcomes}
    rows = evidence.run_rows(_VALIDATION.outcomes, "new source")
    for row, each in zip(rows, _VALIDATION.outcomes, strict=True):
        assert (row["run"], row["measured_s"], row["predicted_s"]) == (each.id, each.measured_s, each.predicted_s)
        assert row["error_percent"] == pytest.approx(100.0 * each.error)
        assert row["inside"] == ("yes" if each.covered else "no")
        assert row["source"]
        assert row["seen"] in ("primary", "secondary", "derived", "recalled", "unstated")
    first = _VALIDATION.outcomes[0]
    told = evidence.told(first, "new source", known[first.id])
    assert first.id in told
    assert units.duration(first.measured_s) in told
    assert known[first.id].source.title[:40] in told
    assert "90 %" not in evidence.told(first, "nothing fitted", None)


def test_the_nearest_runs_are_those_of_the_estimate() -> None:
    estimate = simulator.estimate("bert-large", "dgx-a100-640gb")
    assert estimate.evidence is not None
    assert [run.id for run in evidence.nearest(estimate)] == estimate.evidence["nearest"]
    rows = evidence.nearest_rows(estimate, None)
    assert [row["run"] for row in rows] == estimate.evidence["nearest"]
    assert all(row["predicted"] == "" and row["measured"] and row["source"] for row in rows)
    known = simulator.validate(evidence.nearest(estimate))
    assert [row["predicted"] for row in evidence.nearest_rows(estimate, known)] == [
        units.duration(each.predicted_s) for each in known.outcomes
    ]
    assert evidence.nearest_rows(simulator.estimate("bert-large", "rtx-3090", constants="none"), None) == []


def test_scores_are_exported_without_single_runs() -> None:
    plain = evidence.as_scores(_VALIDATION)
    assert "runs" not in plain
    assert plain["rows"] == _VALIDATION.rows
    assert yaml.safe_load(evidence.as_yaml(_VALIDATION)) == plain


def test_the_program_of_the_page_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def validated() -> Validation:
        return _VALIDATION

    monkeypatch.setattr(simulator, "validate", validated)
    exec(compile(evidence.PYTHON, "page", "exec"), {})  # the text is ours, and this is what its reader does with it
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 1 + len(scores.by(_VALIDATION.outcomes, "source")) + len(_VALIDATION.outcomes) + len(
        _VALIDATION.suspect
    )
