"""Several scenarios side by side: which is better, in what they differ, and what the basis of each answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard import session, shell, showing
from dashboard.choices.scenario import BEST, fields, has_upload
from dashboard.choices.state import Choices, Field, Value
from dashboard.content import comparing, exports
from dashboard.content.answers import answer, is_quick
from dashboard.content.comparing import ComparedRow
from dashboard.content.glossary import explain
from dashboard.controls import Said, Scope, scenario_controls
from dashboard.figures import compare as figures
from dashboard.launching import launch_box
from dashboard.showing import complain, plain, working
from hardware.errors import InputError
from simulator.answers.costs import mixed

_ROWS, _ROW = "compare_rows", "compare_row"
FIELDS: tuple[Field, ...] = (
    Field(_ROWS, "Scenarios", "text", longest=comparing.LONGEST, example="system.rtx-3090~~system.rtx-a6000"),
    Field(_ROW, "Scenario", "whole", default=1),
)
_SET, _TABLE = "compare.set", "compare.table"
_NAME = 200
"""Width of the column of names, which stays in view [pixels]."""
_CHARTS: tuple[tuple[str, str, Callable[[figures.Named], Any]], ...] = (
    ("Time to train", "time_to_train", figures.times),
    ("Cost", "cost", figures.costs),
    ("Energy", "energy", figures.energies),
    ("Memory per device", "memory.bar", figures.memories),
)


def prepare() -> None:
    """Compute what the page opens on."""
    for row in comparing.begun_with():
        answer(row)


def page(choices: Choices) -> None:
    """Show the scenarios side by side: their figures, parts of a step, differences and the basis of each."""
    rows, problems = _rows(choices)
    at = min(choices.whole(_ROW), len(rows))
    if at != choices[_ROW]:
        problems.append(f"The link edits scenario {choices[_ROW]} of {len(rows)}; write 1 to {len(rows)}.")
    too_long = session.draft(_ROWS)
    for problem in (*problems, *([too_long[1]] if too_long else [])):
        complain(problem)
    answers = _answers(rows, at)
    _edit(rows, at, answers[at - 1])
    _begin(rows)
    _table(rows, at, answers)
    _buttons(rows, at, answers[at - 1])
    _launch(answers[at - 1], at)
    for row in answers:
        if row.problem is not None:
            complain(f"{row.label}: {row.problem}")
    if known := comparing.answered(answers):
        showing.say_length(each.estimate.run for _, each in known)
        _drawn(answers)
        _differences(answers)
        _basis(answers)
    _share(rows, answers)


def _rows(choices: Choices) -> tuple[list[Choices], list[str]]:
    """The scenarios that are chosen, and what was wrong with the link."""
    text = choices[_ROWS]
    return (list(comparing.begun_with()), []) if text is None else comparing.from_text(str(text))


def _choose(rows: Sequence[Choices], at: int) -> None:
    """Compare other scenarios; one of them is edited."""
    text = comparing.to_text(rows)
    if len(text) > comparing.LONGEST:
        most = f"{comparing.LONGEST:,}"
        sentence = (
            f"These scenarios make a link of {len(text):,} characters, {most} at most: remove one, or open fields."
        )
        session.refuse(_ROWS, "", sentence)
        return
    drafts = (f"{_prefix(number)}{field.name}" for number in range(1, comparing.MOST + 1) for field in fields())
    session.forget(*drafts)
    usual = tuple(rows) == comparing.begun_with()
    session.choose({_ROWS: None if usual else text, _ROW: at})


def _prefix(number: int) -> str:
    """Of the controls of a scenario."""
    return f"row{number}."


def _answers(rows: Sequence[Choices], at: int) -> list[ComparedRow]:
    """Every scenario with its answer."""
    named = zip(comparing.labels(rows), rows, strict=True)
    return [_answered(number, label, rows, at) for number, (label, _) in enumerate(named, start=1)]


def _answered(number: int, label: str, rows: Sequence[Choices], at: int) -> ComparedRow:
    """One scenario with its answer, or with what is wrong with it."""
    row = rows[number - 1]
    try:
        if is_quick(row):
            return ComparedRow(label, row, answer(row))
        stopped = _changed(rows, number, {BEST: False})
        with working(f"{label}: pricing every plan", lambda: _choose(stopped, at), key=f"stop.{number}") as tell:
            return ComparedRow(label, row, answer(row, lambda _, considered: tell(f"{considered:,} plans")))
    except InputError as error:
        return ComparedRow(label, row, problem=error)


def _changed(rows: Sequence[Choices], number: int, values: Mapping[str, Value | None]) -> list[Choices]:
    """The scenarios with other values in one of them."""
    return [row.change(values) if place == number else row for place, row in enumerate(rows, start=1)]


def _edit(rows: Sequence[Choices], at: int, row: ComparedRow) -> None:
    """The controls of one scenario, in the side bar."""
    st.session_state[f"control.{_ROW}"] = at
    labels = comparing.labels(rows)
    with st.sidebar:
        st.selectbox(
            "Scenario",
            options=range(1, len(rows) + 1),
            format_func=lambda number: labels[number - 1],
            key=f"control.{_ROW}",
            help=explain(_ROW),
            on_change=lambda: session.choose({_ROW: st.session_state[f"control.{_ROW}"]}),
        )
    scope = Scope(_prefix(at), lambda values: _choose(_changed(rows, at, values), at))
    estimate = row.answer.estimate if row.answer else None
    scenario_controls(row.choices, Said.of(row.choices, estimate, row.problem, scope))


def _begin(rows: Sequence[Choices]) -> None:
    """Ready-made sets, and the scenario of the other pages."""
    sets = comparing.ready_made()
    st.session_state[_SET] = next((title for title, known in sets.items() if known == tuple(rows)), None)
    full = len(rows) >= comparing.MOST
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Begin with",
            options=tuple(sets),
            index=None,
            placeholder="scenarios of your own",
            key=_SET,
            help=explain("compare_set"),
            on_change=lambda: _choose(sets[st.session_state[_SET]] if st.session_state[_SET] else rows, 1),
        )
        st.button(
            "Add what Plan shows",
            key="compare.add",
            disabled=full or has_upload(session.current()),
            help=f"At most {comparing.MOST} scenarios." if full else explain("compare_add"),
            on_click=lambda: _choose([*rows, session.current().only(fields())], len(rows) + 1),
        )


def _table(rows: Sequence[Choices], at: int, answers: Sequence[ComparedRow]) -> None:
    """The answers in words; a click on a row edits its scenario."""
    st.session_state[_TABLE] = {"selection": {"rows": [at - 1], "columns": [], "cells": []}}
    st.dataframe(
        comparing.results(answers),
        hide_index=True,
        height="content",
        key=_TABLE,
        on_select=lambda: _picked(len(rows)),
        selection_mode="single-row",
        column_config={"scenario": st.column_config.TextColumn(pinned=True, width=_NAME)},
        alt="What each scenario takes",
    )


def _picked(number: int) -> None:
    """Edit the scenario whose row was clicked."""
    picked = st.session_state[_TABLE]["selection"]["rows"]
    if picked and picked[0] < number:
        session.choose({_ROW: picked[0] + 1})


def _buttons(rows: Sequence[Choices], at: int, row: ComparedRow) -> None:
    """What can be done with the scenario that is edited."""
    chosen = list(rows)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{plain(row.label)}** is edited in the side bar", width="content")
        st.button(
            "Duplicate",
            key="compare.duplicate",
            disabled=len(rows) >= comparing.MOST,
            on_click=lambda: _choose([*chosen[:at], chosen[at - 1], *chosen[at:]], at + 1),
        )
        st.button(
            "Remove",
            key="compare.remove",
            disabled=len(rows) == 1,
            on_click=lambda: _choose([*chosen[: at - 1], *chosen[at:]], max(at - 1, 1)),
        )
        whole = {field.name: row.choices[field.name] for field in fields()}
        st.button("Use in Plan", key="compare.plan", on_click=shell.send, args=("plan", whole))


def _launch(row: ComparedRow, at: int) -> None:
    """What starts the scenario that is edited."""
    known = row.answer
    if known is not None:
        launch_box(lambda: known, what=row.label, key=f"launch.{at}")


def _drawn(answers: Sequence[ComparedRow]) -> None:
    """Bars for time, money, energy and memory, and where the steps go."""
    named = [(label, each.estimate) for label, each in comparing.answered(answers)]
    for pair in (_CHARTS[:2], _CHARTS[2:]):
        for column, (title, term, draw) in zip(st.columns(2, gap="medium"), pair, strict=True):
            with column:
                st.markdown(f"##### {title}", help=explain(term))
                alt = "; ".join(f"{label}: {row[title.lower()]}" for label, row in _told(answers, title))
                showing.figure(draw(named), name=f"capsim-compare-{term}", alt=f"{title}. {alt}", key=f"chart.{term}")
    st.caption(explain("compare_bars"))
    if words := mixed(answer for _, answer in named):
        st.caption(plain(f"{words[0].upper()}{words[1:]}."))
    st.markdown("##### Where a step goes", help=explain("limited_by"))
    showing.figure(figures.steps(named), name="capsim-compare-steps", alt="Where each step goes", key="chart.steps")


def _told(answer: Sequence[ComparedRow], title: str) -> list[tuple[str, dict[str, str]]]:
    """The answers in words, for those who do not see a figure."""
    rows = comparing.results([row for row in answer if row.answer is not None])
    return [(row["scenario"], {title.lower(): row.get(title.lower(), row["memory"])}) for row in rows]


def _differences(answers: Sequence[ComparedRow]) -> None:
    """In what the scenarios differ from the first."""
    answered = comparing.answered(answers)
    st.markdown("##### Where they differ", help=explain("compare_differences"))
    rows = comparing.differences([each for _, each in answered])
    if not rows:
        st.markdown("In nothing." if len(answered) > 1 else "There is only one scenario.")
        return
    table = []
    for row in rows:
        cells = (f":orange-background[**{plain(value)}**]" if other else plain(value) for value, other in row.marked)
        names = (plain(label) for label, _ in answered)
        table.append(
            {"what": plain(row.name), "from": row.origin.replace(" ", "\u00a0"), **dict(zip(names, cells, strict=True))}
        )
    st.table(table, border="horizontal", hide_index=True, alt="Where the scenarios differ")
    st.caption("Bold on orange: not as in the first.")


def _basis(answers: Sequence[ComparedRow]) -> None:
    """What of each answer is read, fitted or measured."""
    st.markdown("##### Basis of each answer", help=explain("compare_basis"))
    st.dataframe(
        comparing.rests_on(answers),
        hide_index=True,
        height="content",
        column_config={"scenario": st.column_config.TextColumn(pinned=True, width=_NAME)},
        alt="Basis of each answer",
    )


def _share(rows: Sequence[Choices], answers: Sequence[ComparedRow]) -> None:
    """What takes the answers elsewhere."""
    answered = comparing.answered(answers)
    texts: tuple[tuple[str, str, Callable[[], str], str], ...] = (
        ("YAML", ".yaml", lambda: comparing.as_yaml(answers), "application/yaml"),
        ("CSV", ".csv", lambda: exports.as_csv(comparing.as_rows(answers)), "text/csv"),
        (
            "JSON",
            ".json",
            lambda: exports.as_json([each.estimate.to_dict() for _, each in answered]),
            "application/json",
        ),
    )
    showing.share(
        python=comparing.as_python(rows),
        command=comparing.as_command(rows),
        files=tuple(showing.File(label, f"capsim-compare{ending}", text, kind) for label, ending, text, kind in texts),
    )
