"""A whole space of plans, grid by grid: what can be, what fits, and the best of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from simulator.plan_search.preference import Machinery, Preferred
from simulator.plan_search.pricing import SearchSetting, Weighed, cut, number, step_times, weigh
from simulator.plan_search.ranking import Best, Front
from simulator.plan_search.safety import Caution
from simulator.plan_search.space import Space
from simulator.plan_search.table import Table

Objective = Literal["time", "cost", "energy", "memory"]
Progress = Callable[["Exploration", int], None]
_PLANS = 2_000_000
"""Plans priced at once: enough that calls cost little, few enough that memory stays small."""


@dataclass
class Exploration:
    """What has been seen of a space."""

    best: Best | Preferred
    """The plans to list: those of least memory, or by time those to recommend."""
    front: Front | None = None
    nearest: Best = field(default_factory=lambda: Best(1))
    """Of the plans that keep all rules the one that needs least memory; only while none fits."""
    quickest: Best = field(default_factory=lambda: Best(1))
    """Of the plans that fit the fastest; only while none is fast enough."""
    candidates: int = 0
    """Plans that keep all rules."""
    priced: int = 0
    """Those of them that fit in memory."""
    feasible: int = 0
    """Those of them that are fast enough."""
    rejected: Counter[str] = field(default_factory=Counter)
    whole: bool = True
    """Whether all of the space was seen."""


def explore(
    space: Space,
    setting: SearchSetting,
    *,
    by_memory: bool = False,
    top: int = 1,
    front: bool = False,
    slowest: float = np.inf,
    table: Table | None = None,
    caution: Caution | None = None,
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
    slowest
        Time that a step may take [s].
    table
        Gets the best plan for each pair of values.
    caution
        Says what plans are ranked by instead of their expected time, where they are not ranked by memory.
    progress
        Called after each grid with what was found, and how many plans were considered.
    """
    best = Best(top) if by_memory else Preferred(top, Machinery.of(setting))
    exploration = Exploration(best, Front() if front else None, rejected=space.rejected)
    try:
        for grid in space.grids():
            for piece in grid.pieces(_PLANS):
                weighed = weigh(piece, setting, space.rejected)
                exploration.candidates += number(weighed.kept, piece)
                fitting = number(weighed.fits, piece)
                if table is not None:
                    table.note(piece, weighed.kept)
                if fitting:
                    exploration.priced += fitting
                    _rank(exploration, cut(weighed, setting), setting, slowest, table, caution)
                elif not exploration.priced:
                    exploration.nearest.offer(piece, weighed.memory, weighed.kept, np.zeros(1), weighed.memory)
                if progress is not None:
                    left_out = sum(count for name, count in space.rejected.items() if name not in ("memory", "limits"))
                    progress(exploration, exploration.candidates + left_out)
    except KeyboardInterrupt:
        exploration.whole = False
    return exploration


def _rank(
    exploration: Exploration,
    part: Weighed,
    setting: SearchSetting,
    slowest: float,
    table: Table | None,
    caution: Caution | None,
) -> None:
    """Take the best of plans that fit."""
    time = np.asarray(step_times(part, setting))
    kept = part.fits if slowest == np.inf else part.fits & (time <= slowest)
    fast, fitting = number(kept, part.grid), number(part.fits, part.grid)
    if fast < fitting:
        exploration.rejected["limits"] += fitting - fast
        if not exploration.feasible + fast:
            exploration.quickest.offer(part.grid, time, part.fits, time, part.memory)
    exploration.feasible += fast
    if fast:
        if isinstance(exploration.best, Preferred):
            safe = time * caution.factors(part.program.scenarios.plans) if caution is not None else None
            exploration.best.offer(part.grid, kept, time, part.memory, safe)
        else:
            exploration.best.offer(part.grid, part.memory, kept, time, part.memory)
        if exploration.front is not None:
            exploration.front.offer(part.grid, kept, time, part.memory)
        if table is not None:
            table.offer(part.grid, kept, time, part.memory)
