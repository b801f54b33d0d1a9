"""Configurations of releases as their files have them, counted as the library and the catalogue do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hardware.reading import read_mapping
from measure.verification.families import theirs
from simulator.specs.huggingface.families import FAMILIES
from simulator.specs.huggingface.reading import from_config
from simulator.specs.loading import load_model
from simulator.specs.model import Model
from tests.specs.reference import ours

RELEASES: dict[str, dict[str, Any]] = read_mapping(Path(__file__).parent / "releases.yaml")
_NO_KEYS = ("architectures", "model_type", "auto_map", "quantization_config", "attn_temperature_tuning")
"""What is said elsewhere, or what this release of the library wants otherwise than the file has it."""
_TIED_BY_THE_LIBRARY = ("t5", "mt5")
"""Whose untied heads the classes of the library tie; their files' parameters, below, say otherwise."""


def _read(name: str) -> Model:
    return from_config(RELEASES[name]["config"], Path(f"{name}.json"))


def test_there_are_more_than_a_hundred_of_all_kin() -> None:
    types = {release["config"]["model_type"] for release in RELEASES.values()}
    assert len(RELEASES) > 120
    assert len(types) > 45
    assert sum("parameters" in release for release in RELEASES.values()) > 90


@pytest.mark.parametrize("name", [name for name, release in RELEASES.items() if "parameters" in release])
def test_parameters_are_those_of_the_files_of_the_release(name: str) -> None:
    assert ours(_read(name)) == RELEASES[name]["parameters"]


@pytest.mark.parametrize("name", RELEASES)
def test_parameters_are_those_of_the_library(name: str) -> None:
    config = RELEASES[name]["config"]
    model_type, keys = config["model_type"], {key: config[key] for key in config if key not in _NO_KEYS}
    family = FAMILIES[model_type]
    if family.counted_by:
        pytest.skip("the library has no class of that name; test_families compares with one of the same form")
    if model_type in _TIED_BY_THE_LIBRARY:
        pytest.skip("the library ties what its file does not")
    assert ours(_read(name)) == theirs(model_type, config["architectures"][0], keys)


@pytest.mark.parametrize("name", RELEASES)
def test_the_catalogue_says_the_same_as_the_file(name: str) -> None:
    model, entry = _read(name), load_model(name)
    assert entry.columns() == model.columns()
    assert entry.router_balance == model.router_balance
    assert load_model(RELEASES[name]["hub"]).id == name
    assert RELEASES[name]["hub"] in (entry.source or "")
