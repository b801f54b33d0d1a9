"""What an answer should be read with: warnings, what would make a plan fit, and the sources of its figures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hardware import catalogue
from hardware.catalogue import load_class
from hardware.sheet import Sheet
from simulator.answers import long_run
from simulator.scenario import price_notes
from simulator.scenario.scenario import Scenario
from simulator.specs.plan import Plan, columns_of
from simulator.specs.plans import constraints
from simulator.step.memory import peak
from simulator.work.program import program_of
from simulator.work.transformer import Scenarios

_GIB = 2.0**30
_CHANGES: tuple[tuple[str, dict[str, object]], ...] = (
    ("micro_batch=1", {"micro_batch": 1}),
    ("recompute=full", {"recompute": "full"}),
    ("sharding=zero1", {"sharding": "zero1"}),
    ("sharding=zero3", {"sharding": "zero3"}),
    ("optimizer=adam-8bit", {"optimizer": "adam-8bit"}),
    ("offload_optimizer", {"offload_optimizer": True}),
    ("micro_batch=1 and recompute=full", {"micro_batch": 1, "recompute": "full"}),
    ("sharding=zero3, micro_batch=1 and recompute=full", {"sharding": "zero3", "micro_batch": 1, "recompute": "full"}),
    (
        "sharding=zero3, micro_batch=1, recompute=full and offload_optimizer",
        {"sharding": "zero3", "micro_batch": 1, "recompute": "full", "offload_optimizer": True},
    ),
)
"""Changes that save memory, cheapest first."""


def warnings_of(scenario: Scenario, total: float, capacity: float) -> Iterator[str]:
    """What the reader should know before believing the numbers."""
    plan, system, stack = scenario.plan, scenario.system, scenario.stack
    if total > capacity:
        lacking = (total - capacity) / _GIB
        yield (
            f"does not fit: needs {total / _GIB:.1f} GiB on a device with {capacity / _GIB:.1f} GiB, "
            f"{lacking:.1f} GiB too much; {_remedy(scenario, capacity)}"
        )
    missing = [axis for axis in ("tp", "pp", "cp", "ep") if (getattr(plan, axis) or 1) > 1 and axis not in stack.axes]
    if missing:
        yield f"{stack.id} does not offer {', '.join(missing)}; the estimate assumes that it did"
    if (plan.tp or 1) > system.devices_per_node and system.intra_node is not None:
        yield f"tp={plan.tp} crosses nodes of {system.devices_per_node} devices, over the slower network"
    yield from price_notes.warnings(scenario.priced, system, scenario.devices, kind=scenario.price_kind)
    recalled = [f"{sheet.id}: {name}" for sheet in (system.device, system) for name, _, seen in _seen(sheet) if seen]
    if recalled:
        yield f"figures only recalled, check before relying on them: {'; '.join(recalled)}"


def _seen(sheet: Sheet) -> Iterator[tuple[str, object, bool]]:
    """The figures of a sheet that decide an estimate, and whether each is only recalled."""
    used = ("peak.bf16", "peak.fp16", "peak.fp32", "peak.tf32", "memory.", "intra_node.", "inter_node.", "cross_pod.")
    for name, value, provenance in sheet.figures():
        if name.startswith(used):
            yield name, value, provenance is not None and provenance.seen == "recalled"


def _remedy(scenario: Scenario, capacity: float) -> str:
    """The cheapest change that would make the plan fit."""
    changed: list[tuple[str, Plan]] = []
    for words, change in _CHANGES:
        plan = scenario.plan.model_copy(update=change)
        if plan != scenario.plan:
            changed.append((words, plan))
    plans = columns_of([plan for _, plan in changed], scenario.workload)
    columns = Scenarios(scenario.model.columns(), scenario.workload.columns(), plans, scenario.stack.columns())
    totals = np.broadcast_to(peak(program_of(columns)).total, len(changed))
    kept = np.ones(len(changed), dtype=bool)
    for rule in constraints(plans, columns.models, columns.workloads, columns.stacks):
        kept &= np.broadcast_to(rule.kept, len(changed))
    for (words, _), total, keep in zip(changed, totals, kept, strict=True):
        if keep and total <= capacity:
            return f"{words} would make it fit ({total / _GIB:.1f} GiB)"
    least = int(np.argmin(np.where(kept, totals, np.inf)))
    return (
        f"no change of the plan on {scenario.devices} devices makes it fit, {changed[least][0]} comes nearest "
        f"({totals[least] / _GIB:.1f} GiB); use more devices or devices with more memory"
    )


def sources_of(scenario: Scenario) -> Iterator[str]:
    """What the answer rests on."""
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
        yield f"price {price.rate * 3600:.2f} USD an hour: {price.offer} of {price.provider}, {price.date} ({where})"
    yield from long_run.sources(scenario)
    yield f"electricity of {scenario.grid.name}; overhead: {scenario.overhead.name}"
