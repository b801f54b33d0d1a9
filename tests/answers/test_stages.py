"""Memory of every stage of a pipeline, beside that of the fullest."""

from __future__ import annotations

from typing import Any

import pytest

import simulator

_PLANS: dict[str, dict[str, Any]] = {
    "none": {"pp": 1, "tp": 8},
    "two": {"pp": 2, "tp": 4},
    "1f1b": {"pp": 8, "tp": 4, "micro_batch": 1},
    "gpipe": {"pp": 8, "tp": 4, "micro_batch": 1, "schedule": "gpipe"},
    "interleaved": {"pp": 4, "tp": 8, "virtual_stages": 5, "micro_batch": 1},
    "zero-bubble": {"pp": 8, "tp": 4, "micro_batch": 1, "schedule": "zero-bubble"},
    "sharded": {"pp": 4, "tp": 2, "sharding": "zero3", "micro_batch": 1},
}


@pytest.mark.parametrize("plan", _PLANS.values(), ids=_PLANS)
def test_the_fullest_stage_is_the_estimate(plan: dict[str, Any]) -> None:
    scenario = simulator.resolve("gpt3-13b", "superpod-a100", devices=64, plan=plan)
    stages, answer = simulator.stages(scenario), simulator.answer(scenario)
    assert len(stages) == plan["pp"]
    fullest = max(stages, key=lambda stage: stage.memory_bytes["total"])
    assert fullest.memory_bytes == pytest.approx(answer.memory_bytes, rel=1e-12)
    assert answer.fits == all(stage.fits for stage in stages)


@pytest.mark.parametrize("plan", _PLANS.values(), ids=_PLANS)
def test_stages_share_the_layers_and_parts_add_up(plan: dict[str, Any]) -> None:
    scenario = simulator.resolve("gpt3-13b", "superpod-a100", devices=64, plan=plan)
    stages = simulator.stages(scenario)
    assert sum(stage.layers for stage in stages) == pytest.approx(scenario.model.all_layers)
    for number, stage in enumerate(stages):
        assert stage.index == number
        parts = {name: size for name, size in stage.memory_bytes.items() if name not in ("total", "capacity")}
        assert sum(parts.values()) == pytest.approx(stage.memory_bytes["total"], rel=1e-12)


def test_earlier_stages_keep_more_micro_batches() -> None:
    scenario = simulator.resolve("gpt3-13b", "superpod-a100", devices=64, plan=_PLANS["1f1b"])
    kept = [stage.memory_bytes["activations"] for stage in simulator.stages(scenario)]
    assert kept[1:-1] == sorted(kept[1:-1], reverse=True)
    assert kept[1] > 2 * kept[-2]


def test_plain_values_are_plain() -> None:
    (stage,) = simulator.stages(simulator.resolve("bert-base", "rtx-3090"))
    assert stage.to_dict()["fits"] is True
    assert stage.to_dict()["layers"] == 12.0
