"""The Calibrate page as somebody uses it in a browser: a record is uploaded, looked at, kept, and planned with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import simulator
from hardware import units
from simulator.profiling.records import journal
from tests.dashboard import records
from tests.dashboard.browser.conftest import Visit, settle
from tests.dashboard.browser.looking import download, every_look, expect, look, reached_by_keyboard
from tests.profiling.made_up import graphics

_METRIC = '[data-testid="stMetricValue"]'


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A record on disk."""
    file = tmp_path / "my-card.jsonl"
    file.write_bytes(records.of_graphics())
    return file


def _upload(page: Any, *files: Path) -> None:
    """Choose files, and wait for what is made of them."""
    page.locator("input[type=file]").set_input_files(files)


def _pick(page: Any, label: str, option: str) -> None:
    """Choose from a list."""
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_it_opens_on_an_answer_and_asks_nobody_else(visit: Visit) -> None:
    page: Any = visit("/calibrate")
    profile = simulator.load_profile("a100-sxm")
    expect(page.get_by_role("heading", name=profile.title)).to_be_visible()
    expect(page.locator(_METRIC)).to_have_count(4)
    expect(page.locator(".stPlotlyChart")).to_have_count(2)
    assert page.outside == []
    assert page.complaints == []


def test_a_record_becomes_a_profile_that_is_kept_and_planned_with(visit: Visit, record: Path, tmp_path: Path) -> None:
    page: Any = visit("/calibrate")
    _upload(page, record)
    expect(page.get_by_role("heading", name="GeForce RTX 3090, measured")).to_be_visible()
    settle(page)
    page.wait_for_url("**/calibrate")
    path = download(page.get_by_role("button", name="Download the profile"), tmp_path)
    assert path.name == "my-card.yaml"
    wanted = simulator.calibrate([record], name="my-card.yaml")
    assert simulator.load_profile(path).constants == simulator.load_profile(_written(wanted, tmp_path)).constants
    page.get_by_role("button", name="Use in Plan").click()
    expect(page.get_by_role("heading", name="bert-large on rtx-3090")).to_be_visible()
    settle(page)
    estimate = simulator.estimate("bert-large", "rtx-3090", profile=path)
    expect(page.locator(_METRIC).first).to_have_text(units.duration(estimate.step_time_s))
    expect(page.get_by_role("heading", name="Basis of the estimate")).to_be_visible()
    expect(page.get_by_text("only this browser tab knows it, and no link has it")).to_be_visible()
    assert "profile" not in page.url
    page.get_by_role("link", name="Calibrate").click()
    expect(page.get_by_text("my-card.jsonl (")).to_be_visible()
    expect(page.get_by_role("heading", name="GeForce RTX 3090, measured")).to_be_visible()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", name=simulator.load_profile("a100-sxm").title)).to_be_visible()
    assert page.outside == []


def _written(profile: simulator.MeasuredProfile, folder: Path) -> Path:
    path = folder / "wanted.yaml"
    path.write_text(simulator.profile_text(profile))
    return path


def test_what_is_shipped_is_used_in_plan_with_a_link(visit: Visit) -> None:
    page: Any = visit("/calibrate?calibrate_profile=h100-sxm")
    page.get_by_role("button", name="Use in Plan").click()
    expect(page.get_by_role("heading", name="bert-large on h100-sxm5-80gb")).to_be_visible()
    page.wait_for_url("**/?*profile=h100-sxm*")
    settle(page)
    shown = page.locator(_METRIC).first.inner_text()
    other: Any = visit(f"/?{page.url.partition('/?')[2]}")
    expect(other.locator(_METRIC).first).to_have_text(shown)


def test_a_change_stands_in_the_link_and_the_link_brings_it_back(visit: Visit) -> None:
    page: Any = visit("/calibrate")
    _pick(page, "Kind of work", "collectives")
    page.wait_for_url("**/calibrate?calibrate_phase=collective")
    settle(page)
    words = page.get_by_text("rows: the median error is").inner_text()
    other: Any = visit("/calibrate?calibrate_phase=collective")
    expect(other.get_by_text("rows: the median error is")).to_have_text(words)
    page.go_back()
    expect(page.get_by_text("3,690 rows: the median error is")).to_be_visible()


def test_a_wrong_file_is_a_sentence_beside_the_uploader(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "notes.jsonl"
    file.write_text("nothing of interest\n")
    page: Any = visit("/calibrate")
    _upload(page, file)
    expect(page.get_by_text("notes.jsonl: is no record of capsim measure")).to_be_visible()
    assert "Traceback" not in page.content()
    expect(page.locator(_METRIC)).to_have_count(0)


def test_fitting_shows_how_far_it_is_and_can_be_stopped(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "large.jsonl"
    journal.write(file, graphics().record(ranks=4))
    page: Any = visit("/calibrate")
    _upload(page, file)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped before the end.")).to_be_visible()
    expect(page.locator(_METRIC)).to_have_count(0)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="GeForce RTX 3090, measured")).to_be_visible()


def test_everything_is_reached_by_the_keyboard(visit: Visit) -> None:
    names = reached_by_keyboard(visit("/calibrate"), 60)
    for name in (
        "Profile",
        "Upload",
        "Use in Plan",
        "Download the profile",
        "Kind of work",
        "Errors",
        "Copy or download",
    ):
        assert name in names, name


@every_look
def test_it_is_legible_at_every_width_and_in_both_themes(visit: Visit, width: int, dark: bool) -> None:
    link = "/calibrate?calibrate_profile=l40s&calibrate_errors=histogram"
    look(visit(link, width=width, dark=dark), width=width, dark=dark)
