"""Constants in words: those that were measured, each beside the catalogue's, and why others were borrowed."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import simulator
from hardware import units
from hardware.catalogue import load_class, names
from simulator.cli import app
from simulator.pricing.measured import device_of
from simulator.profiling.constants import constants_of, in_words
from tests.profiling.conftest import Calibrated


def test_constants_are_those_of_the_profile(on_graphics: Calibrated) -> None:
    profile, known = on_graphics.profile, load_class("rtx-3090")
    told = {each.place: each for each in constants_of(profile)}
    efficiency = told["gemm.bf16.efficiency"]
    assert efficiency.value == units.percent(profile.constants.gemm["bf16"].efficiency)
    assert efficiency.before == units.percent(known.gemm["bf16"].efficiency)
    assert efficiency.fitted
    assert told["memory.launch"].value == units.duration(profile.constants.memory.launch)
    assert told["gemm.bf16.weight_gradient"].before == units.percent(known.weight_gradient_efficiency)
    assert told["stacks.pytorch-eager.step_overhead"].value == units.duration(
        profile.stacks["pytorch-eager"].step_overhead
    )
    assert told["links.all_to_all.4.rate"].value == f"{profile.links['all_to_all'][4].rate / 1e9:.1f} GB/s"
    assert "gemm.fp32.efficiency" not in told, "a fit that is not taken has no constants"


def test_what_is_borrowed_says_why(calibrated: Calibrated) -> None:
    for told in constants_of(calibrated.profile):
        if told.place in calibrated.profile.borrowed:
            assert told.borrowed == calibrated.profile.borrowed[told.place]
            assert not told.fitted
    assert any(told.fitted for told in constants_of(calibrated.profile))


@pytest.mark.parametrize("name", names("profiles"))
def test_every_profile_that_is_shipped_is_told(name: str) -> None:
    profile = simulator.load_profile(name)
    told = simulator.profile_constants(name)
    assert len({each.place for each in told}) == len(told)
    assert all(each.value and each.of and each.what for each in told)
    assert {each.of.rpartition(", ")[2] for each in told if each.place.startswith("gemm")} == set(profile.fitted)
    for place in profile.borrowed:
        words = in_words(place)
        assert "_" not in words
        assert words


@pytest.mark.parametrize("command", ["estimate", "search", "scale", "whatif"])
def test_a_profile_is_enough_to_name_the_device(command: str, on_graphics: Calibrated) -> None:
    """As docs/calibration.md says: a plain host of that device."""
    file = on_graphics.file.with_name("mine.yaml")
    file.write_text(simulator.profile_text(on_graphics.profile))
    words = [command, "bert-base", "--profile", str(file), *(["--tornado"] if command == "whatif" else [])]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert device_of(on_graphics.profile).id in result.output
    bare = CliRunner().invoke(app, [*words[:2], *words[4:]])
    assert bare.exit_code != 0
