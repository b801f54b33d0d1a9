"""Each way of recomputation, written and read again."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from hardware.errors import InputError
from simulator.launch.megatron import bridge_reading, bridge_writing, reading, writing
from simulator.launch.torchtitan import reading as torchtitan_reading
from simulator.launch.torchtitan import writing as torchtitan
from simulator.scenario.scenario import Scenario, resolve

_NAMES = ("recompute", "recompute_modules", "recompute_layers", "recompute_method")


def _scenario(stack: str, plan: dict[str, Any]) -> Scenario:
    return resolve("llama-3-8b", "dgx-h100", devices=16, stack=stack, plan={"micro_batch": 1, **plan})


def _said(plan: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plan[name] for name in _NAMES if plan.get(name) is not None}


@pytest.mark.parametrize(
    "plan",
    [
        {"recompute": "none"},
        {"recompute": "selective"},
        {"recompute": "full"},
        {"recompute": "selective", "recompute_modules": ("core_attn", "mlp", "layernorm")},
        {"recompute": "full", "recompute_layers": 3, "recompute_method": "block"},
        {"recompute": "full", "recompute_layers": 1, "recompute_method": "block"},
        {"recompute": "full", "recompute_layers": 4, "recompute_method": "uniform"},
    ],
)
def test_megatron_reads_back_what_it_writes(plan: dict[str, Any]) -> None:
    text = writing.write(_scenario("megatron-lm", plan)).text
    assert _said(reading.read(text, "run.sh").plan) == plan
    document = yaml.safe_load(bridge_writing.write(_scenario("megatron-bridge", plan)).text)
    assert _said(bridge_reading.read(document, "run.yaml").plan) == plan


def test_modules_that_discard_do_without_delayed_scaling() -> None:
    plan = {"recompute_modules": ("layernorm",), "precision": "fp8"}
    assert "--fp8-recipe tensorwise" in writing.write(_scenario("megatron-lm", plan)).text
    assert "fp8_recipe: tensorwise" in bridge_writing.write(_scenario("megatron-bridge", plan)).text
    assert "--fp8-recipe delayed" in writing.write(_scenario("megatron-lm", {"precision": "fp8"})).text


@pytest.mark.parametrize(
    ("plan", "option"),
    [
        ({"recompute": "none"}, 'mode = "none"'),
        ({"recompute": "full"}, 'mode = "full"'),
        ({"recompute": "operators"}, 'selective_ac_option = "op"'),
        ({"recompute": "full", "recompute_layers": 2, "recompute_method": "every"}, 'selective_ac_option = "2"'),
    ],
)
def test_torchtitan_reads_back_what_it_writes(plan: dict[str, Any], option: str) -> None:
    text = torchtitan.write(_scenario("pytorch-fsdp-compiled", plan)).text
    assert option in text
    assert _said(torchtitan_reading.read(tomllib.loads(text), "run.toml", 16).plan) == plan


@pytest.mark.parametrize(
    ("section", "plan"),
    [
        ({}, {"recompute": "full", "recompute_layers": 2, "recompute_method": "every"}),
        ({"selective_ac_option": "1"}, {"recompute": "full"}),
        ({"mode": "selective", "selective_ac_option": "op"}, {"recompute": "operators"}),
        ({"mode": "full", "selective_ac_option": "2"}, {"recompute": "full"}),
    ],
)
def test_what_torchtitan_does_unless_told(section: dict[str, str], plan: dict[str, Any]) -> None:
    document = tomllib.loads(torchtitan.write(_scenario("pytorch-fsdp-compiled", {"recompute": "none"})).text)
    launched = torchtitan_reading.read({**document, "activation_checkpoint": section}, "run.toml", 16)
    assert _said(launched.plan) == plan


def test_an_unknown_option_of_torchtitan_is_refused() -> None:
    document = tomllib.loads(torchtitan.write(_scenario("pytorch-fsdp-compiled", {"recompute": "none"})).text)
    with pytest.raises(InputError, match="is neither op nor every how many layers"):
        torchtitan_reading.read({**document, "activation_checkpoint": {"selective_ac_option": "most"}}, "run.toml", 16)
