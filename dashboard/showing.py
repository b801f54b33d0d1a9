"""How things are shown on every page: figures, sentences instead of tracebacks, what to copy and to download."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import plotly.graph_objects as go
import streamlit as st

from dashboard import session
from dashboard.choices import scenario
from hardware.errors import InputError, one_line
from simulator.answers.run import TrainingRun

_LOG = logging.getLogger("capsim.dashboard")
PER_TOKENS = "per 1B tokens"
"""What stands below an amount where nothing says how long the run is."""
_OFTEN = 0.1
"""Time between two words on how far long work is [s]."""
_SHOWN = "capsim.shown"
_HEAD_START = 0.2
"""Of an answer over its figures [s]."""
_READABLE = 700
"""Pixels that a figure with many axes needs."""
_REMOVED = ["lasso2d", "select2d", "autoScale2d", "zoomIn2d", "zoomOut2d", "toggleSpikelines"]


_MARKS = re.compile(r"([\\`*_{}\[\]()#+\-.!$:~<>|])")


def plain(text: str) -> str:
    """A text that is shown as it is: nothing in it becomes a formula, an emphasis, a link or a picture."""
    return _MARKS.sub(r"\\\1", text)


def say_length(runs: Iterable[TrainingRun]) -> None:
    """Say that times and costs are of a billion tokens, where nothing says how long some of the runs is."""
    if any(run.of != "run" for run in runs):
        st.info(
            "Nothing says how long the run is: time, cost and energy are per billion tokens. "
            "Give tokens or steps under *Length of the run and data*."
        )


def complain(sentence: str) -> None:
    """Say what is wrong."""
    st.error(plain(sentence))


@contextmanager
def sentences() -> Iterator[None]:
    """Turn what goes wrong inside into a sentence on the page; its traceback goes to the server's log only."""
    try:
        yield
    except InputError as error:
        complain(str(error))
    except Exception as error:  # a page is no place for a traceback, whatever failed
        _LOG.exception("a page failed")
        complain(f"This part of the page failed with {type(error).__name__}: {one_line(str(error))}. Please report it.")


def figure(drawn: go.Figure, *, name: str, alt: str, **options: object) -> object:
    """Show a figure, with a button that saves it as a picture.

    Parameters
    ----------
    drawn
        The figure.
    name
        Of the file that its picture becomes, without ending.
    alt
        What the figure shows, for those who do not see it.
    options
        What else `streamlit.plotly_chart` takes, such as ``key`` and ``on_select``.

    Returns
    -------
    object
        What `streamlit.plotly_chart` does, such as the points that were selected.
    """
    config = {
        "displayModeBar": True,
        "displaylogo": False,
        "modeBarButtonsToRemove": _REMOVED,
        "toImageButtonOptions": {"format": "png", "filename": name, "scale": 2},
        "responsive": True,
    }
    return st.plotly_chart(drawn, config=config, alt=alt, **options)  # type: ignore[call-overload]


def wide_figure(drawn: go.Figure, *, name: str, alt: str, key: str) -> None:
    """Show a figure with many axes: where a screen is narrower than it can be read on, somebody can scroll.

    Parameters
    ----------
    drawn, name, alt
        As for `figure`.
    key
        Letters and hyphens, unique on the page.
    """
    inside = '[data-testid="stFullScreenFrame"]'
    st.html(
        f"<style>.st-key-{key} {{ overflow-x: auto; }} .st-key-{key} {inside} {{ min-width: {_READABLE}px; }}</style>"
    )
    figure(drawn, name=name, alt=alt, key=key)


@contextmanager
def working(words: str, stop: Callable[[], None], *, key: str = "stop") -> Iterator[Callable[[str], None]]:
    """Say how far long work is, with a button that ends it; nothing of it stays when it is done.

    What is inside calls the function that it gets, often: each call also lets a newer choice end the work.

    Parameters
    ----------
    words
        What is done.
    stop
        What the button does: a choice that makes the work needless, or else it would begin again.
    key
        Unique on the page.
    """
    place, said = st.empty(), [0.0]
    with place.container(horizontal=True, vertical_alignment="center"):
        line = st.empty()
        line.markdown(f":material/hourglass_top: {words} ...")
        st.button("Stop", key=key, on_click=stop)

    def tell(more: str) -> None:
        now = time.monotonic()
        if now - said[0] > _OFTEN:
            said[0] = now
            line.markdown(f":material/hourglass_top: {words}: {more}")

    try:
        yield tell
    except Exception:
        place.empty()
        raise
    place.empty()


@dataclass(frozen=True)
class File:
    """Something to download, written when somebody asks for it."""

    label: str
    name: str
    text: Callable[[], str]
    kind: str
    """MIME type."""


def share(*, python: str, command: str, files: tuple[File, ...], key: str = "share") -> None:
    """What shows the page's answer elsewhere: a program, a command, files; the link is the address itself.

    Parameters
    ----------
    python, command
        Texts with a button that copies them.
    files
        To download.
    key
        Unique on the page.
    """
    box = st.expander("Copy or download", on_change="rerun", key=key)
    if not box.open:  # what colours a program is large, and not everybody wants it
        return
    with box:
        whole = not scenario.has_upload(session.current())
        held = "holds all that is chosen: copy it to share the page." if whole else "leaves out what was uploaded."
        st.caption(f"The address of this page {held}")
        st.markdown("**Copy as Python**")
        st.code(python, language="python", wrap_lines=True)
        st.markdown("**Copy as command**")
        st.code(command, language="bash", wrap_lines=True)
        st.markdown("**Download**")
        with st.container(horizontal=True):
            for file in files:
                st.download_button(
                    file.label, file.text, file.name, file.kind, key=f"{key}.{file.label}", on_click="ignore"
                )
        st.caption("Every figure has a camera among its buttons that saves it as PNG.")


def answer_first() -> None:
    """Let the browser show what the page said until now before it has figures to draw, when a tab is opened.

    To load what draws figures keeps a browser busy for a second, in which it shows nothing else.
    """
    if _SHOWN not in st.session_state:
        st.session_state[_SHOWN] = True
        time.sleep(_HEAD_START)


def link_problems() -> None:
    """Say what was wrong with the link that opened the page."""
    for problem in session.problems():
        st.warning(plain(problem))
