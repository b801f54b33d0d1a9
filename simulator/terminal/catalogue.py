"""The catalogue for reading: lists, and single entries with the source of every figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hardware import catalogue, units
from hardware.errors import unknown
from hardware.measured import MeasuredProfile
from hardware.price import Price
from hardware.reading import is_path
from hardware.spec import Device, Failures, Figure, Grid, Overhead, Sheet, Site, System
from simulator.scenario.scenario import parameters_of
from simulator.specs import loading
from simulator.specs.model import Model
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

Row = dict[str, str]

_YEAR = 365.25 * 86400.0
_BROKEN = 8
"""Characters of the narrowest column of words."""


_REMARKS = {
    "devices": "Formats in dense TFLOP/s.",
    "prices": "Of one device; an entry has what an instance holds, its network, region and source.",
    "measured": "Off: median error on measurements that were not fitted. Each entry names its source.",
}
"""What a list needs besides its rows."""
_LISTED = 40
"""Values of one figure that are written out."""
_ENOUGH = 5
"""Measurements whose median error is told in a list."""
_FILES = ("devices", "systems", "models", "stacks", "profiles", "measured")
"""Kinds whose entries are files."""


@dataclass(frozen=True)
class _Kind:
    """One kind of entry: its names, how one is loaded, and its row in a list."""

    title: str
    names: Callable[[], list[str]]
    load: Callable[[str], Any]
    row: Callable[[Any], Row]


def _kinds() -> dict[str, _Kind]:
    """Every kind of entry, by the word that asks for it."""
    prices = {price.id: price for price in catalogue.prices()}
    named = loading.names
    return {
        "devices": _Kind("accelerators", lambda: catalogue.names("devices"), catalogue.load_device, _device),
        "systems": _Kind("devices wired together", lambda: catalogue.names("systems"), catalogue.load_system, _system),
        "models": _Kind("architectures", lambda: named("models"), loading.load_model, _model),
        "stacks": _Kind("training software", lambda: named("stacks"), loading.load_stack, _stack),
        "prices": _Kind("offers to rent one device", lambda: list(prices), prices.__getitem__, _price),
        "profiles": _Kind("kernel constants", lambda: catalogue.names("profiles"), catalogue.load_profile, _profile),
        "measured": _Kind("constants of one machine", catalogue.measured_names, catalogue.load_measured, _measured),
        "links": _Kind("link constants", lambda: list(catalogue.link_profiles()), catalogue.link_profiles().get, _link),
        "grids": _Kind("carbon of electricity", lambda: list(catalogue.grids()), catalogue.grids().get, _grid),
        "overheads": _Kind(
            "power usage effectiveness", lambda: list(catalogue.overheads()), catalogue.overheads().get, _overhead
        ),
        "failures": _Kind(
            "failures and spot offers taken back",
            lambda: list(catalogue.failures()),
            catalogue.failures().get,
            _failures,
        ),
        "sites": _Kind(
            "restarts, storage and electricity", lambda: list(catalogue.sites()), catalogue.sites().get, _site
        ),
        "measurements": _facts("rates that somebody measured", catalogue.measurements),
        "reliability": _facts("failures of real runs", catalogue.reliability),
        "differences": _facts("often quoted figures and the vendor's", catalogue.differences),
    }


def _facts(title: str, load: Callable[[], tuple[Figure, ...]]) -> _Kind:
    """A kind of loose figures, numbered."""
    return _Kind(title, lambda: [str(i) for i in range(len(load()))], lambda name: load()[int(name)], _fact)


def _kind(word: str) -> _Kind:
    """The kind that a word asks for."""
    kinds = _kinds()
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
    return {word: found.title for word, found in _kinds().items()}


def names(kind: str) -> list[str]:
    """The names of the entries of a part.

    >>> names("systems")[-1]
    'workstation-rtx-a6000-nvlink'
    """
    return _kind(kind).names()


def rows(kind: str) -> list[Row]:
    """The entries of a part in the order of their names, as a list shows them; ° marks what is only recalled.

    >>> rows("overheads")[3]
    {'overhead': 'aws', 'name': 'AWS average', 'ratio': '1.15'}
    """
    found = _kind(kind)
    return [found.row(found.load(name)) for name in found.names()]


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


def data(kind: str | None, name: str | None) -> Any:
    """The catalogue as plain data.

    Parameters
    ----------
    kind
        Such as devices; without it the number of entries of each kind.
    name
        One entry.

    Raises
    ------
    InputError
        With the nearest names.
    """
    if kind is None:
        return {word: len(found.names()) for word, found in _kinds().items()}
    found = _kind(kind)
    if name is not None:
        return _entry(_load(kind.lower(), found, name))
    return [_entry(found.load(known)) for known in found.names()]


def _load(kind: str, found: _Kind, name: str) -> Any:
    """Load one entry by name, or from a file of one's own."""
    if name not in found.names() and not (kind in _FILES and is_path(name)):
        raise unknown(kind.removesuffix("s"), name, found.names())
    return found.load(name)


def _entry(entry: Any) -> dict[str, Any]:
    """One entry as plain data: each figure with its source where it names one."""
    if not isinstance(entry, Sheet):
        return dict(entry.model_dump(mode="json"))
    shown = entry.shown()
    figures: dict[str, Any] = {}
    for name, _, provenance in entry.figures():
        plain = shown[name]
        figures[name] = plain if provenance is None else {"value": plain, **provenance.model_dump(exclude_none=True)}
    return figures


def show(kind: str | None, name: str | None) -> None:
    """Print the catalogue, a list, or one entry."""
    from rich.console import Console

    kind = kind.lower() if kind is not None else None
    console = Console(highlight=False, markup=False, emoji=False)
    if kind is None:
        listed = (
            {"part": word, "entries": str(len(found.names())), "what": found.title} for word, found in _kinds().items()
        )
        console.print(_table(listed, console.width))
        console.print("capsim catalogue PART lists one, capsim catalogue PART NAME shows the source of every figure.")
    elif name is None:
        found = rows(kind)
        console.print(_table(found, console.width))
        recalled = any("°" in cell for row in found for cell in row.values())
        told = "A figure with ° is only recalled; the others were read or derived." if recalled else ""
        if words := f"{remark(kind)} {told}".strip():
            console.print(words)
    else:
        console.print(_sheet(entry(kind, name), console.width))


def _table(rows: Iterable[Row], width: int) -> Any:
    """Rows as a table; words are broken before names and numbers, and no cell is ever cut: half a number is wrong."""
    from rich.table import Table
    from rich.text import Text

    found = list(rows)
    longest = {column: max(len(cell) for cell in (column, *(row[column] for row in found))) for column in found[0]}
    solid = {column for column in longest if all(" " not in row[column] for row in found)}
    least = sum(longest[column] if column in solid else _BROKEN for column in longest) + len(longest)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in longest:
        table.add_column(column, overflow="fold", no_wrap=column in solid and least <= width)
    for row in found:
        table.add_row(*(Text(cell) for cell in row.values()))
    return table


def _sheet(found: Entry, width: int) -> Any:
    """One entry as a table of figures with the numbers of their sources, and the sources below."""
    from rich.console import Group
    from rich.text import Text

    cited = any(line.seen for line in found.lines)
    lines = (
        {
            "figure": line.figure,
            "value": line.value,
            **({"seen": f"{line.seen} {_cited(line)}".strip(), "note": line.note} if cited else {}),
        }
        for line in found.lines
    )
    listed = [f"[{number}] {title}" for number, title in enumerate(found.sources, start=1)]
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
    shown, lines = entry.shown(), []
    cited: dict[str, int] = {}
    for name, value, provenance in entry.figures():
        if value is None and provenance is None:
            continue
        if provenance is None:
            lines += [Line(place, told) for place, told in _parted(name, shown[name])]
        else:
            told = "none" if value is None else _plain(shown[name])
            numbers = tuple(cited.setdefault(key, len(cited) + 1) for key in provenance.source)
            lines.append(Line(name, told, provenance.seen, numbers, provenance.note or ""))
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


def _marked(sheet: Sheet, name: str, text: str) -> str:
    """A figure, with a mark where it is only recalled."""
    provenance = sheet.provenance.get(name)
    return f"{text}°" if provenance is not None and provenance.seen == "recalled" else text


def _device(device: Device) -> Row:
    def tera(name: str) -> str:
        rate = getattr(device.peak, name)
        return _marked(device.peak, name, f"{rate / 1e12:,.4g}") if rate else "-"

    return {
        "device": device.id,
        "fp32": tera("fp32"),
        "tf32": tera("tf32"),
        "fp16": tera("fp16"),
        "bf16": tera("bf16"),
        "fp8": tera("fp8"),
        "GiB": _marked(device.memory, "usable", f"{device.memory_capacity / 2**30:.1f}"),
        "GB/s": _marked(device.memory, "bandwidth", f"{device.memory.bandwidth / 1e9:,.0f}"),
        "W": _marked(device.power, "limit", f"{device.power.rated:.0f}"),
    }


def _system(system: System) -> Row:
    links = []
    for _, _, link in system.levels:
        rate = f"{link.bandwidth_per_device / 1e9:.3g} {link.kind}"
        links.append(_marked(link, "bandwidth", rate))
    return {
        "system": system.id,
        "device": system.device.id,
        "a node": str(system.devices_per_node),
        "most": f"{system.most_devices:,}",
        "GB/s a device, from the inside": ", ".join(links),
    }


def _model(model: Model) -> Row:
    return {
        "model": model.id,
        "kind": model.kind,
        "params": units.count(parameters_of(model, Workload().resolve(model))),
        "stated": units.count(model.published_parameters) if model.published_parameters else "-",
        "layers": f"{model.all_layers}",
        "hidden": f"{model.hidden_size:,}",
        "heads": f"{model.attention_heads}/{model.kv_heads}",
        "experts": f"{model.experts}" if model.experts > 1 else "-",
    }


def _stack(stack: Stack) -> Row:
    return {
        "stack": stack.id,
        "splits": " ".join(stack.axes),
        "attention": stack.attention,
        "precision": stack.defaults.precision,
        "sharding": stack.defaults.sharding,
        "recompute": stack.defaults.recompute,
    }


def _price(price: Price) -> Row:
    return {
        "offer": price.id,
        "device": price.device,
        "USD/h": _marked(price, "rate", f"{price.rate * 3600:.2f}"),
        "kind": price.kind.removeprefix("capacity-"),
        "date": price.date,
    }


def _profile(profile: Any) -> Row:
    best = next(profile.gemm[name] for name in ("bf16", "fp16", "fp32") if name in profile.gemm)
    return {
        "class": profile.id,
        "title": profile.title,
        "formats": ", ".join(profile.gemm),
        "share of peak": f"{best.efficiency:.2f}",
        "sustained": f"{best.efficiency * best.sustained:.2f}",
        "of bandwidth": f"{profile.memory.efficiency:.2f}",
        "source": best.source,
    }


def _measured(profile: MeasuredProfile) -> Row:
    ranks = sorted({number for by_ranks in profile.links.values() for number in by_ranks})
    off = {score.what: units.percent(score.median) for score in profile.held_out if score.scored >= _ENOUGH}
    best = (off.get(f"large {name} products", off.get(f"all {name} products", "-")) for name in profile.fitted)
    steps = next((off.get(score.what, "-") for score in profile.held_out if score.phase == "step"), "-")
    return {
        "profile": profile.id,
        "device": profile.device_id,
        "products": ", ".join(profile.fitted) or "-",
        "off": ", ".join(best) or "-",
        "attention": ", ".join(profile.attentions) or "-",
        "ranks": ", ".join(map(str, ranks)) or "-",
        "steps off": steps,
    }


def _link(link: Any) -> Row:
    return {
        "link": link.id,
        "title": link.title,
        "share of rate": _marked(link, "efficiency", f"{link.efficiency:.2f}"),
        "latency": units.duration(link.latency),
        "a rank": units.duration(link.latency_per_rank),
    }


def _grid(grid: Grid) -> Row:
    return {"grid": grid.id, "name": grid.name, "gCO2e/kWh": f"{grid.intensity * 3.6e9:.0f}"}


def _overhead(overhead: Overhead) -> Row:
    return {
        "overhead": overhead.id,
        "name": overhead.name,
        "ratio": _marked(overhead, "ratio", f"{overhead.ratio:.2f}"),
    }


def _failures(family: Failures) -> Row:
    return {
        "family": family.id,
        "name": family.name,
        "failures a device-year": units.digits(family.failure_rate * _YEAR),
        "spot losses an instance-year": units.digits(family.preemption_rate * _YEAR),
    }


def _site(site: Site) -> Row:
    return {
        "site": site.id,
        "name": site.name,
        "restart": units.duration(site.restart),
        "MB/s a device": f"{site.storage_bandwidth_per_device / 1e6:.0f}",
        "life": units.duration(site.lifetime),
        "USD/kWh": f"{site.electricity * 3.6e6:.3f}",
    }


def _fact(figure: Figure) -> Row:
    return {
        "subject": figure.subject,
        "what": figure.what.replace("_", " "),
        "value": f"{figure.value} {figure.unit}".strip(),
        "seen": figure.seen,
        "source": "; ".join(figure.source),
    }
