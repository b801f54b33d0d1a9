"""Which plan is best, out of all of them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from dashboard import shell, showing
from dashboard.choices.scenario import BEST
from dashboard.choices.state import Choices
from dashboard.content import exports, searching
from dashboard.content.answers import answer
from dashboard.content.glossary import explain
from dashboard.content.searching import FIELDS
from dashboard.controls import Said, control, plan_given, scenario_controls
from dashboard.figures import search as figures
from dashboard.lasting import present
from dashboard.launching import launch_box
from dashboard.showing import PER_TOKENS, complain, plain
from hardware import units
from hardware.errors import InputError
from simulator import Estimate, Search
from simulator.plan_search.searching import PLAN_FIELDS
from simulator.terminal.estimate import fits_briefly, memory_words
from simulator.terminal.search import nearest_words, plan_words, reason_words, why_nothing
from simulator.terminal.search import rows as rows_of

_BY_NAME = {each.name: each for each in FIELDS}
_ASKED = (
    *("search_best", "search_rank", "search_chance"),
    *("search_where", "search_free", "search_deadline", "search_budget", "search_top"),
)
_WIDTH = 138
"""Of one figure of the answer [pixels]."""
_SEARCHED = dict.fromkeys(PLAN_FIELDS, "all tried")
"""What stands in open fields that a search tries."""


def page(choices: Choices) -> None:
    """Show the best plans of a search, what memory buys, and the plans side by side."""
    present(
        "Pricing every plan",
        searching.question(choices),
        partial(searching.find, choices),
        ready=searching.is_known(choices),
        controls=partial(_controls, choices),
        shown=partial(_shown, choices),
    )


def _controls(choices: Choices, result: Search | None, error: InputError | None) -> None:
    """What to look for, and the scenario, in the side bar."""
    best = next(iter(result.best), result.nearest) if result is not None else None
    said = Said.of(choices, best, error, own=searching.PLACES)
    said = replace(said, filled={**said.filled, **_SEARCHED})
    with st.sidebar:
        for name in _ASKED:
            control(_BY_NAME[name], choices, said)
        st.divider()
    scenario_controls(choices, said, without={BEST})


def _shown(choices: Choices, result: Search) -> None:
    """What was found."""
    devices = units.plural(result.devices, "device")
    st.subheader(plain(f"{result.model} on {result.system}, {devices}"), anchor=False)
    kept = f", {result.feasible:,} of these within the limits" if result.feasible < result.priced else ""
    counted = f"{units.plural(result.candidates, 'plan')}, {result.priced:,} of them fit and are priced{kept}"
    st.caption(plain(f"{counted}, in {result.seconds:.1f} s; stack {result.stack}"))
    plan_given(choices)
    if result.best:
        showing.say_length([result.best[0].run])
        _best(result.best[0], result.chance)
        _launch(choices, result.best[0], "best")
        left, right = st.columns(2, gap="medium")
        with left:
            _against_memory(choices, result)
        with right:
            _by_two(choices, result)
        _side_by_side(choices, result)
        _table(choices, result)
    else:
        _nothing(result)
    _left_out(result)
    _share(choices, result)


def _best(best: Estimate, chance: float | None) -> None:
    """The best plan of all."""
    memory = best.memory_bytes
    low, high, cost = best.step_time_low_s, best.step_time_high_s, best.run.cost_usd
    with st.container(horizontal=True, gap="small"):
        _metric(
            "Step time",
            units.duration(best.step_time_s),
            "" if low is None or high is None else units.span(low, high),
            "step_time",
        )
        whole = best.run.of == "run"
        steps = units.plural(best.run.steps, "step") if whole else PER_TOKENS
        _metric("Time to train" if whole else "Time", units.duration(best.run.time_s), steps, "time_to_train")
        _metric("Cost", "no price" if cost is None else units.money(cost), "" if whole else PER_TOKENS, "cost")
        _metric("MFU", units.percent(best.mfu), f"{units.count(best.tokens_per_s)} tokens/s", "mfu")
        _metric("Memory", units.size(memory["total"]), fits_briefly(best), "memory")
    st.caption(plain(f"{memory_words(best)[0].upper()}{memory_words(best)[1:]}."))
    within = best.step_time_within(chance) if chance is not None else None
    if chance is not None and within is not None:
        told = f"Ranked by what a step stays below with a chance of {100 * chance:g} %: {units.duration(within)}."
        st.caption(plain(told), help=explain("search_rank"))
    _open(best, "best")


def _metric(label: str, value: str, detail: str, term: str) -> None:
    """One figure of the answer."""
    st.metric(
        label, value, delta=detail or None, delta_color="off", delta_arrow="off", help=explain(term), width=_WIDTH
    )


def _open(one: Estimate, key: str) -> None:
    """A plan in words, with a button that opens it on the first page."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{plain(plan_words(one))}**", help=explain("plan_words"), width="content")
        st.button("Open in Plan", key=f"open.{key}", on_click=shell.send, args=("plan", searching.sent(one.plan)))


def _launch(choices: Choices, one: Estimate, key: str) -> None:
    """What starts a plan, by the stack that it was priced with."""
    chosen = choices.change({**searching.sent(one.plan), "stack": one.stack})
    what = "the best plan" if key == "best" else "this plan"
    launch_box(lambda: answer(chosen), what=what, key=f"launch.{key}")


def _against_memory(choices: Choices, result: Search) -> None:
    """Time, money or energy against memory; a click on a plan opens it on the first page."""
    st.markdown("##### What memory buys", help=explain("not_beaten"))
    control(_BY_NAME["search_against"], choices)
    drawn = figures.against_memory(result, choices.text("search_against"))
    chosen: Any = showing.figure(
        drawn,
        name=exports.file_name(choices, "", kind="search"),
        alt=f"Pareto front of time and memory: {units.plural(len(result.pareto or ()), 'plan')}",
        key="search.front",
        on_select="rerun",
        selection_mode="points",
    )
    st.caption("A click on a plan opens it on the Plan page.")
    for point in chosen.selection.points[:1]:
        lists = (result.pareto or (), result.best)
        one = lists[point["curve_number"]][point["point_index"]]
        shell.go_to("plan", searching.sent(one.plan))


def _by_two(choices: Choices, result: Search) -> None:
    """The fastest step for each pair of values."""
    st.markdown("##### Fastest step by two of its fields", help=explain("fastest_by"))
    for column, name in zip(st.columns(2), ("search_down", "search_across"), strict=True):
        with column:
            control(_BY_NAME[name], choices)
    if searching.same_axes(choices):
        complain(f"{choices['search_down']} stands both down and across; choose two different fields.")
    elif result.fastest is not None:
        name = exports.file_name(choices, "", kind="fastest")
        alt = f"Fastest step for each {' and '.join(result.fastest.by)}"
        showing.figure(figures.by_two(result.fastest), name=name, alt=alt, key="search.by")
        st.caption("Empty where no plan fits.")


def _side_by_side(choices: Choices, result: Search) -> None:
    """The listed plans over all their fields."""
    st.markdown("##### Listed plans side by side", help=explain("side_by_side"))
    plans = [row.estimate for row in searching.listed(result, "all", None)]
    name = exports.file_name(choices, "", kind="plans")
    alt = f"{units.plural(len(plans), 'plan')} by their fields"
    showing.wide_figure(figures.side_by_side(plans), name=name, alt=alt, key="search-lines")
    st.caption("Drag along an axis to keep only the plans that pass there.")


def _table(choices: Choices, result: Search) -> None:
    """The listed plans."""
    st.markdown("##### Plans")
    for column, name in zip(st.columns([1, 2]), ("search_listed", "search_words"), strict=True):
        with column:
            control(_BY_NAME[name], choices)
    words = choices["search_words"]
    listed = searching.listed(result, choices.text("search_listed"), None if words is None else str(words))
    if not listed:
        st.info("No listed plan has all of these words; as conditions they are looked for in all plans.")
        return
    table, formats = figures.rows([(row.estimate, ", ".join(row.lists)) for row in listed], result.chance)
    columns = {name: st.column_config.NumberColumn(format=text) for name, text in formats.items()}
    columns["plan"] = st.column_config.TextColumn(width="large")
    chosen: Any = st.dataframe(
        table,
        hide_index=True,
        column_config=columns,
        on_select="rerun",
        selection_mode="single-row",
        key="search.table",
    )
    rows = [number for number in chosen.selection.rows if number < len(listed)]
    if rows:
        _open(listed[rows[0]].estimate, "row")
        _launch(choices, listed[rows[0]].estimate, "row")
    else:
        st.caption("Choose a row to open its plan.")


def _nothing(result: Search) -> None:
    """Why no plan is left, and what comes nearest."""
    reason = why_nothing(result)
    st.warning(plain(f"{reason[0].upper()}{reason[1:]}."))
    if result.nearest is not None:
        st.markdown(f"The plan that comes nearest: {plain(nearest_words(result, result.nearest))}")
        _open(result.nearest, "nearest")


def _left_out(result: Search) -> None:
    """Plans that cannot be, by reason."""
    if result.rejected:
        with st.expander("What was left out"):
            rows = [{"plans": number, "why": reason_words(name)} for name, number in result.rejected.items()]
            st.dataframe(rows, hide_index=True)


def _share(choices: Choices, result: Search) -> None:
    """What takes the answer elsewhere."""
    best = next(iter(result.best), result.nearest)
    files = [
        showing.File(
            "CSV",
            exports.file_name(choices, ".csv", kind="search"),
            lambda: exports.as_csv(rows_of(result)),
            "text/csv",
        ),
        showing.File(
            "JSON",
            exports.file_name(choices, ".json", kind="search"),
            lambda: exports.as_json(result.to_dict()),
            "application/json",
        ),
    ]
    if best is not None:
        one = choices.change(searching.sent(best.plan))
        yaml = showing.File(
            "YAML of the best",
            exports.file_name(choices, ".yaml", kind="search"),
            lambda: exports.as_yaml(one, answer(one)),
            "application/yaml",
        )
        files.insert(0, yaml)
    showing.share(python=searching.as_python(choices), command=searching.as_command(choices), files=tuple(files))
