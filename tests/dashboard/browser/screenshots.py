"""Pictures of every page for the documentation, on request: ``make screenshots`` or ``python -m`` this module.

Options are names of pages, to take only those, and ``--dark``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dashboard.views import views
from tests.dashboard.browser.driving import ROOT, browsing, installed_browser, opened, running_dashboard, settle, window

FOLDER = ROOT / "docs" / "images"
_INTERLEAVED = "devices=1024&tp=8&pp=8&schedule=interleaved&virtual_stages=3&micro_batch=1"
PATHS: dict[str, str] = {
    "plan": "/",
    "timeline": f"/timeline?model=gpt3-175b&system=superpod-a100&{_INTERLEAVED}"
    "&timeline_zoom=micro-batches&timeline_micro_batches=1-2",
}
"""What is opened of a page, where its name alone does not show it best."""
WIDTHS = {1280: 900, 390: 844}
"""Widths of windows, and their heights, which grow with the page."""
_MOST = 6000


def take(names: list[str], *, dark: bool = False) -> list[Path]:
    """Take the pictures of pages, at every width."""
    path = installed_browser()
    if path is None:
        sys.exit("no Chromium is installed, which takes the pictures; apt-get install chromium")
    FOLDER.mkdir(parents=True, exist_ok=True)
    taken = []
    with running_dashboard() as address, browsing(path) as browser:
        for name in names:
            for width, height in WIDTHS.items():
                context = window(browser, width=width, height=height, dark=dark)
                page = opened(context, address, PATHS.get(name, f"/{name}"))
                whole = page.evaluate("document.querySelector('[data-testid=\"stMain\"]').scrollHeight")
                page.set_viewport_size({"width": width, "height": min(max(whole, height), _MOST)})
                settle(page)
                taken.append(FOLDER / f"{name}{'-dark' if dark else ''}-{width}.png")
                page.screenshot(path=taken[-1])
                context.close()
    return taken


def main() -> None:
    """Take those that are named, or all."""
    known = [view.name for view in views()]
    asked = [word for word in sys.argv[1:] if not word.startswith("--")]
    unknown = sorted(set(asked) - set(known))
    if unknown:
        sys.exit(f"no page {unknown[0]!r}; pages: {', '.join(known)}")
    for path in take(asked or known, dark="--dark" in sys.argv):
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
