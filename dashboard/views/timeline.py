"""One step, replayed: what every stage does when, what it waits for, and what it holds meanwhile."""

from __future__ import annotations

import streamlit as st

from dashboard import session, showing
from dashboard.choices.state import Choices
from dashboard.content import exports, timelines
from dashboard.content.answers import Answer
from dashboard.content.glossary import explain
from dashboard.content.timelines import FIELDS, OTHER, LookedAt
from dashboard.controls import Said, ask, control
from dashboard.figures import timeline as figures
from dashboard.showing import complain, plain
from hardware import units
from hardware.errors import InputError
from simulator import Timeline
from simulator.terminal.estimate import plan_in_words

__all__ = ["FIELDS", "page"]
_WIDTH = 150
"""Of one figure of the answer [pixels]."""
_CONTROL = 170
"""Of one control above the figure: two fit a narrow screen [pixels]."""


def page(choices: Choices) -> None:
    """Show the step of a scenario, and of another one below where somebody keeps one."""
    other, problems = timelines.other_of(choices)
    for problem in problems:
        complain(problem)
    answer = ask(choices)
    if answer is None:
        return
    estimate, timeline = answer.estimate, timelines.replayed(choices, answer)
    unfit = "" if estimate.fits else ": does not fit"
    devices = units.plural(estimate.devices, "device")
    st.subheader(plain(f"{estimate.model} on {estimate.system}, {devices}{unfit}"), anchor=False)
    st.caption(plain(plan_in_words(estimate)))
    _answer(choices, timeline)
    st.markdown(plain(timelines.agreement(timeline)))
    showing.answer_first()
    second = _second(choices, other)
    view = _zoom(choices, timeline, second)
    if view is not None:
        _drawn(choices, timeline, view, second)
    _lanes(choices, answer, timeline)
    _share(choices, answer, timeline, view)


def _answer(choices: Choices, timeline: Timeline) -> None:
    """The step in figures."""
    lanes = timelines.sums(choices, timeline)
    busiest = timelines.busiest(lanes)
    shares = timelines.shares(lanes[busiest], timeline.step_time)
    idle = [each.parts["pipeline_bubble"] / timeline.step_time for each in lanes]
    stage, peak = timelines.peak(choices, timeline)
    several = len(lanes) > 1
    of_busiest = f"of stage {busiest + 1}" if several else "of the step"
    formula = f"{100.0 * timeline.difference:+.2f} % to the formula"
    idles = f"{units.percent(min(idle))} to {units.percent(max(idle))}" if several else "one stage"
    with st.container(horizontal=True, gap="small"):
        _metric("Step, replayed", units.duration(timeline.step_time), formula, "replayed")
        _metric("Pipeline idle", units.percent(sum(idle) / len(idle)), idles, "pipeline idle")
        exposed = shares.get("communication", 0.0)
        _metric("Exposed", units.percent(exposed), of_busiest, "exposed_communication")
        where = f"on stage {stage + 1}" if several else "of the device"
        _metric("Peak memory", units.size(peak.total), where, "memory_over_time")


def _metric(label: str, value: str, detail: str, term: str) -> None:
    """One figure of the answer."""
    st.metric(label, value, delta=detail, delta_color="off", delta_arrow="off", help=explain(term), width=_WIDTH)


def _second(choices: Choices, other: Choices | None) -> Timeline | None:
    """The timeline below, with buttons that keep a plan for it or take it away."""
    text = timelines.kept_text(choices)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Keep this plan below",
            key="timeline.keep",
            disabled=text is None,
            help=explain(OTHER),
            on_click=lambda: session.choose({OTHER: text}),
        )
        if other is None:
            st.caption("Keep it, change the plan, and both stand on one axis of time.")
            return None
        st.button("Take it away", key="timeline.away", on_click=lambda: session.choose({OTHER: None}))
    try:
        timeline = timelines.other_timeline(other)
    except InputError as error:
        complain(f"Second plan: {error}")
        return None
    shown, kept = timelines.labels(choices, other)
    st.caption(plain(f"Above: {shown}. Below: {kept}, {units.duration(timeline.step_time)} a step."))
    return timeline


def _zoom(choices: Choices, timeline: Timeline, second: Timeline | None) -> LookedAt | None:
    """The controls of what is looked at, and what they say; nothing where that does not exist."""
    until = max(timeline.step_time, second.step_time if second is not None else 0.0)
    view, error = None, None
    try:
        view = timelines.looked_at(choices, timeline, until)
    except InputError as refused:
        error = refused
    place = error.fields[0] if error is not None and error.fields else None
    filled = {timelines.STAGES: "all", timelines.MICRO_BATCHES: "1"}
    if choices[timelines.ZOOM] == timelines.LAYER:
        filled[timelines.STAGES] = "1"
    said = Said(error=error, place=place, filled=filled)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for each in timelines.shown_fields(choices):
            with st.container(width=_CONTROL):
                control(each, choices, said)
    return view


def _drawn(choices: Choices, timeline: Timeline, view: LookedAt, second: Timeline | None) -> None:
    """The picture of the step, and of the other one below."""
    try:
        drawn, note = figures.picture(timeline, view, second)
    except InputError as error:
        complain(str(error))
        return
    title = "Stages over time" if len(view.stages or timeline.stages) > 1 else "Lanes over time"
    st.markdown(f"##### {title}", help=explain("lanes"))
    name = exports.file_name(choices, "", kind="timeline")
    showing.figure(drawn, name=name, alt=f"{timelines.agreement(timeline)} {note}", key="timeline")
    st.caption(plain(f"{note} Point at a bar to read what it is and what it waits for; drag to look closer.".strip()))


def _lanes(choices: Choices, answer: Answer, timeline: Timeline) -> None:
    """What the device of the busiest stage does, beside the breakdown of the estimate."""
    lanes = timelines.sums(choices, timeline)
    busiest = timelines.busiest(lanes)
    where = f" on stage {busiest + 1}, the slowest" if len(lanes) > 1 else ""
    st.markdown(f"##### Where the step goes{where}", help=explain("lanes_and_estimate"))
    table = timelines.rows(lanes[busiest], answer.estimate)
    st.dataframe(table, hide_index=True, height="content", key="timeline.lanes", alt="Parts of the step, in both")


def _share(choices: Choices, answer: Answer, timeline: Timeline, view: LookedAt | None) -> None:
    """The trace, and what takes the picture elsewhere."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Trace for Perfetto",
            lambda: timelines.trace_file(timeline),
            exports.file_name(choices, ".json.gz", kind="timeline"),
            "application/gzip",
            key="timeline.trace",
            help=explain("trace"),
            on_click="ignore",
        )
    if view is None:
        return
    lanes = timelines.sums(choices, timeline)
    rows = timelines.rows(lanes[timelines.busiest(lanes)], answer.estimate)
    texts = (("CSV", ".csv", lambda: exports.as_csv(rows), "text/csv"),)
    showing.share(
        python=timelines.as_python(choices, answer, view),
        command=timelines.as_command(choices, answer),
        files=tuple(
            showing.File(label, exports.file_name(choices, ending, kind="timeline"), text, kind)
            for label, ending, text, kind in texts
        ),
    )
