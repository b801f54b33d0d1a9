"""What is chosen in one browser tab: kept from page to page, and always the same as in the link."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import streamlit as st

from dashboard.choices import scenario
from dashboard.choices.state import Choices, Field, Value, from_query, is_of_session, opening, to_query
from simulator import MeasuredProfile

_CHOICES, _DRAFTS, _PROBLEMS = "capsim.choices", "capsim.drafts", "capsim.problems"
_WRITTEN, _VIEW, _TOUCHED, _REPLACED = "capsim.written", "capsim.view", "capsim.touched", "capsim.replaced"
_HELD, _LEFT = "capsim.held", "capsim.left"
_LATE, _LATER = 0.3, 1.0
"""Times in which a browser has heard of a new link: on one page, and when it goes back to another [s]."""


def open_page(view: str, fields: Iterable[Field] = ()) -> Choices:
    """Bring session and link together at the start of a page, and say what is chosen.

    A link that somebody opens, or goes back to, decides. Otherwise the session does, and the link follows: streamlit
    empties it when the page changes.

    Parameters
    ----------
    view
        Name of the page.
    fields
        What the page knows beside the fields of a scenario; their names are unique among all pages.
    """
    known = (*scenario.fields(), *fields)
    choices = opening(known).change(dict(_stored().values))
    query = dict(st.query_params)
    moved = st.session_state.get(_VIEW) not in (None, view)
    touched = st.session_state.pop(_TOUCHED, False) or _is_late(query)
    returned = _returned(view, query) if moved else None
    if returned is not None:
        choices = opening(known).change(dict(returned.values))
    elif not touched and query != st.session_state.get(_WRITTEN, {}) and not (moved and not query):
        said, problems = from_query(query, known)
        told = [each for each in known if each.name in query or not is_of_session(each, choices[each.name])]
        choices = choices.change({each.name: said[each.name] for each in told})
        st.session_state[_PROBLEMS] = problems
        st.session_state[_DRAFTS] = {}
    written = to_query(choices, known)
    st.session_state[_CHOICES], st.session_state[_VIEW], st.session_state[_WRITTEN] = choices, view, written
    if query != written:  # streamlit may end this run as soon as the link is written
        st.session_state[_REPLACED] = (query, time.monotonic() + (_LATE if returned is None else _LATER))
        st.query_params.from_dict(written)
    return choices


def _is_late(query: Mapping[str, str]) -> bool:
    """Whether a link is what the page has just replaced: a browser may send it once more before it hears of that."""
    replaced, until = st.session_state.get(_REPLACED, ({}, 0.0))
    return bool(query == replaced and time.monotonic() < until)


def _returned(view: str, query: Mapping[str, str]) -> Choices | None:
    """What a page showed, if somebody goes back to it and it gets the link of the page that it had opened."""
    left: tuple[str, Mapping[str, str], Choices] | None = st.session_state.get(_LEFT)
    if left is None or not query or left[:2] != (view, query):  # the menu opens a page without any link
        return None
    del st.session_state[_LEFT]
    return left[2]


def leave(choices: Choices, query: Mapping[str, str]) -> None:
    """Keep what a page shows when another is opened from it, for somebody who goes back.

    Streamlit writes the link of the other page before it leaves this one, so that a browser goes back to this page with
    that link first; `open_page` then shows what the page showed.

    Parameters
    ----------
    choices
        What the page shows.
    query
        Link of the other page.
    """
    st.session_state[_LEFT] = (st.session_state.get(_VIEW), dict(query), choices)


def _stored() -> Choices:
    """What the session knows, of all pages."""
    stored: Choices = st.session_state.get(_CHOICES, Choices())
    return stored


def current() -> Choices:
    """What is chosen now, of all pages."""
    return opening(scenario.fields()).change(dict(_stored().values))


def choose(values: Mapping[str, Value | None]) -> None:
    """Choose, for a callback: the page runs afterwards and its link follows. Nothing opens a field."""
    st.session_state[_CHOICES] = current().change(values)
    st.session_state[_TOUCHED] = True
    st.session_state[_PROBLEMS] = []
    forget(*values)


def hold(name: str, profile: MeasuredProfile) -> None:
    """Keep an uploaded profile for as long as the session lasts."""
    st.session_state.setdefault(_HELD, {})[name] = profile


def held() -> tuple[str, ...]:
    """The names of the uploaded profiles that the session has."""
    return tuple(st.session_state.get(_HELD, {}))


def refuse(name: str, text: str, sentence: str) -> None:
    """Keep what was typed and cannot be, and say why beside its control; the choice stays as it was."""
    _drafts()[name] = (text, sentence)
    st.session_state[_TOUCHED] = True


def draft(name: str) -> tuple[str, str] | None:
    """What was typed into a field and cannot be, with the sentence that says why."""
    return _drafts().get(name)


def forget(*names: str) -> None:
    """Forget what was typed into fields and cannot be."""
    drafts = _drafts()
    for name in names:
        drafts.pop(name, None)


def _drafts() -> dict[str, tuple[str, str]]:
    """What cannot be, by field."""
    drafts: dict[str, tuple[str, str]] = st.session_state.setdefault(_DRAFTS, {})
    return drafts


def problems() -> list[str]:
    """What was wrong with the link, until somebody chooses."""
    return list(st.session_state.get(_PROBLEMS, []))
