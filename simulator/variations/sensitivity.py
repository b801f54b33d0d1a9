"""What moves an answer most: each lever of a scenario pulled by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardware.errors import InputError, shown
from hardware.spec import System
from simulator.answers.estimate import Estimate, answer
from simulator.scenario.scenario import Named
from simulator.specs.model import Model
from simulator.variations.changes import Baseline, Changes, baseline
from simulator.variations.expressions import Value, Vary, parse
from simulator.variations.places import EVERY_LATENCY, levels_of
from simulator.variations.whatif import MOST, Variation, check, priced

FACTOR = 2.0
"""By how much every lever is moved each way unless told."""
_MOST_FACTOR = 100.0


@dataclass(frozen=True)
class Lever:
    """Something that moves the answer, and the variations that show how much."""

    name: str
    variations: tuple[Variation, ...]

    @property
    def answers(self) -> tuple[tuple[float, Variation], ...]:
        """The variations that have an answer, with their time of a token over the scenario's, fastest first."""
        answers = [(each.time_ratio, each) for each in self.variations if each.time_ratio is not None]
        return tuple(sorted(answers, key=lambda answer: answer[0]))

    @property
    def low(self) -> float:
        """The shortest time of a token, over that of the scenario as it is."""
        return min([1.0, *(ratio for ratio, _ in self.answers)])

    @property
    def high(self) -> float:
        """The longest."""
        return max([1.0, *(ratio for ratio, _ in self.answers)])

    @property
    def span(self) -> float:
        """How far it moves the answer: longest less shortest."""
        return self.high - self.low

    @property
    def elasticity(self) -> float | None:
        """Per cent of time for a per cent of the lever, from its lowest to its highest value.

        Nothing where values are no numbers. -1 says that twice as much halves the time, 0 that it does not matter.
        """
        points = [(1.0, 1.0)]
        for ratio, variation in self.answers:
            moved = variation.changes[0].ratio
            if moved is None:
                return None
            points.append((moved, ratio))
        (least, before), (most, after) = min(points), max(points)
        return math.log(after / before) / math.log(most / least) if 0.0 < least < most else None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "name": self.name,
            "span": self.span,
            "low_time_per_token_ratio": self.low,
            "high_time_per_token_ratio": self.high,
            "elasticity": self.elasticity,
            "variations": [variation.to_dict() for variation in self.variations],
        }


@dataclass(frozen=True)
class Sensitivity:
    """A scenario as it is, and its levers, the one that moves it most first."""

    base: Estimate
    replan: bool
    factor: float | None
    """By how much levers were moved each way; nothing where their values were given."""
    levers: tuple[Lever, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "factor": self.factor,
            "replan": self.replan,
            "base": self.base.to_dict(),
            "levers": [lever.to_dict() for lever in self.levers],
        }


def sensitivity(
    model: Named | Model,
    system: str | Path | System | None = None,
    *,
    factor: float = FACTOR,
    vary: Vary = (),
    replan: bool = False,
    **scenario: Any,
) -> Sensitivity:
    """Find what moves the answer most: peak rate, memory, links, host, batch, sequence length, devices.

    Parameters
    ----------
    model, system
        As `simulator.estimate` takes them.
    factor
        By how much each lever is moved, up and down.
    vary
        Levers of one's own with their values, as `simulator.whatif` takes them, instead of the usual ones.
    replan
        Whether what the scenario leaves open of plan and stack is chosen anew for each value; otherwise the plan is
        kept. Replicas follow the devices all the same, and the micro-batch is chosen anew where it no longer divides
        the batch.

    **scenario
        What else `simulator.estimate` takes: devices, plan, stack, workload, price, ...

    Raises
    ------
    InputError
        One sentence, where the scenario, a place or a value is wrong.

    Examples
    --------
    >>> ranked = sensitivity("bert-large", "dgx-a100-640gb")
    >>> ranked.levers[0].name, ranked.levers[-1].span
    ('devices', 0.0)
    """
    return of_baseline(baseline(model, system, **scenario), vary, factor=factor, replan=replan)


def of_baseline(base: Baseline, vary: Vary, *, factor: float, replan: bool) -> Sensitivity:
    """Pull the levers of a scenario that is complete."""
    if not 1.0 < factor <= _MOST_FACTOR:
        raise InputError(f"factor={shown(factor)}: give a number above 1 and up to {_MOST_FACTOR:g}, such as 1.25")
    own = parse(vary)
    if sum(len(each.values) for each in own) > MOST:
        raise InputError(f"more than {MOST:,} variations are too many to be estimated at once")
    pulled = [(each.path, [{each.path: value} for value in each.values]) for each in own]
    if own:
        check(base, own, replan=replan)
    before = answer(base.scenario)
    levers = [
        Lever(name, tuple(priced(base, before, change, replan=replan, adapt=True) for change in changes))
        for name, changes in pulled or _usual(base, factor)
        if changes
    ]
    ordered = sorted(levers, key=lambda lever: -lever.span)
    return Sensitivity(before, replan, None if own else factor, tuple(ordered))


def _usual(base: Baseline, factor: float) -> Iterator[tuple[str, Sequence[Changes]]]:
    """The levers that everybody asks about, each moved down and up; those that a scenario lacks are left out."""
    system = base.scenario.system
    places = {
        "peak FLOP/s": "system.device.peak",
        "memory bandwidth": "system.device.memory_bandwidth",
        "memory size": "system.device.memory_capacity",
        **{f"{name.replace('_', '-')} bandwidth": f"system.{name}.bandwidth" for name in levels_of(system)},
        "link latency": EVERY_LATENCY,
        "host launch time": "stack.launch",
    }
    ratios = (1.0 / factor, factor)
    for name, path in places.items():
        yield name, [{path: Value(f"{ratio:.3g}x", ratio)} for ratio in ratios]
    yield "global batch", list(_batches(base, ratios))
    yield "sequence length", list(_lengths(base, ratios))
    yield "devices", list(_devices(base, ratios))


def _batches(base: Baseline, ratios: Sequence[float]) -> Iterator[Changes]:
    """Other batches, as near as the replicas allow."""
    now, replicas = base.scenario.workload.global_batch or 1, base.scenario.plan.dp or 1
    for batch in _near(now, ratios, replicas):
        yield {"workload.global_batch": Value(str(batch))}


def _lengths(base: Baseline, ratios: Sequence[float]) -> Iterator[Changes]:
    """Other lengths of a sequence, with what was given of its contents in proportion."""
    plan, asked, now = base.scenario.plan, base.workload, base.scenario.workload.sequence_length or 1
    shares = plan.sequence_parallel and not base.scenario.stack.pads_shards
    for length in _near(now, ratios, (plan.cp or 1) * ((plan.tp or 1) if shares else 1)):
        changes = {"workload.sequence_length": Value(str(length))}
        if asked.effective_tokens is not None:
            changes["workload.effective_tokens"] = Value(f"{max(asked.effective_tokens * length / now, 1.0):.15g}")
        if asked.predictions is not None:
            changes["workload.predictions"] = Value(str(max(asked.predictions * length // now, 1)))
        yield changes


def _devices(base: Baseline, ratios: Sequence[float]) -> Iterator[Changes]:
    """Other numbers of devices, as near as the split of the model allows."""
    plan = base.scenario.plan
    for number in _near(base.scenario.devices, ratios, (plan.tp or 1) * (plan.pp or 1) * (plan.cp or 1)):
        yield {"devices": Value(str(number))}


def _near(now: int, ratios: Sequence[float], multiple: int) -> list[int]:
    """Multiples of a number near to what is now times each ratio; none that is what is now."""
    numbers = [max(round(now * ratio / multiple), 1) * multiple for ratio in ratios]
    return [number for number in dict.fromkeys(numbers) if number != now]
