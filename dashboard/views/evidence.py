"""How far off the answers are: predictions beside all published runs, none of which the constants had seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import streamlit as st

from dashboard import session, shell, showing
from dashboard.choices.state import Choices, Field
from dashboard.content import evidence, exports, published
from dashboard.content.answers import Answer
from dashboard.content.evidence import GROUPINGS, SCHEMES, VALIDATION, GroupScore
from dashboard.content.glossary import explain
from dashboard.controls import Said, ask, control
from dashboard.figures import evidence as figures
from dashboard.showing import plain, working
from hardware import units
from hardware.errors import InputError
from simulator import Validation
from simulator.corpus import runs
from simulator.corpus.runs import Run
from simulator.evidence.scores import Outcome, Scheme
from simulator.terminal.evidence.tables import memory_lines

_BY, _SCHEME, _ONLY, _RUNS = "evidence_by", "evidence_scheme", "evidence_only", "evidence_runs"
FIELDS: tuple[Field, ...] = (
    Field(_BY, "Grouped by", "choice", GROUPINGS, default=GROUPINGS[0]),
    Field(_SCHEME, "Constants had seen", "choice", SCHEMES, default=SCHEMES[0]),
    Field(_ONLY, "Only runs with", "text", example="a100 megatron"),
    Field(_RUNS, "Price the published runs", "flag", default=True),
)
_COLOURED = 5
"""Groups with a colour of their own."""
_WIDTH = 132
"""Of one score; two of them stand beside each other on a narrow screen [pixels]."""


def page(choices: Choices) -> None:
    """Show the published runs: those nearest to the scenario, predicted against measured, scores."""
    answer = ask(choices)
    place, known = st.empty(), VALIDATION.result
    if answer is not None:
        with place.container():
            _nearest(answer, known)
    validation = _validated(choices)
    if validation is None:
        return
    if answer is not None and known is None:
        with place.container():
            _nearest(answer, validation)
    _agreement(choices, validation, answer)
    _share(choices, validation)


def _validated(choices: Choices) -> Validation | None:
    """All published runs with their predictions, which takes some seconds once."""
    if not choices[_RUNS]:
        control(FIELDS[3], choices)
        return None
    if VALIDATION.result is not None:
        return VALIDATION.result
    with working("Pricing the published runs", _stop) as tell:
        return VALIDATION.wait(tell)


def _stop() -> None:
    """Do without the published runs."""
    VALIDATION.stop()
    session.choose({_RUNS: False})


def _nearest(answer: Answer, validation: Validation | None) -> None:
    """Show the runs behind the interval of the answer at hand."""
    estimate = answer.estimate
    told = plain(f"{estimate.model} on {units.plural(estimate.devices, 'device')} of {estimate.system}")
    st.markdown(f"##### Real runs most like {told}", help=explain("evidence_nearest"))
    known = estimate.evidence
    if known is None or estimate.step_time_low_s is None or estimate.step_time_high_s is None:
        st.markdown("No errors are known of these constants, so this answer has no interval.")
        return
    limits = units.span(estimate.step_time_low_s, estimate.step_time_high_s)
    words = (
        f"A step takes {units.duration(estimate.step_time_s)}; nine of ten runs like it took {limits}, "
        f"by the errors on {units.plural(known['runs'], 'run')} of {units.plural(known['sources'], 'source')}. "
        f"The nearest is {known['distance']:.2f} away."
    )
    st.markdown(plain(words))
    rows = evidence.nearest_rows(estimate, validation)
    if rows:
        st.dataframe(rows, hide_index=True, height="content", alt="The real runs that are most like the scenario")


def _agreement(choices: Choices, validation: Validation, answer: Answer | None) -> None:
    """Predicted against measured, of all runs or of some."""
    st.markdown("##### Predicted and measured", help=explain("evidence_agreement"))
    error: InputError | None = None
    outcomes = validation.outcomes
    try:
        outcomes = evidence.chosen(validation.outcomes, _words(choices))
    except InputError as refused:
        error = refused
    said = Said(error=error, place=_ONLY if error else None)
    for column, field in zip(st.columns(3), FIELDS, strict=False):
        with column:
            control(field, choices, said)
    if error is not None:
        return
    _merit(outcomes)
    scheme = cast(Scheme, choices.text(_SCHEME))
    score = next(each.score for each in evidence.merit(outcomes) if each.name == scheme)
    grouping = choices.text(_BY)
    near = {run.id for run in evidence.nearest(answer.estimate)} if answer is not None else set[str]()
    drawn = figures.agreement(
        evidence.grouped(outcomes, grouping, _COLOURED), scheme, score, evidence.by_id(outcomes), near
    )
    number = units.plural(len(outcomes), "run")
    alt = f"Predicted against measured: {number}, median error {units.percent(score.median_abs_error)}"
    showing.figure(drawn, name="capsim-evidence-agreement", alt=alt, key="evidence.agreement")
    st.caption(explain("evidence_points"))
    _groups(evidence.scored(outcomes, grouping, scheme), grouping)
    _order(validation)
    _runs(outcomes, scheme)
    _reading()
    _left_out(validation)


def _words(choices: Choices) -> str | None:
    """What runs are looked for by."""
    words = choices[_ONLY]
    return None if words is None else str(words)


def _merit(outcomes: Sequence[Outcome]) -> None:
    """How far off they are together."""
    by_scheme = {each.name: each.score for each in evidence.merit(outcomes)}
    new, known, unfitted = (by_scheme[scheme] for scheme in SCHEMES)
    with st.container(horizontal=True):
        _metric("Runs", f"{new.rows:,}", "not fitted", "evidence_runs_scored")
        _metric("Median error", units.percent(new.median_abs_error), "new source", "evidence_median")
        _metric("Median error", units.percent(known.median_abs_error), "known stack", "evidence_known")
        _metric("Median error", units.percent(unfitted.median_abs_error), "nothing fitted", "evidence_unfitted")
        _metric("Bias", f"{100 * new.bias:+.1f} %", "new source", "evidence_bias")
        typical = f"x{new.low:.2f} to {new.high:.2f}"
        _metric("Coverage", units.percent(new.coverage_90), typical, "evidence_coverage")


def _metric(label: str, value: str, detail: str, term: str) -> None:
    """One score."""
    st.metric(
        label,
        value,
        delta=detail,
        delta_color="off",
        delta_arrow="off",
        help=explain(term),
        border=True,
        width=_WIDTH,
    )


def _groups(groups: Sequence[GroupScore], grouping: str) -> None:
    """How far off they are in each group, and how often the intervals hold."""
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown(f"##### Error by {grouping}", help=explain("evidence_errors"))
        showing.figure(
            figures.errors(groups), name="capsim-evidence-errors", alt=f"Error by {grouping}", key="evidence.errors"
        )
    with right:
        st.markdown("##### How often the interval holds", help=explain("evidence_coverage"))
        if groups[0].sure:
            drawn = figures.coverage(groups)
            showing.figure(drawn, name="capsim-evidence-coverage", alt="Coverage", key="evidence.coverage")
        else:
            st.markdown("Constants of the catalogue alone have no interval.")
    formats = dict.fromkeys(
        ("median error", "mean error", "90th percentile", "bias", "inside 90 %"),
        st.column_config.NumberColumn(format="%.1f %%"),
    )
    st.dataframe(
        evidence.score_rows(groups, grouping), hide_index=True, column_config=formats, alt=f"Scores by {grouping}"
    )


def _order(validation: Validation) -> None:
    """Whether predictions put plans into the order of their measured times."""
    st.markdown("##### Order of plans", help=explain("evidence_order"))
    percent = st.column_config.NumberColumn(format="%.1f %%")
    formats = dict.fromkeys(("mean regret", "median regret", "in order"), percent)
    rows = evidence.order_rows(validation)
    st.dataframe(rows, hide_index=True, column_config=formats, alt="How well predictions order plans")


def _runs(outcomes: Sequence[Outcome], scheme: Scheme) -> None:
    """Every run, for those who open the list."""
    box = st.expander(f"All {len(outcomes):,} runs, with their sources", on_change="rerun", key="evidence.list")
    if box.open:
        with box:
            st.dataframe(evidence.run_rows(outcomes, scheme), hide_index=True, alt="All runs")


def _reading() -> None:
    """How one run was read, priced or not, for those who open it."""
    box = st.expander("How a run is read", on_change="rerun", key="evidence.reading")
    if not box.open:
        return
    with box:
        words = st.text_input(
            "Runs with", key="evidence.find", placeholder="llama h100 megatron", help=explain("evidence_find")
        )
        names = published.matching(words)
        if not names:
            st.info("No run has all of these words in its model, device, software, source or name.")
            return
        name = st.selectbox(
            f"Run, one of {len(names):,}",
            names,
            index=None,
            placeholder="Choose a run by its name",
            key="evidence.read",
            help=explain("evidence_reading"),
        )
        if name is None:
            return
        run = runs.one_of(runs.shipped(), name)
        for line in evidence.read_words(run):
            st.markdown(plain(line))
        _open(run)
        st.dataframe(evidence.read_rows(run), hide_index=True, height="content", alt="How the run is read")


def _open(run: Run) -> None:
    """A button that opens a run on the first page, where the catalogue has its model and device."""
    try:
        chosen = published.opened(run)
    except InputError as error:
        st.caption(plain(str(error)))
        return
    st.button("Open in Plan", key="evidence.open", on_click=shell.send, args=("plan", chosen))


def _left_out(validation: Validation) -> None:
    """What is not in the scores, and memory."""
    with st.expander("Memory, and runs that are not scored"):
        for line in memory_lines(validation):
            st.markdown(plain(line))
        if validation.suspect:
            suspect = f"{len(validation.suspect)} runs contradict themselves or their neighbours and are not scored."
            st.markdown(plain(suspect))
        rows = [{"not priced because": why, "runs": number} for why, number in validation.refused.items()]
        st.dataframe(rows, hide_index=True, alt="Runs that are not priced")


def _share(choices: Choices, validation: Validation) -> None:
    """What takes the evidence elsewhere."""
    scheme = cast(Scheme, choices.text(_SCHEME))
    texts: tuple[tuple[str, str, Callable[[], str], str], ...] = (
        ("YAML", ".yaml", lambda: evidence.as_yaml(validation), "application/yaml"),
        ("CSV", ".csv", lambda: exports.as_csv(evidence.run_rows(validation.outcomes, scheme)), "text/csv"),
        ("JSON", ".json", lambda: exports.as_json(evidence.as_scores(validation)), "application/json"),
    )
    showing.share(
        python=evidence.PYTHON,
        command="capsim validate",
        files=tuple(showing.File(label, f"capsim-evidence{ending}", text, kind) for label, ending, text, kind in texts),
    )
