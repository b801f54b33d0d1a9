"""Work that takes seconds: shown while it goes on, ended by whoever has seen enough, and begun again on demand.

A page draws its controls first and works then; when the work is done it draws itself again, with the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

import streamlit as st

from dashboard.content.answers import Tell
from dashboard.showing import complain, working
from hardware.errors import InputError

Found = TypeVar("Found")
_STOPPED, _REFUSED = "capsim.stopped", "capsim.refused"


def present(
    words: str,
    question: Hashable,
    find: Callable[[Tell | None], Found],
    *,
    ready: bool,
    controls: Callable[[Found | None, InputError | None], None],
    shown: Callable[[Found], None],
    until_now: Callable[[], Found | None] = lambda: None,
) -> None:
    """A page: its controls, and below them its answer, why there is none, or how far the work on it is.

    Parameters
    ----------
    words
        What is done meanwhile.
    question
        What is asked.
    find
        Gives the answer, and tells how far it is; nobody listens where it is ready.
    ready
        Whether that takes no time.
    controls
        Shows what can be chosen, beside what is known of the answer.
    shown
        Shows the answer.
    until_now
        Gives what was found when somebody stopped the work, if that can be shown as an answer can.
    """
    result, error = known(question, lambda: find(None), ready=ready)
    controls(result, error)
    if error is not None:
        complain(str(error))
        return
    if result is None:
        work(words, question, find)
        result = until_now()
    if result is not None:
        shown(result)


def known(question: Hashable, get: Callable[[], Found], *, ready: bool) -> tuple[Found | None, InputError | None]:
    """What is known of a question: the answer, why there is none, or nothing yet.

    Parameters
    ----------
    question
        What is asked.
    get
        Gives the answer where it is ready.
    ready
        Whether that takes no time.
    """
    if ready:
        return get(), None
    asked, error = st.session_state.get(_REFUSED, (None, None))
    return None, error if asked == question else None


def work(words: str, question: Hashable, compute: Callable[[Tell], object]) -> None:
    """Work on a question, unless somebody stopped that, and draw the page again.

    Parameters
    ----------
    words
        What is done.
    question
        What is asked: another question starts anew.
    compute
        Does it and keeps the answer, and tells how far it is.
    """
    if st.session_state.get(_STOPPED) == question:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(":material/pause_circle: Stopped before the end.", width="content")
            st.button("Go on", key="go.on", on_click=lambda: st.session_state.pop(_STOPPED, None))
        return
    try:
        with working(words, lambda: st.session_state.update({_STOPPED: question})) as tell:
            compute(tell)
    except InputError as refused:
        st.session_state[_REFUSED] = (question, refused)
    st.rerun()
