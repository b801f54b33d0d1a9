"""The Search page as somebody uses it in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import simulator
from hardware import units
from simulator import Estimate
from simulator.terminal.search import plan_words
from tests.dashboard.browser.conftest import Visit, settle
from tests.dashboard.browser.looking import click_row, every_look, expect, look, reached_by_keyboard

_SMALL = "system=dgx-1-v100&stack=megatron-lm&sequence_length=512&global_batch=8"
_VALUE = '[data-testid="stMetricValue"]'
_LARGE = "/search?model=gpt3-175b&system=superpod-a100&devices=4096"


def _search() -> simulator.Search:
    work = {"sequence_length": 512, "global_batch": 8}
    return simulator.search(
        "bert-large", "dgx-1-v100", stack="megatron-lm", workload=work, top=20, pareto="time,memory"
    )


def _is_on_plan(page: Any, one: Estimate) -> None:
    """Wait until the Plan page says of a plan what the search did."""
    page.wait_for_url("**/?*")
    settle(page)
    expect(page.locator(_VALUE).nth(0)).to_have_text(units.duration(one.step_time_s))
    expect(page.locator(_VALUE).nth(5)).to_have_text(units.size(one.memory_bytes["total"]))


def test_it_opens_on_an_answer_and_asks_nobody_else(visit: Visit) -> None:
    page: Any = visit("/search")
    best = simulator.search("bert-large", "dgx-a100-640gb", top=1).best[0]
    expect(page.locator(_VALUE).first).to_have_text(units.duration(best.step_time_s))
    expect(page.locator(".stPlotlyChart")).to_have_count(3)
    assert page.outside == []
    assert page.complaints == []


def test_conditions_narrow_it_and_stand_in_the_link(visit: Visit) -> None:
    page: Any = visit(f"/search?{_SMALL}")
    box = page.get_by_label("Conditions", exact=True)
    box.fill("tp=2,recompute=full")
    box.press("Enter")
    page.wait_for_url("**search_where=tp%3D2%2Crecompute%3Dfull*")
    settle(page)
    expect(page.get_by_text("recompute=full", exact=False).first).to_be_visible()
    best = page.locator(_VALUE).first.inner_text()
    page.reload()
    settle(page)
    expect(page.locator(_VALUE).first).to_have_text(best)
    expect(page.get_by_label("Conditions", exact=True)).to_have_value("tp=2,recompute=full")


def test_the_best_plan_has_a_launch_file_to_download(visit: Visit) -> None:
    page: Any = visit(f"/search?{_SMALL}")
    page.get_by_text("Launch file: what starts the best plan").click()
    settle(page)
    best = _search().best[0]
    expect(page.get_by_text(f"--micro-batch-size {best.plan['micro_batch']}", exact=False).first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Launch file").click()
    assert download.value.suggested_filename == "bert-large-megatron-lm.sh"
    text = Path(download.value.path()).read_text()
    assert f"--tensor-model-parallel-size {best.plan['tp']}\n" in text
    assert page.complaints == []


def test_a_wrong_condition_is_a_sentence_beside_its_control(visit: Visit) -> None:
    page: Any = visit(f"/search?{_SMALL}&search_where=tp~2")
    side = page.get_by_test_id("stSidebar")
    expect(side.get_by_text("where='tp~2': write a field, a comparison and a value")).to_be_visible()
    assert "Traceback" not in page.content()
    side.get_by_label("Conditions", exact=True).fill("")
    side.get_by_label("Conditions", exact=True).press("Enter")
    expect(page.locator(_VALUE).first).to_be_visible()


def test_a_point_is_told_and_opens_on_the_plan_page(visit: Visit) -> None:
    page: Any = visit(f"/search?{_SMALL}")
    front = _search().pareto or ()
    points = page.locator(".stPlotlyChart").first.locator("path.point")
    expect(points).to_have_count(len(front) + 20)
    last = points.nth(len(front) - 1)
    last.hover(force=True)
    expect(page.locator(".hoverlayer").first).to_contain_text(plan_words(front[-1]))
    last.click(force=True)
    _is_on_plan(page, front[-1])
    page.go_back()
    page.wait_for_url(f"**/search?{_SMALL}")
    expect(page.locator(".stPlotlyChart")).to_have_count(3)
    assert page.complaints == []


def test_a_row_opens_on_the_plan_page(visit: Visit) -> None:
    page: Any = visit(f"/search?{_SMALL}")
    click_row(page, 2)
    one = _search().best[1]
    expect(page.get_by_role("button", name="Open in Plan")).to_have_count(2)
    page.get_by_role("button", name="Open in Plan").nth(1).click()
    _is_on_plan(page, one)
    page.get_by_role("link", name="Search").click()
    settle(page)
    expect(page.get_by_text("All plans keep")).to_be_visible()
    page.get_by_role("button", name="Try all").click()
    page.wait_for_url(f"**/search?{_SMALL}")


def test_a_long_search_shows_how_far_it_is_and_can_be_stopped(visit: Visit) -> None:
    page: Any = visit(f"/search?{_SMALL}")
    page.goto(page.url.partition("/search")[0] + _LARGE)
    expect(page.get_by_text("plans, best")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped before the end.")).to_be_visible()
    expect(page.locator(_VALUE)).to_have_count(0)
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(_VALUE).first).to_be_visible()
    assert page.complaints == []


@every_look
def test_it_is_legible_at_every_width_and_in_both_themes(visit: Visit, width: int, dark: bool) -> None:
    look(visit(f"/search?{_SMALL}", width=width, dark=dark), width=width, dark=dark)


def test_everything_is_reached_by_the_keyboard(visit: Visit) -> None:
    names = reached_by_keyboard(visit(f"/search?{_SMALL}"), 90)
    for name in (
        "Best by",
        "Conditions",
        "Budget in USD",
        "Model",
        "Open in Plan",
        "Down",
        "Across",
        "Only plans with",
    ):
        assert name in names, name
