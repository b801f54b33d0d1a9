"""Which constants the predicted time of a kind depends on, and what they are in a scenario."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

from hardware.catalogue import link_classes, load_class
from simulator.pricing.constants import KINDS, measured_kinds, names_of
from simulator.replay.measured.kinds import TimeKind
from simulator.scenario.scenario import Scenario

Level = Literal["device class", "link", "stack", "fitted", "profile"]

_BETWEEN_NODES = ("outer_links", "stragglers")
"""What counts where several nodes run together."""


@dataclass(frozen=True)
class Touched:
    """A constant that a predicted time depends on."""

    level: Level
    """Where it stands: with the device's class, a link, the stack, among what was fitted, or in a measured profile."""
    of: str
    """What it belongs to, such as a class or a stack."""
    name: str
    value: float
    """In SI units; of a fitted one the shift, as `simulator.pricing.constants` says."""


def touched(kind: TimeKind, scenario: Scenario) -> tuple[Touched, ...]:
    """The constants that the time of a kind depends on in a scenario.

    Parameters
    ----------
    kind
        Of time in a step.
    scenario
        That is predicted.
    """
    each = (_of_device(kind, scenario), _of_links(kind, scenario), _of_stack(kind, scenario), _fitted(kind, scenario))
    return tuple(constant for part in each for constant in part)


def in_words(constants: Iterable[Touched]) -> str:
    """Constants in a sentence, those of one place together.

    >>> in_words([Touched("stack", "megatron-lm", "eager", 0.2), Touched("fitted", "all", "eager", 0.1)])
    'stack megatron-lm: eager 0.2; fitted eager: all +0.1'
    """
    places: dict[str, list[str]] = {}
    for each in constants:
        place, name, sign = f"{each.level} {each.of}", each.name, ""
        if each.level == "fitted":
            place, name, sign = f"fitted {each.name}", each.of, "+"
        places.setdefault(place, []).append(f"{name} {each.value:{sign}.3g}")
    return "; ".join(f"{place}: {', '.join(values)}" for place, values in places.items())


def _of_device(kind: TimeKind, scenario: Scenario) -> Iterator[Touched]:
    """Constants of the device's class, or those that a measured profile has in their place."""
    profile = scenario.constants.profile
    device_class = scenario.system.device.device_class
    sheet = load_class(device_class) if profile is None else profile.constants
    level: Level = "device class" if profile is None else "profile"
    timed = None if profile is None else profile.stacks.get(scenario.stack.id)
    rated = timed is not None and all(stream.value in timed.streams for stream in kind.streams)
    for name in kind.touches.get("class", ()):
        group, _, rest = name.partition(".")
        if group in ("gemm", "attention"):
            formats = getattr(sheet, group)
            precision = scenario.precision
            if precision not in formats:
                continue
            value, name = getattr(formats[precision], rest), f"{group}.{precision}.{rest}"
        elif group == "memory" and rated:
            continue  # the rates of the profile's steps stand in its place
        else:
            value = _field(sheet, name)
        yield Touched(level, device_class if profile is None else profile.id, name, float(value))


def _of_links(kind: TimeKind, scenario: Scenario) -> Iterator[Touched]:
    """Constants of the links inside a node and between nodes."""
    system = scenario.system
    links = (system.intra_node, system.inter_node)
    used = [link.kind for link in links[: 1 if scenario.devices <= system.devices_per_node else 2] if link is not None]
    for link in dict.fromkeys(used):
        for name in kind.touches.get("link", ()):
            yield Touched("link", link, name, float(getattr(link_classes()[link], name)))


def _of_stack(kind: TimeKind, scenario: Scenario) -> Iterator[Touched]:
    """Constants of the stack; those that were timed on the device stand in its profile."""
    stack, profile = scenario.stack, scenario.constants.profile
    timed = None if profile is None else profile.stacks.get(stack.id)
    place = "" if profile is None else f"{profile.id}, {stack.id}"
    for name in kind.touches.get("stack", ()):
        if timed is not None and name in ("launch", "step_overhead"):
            yield Touched("profile", place, name, float(getattr(timed, name)))
        else:
            yield Touched("stack", stack.id, name, float(_field(stack, name)))
    for stream in kind.streams:
        if timed is not None and stream.value in timed.streams:
            rate = timed.streams[stream.value]
            yield Touched("profile", place, f"streams.{stream.value}.forward", rate.forward)
            yield Touched("profile", place, f"streams.{stream.value}.backward", rate.backward)


def _fitted(kind: TimeKind, scenario: Scenario) -> Iterator[Touched]:
    """Shifts that were fitted to published runs, level by level, but those that a profile takes the place of."""
    constants = scenario.constants
    belongs = names_of(scenario.stack, scenario.system, scenario.precision)
    replaced = measured_kinds(constants.profile, scenario.stack)
    alone = scenario.devices <= scenario.system.devices_per_node
    for name in kind.touches.get("fitted", ()):
        for level in KINDS[name].levels:
            shift = constants.shifts.get(name, {}).get(level, {}).get(belongs[level], 0.0)
            if name not in replaced and shift and not (alone and name in _BETWEEN_NODES):
                yield Touched("fitted", level if level == "all" else f"{level} {belongs[level]}", name, shift)


def _field(sheet: Any, name: str) -> Any:
    """A field of a sheet, or of a sheet in it."""
    return reduce(getattr, name.split("."), sheet)
