"""Which of plans that are about as fast is recommended: the one that needs least machinery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.plan_search.grid import Indices, PlanGrid
from simulator.plan_search.pricing import SearchSetting
from simulator.plan_search.ranking import Best, Mask, Place, Values, joined, simplest_of
from simulator.scenario.candidates import FEWEST_TOKENS
from simulator.scenario.choosing import CLOSE
from simulator.specs.choices import Sharding

_ODD = 3
"""Kinds of parallelism that are better than one thing that nobody does without need: offloading, or sharing short
sequences."""
_MOST_CHUNKS = 8
"""Chunks of layers of a device that published runs have at most: Llama 3 405B on 16 stages (arXiv 2407.21783, 3.3)."""
_AXIS_OF_OFFLOADS = 4


@dataclass(frozen=True)
class Machinery:
    """How many kinds of machinery plans have: kinds of parallelism, and what the stack's users do not do at first.

    Expert parallelism is how mixtures of experts are trained, and counts nothing.
    """

    tokens: float
    """Of a sequence, of the shorter one of two [token]."""
    shardings: tuple[Sharding, ...]
    """Usual ones, the plainest first."""
    schedules: tuple[str, ...]
    """Usual ones."""

    @classmethod
    def of(cls, setting: SearchSetting) -> Machinery:
        """What counts as usual for the plans of a search."""
        stack, lengths = setting.stack, setting.workloads
        target = float(np.max(lengths.target_length))
        tokens = float(np.min(lengths.sequence_length))
        usual = (setting.base.sharding or stack.defaults.sharding, *stack.defaults.when_large)
        return cls(min(tokens, target) if target else tokens, usual, ("1f1b", stack.offers.schedules[0]))

    def count(self, grid: PlanGrid, flat: Indices) -> NDArray[np.intp]:
        """Of some plans of a grid, one number each; what nobody does without need counts several times."""
        split, order, sharding, schedule, offload, _ = np.unravel_index(flat, grid.shape)
        of_split = [int(s.tp > 1) + int(s.pp > 1) + self._of_context(s.cp) for s in grid.splits]
        of_schedule = [
            int(name not in self.schedules) + int(virtual > 1) + _ODD * int(virtual > _MOST_CHUNKS)
            for name, virtual in grid.schedules
        ]
        counted = (
            (of_split, split),
            ([int(place > 0) for place in range(len(grid.placements))], order),
            ([self._of_sharding(name) for name, _ in grid.shardings], sharding),
            (of_schedule, schedule),
            ([_ODD * offloads for offloads in grid.offloads], offload),
        )
        together = np.zeros(len(flat), dtype=np.intp)
        for numbers, places in counted:
            together += np.array(numbers, dtype=np.intp)[places]
        return together

    def _of_context(self, cp: int) -> int:
        """Context parallelism is usual of long sequences only."""
        return 0 if cp == 1 else 1 if self.tokens >= cp * FEWEST_TOKENS else 1 + _ODD

    def _of_sharding(self, name: Sharding) -> int:
        """What is shared beyond what is usual."""
        return 0 if name == "none" else self.shardings.index(name) if name in self.shardings else len(self.shardings)


class Preferred:
    """The plans to list: of those that are about as fast as the fastest the plainest first, then the next fastest."""

    def __init__(self, number: int, machinery: Machinery) -> None:
        self._number = number
        self._machinery = machinery
        self._fastest = Best(number)
        self._other = Best(1)
        """The fastest of grids that also have plans which offload what the device could hold, and of all of them where
        plans are ranked by something else."""
        self._close: dict[int, list[Place]] = {}
        """The fastest of each count of machinery, of plans about as fast as the fastest."""

    @property
    def places(self) -> list[Place]:
        """The plans, the one to recommend first."""
        if not self._fastest.places:
            return []
        bound = CLOSE * self._fastest.places[0].value
        listed: dict[tuple[float, float, float], Place] = {}
        for _, places in sorted(self._close.items()):
            for one in places:
                if one.value <= bound:
                    listed.setdefault(one.looks, one)
        for one in self._fastest.places:
            listed.setdefault(one.looks, one)
        return list(listed.values())[: self._number]

    @property
    def quickest(self) -> Place | None:
        """The plan of the shortest step, whatever machinery it needs."""
        first = [*self._fastest.places[:1], *self._other.places]
        return min(first, key=lambda one: one.key[1:], default=None)

    def offer(self, grid: PlanGrid, kept: Mask, time: Values, memory: Values, safe: Values | None = None) -> None:
        """Take what is good enough of a grid; arrays broadcast to its shape.

        Parameters
        ----------
        grid, kept
            The plans, and which of them count.
        time, memory
            Of each [s, B].
        safe
            What they are ranked by instead of their time.
        """
        value, alone = time if safe is None else safe, without_twins(grid, kept)
        ranked = np.where(alone, value, np.inf)
        self._fastest.take(grid, ranked, time, memory)
        if alone is not kept or safe is not None:
            self._other.offer(grid, time, kept, time, memory)
        if not self._fastest.places:
            return
        bound = CLOSE * self._fastest.places[0].value
        if ranked.min() > bound:
            return
        chosen = np.flatnonzero(np.broadcast_to(ranked <= bound, grid.shape).reshape(-1))
        counts = self._machinery.count(grid, chosen)
        for count in np.unique(counts).tolist():
            newcomers = simplest_of(grid, chosen[counts == count], value, time, memory, 2 * self._number)
            before = [one for one in self._close.get(count, ()) if one.value <= bound]
            self._close[count] = joined(before, newcomers)[: 2 * self._number]


def without_twins(grid: PlanGrid, kept: Mask) -> Mask:
    """Plans without those that offload what the same plan can hold on the device."""
    offloads: Sequence[bool] = grid.offloads
    if len(set(offloads)) < 2:
        return kept
    shape = list(kept.shape)
    shape[_AXIS_OF_OFFLOADS] = len(offloads)
    alone = np.array(np.broadcast_to(kept, shape))
    plain, offloaded = (offloads.index(value) for value in (False, True))
    alone[:, :, :, :, offloaded] &= ~alone[:, :, :, :, plain]
    return alone
