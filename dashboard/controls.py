"""Controls for fields: each with its explanation, and the sentence of what is wrong beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from dashboard import session
from dashboard.choices.scenario import BEST, applies, blamed, fields, offered
from dashboard.choices.scenario import field as scenario_field
from dashboard.choices.state import Choices, Field, Value
from dashboard.choices.uploaded import NOTE, is_uploaded
from dashboard.content.answers import Answer, answer, is_quick
from dashboard.content.glossary import explain
from dashboard.sections import SECTIONS
from dashboard.showing import complain, plain, working
from hardware.errors import InputError
from simulator import Estimate

_FIRST = ("model", "system", "devices", "sequence_length", "global_batch")
_NOT_TRIED = ("attention", "precision", "optimizer")
"""Fields of a plan that no search tries."""


@dataclass(frozen=True)
class Scope:
    """Whose controls they are: those of the scenario at hand, or of one of several on a page."""

    prefix: str = ""
    """Of the keys of the controls, unique on the page."""
    choose: Callable[[Mapping[str, Value | None]], None] = session.choose
    """Takes over what is chosen."""

    def take(self, name: str, value: Value | None) -> None:
        """Choose a value for a field; nothing opens it."""
        session.forget(f"{self.prefix}{name}")
        self.choose({name: value})

    def refuse(self, name: str, text: str, sentence: str) -> None:
        """Keep what was typed into a field and cannot be, and say why."""
        session.refuse(f"{self.prefix}{name}", text, sentence)

    def draft(self, name: str) -> tuple[str, str] | None:
        """What was typed into a field and cannot be, with the sentence that says why."""
        return session.draft(f"{self.prefix}{name}")


@dataclass(frozen=True)
class Said:
    """What stands in and beside the controls of a scenario besides what is chosen."""

    estimate: Estimate | None = None
    """The answer, whose values stand in the fields that are open."""
    error: InputError | None = None
    place: str | None = None
    """The field that the error is about."""
    filled: Mapping[str, str] = field(default_factory=dict)
    """What was chosen for open fields."""
    scope: Scope = field(default_factory=Scope)

    @classmethod
    def of(
        cls,
        choices: Choices,
        estimate: Estimate | None,
        error: InputError | None,
        scope: Scope | None = None,
        own: Mapping[str, str] | None = None,
    ) -> Said:
        """What to say of an answer or an error.

        Parameters
        ----------
        choices
            What was chosen.
        estimate
            The answer.
        error
            Why there is none.
        scope
            Whose controls they are.
        own
            Fields of a page by what the API calls them, such as ``where``.
        """
        place = None
        if error is not None:
            named = (*error.fields, *re.findall(r"^\w+(?==)", str(error)))
            place = next((own[name] for name in named if name in own), None) if own else None
            place = place or blamed(error, choices)
        return cls(estimate, error, place, _filled(estimate) if estimate is not None else {}, scope or Scope())


def _filled(estimate: Estimate) -> dict[str, str]:
    """What an answer chose for what was left open."""
    values: dict[str, Any] = {
        **estimate.workload,
        **estimate.plan,
        "devices": estimate.devices,
        "stack": estimate.stack,
    }
    return {name: _shown(value) for name, value in values.items()}


def _shown(value: Any) -> str:
    """A value as it stands in an open field."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "-".join(map(str, value))
    return f"{value:,.15g}" if isinstance(value, float) else str(value)


def scenario_controls(choices: Choices, said: Said, *, without: Collection[str] = ()) -> None:
    """All controls of a scenario, in the side bar: what matters most first, the rest folded away.

    Parameters
    ----------
    choices
        What is chosen.
    said
        What stands in open fields, and what is wrong.
    without
        Fields that mean nothing on the page.
    """
    with st.sidebar:
        for name in (*_FIRST, BEST):
            if name not in without:
                control(scenario_field(name), choices, said)
        for name, (title, rows) in SECTIONS.items():
            listed = [[scenario_field(each) for each in row if each not in without] for row in rows]
            known = [[each for each in row if applies(each, choices)] for row in listed]
            if any(known):
                _section(f"section.{said.scope.prefix}{name}", title, known, choices, said)


def _section(key: str, title: str, rows: Sequence[Sequence[Field]], choices: Choices, said: Said) -> None:
    """Controls that are made when somebody opens their box, or when one of them is wrong."""
    names = [each.name for row in rows for each in row]
    if said.place in names or any(said.scope.draft(name) for name in names):
        st.session_state[key] = True
    number = sum(choices[name] is not None for name in names)
    box = st.expander(f"{title} ({number} set)" if number else title, key=key, on_change="rerun")
    if box.open:
        with box:
            for row in filter(None, rows):
                _row(row, choices, said)


def _row(row: Sequence[Field], choices: Choices, said: Said) -> None:
    """Controls beside each other, and what is wrong with them below, where there is room for sentences."""
    for column, each in zip(st.columns(len(row), vertical_alignment="bottom"), row, strict=True):
        with column:
            _widget(each, choices, said)
    for each in row:
        _note(each, choices)
        _problem(each, said)


def plan_given(choices: Choices, *, without: Collection[str] = ()) -> None:
    """Say which fields of the plan are given, where a page tries all others, with a button that opens them.

    Parameters
    ----------
    choices
        What is chosen.
    without
        Fields that the page leaves open itself.
    """
    kept = [each for each in fields() if each.group == "plan" and each.name not in (*_NOT_TRIED, *without)]
    said = {each.name: each.write(value) for each in kept if (value := choices[each.name]) is not None}
    if said:
        with st.container(horizontal=True, vertical_alignment="center"):
            words = ", ".join(f"{name}={value}" for name, value in said.items())
            st.markdown(f":material/lock: {plain(f'All plans keep {words}.')}", width="content")
            st.button("Try all", key="open.plan", on_click=session.choose, args=(dict.fromkeys(said),))


def ask(choices: Choices) -> Answer | None:
    """The answer to a scenario, with its controls in the side bar; nothing where the page says what is wrong."""
    answered, error = None, None
    try:
        if is_quick(choices):
            answered = answer(choices)
        else:
            with working("Pricing every plan", lambda: session.choose({BEST: False})) as tell:
                answered = answer(choices, lambda _, considered: tell(f"{considered:,} plans"))
    except InputError as refused:
        error = refused
    scenario_controls(choices, Said.of(choices, answered.estimate if answered else None, error))
    if error is not None:
        complain(str(error))
    return answered


def control(each: Field, choices: Choices, said: Said | None = None) -> None:
    """One control, with its explanation; what is wrong with it stands below.

    Parameters
    ----------
    each
        The field.
    choices
        What is chosen.
    said
        What stands in open fields, and the error that may be about this one.
    """
    told = said or Said()
    _widget(each, choices, told)
    _note(each, choices)
    _problem(each, told)


def _widget(each: Field, choices: Choices, told: Said) -> None:
    """The control itself."""
    each = offered(each, choices, () if told.scope.prefix else session.held())
    key, wrong = f"control.{told.scope.prefix}{each.name}", told.scope.draft(each.name)
    shown = wrong[0] if wrong is not None else _as_widget(each, choices[each.name])
    if key not in st.session_state or st.session_state[key] != shown:
        st.session_state[key] = shown
    _WIDGETS[each.kind](each, key, told)


def _note(each: Field, choices: Choices) -> None:
    """Say of what was uploaded that it lives in the session."""
    if each.name in ("profile", "system") and is_uploaded(choices[each.name]):
        st.caption(NOTE)


def _problem(each: Field, told: Said) -> None:
    """What is wrong with a field, if anything is."""
    wrong = told.scope.draft(each.name)
    if wrong is not None:
        complain(wrong[1])
    elif told.error is not None and told.place == each.name:
        complain(str(told.error))


def _as_widget(each: Field, value: Any) -> Any:
    """A value as its control holds it."""
    if each.kind == "flag" and each.default is not None:
        return bool(value)
    if value is None:
        return {"choice": None, "flag": None, "several": []}.get(each.kind, "")
    if each.kind == "several":
        return str(value).split(",")
    return value if each.kind in ("choice", "level") else each.write(value)


def _chosen(each: Field, key: str, scope: Scope) -> None:
    """Take over what a control holds, or say what is wrong with it."""
    held = st.session_state[key]
    if held is None or isinstance(held, bool):
        scope.take(each.name, each.default if held is None else held)
        return
    text = ",".join(held) if isinstance(held, list) else str(held).strip()
    if not text:
        scope.take(each.name, None)
        return
    try:
        scope.take(each.name, each.read(text))
    except ValueError as error:
        scope.refuse(each.name, str(held), str(error))


def _common(each: Field, key: str, told: Said) -> dict[str, Any]:
    """What all controls take."""
    return {
        "label": each.label,
        "key": key,
        "help": explain(each.name),
        "on_change": _chosen,
        "args": (each, key, told.scope),
    }


def _called(each: Field) -> Callable[[str], str]:
    """What options are called."""
    names = dict(zip(each.options, each.labels, strict=True)) if each.labels else {}
    return lambda option: names.get(option, option)


def _pick(each: Field, key: str, told: Said) -> None:
    """A list to choose from; it can be left open where the field can."""
    common = {**_common(each, key, told), "format_func": _called(each)}
    if each.default is not None:
        st.selectbox(options=each.options, **common)
    else:
        st.selectbox(
            options=each.options,
            index=None,
            placeholder=told.filled.get(each.name) or each.example or "usual",
            **common,
        )


def _slide(each: Field, key: str, told: Said) -> None:
    """A slider from the first option to the last; one of them is always chosen."""
    st.select_slider(options=each.options, format_func=_called(each), **_common(each, key, told))


def _several(each: Field, key: str, told: Said) -> None:
    """A list to choose several from."""
    st.multiselect(options=each.options, placeholder=each.example or "all", **_common(each, key, told))


def _type(each: Field, key: str, told: Said) -> None:
    """A line to write in; what is chosen for an open field stands there in grey."""
    filled = told.filled.get(each.name)
    placeholder = filled or (f"such as {each.example}" if each.example else "open")
    st.text_input(placeholder=placeholder, **_common(each, key, told))


def _flag(each: Field, key: str, told: Said) -> None:
    """Yes or no, or a switch where it is never open."""
    common = _common(each, key, told)
    if each.default is not None:
        st.toggle(**common)
    else:
        st.selectbox(options=("yes", "no"), index=None, placeholder=told.filled.get(each.name) or "usual", **common)


_WIDGETS = {
    "choice": _pick,
    "level": _slide,
    "several": _several,
    "whole": _type,
    "amount": _type,
    "money": _type,
    "text": _type,
    "flag": _flag,
}
