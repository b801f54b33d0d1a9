"""Whose launch file a file is, by its ending and its keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hardware.errors import InputError
from hardware.reading import read_text
from simulator.launch.record import LaunchFile

SCRIPTS = (".sh", ".bash", ".sbatch", ".slurm", ".args", ".txt")
"""Endings of shell scripts and of lists of arguments."""
ENDINGS = (*SCRIPTS, ".json", ".yaml", ".yml", ".toml")
"""Endings of all launch files."""
Reader = Callable[[Mapping[str, Any], str], LaunchFile]


def launch_file(name: str | Path) -> LaunchFile | None:
    """What a launch file says; none where a file is of another kind, or is none.

    Raises
    ------
    InputError
        With file and line.
    """
    path = Path(name)
    if path.suffix.lower() in SCRIPTS:
        from simulator.launch.megatron.reading import read

        return read(read_text(path), str(path))
    return None


def imported(name: str | Path, *, model: str | None = None) -> LaunchFile:
    """What a launch file says, with the model that somebody names.

    Parameters
    ----------
    name
        The file.
    model
        A model's name or file, in the place of the one that the file says.

    Raises
    ------
    InputError
        Where it is no launch file, or nobody says which model it trains.
    """
    launched = launch_file(name)
    if launched is None:
        raise InputError(
            f"{name}: is no launch file that is known; capsim reads shell scripts of Megatron-LM, and files of DeepSpeed, "
            "torchtitan, accelerate, axolotl, LLaMA-Factory, MaxText and nanotron"
        )
    if model is not None:
        launched = replace(launched, model=model)
    if launched.model is None:
        raise InputError(f"{name}: does not say which model it trains; name it by --model, such as --model llama-3-8b")
    return launched
