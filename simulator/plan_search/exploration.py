"""A whole space of plans, grid by grid: what can be, what fits, and the best of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from simulator.plan_search.pricing import Setting, cut, number, step_times, weigh
from simulator.plan_search.ranking import Best, Front
from simulator.plan_search.space import Space

Objective = Literal["time", "cost", "energy", "memory"]
Progress = Callable[["Exploration", int], None]
_PLANS = 2_000_000
"""Plans priced at once: enough that calls cost little, few enough that memory stays small."""


@dataclass
class Exploration:
    """What has been seen of a space."""

    best: Best
    front: Front | None = None
    nearest: Best = field(default_factory=lambda: Best(1))
    """Of the plans that keep all rules the one that needs least memory; only while none fits."""
    candidates: int = 0
    """Plans that keep all rules."""
    feasible: int = 0
    """Those of them that fit in memory; all of them are priced."""
    rejected: Counter[str] = field(default_factory=Counter)
    whole: bool = True
    """Whether all of the space was seen."""


def explore(
    space: Space,
    setting: Setting,
    *,
    by_memory: bool = False,
    top: int = 1,
    front: bool = False,
    progress: Progress | None = None,
) -> Exploration:
    """Weigh and price every plan of a space; an interruption leaves what was found until then.

    Parameters
    ----------
    space
        The plans.
    setting
        What they share.
    by_memory
        Whether plans are ranked by memory instead of time; money and energy follow time on a given system.
    top
        How many of the best are kept.
    front
        Whether to keep all plans that no other beats in both time and memory.
    progress
        Called after each grid with what was found, and how many plans were considered.
    """
    found = Exploration(Best(top), Front() if front else None, rejected=space.rejected)
    try:
        for grid in space.grids():
            for piece in grid.pieces(_PLANS):
                weighed = weigh(piece, setting, space.rejected)
                found.candidates += number(weighed.kept, piece)
                fitting = number(weighed.fits, piece)
                if not fitting and not found.feasible:
                    found.nearest.offer(piece, weighed.memory, weighed.kept, np.zeros(1), weighed.memory)
                if fitting:
                    part = cut(weighed)
                    time = np.asarray(step_times(part.grid, setting))
                    ranked = part.memory if by_memory else time
                    found.best.offer(part.grid, ranked, part.fits, time, part.memory)
                    if found.front is not None:
                        found.front.offer(part.grid, part.fits, time, part.memory)
                    found.feasible += fitting
                if progress is not None:
                    progress(found, found.candidates + sum(space.rejected.values()) - space.rejected["memory"])
    except KeyboardInterrupt:
        found.whole = False
    return found
