"""Launch files on pages: what starts a run, for the training software that is chosen."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from dashboard.content import launching
from dashboard.content.answers import Answer
from dashboard.showing import plain
from hardware.errors import InputError


def launch_box(answer: Callable[[], Answer], *, what: str, key: str = "launch") -> None:
    """A box with a file that starts a run; the answer is asked for when it is open.

    Parameters
    ----------
    answer
        Gives the scenario and what is said of it.
    what
        What the file starts, in words.
    key
        Of the box, and before the keys of what is in it.
    """
    box = st.expander(f"Launch file: what starts {plain(what)}", on_change="rerun", key=key)
    if not box.open:
        return
    with box:
        try:
            _file(answer(), key)
        except InputError as error:
            st.info(plain(str(error)))


def _file(answer: Answer, key: str) -> None:
    """The file for the framework that is chosen, how it is started, and what it does not say."""
    usual = launching.FRAMEWORKS.index(launching.usual(answer))
    chosen = st.selectbox("Framework", launching.FRAMEWORKS, index=usual, key=f"{key}.to")
    made = launching.launch_file(answer, chosen)
    if isinstance(made, str):
        st.info(plain(made))
        return
    if not made.fits:
        st.warning("The plan does not fit in memory; the Plan page says what would make it fit.")
    st.code(made.text, language=launching.language(made), wrap_lines=True)
    st.caption(plain(f"Start it{made.where and ' '}{made.where}: {made.command}"))
    if made.unsaid:
        st.markdown("**Not said by the file**\n" + "\n".join(f"- {plain(line)}" for line in made.unsaid))
    st.download_button("Launch file", made.text, made.file_name, "text/plain", key=f"{key}.file", on_click="ignore")
