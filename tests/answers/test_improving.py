"""Single changes that help: priced as the estimate prices them, and in the right order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import simulator
from simulator.specs.loading import load_stack

_CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "encoder": ("bert-large", "dgx-a100-640gb", {}),
    "one device": ("bert-large", "rtx-3090", {}),
    "pipeline": ("gpt3-175b", "superpod-a100", {"devices": 1024}),
    "too large": ("palm-62b", "dgx-a100-640gb", {}),
    "hopeless": ("gpt3-175b", "rtx-3090", {}),
    "experts": ("mixtral-8x7b", "superpod-h100", {"devices": 64}),
    "slow": ("llama-2-7b", "dgx-h100", {"plan": {"recompute": "full", "tp": 8, "pp": 1}, "stack": "megatron-lm"}),
    "tpu": ("palm-8b", "tpu-v4-pod", {"devices": 64, "plan": {"tp": 4}}),
}


@pytest.fixture(params=_CASES)
def scenario(request: pytest.FixtureRequest) -> simulator.Scenario:
    model, system, others = _CASES[request.param]
    return simulator.resolve(model, system, **others)


def test_each_is_what_the_estimate_says_of_it(scenario: simulator.Scenario) -> None:
    now = simulator.answer(scenario)
    for improvement in simulator.improvements(scenario):
        changed = replace(scenario, plan=improvement.plan, stack=load_stack(improvement.stack))
        answer = simulator.answer(changed)
        assert answer.step_time_s == pytest.approx(improvement.step_time_s, rel=1e-12)
        assert answer.memory_bytes["total"] == pytest.approx(improvement.memory_bytes, rel=1e-12)
        assert answer.fits_as_wished == improvement.fits
        assert improvement.time_ratio == pytest.approx(answer.step_time_s / now.step_time_s)


def test_each_helps_and_the_best_comes_first(scenario: simulator.Scenario) -> None:
    now = simulator.answer(scenario)
    improvements = simulator.improvements(scenario)
    assert len({frozenset(each.changes) for each in improvements}) == len(improvements)
    if now.fits_as_wished:
        assert all(each.fits and each.time_ratio < 1.0 for each in improvements)
        assert [each.time_ratio for each in improvements] == sorted(each.time_ratio for each in improvements)
    else:
        assert [each.fits for each in improvements] == sorted((each.fits for each in improvements), reverse=True)
        assert all(each.fits or each.memory_bytes < now.memory_bytes["total"] for each in improvements)


def test_little_is_changed(scenario: simulator.Scenario) -> None:
    """One thing, and two only where the plan does not fit."""
    most = 1 if simulator.answer(scenario).fits_as_wished else 2
    for improvement in simulator.improvements(scenario):
        assert 1 <= len(improvement.changes) <= most
        if improvement.field == "stack":
            assert improvement.stack == improvement.value != scenario.stack.id == improvement.before
        else:
            assert getattr(improvement.plan, improvement.field) == improvement.value != improvement.before
            assert getattr(scenario.plan, improvement.field) == improvement.before
            assert improvement.stack == scenario.stack.id


def test_what_obviously_helps_is_found() -> None:
    slow = simulator.resolve("bert-large", "dgx-a100-640gb", plan={"recompute": "full", "micro_batch": 4})
    assert {"recompute": "none"} in [dict(each.changes) for each in simulator.improvements(slow)]
    full = simulator.resolve("palm-62b", "dgx-a100-640gb", plan={"offload_optimizer": False})
    assert not simulator.answer(full).fits
    assert simulator.improvements(full)[0].fits


def test_so_many_are_listed() -> None:
    scenario = simulator.resolve("gpt3-175b", "superpod-a100", devices=1024)
    assert len(simulator.improvements(scenario, top=2)) == 2
    plain = simulator.improvements(scenario, top=1)[0].to_dict()
    assert plain["plan"]["placement"] == ["tp", "cp", "dp", "pp"]


def test_warning_and_improvements_agree_on_what_makes_a_plan_fit() -> None:
    """The fastest that fits: not the smallest micro-batch where a larger one fits too."""
    scenario = simulator.resolve(
        "bert-large",
        "dgx-1-v100",
        stack="pytorch-ddp",
        plan={"micro_batch": 32, "recompute": "none", "tp": 1, "pp": 1},
        workload={"sequence_length": 512, "global_batch": 256},
    )
    answer = simulator.answer(scenario)
    assert not answer.fits
    best = simulator.improvements(scenario)[0]
    assert best.fits
    words = " and ".join(f"{name}={value}" for name, value in best.changes.items())
    assert any(f"{words} would make it fit" in warning for warning in answer.warnings)
    for micro_batch in (1, 2, 4, 8, 16):
        other = simulator.answer(replace(scenario, plan=scenario.plan.model_copy(update={"micro_batch": micro_batch})))
        assert not other.fits or other.step_time_s >= best.step_time_s * (1 - 1e-9)
