"""What the Search page asks and lists: the best plans, those that no other beats, the fastest by degrees; pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import simulator
from dashboard.choices.scenario import BEST, arguments, fields
from dashboard.choices.state import Choices, Field, Value
from dashboard.content import exports
from dashboard.content.answers import Kept, Tell, in_words
from hardware import units
from simulator import Estimate, Search
from simulator.plan_search.safety import RANKS
from simulator.plan_search.searching import PLAN_FIELDS
from simulator.plan_search.table import AXES_OF_TABLES
from simulator.terminal.search import plan_words

FRONTS = {"time": "time of a step", "cost": "cost of the run", "energy": "energy of the run"}
"""What memory is weighed against."""
_ASKED = (
    Field("search_best", "Best by", "choice", ("time", "cost", "energy", "memory"), default="time"),
    Field("search_rank", "Ranked by", "choice", RANKS, default="safe"),
    Field("search_chance", "Chance of staying below", "text", example="70%"),
    Field("search_where", "Conditions", "text", example="tp<=8,pp=1"),
    Field("search_free", "Memory that stays free", "text", example="10%"),
    Field("search_deadline", "Deadline", "text", example="30d or 2027-03-31"),
    Field("search_budget", "Budget in USD", "money", example="$50k"),
    Field("search_top", "Plans listed", "whole", default=20),
    Field("search_down", "Down", "choice", AXES_OF_TABLES, default="tp"),
    Field("search_across", "Across", "choice", AXES_OF_TABLES, default="pp"),
)
_SHOWN = (
    Field("search_against", "Memory against", "choice", tuple(FRONTS), default="time"),
    Field("search_listed", "List", "choice", ("all", "best", "not beaten"), default="all"),
    Field("search_words", "Only plans with", "text", example="zero1 tp=2"),
)
FIELDS = (*_ASKED, *_SHOWN)
PLACES = {
    "rank": "search_rank",
    "chance": "search_chance",
    "where": "search_where",
    "headroom": "search_free",
    "deadline": "search_deadline",
    "budget": "search_budget",
    "top": "search_top",
}
"""The fields of the page by what the API calls them."""
_SEARCHES: Kept[Search] = Kept(32)


@dataclass(frozen=True)
class Listed:
    """A plan of the table."""

    estimate: Estimate
    lists: tuple[str, ...]
    """In which lists it stands."""


def question(choices: Choices) -> Choices:
    """What of the choices a search depends on."""
    return choices.change({BEST: False}).only((*fields(), *_ASKED))


def same_axes(choices: Choices) -> bool:
    """Whether both axes of the table are the same field, so that there is none."""
    return choices["search_down"] == choices["search_across"]


def keywords(choices: Choices) -> dict[str, Any]:
    """What `simulator.search` takes for the choices."""
    wishes = {
        "objective": choices["search_best"],
        "rank": choices["search_rank"],
        "chance": choices["search_chance"],
        "where": choices["search_where"],
        "headroom": choices["search_free"],
        "deadline": choices["search_deadline"],
        "budget": choices["search_budget"],
        "top": choices["search_top"],
        "pareto": "time,memory",
        "by": None if same_axes(choices) else f"{choices['search_down']},{choices['search_across']}",
    }
    return {**arguments(choices), **{name: value for name, value in wishes.items() if value is not None}}


def find(choices: Choices, tell: Tell | None = None) -> Search:
    """What `simulator.search` says, or the `InputError` that it raises."""

    def words(seen: Any, considered: int) -> str:
        best = f", best {units.duration(seen.best.places[0].time)}" if seen.best.places else ""
        return f"{considered:,} plans{best}"

    progress = in_words(tell, words)
    return _SEARCHES.get(question(choices), lambda: simulator.search(**keywords(choices), progress=progress))


def is_known(choices: Choices) -> bool:
    """Whether the search was made before."""
    return _SEARCHES.knows(question(choices))


def listed(search: Search, which: str, words: str | None) -> list[Listed]:
    """The plans of the table, each of them once.

    Parameters
    ----------
    search
        What was found.
    which
        ``all`` of them, the ``best`` or those that are ``not beaten``.
    words
        All of these must stand in a plan's words.
    """
    front = search.pareto or ()
    rows = [
        Listed(one, ("best", "not beaten") if any(one.plan == other.plan for other in front) else ("best",))
        for one in search.best
    ]
    rows += [Listed(one, ("not beaten",)) for one in front if not any(one.plan == row.estimate.plan for row in rows)]
    wanted = (words or "").lower().split()
    return [
        row
        for row in rows
        if which in ("all", *row.lists) and all(word in plan_words(row.estimate).split() for word in wanted)
    ]


def sent(plan: Mapping[str, Any]) -> dict[str, Value | None]:
    """What to choose so that a scenario has a plan that was found; the rest is as in the search."""
    values: dict[str, Value | None] = {name: plan.get(name) for name in PLAN_FIELDS}
    modules = ",".join(plan.get("recompute_modules") or ()) or None
    return {**values, "recompute_modules": modules, "placement": "-".join(plan["placement"]), BEST: False}


def as_python(choices: Choices) -> str:
    """A program that makes the search."""
    return exports.as_program(
        f"search = {exports.as_call('simulator.search', keywords(choices))}",
        "for one in search.best:",
        "    print(one.step_time_s, one.memory_bytes['total'], one.plan)",
    )


def as_command(choices: Choices) -> str:
    """The command that makes the search."""
    wishes = {name: value for name, value in keywords(choices).items() if name not in arguments(choices)}
    words = " ".join(f"--{name} {shlex.quote(_word(value))}" for name, value in wishes.items())
    head = choices["objective"]
    lost = f"  # objective={head} of the model can be said in Python only" if head is not None else ""
    return f"capsim search {exports.scenario_words(choices.change({'objective': None}))} {words}{lost}"


def _word(value: Any) -> str:
    """A value on a command line."""
    return f"{value:.15g}" if isinstance(value, float) else str(value)
