"""A server of the pages, started as a user starts it, and Chromium without a window that opens them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

ROOT = Path(__file__).parents[3]
SECONDS = 60.0
"""After which a page that is not there never will be."""
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
_SETTLED = """() => {
    const done = document.querySelector('[data-testid="stApp"][data-test-script-state="notRunning"]')
        && document.querySelector('[data-testid="stMainBlockContainer"] :is(.stMarkdown, .stAlert)')
        && !document.querySelector('[data-stale="true"]')
        && !document.querySelector('[data-testid="stSkeleton"]')
        && [...document.querySelectorAll('.stPlotlyChart')].every(each => each.querySelector('.main-svg'));
    window.settledSince = done ? window.settledSince || performance.now() : null;
    return done && performance.now() - window.settledSince > 500;
}"""
"""Whether a page has been complete for half a second."""
_CLOCK = """new MutationObserver((_, observer) => {
    if (document.querySelector('[data-testid="stMetricValue"]')) {
        window.answered = performance.now();
        observer.disconnect();
    }
}).observe(document, {childList: true, subtree: true});"""
"""Notes when the first figure of an answer stands on the page."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_dashboard() -> Iterator[str]:
    """The address of a server that runs meanwhile."""
    port = free_port()
    command = [sys.executable, "-m", "simulator.cli", "dashboard", "--headless", "--port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env={**os.environ, "NO_COLOR": "1"})
    try:
        _wait_for(server, f"http://127.0.0.1:{port}/_stcore/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait_for(server: subprocess.Popen[bytes], url: str) -> None:
    """Wait until the server answers."""
    ended = time.monotonic() + SECONDS
    while time.monotonic() < ended:
        assert server.poll() is None, f"the server ended with status {server.returncode}"
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server did not answer")


def installed_browser() -> str | None:
    """Where a Chromium is, if there is one."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


@contextmanager
def browsing(path: str) -> Iterator[Browser]:
    """A browser that runs meanwhile."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_OPTIONS)
        yield browser
        browser.close()


def window(browser: Browser, *, width: int, height: int, dark: bool) -> BrowserContext:
    """A window without history of its own."""
    return browser.new_context(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light")


def opened(context: BrowserContext, address: str, path: str) -> Page:
    """A tab with a page that is complete.

    The tab keeps ``page.outside``, the addresses of other machines that it asked for, and ``page.complaints``, what
    went wrong in it.
    """
    page: Any = context.new_page()
    page.set_default_timeout(SECONDS * 1000)
    page.outside, page.complaints = [], []
    page.on("request", lambda request: None if _inside(request.url, address) else page.outside.append(request.url))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.add_init_script(_CLOCK)
    page.goto(f"{address}{path}")
    settle(page)
    tab: Page = page
    return tab


def _inside(url: str, address: str) -> bool:
    """Whether a browser gets something from the server or makes it itself."""
    return url.startswith((address, address.replace("http", "ws", 1), "data:", "blob:"))


def settle(page: Page) -> None:
    """Wait until the server has nothing more to say, what it said is drawn, and it stays so for a moment from now on.

    What was just pressed may not have reached the server: a page that was complete before proves nothing.
    """
    page.evaluate("() => { window.settledSince = null; }")
    page.wait_for_function(_SETTLED)
