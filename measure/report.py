"""A record in words."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator

from hardware.units import digits, duration, size
from simulator.profiling.records.record import Case, Environment, Record, Result

_RATES = {"gemm": "matrix products", "attention": "fused attention"}
_STREAMS = {
    "copy": "copies",
    "pointwise": "pointwise",
    "normalisation": "normalisation",
    "optimizer": "optimizer",
    "host_copy": "host copies",
    "collective": "collectives",
}


def lines(record: Record, *, everything: bool = False) -> Iterator[str]:
    """What a record says, line by line.

    Parameters
    ----------
    record
        As read.
    everything
        Whether to list every result.
    """
    for session in record.sessions:
        yield from _environment(session.environment)
    if record.dropped:
        yield f"Note         {record.dropped}"
    results = list(record.best.values())
    outcomes = Counter(result.outcome.replace("_", " ") for result in results)
    yield f"Results      {', '.join(f'{number} {name}' for name, number in outcomes.most_common()) or 'none'}"
    yield from _launches(results)
    yield from _best_rates(results)
    yield from _steps(results)
    yield from _drift(results)
    yield from _absent(results)
    if everything:
        yield ""
        yield from (_one(result) for result in results)


def _environment(environment: Environment) -> Iterator[str]:
    """Device and versions."""
    device, software = environment.device, environment.software
    known = f", {device.catalogue} in the catalogue" if device.catalogue else ""
    yield f"Device       {device.name}, {size(device.memory_bytes)}, {device.processors} processors{known}"
    versions = [f"torch {software.torch}", f"Python {software.python}"]
    versions += [f"CUDA {software.cuda}"] if software.cuda else []
    versions += [f"driver {software.driver}"] if software.driver else []
    begun = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(environment.started))
    yield f"With         {', '.join(versions)}; {begun}"
    if environment.world is not None:
        world = environment.world
        yield f"Ranks        {world.ranks} on {world.nodes} nodes, {world.backend}"


def _measured(results: Iterable[Result], phase: str) -> list[Result]:
    return [result for result in results if result.case.phase == phase and result.times is not None]


def _launches(results: list[Result]) -> Iterator[str]:
    """What a call costs at least."""
    for result in _measured(results, "launch"):
        eager = f", {duration(result.host_s)} on the host" if result.host_s is not None else ""
        yield f"{'Launch':12s} {result.case.operation}: {duration(_time(result))}{eager}"


def _best_rates(results: list[Result]) -> Iterator[str]:
    """The highest rate of each phase and number format."""
    for phase, words in _RATES.items():
        best: dict[str, Result] = {}
        for result in _measured(results, phase):
            key = result.case.dtype + " sustained" * result.case.sustained
            if key not in best or _rate(result) > _rate(best[key]):
                best[key] = result
        for key, result in best.items():
            rate = digits(_rate(result) / 1e12)
            yield f"{'Best':12s} {words}, {key}: {rate} TFLOP/s at {_sizes(result.case)}"
    for phase, words in _STREAMS.items():
        for name, kept in (("", False), (" in the cache", True)):
            measured = [result for result in _measured(results, phase) if result.case.warm == kept and result.bytes]
            if measured:
                top = max(measured, key=lambda result: result.bytes / _time(result))
                rate = digits(top.bytes / _time(top) / 1e9)
                yield f"{'Best':12s} {words}{name}: {rate} GB/s, {top.case.operation} {_sizes(top.case)}"


def _steps(results: list[Result]) -> Iterator[str]:
    """Whole steps, with their parts: as they run alone, compiled, and shared by ranks."""
    for result in _measured(results, "step"):
        parts = ", ".join(f"{name} {duration(times.median)}" for name, times in result.parts.items())
        peak = f", {size(result.peak_memory_bytes)}" if result.peak_memory_bytes else ""
        manner = "" if result.case.operation == "train" else f"{result.case.operation} "
        named = f"{manner}{result.case.variant} {_sizes(result.case)}"
        yield f"{'Step':12s} {named}: {duration(_time(result))} ({parts}){peak}"


def _drift(results: list[Result]) -> Iterator[str]:
    """How far the product that is repeated now and then went from its first time."""
    repeated = [result for result in _measured(results, "gemm") if result.case.variant.startswith("sentinel")]
    plain = {result.case.key: result for result in results}
    for result in repeated[-1:]:
        first = plain.get(result.case.model_copy(update={"variant": ""}).key)
        if first is not None and first.times is not None:
            change = 100.0 * (_time(result) / _time(first) - 1.0)
            yield f"{'Drift':12s} {change:+.1f} % in the time of {_sizes(result.case)} from first to last"
    slowed = [result for result in results if result.state is not None and result.state.throttled]
    if slowed:
        reasons = sorted({reason for result in slowed if result.state is not None for reason in result.state.throttled})
        yield f"{'Slowed':12s} in {len(slowed)} cases, by {', '.join(reasons).replace('_', ' ')}"


def _absent(results: list[Result]) -> Iterator[str]:
    """Why something was not measured, each reason once."""
    reasons = Counter((result.case.phase, result.outcome, result.reason) for result in results if result.reason)
    for (phase, outcome, reason), number in reasons.most_common(8):
        yield f"{'Without':12s} {number} {phase} {outcome.replace('_', ' ')}: {reason}"


def _one(result: Result) -> str:
    """One result."""
    if result.times is None:
        return f"{result.case.words}: {result.outcome.replace('_', ' ')} ({result.reason})"
    times = result.times
    spread = 100.0 * (times.upper_quartile - times.lower_quartile) / times.median
    rate = f", {digits(_rate(result) / 1e12)} TFLOP/s" if result.flops else ""
    return f"{result.case.words}: {duration(times.median)} +- {spread:.1f} % of {times.samples}{rate}"


def _time(result: Result) -> float:
    """The time that counts: the median, or on a CPU the lower quartile, which neighbours disturb least [s]."""
    if result.times is None:
        return float("inf")
    return result.times.lower_quartile if result.method == "process_time" else result.times.median


def _rate(result: Result) -> float:
    return result.flops / _time(result)


def _sizes(case: Case) -> str:
    return " ".join(f"{name}={number}" for name, number in case.dimensions.items())
