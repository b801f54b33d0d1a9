"""The steps of a trace, and the time of one of them by kind: every moment belongs to one, so that sums are whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hardware.errors import InputError
from simulator.replay.measured.device import DeviceWork, device_of
from simulator.replay.measured.exchanges import Exchange, exchanges_of
from simulator.replay.measured.host import Activity, activities_of, threads_of
from simulator.replay.measured.kinds import COPIES, IDLE, OTHERS, KindNames, names
from simulator.replay.measured.reading import HOST, MOST_BYTES, ProfilerTrace, TraceEvent, read_trace

_MOST_OTHERS = 8
"""Names that are told of what no rule names."""


class StepWindow(NamedTuple):
    """A step on the clock of its trace [s]."""

    name: str
    start: float
    end: float

    @property
    def duration(self) -> float:
        """How long it takes [s]."""
        return self.end - self.start


@dataclass(frozen=True)
class KindTime:
    """Time of one kind in a step [s]."""

    seconds: float
    """In which the device is at it, or waits for it: sums over kinds are the step."""
    busy: float
    """Of all its calls, also of what runs beside other work."""


@dataclass(frozen=True)
class MeasuredStep:
    """A step that was measured."""

    trace: str
    """Name of the file."""
    device: str
    """What it ran on: ``CPU``, or a device of the trace."""
    name: str
    """Of the step in the trace."""
    duration: float
    """Of the step [s]."""
    steps: tuple[float, ...]
    """Of all steps of the trace, in their order [s]."""
    place: int
    """Which of them this is, from 0."""
    kinds: Mapping[str, KindTime]
    exchanges: tuple[Exchange, ...]
    """Collectives by kind and size."""
    unnamed: tuple[tuple[str, float], ...]
    """What no rule names, and its time [s], the longest first."""
    notes: tuple[str, ...]
    recorded: Mapping[str, Any]
    """What `capsim measure --trace` noted of it; empty of other traces."""


def measured_step(path: str | Path, *, most_bytes: int = MOST_BYTES) -> MeasuredStep:
    """Read a trace of torch's profiler, and take one of its steps apart.

    Of the steps that `torch.profiler` marked (``ProfilerStep#...``) the one of median duration is taken, of two in the
    middle the faster; on a CPU the fastest, since other programs only ever slow it down. A trace without marks is one
    step.

    Parameters
    ----------
    path
        JSON of torch's profiler, or the same under gzip.
    most_bytes
        The most that is read, unpacked [B].

    Raises
    ------
    InputError
        Where it is no such trace.
    """
    return step_of(read_trace(path, most_bytes=most_bytes), names())


def step_of(trace: ProfilerTrace, known: KindNames) -> MeasuredStep:
    """A usual step of a trace."""
    host = trace.of(HOST)
    threads = threads_of(host, known)
    device = device_of(trace, threads, known)
    activities = list(device.activities if device is not None else activities_of(threads.values()))
    marked = _marked(host, known)
    windows = marked if device is None else _on_device(marked, device, known)
    notes = _notes(device)
    if not windows:
        windows = [_whole(trace, activities)]
        notes.append("no ProfilerStep marks, so that the whole trace is taken as one step; call step() of the profiler")
    by_duration = sorted(range(len(windows)), key=lambda each: windows[each].duration)
    place = by_duration[0 if device is None else (len(windows) - 1) // 2]
    window = windows[place]
    owned, busy, unnamed = _attributed(activities, window, known)
    return MeasuredStep(
        trace=trace.name,
        device="CPU" if device is None else f"device {device.name}",
        name=window.name,
        duration=window.duration,
        steps=tuple(each.duration for each in windows),
        place=place,
        kinds={kind: KindTime(seconds, busy.get(kind, 0.0)) for kind, seconds in owned.items()},
        exchanges=exchanges_of(_exchanged(host, device, window, known), trace.ranks, known),
        unnamed=unnamed,
        notes=tuple(notes),
        recorded=trace.recorded,
    )


def _notes(device: DeviceWork | None) -> list[str]:
    """What a reader should know of a trace."""
    notes = []
    if device is not None and device.others:
        notes.append(f"device {device.name} computes most; left out: {', '.join(device.others)}")
    if device is not None and all(moment is None for moment in device.launched):
        notes.append("no launches in the trace, so that kernels are told by their names alone")
    return notes


def _marked(host: Sequence[TraceEvent], known: KindNames) -> list[StepWindow]:
    """Steps as the profiler marked them on the host."""
    marks = [
        StepWindow(event.name, event.start, event.end)
        for event in host
        if event.category == "user_annotation" and known.step.fullmatch(event.name) and event.end > event.start
    ]
    return sorted(marks, key=lambda each: each.start)


def _on_device(marked: Sequence[StepWindow], device: DeviceWork, known: KindNames) -> list[StepWindow]:
    """Steps as the device ran them: from the first kernel that a step launched to the first of the next one."""
    if not marked or all(moment is None for moment in device.launched):
        return list(marked)
    computes = np.array([not known.kinds[each.kind].is_link for each in device.activities])
    starts, ends = (
        np.array(each) for each in zip(*((each.start, each.end) for each in device.activities), strict=True)
    )
    launched = np.array([np.nan if moment is None else moment for moment in device.launched])
    windows: list[StepWindow] = []
    for mark in marked:
        own = (launched >= mark.start) & (launched < mark.end)
        first = own & computes if np.any(own & computes) else own
        if np.any(own):
            windows.append(StepWindow(mark.name, float(np.min(starts[first])), float(np.max(ends[own]))))
    following = [each.start for each in windows[1:]] + [windows[-1].end] if windows else []
    whole = [each._replace(end=end) for each, end in zip(windows, following, strict=True)]
    return [each for each in whole if each.duration > 0.0]


def _whole(trace: ProfilerTrace, activities: Sequence[Activity]) -> StepWindow:
    """All that a trace has, as one step."""
    if not activities:
        raise InputError(
            f"{trace.name}: has neither operators nor kernels that take time; "
            "record it with torch.profiler, with ProfilerActivity.CPU or ProfilerActivity.CUDA"
        )
    return StepWindow("the whole trace", min(each.start for each in activities), max(each.end for each in activities))


def _attributed(
    activities: Sequence[Activity], window: StepWindow, known: KindNames
) -> tuple[dict[str, float], dict[str, float], tuple[tuple[str, float], ...]]:
    """Time of a step by kind, of all calls by kind, and what no rule names [s].

    A moment with several activities belongs to compute before exchanges and copies, and of those to what began last.
    """
    inside = [each for each in activities if each.start < window.end and each.end > window.start]
    inside.sort(key=lambda each: (not known.kinds[each.kind].is_link, each.start))
    starts = np.clip(np.array([each.start for each in inside]), window.start, window.end)
    ends = np.clip(np.array([each.end for each in inside]), window.start, window.end)
    moments = np.unique(np.concatenate([starts, ends, [window.start, window.end]]))
    owner = np.full(len(moments) - 1, -1)
    places = np.searchsorted(moments, starts), np.searchsorted(moments, ends)
    for number, (first, last) in enumerate(zip(*(each.tolist() for each in places), strict=True)):
        owner[first:last] = number
    owned, busy, unnamed = (
        defaultdict[str, float](float),
        defaultdict[str, float](float),
        defaultdict[str, float](float),
    )
    own = np.bincount(owner + 1, weights=np.diff(moments), minlength=len(inside) + 1)
    for each, seconds, taken in zip(inside, own[1:].tolist(), (ends - starts).tolist(), strict=True):
        owned[each.kind] += seconds
        busy[each.kind] += taken
        if each.kind == OTHERS and seconds > 0.0:
            unnamed[each.name] += seconds
    owned[IDLE] += float(own[0])
    most = sorted(unnamed.items(), key=lambda item: -item[1])[:_MOST_OTHERS]
    return dict(owned), dict(busy), tuple(most)


def _exchanged(
    host: Sequence[TraceEvent], device: DeviceWork | None, window: StepWindow, known: KindNames
) -> list[tuple[TraceEvent, str]]:
    """Collectives of a step, each with its kind: by the moment in which they begin."""
    if device is None:
        pairs = [(event, fit.kind) for event in host if (fit := known.of_operator(event.name)) is not None]
    else:
        pairs = [(event, each.kind) for event, each in zip(device.events, device.activities, strict=True)]
    return [
        (event, kind)
        for event, kind in pairs
        if known.kinds[kind].is_link and kind != COPIES and window.start <= event.start < window.end
    ]
