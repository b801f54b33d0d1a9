"""The Compare page as somebody uses it in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dashboard.choices.scenario import fields
from dashboard.choices.state import opening
from dashboard.content import comparing
from dashboard.content.comparing import to_text
from tests.dashboard.browser.conftest import Visit, settle
from tests.dashboard.browser.looking import click_row, download_yaml, every_look, expect, look, reached_by_keyboard


def test_it_opens_on_four_systems_and_asks_nobody_else(visit: Visit) -> None:
    page: Any = visit("/compare")
    expect(page.locator(".stPlotlyChart")).to_have_count(5)
    for label in comparing.labels(comparing.begun_with()):
        expect(page.locator(".ytick text").filter(has_text=label.rpartition("-")[0])).to_have_count(5)
    assert page.outside == []
    assert page.complaints == []


def test_a_row_is_picked_edited_duplicated_and_removed(visit: Visit) -> None:
    page: Any = visit("/compare")
    click_row(page, 3)
    page.wait_for_url("**/compare?compare_row=3")
    expect(page.get_by_text("3 server-rtx-3090 is edited in the side bar")).to_be_visible()
    settle(page)
    box = page.get_by_label("Sequence length", exact=True)
    expect(box).to_have_value("512")
    box.fill("128")
    box.press("Enter")
    rows = list(comparing.begun_with())
    rows[2] = rows[2].change({"sequence_length": 128})
    page.wait_for_url(f"**/compare?compare_rows={to_text(rows)}&compare_row=3")
    page.get_by_role("button", name="Duplicate").click()
    page.wait_for_url(f"**/compare?compare_rows={to_text([*rows[:3], *rows[2:]])}&compare_row=4")
    page.get_by_role("button", name="Remove").click()
    page.wait_for_url("**&compare_row=3")
    settle(page)
    page.reload()
    settle(page)
    expect(page.get_by_label("Sequence length", exact=True)).to_have_value("128")
    page.go_back()
    page.wait_for_url("**&compare_row=4")
    assert page.complaints == []


def test_what_plan_shows_is_added_and_goes_back(visit: Visit) -> None:
    page: Any = visit("/plan?system=rtx-3090&micro_batch=4")
    page.get_by_role("link", name="Compare").click()
    settle(page)
    page.get_by_role("button", name="Add what Plan shows").click()
    expect(page.get_by_text("is edited in the side bar")).to_contain_text("5 ")
    settle(page)
    box = page.get_by_label("Global batch", exact=True)
    box.fill("64")
    box.press("Enter")
    settle(page)
    page.get_by_role("button", name="Use in Plan").click()
    page.wait_for_url("**/?system=rtx-3090&global_batch=64&micro_batch=4")
    settle(page)
    expect(page.get_by_label("Global batch", exact=True)).to_have_value("64")


def test_a_ready_made_set_is_chosen(visit: Visit) -> None:
    page: Any = visit("/compare")
    page.get_by_label("Begin with", exact=True).click()
    page.get_by_role("option", name="PaLM 540B").click()
    page.wait_for_url("**/compare?compare_rows=model.palm-540b~system.dgx-h100**")
    settle(page)
    expect(page.locator(".ytick text").filter(has_text="4 tpu-v4-pod")).to_have_count(5)


def test_what_is_wrong_stands_beside_its_control(visit: Visit) -> None:
    rows = [opening(fields()), opening(fields()).change({"tp": 3})]
    page: Any = visit(f"/compare?compare_rows={to_text(rows)}&compare_row=2")
    side = page.get_by_test_id("stSidebar")
    expect(side.get_by_text("tp=3 does not divide 16 attention heads")).to_be_visible()
    assert "Traceback" not in page.content()


def test_a_long_search_shows_how_far_it_is_and_can_be_stopped(visit: Visit) -> None:
    large = opening(fields()).change({"model": "gpt3-175b", "system": "superpod-a100", "devices": 2048})
    rows = [opening(fields()), large]
    page: Any = visit(f"/compare?compare_rows={to_text(rows)}&compare_row=2")
    page.get_by_text("Best plan of all", exact=True).click()
    expect(page.get_by_text("2 gpt3-175b, superpod-a100, devices 2048, best plan of all: pricing")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    page.wait_for_url(f"**/compare?compare_rows={to_text(rows)}&compare_row=2")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    settle(page)
    expect(page.locator(".ytick text").filter(has_text="2048")).to_have_count(5)


def test_what_is_downloaded_is_what_is_compared(visit: Visit, tmp_path: Path) -> None:
    page: Any = visit("/compare")
    path = download_yaml(page, tmp_path)
    assert path.name == "capsim-compare.yaml"
    assert [each["system"] for each in yaml.safe_load_all(path.read_text())] == [
        row["system"] for row in comparing.begun_with()
    ]


def test_everything_is_reached_by_the_keyboard(visit: Visit) -> None:
    names = reached_by_keyboard(visit("/compare"), 80)
    for name in ("Scenario", "Model", "Begin with", "Add what Plan shows", "Duplicate", "Remove", "Use in Plan"):
        assert name in names, name
    assert "Copy or download" in names


@every_look
def test_it_is_legible_at_every_width_and_in_both_themes(visit: Visit, width: int, dark: bool) -> None:
    rows = [*comparing.begun_with(), opening(fields()).change({"model": "palm-540b", "system": "dgx-a100-320gb"})]
    page: Any = visit(f"/compare?compare_rows={to_text(rows)}", width=width, dark=dark)
    look(page, width=width, dark=dark)
