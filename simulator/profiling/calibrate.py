"""From measurements to a measured profile: every phase is fitted, and scored on what the fit had not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from hardware.catalogue import id_of, load_class, load_device, names, plain_host
from hardware.classes import AttentionConstants, DeviceClass, GemmConstants, Precision, peak_field
from hardware.errors import InputError
from hardware.measured import CollectiveName, HeldOutScore, LinkConstants, MeasuredProfile, Shapes
from hardware.sheet import Seen
from hardware.spec import Device
from simulator.pricing.analytic import PRECISIONS, AnalyticBackend, precisions_of
from simulator.profiling.fit import attentions, keeping, links, products, streams
from simulator.profiling.fit.sheet import DataSheet
from simulator.profiling.fit.steps import with_steps
from simulator.profiling.records.journal import merge, read
from simulator.profiling.records.machine import device_of
from simulator.profiling.records.reading import StepTime, check, measurements_of, steps_of
from simulator.profiling.records.record import Record
from simulator.profiling.records.rows import Attentions, Collectives, Measurements, Products, Streams
from simulator.profiling.tables import reading as tables_of

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Origin:
    """What a profile says of itself."""

    id: str
    title: str
    source: str
    seen: Seen


@dataclass(frozen=True)
class Gathered:
    """What records and tables say of one device."""

    measurements: Measurements
    steps: list[StepTime]
    device: Device
    source: str
    """The files, with dates and versions."""


def calibrate(
    files: Sequence[str | Path],
    *,
    device: str | None = None,
    rows_of: str | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> MeasuredProfile:
    """Fit a measured profile to records and operator tables of one device.

    Parameters
    ----------
    files
        Records of ``capsim measure``, and tables of operators (CSV, packed by gzip or not).
    device
        The device's name or data sheet; a record says it where the catalogue has it, tables never do.
    rows_of
        The device as the tables name it, where that is not its name here.
    name
        File that the profile will have; its name becomes the profile's.
    progress
        Called with words on what is fitted next; what it raises ends the fit.

    Raises
    ------
    InputError
        One sentence, with the file and what would be valid.

    Notes
    -----
    `simulator.estimate` and its relatives take the profile as it is, or as a file: `profile_text` writes it.
    """
    gathered = gather(files, device=device, rows_of=rows_of)
    the_device = gathered.device
    the_id = id_of(Path(name)) if name is not None else "measured"
    origin = Origin(the_id, f"{the_device.name[:500]}, measured", gathered.source[:600], "primary")
    catalogued = the_device.id in names("devices") and the_device == load_device(the_device.id)
    return fit(gathered.measurements, gathered.steps, the_device, origin, catalogued=catalogued, progress=progress)


def gather(
    files: Sequence[str | Path],
    *,
    device: str | Path | Device | None = None,
    rows_of: str | None = None,
    same: bool = False,
) -> Gathered:
    """Read records and tables of one device.

    Parameters
    ----------
    files, device, rows_of
        As in `calibrate`.
    same
        Whether records must say that they are of that device.

    Raises
    ------
    InputError
        One sentence, with the file and what would be valid.
    """
    if not files:
        raise InputError("nothing to fit; give at least one record of capsim measure, or one table")
    tables = [file for file in files if Path(file).suffix in (".csv", ".gz")]
    records = {str(file): _sound(file) for file in files if file not in tables}
    the_device = load_device(device) if device is not None else None
    parts: list[Measurements] = []
    steps: list[StepTime] = []
    if records:
        whole = _merged(records)
        parts, steps = [measurements_of(whole)], steps_of(whole)
        with _of(", ".join(records)):
            _check_kind(whole, the_device)
            if the_device is not None and same:
                _check_same(whole, the_device)
            the_device = the_device or device_of(whole, parts[0])
    if the_device is None:
        raise InputError(f"{tables[0]}: a table does not say which device of the catalogue it is of; give --device")
    parts += [tables_of.read(file, rows_of or the_device.id) for file in tables]
    source = "; ".join([*(_record_words(record) for record in records.values()), *(Path(file).name for file in tables)])
    return Gathered(Measurements.joined(parts), steps, the_device, source)


def steps_in(file: str | Path, device: Device) -> list[StepTime]:
    """The training steps of a record of a device.

    Raises
    ------
    InputError
        Where the file is no record, is of another device, or has no steps.
    """
    record = _sound(file)
    steps = steps_of(record)
    with _of(file):
        _check_kind(record, device)
        _check_same(record, device)
        if not steps:
            raise InputError("has no training steps; measure some with capsim measure --phases step")
    return steps


@contextmanager
def _of(file: str | Path) -> Iterator[None]:
    """Name the file in what is wrong with it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def _sound(file: str | Path) -> Record:
    """A record, if something can be learned from all that it holds."""
    record = read(Path(file))
    with _of(file):
        check(record)
    return record


def _merged(records: Mapping[str, Record]) -> Record:
    """Records of one device as one."""
    (first, whole), *others = records.items()
    for file, record in others:
        whole = merge(whole, record, names=(first, file))
    return whole


def _check_kind(record: Record, device: Device | None) -> None:
    """Refuse a data sheet of another kind of device than the one that ran."""
    kind = "cpu" if record.environment.device.kind == "cpu" else "gpu"
    if device is not None and device.kind != kind:
        raise InputError(f"was measured on a {kind}, and {device.id} is a {device.kind}")


def _check_same(record: Record, device: Device) -> None:
    """Refuse a record that is of another device than a profile."""
    said = record.environment.device
    same = said.name == device.name if device.kind == "cpu" else said.catalogue in (None, device.id)
    if not same:
        raise InputError(f"is of {said.name}, and the profile of {device.name}; check it against its own device")


def _record_words(record: Record) -> str:
    """Device, date and versions of a record."""
    where = record.environment
    date = datetime.fromtimestamp(where.started, tz=UTC).date().isoformat()
    versions = [f"torch {where.software.torch}"]
    versions += [f"CUDA {where.software.cuda}"] if where.software.cuda else []
    versions += [f"driver {where.software.driver}"] if where.software.driver else []
    host = f" ({where.host.cpu})" if where.device.kind == "cpu" and where.host.cpu else ""
    return f"capsim measure on {where.device.name}{host}, {date}, {', '.join(versions)}, {len(record.best)} results"


@dataclass
class _Draft:
    """A profile that is being written."""

    constants: DeviceClass
    borrowed: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    scores: list[HeldOutScore] = field(default_factory=list)

    def keep(self, place: str, scores: Sequence[HeldOutScore]) -> None:
        """Note constants that stay the catalogue's, since a fit of them is further off."""
        self.scores += keeping.kept(scores)
        self.kept[place] = keeping.why(scores)

    def borrow(self, phase: str, reasons: dict[str, str], where: str) -> None:
        """Note constants that stay as they were, why so, and where they come from."""
        self.borrowed |= {f"{phase}.{name}": f"{why}; as {where}" for name, why in reasons.items()}


def fit(
    measurements: Measurements,
    steps: Sequence[StepTime],
    device: Device,
    origin: Origin,
    *,
    catalogued: bool = True,
    progress: Progress | None = None,
) -> MeasuredProfile:
    """Fit a profile.

    Parameters
    ----------
    found
        Kernels and collectives.
    steps
        Training steps on one device.
    device
        What was measured.
    origin
        Name and source of the profile.
    catalogued
        Whether the device is in the catalogue; otherwise the profile holds its sheet.
    progress
        Called with words on what is fitted next; what it raises ends the fit.
    """
    tell = progress or _silent
    draft = _Draft(load_class(device.device_class))
    tell(f"{len(measurements.products):,} matrix products")
    multiplied = _products(draft, measurements.products, device, origin)
    tell(f"{len(measurements.attentions):,} attention kernels")
    attended = _attentions(draft, measurements.attentions, device, origin)
    _memory(draft, measurements.streams, device, origin)
    tell(f"{len(measurements.collectives):,} collectives")
    profile = MeasuredProfile(
        id=origin.id,
        title=origin.title,
        source=origin.source,
        seen=origin.seen,
        device=device.id if catalogued else device,
        constants=draft.constants,
        fitted=tuple(multiplied),
        links=_links(draft, measurements.collectives, device),
        products=multiplied,
        attentions=attended,
        held_out=tuple(draft.scores),
        borrowed=draft.borrowed,
        kept=draft.kept,
    )
    tell(f"{len(steps):,} training steps")
    return with_steps(profile, measurements.streams, steps, device)


def _silent(words: str) -> None:
    """Tell nobody."""
    del words


def _products(draft: _Draft, rows: Products, device: Device, origin: Origin) -> dict[Precision, Shapes]:
    """Fit products, number format by number format; what was not measured stays as the device class has it."""
    shapes: dict[Precision, Shapes] = {}
    gemm = dict(draft.constants.gemm)
    gradient = draft.constants.weight_gradient_efficiency
    for precision in PRECISIONS:
        mine = rows.where(rows.dtype == precision)
        if precision not in gemm or not getattr(device.peak, peak_field(precision)):
            continue
        if not len(mine):
            draft.borrowed[f"gemm.{precision}"] = f"no product was measured; as {device.device_class}"
            continue
        learn = partial(_learned, mine, DataSheet.of(device, precision), gemm[precision], gradient, origin)
        learned, held, taken = keeping.best(learn, lambda each: each.scores, products.BY_PART)
        if not taken:
            draft.keep(f"gemm.{precision}", learned.scores)
            continue
        draft.scores += learned.scores
        if held:
            words = keeping.why(learn(()).scores)
            draft.kept |= {f"gemm.{precision}.{name}": words for name in held}
        gemm[precision] = learned.fitted.constants
        if np.any(mine.weight_gradient > 0):
            gradient = learned.fitted.weight_gradient
        shapes[precision] = learned.shapes
        borrowed = {name: why for name, why in learned.fitted.borrowed.items() if name not in held}
        draft.borrow(f"gemm.{precision}", borrowed, device.device_class)
    draft.constants = draft.constants.model_copy(update={"gemm": gemm, "weight_gradient_efficiency": gradient})
    return shapes


def _learned(
    rows: Products, sheet: DataSheet, start: GemmConstants, gradient: float, origin: Origin, held: tuple[str, ...]
) -> products.LearnedProducts:
    """A fit of products, with some constants held at the catalogue's."""
    return products.learn(
        rows,
        sheet,
        start,
        weight_gradient=gradient,
        source=origin.source,
        seen=origin.seen,
        held=dict.fromkeys(held, "a fit is further off than the catalogue"),
    )


def _attentions(draft: _Draft, rows: Attentions, device: Device, origin: Origin) -> dict[Precision, Shapes]:
    """Fit fused attention, of the fastest kernel that was measured."""
    shapes: dict[Precision, Shapes] = {}
    known = dict(draft.constants.attention)
    for precision in PRECISIONS:
        mine = rows.where(rows.dtype == precision)
        start = known.get(precision) or next(iter(known.values()), None)
        if start is None or not getattr(device.peak, peak_field(precision)) or not len(mine):
            continue
        mine = mine.where(mine.kernel == attentions.fastest_kernel(mine))
        learned = attentions.learn(mine, DataSheet.of(device, precision), start, source=origin.source, seen=origin.seen)
        if keeping.why(learned.scores):
            draft.keep(f"attention.{precision}", learned.scores)
            continue
        draft.scores += learned.scores
        known[precision] = learned.fitted.constants
        shapes[precision] = learned.shapes
        draft.borrow(f"attention.{precision}", learned.fitted.borrowed, device.device_class)
    if not shapes:
        draft.borrowed["attention"] = f"no fused attention was measured; as {device.device_class}"
    measured: dict[Precision, AttentionConstants] = known
    draft.constants = draft.constants.model_copy(update={"attention": measured})
    return shapes


def _memory(draft: _Draft, rows: Streams, device: Device, origin: Origin) -> None:
    """Rates of kernels that are bound by memory."""
    start = draft.constants.memory
    learned = streams.learn(rows, float(device.memory.bandwidth), start)
    said = dict(learned.values)
    if not {"efficiency", "normalisation_efficiency"} & said.keys():
        draft.borrowed["memory"] = f"too few large kernels were measured; as {device.device_class}"
        return
    for name in ("efficiency", "normalisation_efficiency", "launch"):
        scores = [learned.scores[name]] if name in learned.scores else []
        if keeping.why(scores):
            draft.keep(f"memory.{name}", scores)
            del said[name]
            continue
        draft.scores += scores
        if name not in said:
            size = "small" if name == "launch" else "large"
            draft.borrowed[f"memory.{name}"] = f"too few {size} kernels were measured; as {device.device_class}"
    memory = start.model_copy(update={**said, "source": origin.source, "seen": origin.seen} if said else {})
    draft.constants = draft.constants.model_copy(update={"memory": memory})


def _links(draft: _Draft, rows: Collectives, device: Device) -> dict[CollectiveName, dict[int, LinkConstants]]:
    """Collectives inside a node."""
    inside = rows.where((rows.nodes <= 1.0) & np.isin(rows.kind, links.KINDS))
    if not len(inside):
        return {}
    host, ranks = plain_host(device), int(inside.degree.max())
    precision = precisions_of(device)[0]
    fitted = links.fit(inside, AnalyticBackend.of(host, min(ranks, host.most_devices), precision))
    whole = [score for score in fitted.scores if score.what == "all"]
    worse = {score.what.replace("-", "_"): score for score in fitted.scores if keeping.is_worse(score)}
    refused = {kind for kind in fitted.constants if kind in worse or keeping.why(whole)}
    for score in fitted.scores:
        kind = score.what.partition(" over ")[0].replace("-", "_")
        stays = kind in refused or (score in whole and len(refused) == len(fitted.constants))
        draft.scores += keeping.kept([score]) if stays else [score]
    draft.kept |= {f"links.{kind}": keeping.why([worse[kind]] if kind in worse else whole) for kind in sorted(refused)}
    taken = {kind: each for kind, each in fitted.constants.items() if kind not in refused}
    draft.borrowed |= {name: each for name, each in fitted.borrowed.items() if name.split(".")[1] in taken}
    return taken
