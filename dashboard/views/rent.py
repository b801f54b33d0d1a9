"""What to rent, to finish by a date or within a budget."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from dashboard import session, shell, showing
from dashboard.choices.state import Choices
from dashboard.content import exports, renting
from dashboard.content.answers import Tell
from dashboard.content.glossary import explain
from dashboard.content.renting import FIELDS as FIELDS
from dashboard.controls import Said, control, plan_given, scenario_controls
from dashboard.figures import rent as figures
from dashboard.lasting import present
from dashboard.showing import plain
from hardware import units
from hardware.errors import InputError
from simulator import Option, Outlook, Refused
from simulator.answers.costs import mixed
from simulator.plan_search.searching import PLAN_FIELDS
from simulator.terminal.estimate import fits_briefly
from simulator.terminal.renting import left_out
from simulator.terminal.renting import rows as rows_of
from simulator.terminal.search import plan_words

_WIDTH = 125
"""Of one figure of an answer [pixels]."""
_CHOSEN = dict.fromkeys(PLAN_FIELDS, "best for each") | {"stack": "usual for each"}
"""What stands in open fields."""
_RARE = 0.1
"""Interruptions of a run below which they are not told."""
_ANY = {"deadline": "time", "budget": "price"}
_SEEN = "capsim.rent.seen"
_OFTEN = 1.5
"""Time between two looks at what was found until then [s]."""


def page(choices: Choices) -> None:
    """Show what to rent: the cheapest and fastest options within the limits, time against money, chances."""
    question = renting.question(choices)
    present(
        "Pricing systems",
        question,
        partial(_outlook_of, choices, question),
        ready=renting.is_known(choices),
        controls=partial(_controls, choices),
        shown=partial(_shown, choices),
        until_now=partial(_until_now, choices, question),
    )


def _controls(choices: Choices, outlook: Outlook | None, error: InputError | None) -> None:
    """Where to look, and the scenario, in the side bar; above the answer what limits it."""
    estimate = outlook.options[0].estimate if outlook is not None and outlook.options else None
    said = Said.of(choices, estimate, error, own=renting.PLACES)
    said = replace(said, filled={**said.filled, **_CHOSEN})
    with st.sidebar:
        for each in renting.ASKED:
            control(each, choices, said)
        st.divider()
    scenario_controls(choices, said, without=renting.WITHOUT)
    st.subheader(plain(f"What to rent for {choices.text('model')}"), anchor=False)
    for column, each in zip(st.columns(3, gap="medium"), renting.LIMITS, strict=True):
        with column:
            control(each, choices)


def _outlook_of(choices: Choices, question: Choices, tell: Tell | None) -> Outlook:
    """The options; where they must be looked for, what was found until then is shown now and then."""
    if tell is None:
        return renting.find(choices)
    seen: list[Option | Refused] = []
    st.session_state[_SEEN] = (question, seen)
    place, shown = st.empty(), [time.monotonic()]

    def progress(words: str) -> None:
        tell(words)
        if time.monotonic() - shown[0] > _OFTEN and any(isinstance(each, Option) for each in seen):
            outlook = renting.judged(choices, seen)
            with place.container():
                drawn = figures.time_against_money(outlook)
                showing.figure(drawn, name="", alt="Options found so far", key=f"rent.until.{len(seen)}")
            shown[0] = time.monotonic()

    answer = renting.find(choices, progress, seen.append)
    place.empty()
    return answer


def _until_now(choices: Choices, question: Choices) -> Outlook | None:
    """What was found until somebody stopped the search."""
    asked, seen = st.session_state.get(_SEEN, (None, []))
    if asked != question or not any(isinstance(each, Option) for each in seen):
        return None
    return renting.judged(choices, seen)


def _shown(choices: Choices, outlook: Outlook) -> None:
    """What was found."""
    priced = sum(option.cost_usd < float("inf") for option in outlook.options)
    unknown = (
        f", {len(outlook.options) - priced:,} of them without a known price" if priced < len(outlook.options) else ""
    )
    took = f", priced in {outlook.seconds:.1f} s" if outlook.whole else ""
    counted = f"{len(outlook.options):,} systems and numbers of devices{unknown}{took}"
    st.caption(plain(f"{counted}. Times and costs are those to expect, with failures and checkpoints."))
    showing.say_length(option.estimate.run for option in outlook.options)
    if words := mixed(option.estimate for option in outlook.options):
        st.caption(plain(f"{words[0].upper()}{words[1:]}."))
    plan_given(choices)
    _answers(choices, outlook)
    if outlook.options:
        left, right = st.columns([3, 2], gap="medium")
        with left:
            _time_against_money(choices, outlook)
        with right:
            _chances(choices, outlook)
        _table(choices, outlook)
    else:
        st.warning("None of them has a plan that fits.")
    _left_out(outlook)
    _share(choices, outlook)


def _answers(choices: Choices, outlook: Outlook) -> None:
    """What to take, or what comes nearest."""
    if outlook.nearest is not None and outlook.nearest.option is not None:
        known = (("deadline", outlook.deadline_s), ("budget", outlook.budget_usd))
        limits = " and ".join(f"the {name}" for name, limit in known if limit is not None)
        sure = f"with a chance of {100 * outlook.confidence:.0f} %"
        needed = f"What comes nearest needs {units.digits(outlook.nearest.factor)} times {limits}."
        st.warning(plain(f"Nothing keeps {limits} {sure}. {needed}"))
        with st.container(horizontal=True):
            for name, limit in known:
                if limit is not None:
                    st.button(
                        f"Any {_ANY[name]}", key=f"any.{name}", on_click=session.choose, args=({f"rent_{name}": "any"},)
                    )
        _answer("Nearest", outlook.nearest.option, outlook, choices, "nearest")
        return
    answers = [
        ("Cheapest in time", outlook.cheapest, outlook.deadline_s, "cheapest"),
        ("Fastest within the budget", outlook.fastest, outlook.budget_usd, "fastest"),
    ]
    asked = [(title, option, key) for title, option, limit, key in answers if limit is not None]
    for column, (title, option, key) in zip(st.columns(max(len(asked), 1), gap="medium"), asked, strict=False):
        with column:
            if option is None:
                st.markdown(f"##### {title}", help=explain(key))
                st.markdown("Nothing.")
            else:
                _answer(title, option, outlook, choices, key)
                _more(outlook, key)


def _answer(title: str, option: Option, outlook: Outlook, choices: Choices, key: str) -> None:
    """An option, with a button that opens it on the first page."""
    st.markdown(f"##### {title}", help=explain(key))
    chances = outlook.chances(option)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{plain(f'{option.devices:,} x {option.system}')}**", width="content")
        st.button(
            "Open in Plan", key=f"open.{key}", on_click=shell.send, args=("plan", renting.opened(choices, option))
        )
    with st.container(horizontal=True, gap="small"):
        _metric("Expected time", figures.took(option), _sure(chances, "deadline", "in time"), "expected_time")
        _metric(
            "Expected cost",
            figures.cost(option).removeprefix("cost "),
            _sure(chances, "budget", "within"),
            "expected_cost",
        )
        estimate = option.estimate
        _metric("Memory", units.size(estimate.memory_bytes["total"]), fits_briefly(estimate), "memory")
        _metric("Goodput", units.percent(option.estimate.run.goodput), _failures(option), "goodput")
    st.caption(plain(plan_words(option.estimate)), help=explain("plan_words"))


def _failures(option: Option) -> str:
    """How often the run is to be interrupted, where that is worth a word."""
    run = option.estimate.run
    number = (run.failures or 0.0) + (run.preemptions or 0.0)
    return f"{units.digits(number, 2)} interruptions" if number >= _RARE else ""


def _sure(chances: dict[str, float | None], limit: str, words: str) -> str:
    """The chance that a limit is kept, where there is one."""
    name = f"chance_of_{limit}"
    return f"{figures.chance(chances[name])} {words}" if name in chances else ""


def _metric(label: str, value: str, detail: str, term: str) -> None:
    """One figure of an answer."""
    st.metric(
        label, value, delta=detail or None, delta_color="off", delta_arrow="off", help=explain(term), width=_WIDTH
    )


def _more(outlook: Outlook, key: str) -> None:
    """What a longer deadline or a larger budget would buy, where that is something else."""
    known = outlook.cheapest if key == "cheapest" else outlook.fastest
    for each in outlook.later if key == "cheapest" else outlook.dearer:
        option = each.option
        if option is not None and option is not known:
            what = "deadline" if key == "cheapest" else "budget"
            words = f"{each.factor:g} times the {what}: {option.devices:,} x {option.system}"
            st.caption(plain(f"{words}, {figures.took(option)}, {figures.cost(option)}"))
        known = option


def _time_against_money(choices: Choices, outlook: Outlook) -> None:
    """All options; a click on one opens it on the first page."""
    st.markdown("##### Time against money", help=explain("not_beaten_in_money"))
    shown = figures.groups(outlook)
    if not shown:
        st.info("No price is known of any of them; choose whose prices count in the side bar.")
        return
    name = exports.file_name(choices, "", kind="rent")
    chosen: Any = showing.figure(
        figures.time_against_money(outlook),
        name=name,
        alt=f"Pareto front of time and money: {units.plural(len(outlook.front), 'option')}",
        key="rent.front",
        on_select="rerun",
        selection_mode="points",
    )
    st.caption("A click on an option opens it on the Plan page.")
    for point in chosen.selection.points[:1]:
        option = shown[point["curve_number"]].options[point["point_index"]]
        shell.go_to("plan", renting.opened(choices, option))


def _chances(choices: Choices, outlook: Outlook) -> None:
    """How likely the answers are to be done by when."""
    st.markdown("##### When it will be done", help=explain("chance_to_be_done"))
    nearest = outlook.nearest.option if outlook.nearest is not None else None
    named = (("cheapest in time", outlook.cheapest), ("fastest in the budget", outlook.fastest), ("nearest", nearest))
    shown = [(name, option) for name, option in named if option is not None and option.time_s < float("inf")]
    if shown:
        drawn = figures.chances(outlook, shown[:1] if outlook.cheapest is outlook.fastest else shown)
        name = exports.file_name(choices, "", kind="chances")
        showing.figure(drawn, name=name, alt="Chance to be done by a time", key="rent.chances")
        st.caption("Dashed: the deadline, and the chance with which limits are to be kept.")


def _table(choices: Choices, outlook: Outlook) -> None:
    """The options as a table; a row opens on the first page."""
    st.markdown("##### Options")
    control(renting.LISTED, choices)
    options = renting.listed(outlook, choices.text(renting.LISTED.name))
    table, formats = figures.rows(outlook, options)
    if not table:
        st.info("None.")
        return
    columns: dict[str, Any] = {name: st.column_config.NumberColumn(format=text) for name, text in formats.items()}
    columns["plan"] = st.column_config.TextColumn(width="large")
    chosen: Any = st.dataframe(
        table, hide_index=True, column_config=columns, on_select="rerun", selection_mode="single-row", key="rent.table"
    )
    rows = [number for number in chosen.selection.rows if number < len(options)]
    if rows:
        option = options[rows[0]]
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(plain(f"{option.devices:,} x {option.system}: {plan_words(option.estimate)}"), width="content")
            st.button(
                "Open in Plan", key="open.row", on_click=shell.send, args=("plan", renting.opened(choices, option))
            )
    else:
        st.caption("Choose a row to open its plan.")


def _left_out(outlook: Outlook) -> None:
    """Systems and numbers of devices without a plan, by reason."""
    if outlook.refused:
        with st.expander("What was left out"):
            rows = [{"cases": number, "why": words} for number, words in left_out(outlook.refused)]
            st.dataframe(rows, hide_index=True)


def _share(choices: Choices, outlook: Outlook) -> None:
    """What takes the answer elsewhere."""
    texts = (
        ("CSV", ".csv", lambda: exports.as_csv(rows_of(outlook.options, outlook)), "text/csv"),
        ("JSON", ".json", lambda: exports.as_json(outlook.to_dict()), "application/json"),
    )
    showing.share(
        python=renting.as_python(choices),
        command=renting.as_command(choices),
        files=tuple(
            showing.File(label, f"capsim-rent-{choices.text('model')}{ending}", text, kind)
            for label, ending, text, kind in texts
        ),
    )
