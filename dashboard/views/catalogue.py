"""What is known: every part of the catalogue, every entry with the source of each figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import streamlit as st

from dashboard import session, shell, showing
from dashboard.choices.state import Choices, Field, Value
from dashboard.content import browsing, exports
from dashboard.content.browsing import PARTS
from dashboard.content.glossary import explain
from dashboard.controls import Said, Scope, control
from dashboard.showing import plain
from hardware import units
from hardware.errors import InputError
from simulator.terminal import catalogue as browse

_PART, _SEARCH, _ENTRY = "catalogue_part", "catalogue_search", "catalogue_entry"
FIELDS: tuple[Field, ...] = (
    Field(_PART, "Part", "choice", PARTS, default=PARTS[0]),
    Field(_SEARCH, "Search", "text", example="HBM3 nvidia"),
    Field(_ENTRY, "Entry", "text", example="rtx-3090"),
)
_DIFFERENCES = "differences"
_CONCERNED = ("devices", "systems", "links", "measurements")
"""Parts that often quoted figures are about."""


def page(choices: Choices) -> None:
    """Show the entries of one part of the catalogue, and the figures and sources of one of them."""
    part = choices.text(_PART)
    entries, entry, wrong = _matching(part, choices)
    _controls(part, entries, entry, choices, wrong)
    if _SEARCH not in wrong:
        title = browse.parts()[part]
        every = len(browsing.names(part))
        number = units.plural(every, "entry", "entries")
        number = number if len(entries) == every else f"{len(entries)} of {number}"
        st.caption(plain(f"{part}: {title}, {number}. {browse.remark(part)}".strip()))
        _table(part, entries, entry)
    _sheet(part, entry, choices)
    if part in _CONCERNED:
        with st.expander("Where often quoted figures and the vendor's differ"):
            st.table(_escaped(browsing.rows(_DIFFERENCES)), border="horizontal", hide_index=True)
    _share(part, entries, entry)


def _text(choices: Choices, name: str) -> str | None:
    """What is chosen of a text that may be open."""
    value = choices[name]
    return None if value is None else str(value)


def _matching(part: str, choices: Choices) -> tuple[list[str], str, dict[str, InputError]]:
    """The entries that are listed, the one that is shown, and what is wrong by field.

    Shown is the chosen entry, else that of the scenario at hand, else the first.
    """
    entries, chosen, wrong = list(browsing.names(part)), None, dict[str, InputError]()
    try:
        entries = browsing.matching(part, _text(choices, _SEARCH))
    except InputError as error:
        wrong[_SEARCH] = error
    try:
        chosen = browsing.known_entry(part, _text(choices, _ENTRY))
    except InputError as error:
        wrong[_ENTRY] = error
    used = browsing.at_hand(part, choices)
    return entries, chosen or (used if used in entries else None) or entries[0], wrong


def _controls(part: str, entries: Sequence[str], entry: str, choices: Choices, wrong: Mapping[str, InputError]) -> None:
    """Which part, what is looked for in it, which entry."""
    first, second, third = st.columns(3)
    with first:
        control(FIELDS[0], choices, Said(scope=Scope(choose=_opened)))
    with second:
        control(FIELDS[1], choices, Said(error=wrong.get(_SEARCH), place=_SEARCH, scope=Scope(choose=_opened)))
    with third:
        options = tuple(entries) if entry in entries else (entry, *entries)
        named = {browsing.label(part, name): name for name in options}
        shown = replace(FIELDS[2], kind="choice", options=tuple(named))
        scope = Scope(choose=lambda values: session.choose({_ENTRY: named.get(str(values[_ENTRY]))}))
        said = Said(error=wrong.get(_ENTRY), place=_ENTRY, scope=scope)
        control(shown, choices.change({_ENTRY: browsing.label(part, entry)}), said)


def _opened(values: Mapping[str, Value | None]) -> None:
    """Choose another part or search, which opens what depends on it."""
    session.choose({**({_SEARCH: None} if _PART in values else {}), _ENTRY: None, **values})


def _table(part: str, entries: Sequence[str], entry: str) -> None:
    """The entries; a click on a row shows its figures."""
    key = f"catalogue.table.{part}"
    places = [entries.index(entry)] if entry in entries else []
    st.session_state[key] = {"selection": {"rows": places, "columns": [], "cells": []}}
    rows = browsing.table(part, entries)
    first = next(iter(rows[0]))
    columns = {name: st.column_config.NumberColumn(format=how) for name, how in browsing.formats(part).items()}
    st.dataframe(
        rows,
        hide_index=True,
        key=key,
        on_select=lambda: _picked(key, entries),
        selection_mode="single-row",
        column_config={first: st.column_config.TextColumn(pinned=True, width=180), **columns},
        placeholder="-",
        alt=f"The {part} of the catalogue",
    )


def _picked(key: str, entries: Sequence[str]) -> None:
    """Show the entry whose row was clicked."""
    picked = st.session_state[key]["selection"]["rows"]
    if picked and picked[0] < len(entries):
        session.choose({_ENTRY: entries[picked[0]]})


def _sheet(part: str, entry: str, choices: Choices) -> None:
    """One entry, with the source of every figure."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"##### {plain(browsing.label(part, entry))}", width="content")
        if browsing.usable(part, entry):
            st.button("Use in Plan", key="catalogue.use", on_click=_use, args=(part, entry, choices))
    st.table(_escaped(browsing.figures(part, entry)), border="horizontal", hide_index=True)
    sources = browsing.entry(part, entry).sources
    listed = (plain(f"[{number}] {title}") for number, title in enumerate(sources, start=1))
    st.caption("  \n".join((*listed, explain("catalogue_seen"))))


def _use(part: str, entry: str, choices: Choices) -> None:
    """Choose an entry for the scenario at hand."""
    shell.send("plan", browsing.used(part, entry, choices))


def _escaped(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Rows as they are, for a table that reads Markdown."""
    return [{name: plain(cell) for name, cell in row.items()} for row in rows]


def _share(part: str, entries: Sequence[str], entry: str) -> None:
    """What takes the catalogue elsewhere."""
    texts: tuple[tuple[str, str, Callable[[], str], str], ...] = (
        ("YAML", f"{part}-{entry}.yaml", lambda: browsing.as_yaml(part, entry), "application/yaml"),
        ("CSV", f"{part}.csv", lambda: exports.as_csv(browsing.table(part, entries)), "text/csv"),
        ("JSON", f"{part}.json", lambda: exports.as_json(browse.data(part, None)), "application/json"),
    )
    showing.share(
        python=browsing.as_python(part, entry),
        command=f"capsim catalogue {part} {entry}",
        files=tuple(showing.File(label, f"capsim-{name}", text, kind) for label, name, text, kind in texts),
    )
