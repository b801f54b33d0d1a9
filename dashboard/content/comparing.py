"""Several scenarios side by side: as a text for links, by what they differ, and the basis of each; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote

from dashboard.choices.scenario import BEST, arguments, fields
from dashboard.choices.state import Choices, Field, from_query, opening
from dashboard.content import exports
from dashboard.content.answers import Answer
from dashboard.content.glossary import words
from hardware import units
from hardware.classes import peak_field
from hardware.errors import InputError, nearest, shown
from simulator import Estimate
from simulator.answers import claims
from simulator.answers.basis import WORDS
from simulator.answers.long_run import matters
from simulator.specs.plans import AXES
from simulator.terminal.estimate import of_run

MOST = 12
"""Scenarios that are compared at once."""
LONGEST = 4000
"""Characters of a list of scenarios in a link, which browsers and mail programs still take."""
_BETWEEN, _WITHIN = "~~", "~"
_SAME = "."
"""A scenario in a link that is as the one it is written against."""
_WORD, _LABEL = 30, 80
"""Characters of the longest value in a label, and of the longest label."""
_SHARES = 0.005
"""Smaller shares of a step are not told."""


def to_text(rows: Sequence[Choices]) -> str:
    """A list of scenarios for a link: the first by what is not as usual, the others by what differs from the first.

    Names and values have a dot between them, fields ``~``, scenarios ``~~``; an empty value opens a field.

    >>> first = opening(fields()).change({"model": "bert-base"})
    >>> to_text([first, first.change({"tp": 2, "devices": 16})])
    'model.bert-base~~devices.16~tp.2'
    """
    bases = [opening(fields()), *(rows[0] for _ in rows[1:])]
    return _BETWEEN.join(_difference(row, base) for row, base in zip(rows, bases, strict=True))


def _difference(row: Choices, base: Choices) -> str:
    """What of a scenario is not as in another one."""
    parts = []
    for field in fields():
        value = row[field.name]
        if value != base[field.name] or type(value) is not type(base[field.name]):
            text = "" if value is None else field.write(value)
            parts.append(f"{field.name}.{text.replace('%', '%25').replace('~', '%7E')}")
    return _WITHIN.join(parts) or _SAME


def from_text(text: str) -> tuple[list[Choices], list[str]]:
    """The scenarios of a link, and a sentence for each part of it that is wrong, in whose place the usual value stands.

    Parameters
    ----------
    text
        As `to_text` writes it.
    """
    rows: list[Choices] = []
    problems: list[str] = []
    parts = text.split(_BETWEEN)
    if len(parts) > MOST:
        problems.append(f"The link compares {len(parts):,} scenarios; the first {MOST} are shown, which is the most.")
    for number, part in enumerate(parts[:MOST], start=1):
        base = rows[0] if rows else opening(fields())
        row, wrong = _read(part, base)
        rows.append(row)
        problems += [f"Scenario {number}: {each}" for each in wrong]
    return rows, problems


def _read(text: str, base: Choices) -> tuple[Choices, list[str]]:
    """One scenario of a link."""
    known = {field.name for field in fields()}
    query: dict[str, str] = {}
    unknown: list[str] = []
    for part in text.split(_WITHIN) if text != _SAME else ():
        name, _, value = part.partition(".")
        if name in known:
            query[name] = unquote(value)
        else:
            close = nearest(name, known, most=1)
            hint = f"did you mean {close[0]}?" if close else "it is left out"
            unknown.append(f"the link names {shown(name)}, which no scenario has; {hint}")
    said, wrong = from_query(query, fields())
    return base.change({name: said[name] for name in query}), unknown + wrong


@cache
def ready_made() -> Mapping[str, tuple[Choices, ...]]:
    """Sets of scenarios to begin with, by their titles: one workload on several systems each."""
    sets = {}
    for ranking in claims.load().rankings:
        shared = {"model": ranking.model, "devices": ranking.devices, "stack": ranking.stack, **ranking.workload}
        base = opening(fields()).change(shared)
        sets[ranking.title] = tuple(base.change({"system": system}) for system in ranking.systems)
    return sets


def begun_with() -> tuple[Choices, ...]:
    """The set that the page opens on."""
    return next(iter(ready_made().values()))


def labels(rows: Sequence[Choices]) -> list[str]:
    """What to call each scenario: its number, and what tells it from the others."""
    varied = [field for field in fields() if len({row[field.name] for row in rows}) > 1]
    told = varied or [field for field in fields() if field.name == "system"]
    return [f"{number} {_told(row, told)}" for number, row in enumerate(rows, start=1)]


def _told(row: Choices, told: Sequence[Field]) -> str:
    """What a scenario chooses in some fields; its system where that is nothing."""
    parts = []
    for field in told:
        value = row[field.name]
        if value is not None and value is not False:
            bare = field.name in ("model", "system", "stack", "precision")
            named = field.name if field.name in (*AXES, "ep", "etp") else field.label.lower()
            text = _shortened(field.write(value))
            parts.append(text if bare else named if value is True else f"{named} {text}")
    return _shortened(", ".join(parts), _LABEL) or row.text("system")


def _shortened(text: str, most: int = _WORD) -> str:
    """A text that is not too long for a label."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


@dataclass(frozen=True)
class ComparedRow:
    """One scenario with its answer, or with what is wrong with it."""

    label: str
    choices: Choices
    answer: Answer | None = None
    problem: InputError | None = None


def answered(rows: Sequence[ComparedRow]) -> list[tuple[str, Answer]]:
    """The scenarios that have an answer, with their labels."""
    return [(row.label, row.answer) for row in rows if row.answer is not None]


def results(rows: Sequence[ComparedRow]) -> list[dict[str, str]]:
    """The answers as a table for reading."""
    known = [answer.estimate.run for _, answer in answered(rows)]
    long = any(matters(run.time_s, run.expected_time_s) for run in known)
    return [{"scenario": row.label, **_result(row.answer, long=long)} for row in rows]


def _result(answer: Answer | None, *, long: bool) -> dict[str, str]:
    """One answer in words."""
    names = ("step time", "90 % interval", "time to train", *(("with failures",) if long else ()))
    names = (*names, "cost", "energy", "memory", "MFU")
    if answer is None:
        return dict.fromkeys(names, "")
    estimate, run = answer.estimate, answer.estimate.run
    limits = estimate.likely(estimate.step_time_s)
    expected = "never ends" if run.expected_time_s is None else units.duration(run.expected_time_s)
    values = (
        units.duration(estimate.step_time_s),
        units.span(*limits) if limits else "not known",
        of_run(run, units.duration(run.time_s)),
        *((of_run(run, expected),) if long else ()),
        "no price" if run.cost_usd is None else of_run(run, units.money(run.cost_usd)),
        of_run(run, units.energy(run.energy_kwh)),
        fits(estimate),
        units.percent(estimate.mfu),
    )
    return dict(zip(names, values, strict=True))


def fits(estimate: Estimate) -> str:
    """Memory of one device, and whether it fits."""
    total, capacity = estimate.memory_bytes["total"], estimate.memory_bytes["capacity"]
    chance = units.chance(estimate.fits_probability)
    room = f"fits with a chance of {chance}" if estimate.fits else f"does not fit in {units.size(capacity)} ({chance})"
    return f"{units.size(total)}, {room}"


@dataclass(frozen=True)
class Difference:
    """Something in which scenarios differ."""

    name: str
    origin: str
    """Where it comes from: chosen by somebody or for them, or a spec sheet."""
    values: tuple[str, ...]

    @property
    def marked(self) -> tuple[tuple[str, bool], ...]:
        """Every value, and whether it differs from the first."""
        return tuple((value, value != self.values[0]) for value in self.values)


def differences(answers: Sequence[Answer]) -> list[Difference]:
    """Everything in which scenarios differ: what was chosen, by whomever, and the figures of their spec sheets."""
    columns = [_traits(listed) for listed in answers]
    names = list(dict.fromkeys(key for column in columns for key in column))
    listed = []
    for origin, name in names:
        values = tuple(column.get((origin, name), "-") for column in columns)
        if len(set(values)) > 1:
            listed.append(Difference(name, origin, values))
    return listed


def _traits(answer: Answer) -> dict[tuple[str, str], str]:
    """What a scenario is, by origin and name."""
    scenario, estimate = answer.scenario, answer.estimate
    price, system = scenario.price, scenario.system
    sheet = system.shown()
    traits = {
        ("scenario", "model"): estimate.model,
        ("scenario", "system"): estimate.system,
        ("scenario", "devices"): f"{estimate.devices:,}",
        ("scenario", "stack"): estimate.stack,
        **{("workload", words(name)): _plain(value) for name, value in estimate.workload.items()},
        **{("plan", words(name)): _plain(value) for name, value in estimate.plan.items()},
        ("price", "price"): f"{price.shown()['rate']}, {price.provider}, {price.date}" if price else "none",
        ("place", "grid"): scenario.grid.name,
        ("place", "overhead"): scenario.overhead.name,
    }
    figures = {
        f"peak {scenario.precision}": f"device.peak.{peak_field(scenario.precision)}",
        "memory": "device.memory.usable" if system.device.memory.usable else "device.memory.capacity",
        "memory bandwidth": "device.memory.bandwidth",
        "devices per node": "devices_per_node",
        **{f"{words(name)} link": f"{name}.bandwidth" for name, _, _ in system.levels},
    }
    return traits | {("spec sheet", name): _plain(sheet[place]) for name, place in figures.items() if sheet.get(place)}


def _plain(value: Any) -> str:
    """A value in one cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "-".join(map(str, value))
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.6g}"
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def rests_on(rows: Sequence[ComparedRow]) -> list[dict[str, str]]:
    """What of each answer is from a spec sheet, what was fitted, and what was measured."""
    return [{"scenario": label, **_basis(answer)} for label, answer in answered(rows)]


def _basis(answer: Answer) -> dict[str, str]:
    """The basis of one answer, as cells of a row."""
    estimate, known = answer.estimate, answer.estimate.evidence
    seen = Counter(told.seen for _, value, told in answer.scenario.system.figures() if told and value is not None)
    shares = sorted((estimate.basis or {}).items(), key=lambda item: -item[1])
    measured = [f"{units.percent(share)} {WORDS[tier]}" for tier, share in shares if share >= _SHARES]
    return {
        "spec sheet": ", ".join(f"{number} {how}" for how, number in seen.most_common()) or "no sources named",
        "fitted": str(known["constants"]) if known else "nothing: constants of the catalogue",
        "measured": ", ".join(measured) or "nothing on this device",
        "interval": _evidence(known) if known else "not known",
        "nearest run": str(known["nearest"][0]) if known and known["nearest"] else "",
        "distance": f"{known['distance']:.2f}" if known else "",
    }


def _evidence(known: dict[str, Any]) -> str:
    """How many runs and sources are behind an interval."""
    return f"{units.plural(known['runs'], 'run')} of {units.plural(known['sources'], 'source')}"


def as_python(rows: Sequence[Choices]) -> str:
    """A program that prints the answers."""
    calls = "".join(f"    {_call(row)},\n" for row in rows)
    loop = "for answer in answers:\n    print(answer.system, answer.step_time_s, answer.fits, answer.run.cost_usd)"
    return f"import simulator\n\nanswers = [\n{calls}]\n{loop}"


def _call(row: Choices) -> str:
    """The call that answers one scenario."""
    keywords = arguments(row)
    if row[BEST]:
        return exports.as_call("simulator.search", {**keywords, "top": 1}, indent="    ") + ".best[0]"
    return exports.as_call("simulator.estimate", keywords, indent="    ")


def as_command(rows: Sequence[Choices]) -> str:
    """The commands that print the answers."""
    return "\n".join(map(exports.as_command, rows))


def as_yaml(rows: Sequence[ComparedRow]) -> str:
    """A file for each scenario that ``capsim estimate`` reads, one document after the other."""
    return "---\n".join(exports.as_yaml(row.choices, row.answer) for row in rows if row.answer is not None)


def as_rows(rows: Sequence[ComparedRow]) -> list[dict[str, Any]]:
    """The answers as a table for a spreadsheet, in SI units."""
    return [{"scenario": label, **_figures(answer.estimate)} for label, answer in answered(rows)]


def _figures(estimate: Estimate) -> dict[str, Any]:
    """The figures of one answer."""
    run, plan = estimate.run, estimate.plan
    return {
        "model": estimate.model,
        "system": estimate.system,
        "devices": estimate.devices,
        "stack": estimate.stack,
        "plan": ", ".join(f"{name}={_plain(value)}" for name, value in plan.items()),
        "sequence_length": estimate.workload.get("sequence_length", ""),
        "global_batch": estimate.workload.get("global_batch", ""),
        "step_time_s": estimate.step_time_s,
        "step_time_low_s": _or_nothing(estimate.step_time_low_s),
        "step_time_high_s": _or_nothing(estimate.step_time_high_s),
        "run_of": run.of,
        "run_time_s": run.time_s,
        "expected_run_time_s": _or_nothing(run.expected_time_s),
        "cost_usd": _or_nothing(run.cost_usd),
        "energy_kwh": run.energy_kwh,
        "co2_kg": run.co2_kg,
        "memory_bytes": estimate.memory_bytes["total"],
        "capacity_bytes": estimate.memory_bytes["capacity"],
        "fits": "yes" if estimate.fits else "no",
        "fits_probability": estimate.fits_probability,
        "mfu": estimate.mfu,
    }


def _or_nothing(value: float | None) -> float | str:
    """A number, or an empty cell."""
    return "" if value is None else value
