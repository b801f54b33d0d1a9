"""The Rent page: every control, every error, every button, without a browser."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from streamlit.testing.v1 import AppTest

import simulator
from dashboard.choices.scenario import arguments, fields
from dashboard.choices.state import Choices, Field, from_query
from dashboard.content import renting
from dashboard.figures.rent import groups, time_against_money
from hardware import units
from tests.dashboard.conftest import OpenPage, link_of, plain, refuses, says_beside, sentences

_FEW = {"rent_systems": "workstation-rtx-3090", "rent_most": "4", "rent_deadline": "30d"}
_SAMPLES = {
    "rent_deadline": "60d",
    "rent_budget": "700",
    "rent_chance": "95",
    "rent_systems": "workstation-rtx-a6000",
    "rent_most": "2",
    "rent_price": "vast.ai",
    "rent_where": "tp=2",
    "rent_listed": "within the limits",
}
_KINDS = {"choice": "selectbox", "level": "select_slider", "several": "multiselect"}


def control_of(page: AppTest, each: Field) -> Any:
    """The control of a field."""
    where: Any = page.sidebar if each in renting.ASKED else page
    return getattr(where, _KINDS.get(each.kind, "text_input"))(key=f"control.{each.name}")


def _everything(page: AppTest) -> list[Any]:
    """What the page shows."""
    shown: list[Any] = [(metric.label, metric.value, metric.delta) for metric in page.metric]
    shown += [chart.proto.spec for chart in page.get("plotly_chart")]
    return shown + [frame.value.to_dict() for frame in page.dataframe]


def _choices(link: dict[str, str]) -> Choices:
    return from_query(link, (*fields(), *renting.FIELDS))[0]


def _sent(page: AppTest) -> simulator.Estimate:
    """What the Plan page would say now."""
    link = {name: text for name, text in link_of(page).items() if not name.startswith("rent_")}
    return simulator.estimate(**arguments(from_query(link, fields())[0]))


def test_it_says_what_to_take(open_page: OpenPage) -> None:
    page = open_page("rent", _FEW)
    outlook = simulator.rent(
        "bert-large", systems=["workstation-rtx-3090"], max_devices=4, deadline="30d", budget=1500.0
    )
    assert outlook.cheapest is not None
    shown = [(metric.label, metric.value) for metric in page.metric]
    assert shown[:2] == [
        ("Expected time", units.duration(outlook.cheapest.time_s)),
        ("Expected cost", units.money(outlook.cheapest.cost_usd)),
    ]
    assert len(shown) == 8
    assert all(metric.help for metric in page.metric)
    assert {"Cheapest in time", "Fastest within the budget"} <= {
        text.value.removeprefix("##### ") for text in page.markdown
    }
    assert len(page.get("plotly_chart")) == 2
    assert sentences(page) == []


def test_without_tokens_limits_say_nothing(open_page: OpenPage) -> None:
    page = open_page("rent", {"model": "mistral-7b", "rent_systems": "dgx-h100", "rent_most": "8"})
    assert sentences(page) == []
    assert "time, cost and energy are per billion tokens" in page.info[0].value
    assert not page.metric  # nothing can be cheapest in time
    assert page.dataframe


@pytest.mark.parametrize("each", renting.FIELDS, ids=lambda each: each.name)
def test_every_control_changes_the_answer_and_the_link(open_page: OpenPage, each: Field) -> None:
    page = open_page("rent", _FEW)
    before = _everything(page)
    control = control_of(page, each)
    assert control.help
    sample = _SAMPLES[each.name]
    control.set_value([sample] if each.kind == "several" else sample).run()
    assert (page.exception, sentences(page)) == ([], [])
    assert link_of(page) == {**_FEW, each.name: sample}
    assert _everything(page) != before
    again = open_page("rent", link_of(page))
    assert _everything(again) == _everything(page)
    assert control_of(again, each).value == control_of(page, each).value


def test_sliders_search_nothing(open_page: OpenPage) -> None:
    page = open_page("rent", _FEW)
    with mock.patch("simulator.rent", side_effect=AssertionError("searched again")):
        for name, text in (
            ("rent_deadline", "any"),
            ("rent_budget", "10"),
            ("rent_chance", "50"),
            ("rent_budget", "any"),
        ):
            page.select_slider(key=f"control.{name}").set_value(text).run()
            assert (page.exception, sentences(page)) == ([], [])
    assert link_of(page) == {**_FEW, "rent_deadline": "any", "rent_budget": "any", "rent_chance": "50"}
    assert page.metric == []  # nothing is asked for
    assert len(page.dataframe[0].value) > 0


def test_sliders_say_amounts(open_page: OpenPage) -> None:
    page = open_page("rent", _FEW)
    budgets = page.select_slider(key="control.rent_budget").options
    assert {"$10", "$1,500", "$20.0k", "$500M", "any price"} <= set(budgets)
    assert "45 days" in page.select_slider(key="control.rent_deadline").options


def test_controls_that_mean_nothing_here_are_not_there(open_page: OpenPage) -> None:
    page = open_page("rent", _FEW)
    for section in ("section.plan", "section.run", "section.money", "section.failures"):
        page.session_state[section] = True
    page.run()
    keys = {each.key for kind in ("text_input", "selectbox", "toggle") for each in getattr(page.sidebar, kind)}
    assert {
        "control.model",
        "control.tp",
        "control.tokens",
        "control.grid",
        "control.restart",
        "control.best_plan",
    } <= keys
    assert not keys & {f"control.{name}" for name in renting.WITHOUT}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("rent_most", "2000000", "max_devices=2000000: give a whole number from 1 to"),
        ("rent_where", "tp~2", "where='tp~2': write a field"),
        ("rent_where", "colour=2", "field of a plan in where"),
    ],
)
def test_what_cannot_be_is_said_beside_its_control(open_page: OpenPage, name: str, text: str, words: str) -> None:
    page = open_page("rent", _FEW)
    mended = _FEW.get(name, "")
    refuses(page, lambda: page.sidebar.text_input(key=f"control.{name}"), text, words, mended=mended)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [("tp", "0", "tp='0': write a whole number"), ("tokens", "lots", "tokens='lots': write a number")],
)
def test_what_cannot_be_read_of_a_link_is_told(open_page: OpenPage, name: str, text: str, words: str) -> None:
    page = open_page("rent", {**_FEW, name: text})
    assert words in plain(page.warning[0].value)
    assert len(page.metric) == 8


def test_errors_of_the_scenario_stand_beside_its_controls(open_page: OpenPage) -> None:
    page = open_page("rent", {**_FEW, "restart": "soon"})
    says_beside(page, "'soon' is not a time")


def test_prices_that_nobody_offers_are_told(open_page: OpenPage) -> None:
    page = open_page("rent", {**_FEW, "rent_price": "spot"})
    says_beside(page, "no such offer of rtx-3090 that can run it is cheaper than on demand")


def test_limits_that_nothing_keeps_name_what_comes_nearest(open_page: OpenPage) -> None:
    page = open_page("rent", {**_FEW, "rent_deadline": "1d", "rent_budget": "10"})
    (warning,) = page.warning
    outlook = renting.find(_choices(link_of(page)))
    assert outlook.nearest is not None
    assert plain(warning.value) == (
        "Nothing keeps the deadline and the budget with a chance of 80 %. "
        f"What comes nearest needs {units.digits(outlook.nearest.factor)} times the deadline and the budget."
    )
    assert len(page.metric) == 4
    page.button(key="any.deadline").click().run()
    page.button(key="any.budget").click().run()
    assert link_of(page) == {**_FEW, "rent_deadline": "any", "rent_budget": "any"}
    assert list(page.warning) == []


def test_without_a_price_time_still_counts(open_page: OpenPage) -> None:
    page = open_page("rent", {"rent_systems": "dgx-2", "rent_most": "4", "rent_budget": "any", "rent_deadline": "90d"})
    assert any("No price is known" in text.value for text in page.info)
    assert [metric.value for metric in page.metric if metric.label == "Expected cost"] == ["not known"]
    assert sentences(page) == []


def test_what_fits_nowhere_is_said(open_page: OpenPage) -> None:
    page = open_page("rent", {**_FEW, "model": "palm-540b"})
    assert sentences(page) == []
    assert page.get("plotly_chart") == []
    assert plain(page.warning[0].value) == "None of them has a plan that fits."
    assert "too much memory" in page.dataframe[0].value["why"][0]


@pytest.mark.parametrize("price", [None, "spot", "runpod"])
def test_an_answer_can_be_opened(open_page: OpenPage, price: str | None) -> None:
    link = {
        "rent_systems": "dgx-a100-640gb",
        "rent_most": "4",
        "rent_budget": "5000",
        "rent_deadline": "30d",
        "price": "1",
    }
    page = open_page("rent", link | ({"rent_price": price} if price else {}))
    shown = page.metric[0].value, page.metric[1].value
    page.button(key="open.cheapest").click().run()
    assert page.session_state["capsim.wanted"][0] == "plan"
    run = _sent(page).run
    assert (units.duration(run.expected_time_s or 0.0), units.money(run.expected_cost_usd or 0.0)) == shown


def test_a_click_on_an_option_opens_it(open_page: OpenPage) -> None:
    page = open_page("rent", _FEW)
    shown = groups(renting.find(_choices(_FEW)))
    for curve, group in enumerate(shown):
        chosen = SimpleNamespace(selection=SimpleNamespace(points=[{"curve_number": curve, "point_index": 0}]))
        with (
            mock.patch("dashboard.showing.figure", return_value=chosen),
            mock.patch("dashboard.shell._switch") as to,
        ):
            page = open_page("rent", _FEW)
        assert to.call_args.args[0] == "plan"
        page.run()
        assert (_sent(page).devices, _sent(page).run) == (group.options[0].devices, group.options[0].estimate.run)


def test_a_row_can_be_opened(open_page: OpenPage) -> None:
    page = open_page("rent", {**_FEW, "rent_listed": "all"})
    row = page.dataframe[0].value.iloc[1]
    page.session_state["rent.table"] = {"selection": {"rows": [1], "columns": [], "cells": []}}
    page.run()
    page.button(key="open.row").click().run()
    assert _sent(page).devices == row["devices"]


def test_a_search_can_be_stopped_with_what_was_found_until_then(open_page: OpenPage) -> None:
    choices = _choices({**_FEW, "rent_where": "pp<=2"})
    seen: list[Any] = []
    outlook = renting.find(choices.change({"rent_where": "pp<=4"}), seen=seen.append)
    page = AppTest.from_function(_stopped, default_timeout=30, args=(renting.question(choices), seen[:2]))
    for field, text in {**_FEW, "rent_where": "pp<=2"}.items():
        page.query_params[field] = text
    page.run()
    assert any("Stopped before the end" in text.value for text in page.markdown)
    assert any(plain(text.value).startswith("2 systems and numbers of devices.") for text in page.caption)
    assert len(page.metric) >= 3
    page.session_state["go"] = True
    page.button(key="go.on").click().run()
    assert any(f"{len(outlook.options)} systems and numbers of devices" in plain(text.value) for text in page.caption)


def _stopped(question: object, seen: list[object]) -> None:
    import streamlit as st

    from dashboard.shell import show

    if "go" not in st.session_state:
        st.session_state["capsim.stopped"] = question
        st.session_state["capsim.rent.seen"] = (question, seen)
    show("rent")


def test_what_was_found_until_now_is_drawn_while_it_works(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.views.rent._OFTEN", 0.0)
    with mock.patch(
        "dashboard.figures.rent.time_against_money",
        wraps=time_against_money,
    ) as drawn:
        page = open_page("rent", {**_FEW, "rent_where": "cp=1"})
    assert sentences(page) == []
    assert [len(call.args[0].options) for call in drawn.call_args_list] == [1, 2, 3, 3]


def test_a_plan_that_is_given_is_told(open_page: OpenPage) -> None:
    page = open_page("rent", {**_FEW, "tp": "2"})
    assert any("All plans keep tp=2." in plain(text.value) for text in page.markdown)
    page.button(key="open.plan").click().run()
    assert link_of(page) == _FEW


def test_more_is_shown_when_it_is_opened(open_page: OpenPage) -> None:
    page = open_page("rent", _FEW)
    page.session_state["share"] = True
    page.run()
    python, command = page.code
    assert "simulator.rent(" in python.value
    assert command.value.startswith("capsim rent bert-large --systems workstation-rtx-3090 --max-devices 4")
    assert [button.label for button in page.download_button] == ["CSV", "JSON"]
