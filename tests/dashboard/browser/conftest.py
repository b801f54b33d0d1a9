"""The pages in a real browser: Chromium without a window, where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.dashboard.browser.driving import (
    SECONDS,
    browsing,
    installed_browser,
    opened,
    running_dashboard,
    settle,
    window,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["Visit", "settle"]

Visit = Callable[..., "Page"]


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where a server of the pages listens."""
    with running_dashboard() as url:
        yield url


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A browser; without one these tests are skipped."""
    path = installed_browser()
    if path is None:
        pytest.skip("no Chromium is installed: the pages are not tested in a browser")
    from playwright.sync_api import expect

    expect.set_options(timeout=SECONDS * 1000)
    with browsing(path) as browser:
        yield browser


@pytest.fixture
def visit(chromium: Browser, address: str) -> Iterator[Visit]:
    """Open a path such as ``/search?tp=2`` in a window of its own, and wait until the page is complete."""
    contexts = []

    def run(path: str = "/", *, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        context = window(chromium, width=width, height=height, dark=dark)
        contexts.append(context)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        return opened(context, address, path)

    yield run
    for context in contexts:
        context.close()
