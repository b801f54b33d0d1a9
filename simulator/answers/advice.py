"""What an answer should be read with: warnings, what would make a plan fit, and the sources of its figures."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hardware import catalogue, units
from hardware.catalogue import load_class
from hardware.classes import peak_field
from hardware.sheet import Sheet
from simulator.answers import long_run
from simulator.answers.improving import improvements
from simulator.answers.smaller_work import smaller_work
from simulator.pricing.analytic import NEVER_FITTED
from simulator.pricing.constants import UNFITTED
from simulator.scenario import price_notes
from simulator.scenario.scenario import Scenario

_GIB = 2.0**30
_LISTED = 20
"""Improvements among which a remedy is looked for."""


def warnings_of(scenario: Scenario, total: float, capacity: float, host: float) -> Iterator[str]:
    """What the reader should know before believing the numbers."""
    plan, system = scenario.plan, scenario.system
    if total > capacity:
        lacking = (total - capacity) / _GIB
        yield (
            f"does not fit: needs {total / _GIB:.1f} GiB on a device with {capacity / _GIB:.1f} GiB, "
            f"{lacking:.1f} GiB too much; {_remedy(scenario)}"
        )
    elif total > scenario.room and host <= scenario.host_capacity:
        chance = units.chance(scenario.chance(total, host))
        yield f"fits with a chance of {chance} only; {_remedy(scenario)}"
    if host > scenario.host_capacity:
        held, has = units.size(host), units.size(scenario.host_capacity)
        yield (
            f"does not fit: offloaded states need {held} of host memory per device, and {system.id} has {has}; "
            "use more devices, optimizer=adam-8bit, or a host with more memory"
        )
    elif host > 0.0 and math.isinf(scenario.host_capacity):
        yield (
            f"offloaded states need {units.size(host)} of host memory per device; that of {system.id} is not "
            "known, check that it suffices"
        )
    if (plan.tp or 1) > system.devices_per_node and system.intra_node is not None:
        yield f"tp={plan.tp} crosses nodes of {system.devices_per_node} devices, over the slower network"
    if scenario.stack.timed_as is not None and scenario.constants.shifts != UNFITTED.shifts:
        yield f"{scenario.stack.id} has no fitted constants of its own, and shares those of {scenario.stack.timed_as}"
    yield from price_notes.warnings(scenario.priced, system, scenario.devices, kind=scenario.price_kind)
    if scenario.precision in NEVER_FITTED:
        yield (
            f"unverified: products in {scenario.precision} are taken to reach as much of their peak as in fp8; "
            "no constant was fitted to them"
        )
    rate = f"peak.{peak_field(scenario.precision)}"
    sheets = (system.device, system)
    recalled = [f"{sheet.id}: {name}" for sheet in sheets for name, _, seen in _seen(sheet, rate) if seen]
    if recalled:
        yield f"unverified figures, check before relying on them: {'; '.join(recalled)}"


def _seen(sheet: Sheet, rate: str) -> Iterator[tuple[str, object, bool]]:
    """The figures of a sheet that decide an estimate, and whether each is unverified (recalled, not read)."""
    rates = ("peak.bf16", "peak.fp16", "peak.fp32", "peak.tf32", rate)
    used = (*rates, "memory.", "intra_node.", "inter_node.", "cross_pod.")
    for name, value, provenance in sheet.figures():
        if name.startswith(used):
            yield name, value, provenance is not None and provenance.seen == "recalled"


def _remedy(scenario: Scenario) -> str:
    """The fastest change, or pair of changes, that would make the plan fit."""
    fitting_changes = [each for each in improvements(scenario, top=_LISTED) if "stack" not in each.changes]
    devices = units.plural(scenario.devices, "device")
    lighter = None if fitting_changes and fitting_changes[0].fits else smaller_work(scenario)
    if lighter is not None:
        words = " and ".join(f"{name}={value}" for name, value in lighter.changes.items())
        size, chance = units.size(lighter.memory_bytes), units.chance(lighter.fits_probability)
        return f"no change of the plan alone helps; {words} would make it fit ({size}, chance {chance})"
    if not fitting_changes:
        return f"no change of the plan on {devices} helps; use more devices or devices with more memory"
    best = fitting_changes[0]
    words = " and ".join(f"{name}={value}" for name, value in best.changes.items())
    size = units.size(best.memory_bytes)
    if best.fits:
        chance = units.chance(best.fits_probability)
        return f"{words} would make it fit ({size}, chance {chance}, a step of {units.duration(best.step_time_s)})"
    wished = f"{100 * scenario.fits:g} %"
    return (
        f"no one or two changes of the plan on {devices} make it fit with a chance of {wished}, {words} comes nearest "
        f"({size}); use more devices or devices with more memory"
    )


def sources_of(scenario: Scenario) -> Iterator[str]:
    """The sources of the figures that an estimate uses, one line each."""
    model, system = scenario.model, scenario.system
    titles = catalogue.sources()
    if "published_parameters" in model.provenance:
        yield f"{model.id}: {'; '.join(model.provenance['published_parameters'].source)}"
    for sheet in (system.device, system):
        keys = {key for _, _, provenance in sheet.figures() if provenance for key in provenance.source}
        for key in sorted(keys - {"recalled", "derived"}):
            yield f"{sheet.id}: {titles.get(key, key)}"
    measured = scenario.constants.profile
    if measured is not None:
        yield f"measured profile {measured.id}: {measured.source} ({measured.seen})"
    else:
        constants = load_class(system.device.device_class).gemm[scenario.plan.precision or "bf16"]
        yield f"kernel constants of {system.device.device_class}: {constants.source} ({constants.seen})"
    yield f"stack {scenario.stack.id}: {scenario.stack.source} ({scenario.stack.seen})"
    if scenario.price is not None:
        price = scenario.price
        where = "; ".join(price.provenance["rate"].source) if "rate" in price.provenance else price.provider
        offer = f"{price.offer} of {price.provider}, {price.date} ({where})"
        yield f"price {price.rate * 3600:.2f} USD per device-hour: {offer}"
    yield from long_run.sources(scenario)
    yield f"electricity of {scenario.grid.name}; overhead: {scenario.overhead.name}"
