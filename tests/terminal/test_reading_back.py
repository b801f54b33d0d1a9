"""What the catalogue prints as JSON is a file: read back, it is the same entry, with the same sources."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hardware import catalogue
from hardware.catalogue import load_class, load_device, load_prices, load_profile, load_system
from hardware.reading import build, read_mapping
from hardware.spec import Figure
from simulator.scenario.prices import find_price
from simulator.specs.loading import load_model, load_stack
from simulator.terminal import catalogue as browse

_LOADED: dict[str, Callable[[Any], Any]] = {
    "devices": load_device,
    "systems": load_system,
    "models": load_model,
    "stacks": load_stack,
    "classes": load_class,
    "profiles": load_profile,
}
"""Kinds whose entries are files."""
_LISTED = {
    "links": catalogue.link_classes,
    "grids": catalogue.grids,
    "overheads": catalogue.overheads,
    "failures": catalogue.failures,
    "sites": catalogue.sites,
}
"""Kinds whose entries stand together in one file."""


def _printed(part: str, name: str, folder: Path) -> Path:
    """A file with what is printed of an entry."""
    path = folder / "printed.json"
    path.write_text(json.dumps(browse.data(part, name), indent=2, allow_nan=False))
    return path


@pytest.mark.parametrize(("part", "name"), [(part, name) for part in _LOADED for name in browse.names(part)])
def test_every_entry_is_read_back_as_it_was(tmp_path: Path, part: str, name: str) -> None:
    load = _LOADED[part]
    again, before = load(_printed(part, name, tmp_path)), load(name)
    assert again == before
    assert list(again.figures()) == list(before.figures())


@pytest.mark.parametrize("name", browse.names("prices"))
def test_every_offer_is_read_back_as_it_was(tmp_path: Path, name: str) -> None:
    path = _printed("prices", name, tmp_path)
    before = next(price for price in catalogue.prices() if price.id == name)
    assert load_prices(path) == (before,)
    choice = find_price(str(path), load_system(_system_with(before.device)))
    assert choice is not None
    assert choice.price == before


def _system_with(device: str) -> str:
    """A system of a device."""
    if device in catalogue.names("systems"):
        return device
    named = (name for name in catalogue.names("systems") if load_system(name).device.id == device)
    return next(named, device)


@pytest.mark.parametrize(("part", "name"), [(part, name) for part in _LISTED for name in browse.names(part)])
def test_entries_that_stand_together_are_read_back_as_they_were(tmp_path: Path, part: str, name: str) -> None:
    before = _LISTED[part]()[name]  # type: ignore[index]
    printed = read_mapping(_printed(part, name, tmp_path))
    assert build(type(before), printed) == before


@pytest.mark.parametrize("part", ["measurements", "reliability", "differences"])
def test_loose_figures_are_read_back_as_they_were(part: str) -> None:
    figures: tuple[Figure, ...] = getattr(catalogue, part)()
    assert [Figure.model_validate(each) for each in json.loads(json.dumps(browse.data(part, None)))] == list(figures)


def test_a_changed_figure_is_a_changed_entry(tmp_path: Path) -> None:
    """Equality compares figures and sources: a test above that compared nothing would pass."""
    path = _printed("devices", "rtx-3090", tmp_path)
    document = json.loads(path.read_text())
    document["memory"]["bandwidth"]["value"] = "937 GB/s"
    path.write_text(json.dumps(document))
    assert load_device(path) != load_device("rtx-3090")
    document["memory"]["bandwidth"] |= {"value": "936 GB/s", "note": "by hand"}
    path.write_text(json.dumps(document))
    assert load_device(path) != load_device("rtx-3090")
