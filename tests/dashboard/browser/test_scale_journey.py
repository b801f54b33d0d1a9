"""The Scale page as somebody uses it in a browser."""

from __future__ import annotations

from typing import Any

import simulator
from hardware import units
from tests.dashboard.browser.conftest import Visit, settle
from tests.dashboard.browser.looking import click_row, every_look, expect, look, reached_by_keyboard

_SMALL = "global_batch=64&scale_most=64"
_VALUE = '[data-testid="stMetricValue"]'


def test_it_opens_on_an_answer_and_asks_nobody_else(visit: Visit) -> None:
    page: Any = visit("/scale")
    halved = simulator.scale("bert-large", "dgx-a100-640gb").halved_at
    expect(page.locator(_VALUE).first).to_have_text(f"beyond {units.digits(halved or 0.0, 2)}")
    expect(page.locator(".stPlotlyChart")).to_have_count(3)
    assert page.outside == []
    assert page.complaints == []


def test_a_growing_batch_stands_in_the_link(visit: Visit) -> None:
    page: Any = visit(f"/scale?{_SMALL}")
    page.get_by_role("combobox", name="Batch", exact=True).click()
    page.get_by_role("option", name="grows with the devices").click()
    page.wait_for_url("**scale_batch=grows*")
    settle(page)
    expect(page.get_by_text("A batch that grows with the devices")).to_be_visible()
    page.reload()
    settle(page)
    expect(page.get_by_text("A batch that grows with the devices")).to_be_visible()


def test_a_row_opens_on_the_plan_page(visit: Visit) -> None:
    page: Any = visit(f"/scale?{_SMALL}")
    point = simulator.scale("bert-large", "dgx-a100-640gb", workload={"global_batch": 64}, max_devices=64).points[4]
    click_row(page, 5)
    page.get_by_role("button", name="Open in Plan").click()
    page.wait_for_url("**/?*devices=16*")
    settle(page)
    expect(page.locator(_VALUE).first).to_have_text(units.duration(point.estimate.step_time_s))
    assert page.complaints == []


@every_look
def test_it_is_legible_at_every_width_and_in_both_themes(visit: Visit, width: int, dark: bool) -> None:
    look(visit("/scale", width=width, dark=dark), width=width, dark=dark)


def test_everything_is_reached_by_the_keyboard(visit: Visit) -> None:
    names = reached_by_keyboard(visit(f"/scale?{_SMALL}"), 60)
    for name in ("Batch", "Devices at most", "Conditions on plans", "Model", "Copy or download"):
        assert name in names, name
