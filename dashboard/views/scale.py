"""What more devices bring, and when it is too many."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from dashboard import shell, showing
from dashboard.choices.scenario import BEST
from dashboard.choices.state import Choices
from dashboard.content import exports, scaling
from dashboard.content.glossary import explain
from dashboard.content.scaling import FIELDS
from dashboard.controls import Said, control, plan_given, scenario_controls
from dashboard.figures import scale as figures
from dashboard.lasting import present
from dashboard.showing import plain
from hardware import units
from hardware.errors import InputError
from simulator import Scaling
from simulator.plan_search.searching import PLAN_FIELDS
from simulator.terminal.scaling import halved_words, refused_words
from simulator.terminal.scaling import rows as rows_of
from simulator.terminal.search import plan_words

_WIDTH = 150
"""Of one figure of the answer [pixels]."""
_CHOSEN = dict.fromkeys(PLAN_FIELDS, "best for each")
"""What stands in open fields of the plan."""


def page(choices: Choices) -> None:
    """Show throughput, efficiency and parts of a step over the number of devices."""
    present(
        "Looking at more and more devices",
        scaling.question(choices),
        partial(scaling.find, choices),
        ready=scaling.is_known(choices),
        controls=partial(_controls, choices),
        shown=partial(_shown, choices),
    )


def _controls(choices: Choices, curve: Scaling | None, error: InputError | None) -> None:
    """What to look at, and the scenario, in the side bar."""
    estimate = curve.points[0].estimate if curve is not None and curve.points else None
    said = Said.of(choices, estimate, error, own=scaling.PLACES)
    if curve is not None:
        base = {"devices": f"{curve.devices:,}", "global_batch": f"{curve.global_batch:,}", "stack": "usual"}
        said = replace(said, filled={**said.filled, **_CHOSEN, **base})
    with st.sidebar:
        for each in FIELDS:
            control(each, choices, said)
        st.divider()
    scenario_controls(choices, said, without={scaling.OPEN})


def _shown(choices: Choices, curve: Scaling) -> None:
    """What was found."""
    st.subheader(plain(f"{curve.model} on {curve.system}"), anchor=False)
    batch = (
        "The same batch on all numbers of devices" if curve.kind == "strong" else "A batch that grows with the devices"
    )
    plans = "of all plans" if choices[BEST] else "of the plans that most runs use"
    st.caption(plain(f"{batch}; for each the fastest {plans}. {_sentence(halved_words(curve))}"))
    plan_given(choices, without=(scaling.OPEN,))
    if curve.points:
        showing.say_length(point.estimate.run for point in curve.points)
        _answer(curve)
        left, right = st.columns(2, gap="medium")
        with left:
            st.markdown("##### Tokens per second", help=explain("throughput"))
            name = exports.file_name(choices, "", kind="scale")
            showing.figure(figures.rate(curve), name=name, alt=halved_words(curve), key="scale.rate")
        with right:
            st.markdown("##### Efficiency", help=explain("efficiency"))
            name = exports.file_name(choices, "", kind="efficiency")
            showing.figure(figures.efficiency(curve), name=name, alt=halved_words(curve), key="scale.efficiency")
        st.markdown("##### What the step goes to", help=explain("limited_by"))
        name = exports.file_name(choices, "", kind="shares")
        alt = "Shares of each kind of work in the step, by number of devices"
        showing.figure(figures.shares(curve), name=name, alt=alt, key="scale.shares")
        _table(curve)
    _left_out(curve)
    _share(choices, curve)


def _sentence(words: str) -> str:
    """Words as a sentence."""
    return f"{words[0].upper()}{words[1:]}."


def _answer(curve: Scaling) -> None:
    """The answer in figures."""
    last, best = curve.points[-1], max(curve.points, key=lambda point: point.estimate.tokens_per_s)
    halved = f"beyond {units.digits(curve.halved_at, 2)}" if curve.halved_at is not None else "not here"
    seen = "devices" if curve.halved_at is not None else f"up to {last.devices:,}"
    with st.container(horizontal=True, gap="small"):
        _metric("Efficiency halves", halved, seen, "halved_at")
        _metric("Best used", f"on {curve.reference:,}", "", "efficiency")
        rate = f"{units.count(best.estimate.tokens_per_s)} tokens/s"
        _metric("Fastest", f"on {best.devices:,}", rate, "throughput")
        times = f"{units.digits(last.speedup)} times as fast"
        _metric(f"Efficiency on {last.devices:,}", units.percent(last.efficiency), times, "efficiency")


def _metric(label: str, value: str, detail: str, term: str) -> None:
    """One figure of the answer."""
    st.metric(
        label, value, delta=detail or None, delta_color="off", delta_arrow="off", help=explain(term), width=_WIDTH
    )


def _table(curve: Scaling) -> None:
    """Every number of devices; a row opens on the first page."""
    st.markdown("##### Every number of devices")
    table, formats = figures.rows(curve)
    columns: dict[str, Any] = {name: st.column_config.NumberColumn(format=text) for name, text in formats.items()}
    columns["plan"] = st.column_config.TextColumn(width="large")
    chosen: Any = st.dataframe(
        table, hide_index=True, column_config=columns, on_select="rerun", selection_mode="single-row", key="scale.table"
    )
    rows = [number for number in chosen.selection.rows if number < len(curve.points)]
    if not rows:
        st.caption("Choose a row to open its plan.")
        return
    point = curve.points[rows[0]]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(plain(f"{units.plural(point.devices, 'device')}: {plan_words(point.estimate)}"), width="content")
        st.button("Open in Plan", key="open.point", on_click=shell.send, args=("plan", scaling.opened(curve, point)))


def _left_out(curve: Scaling) -> None:
    """Numbers of devices without a plan, by reason."""
    for reason in dict.fromkeys(map(refused_words, curve.refused)):
        numbers = ", ".join(f"{each.devices:,}" for each in curve.refused if refused_words(each) == reason)
        st.caption(plain(f"No plan on {numbers}: {reason}."))


def _share(choices: Choices, curve: Scaling) -> None:
    """What takes the answer elsewhere."""
    texts = (
        ("CSV", ".csv", lambda: exports.as_csv(rows_of(curve)), "text/csv"),
        ("JSON", ".json", lambda: exports.as_json(curve.to_dict()), "application/json"),
    )
    showing.share(
        python=scaling.as_python(choices),
        command=scaling.as_command(choices),
        files=tuple(
            showing.File(label, exports.file_name(choices, ending, kind="scale"), text, kind)
            for label, ending, text, kind in texts
        ),
    )
