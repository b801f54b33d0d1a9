"""What the Calibrate page asks and lists: profiles fitted to uploads or shipped, beside what was measured; pure."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Literal, cast

import simulator
from dashboard.choices.scenario import BEST, field, offered
from dashboard.choices.state import Choices, Field, Value
from dashboard.choices.uploaded import Upload, is_uploaded, keep, stored, system_of
from dashboard.content import exports
from dashboard.content.answers import Kept, Tell, answer
from dashboard.content.evidence import Shared
from hardware import catalogue
from hardware.errors import InputError
from hardware.measured import Phase
from simulator import Comparison, MeasuredProfile
from simulator.profiling.comparison import WORDS, PhaseRows
from simulator.profiling.constants import Told
from simulator.profiling.tables import reading as tables

OPENING = "a100-sxm"
"""The profile that is shown where none speaks for the system at hand."""
SHIPPED, DO, DEVICE, ROWS = "calibrate_profile", "calibrate_do", "calibrate_device", "calibrate_rows"
PHASE, PRICED, ERRORS = "calibrate_phase", "calibrate_priced", "calibrate_errors"
FIT, CHECK = "fit", "check"
MOST_FILES = 8
"""That are read at once."""
BY_SIZE, HISTOGRAM = "by size", "histogram"
FIELDS = (
    Field(SHIPPED, "Profile", "choice", tuple(catalogue.names("profiles"))),
    Field(
        DO,
        "What to do with the files",
        "choice",
        (FIT, CHECK),
        default=FIT,
        labels=("fit a profile to them", "check the chosen profile against them"),
    ),
    Field(
        DEVICE, "Device that was measured", "choice", tuple(catalogue.names("devices")), example="as the record says"
    ),
    Field(ROWS, "Device as the table names it", "text", example="h200"),
    Field(PHASE, "Kind of work", "choice", tuple(WORDS), labels=tuple(WORDS.values())),
    Field(
        PRICED,
        "Profile prices by",
        "choice",
        ("after_s", "form_s"),
        default="after_s",
        labels=("constants and nearest shapes", "constants alone"),
    ),
    Field(ERRORS, "Errors", "choice", (BY_SIZE, HISTOGRAM), default=BY_SIZE),
)
BY_NAME = {each.name: each for each in FIELDS}
Rows = Literal["fitted", "kept", "others"]
"""A profile was fitted to some rows, keeps them as its shapes, or has never seen them."""


@dataclass(frozen=True)
class CalibrateQuestion:
    """What is asked; equal files make equal questions."""

    profile: str
    """One that is shipped, where files are not fitted."""
    uploads: tuple[Upload, ...] = ()
    device: str | None = None
    rows_of: str | None = None

    @property
    def profiles(self) -> tuple[Upload, ...]:
        """The profiles among the files."""
        return tuple(each for each in self.uploads if each.kind == "profile")

    @property
    def rows(self) -> tuple[Upload, ...]:
        """The records and tables among the files."""
        return tuple(each for each in self.uploads if each.kind != "profile")

    @property
    def fits(self) -> bool:
        """Whether a profile is fitted."""
        return bool(self.rows) and not self.profile and not self.profiles

    @property
    def file(self) -> str:
        """The file that a fitted profile becomes."""
        return f"{PurePath(self.rows[0].name.removesuffix('.gz')).stem}.yaml"


@dataclass(frozen=True)
class Calibrated:
    """A profile beside what was measured."""

    profile: MeasuredProfile
    comparison: Comparison
    constants: tuple[Told, ...]
    name: str
    """By which a scenario chooses the profile."""
    rows: Rows
    """What the profile knows of the rows."""

    @property
    def uploaded(self) -> bool:
        """Whether it lives in a session."""
        return is_uploaded(self.name)

    @property
    def file(self) -> str:
        """The file that it is downloaded as."""
        return exports.profile_file(self.profile)


_FOUND: Kept[Calibrated] = Kept(12)
_DEVICES: Kept[tuple[str, ...]] = Kept(32)


def usual(choices: Choices) -> str:
    """The profile that is shown unless one is chosen: one for the devices of the scenario at hand."""
    suiting = offered(field("profile"), choices.change({"profile": None})).options
    return next(iter(suiting), OPENING)


def question(choices: Choices, uploads: Sequence[Upload] = ()) -> CalibrateQuestion:
    """What is asked, without what has no part in it.

    Raises
    ------
    InputError
        Where files do not go together, or something must be chosen that they do not say.
    """
    if len(uploads) > MOST_FILES:
        raise InputError(f"{len(uploads)} files were uploaded; remove some, {MOST_FILES} are the most")
    asked = CalibrateQuestion(_text(choices, SHIPPED) or usual(choices), tuple(uploads))
    if len(asked.profiles) > 1:
        one, other = asked.profiles[:2]
        raise InputError(f"{other.name}: is a second profile beside {one.name}; remove one of them")
    if asked.profiles or (asked.rows and choices[DO] == FIT):
        asked = replace(asked, profile="")
    device = _text(choices, DEVICE) if asked.fits else None
    return replace(asked, device=device, rows_of=_rows_of(choices, asked, device))


def _rows_of(choices: Choices, asked: CalibrateQuestion, device: str | None) -> str | None:
    """The device as tables name it, where that has to be said."""
    tables_in = [each for each in asked.rows if each.kind == "table"]
    if not tables_in:
        return None
    named, chosen = devices_of(tables_in), _text(choices, ROWS)
    if asked.fits and device is None and len(tables_in) == len(asked.rows):
        raise InputError(f"{tables_in[0].name}: does not say which device it is of; choose it", fields=[DEVICE])
    own = device if asked.fits or not asked.profile else simulator.load_profile(asked.profile).device
    if chosen in named or own in named:
        return chosen if chosen in named else None
    if len(named) > 1 and own is not None:
        raise InputError(f"{tables_in[0].name}: has rows of {len(named)} devices; choose one of them", fields=[ROWS])
    return named[0] if len(named) == 1 else None


def _text(choices: Choices, name: str) -> str | None:
    """What is chosen, where anything is."""
    value = choices[name]
    return None if value is None else str(value)


def devices_of(uploads: Sequence[Upload]) -> tuple[str, ...]:
    """The devices of the tables among some files, as these name them.

    Raises
    ------
    InputError
        Where a file is no table, whatever its name says.
    """
    return tuple(sorted({name for each in uploads if each.kind == "table" for name in _devices(each)}))


def _devices(upload: Upload) -> tuple[str, ...]:
    """Those of one table."""

    def read() -> tuple[str, ...]:
        with stored([upload]) as (path,):
            return tables.devices(path)

    return _DEVICES.get(upload, read)


def is_known(asked: CalibrateQuestion) -> bool:
    """Whether the answer takes no time."""
    return _FOUND.knows(asked)


def find(asked: CalibrateQuestion, tell: Tell | None = None) -> Calibrated:
    """The profile that is asked for, beside what was measured.

    Parameters
    ----------
    asked
        What is asked.
    tell
        Called often with words on how far it is; what it raises ends the work.

    Raises
    ------
    InputError
        One sentence, with the file and what would be valid.
    """

    def compute() -> Calibrated:
        if tell is None:
            return _compute(asked, lambda _: None)
        work = Shared(lambda say: _compute(asked, say))
        try:
            return work.wait(tell)
        except BaseException:  # whoever waited went away
            work.stop()
            raise

    return _FOUND.get(asked, compute)


def _compute(asked: CalibrateQuestion, say: Tell) -> Calibrated:
    """Ask the public API."""
    if not asked.uploads:
        say(asked.profile)
        return _described(simulator.load_profile(asked.profile), simulator.compare_profile(asked.profile), asked)
    with stored(asked.uploads) as paths:
        files = [path for path, each in zip(paths, asked.uploads, strict=True) if each.kind != "profile"]
        say("the files are read")
        if asked.fits:
            profile = simulator.calibrate(
                files, device=asked.device, rows_of=asked.rows_of, name=asked.file, progress=say
            )
        else:
            own = next((path for path in paths if path not in files), None)
            profile = simulator.load_profile(own if own is not None else asked.profile)
        say("predictions beside what was measured")
        return _described(profile, simulator.compare_profile(profile, files, rows_of=asked.rows_of), asked)


def _described(profile: MeasuredProfile, comparison: Comparison, asked: CalibrateQuestion) -> Calibrated:
    """A profile with all that is told of it."""
    name = asked.profile
    if not name:
        name, profile = keep(profile)
    constants = simulator.profile_constants(profile)
    rows: Rows = "fitted" if asked.fits or not asked.uploads else "others" if asked.rows else "kept"
    return Calibrated(profile, comparison, constants, name, rows)


def part_of(calibrated: Calibrated, choices: Choices) -> tuple[Phase, PhaseRows | None]:
    """The kind of work that is drawn, and its rows, if anything was measured of it."""
    parts = calibrated.comparison.parts
    first: Phase = next(iter(parts), "gemm")
    chosen = cast(Phase, choices[PHASE]) if choices[PHASE] is not None else first
    return chosen, parts.get(chosen)


def sent(calibrated: Calibrated, choices: Choices) -> dict[str, Value | None]:
    """What to choose so that a scenario uses a profile.

    A plain host of its device where it says nothing of the system at hand, and a number format that was measured where
    another would be usual.
    """
    profile = calibrated.profile
    values: dict[str, Value | None] = {"profile": calibrated.name, BEST: False}
    suiting = offered(field("profile"), choices.change({"profile": None}), [calibrated.name])
    if calibrated.name not in suiting.options:
        values |= {"system": system_of(calibrated.name, profile), "devices": None, "stack": None}
    if choices["precision"] is None and profile.fitted:
        with suppress(InputError):  # what else is wrong is said where it is asked
            usual_format = answer(choices.change(values)).estimate.plan["precision"]
            values |= {} if usual_format in profile.fitted else {"precision": profile.fitted[-1]}
    return values
