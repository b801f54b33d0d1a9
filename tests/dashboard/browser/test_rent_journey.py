"""The Rent page as somebody uses it in a browser."""

from __future__ import annotations

from typing import Any

import simulator
from hardware import units
from simulator import Outlook
from tests.dashboard.browser.conftest import Visit, settle
from tests.dashboard.browser.looking import click_row, every_look, expect, look, reached_by_keyboard

_CARDS = "rent_systems=workstation-rtx-3090%2Cworkstation-rtx-a6000&rent_most=4&rent_deadline=30d"
_VALUE = '[data-testid="stMetricValue"]'


def _outlook(**limits: Any) -> Outlook:
    systems = ["workstation-rtx-3090", "workstation-rtx-a6000"]
    outlook = simulator.rent("bert-large", systems=systems, max_devices=4, processes=1)
    return outlook.within(**{"deadline": "30d", "budget": 1500.0, **limits})


def _says_cheapest(page: Any, outlook: Outlook) -> None:
    """Wait for time and cost of the cheapest."""
    assert outlook.cheapest is not None
    expect(page.locator(_VALUE).nth(0)).to_have_text(units.duration(outlook.cheapest.time_s))
    expect(page.locator(_VALUE).nth(1)).to_have_text(units.money(outlook.cheapest.cost_usd))


def test_it_opens_on_an_answer_by_processes_of_its_own(visit: Visit) -> None:
    page: Any = visit(f"/rent?{_CARDS}")
    _says_cheapest(page, _outlook())
    expect(page.locator(".stPlotlyChart")).to_have_count(2)
    assert page.outside == []
    assert page.complaints == []


def test_a_slider_judges_at_once(visit: Visit) -> None:
    page: Any = visit(f"/rent?{_CARDS}")
    slider = page.get_by_role("slider").first
    for _ in range(2):
        slider.press("ArrowLeft")
        settle(page)
    page.wait_for_url("**rent_deadline=14d*")
    settle(page)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    outlook = _outlook(deadline="14d")
    if outlook.cheapest is None:
        expect(page.get_by_text("What comes nearest needs")).to_be_visible()
    else:
        _says_cheapest(page, outlook)
    page.reload()
    settle(page)
    expect(page.get_by_role("slider").first).to_have_attribute("aria-valuetext", "14 days")


def test_it_shows_what_was_found_while_it_works_and_can_be_stopped(visit: Visit) -> None:
    page: Any = visit(f"/rent?{_CARDS}")
    page.goto(f"{page.url.partition('/rent')[0]}/rent?model=gpt3-13b&rent_budget=any&rent_deadline=any")
    expect(page.get_by_text("systems and numbers of devices").first).to_be_visible()
    expect(page.locator(".stPlotlyChart").first).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped before the end.")).to_be_visible()
    settle(page)
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    assert page.complaints == []


def test_an_option_opens_on_the_plan_page(visit: Visit) -> None:
    page: Any = visit(f"/rent?{_CARDS}")
    outlook = _outlook()
    click_row(page, 1)
    buttons = page.get_by_role("button", name="Open in Plan")
    expect(buttons).to_have_count(3)  # of the cheapest, of the fastest, and then of the row
    settle(page)
    buttons.last.click()
    front = outlook.front[0]
    page.wait_for_url(f"**/?system={front.system}&devices={front.devices}*")
    settle(page)
    expect(page.locator(_VALUE).nth(0)).to_have_text(units.duration(front.estimate.step_time_s))
    expect(page.locator(_VALUE).nth(2)).to_have_text(units.money(front.estimate.run.cost_usd or 0.0))


def test_a_click_on_a_point_opens_it(visit: Visit) -> None:
    page: Any = visit(f"/rent?{_CARDS}")
    points = page.locator(".stPlotlyChart").first.locator("path.point")
    points.last.hover(force=True)
    expect(page.locator(".hoverlayer").first).to_contain_text("goodput")
    points.last.click(force=True)
    page.wait_for_url("**/?system=*")
    settle(page)
    assert page.complaints == []


@every_look
def test_it_is_legible_at_every_width_and_in_both_themes(visit: Visit, width: int, dark: bool) -> None:
    look(visit(f"/rent?{_CARDS}", width=width, dark=dark), width=width, dark=dark)


def test_everything_is_reached_by_the_keyboard(visit: Visit) -> None:
    names = reached_by_keyboard(visit(f"/rent?{_CARDS}"), 90)
    for name in ("Systems", "Devices at most", "Whose prices", "Deadline", "Budget", "Open in Plan", "List"):
        assert name in names, name
