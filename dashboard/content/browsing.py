"""The catalogue as tables that can be searched and sorted, and what its entries mean to a scenario; pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import simulator
from dashboard.choices.scenario import arguments, fields
from dashboard.choices.state import Choices, Value
from dashboard.content.glossary import words
from hardware import catalogue
from hardware.amounts import read_number
from hardware.errors import InputError, shown, unknown
from hardware.spec import System
from hardware.writing import yaml_text
from simulator.specs.loading import load_stack
from simulator.specs.naming import best_first
from simulator.terminal import catalogue as browse
from simulator.terminal.catalogue import Entry
from simulator.terminal.catalogue_rows import Row

PARTS = tuple(browse.parts())
RECALLED = "unverified"
"""The column that names figures of a row that were recalled, not read from a source."""
_MARK = "°"
_UNSTATED = "-"
_NUMBER = re.compile(r"-?[\d,]+(\.\d+)?[kMBT]?")

Values = dict[str, Value | None]


@cache
def names(part: str) -> tuple[str, ...]:
    """The names of the entries of a part, in the order of its rows."""
    return tuple(browse.names(part))


@cache
def rows(part: str) -> tuple[Row, ...]:
    """The entries of a part as a list shows them."""
    return tuple(browse.rows(part))


@cache
def entry(part: str, name: str) -> Entry:
    """One entry, with the sources of its figures."""
    return browse.entry(part, name)


@cache
def label(part: str, name: str) -> str:
    """What to call an entry: its name, or what it is about where entries are numbered."""
    if not name.isdecimal():
        return name
    row = rows(part)[int(name)]
    return f"{int(name) + 1} {row['subject']}, {row['what']}"


@cache
def _described(part: str) -> tuple[str, ...]:
    """What words are looked for in: everything that is known of each entry, its sources too."""
    described = []
    for name, row in zip(names(part), rows(part), strict=True):
        known = entry(part, name)
        lines = (f"{line.figure} {line.value} {line.note}" for line in known.lines)
        described.append(" ".join((*row.values(), *lines, *known.sources)).lower())
    return tuple(described)


def matching(part: str, text: str | None) -> list[str]:
    """Names of the entries of a part that have all words of a text anywhere; models that are called so come first.

    Raises
    ------
    InputError
        Where none has.
    """
    wanted = (text or "").lower().split()
    if not wanted:
        return list(names(part))
    described = zip(names(part), _described(part), strict=True)
    called = best_first(text or "", names(part)) if part == "models" else []
    matches = called + [
        name for name, known in described if name not in called and all(word in known for word in wanted)
    ]
    if not matches:
        raise InputError(
            f"catalogue_search={shown(text)}: none of the {part} has all of this; write fewer words",
            fields=["catalogue_search"],
        )
    return matches


def table(part: str, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Entries as rows whose numbers sort as numbers; what is unverified stands in a column of its own.

    Parameters
    ----------
    part
        Of the catalogue.
    wanted
        Names of the entries.
    """
    known = dict(zip(names(part), rows(part), strict=True))
    listed = [known[name] for name in wanted]
    numeric = set(formats(part))
    recalled = any(_MARK in cell for row in known.values() for cell in row.values())
    return [_cells(row, numeric, recalled=recalled) for row in listed]


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether a column holds numbers only, and at least one."""
    told = [cell for cell in cells if cell != _UNSTATED]
    return bool(told) and all(_NUMBER.fullmatch(cell) for cell in told)


def _cells(row: Row, numeric: set[str], *, recalled: bool) -> dict[str, Any]:
    """One row, its numbers as numbers."""
    cells: dict[str, Any] = {}
    for name, cell in row.items():
        plain = cell.replace(_MARK, "")
        cells[name] = plain if name not in numeric else None if plain == _UNSTATED else read_number(plain)
    if recalled:
        cells[RECALLED] = "; ".join(name for name, cell in row.items() if _MARK in cell)
    return cells


@cache
def formats(part: str) -> Mapping[str, str]:
    """How the numbers of a table are written, by column: with as many decimals as they all have, or as they come."""
    formats = {}
    for name in rows(part)[0]:
        cells = [row[name].removesuffix(_MARK) for row in rows(part)]
        if _is_numeric(cells):
            formats[name] = _format([cell for cell in cells if cell != _UNSTATED])
    return formats


def _format(cells: Sequence[str]) -> str:
    """How the numbers of one column are written."""
    if any(not cell[-1].isdigit() for cell in cells):
        return "compact"
    decimals = {len(cell.partition(".")[2]) for cell in cells}
    return f"%.{max(decimals)}f" if len(decimals) == 1 and max(decimals) else "localized"


def figures(part: str, name: str) -> list[dict[str, str]]:
    """The figures of an entry with how each was seen and the numbers of its sources; no column is empty."""
    listed = [
        {
            "figure": words(line.figure).replace(".", " "),
            "value": line.value,
            "seen": f"{line.seen} {list(line.sources) if line.sources else ''}".strip(),
            "note": line.note,
        }
        for line in entry(part, name).lines
    ]
    told = [column for column in listed[0] if any(row[column] for row in listed)]
    return [{column: row[column] for column in told} for row in listed]


def at_hand(part: str, choices: Choices) -> str | None:
    """The entry of a part that the scenario at hand uses, or nothing."""
    entry = _at_hand(part, choices)
    return entry if entry in names(part) else None


def _at_hand(part: str, choices: Choices) -> str | None:
    """What the scenario at hand names, or its system implies."""
    told = {"models": "model", "systems": "system", "stacks": "stack", "grids": "grid", "overheads": "overhead"}
    if part in told:
        usual = {"grids": "world", "overheads": "default"}
        return str(choices[told[part]] or usual.get(part))
    try:
        device = catalogue.load_system(choices.text("system")).device
    except InputError:
        return None
    if part == "prices":
        return next((price.id for price in catalogue.prices() if price.device == device.id), None)
    if part == "profiles":
        chosen = choices["profile"]
        return str(chosen) if chosen else next(iter(simulator.profiles_for(choices.text("system"))), None)
    return {"devices": device.id, "classes": device.device_class}.get(part)


def usable(part: str, name: str) -> bool:
    """Whether a scenario can use an entry."""
    if part == "stacks":
        stack = load_stack(name)
        return any(stack.runs_on(known.device) for known in _systems())
    if part == "profiles":  # one of a device that the catalogue lacks has no system to run on
        return isinstance(catalogue.load_profile(name).device, str)
    return part in _USES


def used(part: str, name: str, choices: Choices) -> Values:
    """What to choose so that the scenario at hand uses an entry.

    What was chosen of the plan belongs to what is replaced, and is opened. Where a system usually has more devices
    than the batch can use, there are as many as it can.

    Parameters
    ----------
    part, name
        An entry that is usable.
    choices
        The scenario at hand.
    """
    values = _USES[part](name, choices)
    if values.get("devices", 0) is not None:
        return values
    changed = choices.change(values)
    try:
        most = catalogue.load_system(changed.text("system")).default_devices
    except InputError:
        return values
    powers = (2**power for power in range(int(math.log2(most)), -1, -1))
    fitting = (number for number in (None, *powers) if _is_busy(changed.change({"devices": number})))
    return {**values, "devices": next(fitting, None)}


def _is_busy(choices: Choices) -> bool:
    """Whether a scenario keeps all rules, and has a sequence for every device."""
    try:
        scenario = simulator.resolve(**arguments(choices))
    except InputError:
        return False
    return scenario.devices <= (scenario.workload.global_batch or scenario.devices)


def _opened(*groups: str) -> Values:
    """Fields of some parts of a scenario, opened."""
    return {field.name: None for field in fields() if field.group in groups}


def _on(system: str) -> Values:
    """A run on another system."""
    return {"system": system, "devices": None, "stack": None, "price": None, "profile": None, **_opened("plan")}


def _model(name: str, _: Choices) -> Values:
    """Another model, as it was published."""
    return {"model": name, "objective": None, **_opened("plan", "workload")}


def _stack(name: str, choices: Choices) -> Values:
    """Another stack, on the system at hand or on the first that it runs on."""
    stack = load_stack(name)
    fitting = (known for known in _systems() if stack.runs_on(known.device))
    at_hand = next((known for known in _systems() if known.id == choices["system"]), None)
    moved = at_hand is not None and not stack.runs_on(at_hand.device)
    system = next((known.id for known in fitting), None) if moved else None
    return {**(_on(system) if system else _opened("plan")), "stack": name}


def _price(name: str, choices: Choices) -> Values:
    """An offer, on the system at hand or on a plain host of its device."""
    device = next(price.device for price in catalogue.prices() if price.id == name)
    at_hand = next((known for known in _systems() if known.id == choices["system"]), None)
    fits = at_hand is not None and at_hand.device.id == device
    return {**({} if fits else _on(device)), "price": name, "price_kind": None}


def _profile(name: str, choices: Choices) -> Values:
    """A measured profile, on the system at hand or on a plain host of its device."""
    known = catalogue.load_profile(name).device_id
    at_hand = next((system for system in _systems() if system.id == choices["system"]), None)
    fits = at_hand is not None and at_hand.device.id == known
    return {**({} if fits else _on(known)), "profile": name}


@cache
def _systems() -> tuple[System, ...]:
    """Every system that can be chosen, plain hosts of devices last."""
    named = (*catalogue.names("systems"), *catalogue.names("devices"))
    loaded = []
    for name in named:
        try:
            loaded.append(catalogue.load_system(name))
        except InputError:  # a device whose sheet says too little for a host
            continue
    return tuple(loaded)


_USES: Mapping[str, Callable[[str, Choices], Values]] = {
    "devices": lambda name, _: _on(name),
    "systems": lambda name, _: _on(name),
    "models": _model,
    "stacks": _stack,
    "prices": _price,
    "profiles": _profile,
    "grids": lambda name, _: {"grid": name},
    "overheads": lambda name, _: {"overhead": name},
}
"""What entries of a part mean to a scenario."""


def known_entry(part: str, name: str | None) -> str | None:
    """An entry that a link names.

    Raises
    ------
    InputError
        Where the part has no such entry, with the nearest names.
    """
    if name is not None and name not in names(part):
        raise unknown(f"entry of {part}", name, list(names(part)), fields=["catalogue_entry"])
    return name


def as_python(part: str, name: str) -> str:
    """A program that prints what the page shows."""
    return (
        "from simulator.terminal import catalogue\n\n"
        f'for row in catalogue.rows("{part}"):\n    print(row)\n\n'
        f'entry = catalogue.entry("{part}", "{name}")\n'
        "for line in entry.lines:\n"
        "    print(line.figure, line.value, line.seen, [entry.sources[number - 1] for number in line.sources])"
    )


def as_yaml(part: str, name: str) -> str:
    """One entry, every figure with its sources."""
    return yaml_text(browse.data(part, name))
