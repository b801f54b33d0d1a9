"""The cases of a sweep: models on numbers of devices of systems, with everything read that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hardware import catalogue
from hardware.amounts import read_number, split_values
from hardware.errors import InputError, about, shown
from hardware.reading import is_path, placed
from hardware.spec import System
from simulator.plan_search import conditions
from simulator.pricing.constants import find
from simulator.pricing.measured import check, suits
from simulator.pricing.wiring import wiring
from simulator.scenario.prices import Prices, agreed_price, check_prices
from simulator.scenario.scenario import spec_of
from simulator.specs.loading import load_model, load_stack
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.running import Ownership, Reliability
from simulator.specs.workload import Workload
from simulator.step.chances import read_wished

_SPECS = {"plan": Plan, "workload": Workload, "ownership": Ownership, "reliability": Reliability}
"""Options that may be files, by what they are."""
_MOST_DEVICES = 1_000_000


@dataclass(frozen=True)
class RentCase:
    """A model on a number of devices of a system."""

    model: Model
    system: System
    devices: int
    plan: Plan = field(default_factory=Plan)
    options: Mapping[str, Any] = field(default_factory=dict)
    """All else that `simulator.estimate` takes, read from its files."""
    where: str | None = None
    every_plan: bool = False
    """Whether every plan is priced, or at first those that most runs use."""
    chance: float | None = None
    """Chance with which plans stay below the time that they are ranked by; nothing where that is the expected time."""


def cases_of(
    models: Sequence[Any],
    systems: str | Sequence[Any],
    devices: Sequence[int] | None = None,
    *,
    max_devices: int,
    plan: Any = None,
    where: str | None = None,
    every_plan: bool = False,
    chance: float | None = None,
    **options: Any,
) -> list[RentCase]:
    """All cases of a sweep, the long ones first, so that no core waits for one at the end.

    All files are read here: other machines may not have them.

    Raises
    ------
    InputError
        Where something of it cannot be read.
    """
    check_most(max_devices)
    asked = conditions.parse(where)
    with about("model"):
        the_models = [load_model(model) for model in models]
    read = _read({"plan": plan, **options})
    the_plan = read.pop("plan", Plan())
    conditions.refuse_contradicting((*conditions.of_plan(the_plan), *asked))
    the_systems = systems_of(systems)
    with about("prices"):
        check_prices(read.get("prices"), the_systems)
        _check_asked(read.get("prices"), the_systems)
    if "profile" in read and not any(suits(read["profile"], system) for system in the_systems):
        check(read["profile"], the_systems[0])
    cases = [
        RentCase(model, system, number, the_plan, _on(system, read), where, every_plan, chance)
        for system in the_systems
        for number in devices or counts_of(system, max_devices)
        for model in the_models
    ]
    return sorted(cases, key=lambda case: -case.devices)


def _check_asked(prices: Prices | None, systems: Sequence[System]) -> None:
    """Refuse the price of a system that nobody asked for."""
    asked = {name for system in systems for name in (system.id, system.device.id)}
    for name in prices or {}:
        if name.strip().lower() not in asked:
            few = ", ".join(sorted({system.id for system in systems})[:8])
            raise InputError(f"prices: {shown(name)} is none of the systems that are asked for: {few}")


def check_most(max_devices: Any) -> None:
    """Refuse a greatest number of devices that is none.

    Raises
    ------
    InputError
        With what would be valid.
    """
    if isinstance(max_devices, bool) or not isinstance(max_devices, int) or not 1 <= max_devices <= _MOST_DEVICES:
        raise InputError(f"max_devices={shown(max_devices)}: give a whole number from 1 to {_MOST_DEVICES}")


def _read(options: Mapping[str, Any]) -> dict[str, Any]:
    """What options mean, without those that say nothing."""
    read = {name: value for name, value in options.items() if value is not None}
    for name, kind in _SPECS.items():
        if name in read:
            with placed(read[name], under=f"{name}."):
                read[name] = spec_of(kind, read[name])
    read |= {"fits": read_wished(read["fits"])} if "fits" in read else {}
    with about("stack"):
        read |= {"stack": _software(read["stack"])} if "stack" in read else {}
    with about("constants"):
        read |= {"constants": find(read["constants"])} if "constants" in read else {}
    with about("profile"):
        read |= {"profile": catalogue.load_profile(read["profile"])} if "profile" in read else {}
    return read


def _software(named: Any) -> Any:
    """A stack from its file, or the name of one, which may mean another on each kind of device."""
    stack = load_stack(named)
    return named if isinstance(named, str) and not is_path(named) else stack


def _on(system: System, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for one system: a profile says nothing of devices of another class, nor a price of another system."""
    profile, agreed = options.get("profile"), agreed_price(options.get("prices"), system)
    left_out = {"prices"} if profile is None or suits(profile, system) else {"prices", "profile"}
    kept = {name: value for name, value in options.items() if name not in left_out}
    return kept if agreed is None else {**kept, "prices": {system.id: agreed}}


def systems_of(systems: str | Sequence[Any]) -> list[System]:
    """The systems to look at, each of them once.

    Raises
    ------
    InputError
        Where one of them does not exist, or none is named.
    """
    if isinstance(systems, System):
        return [systems]
    named: list[Any] = list(systems) if not isinstance(systems, str) else [s.strip() for s in systems.split(",")]
    if named == ["all"]:
        named = catalogue.names("systems")
    if not named:
        raise InputError("systems: name at least one, or all")
    with about("systems"):
        loaded = [catalogue.load_system(name) for name in named]
    return [system for place, system in enumerate(loaded) if system not in loaded[:place]]


def counts_from(text: str | None) -> list[int] | None:
    """Numbers of devices from text such as ``8,64,512``; nothing where nothing is given.

    Raises
    ------
    InputError
        Where one of them is no whole number from one.
    """
    if text is None:
        return None
    numbers = [read_number(part) for part in split_values(text)]
    counts = {each for each in numbers if isinstance(each, int) and 0 < each <= 1_000_000}
    if len(counts) < len(set(numbers)):
        raise InputError(f"devices={shown(text)}: write whole numbers separated by commas, such as 8,64,512")
    return sorted(counts)


def counts_of(system: System, most: int) -> list[int]:
    """Numbers of devices that a system is rented in: powers of two, and three halves of them beyond a node."""
    limit, node = min(most, system.most_devices), system.devices_per_node
    numbers = [*doubled_of(system, limit), *(3 * node * 2**i for i in range(23))]
    if limit == system.most_devices:
        numbers.append(limit)
    return [number for number in sorted({*numbers}) if number <= limit and can_be_had(system, number)]


def doubled_of(system: System, most: int) -> list[int]:
    """Powers of two within a node, and nodes in powers of two."""
    limit, node = min(most, system.most_devices), system.devices_per_node
    inside = [2**i for i in range(node.bit_length()) if 2**i < node]
    numbers = [*inside, *(node * 2**i for i in range(24))]
    return [number for number in numbers if number <= limit and can_be_had(system, number)]


def can_be_had(system: System, devices: int) -> bool:
    """Whether so many devices can be wired; a torus is cut into boxes."""
    try:
        wiring(system, devices)
    except InputError:
        return False
    return True
