"""What is asked of a search beside its scenario, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from hardware.errors import InputError, shown
from simulator.plan_search.exploration import Objective
from simulator.scenario.scenario import Scenario

MOST_LISTED = 1000
"""Plans that a search lists at most."""
_PARETO = ("time", "cost", "energy", "memory")


@dataclass(frozen=True)
class SearchWishes:
    """What is asked of a search; `simulator.search` says what the fields mean."""

    objective: str = "time"
    where: str | None = None
    top: int = 10
    pareto: str | None = None
    headroom: float | str = 0.0
    deadline: float | str | None = None
    budget: float | str | None = None
    by: str | None = None
    rank: str = "safe"
    chance: float | str | None = None


def read_objective(name: str, scenario: Scenario) -> Objective:
    """What is minimised."""
    if name not in get_args(Objective):
        raise InputError(f"objective={shown(name)}: choose one of {', '.join(get_args(Objective))}")
    _need_price("objective=cost", name, scenario)
    return name  # type: ignore[return-value]


def _need_price(place: str, name: str, scenario: Scenario) -> None:
    """Refuse to compare costs that nobody knows."""
    if name == "cost" and scenario.price is None:
        raise InputError(
            f"{place}: no price of {scenario.system.device.id} is known; give one, such as price=2.5", fields=["price"]
        )


def read_top(number: Any) -> int:
    """How many plans to list."""
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_LISTED:
        raise InputError(f"top={shown(number)}: list 1 to {MOST_LISTED} plans")
    return number


def read_pareto(text: str | None, scenario: Scenario) -> tuple[str, str] | None:
    """The two respects of a front."""
    if text is None:
        return None
    names = [name.strip() for name in str(text).split(",")]
    if len(names) != 2 or len(set(names)) != 2 or not set(names) <= set(_PARETO):
        raise InputError(f"pareto={shown(text)}: name two of {', '.join(_PARETO)}, such as time,memory")
    for name in names:
        _need_price(f"pareto={text}", name, scenario)
    return names[0], names[1]
