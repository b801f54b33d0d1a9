"""Timing a call: warm-up by time, blocks of calls between two moments of the device, and what is made of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from measure.device.machines import Machine
from simulator.profiling.records.record import CallTimes, State

Call = Callable[[int], object]
"""Does the work once; the number picks one of the sets of buffers."""

_FEWEST = 3
"""Samples that are taken whatever they cost."""
_LEAST_WARM_UP = 4
"""Calls before any counts, unless they are very long: allocators settle."""
_MOST_REPEATS = 100_000
_FASTEST = 1e-9
"""No call takes less; a clock of coarse steps may say so [s]."""


@dataclass(frozen=True)
class Effort:
    """How much time one case may cost."""

    warm_up_s: float = 0.3
    block_s: float = 0.05
    """Least length of a sample."""
    samples: int = 9
    most_s: float = 6.0
    """After which no further samples are taken, if there are three."""
    sustained_s: float = 10.0

    @classmethod
    def within(cls, budget_s: float) -> Effort:
        """The effort that a budget allows: ten minutes have the usual, one minute a third of it."""
        share = min(1.0, max(budget_s / 300.0, 0.05))
        usual = cls()
        return replace(
            usual,
            warm_up_s=max(usual.warm_up_s * share, 0.03),
            block_s=max(usual.block_s * share, 0.01),
            most_s=max(usual.most_s * share, 0.5),
            sustained_s=min(usual.sustained_s, 0.06 * budget_s),
        )

    @property
    def usual_s(self) -> float:
        """What a short call costs altogether."""
        return self.warm_up_s + self.samples * self.block_s


TINY = Effort(warm_up_s=0.002, block_s=0.001, samples=7, most_s=0.2, sustained_s=0.1)
"""For a run that only shows that everything works."""


@dataclass(frozen=True)
class Samples:
    """Times of one call, one for each sample [s]."""

    device: tuple[float, ...]
    host: tuple[float, ...]
    """Time the host needed to start it."""
    repeats: int
    state: State | None = None


class TooFastError(ValueError):
    """Most samples beat the device's peak, so that something else than the call was timed."""


def sample(call: Call, machine: Machine, effort: Effort) -> Samples:
    """Time a call in blocks long enough for the clock."""
    each, calls = _warm_up(call, machine, effort)
    repeats = int(np.clip(np.ceil(effort.block_s / max(each, _FASTEST)), 1, _MOST_REPEATS))
    device: list[float] = []
    host: list[float] = []
    start, state = machine.now(), None
    while len(device) < effort.samples:
        time, started = _block(call, machine, calls, repeats)
        calls += repeats
        device.append(time)
        host.append(started)
        if len(device) == (effort.samples + 1) // 2:
            state = machine.state()
        if len(device) >= _FEWEST and machine.now() - start > effort.most_s:
            break
    return Samples(tuple(device), tuple(host), repeats, state or machine.state())


def sustained(call: Call, machine: Machine, effort: Effort) -> Samples:
    """Time a call while it is repeated for seconds; the last half of them counts."""
    each, calls = _warm_up(call, machine, effort)
    repeats = int(np.clip(np.ceil(effort.block_s / max(each, _FASTEST)), 1, _MOST_REPEATS))
    begin, timed = machine.now(), []
    while True:
        time, started = _block(call, machine, calls, repeats)
        calls += repeats
        timed.append((machine.now() - begin, time, started))
        if timed[-1][0] >= effort.sustained_s and len(timed) >= 2 * _FEWEST:
            break
    late = [(time, started) for at, time, started in timed if at > timed[-1][0] / 2.0]
    state = machine.state()
    return Samples(tuple(time for time, _ in late), tuple(started for _, started in late), repeats, state)


def _warm_up(call: Call, machine: Machine, effort: Effort) -> tuple[float, int]:
    """Run a call for a while; how long one takes [s], and how many there were."""
    machine.wait()
    call(0)  # loads the kernel
    machine.wait()
    start, calls, number, each = machine.now(), 1, 1, 0.0
    while True:
        each = _block(call, machine, calls, number)[0]
        calls += number
        spent = machine.now() - start
        if (spent >= effort.warm_up_s and calls > _LEAST_WARM_UP) or spent + each * number > effort.most_s:
            return each, calls
        number = min(2 * number, _MOST_REPEATS)


def _block(call: Call, machine: Machine, first: int, repeats: int) -> tuple[float, float]:
    """Time a block of calls: of one of them on the device, and until the host had started it [s]."""
    machine.wait()
    begin = machine.mark()
    started = machine.now()
    for index in range(first, first + repeats):
        call(index)
    host = machine.now() - started
    end = machine.mark()
    return machine.elapsed(begin, end) / repeats, max(host / repeats, _FASTEST)


def times_of(durations: Sequence[float], repeats: int, *, floor_s: float = 0.0) -> CallTimes:
    """Summarise samples; those below what the device could do are left out.

    Parameters
    ----------
    durations
        Time of one call in each sample [s].
    repeats
        Calls of one sample.
    floor_s
        Least time that is possible [s].

    Raises
    ------
    TooFastError
        Where half of the samples or more are impossible.
    """
    least = max(floor_s, _FASTEST)
    possible = np.sort([duration for duration in durations if duration >= least])
    if 2 * len(possible) <= len(durations):
        raise TooFastError(f"{len(durations) - len(possible)} of {len(durations)} samples beat the device's peak")
    low, middle, high = (float(each) for each in np.quantile(possible, (0.25, 0.5, 0.75)))
    return CallTimes(
        median=middle,
        lower_quartile=min(low, middle),
        upper_quartile=max(high, middle),
        least=min(float(possible[0]), low),
        samples=len(possible),
        repeats=repeats,
        dropped=len(durations) - len(possible),
    )
