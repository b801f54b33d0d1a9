"""What the Scale page asks: the same run on more and more devices; pure, without streamlit."""

from __future__ import annotations

import shlex
from typing import Any

import simulator
from dashboard.choices.scenario import BEST, arguments, fields
from dashboard.choices.state import Choices, Field, Value
from dashboard.content import exports
from dashboard.content.answers import Kept, Tell, in_words
from dashboard.content.searching import sent
from simulator import Scaling
from simulator.renting.scaling import ScalePoint

FIELDS = (
    Field("scale_batch", "Batch", "choice", ("stays", "grows with the devices"), default="stays"),
    Field("scale_most", "Devices at most", "whole", default=4096),
    Field("scale_where", "Conditions on plans", "text", example="tp<=8,pp=1"),
)
PLACES = {"max_devices": "scale_most", "where": "scale_where"}
"""The fields of the page by what the API calls them."""
OPEN = "dp"
"""Follows from the number of devices, so that what is chosen of it elsewhere does not hold here."""
_SCALINGS: Kept[Scaling] = Kept(32)


def question(choices: Choices) -> Choices:
    """What of the choices the answer depends on."""
    return choices.change({OPEN: None}).only((*fields(), *FIELDS))


def keywords(choices: Choices) -> dict[str, Any]:
    """What `simulator.scale` takes for the choices."""
    wishes = {
        "kind": "weak" if choices["scale_batch"] != "stays" else None,
        "max_devices": choices["scale_most"],
        "where": choices["scale_where"],
        "every_plan": True if choices[BEST] else None,
    }
    known = {name: value for name, value in wishes.items() if value is not None}
    return {**arguments(choices.change({OPEN: None})), **known}


def find(choices: Choices, tell: Tell | None = None) -> Scaling:
    """What `simulator.scale` says, or the `InputError` that it raises."""
    progress = in_words(tell, lambda done, of: f"{done} of {of} numbers of devices")
    return _SCALINGS.get(question(choices), lambda: simulator.scale(**keywords(choices), progress=progress))


def is_known(choices: Choices) -> bool:
    """Whether the answer was computed before."""
    return _SCALINGS.knows(question(choices))


def opened(scaling: Scaling, point: ScalePoint) -> dict[str, Value | None]:
    """What to choose so that a scenario becomes one of the points."""
    values = {"devices": point.devices, **sent(point.estimate.plan)}
    return values | ({"global_batch": point.estimate.workload["global_batch"]} if scaling.kind == "weak" else {})


def as_python(choices: Choices) -> str:
    """A program that says the same."""
    return exports.as_program(
        f"scaling = {exports.as_call('simulator.scale', keywords(choices))}",
        "print(scaling.reference, scaling.halved_at)",
        "for point in scaling.points:",
        "    print(point.devices, point.estimate.tokens_per_s, point.efficiency, point.estimate.limits)",
    )


def as_command(choices: Choices) -> str:
    """The command that says the same."""
    asked = keywords(choices)
    words = [f"--max-devices {asked['max_devices']}"]
    words += ["--weak"] if "kind" in asked else []
    words += ["--where " + shlex.quote(asked["where"])] if "where" in asked else []
    words += ["--every-plan"] if "every_plan" in asked else []
    return f"capsim scale {exports.scenario_words(choices.change({OPEN: None}))} {' '.join(words)}"
