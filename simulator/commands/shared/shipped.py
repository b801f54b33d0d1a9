"""Fit the measured profiles that come with capsim anew: ``python -m simulator.commands.shared.shipped [NAME ...]``."""

from __future__ import annotations

import sys

from hardware.measured import MeasuredProfile
from simulator.profiling.calibrate import calibrate
from simulator.profiling.shipped import FOLDER, fit, recipes, records
from simulator.profiling.writing import write
from simulator.terminal.profile import show


def main(chosen: list[str]) -> None:
    """Fit the profiles that are named, or all, and write them where the catalogue has them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, recipe in recipes().items():
        if not chosen or name in chosen:
            _keep(fit(name, recipe))
    for record in records():
        if not chosen or record.id in chosen:
            _keep(calibrate([record.file], name=record.id))


def _keep(profile: MeasuredProfile) -> None:
    """Write a profile, and say how good it is."""
    path = FOLDER / f"{profile.id}.yaml"
    write(path, profile)
    show(profile, file=str(path))


if __name__ == "__main__":
    main(sys.argv[1:])
