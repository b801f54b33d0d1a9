"""Formulas beside what torch counts: `capsim verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from hardware.errors import InputError
from simulator.commands.shared.app import app
from simulator.commands.shared.options import Given, Json, print_json, scenario_options

if TYPE_CHECKING:
    from simulator.scenario.scenario import Scenario

_DIFFERS = 1
"""The status where a formula differs from what torch counts."""
_TORCH = (2, 13)
"""The oldest version in which all of it can be counted."""


@app.command()
@scenario_options()
def verify(options: Given, json: Json = False) -> None:
    """Formulas checked against what torch counts.

    Parameters, FLOPs, saved activations, optimizer states, collectives and schedules.

    Nothing is computed or sent, so no GPU is needed; torch is (pip install 'capsim[measure]'). Modules have one layer
    of each kind, times how many there are.

    Ends with status 0 where all that was counted is equal, 1 where something differs, 2 on bad input:
    capsim verify bert-large --system dgx-a100-640gb --stack nvidia-bert-2022
    """
    from simulator.scenario.scenario import complete

    file = options.file()
    with options.placed():
        scenario = complete(file)
        _refuse_what_is_not_built(scenario)
    verification = _verification()
    verified = verification.verify(scenario)
    if json:
        print_json(verified.to_dict())
    else:
        verification.show(verified, title=file.title)
    if not verified.equal:
        raise typer.Exit(_DIFFERS)


def _refuse_what_is_not_built(scenario: Scenario) -> None:
    """Refuse what the reference module has not: adapters and virtual tokens, other losses, updates in between."""
    work, plan = scenario.workload, scenario.plan
    lacking = {
        "workload.train": f"train={work.train}" if work.is_tuned else None,
        "workload.z_loss": f"z_loss={work.z_loss:g}" if work.z_loss else None,
        "workload.label_smoothing": f"label_smoothing={work.label_smoothing:g}" if work.label_smoothing else None,
        "plan.cross_entropy": f"cross_entropy={plan.cross_entropy}" if plan.cross_entropy else None,
        "plan.optimizer_in_backward": "optimizer_in_backward" if plan.optimizer_in_backward else None,
    }
    for field, words in lacking.items():
        if words is not None:
            raise InputError(
                f"{words}: verify counts the training of a whole model with torch's own loss and update; leave it out",
                fields=[field],
            )


def _verification() -> Any:
    """What counts in torch; a floor above this one, so it is looked up when it runs."""
    from importlib import import_module, metadata

    try:
        installed = metadata.version("torch")
        if tuple(map(int, installed.split(".")[:2])) < _TORCH:
            oldest = ".".join(map(str, _TORCH))
            raise InputError(f"verify needs torch {oldest} or newer, and {installed} is installed; update torch")
        return import_module("measure.verification")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
    raise InputError("verify counts in torch, which is not installed; pip install 'capsim[measure]'")
