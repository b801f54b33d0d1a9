"""What a device does: kernels and copies on its streams, and the operators that launched them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from simulator.replay.measured.host import Activity, HostThread
from simulator.replay.measured.kinds import COPIES, OTHERS, Fit, KindNames
from simulator.replay.measured.reading import KERNELS, LAUNCHES, ProfilerTrace, TraceEvent

_ON_DEVICE = ("dtod", "device -> device")
"""Of names of copies that leave neither the device nor its memory."""


@dataclass(frozen=True)
class DeviceWork:
    """Kernels and copies of one device."""

    name: str
    others: tuple[str, ...]
    """Devices of the trace that are left out."""
    events: tuple[TraceEvent, ...]
    activities: tuple[Activity, ...]
    """What each of them is."""
    launched: tuple[float | None, ...]
    """When the host launched each of them, on the clock of the trace [s]."""


def device_of(
    trace: ProfilerTrace, threads: Mapping[tuple[str, str], HostThread], names: KindNames
) -> DeviceWork | None:
    """The device of a trace that computes most; none where it holds no kernels.

    Parameters
    ----------
    trace
        Of a process.
    threads
        Of its host.
    names
        What belongs to which kind.
    """
    devices: dict[str, list[TraceEvent]] = defaultdict(list)
    for event in trace.of(KERNELS):
        devices[str(event.arguments.get("device", event.place[0]))].append(event)
    if not any(event.category == "kernel" for events in devices.values() for event in events):
        return None
    busiest = max(devices, key=lambda name: sum(event.end - event.start for event in devices[name]))
    launches = {_correlation(event): event for event in trace.of(LAUNCHES)}
    events = tuple(sorted(devices[busiest], key=lambda event: event.start))
    origins = [launches.get(number) if (number := _correlation(event)) else None for event in events]
    activities = (
        Activity(event.start, event.end, _kind(event, _launcher(origin, threads), names), event.name)
        for event, origin in zip(events, origins, strict=True)
    )
    return DeviceWork(
        busiest,
        tuple(sorted(set(devices) - {busiest})),
        events,
        tuple(activities),
        tuple(None if origin is None else origin.start for origin in origins),
    )


def _correlation(event: TraceEvent) -> int:
    """The number that a launch and what it launched have in common; 0 where there is none."""
    number = event.arguments.get("correlation")
    return number if isinstance(number, int) else 0


def _launcher(origin: TraceEvent | None, threads: Mapping[tuple[str, str], HostThread]) -> Fit | None:
    """What the operator belongs to that launched a kernel."""
    if origin is None or origin.place not in threads:
        return None
    return threads[origin.place].at(origin.start)


def _kind(event: TraceEvent, launcher: Fit | None, names: KindNames) -> str:
    """The kind of a kernel or of a copy."""
    own = names.of_kernel(event.name, event.arguments) if event.category == "kernel" else _of_copy(event)
    if own is not None and names.kinds[own.kind].is_link:
        return own.kind
    if launcher is not None and launcher.whole and not names.kinds[launcher.kind].is_link:
        return launcher.kind
    if own is not None and not own.generic:
        return own.kind
    if launcher is not None and launcher.kind != OTHERS and not names.kinds[launcher.kind].is_link:
        return launcher.kind
    return own.kind if own is not None else OTHERS


def _of_copy(event: TraceEvent) -> Fit:
    """What a copy or the filling of memory is: inside the device it is a kernel like others."""
    inside = event.category == "gpu_memset" or any(word in event.name.lower() for word in _ON_DEVICE)
    return Fit("elementwise", generic=True) if inside else Fit(COPIES)
