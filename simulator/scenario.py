"""A scenario: model, workload, system, plan and stack, with nothing left open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from hardware import catalogue
from hardware.errors import InputError, about, shown, unknown
from hardware.quantity import parse
from hardware.reading import build, placed, read_mapping
from hardware.spec import Grid, Overhead, Price, System
from simulator.backends.analytic import AnalyticBackend
from simulator.calibration import Constants, Shifts, find
from simulator.counts import count, undivided
from simulator.defaults import choose, default_stack, open_fields, with_precision
from simulator.specs.loading import ScenarioFile, load_model, load_scenario, load_stack, names
from simulator.specs.model import Model
from simulator.specs.plan import Plan, check
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload
from simulator.transformer import Scenarios

Named = str | Path | Mapping[str, Any]
Spec = TypeVar("Spec", bound=BaseModel)
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Scenario:
    """What is estimated, complete."""

    model: Model
    workload: Workload
    system: System
    devices: int
    plan: Plan
    stack: Stack
    price: Price | None
    grid: Grid
    overhead: Overhead
    constants: Constants
    assumed: tuple[str, ...]
    """What was chosen because nobody said."""

    @property
    def shifts(self) -> Shifts:
        """What the fitted constants change."""
        return self.constants.of(self.stack, self.system, self.plan.precision or "bf16")

    def columns(self) -> Scenarios:
        """The scenario as numbers."""
        stacks = self.shifts.on_stacks(self.stack.columns())
        return Scenarios(self.model.columns(), self.workload.columns(), self.plan.columns(self.workload), stacks)

    def backend(self) -> AnalyticBackend:
        """The backend that prices it."""
        return self.shifts.on_backend(AnalyticBackend.of(self.system, self.devices, self.plan.precision or "bf16"))


def resolve(
    model: Named | Model,
    system: str | Path | System,
    *,
    devices: int | None = None,
    plan: Named | Plan | None = None,
    stack: str | Path | Stack | None = None,
    workload: Named | Workload | None = None,
    price: float | str | Price | None = None,
    grid: str = "world",
    overhead: str = "default",
    constants: str | Path | Constants | None = None,
) -> Scenario:
    """Complete what is given to a scenario; the parameters are those of `simulator.estimate`.

    Raises
    ------
    InputError
        One sentence with the place, the value and what would be valid.
    """
    assumed: list[str] = []
    with placed(plan, under="plan."), placed(workload, under="workload."):
        with about("model"):
            the_model = load_model(model)
        with about("system"):
            the_system = catalogue.load_system(system)
        number = _devices(devices, the_system, assumed)
        given_work, given = _spec(Workload, workload), _spec(Plan, plan)
        work = given_work.resolve(the_model)
        _note(assumed, given_work, work, ("sequence_length", "target_length", "global_batch"), "as published")
        with about("stack"):
            the_stack = _stack(stack, the_system, number, the_model, work, assumed)
        with about("constants"):
            fitted = find(constants)
        return Scenario(
            model=the_model,
            workload=work,
            system=the_system,
            devices=number,
            plan=_plan(given, the_model, work, the_system, the_stack, number, fitted, assumed),
            stack=the_stack,
            price=_price(price, the_system, assumed),
            grid=_named(catalogue.grids(), grid, "grid"),
            overhead=_named(catalogue.overheads(), overhead, "overhead"),
            constants=fitted,
            assumed=tuple(assumed),
        )


def _plan(
    given: Plan,
    model: Model,
    workload: Workload,
    system: System,
    stack: Stack,
    devices: int,
    constants: Constants,
    assumed: list[str],
) -> Plan:
    """The plan, complete and checked."""
    filled = given.with_defaults(stack)
    if given.precision is None:
        filled = with_precision(filled, system)
    _note(assumed, given, filled, ("precision", "sharding", "optimizer"), f"as {stack.id} does")
    AnalyticBackend.of(system, devices, filled.precision or "bf16")  # refuses what the system lacks
    if open_fields(given):
        filled = choose(given, filled, model, workload, system, stack, devices, constants)
    full = filled.with_degrees(devices)
    degrees = ("dp", "tp", "pp", "cp", "ep", "virtual_stages", "micro_batch", "recompute")
    _note(assumed, given, full, degrees, "the simplest of the fastest plans that fit")
    check(full, model, workload, stack)
    return full


def from_file(name: str | Path) -> Scenario:
    """Read and complete a scenario file.

    Raises
    ------
    InputError
        With file, line and field.
    """
    with placed(name):
        return complete(load_scenario(name))


def complete(file: ScenarioFile) -> Scenario:
    """Complete what a scenario file gives."""
    return resolve(
        file.model,
        file.system,
        devices=file.devices,
        plan=file.plan,
        stack=file.stack,
        workload=file.workload,
        price=file.price,
        grid="world" if file.grid is None else file.grid,
        overhead="default" if file.overhead is None else file.overhead,
        constants=file.constants,
    )


def _spec(kind: type[Spec], given: Named | Spec | None) -> Spec:
    """A specification from a mapping, a file, or as it is."""
    if given is None:
        return kind()
    if isinstance(given, BaseModel):
        return given
    if isinstance(given, Mapping):
        return build(kind, dict(given))
    return build(kind, read_mapping(Path(given)), path=Path(given))


def _devices(devices: int | None, system: System, assumed: list[str]) -> int:
    """The number of devices, checked."""
    if devices is None:
        assumed.append(f"devices={system.default_devices}, as {system.id} usually has")
        return system.default_devices
    if isinstance(devices, bool) or not isinstance(devices, int) or not 1 <= devices <= system.most_devices:
        raise InputError(
            f"devices={shown(devices)}: {system.id} has 1 to {system.most_devices} devices", fields=["devices"]
        )
    return devices


def _stack(
    stack: str | Path | Stack | None,
    system: System,
    devices: int,
    model: Model,
    workload: Workload,
    assumed: list[str],
) -> Stack:
    """The stack, checked against the system's platform."""
    if stack is None:
        chosen = default_stack(system, devices, parameters_of(model, workload))
        assumed.append(f"stack={chosen.id}, usual for a model of this size on this system")
        return chosen
    given, kind = load_stack(stack), system.device.kind
    if given.platform != kind:
        valid = [name for name in names("stacks") if load_stack(name).platform == kind]
        raise InputError(
            f"stack={given.id} runs on a {given.platform} and {system.device.id} is a {kind}; valid: {', '.join(valid)}"
        )
    return given


def _note(assumed: list[str], given: BaseModel, full: BaseModel, fields: tuple[str, ...], why: str) -> None:
    """Say which fields were filled, and why so."""
    filled = {name: getattr(full, name) for name in fields if getattr(given, name) is None}
    said = ", ".join(f"{name}={value}" for name, value in filled.items() if value is not None)
    if said:
        assumed.append(f"{said}: {why}")


def parameters_of(model: Model, workload: Workload) -> float:
    """Trainable parameters of a model."""
    plan = Plan(dp=1, micro_batch=1).with_defaults(load_stack("pytorch-eager")).with_degrees(1)
    columns = Scenarios(
        model.columns(), workload.columns(), plan.columns(workload), load_stack("pytorch-eager").columns()
    )
    whole = count(undivided(columns)).together
    return float(whole.parameters + whole.expert_parameters)


def find_price(price: float | str | Price | None, system: System) -> Price | None:
    """The price of one of the system's devices.

    Parameters
    ----------
    price
        USD an hour, an offer or a provider of the catalogue, or nothing for the system's own offer or else the
        cheapest that can be had on demand.
    system
        What is rented.

    Raises
    ------
    InputError
        Where the price is not positive, or nobody of that name rents the device.
    """
    if isinstance(price, Price):
        return price
    offers = [offer for offer in catalogue.prices() if offer.device == system.device.id]
    if price is None:
        own = [offer for offer in offers if offer.id == system.price]
        on_demand = [offer for offer in offers if offer.kind == "on-demand"]
        return next(iter(own or on_demand or offers), None)
    text = str(price).strip()
    if text[:1].isdecimal() or text[:1] in tuple("+-."):
        return _given_price(text, system)
    found = [offer for offer in offers if text.lower() in (offer.id, offer.provider.lower())]
    if not found:
        known = [offer.id for offer in offers]
        raise InputError(
            f"price={shown(price)}: no such offer of {system.device.id}; give USD an hour"
            + (f" or one of {', '.join(known)}" if known else "")
        )
    return found[0]


def _price(price: float | str | Price | None, system: System, assumed: list[str]) -> Price | None:
    """The price, and a note where it was chosen."""
    with about("price"):
        rent = find_price(price, system)
    if price is None and rent is not None:
        cheapest = f"the cheapest {'on-demand ' if rent.kind == 'on-demand' else ''}offer of the catalogue"
        why = "which rents this system" if rent.id == system.price else cheapest
        assumed.append(f"price: {rent.offer} of {rent.provider}, {why}")
    return rent


def _given_price(text: str, system: System) -> Price:
    """A price that somebody wrote, in USD an hour unless with its unit."""
    rate = text if text[-1:].isalpha() else f"{text} USD/h"
    try:
        parse(rate, "price")
    except ValueError as error:
        raise InputError(f"price={shown(text)}: {error}") from None
    given = {"id": "given", "provider": "given", "offer": "given price", "device": system.device.id}
    return build(Price, {**given, "kind": "reserved", "rate": rate, "date": "as given"})


def _named(entries: Mapping[str, Entry], name: str, kind: str) -> Entry:
    """An entry of the catalogue by name."""
    found = entries.get(str(name).lower())
    if found is None:
        raise unknown(kind, str(name), sorted(entries), fields=[kind])
    return found
