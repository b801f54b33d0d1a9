"""What was measured beside what a profile and the catalogue's constants say of it: every row of every kind of work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, get_args

import numpy as np

from hardware.catalogue import load_class, plain_host
from hardware.classes import AttentionConstants, DeviceClass, Precision
from hardware.measured import ATTENTION_SIZES, PRODUCT_SIZES, CollectiveName, MeasuredProfile, Phase, Shapes
from hardware.spec import Device
from simulator.pricing.analytic import AnalyticBackend, precisions_of
from simulator.pricing.measured import device_of
from simulator.pricing.measured_links import MeasuredLinks
from simulator.pricing.nearest import Nearest
from simulator.pricing.requests import link_request
from simulator.profiling import in_words
from simulator.profiling.fit import attentions, products, streams
from simulator.profiling.fit import steps as stepping
from simulator.profiling.fit.fitting import is_possible
from simulator.profiling.fit.sheet import DataSheet
from simulator.profiling.records.reading import StepTime
from simulator.profiling.records.rows import (
    Attentions,
    Collectives,
    Measurements,
    Products,
    Streams,
    TimedCalls,
    Values,
    Words,
)
from simulator.profiling.records.scenarios import step_amounts

SIZES: dict[Phase, str] = {"gemm": "FLOP", "attention": "FLOP", "stream": "B", "collective": "B", "step": "FLOP"}
"""The kinds of work that are compared, and what their sizes are: arithmetic, bytes moved, or those of a message."""
WORDS: dict[Phase, str] = {phase: in_words.PHASES[phase] for phase in SIZES}
"""The kinds of work that are compared, in words."""
Rows = TypeVar("Rows", bound=TimedCalls)
_KINDS: tuple[CollectiveName, ...] = get_args(CollectiveName)


@dataclass(frozen=True)
class TimeErrors:
    """How far off predicted times are."""

    rows: int
    median: float
    """Of |predicted / measured - 1|."""
    p90: float
    bias: float
    """Sum of predicted over sum of measured times, minus 1."""


@dataclass(frozen=True)
class PhaseRows:
    """The rows of one kind of work; columns of equal length, times in seconds."""

    phase: Phase
    words: tuple[str, ...]
    size: Values
    """As `SIZES` says."""
    measured_s: Values
    before_s: Values
    """By the catalogue's constants of the device's class."""
    form_s: Values
    """By the profile's constants alone."""
    after_s: Values
    """By the profile as estimates use it: its constants, and what the nearest measured shapes say."""

    def __len__(self) -> int:
        return len(self.measured_s)

    def errors(self, predicted: Values) -> TimeErrors:
        """How far off a column of predicted times is."""
        off = predicted / self.measured_s - 1.0
        return TimeErrors(
            rows=len(self),
            median=float(np.median(np.abs(off))),
            p90=float(np.quantile(np.abs(off), 0.9)),
            bias=float(predicted.sum() / self.measured_s.sum() - 1.0),
        )

    def to_rows(self) -> list[dict[str, Any]]:
        """One mapping a row, of plain values."""
        columns = (self.size, self.measured_s, self.before_s, self.form_s, self.after_s)
        names = ("size", "measured_s", "before_s", "form_s", "after_s")
        return [
            {"phase": self.phase, "words": words, **dict(zip(names, map(float, values), strict=True))}
            for words, *values in zip(self.words, *columns, strict=True)
        ]


@dataclass(frozen=True)
class Comparison:
    """All that was measured of one device beside what is said of it."""

    profile: str
    device: str
    rows_of: str
    """Where the rows come from."""
    parts: dict[Phase, PhaseRows]
    """Without those of which nothing was measured."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows that are not compared, by the reason."""

    def to_dict(self) -> dict[str, Any]:
        """The errors of each kind of work, as plain values."""
        return {
            "profile": self.profile,
            "device": self.device,
            "rows_of": self.rows_of,
            "errors": {
                phase: {
                    "catalogue": vars(part.errors(part.before_s)),
                    "form": vars(part.errors(part.form_s)),
                    "profile": vars(part.errors(part.after_s)),
                }
                for phase, part in self.parts.items()
            },
            "left_out": self.left_out,
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """Every row, as plain values."""
        return [row for part in self.parts.values() for row in part.to_rows()]


def compared(
    profile: MeasuredProfile,
    measurements: Measurements,
    steps: Sequence[StepTime] = (),
    *,
    rows_of: str = "measurements",
) -> Comparison:
    """Price every row by a profile, and by the constants that the catalogue has for the device's class.

    Parameters
    ----------
    profile
        What was learned of the device.
    found
        Kernels and collectives that were measured on it.
    steps
        Training steps on one device.
    rows_of
        Where the rows come from, in words.
    """
    device = device_of(profile)
    left_out: dict[str, int] = {}
    parts = [
        *_products(profile, device, measurements.products, left_out),
        *_attentions(profile, device, measurements.attentions, left_out),
        _streams(profile, device, measurements.streams),
        _collectives(profile, device, measurements.collectives, left_out),
        _steps(profile, device, steps),
    ]
    together: dict[Phase, list[PhaseRows]] = {}
    for part in parts:
        if len(part):
            together.setdefault(part.phase, []).append(part)
    joined = {phase: _joined(members) for phase, members in together.items()}
    return Comparison(profile.id, device.id, rows_of, joined, {why: rows for why, rows in left_out.items() if rows})


def _joined(parts: Sequence[PhaseRows]) -> PhaseRows:
    """The rows of several, one after the other."""
    columns = ("size", "measured_s", "before_s", "form_s", "after_s")
    words = tuple(each for part in parts for each in part.words)
    return PhaseRows(
        parts[0].phase, words, **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    )


def _known_formats(device: Device, words: Words, what: str, left_out: dict[str, int]) -> tuple[Precision, ...]:
    """The number formats of rows that the device has units for; rows of others are counted."""
    known = precisions_of(device)
    for name in np.unique(words).tolist():
        if name not in known:
            left_out[f"{what} in {name}, for which the data sheet has no peak rate"] = int((words == name).sum())
    return tuple(name for name in known if np.any(words == name))


def _believed(rows: Rows, fastest: Values, what: str, left_out: dict[str, int]) -> Rows:
    """Rows whose times the data sheet allows, as a fit takes them; others are counted."""
    possible = is_possible(rows.seconds, fastest)
    why = f"{what} that beat the data sheet"
    left_out[why] = left_out.get(why, 0) + int((~possible).sum())
    return rows.where(possible)


def _corrected(form: Values, shapes: Shapes | None, sizes: Values) -> Values:
    """Times of a form with what the nearest measured shapes say of it."""
    if shapes is None or not shapes.sizes:
        return form
    nearest = Nearest(np.asarray(shapes.sizes, dtype=np.float64), np.asarray(shapes.residuals, dtype=np.float64))
    return np.asarray(form * nearest.correction(*sizes.T)[0])


def _product_times(constants: DeviceClass, rows: Products, sheet: DataSheet, precision: Precision) -> Values:
    """Times of products by the form [s]."""
    gradient = constants.weight_gradient_efficiency
    return products.seconds(rows, sheet, constants.gemm[precision], weight_gradient=gradient)


def _products(profile: MeasuredProfile, device: Device, rows: Products, left_out: dict[str, int]) -> list[PhaseRows]:
    """Matrix products, a part for each number format."""
    parts = []
    for precision in _known_formats(device, rows.dtype, WORDS["gemm"], left_out):
        mine, sheet = rows.where(rows.dtype == precision), DataSheet.of(device, precision)
        mine = _believed(mine, mine.flops / sheet.peak, WORDS["gemm"], left_out)
        form = _product_times(profile.constants, mine, sheet, precision)
        part = PhaseRows(
            phase="gemm",
            words=in_words.products(mine),
            size=mine.flops,
            measured_s=mine.seconds,
            before_s=_product_times(load_class(device.device_class), mine, sheet, precision),
            form_s=form,
            after_s=_corrected(form, profile.products.get(precision), products.sizes(mine)),
        )
        parts.append(part)
    return parts


def _fused(constants: DeviceClass, precision: Precision) -> AttentionConstants | None:
    """The constants of fused attention, or those of another number format where it was fitted in none of its own."""
    return constants.attention.get(precision) or next(iter(constants.attention.values()), None)


def _attentions(
    profile: MeasuredProfile, device: Device, rows: Attentions, left_out: dict[str, int]
) -> list[PhaseRows]:
    """Fused attention, by the fastest kernel of each number format, as a fit takes it."""
    parts, slower = [], 0
    for precision in _known_formats(device, rows.dtype, "attention", left_out):
        mine, sheet = rows.where(rows.dtype == precision), DataSheet.of(device, precision)
        mine = mine.where(mine.kernel == attentions.fastest_kernel(mine))
        slower += int((rows.dtype == precision).sum()) - len(mine)
        mine = _believed(mine, attentions.flops(mine) / sheet.peak, "attention", left_out)
        before, after = _fused(load_class(device.device_class), precision), _fused(profile.constants, precision)
        if before is None or after is None:
            left_out["attention, which the catalogue has no constants for on this class"] = len(mine)
            continue
        form = attentions.seconds(mine, sheet, after)
        part = PhaseRows(
            phase="attention",
            words=in_words.attentions(mine),
            size=attentions.flops(mine),
            measured_s=mine.seconds,
            before_s=attentions.seconds(mine, sheet, before),
            form_s=form,
            after_s=_corrected(form, profile.attentions.get(precision), attentions.sizes(mine)),
        )
        parts.append(part)
    left_out["attention by slower kernels than the one that is fitted"] = slower
    return parts


def _streams(profile: MeasuredProfile, device: Device, rows: Streams) -> PhaseRows:
    """Kernels that are bound by memory; random numbers take the time that steps say of them."""
    drawn = next((stack.drawn for stack in profile.stacks.values()), 0.0)
    draws = np.where(rows.operation == "dropout", drawn * rows.rows * rows.columns, 0.0)
    bandwidth = float(device.memory.bandwidth)
    form = streams.seconds(rows, profile.constants.memory, bandwidth) + draws
    return PhaseRows(
        phase="stream",
        words=in_words.streams(rows),
        size=rows.moved_bytes,
        measured_s=rows.seconds,
        before_s=streams.seconds(rows, load_class(device.device_class).memory, bandwidth),
        form_s=form,
        after_s=form,
    )


def _collectives(profile: MeasuredProfile, device: Device, rows: Collectives, left_out: dict[str, int]) -> PhaseRows:
    """Collectives inside a node."""
    inside = (rows.nodes <= 1.0) & (rows.degree > 1.0)
    left_out["collectives between nodes, of which a profile holds nothing"] = int((~inside).sum())
    known = np.isin(rows.kind, _KINDS)
    left_out["collectives of kinds that no plan uses"] = int((inside & ~known).sum())
    mine = rows.where(inside & known)
    before = _catalogued(device, mine) if len(mine) else mine.seconds
    links, after = MeasuredLinks(profile.links), before.copy()
    for kind in _KINDS:
        here = mine.kind == kind
        degree = np.where(kind == "send", 2.0, mine.degree[here])
        time, certain = links.time(kind, mine.message_bytes[here], degree)
        after[here] = np.where(certain, time, before[here])
    return PhaseRows("collective", in_words.collectives(mine), mine.message_bytes, mine.seconds, before, after, after)


def _catalogued(device: Device, rows: Collectives) -> Values:
    """Times of collectives by what is known of the wiring without measurements [s]."""
    host = plain_host(device)
    ranks = min(int(rows.degree.max()), host.most_devices)
    backend, times = AnalyticBackend.of(host, ranks, precisions_of(device)[0]), np.empty(len(rows))
    for kind in _KINDS:
        here = rows.kind == kind
        sizes, degree = rows.message_bytes[here], rows.degree[here]
        times[here] = backend.time(link_request(kind, sizes, degree=degree))
    return times


def _steps(profile: MeasuredProfile, device: Device, steps: Sequence[StepTime]) -> PhaseRows:
    """Training steps on one device."""
    compared_steps = stepping.compare(steps, profile, device)
    after = np.array([each.predicted_s for each in compared_steps], dtype=np.float64)
    return PhaseRows(
        phase="step",
        words=tuple(in_words.step(step) for step in steps),
        size=np.array([step_amounts(step.case, step.model).flops for step in steps], dtype=np.float64),
        measured_s=np.array([step.seconds for step in steps], dtype=np.float64),
        before_s=np.array([each.before_s for each in compared_steps], dtype=np.float64),
        form_s=after,
        after_s=after,
    )


def kept(profile: MeasuredProfile) -> Measurements:
    """The shapes that a profile keeps, at the times that it gives them: what is left of its rows without its files."""
    device = device_of(profile)
    multiplied, attended = [_products_of((), "fp32")], [_attentions_of((), "fp32")]
    for precision, shapes in profile.products.items():
        rows, left = _products_of(shapes.sizes, precision), np.exp(np.asarray(shapes.residuals))
        form = _product_times(profile.constants, rows, DataSheet.of(device, precision), precision)
        multiplied.append(replace(rows, seconds=form * left))
    for precision, shapes in profile.attentions.items():
        fused, left = _attentions_of(shapes.sizes, precision), np.exp(np.asarray(shapes.residuals))
        constants = _fused(profile.constants, precision)
        if constants is not None:
            form = attentions.seconds(fused, DataSheet.of(device, precision), constants)
            attended.append(replace(fused, seconds=form * left))
    nothing, words = np.zeros(0), np.zeros(0, np.str_)
    return Measurements(
        Products.joined(multiplied),
        Attentions.joined(attended),
        Streams(nothing, words, words, nothing, nothing, nothing),
        Collectives(nothing, words, nothing, nothing, nothing),
    )


def _products_of(shapes: Sequence[Sequence[float]], precision: Precision) -> Products:
    """Products of the sizes that a profile keeps, without times."""
    sizes = np.asarray(shapes, dtype=np.float64).reshape(len(shapes), len(PRODUCT_SIZES))
    columns = dict(zip(PRODUCT_SIZES, sizes.T, strict=True))
    return Products(
        seconds=np.ones(len(sizes)), dtype=np.full(len(sizes), precision), sustained=np.zeros(len(sizes)), **columns
    )


def _attentions_of(shapes: Sequence[Sequence[float]], precision: Precision) -> Attentions:
    """Fused attention of the sizes that a profile keeps, without times."""
    sizes = np.asarray(shapes, dtype=np.float64).reshape(len(shapes), len(ATTENTION_SIZES))
    columns = dict(zip(ATTENTION_SIZES, sizes.T, strict=True))
    ones, dtype, kernel = np.ones(len(sizes)), np.full(len(sizes), precision), np.full(len(sizes), "kept")
    return Attentions(seconds=ones, dtype=dtype, kernel=kernel, **columns)
