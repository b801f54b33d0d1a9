"""Files that describe something of one's own: their kinds, and what each says, field by field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel

from hardware import schema
from hardware.classes import DeviceClass
from hardware.errors import unknown
from hardware.measured import MeasuredProfile
from hardware.price import Price
from hardware.quantity import EXAMPLES, UNITS
from hardware.sheet import Sheet
from hardware.spec import Device, System
from simulator.corpus.schema import Run
from simulator.specs.loading import ScenarioFile
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

Form = Literal["sheet", "list", "offers"]
"""Whether a file holds one sheet, a list of them, or several by the word that names each."""


@dataclass(frozen=True)
class FileKind:
    """A kind of file, or of a part of one."""

    word: str
    sheet: type[BaseModel]
    title: str
    use: str
    """Where such a file is given."""
    form: Form = "sheet"
    named: bool = False
    """Whether the id is the file's name unless it is given."""


@dataclass(frozen=True)
class FieldRow:
    """One field."""

    field: str
    form: str
    """Type or allowed values."""
    unit: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """The fields of one sheet."""

    place: str
    """Where it stands in the file; empty for the file itself."""
    title: str
    rows: tuple[FieldRow, ...]


_KINDS = (
    FileKind(
        "device",
        Device,
        "one accelerator",
        "capsim estimate ... --system FILE, which means a plain host of it, or device: FILE in the file of a system",
        named=True,
    ),
    FileKind("system", System, "devices wired together", "capsim estimate ... --system FILE", named=True),
    FileKind("model", Model, "an architecture", "capsim estimate FILE --system ...", named=True),
    FileKind("stack", Stack, "training software", "capsim estimate ... --stack FILE", named=True),
    FileKind("workload", Workload, "what is trained on", "the part workload of a scenario"),
    FileKind("plan", Plan, "how a run is split over devices", "the part plan of a scenario"),
    FileKind("scenario", ScenarioFile, "all that an estimate needs", "capsim estimate FILE"),
    FileKind(
        "runs", Run, "a list of runs that were timed", "capsim validate FILE, capsim fit --runs FILE", form="list"
    ),
    FileKind(
        "prices",
        Price,
        "offers to rent devices, by the word that names each",
        "capsim estimate ... --price FILE",
        form="offers",
    ),
    FileKind("class", DeviceClass, "kernel constants of a device class", "the part constants of a profile", named=True),
    FileKind(
        "profile",
        MeasuredProfile,
        "what was measured on one machine",
        "capsim estimate ... --profile FILE; capsim calibrate writes it",
        named=True,
    ),
)
_WITH_UNIT = " with unit"
_RARE = "PE"
"""Prefixes of units that are read, but that nobody needs to be told."""
_BEYOND = 1e5
"""Upper limits from here on only keep slips of the pen out."""
KINDS = {kind.word: kind for kind in _KINDS}
"""Every kind, by the word that asks for it."""
_WIDEST = 24
"""Letters of a default that is told in full."""


def kind_of(word: str) -> FileKind:
    """The kind that a word means, in the singular or the plural.

    Raises
    ------
    InputError
        With the nearest kind.

    Examples
    --------
    >>> kind_of("Devices").word, kind_of("run").word
    ('device', 'runs')
    """
    low = word.lower()
    meant = next((known for known in KINDS if low in (known, f"{known}s", f"{known}es", known.removesuffix("s"))), None)
    if meant is None:
        raise unknown("kind of file", word, list(KINDS))
    return KINDS[meant]


def json_schema(kind: FileKind, *, sourced: bool = True) -> dict[str, Any]:
    """The JSON Schema of a whole file.

    Parameters
    ----------
    kind
        One of `KINDS`.
    sourced
        Whether figures may name their source.
    """
    sheet = schema.of(kind.sheet, sourced=sourced)
    if kind.named or kind.form == "offers":
        sheet["required"] = [name for name in sheet["required"] if name != "id"]
    shared = {"$defs": sheet.pop("$defs")} if "$defs" in sheet else {}
    head = {"$schema": schema.DIALECT, "title": f"capsim {kind.word}: {kind.title}"}
    if kind.form == "list":
        return {**head, "type": "array", "items": sheet, **shared}
    if kind.form == "offers":
        return {**head, "type": "object", "additionalProperties": sheet, **shared}
    return {**sheet, **head, **shared}


def sections(kind: FileKind) -> list[Section]:
    """The fields of a file, and of each sheet inside it, in the order in which they are met.

    A sheet that has a kind of its own is not repeated.

    Examples
    --------
    >>> [section.place for section in sections(KINDS["stack"])]
    ['', 'overlap', 'defaults', 'offers', 'offers.refuses.1']
    """
    whole = schema.of(kind.sheet, sourced=False)
    known, others = whole.pop("$defs", {}), kinds_inside(kind)
    by_name: dict[str, Section] = {}
    waiting = [("", "", whole)]
    while waiting:
        place, name, sheet = waiting.pop(0)
        if name in by_name:
            by_name[name] = replace(by_name[name], place=f"{by_name[name].place}, {place}")
            continue
        rows = tuple(_row(kind, place, field, part, sheet, others) for field, part in sheet["properties"].items())
        by_name[name] = Section(place, sheet["description"], rows)
        inner = [
            (_joined(place, field, part), ref) for field, part in sheet["properties"].items() for ref in refs_of(part)
        ]
        waiting = [*((below, ref, known[ref]) for below, ref in inner if ref not in others), *waiting]
    return list(by_name.values())


def kinds_inside(besides: FileKind) -> dict[str, str]:
    """The kinds of file that a sheet inside another may be, by the name of their class."""
    return {kind.sheet.__name__: kind.word for kind in _KINDS if kind is not besides and kind.form == "sheet"}


def _joined(place: str, field: str, part: dict[str, Any]) -> str:
    """The place of a sheet inside a file; one of several has a word of its own in between."""
    several = {"object": ".*", "array": ".1"}.get(str(part.get("type")), "")
    return f"{place}.{field}{several}".lstrip(".")


def refs_of(part: Any) -> Iterator[str]:
    """The names of the sheets that a schema refers to."""
    if isinstance(part, dict):
        if "$ref" in part:
            yield str(part["$ref"]).rpartition("/")[2]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from refs_of(each)


def _row(
    kind: FileKind, place: str, field: str, part: dict[str, Any], sheet: dict[str, Any], others: dict[str, str]
) -> FieldRow:
    """One field in words."""
    default = "required" if field in sheet.get("required", ()) else default_of(part)
    if field == "id" and not place and kind.named:
        default = "file's name"
    elif field == "id" and kind.form == "offers":
        default = "its key"
    return FieldRow(field, form_of(part, others), part.get(schema.UNIT, ""), default, part["description"])


def default_of(part: dict[str, Any]) -> str:
    """A default in words; a hyphen where nothing stands for a field that is left out."""
    default = part.get("default")
    if isinstance(default, bool):
        return str(default).lower()
    if default in (None, "", [], {}) or isinstance(default, dict):
        return "-"
    if isinstance(default, list):
        every = part.get("items", {}).get("enum", [])
        words = ", ".join(map(str, default))
        return "all" if set(default) == set(every) else words if len(words) <= _WIDEST else f"{len(default)} of these"
    return f"{default:.15g}" if isinstance(default, float) else str(default)


def form_of(part: dict[str, Any], others: dict[str, str]) -> str:
    """What may stand in a field, in words.

    Parameters
    ----------
    part
        Its JSON Schema.
    others
        Kinds of file that a sheet may be, by the name of the class.

    Examples
    --------
    >>> form_of({"type": "integer", "minimum": 1, "maximum": 8}, {})
    'whole number from 1 to 8'
    >>> form_of({"anyOf": [{"enum": ["a", "b"], "type": "string"}, {"type": "null"}]}, {})
    'a | b'
    """
    if "anyOf" in part or "oneOf" in part:
        ways = [way for way in part.get("anyOf", part.get("oneOf", [])) if way.get("type") != "null"]
        ways.sort(key=lambda way: "description" not in way)
        return " or ".join(dict.fromkeys(way.get("description") or form_of(way, others) for way in ways))
    if "$ref" in part:
        name = next(refs_of(part))
        return f"fields as in schema {others[name]}" if name in others else "fields below"
    if "enum" in part or "const" in part:
        return " | ".join(map(str, part.get("enum", [part.get("const")])))
    if schema.DIMENSION in part:
        return f"{part[schema.DIMENSION]}{_WITH_UNIT}"
    if part.get("type") == "array":
        return f"list of {form_of(part['items'], others)}" if "items" in part else "list"
    if part.get("type") == "object":
        inner = part.get("additionalProperties")
        return f"by name: {form_of(inner, others)}" if isinstance(inner, dict) else "fields"
    return _plain_form(part)


def _plain_form(part: dict[str, Any]) -> str:
    """A number, a flag or a text in words."""
    kind = part.get("type")
    if kind == "boolean":
        return "true | false"
    if kind == "string":
        return "name" if "pattern" in part else "text"
    words = "whole number" if kind == "integer" else "number"
    least, most = part.get("minimum"), part.get("maximum")
    if "exclusiveMinimum" in part or (least is not None and 0 < least < 1):
        words += " above 0"
    elif least is not None:
        words += f" from {least:,.15g}"
    return words if most is None or most >= _BEYOND else f"{words} to {most:,.15g}"


def quantities(listed: Iterable[Section]) -> dict[str, tuple[str, list[str]]]:
    """How the quantities among some fields are written, by dimension: an example, and the usual units."""
    forms = {row.form for section in listed for row in section.rows}
    met = [name for name in UNITS if any(re.search(rf"\b{name}{_WITH_UNIT}", form) for form in forms)]
    return {name: (EXAMPLES[name], [unit for unit in UNITS[name] if unit[0] not in _RARE]) for name in met}


def names_sources(kind: FileKind) -> bool:
    """Whether figures of a file may name their source."""
    return issubclass(kind.sheet, Sheet)
