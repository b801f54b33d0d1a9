"""What an answer about serving should be read with: what was found of the load, warnings, and sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hardware import catalogue
from hardware.classes import peak_field
from simulator.evidence.serving.limits import is_known, runs_of
from simulator.serving.memory import ServingMemory
from simulator.serving.scenario import ServingScenario
from simulator.serving.steady import SteadyLoad

UNFITTED_SPREAD = 1.7
"""Factor within which times are said to lie where no run tells: that by which the software
alone differs, between engines that reach 0.3 and such that reach 0.65 of a data sheet's bandwidth, about its mean."""


@dataclass(frozen=True)
class Found:
    """What was found of a load."""

    figures: dict[str, float]
    memory: ServingMemory
    requests_per_s: float
    prefill_share: float
    breakdown: dict[str, dict[str, float]]
    limited_by: str
    largest_batch: int
    largest_context: int
    load: SteadyLoad | None = None


def warnings_of(served: ServingScenario, found: Found, levels: dict[str, float]) -> Iterator[str]:
    """What the reader should know before believing the numbers."""
    memory, load = found.memory, served.load
    assert load is not None
    if not memory.fits:
        lacking = (memory.total - memory.capacity) / 2.0**30
        yield (
            f"does not fit: needs {memory.total / 2.0**30:.1f} GiB on a device with "
            f"{memory.capacity / 2.0**30:.1f} GiB, {lacking:.1f} GiB too much; {_remedy(served, found)}"
        )
    yield from _of_evidence(served)
    if served.stack.seen == "recalled":
        yield f"unverified: what {served.stack.id} captures, fuses and takes of the host is recalled, not read"
    recalled = [each.id for each in (served.weights, served.kv_cache) if each.seen == "recalled"]
    if recalled:
        yield f"unverified: bits of {', '.join(dict.fromkeys(recalled))} are recalled, not read"
    if load.rate is not None:
        yield (
            "requests are taken to arrive evenly and to be of one length: queues of random arrivals are in the "
            "percentiles of simulated requests only"
        )
    yield from _of_load(served, found, levels)


def _of_evidence(served: ServingScenario) -> Iterator[str]:
    """How much the limits rest on."""
    stack, on = served.stack.id, served.device.device_class
    if not runs_of(stack):
        yield (
            f"no run of {stack} has been fitted to: its limits are those of other engines, or a stated factor of "
            f"{UNFITTED_SPREAD:g} around the figure"
        )
    elif not is_known(stack, on):
        yield f"no run of {stack} on {on} has been fitted to: limits are those on software and devices that are new"


def _of_load(served: ServingScenario, found: Found, levels: dict[str, float]) -> Iterator[str]:
    """What the load does: too much of it, or service levels that are missed."""
    load, state = served.load, found.load
    assert load is not None
    if load.rate is not None and ((state is not None and state.overloaded) or found.requests_per_s < load.rate * 0.999):
        yield (
            f"overloaded: {load.rate:g} requests a second arrive and {found.requests_per_s:.3g} are answered, so that "
            "queues grow without end; use more replicas"
        )
    if state is not None and state.waiting > 0.0:
        yield (
            f"{state.waiting:.0f} of the requests wait for room: a replica runs {state.sequences:.0f} at a time, "
            f"{'what its memory holds' if state.sequences < served.stack.most_sequences else 'the most of its engine'}"
        )
    if state is not None and not served.stack.continuous and load.batch is None:
        yield f"{served.stack.id} has no continuous batching: requests run in batches that begin and end together"
    for name, level in levels.items():
        value = found.figures.get(name)
        if value is not None and value > level:
            yield f"misses the service level {name[:-2]}={level:g} s: {value:.3g} s in the mean"


def _remedy(served: ServingScenario, found: Found) -> str:
    """What would make it fit."""
    if found.largest_batch >= 1 and served.generates:
        return f"a replica holds {found.largest_batch} sequences of this length at a time"
    if found.largest_batch >= 1:
        return f"a device encodes {found.largest_batch} sequences of this length at a time"
    degrees = "more tensor-parallel ranks" if "tp" in served.stack.axes else "more stages"
    return f"use {degrees}, or a narrower format of weights: {', '.join(served.stack.weights)}"


def sources_of(served: ServingScenario) -> Iterator[str]:
    """The sources of the figures that an answer uses, one line each."""
    device, titles = served.device, catalogue.sources()
    for sheet in (device, served.system):
        keys = {key for _, _, provenance in sheet.figures() if provenance for key in provenance.source}
        for key in sorted(keys - {"recalled", "derived"}):
            yield f"{sheet.id}: {titles.get(key, key)}"
    constants = catalogue.load_class(device.device_class)
    yield f"kernel constants of {device.device_class}: {constants.gemm[served.known_precision].source}"
    decoding = "assumed from its other kernels" if constants.decoding is None else constants.decoding.source
    yield f"attention over a cache and products of few rows on {device.device_class}: {decoding}"
    yield f"engine {served.stack.id}: {served.stack.source} ({served.stack.seen})"
    yield f"format {served.weights.id} of weights: {served.weights.source} ({served.weights.seen})"
    yield f"format {served.kv_cache.id} of the cache: {served.kv_cache.source} ({served.kv_cache.seen})"
    yield f"peak rate of {device.id} in {served.precision}: {peak_field(served.precision)} of its data sheet"
