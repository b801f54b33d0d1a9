"""The Evidence page: every control, every error, without a browser."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import simulator
from dashboard.content import evidence
from dashboard.content.answers import Tell
from dashboard.content.evidence import GROUPINGS, SCHEMES, Shared
from dashboard.views import evidence as view
from hardware import units
from simulator import Validation
from simulator.evidence import scores
from tests.dashboard.conftest import OpenPage, link_of, plain, sentences
from tests.dashboard.published import small_validation

_VALIDATION = small_validation()


@pytest.fixture(autouse=True)
def _few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Price a part of the published runs only."""
    monkeypatch.setattr(view, "VALIDATION", Shared(lambda tell: _VALIDATION))


def _metrics(page: AppTest) -> list[tuple[str, str, str]]:
    return [(metric.label, metric.value, metric.delta) for metric in page.metric]


def _titles(page: AppTest) -> list[str]:
    return [plain(each.value).removeprefix("##### ") for each in page.markdown if each.value.startswith("#####")]


def test_it_opens_on_the_scores(open_page: OpenPage) -> None:
    page = open_page("evidence")
    new, known, unfitted = (scoring(_VALIDATION.outcomes) for scoring in scores.SCORINGS.values())
    assert _metrics(page) == [
        ("Runs", f"{new.rows:,}", "not fitted"),
        ("Median error", units.percent(new.median_abs_error), "new source"),
        ("Median error", units.percent(known.median_abs_error), "known stack"),
        ("Median error", units.percent(unfitted.median_abs_error), "nothing fitted"),
        ("Bias", f"{100 * new.bias:+.1f} %", "new source"),
        ("Coverage", units.percent(new.coverage_90), f"x{new.low:.2f} to {new.high:.2f}"),
    ]
    assert all(metric.help for metric in page.metric)
    assert _titles(page) == [
        "Real runs most like bert-large on 8 devices of dgx-a100-640gb",
        "Predicted and measured",
        "Error by device class",
        "How often the interval holds",
        "Order of plans",
    ]
    assert link_of(page) == {}
    assert sentences(page) == []


def test_the_scenario_at_hand_has_its_nearest_runs(open_page: OpenPage) -> None:
    page = open_page("evidence", {"model": "palm-540b", "system": "tpu-v4-pod", "devices": "6144"})
    estimate = simulator.estimate("palm-540b", "tpu-v4-pod", devices=6144)
    shown = page.dataframe[0].value.to_dict("records")
    assert shown == evidence.nearest_rows(estimate, _VALIDATION)
    words = plain(page.markdown[1].value)
    assert units.span(estimate.step_time_low_s or 0.0, estimate.step_time_high_s or 0.0) in words
    unknown = open_page("evidence", {"constants": "none"})
    assert plain(unknown.markdown[1].value).startswith("No errors are known of these constants")
    assert len(unknown.metric) == 6


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_runs_are_grouped(open_page: OpenPage, grouping: str) -> None:
    page = open_page("evidence")
    page.selectbox(key="control.evidence_by").set_value(grouping).run()
    assert link_of(page) == ({} if grouping == GROUPINGS[0] else {"evidence_by": grouping})
    table = page.dataframe[1].value
    assert list(table[grouping]) == list(evidence.grouped(_VALIDATION.outcomes, grouping))
    assert list(table["runs"]) == [len(each) for each in evidence.grouped(_VALIDATION.outcomes, grouping).values()]
    assert f"Error by {grouping}" in _titles(page)
    assert open_page("evidence", link_of(page)).dataframe[1].value.equals(table)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_constants_may_have_seen_more_or_less(open_page: OpenPage, scheme: str) -> None:
    page = open_page("evidence")
    page.selectbox(key="control.evidence_scheme").set_value(scheme).run()
    assert link_of(page) == ({} if scheme == SCHEMES[0] else {"evidence_scheme": scheme})
    wanted = evidence.score_rows(evidence.scored(_VALIDATION.outcomes, "device class", scheme), "device class")  # type: ignore[arg-type]
    assert page.dataframe[1].value.to_dict("records") == wanted
    without = [each.value for each in page.markdown if "alone have no interval" in each.value]
    assert bool(without) == (scheme == "nothing fitted")


def test_words_choose_runs(open_page: OpenPage) -> None:
    page = open_page("evidence")
    page.text_input(key="control.evidence_only").set_value("a100 bert").run()
    assert link_of(page) == {"evidence_only": "a100 bert"}
    assert _metrics(page)[0][1] == f"{len(evidence.chosen(_VALIDATION.outcomes, 'a100 bert')):,}"
    page.text_input(key="control.evidence_only").set_value("abacus").run()
    (said,) = sentences(page)
    assert said.startswith(
        "evidence_only='abacus': no run has all of this in its name, model, device, stack, source or"
    )
    assert not page.metric
    page.text_input(key="control.evidence_only").set_value("").run()
    assert len(page.metric) == 6


def test_a_wrong_link_says_what_is_wrong(open_page: OpenPage) -> None:
    page = open_page("evidence", {"evidence_by": "colour", "evidence_scheme": "none", "evidence_runs": "maybe"})
    said = [plain(each.value) for each in page.warning]
    assert [sentence.partition(":")[0] for sentence in said] == [
        "The link says evidence_by='colour'",
        "The link says evidence_scheme='none'",
        "The link says evidence_runs='maybe'",
    ]
    assert len(page.metric) == 6


def test_a_wrong_scenario_leaves_the_scores(open_page: OpenPage) -> None:
    page = open_page("evidence", {"tp": "3"})
    assert any(sentence.startswith("tp=3") for sentence in sentences(page))
    assert len(page.metric) == 6


def test_the_runs_need_not_be_priced(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(tell: Tell) -> Validation:
        raise AssertionError

    work = Shared(never)
    monkeypatch.setattr(view, "VALIDATION", work)
    page = open_page("evidence", {"evidence_runs": "no"})
    assert not page.metric
    assert len(page.dataframe[0].value) == 3
    monkeypatch.setattr(view, "VALIDATION", Shared(lambda tell: _VALIDATION))
    page.toggle(key="control.evidence_runs").set_value(True).run()
    assert link_of(page) == {}
    assert len(page.metric) == 6


def test_a_failure_is_a_sentence(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(tell: Tell) -> Validation:
        raise OSError("runs.jsonl.gz: No such file")

    monkeypatch.setattr(view, "VALIDATION", Shared(fails))
    page = open_page("evidence")
    assert sentences(page) == [
        "This part of the page failed with OSError: runs.jsonl.gz: No such file. Please report it."
    ]


def test_every_run_and_what_is_not_scored_can_be_read(open_page: OpenPage) -> None:
    page = open_page("evidence", {"evidence_only": "v100"})
    chosen = evidence.chosen(_VALIDATION.outcomes, "v100")
    refused = page.dataframe[-1].value
    assert dict(zip(refused["not priced because"], refused["runs"], strict=True)) == _VALIDATION.refused
    assert any(text.startswith("Memory of ") for text in (plain(each.value) for each in page.markdown))
    page.session_state["evidence.list"] = True
    page.run()
    listed = next(frame.value for frame in page.dataframe if "run" in frame.value and "inside" in frame.value)
    assert list(listed["run"]) == [each.id for each in chosen]
    assert all(listed["source"])


def test_everything_can_be_taken_elsewhere(open_page: OpenPage) -> None:
    page = open_page("evidence")
    page.session_state["share"] = True
    page.run()
    assert [each.value for each in page.code] == [evidence.PYTHON, "capsim validate"]
    buttons: Any = page.get("download_button")
    assert [each.label for each in buttons] == ["YAML", "CSV", "JSON"]


def test_how_a_run_is_read_stands_there_on_demand(open_page: OpenPage) -> None:
    page = open_page("evidence")
    page.session_state["evidence.reading"] = True
    page.run()
    page.selectbox(key="evidence.read").set_value("titan-202412-8b-8gpu-bf16").run()
    assert not page.exception
    rows = next(each.value for each in page.dataframe if "field" in each.value).set_index("field")
    assert rows.loc["hardware.device", "result"] == "system.device = h100-sxm5-96gb-500w"
    assert "Assumed: device: the edition with HBM2e" in {plain(each.value) for each in page.markdown}
    page.selectbox(key="evidence.read").set_value("tpurec-v5p-deepseek3-512").run()
    assert any(plain(each.value).startswith("Not priced: recomputes some parts of a layer") for each in page.markdown)
