"""The device of a published run, read from the name that its source uses."""

from __future__ import annotations

import re
from functools import cache

from hardware.catalogue import load_device, names
from hardware.spec import Device
from simulator.corpus.notes import Notes
from simulator.corpus.runs import RefusedError
from simulator.corpus.words import RuleMatch, match_rule, plain

_MAKERS = re.compile(
    r"^(?:nvidia|corporation|tesla|geforce|amd|instinct|radeon|google|cloud|dgx|hgx|gpu|\d+-?x(?=-)|\d+x)-"
)
"""Words before a name that do not tell devices apart, and a number of devices."""
_PACKAGE = re.compile(r"(?:\d+gi?b?|pcie|sxm\d?|oam|hbm\d?e?|gddr\dx?|fe|foundersedition|generation|gpu|card)*")
"""What may follow a name without making it another device; "ti", "super" and "laptop" do make it another."""
_MEMORY = re.compile(r"(?<![\d.a-z])(\d{1,4})-?g(?:i?b)?(?![a-z0-9])")
_WATTS = re.compile(r"(?<![\d.])(\d{2,4})-?w(?:atts?)?\b")
_HOSTS = (1, 2, 4, 8, 16)
"""Numbers of devices whose memory together names a host, as DGX A100 640GB does."""
_SAME, _CLOSE = 0.03, 0.18
"""Shares by which the memory that words tell may differ from a device's: without a word, and with one. Makers call 180
GB 192, and one driver's 96 GB are another's 80; a card of 10 GB and one of 12 differ in more than memory."""
_SAME_POWER = 0.1


def device_of(words: str, notes: Notes | None = None) -> Device:
    """The device that some words name.

    Parameters
    ----------
    words
        The name, in the source's spelling.
    notes
        Receives how it was read, and what it leaves open.

    Raises
    ------
    RefusedError
        Where no device of the catalogue has that name, form factor and memory.

    Examples
    --------
    >>> device_of("NVIDIA GeForce RTX 3090").id, device_of("TPU v5 lite").id, device_of("H100 SXM5 96GB HBM2e").id
    ('rtx-3090', 'tpu-v5e', 'h100-sxm5-96gb-500w')
    """
    notes = notes if notes is not None else Notes()
    name = _without_maker(words)
    device_id, match = _known(name)
    if device_id is None:
        raise RefusedError("unknown device", plain(words)[:80])
    device = _shipped(device_id)
    notes.read("hardware.device", match or "a name of the catalogue", f"system.device = {device_id}", word=name)
    if match is not None and "assumed" in match.rule:
        notes.assume(f"device: {match.rule['assumed']}")
    _check_memory(device, name, notes)
    _check_power(device, name, notes)
    return device


@cache
def _shipped(name: str) -> Device:
    """A device of the catalogue."""
    return load_device(name)


def _check_memory(device: Device, name: str, notes: Notes) -> None:
    """Refuse an edition with other memory than that of the catalogue; say where it is a little more or less."""
    told = _MEMORY.search(name)
    if told is None:
        return
    capacity = round(float(device.memory.capacity) / 1e9)
    errors = (float(told[1]) / (capacity * devices) - 1.0 for devices in _HOSTS)
    error = min(errors, key=abs)
    if abs(error) > _CLOSE:
        raise RefusedError("unknown device", f"{name[:60]}: {device.id} has {capacity} GB")
    if abs(error) > _SAME:
        notes.assume(f"device: the edition with {capacity} GB, where {told[1]} GB are told")


def _check_power(device: Device, name: str, notes: Notes) -> None:
    """Say where a device ran at another power limit than the catalogue's, which prices do not heed."""
    told, limit = _WATTS.search(name), device.power.limit
    if told is None or limit is None or abs(float(told[1]) / float(limit) - 1.0) <= _SAME_POWER:
        return
    notes.assume(f"device: priced as at {float(limit):.0f} W, where {told[1]} W are told")


@cache
def _known(name: str) -> tuple[str | None, RuleMatch | None]:
    """The id of the device that a name means, and the rule that says so where it is not the catalogue's own."""
    if name in names("devices"):
        return name, None
    match = match_rule("devices", name)
    if match:
        return str(match.rule["device"]), match
    return _spelled_otherwise(name), None


def _without_maker(words: str) -> str:
    """A name in lower case with hyphens, from the model on."""
    name = re.sub(r"[^a-z0-9.+]+", "-", plain(words)).strip("-")
    boards = re.search(r"\b[hd]gx\b", name) and "sxm" not in name
    while name != (shorter := _MAKERS.sub("", name)):
        name = shorter
    return re.sub(r"^(?=[2-5]0[5-9]0)", "rtx-", name) + ("-sxm" if boards else "")


def _spelled_otherwise(name: str) -> str | None:
    """The longest known name that a name begins with, hyphens apart, where only the package follows."""
    squeezed = name.replace("-", "")
    fitting = [
        known
        for known in names("devices")
        if squeezed.startswith(start := known.replace("-", "")) and _PACKAGE.fullmatch(squeezed[len(start) :])
    ]
    return max(fitting, key=len, default=None)
