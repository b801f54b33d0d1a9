"""Places of a scenario that can be varied: their names, what stands there, and putting something else there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from hardware.amounts import is_number, read_number
from hardware.classes import peak_field
from hardware.errors import InputError, nearest, sentence, shown, unknown
from hardware.reading import field_names
from hardware.sheet import Sheet
from simulator.pricing.wiring import LEVELS
from simulator.variations.expressions import Value, WrongValueError

SHEETS = ("system", "stack", "model", "workload", "plan", "ownership", "reliability")
"""Parts of a scenario whose figures can be varied one by one."""
WHOLE = ("system", "model", "stack", "price", "price_kind", "grid", "overhead", "constants")
"""Parts that can be replaced by others of the catalogue or from files."""
EVERY_LATENCY = "system.latency"
_IDLE = {
    "system": r"id|name|note|price|default_devices|device\.(id|name|note|vendor|architecture|kind|clock|cores"
    r"|last_level_cache|scale_up(\..*)?|memory\.kind|power\.idle|host_link\.(?!bandwidth$).*"
    r"|peak\.(?!(fp32|tf32|fp16|bf16|fp8)$).*)|host\.(?!power$).*|.*\.dimensions",
    "stack": r"id|name|note|family|timed_as|axes|offers\..*|source|seen|defaults\..*|platform",
    "model": r"id|name|note|family|source|biases|training(\..*)?|published_parameters.*",
}
"""Figures that no formula reads, that only name something, or that are lists."""
_SHORT = {
    "device.memory_bandwidth": "device.memory.bandwidth",
    "device.memory_capacity": "device.memory.capacity",
}
"""Shorter names of often varied figures."""


@dataclass(frozen=True)
class Edit:
    """What one place became."""

    path: str
    text: str
    """As it was written."""
    value: str
    """What stands there now."""
    ratio: float | None = None
    """To what stood there, where both are numbers."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return dict(vars(self))


def paths_of(sheets: Mapping[str, Sheet]) -> list[str]:
    """Every place that can be varied, likeliest first."""
    paths = ["devices", "system.device.peak", *(f"system.{name}" for name in _SHORT), EVERY_LATENCY]
    paths += [f"system.{name}.latency" for name in levels_of(sheets["system"])]
    for root in SHEETS:
        paths += [f"{root}.{name}" for name in _figures(root, sheets[root])]
    return [*paths, *WHOLE]


def levels_of(system: Sheet) -> list[str]:
    """The levels of wiring that a system has."""
    return [name for name in LEVELS if getattr(system, name) is not None]


def _figures(root: str, sheet: Sheet) -> Iterator[str]:
    """The figures of a sheet that an estimate depends on."""
    for name, _, _ in sheet.figures():
        if not re.fullmatch(_IDLE.get(root, ""), name) and name not in LEVELS:
            yield name


def unknown_place(path: str, sheets: Mapping[str, Sheet]) -> WrongValueError:
    """The error for a path that leads nowhere."""
    root, _, name = path.partition(".")
    level, system = name.partition(".")[0], sheets["system"]
    if root == "system" and level in LEVELS and level not in levels_of(system):
        has = ", ".join(levels_of(system)) or "none"
        return WrongValueError(f"{path}: this system has no {level}; levels that it has: {has}")
    known = paths_of(sheets)
    if root in sheets and name in {each for each, _, _ in sheets[root].figures()}:
        close = nearest(path, known)
        hint = f"did you mean {' or '.join(close)}?" if close else f"others can, such as {', '.join(known[:4])}"
        return WrongValueError(f"{path} cannot be varied: it changes no answer by itself; {hint}")
    inside = [each for each in known if each.endswith(f".{path}")]
    if inside:
        return WrongValueError(f"unknown place {shown(path)}; did you mean {' or '.join(inside[:3])}?")
    return WrongValueError(str(unknown("place", path, known)))


def edited(
    root: str, sheets: Mapping[str, Sheet], values: Mapping[str, Value], precision: str
) -> tuple[Sheet, list[Edit]]:
    """A sheet with other figures, checked like one from a file.

    Parameters
    ----------
    root
        Which of the sheets, such as ``system``.
    sheets
        The parts of the scenario.
    values
        By path inside the sheet.
    precision
        Whose peak rate is meant by the peak rate.

    Raises
    ------
    WrongValueError
        Where there is no such place, or a value cannot stand there.
    InputError
        Where values contradict others of the sheet.
    """
    sheet = sheets[root]
    before = sheet.shown()
    meant = {name: _meant(name, before, precision) for name in values}
    known = set(_figures(root, sheet))
    for name, (main, *_) in meant.items():
        if main not in known:
            raise unknown_place(f"{root}.{name}", sheets)
    new = {main: _new(f"{root}.{name}", values[name], before[main]) for name, (main, *_) in meant.items()}
    changed = _with(root, sheet, new)
    ratios = {name: _ratio(_at(sheet, main), _at(changed, main)) for name, (main, *_) in meant.items()}
    follow = {
        other: _scaled(f"{root}.{name}", Value(values[name].text, ratios[name]), before[other])
        for name, (_, *others) in meant.items()
        for other in others
        if other not in new
    }
    changed = _with(root, changed, follow)
    after = changed.shown()
    edits = [
        Edit(f"{root}.{name}", values[name].text, _written(after[meant[name][0]]), ratios[name]) for name in values
    ]
    return changed, edits


def _at(sheet: Any, name: str) -> Any:
    """The value at a dotted place, in SI."""
    for part in name.split("."):
        sheet = getattr(sheet, part)
    return sheet


def _meant(name: str, figures: Mapping[str, Any], precision: str) -> list[str]:
    """The figure that a path means, and those that move with it in proportion."""
    if name == "device.peak":
        main = f"device.peak.{peak_field(precision)}"
        rates = [each for each, rate in figures.items() if each.startswith("device.peak.") and rate is not None]
        return [main, *(each for each in rates if each != main)]
    name = _SHORT.get(name, name)
    if name == "device.memory.capacity" and figures["device.memory.usable"] is not None:
        return [name, "device.memory.usable"]
    return [name]


def _with(root: str, sheet: Sheet, figures: Mapping[str, Any]) -> Sheet:
    """A sheet with other figures, checked like one from a file."""
    before = sheet.shown()
    changed = {name: figure for name, figure in figures.items() if figure != before[name]}
    if not changed:
        return sheet
    document = sheet.written(stated_only=True)
    for name, figure in changed.items():
        _put(document, name, figure)
    try:
        return type(sheet).model_validate(document)
    except ValidationError as error:
        text, location = sentence(error, lambda _: field_names(type(sheet)))
        raised = WrongValueError if ".".join(map(str, location)) in changed else InputError
        raise raised(f"{root}.{text}" if location else text) from None


def _put(document: dict[str, Any], name: str, figure: Any) -> None:
    """Put a figure at a dotted place; its source tells of another value and is left out."""
    *inside, last = name.split(".")
    for part in inside:
        document = document.setdefault(part, {})
    document[last] = figure


def _new(path: str, value: Value, before: Any) -> Any:
    """What is to stand at a place."""
    if value.factor is not None:
        return _scaled(path, value, before)
    read = read_number(value.text) if is_number(before) else None
    return {"true": True, "false": False}.get(value.text, value.text) if read is None else read


def _scaled(path: str, value: Value, before: Any) -> Any:
    """A multiple of what stands at a place."""
    if isinstance(before, int | float) and not isinstance(before, bool):
        return multiple(path, value, before)
    digits, _, unit = before.partition(" ") if isinstance(before, str) else ("", "", "")
    if value.factor is None or not unit or read_number(digits) is None:
        what = "is not set" if before is None else f"is {_written(before)}"
        raise WrongValueError(f"{path}={shown(value.text)}: {path} {what}; give the values themselves")
    return before if value.factor == 1.0 else f"{float(digits) * value.factor:.15g} {unit}"


def multiple(path: str, value: Value, before: float) -> float:
    """A multiple of a number, whole where the number is.

    Raises
    ------
    WrongValueError
        Where a whole number becomes none.
    """
    after = float(f"{before * (value.factor or 1.0):.15g}")
    if not isinstance(before, int):
        return after
    if not after.is_integer():
        raise WrongValueError(
            f"{path}={shown(value.text)}: {value.text} of {before} is {after:.15g}, not a whole number"
        )
    return int(after)


def _ratio(before: Any, after: Any) -> float | None:
    """How many times what stood at a place stands there now, where both are numbers."""
    if any(isinstance(figure, bool) or not isinstance(figure, int | float) for figure in (before, after)):
        return None
    return float(after / before) if before else None


def _written(figure: Any) -> str:
    """A figure as people read it."""
    if isinstance(figure, bool):
        return str(figure).lower()
    if isinstance(figure, list):
        return "-".join(map(str, figure))
    return f"{figure:,.15g}" if isinstance(figure, int | float) else str(figure)
