"""What plans take with a chance that is wished for: a kind of plan that few runs had must be better by more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hardware.amounts import is_number, read_number
from hardware.errors import InputError, shown, unknown
from simulator.answers.estimate import errors_of
from simulator.evidence.intervals import HeldOutErrors
from simulator.evidence.traits import fast_reach, habits_of, sized, traits_of
from simulator.plan_search.ranking import Values
from simulator.scenario.scenario import Scenario
from simulator.specs.plans import Plans

RANKS = ("safe", "expected")
CHANCE = 0.7
"""Chance with which plans stay below the time that they are ranked by, unless told."""


def read_chance(rank: Any, chance: Any = None) -> float | None:
    """The chance with which plans stay below what they are ranked by; nothing where that is the expected time.

    Parameters
    ----------
    rank
        ``safe`` or ``expected``.
    chance
        A probability such as 0.7 or ``70%``.

    Raises
    ------
    InputError
        Where a word means nothing, or a chance is none or stands beside ``expected``.

    Examples
    --------
    >>> read_chance("safe"), read_chance("safe", "90%"), read_chance("expected")
    (0.7, 0.9, None)
    """
    if rank not in RANKS:
        raise unknown("rank", str(rank), list(RANKS), fields=["rank"])
    if chance is None:
        return CHANCE if rank == "safe" else None
    if rank == "expected":
        raise InputError(f"chance={shown(chance)}: belongs to rank=safe; leave one of them out", fields=["chance"])
    share = read_number(chance) if isinstance(chance, str) else chance
    if not (is_number(share) and 0.0 < share < 1.0):
        raise InputError(
            f"chance={shown(chance)}: give a probability above 0 and below 1, such as 0.7 or 70%", fields=["chance"]
        )
    return float(share)


@dataclass
class Caution:
    """Factors on the times of a scenario's plans below which they stay with some chance, by errors on runs like them.

    What errors depend on takes few values in all plans together, so that each is looked up once.
    """

    errors: HeldOutErrors
    traits: Mapping[str, Any]
    """Of the scenario, whatever its plan."""
    sequence_length: float
    """[token]"""
    reach: float
    """Devices that the fast links join."""
    chance: float
    _known: dict[tuple[int, float], float] = field(default_factory=dict)
    """Factors by habits, and tokens of a micro-batch."""

    @classmethod
    def of(cls, scenario: Scenario, chance: float | None) -> Caution | None:
        """What a scenario's plans are ranked by, or nothing where their expected time is, or no errors are known.

        Parameters
        ----------
        scenario
            With a plan that may be open.
        chance
            As `read_chance` says it.
        """
        errors = errors_of(scenario.constants) if chance is not None else None
        if errors is None or chance is None:
            return None
        length = float(scenario.workload.sequence_length or 1)
        return cls(errors, traits_of(scenario), length, fast_reach(scenario.system), chance)

    def factors(self, plans: Plans) -> Values:
        """Factors of plans; they broadcast as the columns of the plans do [1].

        Parameters
        ----------
        plans
            Columns along the axes of a grid.
        """
        habits = habits_of(plans, self.reach)
        codes = sum((flags.astype(np.intp) << bit for bit, flags in enumerate(habits.values())), start=np.intp(0))
        sizes, at = np.unique(sized(np.asarray(plans.micro_batch), self.sequence_length), return_inverse=True)
        present = np.flatnonzero(np.bincount(np.ravel(codes)))
        self._learn([(code, size) for code in present.tolist() for size in sizes.tolist()], tuple(habits))
        table = np.ones((1 << len(habits), len(sizes)))
        for code in present.tolist():
            table[code] = [self._known[code, size] for size in sizes.tolist()]
        return np.asarray(table.reshape(-1)[codes * len(sizes) + at.reshape(np.shape(plans.micro_batch))])

    def _learn(self, kinds: list[tuple[int, float]], habits: tuple[str, ...]) -> None:
        """Look up factors that nobody asked for before."""
        fresh = [kind for kind in kinds if kind not in self._known]
        if not fresh:
            return
        codes, sizes = np.array([code for code, _ in fresh]), np.array([size for _, size in fresh])
        flags = {name: ((codes >> bit) & 1).astype(np.float64) for bit, name in enumerate(habits)}
        factors = self.errors.factors({**self.traits, **flags, "tokens": sizes}, np.array([self.chance]))[:, 0]
        self._known.update(zip(fresh, factors.tolist(), strict=True))
