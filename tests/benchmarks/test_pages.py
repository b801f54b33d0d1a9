"""How soon pages answer: ``make bench``. A clock on the wall says nothing while other programs keep a machine busy, so
the tests leave this folder out; the lines at the end say how busy it was.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import pytest

from dashboard.choices.scenario import field
from tests.dashboard.browser.driving import browsing, installed_browser, opened, running_dashboard, window
from tests.dashboard.conftest import OpenPage, open_page
from tests.dashboard.test_plan_page import control_of

Told = list[tuple[str, str]]
_FIRST_ANSWER = 3000.0
"""From opening the address to the first figure of the answer [ms]."""
_MOST = 0.3
"""Time of the processor on the server for one change [s]."""
_SCENARIOS = {
    "opening": {},
    "large": {"model": "gpt3-175b", "system": "superpod-a100", "devices": "1024"},
    "experts": {"model": "mixtral-8x7b", "system": "superpod-h100", "devices": "64"},
}

__all__ = ["open_page"]  # a fixture


@pytest.fixture
def visits() -> Iterator[list[float]]:
    """When the first figure stood on the page, of five visits of a server [ms]."""
    path = installed_browser()
    assert path is not None, "no Chromium is installed, which opens the pages"
    with running_dashboard() as address, browsing(path) as browser:
        taken = []
        for _ in range(5):
            context = window(browser, width=1280, height=900, dark=False)
            taken.append(float(opened(context, address, "/").evaluate("window.answered")))
            context.close()
        yield taken


def test_the_first_answer_comes_soon(visits: list[float], told: Told) -> None:
    told.append(("first answer after opening the address", f"{statistics.median(visits) / 1e3:.1f} s"))
    assert statistics.median(visits) < _FIRST_ANSWER


@pytest.mark.parametrize("name", _SCENARIOS)
def test_a_change_is_answered_at_once(open_page: OpenPage, name: str, told: Told) -> None:
    page = open_page("plan", _SCENARIOS[name])
    taken, walls = [], []
    for batch in ("1792", "2048", "2304", "2560", "3072"):  # none was asked for before, so that nothing is known
        control = page.sidebar.text_input(key="control.global_batch").set_value(batch)
        start, wall = time.process_time(), time.perf_counter()
        control.run()
        taken.append(time.process_time() - start)
        walls.append(time.perf_counter() - wall)
        assert len(page.metric) == 6
    words = f"{statistics.median(taken):.2f} s of the processor, {statistics.median(walls):.2f} s on the wall"
    told.append((f"one control changed, {name} scenario", words))
    assert statistics.median(taken) < _MOST


def test_what_is_known_is_shown_faster_still(open_page: OpenPage) -> None:
    page = open_page("plan")
    control = control_of(page, field("micro_batch"))
    taken = []
    for size in ("16", "8", "16", "8"):
        control.set_value(size)
        start = time.process_time()
        page.run()
        taken.append(time.process_time() - start)
    assert min(taken[2:]) < _MOST / 2
