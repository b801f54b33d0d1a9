"""What is around every page: the menu, the link, and sentences instead of tracebacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import NoReturn

import streamlit as st

from dashboard import session
from dashboard.choices.scenario import fields
from dashboard.choices.state import Choices, Value, opening, to_query
from dashboard.showing import link_problems, sentences
from dashboard.views import View, views

PAGES, _WANTED = "capsim.pages", "capsim.wanted"
_SIDE_BAR = 330
"""Width of the side bar, for two controls beside each other [pixels]."""
_STYLE = """<style>
[data-testid="stMainBlockContainer"] { padding: 4.5rem 2rem 3rem; }
[data-testid="stMetricValue"] { font-size: 1.6rem; }
@media (max-width: 640px) { [data-testid="stMainBlockContainer"] { padding: 4.5rem 1rem 3rem; } }
</style>"""
"""Less empty space around a page than streamlit leaves, so that answers stand above the fold."""


def main() -> None:
    """Show the menu and the page that the address names; the address alone means the first page."""
    st.set_page_config(page_title="capsim", page_icon="📐", layout="wide", initial_sidebar_state=_SIDE_BAR)
    st.html(_STYLE)
    first, *others = views()
    pages = [
        st.Page(_runner(first), title=first.title, icon=first.icon, default=True),
        *(st.Page(_runner(view), title=view.title, icon=view.icon, url_path=view.name) for view in others),
        st.Page(_runner(first), title=first.title, url_path=first.name, visibility="hidden"),
    ]
    st.session_state[PAGES] = dict(zip((first.name, *(view.name for view in others)), pages, strict=False))
    page = st.navigation(pages, position="top")
    if _WANTED in st.session_state:
        _switch(*st.session_state.pop(_WANTED))
    page.run()


def send(name: str, values: Mapping[str, Value | None]) -> None:
    """Choose and go on with another page, for a callback: the page with its button does not run again before."""
    st.session_state[_WANTED] = (name, session.current())
    session.choose(values)


def go_to(name: str, values: Mapping[str, Value | None]) -> NoReturn:
    """Choose and go on with another page, for a page that runs."""
    left = session.current()
    session.choose(values)
    _switch(name, left)


def _switch(name: str, left: Choices) -> NoReturn:
    """Go on with another page, with what is chosen now; its link goes with it, or going back would take longer."""
    known = (*fields(), *import_module(f"dashboard.views.{name}").FIELDS)
    query = to_query(opening(known).change(dict(session.current().values)), known)
    session.leave(left, query)
    st.switch_page(st.session_state[PAGES][name], query_params=query)


def _runner(view: View) -> Callable[[], None]:
    """What streamlit runs for a page."""

    def run() -> None:
        show(view.name)

    return run


def show(name: str) -> None:
    """Show one page."""
    with sentences():
        module = import_module(f"dashboard.views.{name}")
        choices = session.open_page(name, module.FIELDS)
        link_problems()
        module.page(choices)
