"""What is done and looked at on every page: whether all of it can be seen at a width, on light and on dark ground."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.browser.driving import settle
from tests.thorough import cases

_CUT = """() => [...document.querySelectorAll('.stPlotlyChart')].flatMap(chart => {
    const frame = chart.getBoundingClientRect();
    return [...chart.querySelectorAll('text')].filter(each => {
        const box = each.getBoundingClientRect();
        return box.width > 0 && (box.left < frame.left - 1 || box.right > frame.right + 1);
    }).map(each => each.textContent);
})"""
_OVER = """() => [...document.querySelectorAll('.stPlotlyChart')].flatMap(chart => {
    const labels = [...chart.querySelectorAll('.xtick text, .ytick text')];
    const boxes = labels.map(each => each.getBoundingClientRect()).filter(box => box.width > 0);
    return boxes.flatMap((one, at) => boxes.slice(at + 1).filter(other =>
        Math.min(one.right, other.right) - Math.max(one.left, other.left) > 2
        && Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 4
        && labels[0].getAttribute('transform') === null).map(() => chart.textContent.slice(0, 80)));
})"""
_SCROLLS = """each => {
    for (let outer = each.parentElement; outer && outer.dataset.testid !== 'stMainBlockContainer';
         outer = outer.parentElement)
        if (getComputedStyle(outer).overflowX === 'auto' && outer.scrollWidth > outer.clientWidth) return true;
    return false;
}"""
"""Whether something is wide and somebody can scroll to all of it."""
_BOXES = ".stPlotlyChart, [data-testid='stMetric'], [data-testid='stDataFrame'], [data-testid='stFileUploader']"
_GROUND = "getComputedStyle(document.querySelector('[data-testid=\"stApp\"]')).backgroundColor"

_LOOKS = [(390, False), (1280, True), (390, True), (1280, False)]
every_look = pytest.mark.parametrize(
    ("width", "dark"),
    _LOOKS[: cases(usual=2, thorough=4)],
    ids=lambda value: str(value) if value > 1 else ("dark" if value else "light"),
)
"""Widths of a telephone and of a screen, each on light or on dark ground; all four pairs in a thorough run."""


def expect(locator: Any) -> Any:
    """What playwright waits for, no longer than `chromium` says."""
    from playwright.sync_api import expect as waiting

    return waiting(locator)


def look(page: Any, *, width: int, dark: bool) -> None:
    """Nothing is wider than the window, no label of a figure is cut or lies on another, words stand out."""
    _stays_inside(page, width=width)
    assert page.evaluate(_CUT) == []
    assert page.evaluate(_OVER) == []
    ground = page.evaluate(_GROUND)
    assert (brightness(ground) < 0.3) == dark
    for words in page.locator(".ytick text").all()[:3]:
        label = words.evaluate("each => getComputedStyle(each).fill")
        assert abs(brightness(ground) - brightness(label)) > 0.3


def _stays_inside(page: Any, *, width: int) -> None:
    """Nothing is wider than the window, and no figure of an answer is cut."""
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    for box in page.locator(_BOXES).all():
        if box.evaluate(_SCROLLS):
            continue
        place = box.bounding_box()
        assert place["x"] >= 0
        assert place["x"] + place["width"] <= width
    for metric in page.locator('[data-testid="stMetricValue"]').all():  # nothing is cut with three dots
        assert metric.evaluate("each => each.scrollWidth <= each.clientWidth + 1"), metric.inner_text()


def brightness(colour: str) -> float:
    """How bright a colour such as ``rgb(14, 17, 23)`` is, from 0 to 1."""
    red, green, blue = (float(part) for part in colour.split("(")[1].rstrip(")").split(",")[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255.0


def reached_by_keyboard(page: Any, most: int) -> str:
    """The names of everything that so many presses of the tabulator reach."""
    names = []
    for _ in range(most):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.innerText")
        )
    return "\n".join(filter(None, names))


def download(button: Any, folder: Path) -> Path:
    """The file that a button gives, under its own name."""
    with button.page.expect_download() as caught:
        button.click()
    path: Path = folder / caught.value.suggested_filename
    caught.value.save_as(path)
    return path


def download_yaml(page: Any, folder: Path) -> Path:
    """The file that is offered among what to copy and to download."""
    page.get_by_text("Copy or download").click()
    settle(page)
    return download(page.get_by_role("button", name="YAML"), folder)


def click_row(page: Any, number: int) -> None:
    """Select a row of the first table that can be selected from, counted from 1."""
    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    page.mouse.click(box["x"] + 17, box["y"] + 35 * number + 17)
