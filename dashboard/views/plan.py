"""The first page: what one run takes, what limits it, and what would help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboard import session, showing
from dashboard.choices.scenario import field, fields, has_upload
from dashboard.choices.state import Choices, Field, opening
from dashboard.choices.uploaded import NOTE, title_of
from dashboard.content import answers, exports
from dashboard.content.answers import Answer
from dashboard.content.glossary import explain
from dashboard.controls import ask
from dashboard.figures import plan as figures
from dashboard.figures.basis import basis
from dashboard.launching import launch_box
from dashboard.showing import PER_TOKENS, plain
from hardware import units
from simulator import Estimate, Improvement
from simulator.answers.long_run import matters
from simulator.terminal.estimate import fits_briefly, memory_words, plan_in_words

FIELDS: tuple[Field, ...] = ()
_WIDTH = 132
"""Of one figure of the answer: six fit a wide screen, two a narrow one [pixels]."""
_SMALL = 0.005
"""Share of a step below which a kind of work is not named."""

_TERMS = {"memory": "memory.bar"}
"""Figures that are not called as their explanation."""


def prepare() -> None:
    """Compute what the page opens on, and all that is drawn of it."""
    choices = opening(fields())
    answer = answers.answer(choices)
    _figures(choices, answer)
    answers.improvements(choices, answer)


def page(choices: Choices) -> None:
    """Show one estimate: its figures, parts of a step, memory, roofline, improvements and sources."""
    answer = ask(choices)
    if answer is None:
        return
    estimate = answer.estimate
    devices = units.plural(estimate.devices, "device")
    unfit = "" if estimate.fits else ": does not fit"
    st.subheader(plain(f"{estimate.model} on {estimate.system}, {devices}{unfit}"), anchor=False)
    st.caption(plain(plan_in_words(estimate)))
    _answer(estimate)
    showing.say_length([estimate.run])
    for warning in estimate.warnings:
        st.warning(plain(warning))
    showing.answer_first()
    drawn = _figures(choices, answer)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _shown(
            "Where a step goes", "waterfall", drawn, choices, f"The step takes {units.duration(estimate.step_time_s)}"
        )
    with right:
        _limits(estimate)
        _help(choices, answer)
        if estimate.basis:
            _rests_on(choices, estimate)
    left, right = st.columns(2, gap="medium")
    with left:
        _shown("Memory per device", "memory", drawn, choices, _fits(estimate))
    with right:
        _shown("Operators under the roofline", "roofline", drawn, choices, f"Most time goes to {estimate.limited_by}")
    _more(choices, answer)
    launch_box(lambda: answer, what="this run")
    _share(choices, answer)


def _figures(choices: Choices, answer: Answer) -> dict[str, Any]:
    """The figures of the page."""
    return {
        "waterfall": figures.waterfall(answer.estimate),
        "memory": figures.stage_memory(answers.stages(choices, answer)),
        "roofline": figures.roofline(answers.roofline(choices, answer)),
    }


def _shown(title: str, name: str, drawn: dict[str, Any], choices: Choices, alt: str) -> None:
    """A figure with its title and what it means."""
    st.markdown(f"##### {title}", help=explain(_TERMS.get(name, name)))
    showing.figure(drawn[name], name=exports.file_name(choices, "", kind=name), alt=f"{title}. {alt}", key=name)


def _answer(estimate: Estimate) -> None:
    """The answer itself."""
    run, memory = estimate.run, estimate.memory_bytes
    interval = "interval not known"
    if estimate.step_time_low_s is not None and estimate.step_time_high_s is not None:
        interval = units.span(estimate.step_time_low_s, estimate.step_time_high_s)
    told = matters(run.time_s, run.expected_time_s)
    expected = "never ends with failures" if run.expected_time_s is None else units.duration(run.expected_time_s)
    cost = "no price" if run.cost_usd is None else units.money(run.cost_usd)
    rate = "" if run.cost_usd is None else f"${run.cost_usd / run.device_hours:,.2f}/h per device"
    whole = run.of == "run"
    steps = units.plural(run.steps, "step") if whole else PER_TOKENS
    rate = rate if whole else f"{PER_TOKENS}, {rate}" if rate else PER_TOKENS
    with st.container(horizontal=True, gap="small"):
        _metric("Step time", units.duration(estimate.step_time_s), interval, "step_time")
        _metric(
            "Time to train" if whole else "Time",
            units.duration(run.time_s),
            f"{expected} expected" if told and whole else steps,
            "time_to_train",
        )
        _metric("Cost", cost, rate, "cost")
        _metric("Energy", units.energy(run.energy_kwh), f"{units.mass(run.co2_kg)} CO2e", "energy")
        _metric("MFU", units.percent(estimate.mfu), f"{units.count(estimate.tokens_per_s)} tokens/s", "mfu")
        colour = "green" if estimate.fits_as_wished else "off" if estimate.fits else "red"
        _metric("Memory", units.size(memory["total"]), _fits(estimate), "memory", colour=colour)
    st.caption(plain(f"{memory_words(estimate)[0].upper()}{memory_words(estimate)[1:]}."))


def _metric(label: str, value: str, detail: str, term: str, *, colour: str = "off") -> None:
    """One figure of the answer."""
    st.metric(
        label,
        value,
        delta=detail or None,
        delta_color=colour,  # type: ignore[arg-type]
        delta_arrow="off",
        help=explain(term),
        width=_WIDTH,
    )


def _fits(estimate: Estimate) -> str:
    """Whether it fits, and how surely."""
    return fits_briefly(estimate)


def _limits(estimate: Estimate) -> None:
    """What limits the step."""
    st.markdown("##### What limits it", help=explain("limited_by"))
    with st.container(gap="xsmall"):
        for number, (kind, share) in enumerate(estimate.limits.items()):
            if share >= _SMALL:
                strong = "**" if number == 0 else ""
                st.markdown(f"{strong}{plain(units.percent(share))} {kind}{strong}", help=explain(kind))


def _help(choices: Choices, answer: Answer) -> None:
    """Which single changes would help most, each a button that makes it."""
    listed = answers.improvements(choices, answer)
    title = "What would help most" if answer.estimate.fits_as_wished else "What would make it fit"
    st.markdown(f"##### {title}", help=explain("improvements"))
    if not listed:
        st.markdown("No single change of plan or stack helps on these devices.")
        return
    with st.container(gap="xsmall"):
        for change in listed:
            label = _change(change, answer.estimate)
            st.button(label, key=f"apply.{change.field}", width="stretch", on_click=_apply, args=(choices, change))
        st.caption("Press one to apply it.")


def _rests_on(choices: Choices, estimate: Estimate) -> None:
    """Show the basis of the step time: the share of each tier of the measured profile."""
    st.markdown("##### Basis of the estimate", help=explain("basis"))
    showing.figure(
        basis(estimate),
        name=exports.file_name(choices, "", kind="basis"),
        alt="Share of the step by its basis",
        key="basis",
    )
    st.caption(plain(f"Measured profile: {title_of(choices.text('profile'))}."))
    if has_upload(choices):
        st.caption(NOTE)


def _apply(choices: Choices, change: Improvement) -> None:
    """Choose what an improvement changes."""
    session.choose(answers.applied(choices, change))


def _change(change: Improvement, now: Estimate) -> str:
    """An improvement in words."""
    known = field(change.field)
    before, after = (known.write(value) for value in (change.before, change.value))
    faster = f"{units.percent(abs(1.0 - change.time_ratio))} {'faster' if change.time_ratio < 1.0 else 'slower'}"
    held = units.size(change.memory_bytes)
    chance = units.chance(change.fits_probability)
    effect = faster if now.fits_as_wished else f"{held}, fits: {chance}, {faster}"
    return f"**{known.label}** {plain(f'{before} → {after}')}: {plain(effect)}"


def _more(choices: Choices, answer: Answer) -> None:
    """What not everybody asks, computed when it is opened."""
    box = st.expander("What moves it most: every lever halved and doubled", on_change="rerun", key="levers")
    if box.open:
        with box:
            drawn = figures.levers(answers.levers(choices, answer))
            showing.figure(drawn, name=exports.file_name(choices, "", kind="levers"), alt="Levers", key="levers.figure")
    table = st.expander("Every operator in numbers", on_change="rerun", key="operators")
    if table.open:
        with table:
            st.dataframe(figures.operator_rows(answers.roofline(choices, answer)), hide_index=True)
    estimate = answer.estimate
    with st.expander("What was assumed, and where figures come from"):
        st.markdown("\n".join(f"- {plain(line)}" for line in estimate.assumed))
        if estimate.evidence is not None:
            runs = units.plural(estimate.evidence["runs"], "real run")
            sources = units.plural(estimate.evidence["sources"], "source")
            nearest = ", ".join(estimate.evidence["nearest"])
            st.markdown(plain(f"Basis of the interval: {runs} of {sources}; nearest: {nearest}."))
        st.caption("\n".join(f"- {plain(line)}" for line in estimate.sources))


def _share(choices: Choices, answer: Answer) -> None:
    """What takes the answer elsewhere."""
    estimate = answer.estimate
    texts: tuple[tuple[str, str, Callable[[], str], str], ...] = (
        ("YAML", ".yaml", lambda: exports.as_yaml(choices, answer), "application/yaml"),
        ("CSV", ".csv", lambda: exports.as_csv(exports.figures_of(estimate)), "text/csv"),
        ("JSON", ".json", lambda: exports.as_json(estimate.to_dict()), "application/json"),
    )
    showing.share(
        python=exports.as_python(choices),
        command=exports.as_command(choices),
        files=tuple(
            showing.File(label, exports.file_name(choices, ending), text, kind) for label, ending, text, kind in texts
        ),
    )
