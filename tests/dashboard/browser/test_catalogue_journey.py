"""The Catalogue page as somebody uses it in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboard.content import browsing
from tests.dashboard.browser.conftest import Visit, settle
from tests.dashboard.browser.looking import click_row, download_yaml, every_look, expect, look, reached_by_keyboard


def test_it_opens_on_devices_and_asks_nobody_else(visit: Visit) -> None:
    page: Any = visit("/catalogue")
    expect(page.get_by_role("heading", name="a100-sxm4-80gb")).to_be_visible()
    expect(page.get_by_role("cell", name="312 TFLOP/s").first).to_be_visible()
    assert page.outside == []
    assert page.complaints == []


def test_an_entry_is_found_read_and_used(visit: Visit) -> None:
    page: Any = visit("/catalogue")
    box = page.get_by_label("Search", exact=True)
    box.fill("hopper hbm3")
    box.press("Enter")
    page.wait_for_url("**/catalogue?catalogue_search=hopper+hbm3")
    settle(page)
    click_row(page, 2)
    name = browsing.matching("devices", "hopper hbm3")[1]
    page.wait_for_url(f"**/catalogue?catalogue_search=hopper+hbm3&catalogue_entry={name}")
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    page.get_by_role("button", name="Use in Plan").click()
    page.wait_for_url(f"**/?system={name}")
    settle(page)
    expect(page.get_by_text(f"bert-large on {name}")).to_be_visible()


def test_another_part_is_read_and_the_link_brings_it_back(visit: Visit) -> None:
    name = browsing.matching("prices", "")[1]
    page: Any = visit("/catalogue?catalogue_entry=rtx-3090")
    page.get_by_label("Part", exact=True).click()
    page.get_by_role("option", name="prices").click()
    page.wait_for_url("**/catalogue?catalogue_part=prices")
    settle(page)
    page.get_by_label("Entry", exact=True).click()
    page.get_by_role("option", name=name, exact=True).click()
    page.wait_for_url(f"**/catalogue?catalogue_part=prices&catalogue_entry={name}")
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    settle(page)
    page.go_back()
    page.wait_for_url("**/catalogue?catalogue_part=prices")
    expect(page.get_by_role("heading", name=name, exact=True)).to_have_count(0)
    other: Any = visit(f"/catalogue?catalogue_part=prices&catalogue_entry={name}")
    expect(other.get_by_role("heading", name=name, exact=True)).to_be_visible()


def test_quoted_figures_stand_beside_the_vendors(visit: Visit) -> None:
    page: Any = visit("/catalogue")
    page.get_by_text("Where often quoted figures and the vendor's differ").click()
    expect(page.get_by_role("cell", name="wrong by 2x")).to_be_visible()


def test_an_entry_is_downloaded_with_its_sources(visit: Visit, tmp_path: Path) -> None:
    page: Any = visit("/catalogue?catalogue_entry=rtx-3090")
    path = download_yaml(page, tmp_path)
    assert path.name == "capsim-devices-rtx-3090.yaml"
    assert yaml.safe_load(path.read_text())["memory"]["bandwidth"]["source"]


def test_everything_is_reached_by_the_keyboard(visit: Visit) -> None:
    names = reached_by_keyboard(visit("/catalogue"), 40)
    for name in ("Part", "Search", "Entry", "Use in Plan", "Copy or download"):
        assert name in names, name


@every_look
@pytest.mark.parametrize("part", ["systems", "profiles"])
def test_it_is_legible_at_every_width_and_in_both_themes(visit: Visit, width: int, dark: bool, part: str) -> None:
    look(visit(f"/catalogue?catalogue_part={part}", width=width, dark=dark), width=width, dark=dark)
