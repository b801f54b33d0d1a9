"""The device of a published run, read from the name that its source uses."""

from __future__ import annotations

import re
from functools import cache

from hardware.catalogue import load_device, names
from hardware.spec import Device
from simulator.corpus.runs import RefusedError
from simulator.corpus.words import first_rule, plain

_MAKERS = re.compile(
    r"^(?:nvidia|corporation|tesla|geforce|amd|instinct|radeon|google|cloud|dgx|hgx|gpu|\d+-?x(?=-)|\d+x)-"
)
"""Words before a name that do not tell devices apart, and a number of devices."""
_PACKAGE = re.compile(r"(?:\d+gi?b?|pcie|sxm\d?|oam|hbm\d?e?|gddr\dx?|fe|foundersedition|generation|gpu|card)*")
"""What may follow a name without making it another device; "ti", "super" and "laptop" do make it another."""


def device_of(words: str, assumed: list[str]) -> Device:
    """The device that some words name.

    Parameters
    ----------
    words
        The name, in the source's spelling.
    assumed
        Receives what the name leaves open.

    Raises
    ------
    RefusedError
        Where no device of the catalogue has that name.

    Examples
    --------
    >>> device_of("NVIDIA GeForce RTX 3090", []).id, device_of("TPU v5 lite", []).id
    ('rtx-3090', 'tpu-v5e')
    """
    known, guess = _known(words)
    if known is None:
        raise RefusedError("unknown device", plain(words)[:80])
    if guess:
        assumed.append(f"device: {guess}")
    return _shipped(known)


@cache
def _shipped(name: str) -> Device:
    """A device of the catalogue."""
    return load_device(name)


@cache
def _known(words: str) -> tuple[str | None, str]:
    """The id of the device that some words name, and what they leave open."""
    name = _without_maker(words)
    if name in names("devices"):
        return name, ""
    rule = first_rule("devices", name)
    if rule:
        return str(rule["device"]), str(rule.get("assumed", ""))
    return _spelled_otherwise(name), ""


def _without_maker(words: str) -> str:
    """A name in lower case with hyphens, from the model on."""
    name = re.sub(r"[^a-z0-9.+]+", "-", plain(words)).strip("-")
    while name != (shorter := _MAKERS.sub("", name)):
        name = shorter
    return re.sub(r"^(?=[2-5]0[5-9]0)", "rtx-", name)


def _spelled_otherwise(name: str) -> str | None:
    """The longest known name that a name begins with, hyphens apart, where only the package follows."""
    squeezed = name.replace("-", "")
    fitting = [
        known
        for known in names("devices")
        if squeezed.startswith(start := known.replace("-", "")) and _PACKAGE.fullmatch(squeezed[len(start) :])
    ]
    return max(fitting, key=len, default=None)
