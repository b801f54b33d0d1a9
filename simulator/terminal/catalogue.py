"""The catalogue for reading: lists, and single entries with the source of every figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hardware import catalogue
from hardware.errors import InputError, shown, unknown
from hardware.reading import is_document, is_path
from hardware.sheet import Sheet
from hardware.spec import Figure
from simulator.specs import loading, naming
from simulator.specs.software.naming import further_names_of, stack_meant
from simulator.specs.stack import Stack
from simulator.terminal import catalogue_rows as row
from simulator.terminal.catalogue_rows import Row

_BROKEN = 8
"""Characters of the narrowest column of words."""


_REMARKS = {
    "devices": "Formats in dense TFLOP/s.",
    "stacks": "What a stack does unless told comes first; an entry has all that it offers and refuses.",
    "prices": "Of one device; an entry has what an instance holds, its network, region and source.",
    "profiles": "Off: median error on measurements that were not fitted. Each entry names its source.",
}
"""What a list needs besides its rows."""
_SINGULAR = {"classes": "device class"}
_LISTED = 40
"""Values of one figure that are written out."""
_FILES = ("devices", "systems", "models", "stacks", "classes", "profiles")
"""Kinds whose entries are files."""


@dataclass(frozen=True)
class _Part:
    """One kind of entry: its names, how one is loaded, and its row in a list."""

    title: str
    names: Callable[[], list[str]]
    load: Callable[[str], Any]
    row: Callable[[Any], Row]


def _kinds() -> dict[str, _Part]:
    """Every kind of entry, by the word that asks for it."""
    prices = {price.id: price for price in catalogue.prices()}
    named = loading.names
    return {
        "devices": _Part("accelerators", lambda: catalogue.names("devices"), catalogue.load_device, row.of_device),
        "systems": _Part(
            "devices wired together", lambda: catalogue.names("systems"), catalogue.load_system, row.of_system
        ),
        "models": _Part("architectures", lambda: named("models"), loading.load_model, row.of_model),
        "stacks": _Part("training software", lambda: named("stacks"), loading.load_stack, row.of_stack),
        "prices": _Part("offers to rent one device", lambda: list(prices), prices.__getitem__, row.of_price),
        "classes": _Part(
            "constants of device classes", lambda: catalogue.names("classes"), catalogue.load_class, row.of_class
        ),
        "profiles": _Part(
            "measured profiles", lambda: catalogue.names("profiles"), catalogue.load_profile, row.of_profile
        ),
        "links": _Part(
            "link constants", lambda: list(catalogue.link_classes()), catalogue.link_classes().get, row.of_link
        ),
        "grids": _Part("carbon of electricity", lambda: list(catalogue.grids()), catalogue.grids().get, row.of_grid),
        "overheads": _Part(
            "power usage effectiveness", lambda: list(catalogue.overheads()), catalogue.overheads().get, row.of_overhead
        ),
        "failures": _Part(
            "failures, and preemptions of spot devices",
            lambda: list(catalogue.failures()),
            catalogue.failures().get,
            row.of_failures,
        ),
        "sites": _Part(
            "restarts, storage and electricity", lambda: list(catalogue.sites()), catalogue.sites().get, row.of_site
        ),
        "measurements": _facts("rates that somebody measured", catalogue.measurements),
        "reliability": _facts("failures of real runs", catalogue.reliability),
        "differences": _facts("often quoted figures and the vendor's", catalogue.differences),
    }


def _facts(title: str, load: Callable[[], tuple[Figure, ...]]) -> _Part:
    """A kind of loose figures, numbered."""
    return _Part(title, lambda: [str(i) for i in range(len(load()))], lambda name: load()[int(name)], row.of_fact)


def _kind(word: str) -> _Part:
    """The kind that a word asks for."""
    kinds = _kinds()
    if word.lower() == "measured":
        raise InputError("measured profiles are now listed by: capsim catalogue profiles")
    if word.lower() not in kinds:
        raise unknown("part of the catalogue", word, list(kinds))
    return kinds[word.lower()]


@dataclass(frozen=True)
class Line:
    """One figure of an entry."""

    figure: str
    value: str
    seen: str = ""
    """How it was seen, where it names its source."""
    sources: tuple[int, ...] = ()
    """Numbers of its sources in the list of the entry, from 1."""
    note: str = ""


@dataclass(frozen=True)
class Entry:
    """Everything that is known of one entry of the catalogue."""

    lines: tuple[Line, ...]
    sources: tuple[str, ...]
    """Titles, with their dates."""


def parts() -> dict[str, str]:
    """What the catalogue consists of: the word of each part, and what it holds.

    >>> parts()["devices"]
    'accelerators'
    """
    return {word: part.title for word, part in _kinds().items()}


def names(kind: str) -> list[str]:
    """The names of the entries of a part.

    >>> names("systems")[-1]
    'workstation-rtx-a6000-nvlink'
    """
    return _kind(kind).names()


def rows(kind: str) -> list[Row]:
    """The entries of a part in the order of their names, as a list shows them; ° marks unverified figures.

    >>> rows("overheads")[3]
    {'overhead': 'aws', 'name': 'AWS average', 'ratio': '1.15'}
    """
    part = _kind(kind)
    return [part.row(part.load(name)) for name in part.names()]


def matching(kind: str, text: str) -> list[str]:
    """Names of the entries of a part that a text may mean, best match first; models and stacks by further names too.

    >>> matching("models", "llama 3.1 8b"), matching("stacks", "axolotl")
    (['llama-3.1-8b'], ['huggingface'])

    Raises
    ------
    InputError
        Where it means none.
    """
    names = _kind(kind).names()
    if kind == "models":
        matches = naming.best_first(text, names)
    else:
        meant = stack_meant(text) if kind == "stacks" else None
        matches = [meant] if meant else _holding(text, names)
    if not matches:
        raise InputError(f"search={shown(text)}: none of the {kind} is called so; capsim catalogue {kind} lists all")
    return matches


def _holding(text: str, names: list[str]) -> list[str]:
    """Names that hold all words of a text, those first that begin with it."""
    words = text.lower().split()
    held = [name for name in names if words and all(word in name.lower() for word in words)]
    return sorted(held, key=lambda name: (not name.lower().startswith(text.lower()), len(name), name))


def remark(kind: str) -> str:
    """What a list of a part needs besides its rows, such as the unit of some columns.

    >>> remark("devices")
    'Formats in dense TFLOP/s.'
    """
    return _REMARKS.get(kind, "")


def entry(kind: str, name: str) -> Entry:
    """One entry, with the source of every figure that names one.

    Raises
    ------
    InputError
        With the nearest names.
    """
    return _lines(_load(kind.lower(), _kind(kind), name))


def data(kind: str | None, name: str | None, search: str | None = None) -> Any:
    """The catalogue as plain data.

    Parameters
    ----------
    kind
        Such as devices; without it the number of entries of each kind.
    name
        One entry.
    search
        What the names of the listed entries hold; all unless given.

    Raises
    ------
    InputError
        With the nearest names.
    """
    if kind is None:
        return {word: len(part.names()) for word, part in _kinds().items()}
    part = _kind(kind)
    if _is_offers(kind.lower(), name):
        return [_entry(offer) for offer in catalogue.load_prices(str(name))]
    if name is not None:
        return _entry(_load(kind.lower(), part, name))
    listed = part.names() if search is None else matching(kind.lower(), search)
    return [_entry(part.load(known)) for known in listed]


def _is_offers(kind: str, name: str | None) -> bool:
    """Whether a name means a file of offers of one's own, which may hold several."""
    return kind == "prices" and is_document(name)


def _load(kind: str, part: _Part, name: str) -> Any:
    """Load one entry by name, or from a file of one's own."""
    if kind in ("models", "stacks"):
        return part.load(name)
    if name not in part.names() and not (kind in _FILES and is_path(name)):
        if kind == "profiles" and name in catalogue.names("classes"):
            raise InputError(f"{name} is a class of devices, not a measured profile: capsim catalogue classes {name}")
        raise unknown(_SINGULAR.get(kind, kind.removesuffix("s")), name, part.names())
    return part.load(name)


def _entry(entry: Any) -> dict[str, Any]:
    """One entry as its file holds it: quantities with their unit, each figure with its source where it names one."""
    return entry.written() if isinstance(entry, Sheet) else dict(entry.model_dump(mode="json"))


def show(kind: str | None, name: str | None, search: str | None = None) -> None:
    """Print the catalogue, a list, or one entry."""
    from rich.console import Console

    kind = kind.lower() if kind is not None else None
    console = Console(highlight=False, markup=False, emoji=False)
    if kind is None:
        listed = (
            {"part": word, "entries": str(len(part.names())), "what": part.title} for word, part in _kinds().items()
        )
        console.print(_table(listed, console.width))
        console.print("capsim catalogue PART lists one, capsim catalogue PART NAME shows the source of every figure;")
        console.print("PART --search WORDS lists what is called so, families what is read from Hugging Face files.")
    elif name is None or _is_offers(kind, name):
        part = _listed(kind, search) if name is None else [row.of_price(one) for one in catalogue.load_prices(name)]
        console.print(_table(part, console.width))
        recalled = any("°" in cell for row in part for cell in row.values())
        told = "A figure with ° is unverified: recalled, not read from a source." if recalled else ""
        if words := f"{remark(kind)} {told}".strip():
            console.print(words)
    else:
        console.print(_sheet(entry(kind, name), console.width))


def _listed(kind: str, search: str | None) -> list[Row]:
    """The rows of a part, or of its entries that a text may mean."""
    if search is None:
        return rows(kind)
    part = _kind(kind)
    return [part.row(part.load(name)) for name in matching(kind, search)]


def _table(rows: Iterable[Row], width: int) -> Any:
    """Rows as a table; words are broken before names and numbers, and no cell is ever cut: half a number is wrong."""
    from rich.table import Table
    from rich.text import Text

    listed = list(rows)
    longest = {column: max(len(cell) for cell in (column, *(row[column] for row in listed))) for column in listed[0]}
    solid = {column for column in longest if all(" " not in row[column] for row in listed)}
    least = sum(longest[column] if column in solid else _BROKEN for column in longest) + len(longest)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in longest:
        table.add_column(column, overflow="fold", no_wrap=column in solid and least <= width)
    for cells in listed:
        table.add_row(*(Text(cell) for cell in cells.values()))
    return table


def _sheet(entry: Entry, width: int) -> Any:
    """One entry as a table of figures with the numbers of their sources, and the sources below."""
    from rich.console import Group
    from rich.text import Text

    cited = any(line.seen for line in entry.lines)
    lines = (
        {
            "figure": line.figure,
            "value": line.value,
            **({"seen": f"{line.seen} {_cited(line)}".strip(), "note": line.note} if cited else {}),
        }
        for line in entry.lines
    )
    listed = [f"[{number}] {title}" for number, title in enumerate(entry.sources, start=1)]
    return Group(_table(lines, width), *map(Text, ["", *listed] if listed else []))


def _cited(line: Line) -> str:
    """The numbers of a figure's sources, in brackets."""
    return f"[{', '.join(map(str, line.sources))}]" if line.seen else ""


def _lines(entry: Any) -> Entry:
    """The figures of one entry, and their sources."""
    if isinstance(entry, Figure):
        return _figure(entry)
    if not isinstance(entry, Sheet):
        fields = entry.model_dump(mode="json").items()
        return Entry(tuple(Line(name, _plain(value)) for name, value in fields if value is not None), ())
    values, lines = entry.shown(), []
    cited: dict[str, int] = {}
    for name, value, provenance in entry.figures():
        if value is None and provenance is None:
            continue
        if provenance is None:
            lines += [Line(place, told) for place, told in _parted(name, values[name])]
        else:
            told = "none" if value is None else _plain(values[name])
            numbers = tuple(cited.setdefault(key, len(cited) + 1) for key in provenance.source)
            lines.append(Line(name, told, provenance.seen, numbers, provenance.note or ""))
    if isinstance(entry, Stack):
        lines += [Line(f"also called {name}", said.because) for name, said in further_names_of(entry.id).items()]
    titles = catalogue.sources()
    return Entry(tuple(lines), tuple(titles.get(key, key) for key in cited))


def _figure(figure: Figure) -> Entry:
    """A figure that no field of a specification holds."""
    titles = catalogue.sources()
    numbers = tuple(range(1, len(figure.source) + 1))
    value = f"{_plain(figure.value)} {figure.unit}".strip()
    lines = [
        Line("subject", figure.subject),
        Line("what", figure.what.replace("_", " ")),
        Line("value", value, figure.seen, numbers, figure.note or ""),
    ]
    conditions = [Line("conditions", figure.conditions)] if figure.conditions else []
    return Entry((*lines, *conditions), tuple(titles.get(key, key) for key in figure.source))


def _parted(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The parts of a value that has parts, each with its place, else the value itself."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _parted(f"{name}.{key}", part)
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        for number, part in enumerate(value, start=1):
            yield f"{name}.{number}", _plain(part)
    else:
        yield name, _plain(value)


def _plain(value: Any) -> str:
    """A value of plain data in one line."""
    if isinstance(value, list):
        if len(value) > _LISTED:
            return f"{len(value):,} values"
        return ", ".join(map(_plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items() if part is not None)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return f"{value:,.0f}"
    return str(value)
