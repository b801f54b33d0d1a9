"""A scenario with some of its places changed, as the estimate takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from hardware import catalogue
from hardware.amounts import read_number
from hardware.catalogue import link_classes
from hardware.errors import InputError, shown, unknown
from hardware.quantity import parse, show
from hardware.sheet import Sheet
from hardware.spec import System
from simulator.pricing.constants import find
from simulator.scenario.prices import find_price
from simulator.scenario.scenario import Named, Scenario, resolve, spec_of
from simulator.specs.capabilities.checking import is_offered
from simulator.specs.loading import load_model, load_stack
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.recomputation import COMPANIONS
from simulator.specs.running import Ownership, PriceKind, Reliability
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload
from simulator.variations.expressions import Value, WrongValueError
from simulator.variations.latency import with_latency
from simulator.variations.places import EVERY_LATENCY, SHEETS, WHOLE, Edit, edited, levels_of, multiple, unknown_place

_FORMATS = ("parameters_in_fp32", "gradients_in_fp32", "reduction_in_fp32", "master_weights")
_FOLLOWS: dict[str, tuple[str, ...]] = {
    "devices": ("dp",),
    "plan.tp": ("dp", "sequence_parallel"),
    "plan.pp": ("dp",),
    "plan.cp": ("dp",),
    "plan.virtual_stages": ("schedule",),
    "plan.sharding_group": ("sharding",),
    "plan.recompute": COMPANIONS,
    "plan.precision": _FORMATS,
    "plan.parameters_in_fp32": _FORMATS[2:],
    "stack": (*_FORMATS, "attention"),
    "stack.attention": ("attention",),
    "stack.unfused_families": ("attention",),
    "model": ("attention",),
}
"""Fields of a kept plan that follow from a varied place, unless somebody gave them."""
_TOTALS = ("workload.tokens", "workload.steps")

Changes = Mapping[str, Value]


@dataclass(frozen=True)
class Baseline:
    """The scenario that is varied, and what of it somebody gave."""

    scenario: Scenario
    plan: Plan
    stack: bool
    """Whether the stack was given."""
    workload: Workload
    others: Mapping[str, Any]
    """Prices, places and constants, which variations share."""


def baseline(
    model: Named | Model,
    system: str | Path | System | None = None,
    *,
    plan: Named | Plan | None = None,
    stack: str | Path | Stack | None = None,
    workload: Named | Workload | None = None,
    devices: int | None = None,
    **others: Any,
) -> Baseline:
    """Complete a scenario; the parameters are those of `simulator.estimate`, which may gain others."""
    whole = resolve(model, system, plan=plan, stack=stack, workload=workload, devices=devices, **others)
    owned = {
        kind.__name__.lower(): spec_of(kind, others.get(kind.__name__.lower())) for kind in (Ownership, Reliability)
    }
    shared = {**others, **owned, "constants": whole.constants}
    return Baseline(whole, spec_of(Plan, plan), stack is not None, spec_of(Workload, workload), shared)


@dataclass(frozen=True)
class Question:
    """All that is estimated of one variation, and what was changed for it."""

    arguments: Mapping[str, Any]
    """What `resolve` takes."""
    edits: tuple[Edit, ...]
    keeps_plan: bool
    may_change_stack: bool = False
    """Whether nobody chose the stack, so that another may stand in where it lacks what is varied."""

    def scenario(self, *, open_fields: tuple[str, ...] = ()) -> Scenario:
        """Complete it.

        Parameters
        ----------
        open_fields
            Fields of the plan that are chosen anew all the same.

        Raises
        ------
        InputError
            Where it breaks a rule.
        """
        plan: Plan = self.arguments["plan"].model_copy(update=dict.fromkeys(open_fields))
        stack: Stack | None = self.arguments["stack"]
        if self.keeps_plan:
            usual = stack.offers.schedules[0] if stack is not None else "1f1b"
            plan = plan.with_degrees(self.arguments["devices"], usual=usual)
        if self.may_change_stack and stack is not None and not self._is_offered(plan, stack):
            return resolve(**{**self.arguments, "plan": plan.model_copy(update=dict.fromkeys(_FORMATS)), "stack": None})
        return resolve(**{**self.arguments, "plan": plan})

    def _is_offered(self, plan: Plan, stack: Stack) -> bool:
        """Whether a stack can run a plan."""
        model: Model = self.arguments["model"]
        return is_offered(plan, model, spec_of(Workload, self.arguments["workload"]).resolve(model), stack)


def question(base: Baseline, changes: Changes, *, replan: bool) -> Question:
    """Change places of a scenario.

    Parameters
    ----------
    base
        The scenario.
    changes
        What each place becomes: parts that are replaced come first, then figures of them.
    replan
        Whether what was left open of plan and stack is chosen anew.

    Raises
    ------
    WrongValueError
        Where there is no such place, or a value cannot stand there.
    InputError
        Where values contradict each other.
    """
    arguments = _start(base, changes, replan=replan)
    edits = {root: _replace(arguments, root, changes[root], base) for root in WHOLE if root in changes}
    sheets: dict[str, Sheet] = {root: arguments[root] or base.scenario.stack for root in SHEETS}
    edits |= {path: _other(arguments, path, value, sheets) for path, value in changes.items() if _is_other(path)}
    for root in SHEETS:
        inside = {path: value for path, value in changes.items() if path not in edits and path.startswith(f"{root}.")}
        if inside:
            figures = {path.removeprefix(f"{root}."): value for path, value in inside.items()}
            arguments[root], made = edited(root, sheets, figures, base.scenario.plan.precision or "bf16")
            edits |= {edit.path: edit for edit in made}
    if arguments["system"] is not base.scenario.system:
        _check_technologies(arguments["system"])
    free = not base.stack and not any(path.partition(".")[0] == "stack" for path in changes)
    order = tuple(edits[path] for path in changes)
    return Question(arguments, order, keeps_plan=not replan, may_change_stack=free)


def _is_other(path: str) -> bool:
    """Whether a path is neither a whole part of the scenario nor a figure of one."""
    is_latency = path.startswith("system.") and path.endswith(".latency")
    return is_latency or path == EVERY_LATENCY or (path not in WHOLE and path.partition(".")[0] not in SHEETS)


def _other(arguments: dict[str, Any], path: str, value: Value, sheets: Mapping[str, Sheet]) -> Edit:
    """Change what is no figure of a sheet."""
    if path == "devices":
        return _devices(arguments, value)
    if not path.startswith("system."):
        raise unknown_place(path, sheets)
    return _latency(arguments, path, value, sheets)


def _check_technologies(system: System) -> None:
    """Refuse kinds of devices and links that nobody knows the constants of."""
    links = [(link.kind, sorted(link_classes()), f"kind of link of {name}") for name, _, link in system.levels]
    for name, known, kind in [(system.device.device_class, catalogue.names("classes"), "device class"), *links]:
        if name not in known:
            raise WrongValueError(str(unknown(kind, name, known)))


def _start(base: Baseline, changes: Changes, *, replan: bool) -> dict[str, Any]:
    """What stays as it is, before anything is changed."""
    scenario = base.scenario
    return {
        **base.others,
        "model": scenario.model,
        "system": scenario.system,
        "devices": scenario.devices,
        "stack": scenario.stack if base.stack or not replan else None,
        "plan": _plan(base, changes, replan=replan),
        "workload": _workload(base, changes),
    }


def _plan(base: Baseline, changes: Changes, *, replan: bool) -> Plan:
    """The plan that is kept, or what was given of it, with the fields that are varied."""
    kept, asked = base.scenario.plan, base.plan
    if replan:
        varied = [path.removeprefix("plan.") for path in changes if path.startswith("plan.")]
        return asked.model_copy(update={name: getattr(kept, name) for name in varied if name in Plan.model_fields})
    follow = {name for path in changes for name in _FOLLOWS.get(path, ()) if f"plan.{name}" not in changes}
    return kept.model_copy(update={name: getattr(asked, name) for name in follow})


def _workload(base: Baseline, changes: Changes) -> Workload:
    """Lengths, batch and total of the base; what follows from them stays open."""
    full, asked = base.scenario.workload, base.workload
    varied = [path.removeprefix("workload.") for path in changes if path.startswith("workload.")]
    names = ["sequence_length", "global_batch", *(name for name in varied if name in Workload.model_fields)]
    pinned = {name: getattr(full, name) for name in names}
    total = next((path for path in _TOTALS if path in changes), None)
    if total is not None:  # another total replaces the old one: tokens and steps exclude each other
        pinned |= {path.removeprefix("workload."): None for path in _TOTALS if path not in changes}
    elif "model" in changes:
        pinned |= {"steps": full.steps} if full.steps is not None else {"tokens": full.tokens}
    return asked.model_copy(update=pinned)


def _replace(arguments: dict[str, Any], root: str, value: Value, base: Baseline) -> Edit:
    """Replace a whole part of the scenario by another."""
    try:
        if root == "price":
            arguments["prices"] = None  # what is varied is the price that holds, whoever said it
        if value.factor is None:
            arguments[root] = _part(root, value.text, arguments["system"])
        elif root == "price":
            return _dearer(arguments, value, base)
    except InputError as error:
        raise WrongValueError(str(error)) from None
    if value.factor is not None:
        raise WrongValueError(f"{root}={shown(value.text)}: name another {root}, or vary a figure of it")
    return Edit(root, value.text, value.text)


def _part(root: str, text: str, system: System) -> Any:
    """A part of a scenario by name."""
    if root in ("grid", "overhead"):
        known = sorted(catalogue.grids() if root == "grid" else catalogue.overheads())
        if text.lower() not in known:
            raise unknown(root, text, known)
        return text
    if root == "price":
        find_price(text, system)
        return text
    if root == "price_kind":
        if text not in get_args(PriceKind):
            raise unknown("kind of price", text, get_args(PriceKind))
        return text
    if root == "stack":
        return load_stack(text, platform=system.device.kind)
    return {"model": load_model, "system": catalogue.load_system, "constants": find}[root](text)


def _dearer(arguments: dict[str, Any], value: Value, base: Baseline) -> Edit:
    """Multiply the price."""
    price, factor = base.scenario.price, value.factor or 1.0
    if price is None:
        raise WrongValueError(f"price={shown(value.text)}: no price is known; give one")
    text = show(price.rate * factor, "price")
    if factor != 1.0:
        arguments["price"] = _part("price", text, arguments["system"])
    return Edit("price", value.text, text, factor)


def _devices(arguments: dict[str, Any], value: Value) -> Edit:
    """Another number of devices."""
    before = arguments["devices"]
    after = multiple("devices", value, before) if value.factor is not None else _whole(value.text)
    if not 1 <= after <= 10_000_000:
        raise WrongValueError(f"devices={shown(value.text)}: must be from 1 to 10,000,000")
    arguments["devices"] = int(after)
    return Edit("devices", value.text, f"{after:,}", after / before)


def _whole(text: str) -> int:
    """A whole number of devices."""
    read = read_number(text)
    if not isinstance(read, int):
        raise WrongValueError(f"devices={shown(text)}: must be a whole number")
    return read


def _latency(arguments: dict[str, Any], path: str, value: Value, sheets: Mapping[str, Sheet]) -> Edit:
    """Other latencies of one level of wiring, or of all."""
    system, level = arguments["system"], path.removeprefix("system.").removesuffix(".latency")
    levels = levels_of(system) if path == EVERY_LATENCY else [level]
    if path != EVERY_LATENCY and level not in levels_of(system):
        raise unknown_place(path, sheets)
    factor = value.factor
    if factor is None and path == EVERY_LATENCY:
        raise WrongValueError(f"{path}={shown(value.text)}: levels differ in latency; give multiples of it")
    before = link_classes()[getattr(system, levels[0]).kind].of_one_hop if levels else 0.0
    if factor is None:
        factor = _time(path, value.text) / before if before else None
    if factor is None:
        raise WrongValueError(f"{path}={shown(value.text)}: its latency is 0, which has no multiples")
    if factor != 1.0:
        arguments["constants"] = with_latency(arguments["constants"], dict.fromkeys(levels, factor))
    after = value.text if path == EVERY_LATENCY else show(float(f"{before * factor:.15g}"), "time")
    return Edit(path, value.text, after, factor)


def _time(path: str, text: str) -> float:
    """A latency with its unit."""
    try:
        return parse(text, "time")
    except ValueError as error:
        raise WrongValueError(f"{path}={shown(text)}: {error}") from None
