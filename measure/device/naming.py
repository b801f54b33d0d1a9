"""Which device of the catalogue a driver's name means, and which models a list of names."""

from __future__ import annotations

import re

from hardware.catalogue import load_device, names
from hardware.errors import InputError, about
from simulator.specs.loading import load_model
from simulator.specs.model import Model

_BRANDS = {"nvidia", "geforce", "tesla", "quadro", "amd", "instinct", "generation", "graphics", "tensor", "core", "gpu"}
_ALIASES = {"hbm3": "sxm5", "hbm3e": "sxm"}
_MOST_MODELS = 12
_LEAST_ALIKE = 0.3
_MEMORY_TOLERANCE = 0.15


def catalogued(name: str, memory_bytes: float) -> str | None:
    """The catalogue's name of a device, or none where it is not there.

    Parameters
    ----------
    name
        As the driver prints it.
    memory_bytes
        Of the device [B]; cards of one name come with several sizes.

    Examples
    --------
    >>> catalogued("NVIDIA H100 80GB HBM3", 85.0e9), catalogued("NVIDIA GeForce RTX 3090", 25.3e9)
    ('h100-sxm5-80gb', 'rtx-3090')
    >>> catalogued("Some Other Chip", 16e9) is None
    True
    """
    words = {_ALIASES.get(word, word) for word in re.split(r"[^a-z0-9]+", name.lower()) if word} - _BRANDS
    numbers = {word for word in words if any(map(str.isdigit, word)) and not _is_form(word)}
    best, alike = None, _LEAST_ALIKE
    for candidate in names("devices"):
        others = set(candidate.split("-"))
        share = len(words & others) / len(words | others)
        same_chip = numbers <= others if numbers else words == others
        if same_chip and share > alike and _fits(candidate, memory_bytes):
            best, alike = candidate, share
    return best


def _is_form(word: str) -> bool:
    """Whether a word tells the size of the memory or the kind of socket, not the chip."""
    return bool(re.fullmatch(r"\d+gb|sxm\d?|pcie|nvl", word))


def _fits(candidate: str, memory_bytes: float) -> bool:
    """Whether a device of the catalogue has about that much memory."""
    capacity = load_device(candidate).memory.capacity
    return abs(memory_bytes / capacity - 1.0) < _MEMORY_TOLERANCE


def models_of(text: str) -> list[Model]:
    """The models that a list of names and files means.

    Raises
    ------
    InputError
        With the nearest known names.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not 1 <= len(names) <= _MOST_MODELS:
        raise InputError(f"--models names {len(names)} models; name 1 to {_MOST_MODELS}, separated by commas")
    with about("models"):
        return [load_model(name) for name in dict.fromkeys(names)]
