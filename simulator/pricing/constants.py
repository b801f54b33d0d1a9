"""Constants fitted to real runs, on top of those of the catalogue: what they move, and where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hardware.classes import Precision
from hardware.errors import InputError
from hardware.measured import MeasuredProfile
from hardware.reading import parse_yaml, read_text
from hardware.spec import System
from simulator.formulas.typing import Num
from simulator.pricing.analytic import MOST_JITTER, AnalyticBackend
from simulator.pricing.backend import Backend
from simulator.pricing.measured import MeasuredBackend
from simulator.specs.columns import Columns
from simulator.specs.stack import Stack, Stacks

SHIPPED = Path(__file__).with_name("constants.yaml")
_FORMATS = {"fp16": "16-bit", "bf16": "16-bit", "fp8": "8-bit", "mxfp8": "8-bit", "nvfp4": "8-bit"}
"""Formats that share a constant; products in 4 bits have none of their own."""
_MOST_BYTES = 50_000_000
"""Of a file of constants with the runs that they were fitted to."""
_WIDEST = 5.0
"""The largest shift that is taken for a constant rather than for a mistake."""


@dataclass(frozen=True)
class ShiftKind:
    """A kind of constant that is fitted."""

    what: str
    levels: Mapping[str, float]
    """What its shifts belong to, and by how much they usually differ: the deviation of the prior."""


_BY_STACK = {"family": 0.4, "stack": 0.4}
KINDS: dict[str, ShiftKind] = {
    "products": ShiftKind(
        "logarithm of a factor on the efficiency of matrix products",
        {"all": 0.15, "class and format": 0.15, "device": 0.08, "stack, class and format": 0.1},
    ),
    "streaming": ShiftKind(
        "logarithm of a factor on the efficiency of memory-bound kernels", {"all": 0.12, "class": 0.12}
    ),
    "attention": ShiftKind(
        "logarithm of a factor on the efficiency of fused attention on a device", {"all": 0.15, "class": 0.15}
    ),
    "host": ShiftKind("logarithm of a factor on host times: the processors that come with a device", {"class": 0.25}),
    "inner_links": ShiftKind(
        "logarithm of a factor on the efficiency of links inside a node", {"all": 0.03, "inner link": 0.1}
    ),
    "outer_links": ShiftKind(
        "logarithm of a factor on the efficiency of links between nodes", {"all": 0.03, "outer link": 0.05}
    ),
    "stragglers": ShiftKind(
        "logarithm of a factor on how much the time of a collective differs from node to node", {"all": 1.0}
    ),
    "launches": ShiftKind("logarithm of a factor on the host time of a launch", {"family": 0.2, "stack": 0.5}),
    "eager": ShiftKind("added to the share of avoidable memory traffic that is done", {"family": 0.4, "stack": 0.3}),
    "attention_kernels": ShiftKind(
        "logarithm of a factor on the rate of a stack's attention kernels", {"family": 0.2, "stack": 0.2}
    ),
    "reductions": ShiftKind("logarithm of a factor on the rate of gradient reductions", {"family": 0.3, "stack": 0.3}),
    "gradient_overlap": ShiftKind("added to the log-odds of hiding gradient reductions", {"family": 0.8, "stack": 0.6}),
    "parameter_overlap": ShiftKind("added to the log-odds of hiding parameter gathers", {"family": 0.8, "stack": 0.6}),
    "tensor_overlap": ShiftKind(
        "added to the log-odds of hiding tensor-parallel exchanges", {"family": 0.8, "stack": 0.6}
    ),
    "step_overhead": ShiftKind("logarithm of a factor on the fixed time of a step", {"family": 0.6, "stack": 0.6}),
    "optimizer": ShiftKind("logarithm of a factor on the memory traffic of the optimizer", _BY_STACK),
}
"""What is fitted: few numbers for each device class, link and stack, and none for a single source or run."""


@dataclass(frozen=True)
class Shifts(Columns):
    """Distance of each kind of constant from the catalogue's, as `KINDS` says; 0 changes nothing."""

    products: Num = 0.0
    streaming: Num = 0.0
    attention: Num = 0.0
    host: Num = 0.0
    inner_links: Num = 0.0
    outer_links: Num = 0.0
    stragglers: Num = 0.0
    launches: Num = 0.0
    eager: Num = 0.0
    attention_kernels: Num = 0.0
    reductions: Num = 0.0
    gradient_overlap: Num = 0.0
    parameter_overlap: Num = 0.0
    tensor_overlap: Num = 0.0
    step_overhead: Num = 0.0
    optimizer: Num = 0.0

    def on_stacks(self, stacks: Stacks) -> Stacks:
        """Stacks with their constants shifted."""
        tensor = _shifted_share(stacks.tensor_overlap, self.tensor_overlap)
        return replace(
            stacks,
            launch=stacks.launch * np.exp(self.launches + self.host),
            step_overhead=stacks.step_overhead * np.exp(self.step_overhead + self.host),
            eager=np.maximum(stacks.eager + self.eager, 0.0),
            attention_efficiency=stacks.attention_efficiency * np.exp(self.attention_kernels),
            reduction_efficiency=stacks.reduction_efficiency * np.exp(self.reductions),
            gradient_overlap=_shifted_share(stacks.gradient_overlap, self.gradient_overlap),
            parameter_overlap=_shifted_share(stacks.parameter_overlap, self.parameter_overlap),
            tensor_overlap=tensor,
            tensor_overlap_across=np.where(
                np.asarray(stacks.one_tensor_overlap) > 0.0, tensor, stacks.tensor_overlap_across
            ),
            optimizer_passes=stacks.optimizer_passes * np.exp(self.optimizer),
        )

    def on_backend(self, backend: AnalyticBackend) -> AnalyticBackend:
        """A backend with the constants of its devices and links shifted."""
        device, (bridge, inner, outer, cross) = backend.device, backend.wires.levels
        products, streaming, attention = np.exp(self.products), np.exp(self.streaming), np.exp(self.attention)
        levels = (
            bridge,
            replace(inner, efficiency=_of_the_line(inner.efficiency, self.inner_links)),
            replace(outer, efficiency=_of_the_line(outer.efficiency, self.outer_links)),
            cross,
        )
        return replace(
            backend,
            wires=replace(backend.wires, levels=levels),
            device=replace(
                device,
                efficiency=device.efficiency * products,
                stream_efficiency=device.stream_efficiency * streaming,
                reduce_efficiency=device.reduce_efficiency * streaming,
                attention_efficiency=device.attention_efficiency * attention,
                attention_backward_efficiency=device.attention_backward_efficiency * attention,
            ),
            wide=replace(backend.wide, efficiency=backend.wide.efficiency * products),
            jitter=np.minimum(backend.jitter * np.exp(self.stragglers), MOST_JITTER),
        )


def _of_the_line(efficiency: Num, shift: Num) -> Num:
    """A shifted share of a link's rate: no link carries more than its rate, whatever runs say."""
    return np.minimum(efficiency * np.exp(shift), np.maximum(efficiency, 1.0))


def _shifted_share(share: Num, shift: Num) -> Num:
    """A share of time moved by what a shift of log-odds moves it, or one nearby where it is 0 or 1."""
    inside = np.clip(share, 0.02, 0.97)
    moved = 1.0 / (1.0 + (1.0 - inside) / inside * np.exp(-np.asarray(shift)))
    return np.asarray(np.clip(share + moved - inside, 0.0, 1.0))


@dataclass(frozen=True)
class Constants:
    """Fitted shifts by kind, by what they belong to, and by its name."""

    shifts: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    origin: str = "catalogue"
    """Where they come from, in words."""
    profile: MeasuredProfile | None = None
    """What was measured on the device, which stands before what published runs say of it."""

    def of(self, stack: Stack, system: System, precision: str) -> Shifts:
        """The shifts of one scenario: those of every level together, 0 for what was never seen, or was measured."""
        names = names_of(stack, system, precision)
        measured = measured_kinds(self.profile, stack)
        return Shifts(
            **{
                kind: sum(
                    self.shifts.get(kind, {}).get(level, {}).get(names[level], 0.0) for level in KINDS[kind].levels
                )
                for kind in KINDS
                if kind not in measured
            }
        )

    def stacks(self, stack: Stack, system: System, precision: str) -> Stacks:
        """A stack as numbers, with its measured constants, or those of the catalogue shifted."""
        known = self.profile.stacks.get(stack.id) if self.profile is not None else None
        host = {} if known is None else {"launch": known.launch, "step_overhead": known.step_overhead}
        measured = stack.model_copy(update=host)
        return self.of(stack, system, precision).on_stacks(measured.columns())

    def backend(self, stack: Stack, system: System, devices: int, precision: Precision) -> Backend:
        """The backend that prices a part of a system.

        Raises
        ------
        InputError
            Where the system has no units for the precision, or is not what the profile was measured on.
        """
        shifts = self.of(stack, system, precision)
        if self.profile is None:
            return shifts.on_backend(AnalyticBackend.of(system, devices, precision))
        measured = MeasuredBackend.of(system, devices, precision, self.profile, stack.id)
        return replace(measured, analytic=shifts.on_backend(measured.analytic))

    def items(self) -> Iterator[tuple[tuple[str, str, str], float]]:
        """Every shift with its kind, level and name."""
        for kind, levels in self.shifts.items():
            for level, names in levels.items():
                for name, shift in names.items():
                    yield (kind, level, name), shift


def measured_kinds(profile: MeasuredProfile | None, stack: Stack) -> frozenset[str]:
    """The kinds of constants that a profile has measured, so that nothing is shifted.

    Kernels that were timed alone say nothing of what they become in a training step: what published runs say of that
    still counts, unless the profile has steps of its own.
    """
    if profile is None:
        return frozenset()
    kinds = {"inner_links"} if profile.links else set()
    if profile.stacks:
        kinds |= {"products", "streaming", "attention", "host"}
    if stack.id in profile.stacks:
        kinds |= _OF_MEASURED_STACK
    return frozenset(kinds)


_OF_MEASURED_STACK = {"launches", "eager", "attention_kernels", "step_overhead", "optimizer"}


def names_of(stack: Stack, system: System, precision: str) -> dict[str, str]:
    """What the constants of a scenario belong to, level by level."""
    inner, outer = system.intra_node, system.inter_node or system.intra_node
    software = stack.timed_as or stack.id
    return {
        "all": "all",
        "class": system.device.device_class,
        "class and format": f"{system.device.device_class} {_FORMATS.get(precision, precision)}",
        "stack, class and format": f"{software} {system.device.device_class} {_FORMATS.get(precision, precision)}",
        "device": system.device.id,
        "family": stack.family,
        "stack": software,
        "inner link": inner.kind if inner else "none",
        "outer link": outer.kind if outer else "none",
    }


_INSIDE_STEPS = {"products": -0.16, "streaming": -0.11, "attention": -0.25}
"""What kernels lose inside a training step beside the bursts of tables that the catalogue's constants come from: warm
devices at lower clocks, cold caches, other kernels between. Logarithms of factors that all devices and all software
share, rounded from the shipped fit; without any one of its sources it gives -0.18 to -0.14, -0.16 to -0.01 and -0.36 to
-0.17."""
UNFITTED = Constants({kind: {"all": {"all": shift}} for kind, shift in _INSIDE_STEPS.items()})
"""The catalogue's own constants: nothing of them belongs to a device, a link or a stack."""


@cache
def shipped() -> Constants:
    """The constants that come with the package, fitted to its published runs."""
    return load(SHIPPED)


def find(constants: str | Path | Constants | None) -> Constants:
    """Constants by what a user says: the shipped ones unless told, `none` for the catalogue's own, or a file."""
    if isinstance(constants, Constants):
        return constants
    if constants is None:
        return shipped()
    return UNFITTED if str(constants) == "none" else load(constants)


def load(path: str | Path) -> Constants:
    """Read constants that `capsim fit` wrote.

    Raises
    ------
    InputError
        With the file, the entry and what would be valid.
    """
    text = read_text(Path(path), most_bytes=_MOST_BYTES).replace("\r\n", "\n")
    text = text.split("\n---\n", 1)[0]  # the runs that were fitted to follow
    document = parse_yaml(text, str(path))
    if not isinstance(document, dict):
        raise InputError(f"{path}: must hold a mapping of names to values at the top level")
    shifts = document.get("shifts")
    if not isinstance(shifts, dict):
        raise InputError(f"{path}: no shifts; write the file with capsim fit")
    for kind, levels in shifts.items():
        if kind not in KINDS:
            raise InputError(f"{path}: unknown kind of constant {str(kind)!r}; valid: {', '.join(KINDS)}")
        _check_levels(path, kind, levels)
    return Constants(shifts=shifts, origin=str(document.get("origin", Path(path).name))[:200])


def _check_levels(path: str | Path, kind: str, levels: Any) -> None:
    """Check what stands under one kind of constants."""
    valid = KINDS[kind].levels
    if not isinstance(levels, dict):
        raise InputError(f"{path}: {kind}: must hold levels, of {', '.join(valid)}, with the shifts of each")
    for level, names in levels.items():
        if level not in valid:
            raise InputError(f"{path}: {kind}: unknown level {str(level)!r}; valid: {', '.join(valid)}")
        if not isinstance(names, dict):
            raise InputError(f"{path}: {kind}: {level}: must hold names and the shift of each")
        for name, shift in names.items():
            if isinstance(shift, bool) or not isinstance(shift, int | float) or not abs(shift) <= _WIDEST:
                place = f"{path}: {kind}: {level}: {name}={str(shift)[:60]}"
                raise InputError(f"{place}: write a number from -{_WIDEST:g} to {_WIDEST:g}")


assert list(KINDS) == [each.name for each in fields(Shifts)]
