"""Whose launch file a file is, by how it is written and its keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hardware.errors import InputError
from hardware.reading import read_text
from simulator.launch import deepspeed, maxtext, nanotron
from simulator.launch.documents import document_of, kind_of
from simulator.launch.megatron import bridge_reading, nemo
from simulator.launch.megatron import reading as megatron
from simulator.launch.record import LaunchFile
from simulator.launch.torchtitan import commands
from simulator.launch.torchtitan import reading as torchtitan
from simulator.launch.trainers import accelerate, axolotl, litgpt, llama_factory

Reader = Callable[[Mapping[str, Any], str, int | None], LaunchFile]
_READERS: tuple[tuple[Callable[[Mapping[str, Any]], bool], Reader], ...] = (
    (nanotron.recognises, nanotron.read),
    (nemo.recognises, nemo.read),
    (bridge_reading.recognises, bridge_reading.read),
    (accelerate.recognises, accelerate.read),
    (axolotl.recognises, axolotl.read),
    (llama_factory.recognises, llama_factory.read),
    (litgpt.recognises, litgpt.read),
    (torchtitan.recognises, torchtitan.read),
    (deepspeed.recognises, deepspeed.read),
    (maxtext.recognises, maxtext.read),
)
"""Which documents are whose, and who reads them."""


def launch_file(name: str | Path, devices: int | None = None) -> LaunchFile | None:
    """What a launch file says; none where a file is of another kind, or is none.

    Parameters
    ----------
    name
        The file.
    devices
        Devices of the run, where somebody says.

    Raises
    ------
    InputError
        With file and line.
    """
    path = Path(name)
    kind = kind_of(path)
    if kind == "script":
        text = read_text(path)
        reads = commands.read if commands.recognises(text) else megatron.read
        return reads(text, str(path), devices)
    document = document_of(path) if kind is not None and path.is_file() else None
    reader = None if document is None else next((read for is_one, read in _READERS if is_one(document)), None)
    if reader is None and kind == "toml":
        raise InputError(
            f"{path}: is no configuration of torchtitan, the only TOML that is read; it has [model] and [parallelism]"
        )
    return None if document is None or reader is None else reader(document, str(path), devices)


def imported(name: str | Path, *, model: str | None = None, devices: int | None = None) -> LaunchFile:
    """What a launch file says, with the model that somebody names.

    Parameters
    ----------
    name
        The file.
    model
        A model's name or file, in the place of the one that the file says.
    devices
        Devices of the run, in the place of those that the file says.

    Raises
    ------
    InputError
        Where it is no launch file, or nobody says which model it trains.
    """
    launched = launch_file(name, devices)
    if launched is None:
        read_text(Path(name))  # one that cannot be read is refused as such
        raise InputError(
            f"{name}: is no launch file that is known; capsim reads scripts of Megatron-LM, and files of Megatron "
            "Bridge, DeepSpeed, torchtitan, accelerate, axolotl, LLaMA-Factory, litgpt, MaxText, "
            "nanotron and NeMo"
        )
    return with_model(launched, model)


def with_model(launched: LaunchFile, model: str | None) -> LaunchFile:
    """A launch file whose model is known.

    Parameters
    ----------
    launched
        What it says.
    model
        A model's name or file, in the place of the one that the file says.

    Raises
    ------
    InputError
        Where nobody says which model it trains.
    """
    if model is not None:
        return replace(launched, model=model)
    if launched.model is None:
        sentence = "does not say which model it trains; name it by --model, such as --model llama-3-8b"
        raise InputError(f"{launched.path}: {sentence}")
    return launched
