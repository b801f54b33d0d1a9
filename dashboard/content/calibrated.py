"""What the Calibrate page tells of a profile: errors, constants, programs and commands; pure, without streamlit."""

from __future__ import annotations

import json
import shlex
from typing import Any

import numpy as np

import simulator
from dashboard.content import exports
from dashboard.content.calibrating import Calibrated, CalibrateQuestion, Rows
from hardware import units
from hardware.measured import HeldOutScore
from simulator import MeasuredProfile
from simulator.profiling.comparison import PhaseRows
from simulator.profiling.constants import in_words
from simulator.profiling.in_words import PHASES


def headlines(profile: MeasuredProfile) -> list[HeldOutScore]:
    """How far off each kind of work is on rows that were held out: of each, the score of most rows."""
    phases = dict.fromkeys(score.phase for score in profile.held_out)
    return [
        max((score for score in profile.held_out if score.phase == phase), key=lambda each: each.scored)
        for phase in phases
    ]


def is_taken(score: HeldOutScore) -> bool:
    """Whether the fit that was scored stands in the profile, or the catalogue's constants do."""
    return score.constants == "fitted"


def error_of(score: HeldOutScore) -> float:
    """The median error of what estimates use: with the nearest shapes where a profile keeps them."""
    return score.median if score.with_residuals is None else score.with_residuals


def score_rows(profile: MeasuredProfile) -> list[dict[str, Any]]:
    """Errors on rows that were held out, as a table whose columns sort as numbers."""
    return [
        {
            "work": PHASES[score.phase],
            "rows": score.what,
            "fitted": score.fitted,
            "scored": score.scored,
            "catalogue": _percent(score.before),
            "constants alone": _percent(score.median),
            "near shapes": _percent(score.with_residuals),
            "9 of 10 below": _percent(score.p90),
            "of the sum": _percent(score.bias),
        }
        for score in profile.held_out
    ]


PERCENTAGES = ("catalogue", "constants alone", "near shapes", "9 of 10 below", "of the sum")
"""Columns of `score_rows` that are in percent."""


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share


def fitted_rows(calibrated: Calibrated) -> list[dict[str, str]]:
    """The constants that were fitted, beside the catalogue's."""
    return [
        {"of": told.of, "constant": told.what, "profile": told.value, "catalogue": told.before}
        for told in calibrated.constants
        if told.fitted
    ]


def borrowed(calibrated: Calibrated) -> dict[str, list[str]]:
    """What the measurements did not determine, or told worse than the catalogue, by the reason."""
    places: dict[str, list[str]] = {}
    for place, why in {**calibrated.profile.kept, **calibrated.profile.borrowed}.items():
        places.setdefault(why, []).append(in_words(place))
    return places


_KNOWN: dict[Rows, str] = {
    "fitted": "The profile was fitted to these rows: what it says of others stands above.",
    "kept": "The profile keeps these very shapes, so that only its constants alone can be off on them.",
    "others": "The profile was not fitted to these rows.",
}


_SAME = "The catalogue's constants stand for them: nothing that was measured gave better ones."


def errors_in_words(part: PhaseRows, predicted: str, rows: Rows) -> str:
    """How far off all rows of a kind of work are."""
    before, after = part.errors(part.before_s), part.errors(getattr(part, predicted))
    told = (
        f"{units.plural(len(part), 'row')}: the median error is {units.percent(after.median)} by the profile and "
        f"{units.percent(before.median)} by the catalogue; nine of ten are below {units.percent(after.p90)} and "
        f"{units.percent(before.p90)}."
    )
    same = np.array_equal(part.before_s, getattr(part, predicted))
    return f"{told} {_SAME if same else _KNOWN[rows]}"


def as_yaml(calibrated: Calibrated) -> str:
    """The profile as the file that every command takes."""
    return simulator.profile_text(calibrated.profile)


def as_errors(calibrated: Calibrated) -> dict[str, Any]:
    """All errors as plain values: on the rows at hand, and on those that were held out."""
    held_out = [score.model_dump(mode="json") for score in calibrated.profile.held_out]
    profile = calibrated.profile
    reasons = {"borrowed": profile.borrowed, "kept": profile.kept}
    return {**calibrated.comparison.to_dict(), "held_out": held_out, **reasons}


def as_python(asked: CalibrateQuestion) -> str:
    """A program that does the same."""
    files = [each.name for each in asked.rows]
    rows_of = {"rows_of": asked.rows_of} if asked.rows_of else {}
    named = asked.profile or next((each.name for each in asked.profiles), "")
    if asked.fits:
        device = {"device": asked.device} if asked.device else {}
        first = exports.as_call("simulator.calibrate", {"files": files, **device, **rows_of, "name": asked.file})
    else:
        first = exports.as_call("simulator.load_profile", {"name": named})
    argument = json.dumps(named) if named and not files else "profile"
    compared = [
        argument,
        *([json.dumps(files)] if files else []),
        *(f"{name}={json.dumps(word)}" for name, word in rows_of.items()),
    ]
    return exports.as_program(
        f"profile = {first}",
        f"comparison = simulator.compare_profile({', '.join(compared)})",
        'print(comparison.to_dict()["errors"])',
        "for score in profile.held_out:",
        "    print(score.what, score.median, score.with_residuals, score.before)",
    )


def as_command(asked: CalibrateQuestion) -> str:
    """The command that prints the same, as far as it does."""
    files = [shlex.quote(each.name) for each in asked.rows]
    if asked.fits:
        options = [("--device", asked.device), ("--rows-of", asked.rows_of)]
        words = [word for option, value in options if value for word in (option, shlex.quote(value))]
        return " ".join(["capsim calibrate", *files, *words, "-o", shlex.quote(asked.file)])
    shown = shlex.quote(asked.profile or asked.profiles[0].name)
    records = [shlex.quote(each.name) for each in asked.rows if each.kind == "record"]
    check = ["--check", records[0]] if records else []
    return " ".join(["capsim calibrate --profile", shown, *check])
