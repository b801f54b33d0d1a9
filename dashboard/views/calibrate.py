"""What was measured beside what is predicted: profiles that come with capsim, and those made of one's own records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import streamlit as st

from dashboard import session, shell, showing
from dashboard.choices.scenario import fields
from dashboard.choices.state import Choices, opening
from dashboard.choices.uploaded import ENDINGS, NOTE, Upload, has
from dashboard.content import calibrated, calibrating, exports
from dashboard.content.calibrating import BY_NAME, FIELDS, Calibrated, CalibrateQuestion
from dashboard.content.glossary import explain
from dashboard.controls import Said, control
from dashboard.figures import calibrate as figures
from dashboard.lasting import known, work
from dashboard.showing import File, complain, plain
from hardware import units
from hardware.errors import InputError
from hardware.measured import HeldOutScore
from simulator.pricing.measured import device_of
from simulator.profiling.comparison import WORDS, PhaseRows
from simulator.profiling.in_words import PHASES

__all__ = ["FIELDS", "page", "prepare"]

_UPLOADS, _WIDGET = "capsim.uploads", "calibrate.files"
_MOST = 20
"""Size of one file [MB]."""
_WIDTH = 150
"""Of one figure of the answer; two of them stand beside each other on a narrow screen [pixels]."""
_TABLE = 300
"""Height of a table [pixels]."""


def prepare() -> None:
    """Compute what the page opens on."""
    choices = opening((*fields(), *FIELDS))
    result = calibrating.find(calibrating.question(choices))
    _, part = calibrating.part_of(result, choices)
    if part is not None:
        figures.agreement(part, choices.text(calibrating.PRICED))


def page(choices: Choices) -> None:
    """Show how a profile is made or chosen: measured against predicted, held-out errors, constants."""
    uploads = _uploads()
    asked, result, error = _answered(choices, uploads)
    _controls(choices, uploads, error)
    if asked is not None and result is None and error is None:
        work("Reading and fitting" if asked.uploads else "Comparing", asked, lambda tell: calibrating.find(asked, tell))
    elif asked is not None and result is not None:
        _shown(choices, asked, result)


def _answered(
    choices: Choices, uploads: Sequence[Upload]
) -> tuple[CalibrateQuestion | None, Calibrated | None, InputError | None]:
    """What is asked, the answer where it is known, and what is wrong."""
    try:
        asked = calibrating.question(choices, uploads)
    except InputError as refused:
        return None, None, refused
    result, error = known(asked, lambda: calibrating.find(asked), ready=calibrating.is_known(asked))
    return asked, result, error


def _uploads() -> tuple[Upload, ...]:
    """The files that the session has."""
    held: tuple[Upload, ...] = st.session_state.get(_UPLOADS, ())
    return held


def _take() -> None:
    """Take over what the uploader holds."""
    st.session_state[_UPLOADS] = tuple(Upload.of(file.name, file.getvalue()) for file in st.session_state[_WIDGET])
    session.choose({calibrating.DEVICE: None, calibrating.ROWS: None})


def _remove() -> None:
    """Go back to the profiles that come with capsim."""
    st.session_state[_UPLOADS] = ()
    session.choose({calibrating.DEVICE: None, calibrating.ROWS: None})


def _controls(choices: Choices, uploads: Sequence[Upload], error: InputError | None) -> None:
    """Which profile, or which files; what is wrong stands beside its control, below the files where it is of them."""
    place = next((name for name in error.fields if name in BY_NAME), None) if error is not None else None
    said = Said(error=error, place=place, filled={calibrating.SHIPPED: calibrating.usual(choices)})
    left, right = st.columns([2, 3], gap="medium")
    with left:
        checks = has(uploads, "record", "table") and choices[calibrating.DO] == calibrating.CHECK
        if not has(uploads, "profile") and (checks or not uploads):
            control(BY_NAME[calibrating.SHIPPED], choices, said)
        if has(uploads, "record", "table"):
            _about_files(choices, uploads, said)
    with right:
        st.file_uploader(
            "Your own record, table or profile",
            type=list(ENDINGS),
            accept_multiple_files=True,
            key=_WIDGET,
            on_change=_take,
            help=explain("calibrate_files"),
            max_upload_size=_MOST,
        )
        _held(uploads)
        if error is not None and place is None:
            complain(str(error))


def _held(uploads: Sequence[Upload]) -> None:
    """What becomes of files, and those that are held after a visit of another page."""
    if not uploads:
        st.caption("Files are read in memory, as data only; they are not stored on disk, nor in any link.")
        return
    if not st.session_state.get(_WIDGET):  # a visit of another page empties the uploader
        names = ", ".join(f"{each.name} ({units.size(len(each.content))})" for each in uploads)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f":material/upload_file: {plain(names)}", width="content")
            st.button("Remove", key="calibrate.remove", on_click=_remove)
    st.caption(f"{NOTE} Nothing of it is kept on disk.")


def _about_files(choices: Choices, uploads: Sequence[Upload], said: Said) -> None:
    """What to do with records and tables, and what these do not say themselves."""
    if not has(uploads, "profile"):
        control(BY_NAME[calibrating.DO], choices, said)
        if choices[calibrating.DO] == calibrating.FIT:
            words = "as the record says" if has(uploads, "record") else "choose one"
            control(replace(BY_NAME[calibrating.DEVICE], example=words), choices, said)
    try:
        named = calibrating.devices_of(uploads)
    except InputError:  # said where the files are read
        return
    if named:
        own = replace(BY_NAME[calibrating.ROWS], kind="choice", options=named, example="as the device is called")
        chosen = choices[calibrating.ROWS]
        control(own, choices if chosen in named else choices.change({calibrating.ROWS: None}), said)


def _shown(choices: Choices, asked: CalibrateQuestion, result: Calibrated) -> None:
    """What was found."""
    profile, comparison = result.profile, result.comparison
    st.subheader(plain(profile.title), anchor=False)
    st.caption(plain(f"{device_of(profile).name}. {profile.source}"))
    _headlines(calibrated.headlines(profile))
    _use(choices, result)
    showing.answer_first()
    phase, part = calibrating.part_of(result, choices)
    st.markdown("##### Measured against predicted", help=explain("calibrate_rows_drawn"))
    _choose(choices, WORDS[phase])
    if part is None:
        st.info(plain(f"No {WORDS[phase]} to compare: none that is priced is among {comparison.rows_of}."))
    else:
        _drawn(choices, result, part)
    _held_out(result)
    _constants(result)
    _left_out(result)
    _share(asked, result)


def _headlines(scores: Sequence[HeldOutScore]) -> None:
    """How far off each kind of work is on rows that were held out."""
    if not scores:
        st.info("Too little was measured to hold any of it out, so that no error of this profile is known.")
        return
    with st.container(horizontal=True, gap="small"):
        for score in scores:
            before = "" if score.before is None else f"catalogue {units.percent(score.before)}"
            taken = calibrated.is_taken(score)
            error = calibrated.error_of(score) if taken else score.before or score.median
            st.metric(
                PHASES[score.phase].capitalize(),
                units.percent(error),
                delta=before if taken else "catalogue's, no fit",
                delta_color="off",
                delta_arrow="off",
                help=explain("calibrate_held_out"),
                width=_WIDTH,
            )


def _use(choices: Choices, result: Calibrated) -> None:
    """What to do with the profile."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Use in Plan",
            key="calibrate.use",
            icon=":material/speed:",
            help=explain("calibrate_use"),
            on_click=_choose_profile,
            args=(choices, result),
        )
        file = _profile_file(result)
        st.download_button(
            "Download the profile",
            file.text,
            file.name,
            file.kind,
            key="calibrate.profile",
            icon=":material/download:",
            on_click="ignore",
        )


def _choose_profile(choices: Choices, result: Calibrated) -> None:
    """Let the scenario use the profile."""
    if result.uploaded:
        session.hold(result.name, result.profile)
    shell.send("plan", calibrating.sent(result, choices))


def _choose(choices: Choices, first: str) -> None:
    """What is drawn, and how."""
    names = (calibrating.PHASE, calibrating.PRICED, calibrating.ERRORS)
    said = Said(filled={calibrating.PHASE: first})
    for column, name in zip(st.columns(3), names, strict=True):
        with column:
            control(BY_NAME[name], choices, said)


def _drawn(choices: Choices, result: Calibrated, part: PhaseRows) -> None:
    """Rows of one kind of work."""
    priced = choices.text(calibrating.PRICED)
    st.markdown(plain(calibrated.errors_in_words(part, priced, result.rows)))
    said, kind = figures.alt(part, priced), result.comparison.profile
    left, right = st.columns(2, gap="medium")
    with left:
        showing.figure(
            figures.agreement(part, priced),
            name=f"capsim-calibrate-{kind}-{part.phase}",
            alt=f"Measured against predicted. {said}",
            key="calibrate.agreement",
        )
    with right:
        by_size = choices[calibrating.ERRORS] == calibrating.BY_SIZE
        showing.figure(
            figures.by_size(part, priced) if by_size else figures.histogram(part, priced),
            name=f"capsim-calibrate-{kind}-{part.phase}-errors",
            alt=f"Errors. {said}",
            key="calibrate.errors",
        )
    rows = f"Rows of {result.comparison.rows_of}."
    some = f" {figures.MOST:,} of them are drawn, evenly by size." if len(part) > figures.MOST else ""
    steps = (
        " Kernels are priced as they run inside training steps."
        if result.profile.stacks and part.phase != "step"
        else ""
    )
    st.caption(plain(f"{rows}{some}{steps}"))


def _held_out(result: Calibrated) -> None:
    """The errors on rows that a fit had not seen."""
    rows = calibrated.score_rows(result.profile)
    if not rows:
        return
    st.markdown("##### Errors on rows that were held out", help=explain("calibrate_held_out"))
    formats = dict.fromkeys(calibrated.PERCENTAGES, st.column_config.NumberColumn(format="%.1f %%"))
    st.dataframe(
        rows,
        hide_index=True,
        column_config=formats,
        height=min(_TABLE, 38 + 35 * len(rows)),
        placeholder="",
        alt="Errors of each kind of work on rows that were held out",
    )


def _constants(result: Calibrated) -> None:
    """What was fitted, and what was borrowed."""
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("##### What was fitted", help=explain("calibrate_fitted"))
        rows = calibrated.fitted_rows(result)
        if rows:
            st.dataframe(rows, hide_index=True, height=min(_TABLE, 38 + 35 * len(rows)), alt="What was fitted")
        else:
            st.markdown("Nothing.")
    with right:
        st.markdown("##### What was not measured, and why", help=explain("calibrate_borrowed"))
        borrowed = calibrated.borrowed(result)
        with st.container(height=_TABLE, border=True):
            for why, names in borrowed.items():
                st.markdown(plain(f"{'; '.join(names)}"))
                st.caption(plain(why))
            if not borrowed:
                st.markdown("Nothing.")


def _left_out(result: Calibrated) -> None:
    """Rows that are not compared."""
    if result.comparison.left_out:
        with st.expander("Rows that are not compared", expanded=not result.comparison.parts):
            rows = [{"rows": number, "why": why} for why, number in result.comparison.left_out.items()]
            st.dataframe(rows, hide_index=True, alt="Rows that are not compared")


def _profile_file(result: Calibrated) -> File:
    """The profile itself."""
    return File("YAML of the profile", result.file, lambda: calibrated.as_yaml(result), "application/yaml")


def _share(asked: CalibrateQuestion, result: Calibrated) -> None:
    """What takes the answer elsewhere."""
    name = f"capsim-calibrate-{result.comparison.profile}"
    texts: tuple[tuple[str, str, Callable[[], str], str], ...] = (
        ("CSV of the rows", ".csv", lambda: exports.as_csv(result.comparison.to_rows()), "text/csv"),
        ("JSON of the errors", ".json", lambda: exports.as_json(calibrated.as_errors(result)), "application/json"),
    )
    files = tuple(File(label, f"{name}{ending}", text, kind) for label, ending, text, kind in texts)
    showing.share(
        python=calibrated.as_python(asked), command=calibrated.as_command(asked), files=(_profile_file(result), *files)
    )
