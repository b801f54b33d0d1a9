"""The basis of an estimate: shapes that were measured, forms fitted to them, or constants of the catalogue."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from simulator.pricing.backend import Backend
from simulator.pricing.measured import TIERS, MeasuredBackend
from simulator.step.time import step_time
from simulator.work.program import Program

Basis = Literal["measured", "near", "fitted", "catalogue", "stack"]
BASES: tuple[Basis, ...] = get_args(Basis)
WORDS: dict[Basis, str] = {
    "measured": "shapes that were measured",
    "near": "shapes near measured ones",
    "fitted": "forms fitted to measurements",
    "catalogue": "constants of the catalogue",
    "stack": "host times of the stack",
}
_NUDGE = 1e-4


def basis(program: Program, backend: Backend, seconds: float) -> dict[Basis, float]:
    """Share of the step time that each tier prices; they add up to 1.

    A share is how much of the step grows with the times of a tier, so that what hides behind something else counts
    for nothing: ``d log(step) / d log(times of the tier)``. What grows with none of them is the host's.

    Parameters
    ----------
    program
        Of one scenario.
    backend
        What prices it.
    seconds
        Its step [s].
    """
    if not isinstance(backend, MeasuredBackend):
        return {}

    def stressed(tier: Literal["measured", "near", "fitted", "catalogue"]) -> float:
        nudged_time = step_time(program, backend.stressed(tier, 1.0 + _NUDGE), broken_down=False).time
        return max((float(np.asarray(nudged_time)) / seconds - 1.0) / _NUDGE, 0.0)

    shares: dict[Basis, float] = {tier: stressed(tier) for tier in TIERS}
    shares["stack"] = max(1.0 - sum(shares.values()), 0.0)
    whole = sum(shares.values())
    return {tier: share / whole for tier, share in shares.items()}
