"""The Timeline page as somebody uses it in a browser."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import simulator
from hardware import units
from tests.dashboard.browser.conftest import Visit, settle
from tests.dashboard.browser.looking import download, every_look, expect, look, reached_by_keyboard

_PIPELINE = "model=gpt3-6.7b&system=superpod-a100&devices=16&tp=2&pp=4&global_batch=16"
_VALUE = '[data-testid="stMetricValue"]'
_BARS = ".stPlotlyChart .barlayer .point"


def test_it_opens_on_an_answer_and_asks_nobody_else(visit: Visit) -> None:
    page: Any = visit("/timeline")
    timeline = simulator.estimate("bert-large", "dgx-a100-640gb").timeline()
    expect(page.locator(_VALUE).first).to_have_text(units.duration(timeline.step_time))
    expect(page.locator(".stPlotlyChart")).to_have_count(1)
    assert page.locator(_BARS).count() > 100
    assert page.outside == []
    assert page.complaints == []


def test_a_bar_says_what_it_is(visit: Visit) -> None:
    page: Any = visit(f"/timeline?{_PIPELINE}&timeline_detail=passes")
    frame = page.locator(".stPlotlyChart .barlayer .point path").nth(2).bounding_box()
    page.mouse.move(frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2)
    expect(page.locator(".hovertext").first).to_contain_text("forward pass of micro-batch 3")
    expect(page.locator(".hovertext").first).to_contain_text("stage 1")


def test_a_zoom_stands_in_the_link(visit: Visit) -> None:
    page: Any = visit(f"/timeline?{_PIPELINE}")
    page.get_by_role("combobox", name="Zoom").click()
    page.get_by_role("option", name="one layer").click()
    page.wait_for_url("**timeline_zoom=one*")
    settle(page)
    expect(page.locator(".ytick text", has_text="tensor links")).to_be_visible()
    page.reload()
    settle(page)
    expect(page.locator(".ytick text", has_text="tensor links")).to_be_visible()
    assert page.complaints == []


def test_two_plans_stand_on_one_axis(visit: Visit) -> None:
    page: Any = visit(f"/timeline?{_PIPELINE}")
    page.get_by_role("button", name="Keep this plan below").click()
    page.wait_for_url("**timeline_other=*")
    settle(page)
    page.goto(page.url.replace("pp=4", "pp=2"))
    settle(page)
    expect(page.get_by_text("Below: pp 4")).to_be_visible()
    expect(page.locator(".stPlotlyChart").get_by_text("stage 1", exact=True)).to_have_count(2)
    page.get_by_role("button", name="Take it away").click()
    expect(page.locator(".stPlotlyChart").get_by_text("stage 1", exact=True)).to_have_count(1)


def test_the_trace_is_downloaded(visit: Visit, tmp_path: Path) -> None:
    page: Any = visit("/timeline")
    path = download(page.get_by_role("button", name="Trace for Perfetto"), tmp_path)
    assert path.name == "capsim-timeline-bert-large-dgx-a100-640gb.json.gz"
    assert json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]


@every_look
@pytest.mark.parametrize("link", ["", _PIPELINE, f"{_PIPELINE}&timeline_zoom=one layer&timeline_other=tp.2"])
def test_it_is_legible_at_every_width_and_in_both_themes(visit: Visit, link: str, width: int, dark: bool) -> None:
    look(visit(f"/timeline?{link}", width=width, dark=dark), width=width, dark=dark)


def test_everything_is_reached_by_the_keyboard(visit: Visit) -> None:
    names = reached_by_keyboard(visit("/timeline"), 70)
    for name in ("Zoom", "Stages", "Model", "Keep this plan below", "Trace for Perfetto", "Copy or download"):
        assert name in names, name
