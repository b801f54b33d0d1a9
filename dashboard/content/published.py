"""Published runs as the pages find and open them: by model, device and software, and as choices of a scenario; pure."""

from __future__ import annotations

from collections.abc import Mapping

from dashboard.choices.scenario import BEST, fields
from dashboard.choices.state import Value
from hardware.catalogue import load_system, names
from hardware.errors import InputError, shown
from simulator.corpus import runs
from simulator.corpus.architectures import known_model
from simulator.corpus.mapping import MappedRun, case_of
from simulator.corpus.runs import RefusedError, Run
from simulator.specs import loading

_OF_WORK = ("sequence_length", "global_batch", "target_length", "effective_tokens", "predictions")


def matching(words: str | None) -> list[str]:
    """Names of the shipped runs that have all of some words in their model, device, software, source or name.

    >>> all("palm" in name or "pax" in name for name in matching("palm-540b"))
    True
    """
    wanted = (words or "").lower().split()
    return [run.id for run in runs.shipped() if all(word in _described(run) for word in wanted)]


def _described(run: Run) -> str:
    """What words are looked for in."""
    parts = (run.id, run.model.name, run.model.family, run.hardware.device, run.plan.framework or "", run.collection)
    return " ".join(parts).lower()


def opened(run: Run) -> Mapping[str, Value | None]:
    """What to choose so that a scenario is that of a run; all that it leaves open is open.

    Raises
    ------
    InputError
        Where the run is not priced, or its model or device has no file of its own.
    """
    try:
        case = case_of(run)
    except RefusedError as error:
        raise InputError(f"{run.id}: is not priced: {error}") from None
    known = known_model(run.model.name)
    if known is None or known.id not in loading.names("models"):
        raise InputError(f"{run.id}: {shown(run.model.name)} is no model of the catalogue; its sizes stand in the row")
    if (known.layers, known.hidden_size) != (case.model.layers, case.model.hidden_size):
        raise InputError(f"{run.id}: has other sizes than {known.id} of the catalogue; they stand in the row")
    work = {name: getattr(case.workload, name) for name in _OF_WORK}
    told: dict[str, Value | None] = {
        "model": known.id,
        "system": _system(case),
        "devices": case.devices,
        "stack": case.stack.id if case.stack.id in loading.names("stacks") else None,
        **{name: value for name, value in work.items() if value is not None},
        BEST: False,
    }
    plan = {name: value for name, value in case.plan if value is not None}
    known_fields = {each.name for each in fields()}
    for name, value in plan.items():
        if name in known_fields:
            told[name] = ("-" if name == "placement" else ",").join(value) if isinstance(value, tuple) else value
    return {**dict.fromkeys(known_fields - set(told)), **told}


def _system(case: MappedRun) -> str:
    """The smallest system of the catalogue that has the run's devices and as many of them in a node, or the device."""
    device, system = case.system.device.id, case.system
    alike = [each for each in map(load_system, names("systems")) if each.device.id == device]
    large = [each for each in alike if each.most_devices >= case.devices]
    if not large:
        if case.devices > load_system(device).most_devices:
            raise InputError(f"{case.run.id}: the catalogue has no system of {case.devices:,} {device}")
        return device
    return min(large, key=lambda each: (each.devices_per_node != system.devices_per_node, each.most_devices)).id
