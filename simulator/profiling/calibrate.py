"""From measurements to a measured profile: every phase is fitted, and scored on what the fit had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from hardware.catalogue import id_of, load_device, load_profile, names, plain_host
from hardware.errors import InputError
from hardware.measured import CollectiveName, LinkConstants, MeasuredProfile, Score, Shapes
from hardware.profile import AttentionConstants, Precision, Profile
from hardware.reading import placed
from hardware.spec import Device, Seen
from simulator.backends.analytic import PRECISIONS, AnalyticBackend, precisions_of
from simulator.profiling import attentions, links, products, streams
from simulator.profiling import tables as tables_of
from simulator.profiling.journal import read as read_record
from simulator.profiling.machine import device_of
from simulator.profiling.record import Record
from simulator.profiling.recorded import StepTime, measurements_of, steps_of
from simulator.profiling.rows import Attentions, Collectives, Measurements, Products, Streams
from simulator.profiling.sheet import DataSheet
from simulator.profiling.stepping import with_steps

_WORSE = 1.05
"""Held-out error of a fit over that of the constants it started from, up to which the fit is taken."""


@dataclass(frozen=True)
class Origin:
    """What a profile says of itself."""

    id: str
    title: str
    source: str
    seen: Seen


def from_files(
    files: Sequence[str | Path], *, device: str | None = None, rows_of: str | None = None, name: str | None = None
) -> MeasuredProfile:
    """Fit a profile to records and tables of one device.

    Parameters
    ----------
    files
        Records of `capsim measure`, and operator tables.
    device
        The device's name or data sheet; a record says it where the catalogue has it, tables never do.
    rows_of
        The device as the tables name it, where that is not its name here.
    name
        File that the profile will have; its name becomes the profile's.

    Raises
    ------
    InputError
        One sentence, with the file and what would be valid.
    """
    tables = [file for file in files if Path(file).suffix in (".csv", ".gz")]
    records = [(file, read_record(Path(file))) for file in files if file not in tables]
    the_id = id_of(Path(name)) if name is not None else "measured"
    if not records and device is None:
        raise InputError(f"{tables[0]}: a table does not say which device of the catalogue it is of; give --device")
    parts = [measurements_of(record) for _, record in records]
    chosen: tuple[Device, bool] | None = None
    for (file, record), part in zip(records, parts, strict=True):
        with placed(file):
            found = device_of(record, part, device)
        if chosen is not None and found[0].id != chosen[0].id:
            raise InputError(f"{file}: is of {found[0].id}, and {records[0][0]} of {chosen[0].id}; fit each alone")
        chosen = found
    the_device, catalogued = chosen or (load_device(str(device)), str(device) in names("devices"))
    parts += [tables_of.read(file, rows_of or the_device.id) for file in tables]
    steps = [step for _, record in records for step in steps_of(record)]
    source = "; ".join([*(_record_words(record) for _, record in records), *(Path(file).name for file in tables)])
    origin = Origin(the_id, f"{the_device.name}, measured", source[:600], "primary")
    return calibrate(Measurements.joined(parts), steps, the_device, origin, catalogued=catalogued)


def steps_in(file: str | Path) -> list[StepTime]:
    """The training steps of a record.

    Raises
    ------
    InputError
        Where the file is no record, or has no steps.
    """
    found = steps_of(read_record(Path(file)))
    if not found:
        raise InputError(f"{file}: has no training steps; measure some with capsim measure --phases step")
    return found


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

    constants: Profile
    borrowed: dict[str, str] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)

    def borrow(self, phase: str, found: dict[str, str]) -> None:
        """Note constants that stay as they were."""
        self.borrowed |= {f"{phase}.{name}": why for name, why in found.items()}


def calibrate(
    found: Measurements, steps: Sequence[StepTime], device: Device, origin: Origin, *, catalogued: bool = True
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
    """
    draft = _Draft(load_profile(device.profile))
    multiplied = _products(draft, found.products, device, origin)
    attended = _attentions(draft, found.attentions, device, origin)
    _memory(draft, found.streams, device, origin)
    profile = MeasuredProfile(
        id=origin.id,
        title=origin.title,
        source=origin.source,
        seen=origin.seen,
        device=device.id if catalogued else device,
        constants=draft.constants,
        fitted=tuple(multiplied),
        links=_links(draft, found.collectives, device),
        products=multiplied,
        attentions=attended,
        held_out=tuple(draft.scores),
        borrowed=draft.borrowed,
    )
    return with_steps(profile, found.streams, steps, device)


def _products(draft: _Draft, rows: Products, device: Device, origin: Origin) -> dict[Precision, Shapes]:
    """Fit products, number format by number format; what was not measured stays as the device class has it."""
    shapes: dict[Precision, Shapes] = {}
    gemm = dict(draft.constants.gemm)
    gradient = draft.constants.weight_gradient_efficiency
    for precision in PRECISIONS:
        mine = rows.where(rows.dtype == precision)
        if precision not in gemm or not getattr(device.peak, precision):
            continue
        if not len(mine):
            draft.borrowed[f"gemm.{precision}"] = f"no product was measured; as {device.profile}"
            continue
        sheet = DataSheet.of(device, precision)
        learned = products.learn(
            mine, sheet, gemm[precision], weight_gradient=gradient, source=origin.source, seen=origin.seen
        )
        draft.scores += learned.scores
        if words := _no_better(learned.scores):
            draft.borrowed[f"gemm.{precision}"] = f"{words}; as {device.profile}"
            continue
        gemm[precision] = learned.fitted.constants
        if np.any(mine.weight_gradient > 0):
            gradient = learned.fitted.weight_gradient
        shapes[precision] = learned.shapes
        draft.borrow(f"gemm.{precision}", learned.fitted.borrowed)
    draft.constants = draft.constants.model_copy(update={"gemm": gemm, "weight_gradient_efficiency": gradient})
    return shapes


def _attentions(draft: _Draft, rows: Attentions, device: Device, origin: Origin) -> dict[Precision, Shapes]:
    """Fit fused attention, of the fastest kernel that was measured."""
    shapes: dict[Precision, Shapes] = {}
    known = dict(draft.constants.attention)
    for precision in PRECISIONS:
        mine = rows.where(rows.dtype == precision)
        start = known.get(precision) or next(iter(known.values()), None)
        if start is None or not getattr(device.peak, precision) or not len(mine):
            continue
        mine = mine.where(mine.kernel == attentions.fastest_kernel(mine))
        learned = attentions.learn(mine, DataSheet.of(device, precision), start, source=origin.source, seen=origin.seen)
        draft.scores += learned.scores
        if words := _no_better(learned.scores):
            draft.borrowed[f"attention.{precision}"] = f"{words}; as {device.profile}"
            continue
        known[precision] = learned.fitted.constants
        shapes[precision] = learned.shapes
        draft.borrow(f"attention.{precision}", learned.fitted.borrowed)
    if not shapes:
        draft.borrowed["attention"] = f"no fused attention was measured; as {device.profile}"
    measured: dict[Precision, AttentionConstants] = known
    draft.constants = draft.constants.model_copy(update={"attention": measured})
    return shapes


def _no_better(scores: Sequence[Score]) -> str:
    """Why a fit is not taken: on rows that it had not seen it is worse than what it started from."""
    whole = next((score for score in scores if score.what.startswith("all ")), None)
    if whole is None or whole.before is None:
        return ""
    best = min(whole.median, whole.median if whole.with_residuals is None else whole.with_residuals)
    if best <= _WORSE * whole.before:
        return ""
    fitted, known = f"{100 * best:.1f} %", f"{100 * whole.before:.1f} %"
    return f"a fit to {whole.fitted} rows is {fitted} off on others, the catalogue {known}"


def _memory(draft: _Draft, rows: Streams, device: Device, origin: Origin) -> None:
    """Rates of kernels that are bound by memory."""
    bandwidth, start = float(device.memory.bandwidth), draft.constants.memory
    said = {
        "efficiency": streams.efficiency_of(rows, bandwidth, reduces=False),
        "normalisation_efficiency": streams.efficiency_of(rows, bandwidth, reduces=True),
    }
    launch = streams.launch_of(rows, bandwidth)
    for name in [name for name, value in said.items() if value is None]:
        draft.borrowed[f"memory.{name}"] = f"too few large kernels were measured; as {device.profile}"
    if launch is None:
        draft.borrowed["memory.launch"] = f"too few small kernels were measured; as {device.profile}"
    if len(draft.borrowed.keys() & {"memory.efficiency", "memory.normalisation_efficiency"}) == 2:
        draft.borrowed["memory"] = f"nothing was measured; as {device.profile}"
        return
    changes = {name: float(f"{value:.4g}") for name, value in said.items() if value is not None}
    memory = start.model_copy(update={**changes, "source": origin.source, "seen": origin.seen})
    if launch is not None:
        memory = memory.model_copy(update={"launch": float(f"{launch:.4g}")})
    draft.constants = draft.constants.model_copy(update={"memory": memory})


def _links(draft: _Draft, rows: Collectives, device: Device) -> dict[CollectiveName, dict[int, LinkConstants]]:
    """Collectives inside a node."""
    inside = rows.where((rows.nodes <= 1.0) & np.isin(rows.kind, links.KINDS))
    if not len(inside):
        return {}
    host, ranks = plain_host(device), int(inside.degree.max())
    precision = precisions_of(device)[0]
    fitted = links.fit(inside, AnalyticBackend.of(host, min(ranks, host.most_devices), precision))
    draft.scores += fitted.scores
    draft.borrowed |= fitted.borrowed
    return fitted.constants
