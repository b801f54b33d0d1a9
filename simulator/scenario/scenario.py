"""A scenario: model, workload, system, plan and stack, with nothing left open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from hardware import catalogue
from hardware.classes import Precision, peak_field
from hardware.errors import InputError, about, shown, unknown
from hardware.measured import MeasuredProfile
from hardware.price import Price
from hardware.reading import build, placed, read_mapping
from hardware.spec import Grid, Overhead, System
from simulator.pricing.backend import Backend
from simulator.pricing.constants import Constants, Shifts, find
from simulator.pricing.measured import host_of
from simulator.scenario.checks import check_positions
from simulator.scenario.choosing import choose, open_fields, refuse_idle
from simulator.scenario.defaults import default_stack, is_fine_tuned, with_precision
from simulator.scenario.notes import (
    chosen_fields,
    note,
    note_documents,
    note_software,
    noted_work,
    with_score,
    with_sharding,
)
from simulator.scenario.offers import Chosen
from simulator.scenario.prices import Prices, chosen_price
from simulator.specs.capabilities.checking import refuse_lacking
from simulator.specs.loading import ScenarioFile, load_model, load_scenario, load_stack, names
from simulator.specs.model import Model
from simulator.specs.plan import Plan, check
from simulator.specs.running import Ownership, Reliability
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload
from simulator.step.chances import WISHED, chances_of, read_wished
from simulator.work.counts import undivided
from simulator.work.program import program_of
from simulator.work.transformer import Scenarios

Named = str | Path | Mapping[str, Any]
Spec = TypeVar("Spec", bound=BaseModel)
_UNKNOWN_LENGTH = (
    "time, cost and energy are of a billion tokens, since neither the workload nor the model says how long the run is; "
    "give tokens, such as --tokens 300e9 or workload: {tokens: 300e9}, or steps"
)
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
    priced: Chosen | None
    """What a device costs, and how that was found."""
    grid: Grid
    overhead: Overhead
    constants: Constants
    assumed: tuple[str, ...]
    """What was chosen because nobody said."""
    reliability: Reliability = field(default_factory=Reliability)
    """What is said of failures and checkpoints; the catalogue says the rest."""
    price_kind: str | None = None
    """The kind of price that was asked for."""
    fits: float = WISHED
    """Probability of fitting from which plans are chosen and recommended [1]."""

    @property
    def price(self) -> Price | None:
        """What a device costs, where that is known."""
        return None if self.priced is None else self.priced.price

    @property
    def precision(self) -> Precision:
        """The number format of products."""
        return self.plan.precision or "bf16"

    @property
    def peak(self) -> float:
        """Peak rate of one device in that format [FLOP/s]."""
        return float(getattr(self.system.device.peak, peak_field(self.precision)))

    @property
    def host_capacity(self) -> float:
        """Memory of the host for each of its devices [B]; infinite where it is not known."""
        memory = self.system.host.memory
        used = min(self.devices, self.system.devices_per_node)
        return float(memory) / used if memory is not None else math.inf

    def chance(self, memory: float, host: float, stack: Stack | None = None) -> float:
        """Probability that a plan fits; what its host cannot hold does not.

        Parameters
        ----------
        memory
            Predicted memory of a device [B].
        host
            What each device puts into its host's memory [B].
        stack
            The software, if another one.
        """
        chances = chances_of(self.model, self.system, stack or self.stack)
        held = chances.chance(memory, self.system.device.memory_capacity)
        return float(held) if host <= self.host_capacity else 0.0

    @property
    def room(self) -> float:
        """Predicted memory of a device up to which a plan fits with the probability that is wished for [B]."""
        return self.room_under(self.stack)

    def room_under(self, stack: Stack) -> float:
        """The same under other software [B]."""
        chances = chances_of(self.model, self.system, stack)
        return chances.room(self.system.device.memory_capacity, self.fits)

    @property
    def shifts(self) -> Shifts:
        """What the fitted constants change."""
        return self.constants.of(self.stack, self.system, self.precision)

    def columns(self) -> Scenarios:
        """The scenario as numbers."""
        stacks = self.constants.stacks(self.stack, self.system, self.precision)
        return Scenarios(self.model.columns(), self.workload.columns(), self.plan.columns(self.workload), stacks)

    def backend(self) -> Backend:
        """The backend that prices it."""
        return self.constants.backend(self.stack, self.system, self.devices, self.precision)


def resolve(
    model: Named | Model,
    system: str | Path | System | None = None,
    *,
    devices: int | None = None,
    plan: Named | Plan | None = None,
    stack: str | Path | Stack | None = None,
    workload: Named | Workload | None = None,
    price: float | str | Path | Price | None = None,
    grid: str = "world",
    overhead: str = "default",
    constants: str | Path | Constants | None = None,
    profile: str | Path | MeasuredProfile | None = None,
    price_kind: str | None = None,
    prices: Prices | None = None,
    ownership: Named | Ownership | None = None,
    reliability: Named | Reliability | None = None,
    fits: float | str | None = None,
    open_plan: bool = False,
) -> Scenario:
    """Complete what is given to a scenario; the parameters are those of `simulator.estimate`.

    With `open_plan` the plan keeps its degrees open, for a search that tries them.

    Raises
    ------
    InputError
        One sentence with the place, the value and what would be valid.
    """
    assumed: list[str] = []
    wished = WISHED if fits is None else read_wished(fits)
    with placed(plan, under="plan."), placed(workload, under="workload."), placed(ownership, under="ownership."):
        with about("model"):
            the_model = load_model(model)
        with about("constants"):
            fitted = find(constants)
        with about("profile"):
            fitted = fitted if profile is None else replace(fitted, profile=catalogue.load_profile(profile))
        with about("system"):
            the_system = _system(system, fitted)
        number = _devices(devices, the_system, assumed)
        stated_work, asked = spec_of(Workload, workload), _asked(plan, stack, assumed, open_plan=open_plan)
        the_model = with_score(assumed, stated_work, the_model)
        work = _work(stated_work, the_model, assumed)
        with about("stack"):
            the_stack, asked = _stack(stack, the_system, number, the_model, work, asked, assumed)
        work = noted_work(assumed, stated_work, work, the_stack, the_model)
        the_overhead, owned = _named(catalogue.overheads(), overhead, "overhead"), spec_of(Ownership, ownership)
        about_it = (the_model, work, the_system, the_stack, number)
        the_plan = _plan(asked, *about_it, fitted, wished, assumed, open_plan=open_plan)
        note_documents(assumed, work, the_plan, the_stack)
        return Scenario(
            model=the_model,
            workload=work,
            system=the_system,
            devices=number,
            plan=the_plan,
            stack=the_stack,
            fits=wished,
            priced=chosen_price(
                price, the_system, number, price_kind, prices, ownership=owned, overhead=the_overhead, assumed=assumed
            ),
            price_kind=price_kind,
            grid=_named(catalogue.grids(), grid, "grid"),
            overhead=the_overhead,
            constants=fitted,
            assumed=tuple(assumed),
            reliability=spec_of(Reliability, reliability),
        )


def _asked(plan: Named | Plan | None, stack: object, assumed: list[str], *, open_plan: bool) -> Plan:
    """What is said of the plan, by itself or by the name of the software; a search tries what that says and more."""
    asked = spec_of(Plan, plan)
    return asked if open_plan else with_sharding(assumed, asked, stack)


def _work(stated: Workload, model: Model, assumed: list[str]) -> Workload:
    """The workload with what the model's training says where nobody did, which is noted."""
    work = stated.resolve(model)
    origin = "customary, the model says nothing of its training" if model.training.customary else "as published"
    origin = "as recipes of fine-tuning have it" if is_fine_tuned(work) else origin
    note(assumed, stated, work, ("sequence_length", "target_length", "global_batch"), origin)
    if not work.says_length:
        assumed.append(_UNKNOWN_LENGTH)
    check_positions(model, work)
    return work


def _plan(
    asked: Plan,
    model: Model,
    workload: Workload,
    system: System,
    stack: Stack,
    devices: int,
    constants: Constants,
    wished: float,
    assumed: list[str],
    *,
    open_plan: bool,
) -> Plan:
    """The plan, complete and checked, or with its degrees open."""
    refuse_idle(asked, devices)
    filled = asked.with_defaults(stack, model.family)
    if asked.precision is None:
        filled = with_precision(filled, system)
    habits = ("precision", "attention", *(("sharding",) if open_plan or not open_fields(asked) else ()), "optimizer")
    note(assumed, asked, filled, habits, f"as {stack.id} does")
    constants.backend(stack, system, devices, filled.precision or "bf16")  # refuses what the system lacks
    if open_plan:
        refuse_lacking(asked, model, workload, stack, open_plan=True)
        return filled
    why = "the simplest of the fastest plans that fit"
    if open_fields(asked):
        refuse_lacking(asked, model, workload, stack, open_plan=True)
        room = chances_of(model, system, stack).room(system.device.memory_capacity, wished)
        filled, fits = choose(asked, filled, model, workload, system, stack, devices, constants, room=room)
        why = why if fits else f"no plan fits with a chance of {100 * wished:g} %; this one needs least memory"
    full = filled.with_degrees(devices, usual=stack.offers.schedules[0])
    note(assumed, asked, full, chosen_fields(full), why)
    check(full, model, workload, stack)
    refuse_lacking(full, model, workload, stack)
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


def complete(file: ScenarioFile, *, open_plan: bool = False) -> Scenario:
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
        profile=file.profile,
        price_kind=file.price_kind,
        prices=file.prices,
        ownership=file.ownership,
        reliability=file.reliability,
        fits=file.fits,
        open_plan=open_plan,
    )


def spec_of(kind: type[Spec], named: Named | Spec | None) -> Spec:
    """A specification from a mapping, a file, or as it is."""
    if named is None:
        return kind()
    if isinstance(named, BaseModel):
        return named
    if isinstance(named, Mapping):
        return build(kind, dict(named))
    word = kind.__name__.lower()
    if not isinstance(named, str | Path) or ("=" in str(named) and not Path(named).exists()):
        raise InputError(f"{word}={shown(named)}: give a mapping of fields to values, or the name of a file of one")
    return build(kind, read_mapping(Path(named)), path=Path(named))


def _system(system: str | Path | System | None, fitted: Constants) -> System:
    """The system, or a plain host of the device that a profile was measured on."""
    if system is not None:
        return catalogue.load_system(system)
    if fitted.profile is None:
        raise InputError("system is missing: name what the model runs on, such as dgx-a100-640gb", fields=["system"])
    return host_of(fitted.profile)


def _devices(devices: int | None, system: System, assumed: list[str]) -> int:
    """The number of devices, checked."""
    if devices is None:
        assumed.append(f"devices={system.default_devices}, as {system.id} usually has")
        return system.default_devices
    if isinstance(devices, bool) or not isinstance(devices, int):
        raise InputError(f"devices={shown(devices)}: give a whole number, such as 8", fields=["devices"])
    if not 1 <= devices <= system.most_devices:
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
    plan: Plan,
    assumed: list[str],
) -> tuple[Stack, Plan]:
    """The stack, checked against the system's platform; unless named the one that is usual and has what is asked.

    With it what was asked of the plan, and the number format of the usual stack where it is another one.
    """
    if stack is None:
        chosen = default_stack(system, devices, parameters_of(model, workload), plan, model, workload)
        assumed.append(chosen.why)
        if chosen.precision is None:
            return chosen.stack, plan
        assumed.append(f"precision={chosen.precision}: usual on this system, and {chosen.stack.id} can run in it")
        return chosen.stack, plan.model_copy(update={"precision": chosen.precision})
    device = system.device
    known = load_stack(stack, platform=device.kind)
    if known.platform != device.kind:
        valid = [name for name in names("stacks") if load_stack(name).runs_on(device)]
        raise InputError(
            f"stack={known.id} runs on a {known.platform} and {device.id} is a {device.kind}; valid: {', '.join(valid)}"
        )
    if not known.runs_on(device):
        kin = f"; its kin there is {known.timed_as}" if known.timed_as else ""
        raise InputError(
            f"stack={known.id} is for devices of {known.vendor}, and {device.id} is of {device.vendor}{kin}"
        )
    note_software(assumed, stack, known)
    return known, plan


@lru_cache(maxsize=256)
def parameters_of(model: Model, workload: Workload) -> float:
    """Trainable parameters of a model."""
    plan = Plan(dp=1, micro_batch=1).with_defaults(load_stack("pytorch-eager")).with_degrees(1)
    columns = Scenarios(
        model.columns(), workload.columns(), plan.columns(workload), load_stack("pytorch-eager").columns()
    )
    whole = program_of(undivided(columns)).together
    return float(whole.parameters + whole.expert_parameters)


def _named(entries: Mapping[str, Entry], name: str, kind: str) -> Entry:
    """An entry of the catalogue by name."""
    entry = entries.get(str(name).lower())
    if entry is None:
        raise unknown(kind, str(name), sorted(entries), fields=[kind])
    return entry
