"""Measured profiles in the public API: loaded, chosen for a system, compared with measurements.

>>> profiles_for("dgx-h100")
('h100-sxm',)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from hardware import catalogue
from hardware.measured import MeasuredProfile
from hardware.spec import Device, System
from simulator.pricing.measured import device_of, speaks_for
from simulator.profiling import shipped
from simulator.profiling.calibrate import Gathered, gather
from simulator.profiling.comparison import Comparison, compared, kept
from simulator.profiling.constants import Told, constants_of

_TABLES = "the published tables that it was fitted to"
_RECORD = "the record that it was fitted to"
_KEPT = "the shapes that it keeps, at the times that it gives them"


def load_profile(name: str | Path | MeasuredProfile) -> MeasuredProfile:
    """A measured profile by its name, or from a file of ``capsim calibrate``.

    Parameters
    ----------
    name
        One that comes with capsim, or a file.

    Raises
    ------
    InputError
        One sentence, where there is none of that name, or the file is damaged.

    Examples
    --------
    >>> load_profile("h100-sxm").device
    'h100-sxm5-80gb'
    """
    return catalogue.load_profile(name)


def profile_text(profile: MeasuredProfile) -> str:
    """A measured profile as the text of a file that `load_profile` reads."""
    from simulator.profiling.writing import text_of

    return text_of(profile)


def profile_constants(profile: str | Path | MeasuredProfile) -> tuple[Told, ...]:
    """The constants of a profile in words, each beside the catalogue's, and why some were borrowed.

    Parameters
    ----------
    profile
        A name, a file, or what `calibrate` gave.

    Examples
    --------
    >>> told = profile_constants("h100-sxm")[0]
    >>> told.of, told.what, told.value, told.before
    ('products, fp32', 'share of the peak rate', '78.3 %', '95.0 %')
    """
    return constants_of(load_profile(profile))


def profiles_for(system: str | Path | System) -> tuple[str, ...]:
    """The profiles that come with capsim and speak for the devices of a system.

    Parameters
    ----------
    system
        As `simulator.estimate` takes it.
    """
    device = catalogue.load_system(system).device
    return tuple(name for name, measured in _devices().items() if speaks_for(measured, device))


@cache
def profile_hosts() -> dict[str, tuple[str, ...]]:
    """Devices that the catalogue does not have, and the profiles that come with capsim and hold their sheets.

    With such a profile, and no system, `simulator.estimate` takes a plain host of the device.
    """
    hosts: dict[str, tuple[str, ...]] = {}
    for name, device in _devices().items():
        if device.id not in catalogue.names("devices"):
            hosts[device.id] = (*hosts.get(device.id, ()), name)
    return hosts


@cache
def _devices() -> dict[str, Device]:
    """What each profile that comes with capsim was measured on; profiles are large, and recipes say it too."""
    recipes = shipped.recipes()
    return {
        name: catalogue.load_device(recipes[name].device) if name in recipes else device_of(load_profile(name))
        for name in catalogue.names("profiles")
    }


def compare_profile(
    profile: str | Path | MeasuredProfile, files: Sequence[str | Path] = (), *, rows_of: str | None = None
) -> Comparison:
    """Price what was measured by a profile and by the catalogue's constants, row by row.

    Parameters
    ----------
    profile
        A name, a file, or what `calibrate` gave.
    files
        Records and tables of its device, whether it was fitted to them or not. Without any, the files behind a profile
        that comes with capsim, or else the shapes that the profile keeps.
    rows_of
        The device as the tables name it, where that is not its name here.

    Raises
    ------
    InputError
        One sentence, with the file and what would be valid.

    Examples
    --------
    >>> part = compare_profile("a100-pcie").parts["gemm"]
    >>> part.errors(part.after_s).median < part.errors(part.before_s).median
    True
    """
    loaded = load_profile(profile)
    if files:
        gathered = gather(files, device=device_of(loaded), rows_of=rows_of, same=True)
        return compared(
            loaded, gathered.measurements, gathered.steps, rows_of=", ".join(Path(file).name for file in files)
        )
    behind = None if isinstance(profile, MeasuredProfile) else _behind(str(profile).lower())
    if behind is None:
        return compared(loaded, kept(loaded), rows_of=_KEPT)
    rows, words = behind
    return compared(loaded, rows.measurements, rows.steps, rows_of=words)


def _behind(name: str) -> tuple[Gathered, str] | None:
    """The rows that a profile which comes with capsim was fitted to, in words too; nothing for another."""
    recipe = shipped.recipes().get(name)
    if recipe is not None:
        device = catalogue.load_device(recipe.device)
        return Gathered(shipped.measured(recipe), [], device, recipe.source), _TABLES
    record = next((each for each in shipped.records() if each.id == name), None)
    return (gather([record.file]), _RECORD) if record is not None else None
