"""The Search page: every control, every error, every button, without a browser."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from streamlit.testing.v1 import AppTest

import simulator
from dashboard.choices.scenario import arguments, fields
from dashboard.choices.state import Field, from_query
from dashboard.content import searching
from hardware import units
from simulator.terminal.search import plan_words
from tests.dashboard.conftest import OpenPage, link_of, plain, refuses, says_beside, sentences

_SMALL = {"system": "dgx-1-v100", "stack": "megatron-lm", "sequence_length": "512", "global_batch": "8"}
_SAMPLES = {
    "search_best": "memory",
    "search_rank": "expected",
    "search_chance": "95%",
    "search_where": "tp<=2,pp=1",
    "search_free": "25%",
    "search_deadline": "90d",
    "search_budget": "100k",
    "search_top": "5",
    "search_down": "micro_batch",
    "search_across": "recompute",
    "search_against": "cost",
    "search_listed": "best",
    "search_words": "zero3",
}
_IN_MAIN = ("search_down", "search_across", "search_against", "search_listed", "search_words")


def control_of(page: AppTest, each: Field) -> Any:
    """The control of a field."""
    kinds = {"choice": "selectbox", "flag": "toggle", "level": "select_slider", "several": "multiselect"}
    where: Any = page if each.name in _IN_MAIN else page.sidebar
    return getattr(where, kinds.get(each.kind, "text_input"))(key=f"control.{each.name}")


def _figures(page: AppTest) -> list[Any]:
    return [(metric.label, metric.value) for metric in page.metric] + [
        chart.proto.spec for chart in page.get("plotly_chart")
    ]


def _everything(page: AppTest) -> list[Any]:
    """What the page shows."""
    return _figures(page) + [list(frame.value["plan"]) for frame in page.dataframe if "plan" in frame.value]


def _sent(page: AppTest) -> simulator.Estimate:
    """What the Plan page would say now."""
    link = {name: text for name, text in link_of(page).items() if not name.startswith("search_")}
    return simulator.estimate(**arguments(from_query(link, fields())[0]))


def test_it_opens_on_an_answer(open_page: OpenPage) -> None:
    page = open_page("search")
    best = simulator.search("bert-large", "dgx-a100-640gb", top=1).best[0]
    shown = {metric.label: metric.value for metric in page.metric}
    assert shown["Step time"] == units.duration(best.step_time_s)
    assert shown["Memory"] == units.size(best.memory_bytes["total"])
    assert all(metric.help for metric in page.metric)
    assert f"**{plan_words(best)}**" in {plain(text.value) for text in page.markdown}
    assert len(page.get("plotly_chart")) == 3
    assert len(page.dataframe[0].value) >= 20
    assert (link_of(page), sentences(page)) == ({}, [])


@pytest.mark.parametrize("each", searching.FIELDS, ids=lambda each: each.name)
def test_every_control_changes_the_answer_and_the_link(open_page: OpenPage, each: Field) -> None:
    page = open_page("search", _SMALL)
    before = _everything(page)
    control = control_of(page, each)
    assert control.help
    control.set_value(_SAMPLES[each.name]).run()
    assert (page.exception, sentences(page)) == ([], [])
    assert link_of(page) == {**_SMALL, each.name: each.write(each.read(_SAMPLES[each.name]))}
    if each.name in ("search_rank", "search_chance"):  # which may leave the order as it is
        columns = [list(frame.value) for frame in page.dataframe if "plan" in frame.value]
        assert all(("95 % below" in names) == (each.name == "search_chance") for names in columns)
        assert not any("70 % below" in names for names in columns)
    elif each.name not in ("search_deadline", "search_budget"):  # which are wide
        assert _everything(page) != before
    again = open_page("search", link_of(page))
    assert _everything(again) == _everything(page)
    assert link_of(again) == link_of(page)
    assert control_of(again, each).value == control_of(page, each).value


def test_controls_of_the_scenario_are_there_too(open_page: OpenPage) -> None:
    page = open_page("search", _SMALL)
    keys = {each.key for kind in ("text_input", "selectbox", "toggle") for each in getattr(page.sidebar, kind)}
    assert {"control.model", "control.system", "control.devices"} <= keys
    assert "control.best_plan" not in keys
    page.session_state["section.plan"] = True
    page.run()
    assert page.sidebar.text_input(key="control.tp").placeholder == "all tried"
    page.sidebar.text_input(key="control.devices").set_value("4").run()
    assert "4 devices" in plain(page.subheader[0].value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("search_where", "tp~2", "where='tp~2': write a field, a comparison and a value"),
        ("search_where", "speed=2", "field of a plan in where"),
        ("search_free", "150%", "headroom='150%': give a share of the memory"),
        ("search_deadline", "soon", "deadline='soon': write a time with its unit"),
        ("search_top", "5000", "top=5000: list 1 to 1000 plans"),
    ],
)
def test_what_cannot_be_is_said_beside_its_control(open_page: OpenPage, name: str, text: str, words: str) -> None:
    each = next(each for each in searching.FIELDS if each.name == name)
    page = open_page("search", _SMALL)
    mended = "" if each.default is None else each.write(each.default)
    refuses(page, lambda: control_of(page, each), text, words, mended=mended)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("search_budget", "much", "search_budget='much': write an amount of USD such as $50k"),
        ("search_top", "0", "search_top='0'"),
    ],
)
def test_what_cannot_be_read_leaves_the_answer(open_page: OpenPage, name: str, text: str, words: str) -> None:
    page = open_page("search", _SMALL)
    before = _everything(page)
    page.sidebar.text_input(key=f"control.{name}").set_value(text).run()
    (sentence,) = sentences(page)
    assert sentence.startswith(words)
    assert _everything(page) == before


@pytest.mark.parametrize(
    ("name", "text", "words"), [("tp", "3", "tp=3 does not divide devices=8"), ("price", "free", "price=")]
)
def test_errors_of_the_scenario_stand_beside_its_controls(
    open_page: OpenPage, name: str, text: str, words: str
) -> None:
    page = open_page("search", {**_SMALL, name: text})
    says_beside(page, words)


def test_a_table_needs_two_fields(open_page: OpenPage) -> None:
    page = open_page("search", {**_SMALL, "search_across": "tp"})
    assert sentences(page) == ["tp stands both down and across; choose two different fields."]
    assert len(page.get("plotly_chart")) == 2
    page.selectbox(key="control.search_down").set_value("pp").run()
    assert sentences(page) == []
    assert len(page.get("plotly_chart")) == 3


def test_a_budget_without_a_price_says_so(open_page: OpenPage) -> None:
    page = open_page("search", {**_SMALL, "system": "dgx-2", "search_budget": "1000"})
    says_beside(page, "no price of v100-sxm3-32gb is known")


def test_where_nothing_fits_it_says_why_and_what_comes_nearest(open_page: OpenPage) -> None:
    page = open_page("search", {"model": "gpt3-175b", "global_batch": "64", "search_where": "pp=1"})
    (warning,) = page.warning
    assert plain(warning.value).startswith("No plan is left: too much memory in ")
    assert any("GiB too much" in plain(text.value) for text in page.markdown)
    assert page.get("plotly_chart") == []
    page.button(key="open.nearest").click().run()
    assert page.session_state["capsim.wanted"][0] == "plan"
    assert not _sent(page).fits


def test_where_all_are_too_slow_it_says_so(open_page: OpenPage) -> None:
    page = open_page("search", {**_SMALL, "search_deadline": "1h"})
    assert "slower or dearer than asked" in plain(page.warning[0].value)


def test_the_best_plan_can_be_opened(open_page: OpenPage) -> None:
    link = {**_SMALL, "search_where": "tp=2,sharding=zero1"}
    page = open_page("search", link)
    shown = page.metric[0].value
    page.button(key="open.best").click().run()
    assert page.session_state["capsim.wanted"][0] == "plan"
    sent = _sent(page)
    assert (sent.plan["tp"], sent.plan["sharding"]) == (2, "zero1")
    assert units.duration(sent.step_time_s) == shown


@pytest.mark.parametrize(("curve", "point"), [(0, 3), (1, 1)])
def test_a_click_on_a_plan_opens_it(open_page: OpenPage, curve: int, point: int) -> None:
    page = open_page("search", _SMALL)
    search = searching.find(from_query(_SMALL, (*fields(), *searching.FIELDS))[0])
    one = ((search.pareto or ()), search.best)[curve][point]
    chosen = SimpleNamespace(selection=SimpleNamespace(points=[{"curve_number": curve, "point_index": point}]))
    with mock.patch("dashboard.showing.figure", return_value=chosen), mock.patch("dashboard.shell._switch") as to:
        page.run()
    assert to.call_args.args[0] == "plan"
    page.run()
    assert _sent(page).step_time_s == one.step_time_s
    assert _sent(page).memory_bytes == one.memory_bytes


def test_a_row_can_be_opened(open_page: OpenPage) -> None:
    page = open_page("search", {**_SMALL, "search_listed": "best"})
    words = list(page.dataframe[0].value["plan"])
    page.session_state["search.table"] = {"selection": {"rows": [2], "columns": [], "cells": []}}
    page.run()
    assert f"**{words[2]}**" in {plain(text.value) for text in page.markdown}
    page.button(key="open.row").click().run()
    assert plan_words(_sent(page)) == words[2]


@pytest.mark.parametrize("key", ["best", "row"])
def test_a_plan_has_a_launch_file(open_page: OpenPage, key: str) -> None:
    page = open_page("search", {**_SMALL, "search_listed": "best", "search_where": "tp>=2"})
    number = 0 if key == "best" else 2
    page.session_state["search.table"] = {"selection": {"rows": [number], "columns": [], "cells": []}}
    page.session_state[f"launch.{key}"] = True
    page.run()
    assert not page.exception
    assert page.selectbox(key=f"launch.{key}.to").value == "megatron-lm"
    text = page.code[0].value
    plan = searching.find(from_query(link_of(page), (*fields(), *searching.FIELDS))[0]).best[number].plan
    assert f"--tensor-model-parallel-size {plan['tp']}\n" in text
    assert f"--micro-batch-size {plan['micro_batch']}\n" in text
    assert any(plain(caption.value).startswith("Start it: bash bert-large") for caption in page.caption)
    page.selectbox(key=f"launch.{key}.to").set_value("torchtitan").run()
    assert any("no configuration of bert-large" in plain(info.value) for info in page.info)


def test_words_filter_the_table(open_page: OpenPage) -> None:
    page = open_page("search", {**_SMALL, "search_words": "zero3"})
    assert all("zero3" in plan for plan in page.dataframe[0].value["plan"])
    page.text_input(key="control.search_words").set_value("tp=7").run()
    assert page.dataframe[0].value.columns.tolist() == ["plans", "why"]
    assert "No listed plan has all of these words" in page.info[0].value


def test_a_plan_that_is_given_is_told_and_can_be_opened_again(open_page: OpenPage) -> None:
    page = open_page("search", {**_SMALL, "tp": "2", "recompute": "full", "precision": "fp16"})
    assert any("All plans keep recompute=full, tp=2." in plain(text.value) for text in page.markdown)
    page.button(key="open.plan").click().run()
    assert link_of(page) == {**_SMALL, "precision": "fp16"}
    assert not any(button.key == "open.plan" for button in page.button)


def test_a_search_can_be_stopped_and_begun_again(open_page: OpenPage) -> None:
    link = {**_SMALL, "search_where": "tp<=4", "search_top": "3"}
    question = searching.question(from_query(link, (*fields(), *searching.FIELDS))[0])
    page = AppTest.from_function(_stopped, default_timeout=30, args=(question,))
    for field, text in link.items():
        page.query_params[field] = text
    page.run()
    assert any("Stopped before the end" in text.value for text in page.markdown)
    assert page.metric == []
    assert {"control.search_where", "control.devices"} <= {each.key for each in page.sidebar.text_input}
    page.session_state["go"] = True
    page.button(key="go.on").click().run()
    assert len(page.metric) == 5


def _stopped(question: object) -> None:
    import streamlit as st

    from dashboard.shell import show

    if "go" not in st.session_state:
        st.session_state["capsim.stopped"] = question
    show("search")


def test_more_is_shown_when_it_is_opened(open_page: OpenPage) -> None:
    page = open_page("search", _SMALL)
    page.session_state["share"] = True
    page.run()
    python, command = page.code
    assert "simulator.search(" in python.value
    assert command.value.startswith("capsim search bert-large --system dgx-1-v100")
    assert [button.label for button in page.download_button] == ["YAML of the best", "CSV", "JSON"]
    assert "fewer micro-batches than stages" in set(page.dataframe[1].value["why"])
