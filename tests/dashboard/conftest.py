"""Pages inside the test's own process, without a browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

_APP = Path(__file__).parents[2] / "dashboard" / "app.py"

OpenPage = Callable[..., AppTest]


def _page(name: str) -> None:
    """What streamlit runs for one page; it is compiled by itself, so it imports what it needs."""
    from dashboard.shell import show

    if __name__ == "__main__":  # processes that a page starts import it too
        show(name)


@pytest.fixture
def open_page() -> OpenPage:
    """Open a page by its name, with what its link says; without a name the whole application."""

    def run(name: str | None = None, link: Mapping[str, str] | None = None, *, seconds: float = 30.0) -> AppTest:
        if name is None:
            page = AppTest.from_file(_APP, default_timeout=seconds)
        else:
            page = AppTest.from_function(_page, default_timeout=seconds, args=(name,))
        for field, text in (link or {}).items():
            page.query_params[field] = text
        page.run()
        assert not page.exception, page.exception
        return page

    return run


def link_of(page: AppTest) -> dict[str, str]:
    """The query of a page's link."""
    return {name: value[0] if isinstance(value, list) else value for name, value in page.query_params.items()}


def sentences(page: AppTest) -> list[str]:
    """What the page says is wrong."""
    return [plain(each.value) for each in page.error]


def plain(markdown: str) -> str:
    """A text as it is read, without what keeps its characters from being marks."""
    return re.sub(r"\\(.)", r"\1", markdown)
