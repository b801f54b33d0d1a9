"""The catalogue as tables, and what its entries mean to a scenario."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import simulator
from dashboard.choices.scenario import arguments, field, fields
from dashboard.choices.state import Choices, opening
from dashboard.content import browsing
from dashboard.content.browsing import PARTS, RECALLED
from hardware import catalogue
from hardware.amounts import read_number
from hardware.errors import InputError
from simulator.specs.loading import load_stack
from simulator.terminal import catalogue as browse

ROOT = Path(__file__).parents[2]
_OPENING = opening(fields())


@pytest.mark.parametrize("part", PARTS)
def test_tables_say_what_lists_say(part: str) -> None:
    names = browsing.names(part)
    table, listed = browsing.table(part, names), browse.rows(part)
    assert len(table) == len(listed) == len(names)
    for cells, row in zip(table, listed, strict=True):
        for name, text in row.items():
            assert ("°" in text) == (name in cells.get(RECALLED, "").split("; "))
            plain, cell = text.replace("°", ""), cells[name]
            if name not in browsing.formats(part):
                assert cell == plain
            elif plain == "-":
                assert cell is None
            else:
                assert cell == read_number(plain)


def test_numbers_are_written_as_they_were() -> None:
    assert browsing.formats("prices") == {"USD/h": "%.2f"}
    assert browsing.formats("models")["params"] == "compact"
    assert browsing.formats("devices")["W"] == "localized"
    assert browsing.formats("stacks") == {}


@pytest.mark.parametrize("part", PARTS)
def test_every_entry_has_a_name_and_figures(part: str) -> None:
    for name in browsing.names(part):
        assert browsing.label(part, name)
        rows = browsing.figures(part, name)
        assert rows
        assert len({tuple(row) for row in rows}) == 1
        assert all(any(row[column] for row in rows) for column in rows[0])
    assert len({browsing.label(part, name) for name in browsing.names(part)}) == len(browsing.names(part))


def test_figures_name_their_sources() -> None:
    rows = {row["figure"]: row for row in browsing.figures("devices", "a100-sxm4-80gb")}
    assert rows["peak bf16"]["value"] == "312 TFLOP/s"
    assert rows["peak bf16"]["seen"].startswith("primary [1, ")
    known = browsing.entry("differences", "1")
    assert known.sources
    assert browsing.figures("differences", "1")[2]["seen"].endswith("[1]")


def test_words_are_looked_for_everywhere() -> None:
    assert browsing.matching("devices", None) == list(browsing.names("devices"))
    hopper = browsing.matching("devices", "HBM3 hopper")
    assert "h100-sxm5-80gb" in hopper
    assert "a100-sxm4-80gb" not in hopper
    assert "bert-large" in browsing.matching("models", "devlin")
    with pytest.raises(InputError) as caught:
        browsing.matching("models", "abacus")
    assert str(caught.value) == "catalogue_search='abacus': none of the models has all of this; write fewer words"


def test_an_unknown_entry_has_its_nearest_names() -> None:
    assert browsing.known_entry("models", None) is None
    assert browsing.known_entry("models", "bert-large") == "bert-large"
    with pytest.raises(InputError, match="did you mean bert-large"):
        browsing.known_entry("models", "bert-larg")


def test_what_the_scenario_uses_is_shown_first() -> None:
    choices = _OPENING.change({"system": "rtx-3090", "model": "gpt2-1.5b", "stack": "nemo"})
    names = {part: browsing.at_hand(part, choices) for part in PARTS}
    assert {part: name for part, name in names.items() if name is not None} == {
        "devices": "rtx-3090",
        "models": "gpt2-1.5b",
        "stacks": "nemo",
        "prices": next(price.id for price in catalogue.prices() if price.device == "rtx-3090"),
        "classes": "rtx-3090",
        "grids": "world",
        "overheads": "default",
    }
    assert browsing.at_hand("systems", _OPENING) == "dgx-a100-640gb"
    assert browsing.at_hand("profiles", _OPENING) == "a100-sxm"
    assert browsing.at_hand("profiles", _OPENING.change({"profile": "h100-sxm"})) == "h100-sxm"
    assert not browsing.usable("profiles", "cpu-amd-epyc"), "the catalogue has no system of this device"
    assert browsing.at_hand("devices", _OPENING.change({"system": "gaudi"})) is None


def _used(part: str, name: str, choices: Choices) -> simulator.Scenario:
    """The scenario that uses an entry, complete."""
    assert browsing.usable(part, name)
    return simulator.resolve(**arguments(choices.change(browsing.used(part, name, choices))))


_BUSY = _OPENING.change({"devices": 8, "tp": 8, "stack": "megatron-lm", "precision": "bf16", "micro_batch": 2})


@pytest.mark.parametrize("name", browsing.names("systems"))
def test_every_system_can_be_used(name: str) -> None:
    assert _used("systems", name, _BUSY).system.id == name


@pytest.mark.parametrize("name", browsing.names("devices"))
def test_every_device_can_be_used(name: str) -> None:
    assert _used("devices", name, _BUSY).system.id == catalogue.load_system(name).id


@pytest.mark.parametrize("name", browsing.names("models"))
def test_every_model_can_be_used(name: str) -> None:
    scenario = _used("models", name, _BUSY.change({"sequence_length": 100_000, "stack": None}))
    assert scenario.model.id == name
    assert scenario.workload.sequence_length != 100_000


def test_a_system_has_as_many_devices_as_the_batch_can_use() -> None:
    assert browsing.used("systems", "dgx-h100", _BUSY)["devices"] is None
    assert browsing.used("systems", "palm-2pod", _OPENING)["devices"] == 256


def test_a_stack_without_any_device_is_not_used() -> None:
    unusable = {name for name in browsing.names("stacks") if not browsing.usable("stacks", name)}
    assert unusable == {name for name in browsing.names("stacks") if load_stack(name).platform == "cpu"}


@pytest.mark.parametrize("name", [name for name in browsing.names("stacks") if browsing.usable("stacks", name)])
def test_every_stack_can_be_used(name: str) -> None:
    scenario = _used("stacks", name, _BUSY)
    assert scenario.stack.id == name
    assert (scenario.system.id == _BUSY["system"]) == scenario.stack.runs_on(
        catalogue.load_system(_BUSY.text("system")).device
    )


@pytest.mark.parametrize("name", browsing.names("prices"))
def test_every_price_can_be_used(name: str) -> None:
    scenario = _used("prices", name, _BUSY)
    assert scenario.price is not None
    assert scenario.price.id == name
    assert scenario.price.device == scenario.system.device.id
    kept = scenario.system.id == _BUSY["system"]
    assert kept == (scenario.price.device == "a100-sxm4-80gb")


def test_places_can_be_used_and_figures_cannot() -> None:
    assert _used("grids", "fr", _BUSY).grid.id == "fr"
    assert _used("overheads", "google", _BUSY).overhead.id == "google"
    for part in ("classes", "links", "failures", "sites", "measurements", "reliability", "differences"):
        assert not browsing.usable(part, browsing.names(part)[0])


@pytest.mark.parametrize("name", [name for name in browsing.names("profiles") if browsing.usable("profiles", name)])
def test_every_measured_profile_can_be_used(name: str) -> None:
    scenario = _used("profiles", name, _OPENING)
    assert scenario.constants.profile is not None
    assert scenario.constants.profile.id == name


def test_what_is_exported_is_the_entry() -> None:
    plain = yaml.safe_load(browsing.as_yaml("devices", "rtx-3090"))
    assert plain == json.loads(json.dumps(browse.data("devices", "rtx-3090")))
    program = subprocess.run(
        [sys.executable, "-c", browsing.as_python("devices", "rtx-3090")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "memory.bandwidth 936 GB/s" in program.stdout
    assert str(browse.rows("devices")[0]) in program.stdout


def test_software_is_chosen_by_the_names_that_people_type() -> None:
    assert {"torchtitan", "axolotl", "fsdp2", "maxtext"} <= set(field("stack").options)
    scenario = simulator.resolve(**arguments(_OPENING.change({"stack": "axolotl"})))
    assert scenario.stack.id == "huggingface"
    assert any("what axolotl is priced as" in line for line in scenario.assumed)
