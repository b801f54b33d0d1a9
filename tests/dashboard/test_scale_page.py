"""The Scale page: every control, every error, every button, without a browser."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import simulator
from dashboard.choices.scenario import arguments, fields
from dashboard.choices.state import Field, from_query
from dashboard.content import scaling
from hardware import units
from tests.dashboard.conftest import OpenPage, link_of, plain, refuses, sentences

_SMALL = {"global_batch": "64", "scale_most": "64"}
_SAMPLES = {"scale_batch": "grows with the devices", "scale_most": "16", "scale_where": "tp=2"}


def control_of(page: AppTest, each: Field) -> Any:
    """The control of a field."""
    sidebar: Any = page.sidebar
    return getattr(sidebar, "selectbox" if each.kind == "choice" else "text_input")(key=f"control.{each.name}")


def _everything(page: AppTest) -> list[Any]:
    """What the page shows."""
    shown: list[Any] = [(metric.label, metric.value, metric.delta) for metric in page.metric]
    shown += [chart.proto.spec for chart in page.get("plotly_chart")]
    return shown + [frame.value.to_dict() for frame in page.dataframe]


def _sent(page: AppTest) -> simulator.Estimate:
    """What the Plan page would say now."""
    link = {name: text for name, text in link_of(page).items() if not name.startswith("scale_")}
    return simulator.estimate(**arguments(from_query(link, fields())[0]))


def test_it_opens_on_an_answer(open_page: OpenPage) -> None:
    page = open_page("scale")
    curve = simulator.scale("bert-large", "dgx-a100-640gb")
    shown = {metric.label: metric.value for metric in page.metric}
    assert shown["Efficiency halves"] == f"beyond {units.digits(curve.halved_at or 0.0, 2)}"
    assert shown["Efficiency on 4,096"] == units.percent(curve.points[-1].efficiency)
    assert all(metric.help for metric in page.metric)
    assert len(page.get("plotly_chart")) == 3
    assert list(page.dataframe[0].value["devices"]) == [point.devices for point in curve.points]
    assert any("the fastest of the plans that most runs use" in plain(text.value) for text in page.caption)
    assert (link_of(page), sentences(page)) == ({}, [])


@pytest.mark.parametrize("each", scaling.FIELDS, ids=lambda each: each.name)
def test_every_control_changes_the_answer_and_the_link(open_page: OpenPage, each: Field) -> None:
    page = open_page("scale", _SMALL)
    before = _everything(page)
    control = control_of(page, each)
    assert control.help
    control.set_value(_SAMPLES[each.name]).run()
    assert (page.exception, sentences(page)) == ([], [])
    assert link_of(page) == {**_SMALL, each.name: _SAMPLES[each.name]}
    assert _everything(page) != before
    again = open_page("scale", link_of(page))
    assert _everything(again) == _everything(page)
    assert control_of(again, each).value == control_of(page, each).value


def test_open_fields_say_what_stands_in_them(open_page: OpenPage) -> None:
    page = open_page("scale", {"scale_most": "4"})
    page.session_state["section.plan"] = True
    page.run()
    boxes = {each.key: each.placeholder for each in page.sidebar.text_input}
    assert (boxes["control.devices"], boxes["control.global_batch"]) == ("8", "256")
    assert boxes["control.tp"] == "best for each"
    assert "control.dp" not in boxes


def test_replicas_follow_the_devices(open_page: OpenPage) -> None:
    page = open_page("scale", {**_SMALL, "dp": "8", "pp": "1"})
    assert _everything(page) == _everything(open_page("scale", {**_SMALL, "pp": "1"}))
    assert any("All plans keep pp=1." in plain(text.value) for text in page.markdown)
    page.button(key="open.plan").click().run()
    assert link_of(page) == {**_SMALL, "dp": "8"}


def test_the_best_of_all_plans_is_a_switch(open_page: OpenPage) -> None:
    page = open_page("scale", {**_SMALL, "scale_most": "4"})
    page.sidebar.toggle(key="control.best_plan").set_value(True).run()
    assert link_of(page)["best_plan"] == "yes"
    assert any("the fastest of all plans" in plain(text.value) for text in page.caption)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("scale_most", "2000000", "max_devices=2000000: give a whole number from 1 to"),
        ("scale_where", "tp~2", "where='tp~2': write a field"),
        ("devices", "9000000", "devices=9000000: dgx-a100-640gb has 1 to"),
    ],
)
def test_what_cannot_be_is_said_beside_its_control(open_page: OpenPage, name: str, text: str, words: str) -> None:
    page = open_page("scale", _SMALL)
    mended = _SMALL.get(name, "")
    refuses(page, lambda: page.sidebar.text_input(key=f"control.{name}"), text, words, mended=mended)


def test_numbers_without_a_plan_are_told(open_page: OpenPage) -> None:
    page = open_page("scale", {"model": "palm-62b", "scale_most": "64"})
    assert any(plain(text.value).startswith("No plan on 1, 2") for text in page.caption)
    assert len(page.get("plotly_chart")) == 3


def test_what_fits_nowhere_is_said(open_page: OpenPage) -> None:
    page = open_page("scale", {"model": "palm-540b", "system": "workstation-rtx-3090"})
    assert page.get("plotly_chart") == []
    assert any("No number of devices has a plan" in plain(text.value) for text in page.caption)
    assert any("too much memory" in plain(text.value) for text in page.caption)
    assert sentences(page) == []


@pytest.mark.parametrize("batch", ["stays", "grows with the devices"])
def test_a_row_can_be_opened(open_page: OpenPage, batch: str) -> None:
    page = open_page("scale", {**_SMALL, "scale_batch": batch})
    row = page.dataframe[0].value.iloc[5]
    page.session_state["scale.table"] = {"selection": {"rows": [5], "columns": [], "cells": []}}
    page.run()
    page.button(key="open.point").click().run()
    assert page.session_state["capsim.wanted"][0] == "plan"
    sent = _sent(page)
    assert (sent.devices, sent.workload["global_batch"]) == (row["devices"], row["batch"])
    assert round(sent.tokens_per_s) == row["tokens/s"]


def test_more_is_shown_when_it_is_opened(open_page: OpenPage) -> None:
    page = open_page("scale", _SMALL)
    page.session_state["share"] = True
    page.run()
    python, command = page.code
    assert "simulator.scale(" in python.value
    assert command.value == "capsim scale bert-large --system dgx-a100-640gb --global-batch 64 --max-devices 64"
    assert [button.label for button in page.download_button] == ["CSV", "JSON"]
