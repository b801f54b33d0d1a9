"""What the Rent page asks: which systems, how many devices, to finish by a date or within a budget; pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

import simulator
from dashboard.choices.scenario import BEST, arguments, fields
from dashboard.choices.state import Choices, Field, Value
from dashboard.content import exports
from dashboard.content.answers import Kept, Tell, in_words
from dashboard.content.searching import sent
from hardware import catalogue, units
from simulator import Option, Outlook, Refused
from simulator.renting.rent import KINDS, sources

_DAYS = (1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 90, 120, 180)
_ANY = "any"
_DEADLINES = {
    **{f"{hours}h": f"{hours} h" for hours in (1, 3, 6, 12)},
    **{f"{days}d": f"{days} day{'s' if days > 1 else ''}" for days in _DAYS},
    **{f"{365 * years}d": f"{years} year{'s' if years > 1 else ''}" for years in (1, 2, 5)},
    _ANY: "any time",
}
_AMOUNTS = [digit * 10.0**power for power in range(1, 9) for digit in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)]
_BUDGETS = {f"{amount:.0f}": units.money(amount).replace(".00", "") for amount in _AMOUNTS} | {_ANY: "any price"}
_CHANCES = {f"{percent}": f"{percent} %" for percent in (50, 60, 70, 80, 90, 95, 99)}
LIMITS = (
    Field("rent_deadline", "Deadline", "level", tuple(_DEADLINES), "7d", labels=tuple(_DEADLINES.values())),
    Field("rent_budget", "Budget", "level", tuple(_BUDGETS), "1500", labels=tuple(_BUDGETS.values())),
    Field("rent_chance", "Chance to keep them", "level", tuple(_CHANCES), "80", labels=tuple(_CHANCES.values())),
)
"""Judge what was found, without a search."""
ASKED = (
    Field("rent_systems", "Systems", "several", tuple(catalogue.names("systems")), example="all of the catalogue"),
    Field("rent_most", "Devices at most", "whole", default=512),
    Field("rent_price", "Whose prices", "choice", tuple(sources()), example="cheapest on demand"),
    Field("rent_where", "Conditions on plans", "text", example="tp<=8,pp=1"),
)
LISTED = Field("rent_listed", "List", "choice", ("not beaten", "within the limits", "all"), default="not beaten")
FIELDS = (*LIMITS, *ASKED, LISTED)
PLACES = {
    "systems": "rent_systems",
    "max_devices": "rent_most",
    **dict.fromkeys(("price_source", "price_kind", "price"), "rent_price"),
    "where": "rent_where",
}
"""The fields of the page by what the API calls them."""
WITHOUT = ("system", "devices", "price", "price_kind", "purchase_price", "lifetime", "electricity")
"""Fields of a scenario that mean nothing here."""
_OUTLOOKS: Kept[Outlook] = Kept(8)
_JUDGED: Kept[Outlook] = Kept(64)


def question(choices: Choices) -> Choices:
    """What of the choices a search depends on."""
    return choices.change(dict.fromkeys(WITHOUT)).only((*fields(), *ASKED))


def limits(choices: Choices) -> dict[str, Any]:
    """Deadline, budget and chance, as `simulator.rent` takes them."""
    deadline, budget = choices.text("rent_deadline"), choices.text("rent_budget")
    wanted = {
        "deadline": None if deadline == _ANY else deadline,
        "budget": None if budget == _ANY else float(budget),
        "confidence": float(choices.text("rent_chance")) / 100.0,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def keywords(choices: Choices) -> dict[str, Any]:
    """What `simulator.rent` takes for the choices, without the limits."""
    inside = {"purchase_price": None, "lifetime": None, "electricity": None, "price": None, "price_kind": None}
    scenario = arguments(choices.change({**inside, "devices": None}))
    del scenario["system"]
    systems = choices["rent_systems"]
    wishes = {
        "systems": None if systems is None else str(systems).split(","),
        "max_devices": choices["rent_most"],
        "price_source": choices["rent_price"],
        "where": choices["rent_where"],
        "every_plan": True if choices[BEST] else None,
    }
    return {**scenario, **{name: value for name, value in wishes.items() if value is not None}}


def find(choices: Choices, tell: Tell | None = None, seen: Callable[[Option | Refused], None] | None = None) -> Outlook:
    """What `simulator.rent` says under the limits that are chosen, or the `InputError` that it raises.

    Parameters
    ----------
    choices
        Of the scenario and of the page.
    tell
        Told how far it is.
    seen
        Given what was found, as soon as it is.
    """
    progress = in_words(tell, lambda done, of: f"{done:,} of {of:,} systems and numbers of devices")
    asked = question(choices)
    every = _OUTLOOKS.get(asked, lambda: simulator.rent(**keywords(choices), progress=progress, seen=seen))
    return _JUDGED.get((asked, choices.only(LIMITS)), lambda: _under(every, choices))


def judged(choices: Choices, seen: Sequence[Option | Refused]) -> Outlook:
    """What to make of what was seen until now, under the limits that are chosen."""
    return _under(Outlook.of(seen), choices)


def _under(outlook: Outlook, choices: Choices) -> Outlook:
    """Options under the limits that are chosen; limits say nothing where nobody knows how long the run is."""
    wishes = limits(choices)
    return outlook.within(**wishes if outlook.known_length else {"confidence": wishes["confidence"]})


def is_known(choices: Choices) -> bool:
    """Whether the search was made before, so that limits only judge what it found."""
    return _OUTLOOKS.knows(question(choices))


def listed(outlook: Outlook, which: str) -> list[Option]:
    """The options of the table.

    Parameters
    ----------
    outlook
        What was found.
    which
        Those that are ``not beaten``, those ``within the limits`` or ``all``.
    """
    if which == "not beaten":
        return list(outlook.front)
    return [option for option in outlook.options if which == "all" or outlook.keeps(option)]


def opened(choices: Choices, option: Option) -> dict[str, Value | None]:
    """What to choose so that a scenario becomes an option, at the same price."""
    source = choices["rent_price"]
    price = {"price_kind": source, "price": None} if source in KINDS else {"price_kind": None, "price": source}
    free = dict.fromkeys(("purchase_price", "lifetime", "electricity"))
    return {"system": option.system, "devices": option.devices, **sent(option.estimate.plan), **price, **free}


def as_python(choices: Choices) -> str:
    """A program that says the same."""
    return exports.as_program(
        f"outlook = {exports.as_call('simulator.rent', {**keywords(choices), **limits(choices)})}",
        "for option in outlook.front:",
        "    print(option.system, option.devices, option.time_s, option.cost_usd, outlook.chances(option))",
    )


def as_command(choices: Choices) -> str:
    """The command that says the same."""
    asked = {**keywords(choices), **limits(choices)}
    words = [f"--systems {','.join(asked['systems'])}"] if "systems" in asked else []
    for name in ("max_devices", "price_source", "where", "deadline", "budget", "confidence"):
        if name in asked:
            value = asked[name]
            text = f"{value:.15g}" if isinstance(value, float) else str(value)
            words.append(f"--{name.replace('_', '-')} {shlex.quote(text)}")
    words += ["--every-plan"] if "every_plan" in asked else []
    scenario = exports.scenario_words(choices.change(dict.fromkeys(WITHOUT)))
    return f"capsim rent {scenario} {' '.join(words)}"
