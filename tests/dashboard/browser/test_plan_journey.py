"""The Plan page as somebody uses it in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import simulator
from dashboard.choices.scenario import fields
from dashboard.choices.state import opening
from dashboard.content.exports import as_python
from hardware import units
from tests.dashboard.browser.conftest import Visit, settle
from tests.dashboard.browser.looking import download, download_yaml, every_look, expect, look, reached_by_keyboard

_TIME = '[data-testid="stMetricValue"]'
_OPENING = units.duration(simulator.estimate("bert-large", "dgx-a100-640gb").step_time_s)


def _step_time(page: Any) -> Any:
    """Where the step time stands."""
    return page.locator(_TIME).first


def _type(page: Any, label: str, text: str) -> None:
    """Write into a field by the keyboard."""
    box = page.get_by_label(label, exact=True)
    box.fill(text)
    box.press("Enter")


def test_it_opens_on_an_answer_and_asks_nobody_else(visit: Visit) -> None:
    page: Any = visit("/")
    expect(_step_time(page)).to_have_text(_OPENING)
    expect(page.locator(".stPlotlyChart")).to_have_count(3)
    assert page.outside == []
    assert page.complaints == []


def test_a_change_stands_in_the_link_and_the_link_brings_it_back(visit: Visit) -> None:
    page: Any = visit("/")
    four = units.duration(simulator.estimate("bert-large", "dgx-a100-640gb", devices=4).step_time_s)
    _type(page, "Devices", "4")
    expect(_step_time(page)).to_have_text(four)
    page.wait_for_url("**/?devices=4")
    page.reload()
    settle(page)
    expect(_step_time(page)).to_have_text(four)
    other: Any = visit("/plan?devices=4")
    expect(_step_time(other)).to_have_text(four)
    expect(other.get_by_label("Devices", exact=True)).to_have_value("4")


def test_going_back_brings_back_what_was_before(visit: Visit) -> None:
    page: Any = visit("/?devices=2")
    two = _step_time(page).inner_text()
    _type(page, "Devices", "4")
    page.wait_for_url("**/?devices=4")
    expect(_step_time(page)).not_to_have_text(two)
    settle(page)
    page.go_back()
    expect(_step_time(page)).to_have_text(two)
    expect(page.get_by_label("Devices", exact=True)).to_have_value("2")


def test_quick_changes_are_all_kept(visit: Visit) -> None:
    page: Any = visit("/")
    for label, text in (("Devices", "4"), ("Sequence length", "128"), ("Global batch", "512")):
        _type(page, label, text)
    page.wait_for_url("**/?devices=4&sequence_length=128&global_batch=512")
    wanted = simulator.estimate(
        "bert-large", "dgx-a100-640gb", devices=4, workload={"sequence_length": 128, "global_batch": 512}
    )
    expect(_step_time(page)).to_have_text(units.duration(wanted.step_time_s))


def test_a_wrong_value_is_a_sentence_beside_its_control(visit: Visit) -> None:
    page: Any = visit("/?tp=3")
    side = page.get_by_test_id("stSidebar")
    expect(side.get_by_text("tp=3 does not divide 16 attention heads")).to_be_visible()
    _type(page, "Devices", "many")
    expect(side.get_by_text("devices='many': write a whole number from 1")).to_be_visible()
    assert "Traceback" not in page.content()


def test_a_button_applies_what_helps_most(visit: Visit) -> None:
    page: Any = visit("/?recompute=full&micro_batch=4")
    page.get_by_role("button", name="Recompute full → none").click()
    page.wait_for_url("**/?micro_batch=4&recompute=none")
    wanted = simulator.estimate("bert-large", "dgx-a100-640gb", plan={"recompute": "none", "micro_batch": 4})
    expect(_step_time(page)).to_have_text(units.duration(wanted.step_time_s))


def test_a_long_search_shows_how_far_it_is_and_can_be_stopped(visit: Visit) -> None:
    page: Any = visit("/?model=gpt3-175b&system=superpod-a100&devices=2048")
    before = _step_time(page).inner_text()
    page.get_by_text("Best plan of all", exact=True).click()
    page.get_by_role("button", name="Stop").click()
    page.wait_for_url("**/?model=gpt3-175b&system=superpod-a100&devices=2048")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    expect(_step_time(page)).to_have_text(before)


def test_what_is_downloaded_and_copied_says_the_same(visit: Visit, tmp_path: Path) -> None:
    page: Any = visit("/?tp=2")
    path = download_yaml(page, tmp_path)
    assert path.name == "capsim-bert-large-dgx-a100-640gb.yaml"
    wanted = simulator.estimate("bert-large", "dgx-a100-640gb", plan={"tp": 2})
    assert simulator.answer(simulator.from_file(path)).step_time_s == wanted.step_time_s
    code = page.get_by_test_id("stCode").first
    code.hover()
    code.get_by_role("button", name="Copy to clipboard").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == as_python(opening(fields()).change({"tp": 2}))


def test_a_figure_is_saved_as_a_picture(visit: Visit, tmp_path: Path) -> None:
    page: Any = visit("/")
    path = download(page.locator('.modebar-btn[data-title^="Download plot"]').first, tmp_path)
    assert path.name == "capsim-waterfall-bert-large-dgx-a100-640gb.png"
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    assert path.stat().st_size > 10_000
    assert page.outside == []


def test_everything_is_reached_by_the_keyboard(visit: Visit) -> None:
    page: Any = visit("/?recompute=full&micro_batch=4")
    names = reached_by_keyboard(page, 90)
    for name in (
        "Model",
        "System",
        "Devices",
        "Sequence length",
        "Best plan of all",
        "Plan and stack",
        "Copy or download",
    ):
        assert name in names, name
    assert "Recompute full → none" in names.replace("\n", " ")
    page.get_by_text("Plan and stack").focus()
    page.get_by_test_id("stSidebar").locator("summary").first.press("Enter")
    expect(page.get_by_label("Tensor (tp)", exact=True)).to_be_visible()


@every_look
def test_it_is_legible_at_every_width_and_in_both_themes(visit: Visit, width: int, dark: bool) -> None:
    look(visit("/?model=gpt3-175b&system=superpod-a100&devices=1024", width=width, dark=dark), width=width, dark=dark)


@pytest.mark.parametrize("link", ["/", "/?model=llama-3-70b&system=dgx-h100&devices=64"])
def test_labels_of_long_and_short_steps_have_room(visit: Visit, link: str) -> None:
    look(visit(link, width=390), width=390, dark=False)
