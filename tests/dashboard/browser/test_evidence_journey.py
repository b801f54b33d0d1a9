"""The Evidence page as somebody uses it in a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from simulator.evidence import held_out
from tests.dashboard.browser.conftest import Visit, settle
from tests.dashboard.browser.driving import SECONDS, running_dashboard, window
from tests.dashboard.browser.looking import download_yaml, every_look, expect, look, reached_by_keyboard

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_RUNS = f"{len(held_out.shipped().errors['new source'].ids):,}"
"""Runs whose errors the intervals rest on, which are those that are scored."""


def test_it_prices_every_published_run_and_asks_nobody_else(visit: Visit) -> None:
    page: Any = visit("/evidence")
    expect(page.get_by_test_id("stMetricValue").first).to_have_text(_RUNS)
    points = page.locator(".stPlotlyChart").first.locator(".scatterlayer .point")
    expect(points.nth(2500)).to_be_attached()
    assert page.outside == []
    assert page.complaints == []


def test_the_first_visit_shows_how_far_it_is_and_can_be_stopped(chromium: Browser) -> None:
    with running_dashboard() as address:
        context = window(chromium, width=1280, height=900, dark=False)
        page: Any = context.new_page()
        page.set_default_timeout(SECONDS * 1000)
        page.goto(f"{address}/evidence")
        expect(page.get_by_text(re.compile(r"Pricing the published runs: [\d,]+ of [\d,]+ "))).to_be_visible()
        expect(page.get_by_text("Real runs most like bert-large")).to_be_visible()
        page.get_by_role("button", name="Stop").click()
        page.wait_for_url("**/evidence?evidence_runs=no")
        expect(page.get_by_role("button", name="Stop")).to_have_count(0)
        expect(page.get_by_test_id("stMetricValue")).to_have_count(0)
        page.get_by_text("Price the published runs").click()
        page.wait_for_url("**/evidence")
        expect(page.get_by_test_id("stMetricValue").first).to_have_text(_RUNS)
        context.close()


def test_a_point_tells_its_run_and_source(visit: Visit) -> None:
    page: Any = visit("/evidence?evidence_only=palm-540b-6144")
    chart = page.locator(".stPlotlyChart").first
    chart.scroll_into_view_if_needed()
    place = chart.locator(".scatterlayer .point").first.bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    told = chart.locator(".hoverlayer .hovertext")
    expect(told).to_contain_text("palm-540b-6144")
    expect(told).to_contain_text("measured")
    expect(told).to_contain_text("PaLM")


def test_runs_are_coloured_chosen_and_the_link_brings_it_back(visit: Visit) -> None:
    page: Any = visit("/evidence")
    page.get_by_label("Grouped by", exact=True).click()
    page.get_by_role("option", name="stack").click()
    page.wait_for_url("**/evidence?evidence_by=stack")
    expect(page.get_by_text("Error by stack")).to_be_visible()
    box = page.get_by_label("Only runs with", exact=True)
    box.fill("v100 bert")
    box.press("Enter")
    page.wait_for_url("**/evidence?evidence_by=stack&evidence_only=v100+bert")
    settle(page)
    runs = page.get_by_test_id("stMetricValue").first
    expect(runs).not_to_have_text(_RUNS)
    chosen = runs.inner_text()
    page.reload()
    settle(page)
    expect(runs).to_have_text(chosen)
    box = page.get_by_label("Only runs with", exact=True)
    box.fill("abacus")
    box.press("Enter")
    expect(page.get_by_text("evidence_only='abacus': no run has all of this")).to_be_visible()


def test_the_scenario_at_hand_comes_along(visit: Visit) -> None:
    page: Any = visit("/plan?model=palm-540b&system=tpu-v4-pod&devices=1024")
    page.get_by_role("link", name="Evidence").click()
    settle(page)
    expect(page.get_by_text("Real runs most like palm-540b on 1,024 devices of tpu-v4-pod")).to_be_visible()


def test_the_scores_are_downloaded(visit: Visit, tmp_path: Path) -> None:
    page: Any = visit("/evidence")
    path = download_yaml(page, tmp_path)
    assert 0.85 < yaml.safe_load(path.read_text())["interval_coverage_90"] < 0.95


def test_everything_is_reached_by_the_keyboard(visit: Visit) -> None:
    names = reached_by_keyboard(visit("/evidence?evidence_only=tpu"), 90)
    for name in ("Grouped by", "Constants had seen", "Only runs with", "Memory, and runs that are not scored"):
        assert name in names, name
    assert "Copy or download" in names


@every_look
def test_it_is_legible_at_every_width_and_in_both_themes(visit: Visit, width: int, dark: bool) -> None:
    look(visit("/evidence?evidence_by=source", width=width, dark=dark), width=width, dark=dark)
