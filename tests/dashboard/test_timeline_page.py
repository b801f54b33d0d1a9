"""The Timeline page: every control, every error, every button, without a browser."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import simulator
from dashboard.content import timelines
from hardware import units
from simulator.replay.sums import slowest_stage, sums_of
from tests.dashboard.conftest import OpenPage, link_of, plain, sentences

_PIPELINE = {
    "model": "gpt3-6.7b",
    "system": "superpod-a100",
    "devices": "16",
    "tp": "2",
    "pp": "4",
    "global_batch": "16",
}
_SOME = {**_PIPELINE, "timeline_zoom": "micro-batches"}
_LAYER = {**_PIPELINE, "timeline_zoom": "one layer"}


def _answer() -> simulator.Estimate:
    plan = {"tp": 2, "pp": 4}
    return simulator.estimate("gpt3-6.7b", "superpod-a100", devices=16, plan=plan, workload={"global_batch": 16})


def _drawn(page: AppTest) -> Any:
    """The picture."""
    (chart,) = page.get("plotly_chart")
    return json.loads(chart.proto.spec)


def _control(page: AppTest, name: str) -> Any:
    """The control of a field of the page."""
    kinds = {"choice": "selectbox", "flag": "toggle"}
    return getattr(page, kinds.get(timelines.BY_NAME[name].kind, "text_input"))(key=f"control.{name}")


def test_it_opens_on_an_answer(open_page: OpenPage) -> None:
    page = open_page("timeline")
    timeline = simulator.estimate("bert-large", "dgx-a100-640gb").timeline()
    shown = {metric.label: metric.value for metric in page.metric}
    assert shown["Step, replayed"] == units.duration(timeline.step_time)
    assert shown["Pipeline idle"] == "0.0 %"
    assert all(metric.help for metric in page.metric)
    assert any("than the closed formula" in plain(text.value) for text in page.markdown)
    assert _drawn(page)["layout"]["yaxis"]["ticktext"] == ["device", "data links", "host"]
    assert (link_of(page), sentences(page)) == ({}, [])


def test_the_table_sets_lanes_beside_the_breakdown(open_page: OpenPage) -> None:
    page = open_page("timeline", _PIPELINE)
    answer = _answer()
    timeline = answer.timeline()
    stage = slowest_stage(timeline)
    parts = sums_of(timeline, stage).parts
    table = {row["part"]: row for row in page.dataframe[0].value.to_dict("records")}
    assert table["feed forward"]["replayed"] == units.duration(parts["feed_forward"])
    assert table["feed forward"]["estimate"] == units.duration(answer.breakdown_s["feed_forward"])
    assert table["step"]["replayed"] == units.duration(timeline.step_time)
    assert table["step"]["estimate"] == units.duration(answer.step_time_s)
    bubble = parts["pipeline_bubble"] - answer.breakdown_s["pipeline_bubble"]
    sign = "+" if bubble > 0 else "-"
    assert table["pipeline bubble"]["difference"] == f"{sign}{units.duration(abs(bubble))}"
    assert any(f"on stage {stage.index + 1}, the slowest" in text.value for text in page.markdown)


@pytest.mark.parametrize(
    ("link", "name", "value", "text"),
    [
        (_PIPELINE, timelines.ZOOM, "micro-batches", "micro-batches"),
        (_PIPELINE, timelines.STAGES, "1,3-4", "1,3-4"),
        (_PIPELINE, timelines.DETAIL, "tasks", "tasks"),
        (_PIPELINE, timelines.MEMORY, False, "no"),
        (_SOME, timelines.MICRO_BATCHES, "3", "3"),
        (_LAYER, timelines.WHICH_LAYER, "4", "4"),
        (_LAYER, timelines.PASS, "backward", "backward"),
    ],
)
def test_every_control_changes_the_picture_and_the_link(
    open_page: OpenPage, link: dict[str, str], name: str, value: Any, text: str
) -> None:
    page = open_page("timeline", link)
    before = _drawn(page)
    control = _control(page, name)
    assert control.help
    control.set_value(value).run()
    assert (page.exception, sentences(page)) == ([], [])
    assert link_of(page) == {**link, name: text}
    assert _drawn(page) != before
    again = open_page("timeline", link_of(page))
    assert _drawn(again) == _drawn(page)


def test_zooms_show_what_they_say(open_page: OpenPage) -> None:
    page = open_page("timeline", {**_PIPELINE, "timeline_stages": "2-3"})
    rows = [label for label in _drawn(page)["layout"]["yaxis"]["ticktext"] if label.startswith("stage")]
    assert rows == ["stage 2", "stage 3"]
    page = open_page("timeline", {**_LAYER, "timeline_stages": "2", "timeline_layer": "3"})
    picture = _drawn(page)
    assert picture["layout"]["yaxis"]["ticktext"][:2] == ["device", "tensor links"]
    hovers = [hover for trace in picture["data"] if trace["type"] == "bar" for hover in trace["hovertext"]]
    assert any("stage 2, micro-batch 1, layer 3" in hover for hover in hovers)
    keys = {each.key for each in (*page.text_input, *page.selectbox)}
    assert "control.timeline_layer" in keys
    assert "control.timeline_detail" not in keys


@pytest.mark.parametrize(
    ("link", "name", "text", "words"),
    [
        (_PIPELINE, timelines.STAGES, "5", "timeline_stages='5': the pipeline has 4 stages; write numbers from 1 to 4"),
        (_PIPELINE, timelines.STAGES, "one", "timeline_stages='one': the pipeline has 4 stages"),
        (_SOME, timelines.MICRO_BATCHES, "3-1", "timeline_micro_batches='3-1': the step has "),
        (_LAYER, timelines.WHICH_LAYER, "9", "layer=9: stage 1 has 8 layers, give a number from 1 to 8"),
    ],
)
def test_what_is_not_there_is_said_beside_its_control(
    open_page: OpenPage, link: dict[str, str], name: str, text: str, words: str
) -> None:
    page = open_page("timeline", link)
    _control(page, name).set_value(text).run()
    assert not page.exception
    (sentence,) = sentences(page)
    assert words in sentence
    assert page.get("plotly_chart") == []
    assert len(page.metric) == 4
    _control(page, name).set_value("1").run()
    assert sentences(page) == []
    assert len(page.get("plotly_chart")) == 1


def test_what_cannot_be_planned_is_a_sentence(open_page: OpenPage) -> None:
    page = open_page("timeline", {"tp": "7"})
    assert "tp=7" in sentences(page)[-1]
    assert page.metric == []
    assert page.get("plotly_chart") == []


def test_what_does_not_fit_is_still_replayed(open_page: OpenPage) -> None:
    page = open_page("timeline", {"model": "gpt3-6.7b", "system": "rtx-3090", "devices": "1", "micro_batch": "1"})
    assert page.subheader[0].value.endswith("does not fit")
    assert len(page.get("plotly_chart")) == 1


def test_a_plan_that_is_kept_stands_below(open_page: OpenPage) -> None:
    page = open_page("timeline", _PIPELINE)
    page.button(key="timeline.keep").click().run()
    assert "pp.4" in link_of(page)["timeline_other"]
    page.session_state["section.plan"] = True
    page.run()
    page.sidebar.text_input(key="control.pp").set_value("2").run()
    assert sentences(page) == []
    picture = _drawn(page)
    assert {"xaxis", "xaxis2", "xaxis3", "xaxis4"} <= set(picture["layout"])
    assert any("Below: pp 4" in plain(text.value) for text in page.caption)
    ends = {tuple(picture["layout"][name]["range"]) for name in ("xaxis", "xaxis3")}
    assert len(ends) == 1
    page.button(key="timeline.away").click().run()
    assert "timeline_other" not in link_of(page)
    assert "xaxis3" not in _drawn(page)["layout"]


def test_a_kept_plan_that_cannot_be_is_a_sentence(open_page: OpenPage) -> None:
    page = open_page("timeline", {"timeline_other": "tp.7"})
    assert any(sentence.startswith("Second plan: ") and "tp=7" in sentence for sentence in sentences(page))
    assert len(page.get("plotly_chart")) == 1
    page = open_page("timeline", {"timeline_other": "height.7"})
    assert any(sentence.startswith("Second plan: the link names") for sentence in sentences(page))


def test_more_is_shown_when_it_is_opened(open_page: OpenPage) -> None:
    page = open_page("timeline", _SOME)
    page.session_state["share"] = True
    page.run()
    python, command = page.code
    assert "timeline = answer.timeline()" in python.value
    assert command.value.startswith("capsim timeline gpt3-6.7b --system superpod-a100")
    assert [button.label for button in page.download_button] == ["Trace for Perfetto", "CSV"]
    names: dict[str, Any] = {}
    exec(python.value.replace(".show()", ".to_dict()"), names)
    assert names["timeline"].step_time == _answer().timeline().step_time


def test_the_trace_is_one_that_perfetto_reads() -> None:
    trace = json.loads(gzip.decompress(timelines.trace_file(_answer().timeline())))
    assert {event["ph"] for event in trace["traceEvents"]} == {"M", "X", "C", "s", "f"}
    assert trace["otherData"]["model"] == "gpt3-6.7b"


def test_the_best_plan_of_all_is_written_down(open_page: OpenPage) -> None:
    page = open_page("timeline", {"best_plan": "yes", "devices": "4"})
    page.session_state["share"] = True
    page.run()
    assert "best_plan" not in page.code[1].value
    assert "--micro-batch" in page.code[1].value
