"""Pages inside the test's own process, without a browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

_APP = Path(__file__).parents[2] / "dashboard" / "app.py"

OpenPage = Callable[..., AppTest]


def _page(name: str) -> None:
    """What streamlit runs for one page; it is compiled by itself, so it imports what it needs."""
    from dashboard.shell import show

    if __name__ == "__main__":  # processes that a page starts import it too
        show(name)


@pytest.fixture(autouse=True, scope="session")
def _packages_looked_through_once() -> Iterator[None]:
    """Streamlit looks through all installed packages for components whenever an application starts: half a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests))
        yield


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


def says_beside(page: AppTest, words: str) -> None:
    """Check that one sentence with these words stands beside a control, and again where the answer would be."""
    beside, above = sentences(page)
    assert beside == above
    assert words in beside
    assert [plain(error.value) for error in page.sidebar.error] == [beside]


def refuses(page: AppTest, control: Callable[[], Any], text: str, words: str, *, mended: str | None = "") -> None:
    """Check that a value that cannot be is a sentence beside its control, and no answer, until it is mended.

    Parameters
    ----------
    page
        With an answer.
    control
        Finds the control, which is another one each time the page is drawn.
    text
        The value.
    words
        Of the sentence.
    mended
        A value that brings the answer back.
    """
    figures = len(page.metric)
    control().set_value(text).run()
    assert not page.exception, page.exception
    says_beside(page, words)
    assert page.metric == []
    assert not any(button.key == "stop" for button in page.button), "the work on it has ended"
    assert control().value == text
    control().set_value(mended).run()
    assert sentences(page) == []
    assert len(page.metric) == figures > 0


def plain(markdown: str) -> str:
    """A text as it is read, without what keeps its characters from being marks."""
    return re.sub(r"\\(.)", r"\1", markdown)
