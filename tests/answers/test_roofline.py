"""Operators under the roofline: they add up to the step, and none is faster than the data sheet allows."""

from __future__ import annotations

from typing import Any

import pytest

import simulator

_CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "encoder": ("bert-large", "dgx-a100-640gb", {}),
    "decoder": ("llama-2-7b", "dgx-h100", {"stack": "pytorch-fsdp", "plan": {"recompute": "full", "micro_batch": 1}}),
    "selective": ("gpt3-13b", "dgx-a100-640gb", {"plan": {"recompute": "selective", "tp": 8, "micro_batch": 1}}),
    "both": ("t5-large", "dgx-a100-640gb", {}),
    "experts": ("mixtral-8x7b", "superpod-h100", {"devices": 64}),
    "tpu": ("palm-8b", "tpu-v4-pod", {"devices": 64}),
}


@pytest.fixture(params=_CASES)
def scenario(request: pytest.FixtureRequest) -> simulator.Scenario:
    model, system, others = _CASES[request.param]
    return simulator.resolve(model, system, **others)


def test_nothing_beats_the_data_sheet(scenario: simulator.Scenario) -> None:
    roofline = simulator.roofline(scenario)
    assert len(roofline.work) > 10
    for work in roofline.work:
        assert 0.0 < work.reached <= 1.0, work
        assert work.rate <= roofline.peak
        assert work.bound == ("compute" if work.intensity > roofline.ridge else "memory")
        computed, moved = work.flops / roofline.peak, work.moved_bytes / roofline.bandwidth
        if scenario.model.decoder_layers is None:
            assert work.shortest_s == pytest.approx(max(computed, moved), rel=1e-9)
        else:  # what waits for arithmetic in one tower may wait for memory in the other
            assert max(computed, moved) <= work.shortest_s * (1.0 + 1e-9) <= (computed + moved) * (1.0 + 2e-9)


def test_the_longest_comes_first(scenario: simulator.Scenario) -> None:
    times = [work.time_s for work in simulator.roofline(scenario).work]
    assert times == sorted(times, reverse=True)


def test_times_are_those_of_the_step() -> None:
    """Without a pipeline every stage is the slowest, so that the parts of the step are sums of operators."""
    scenario = simulator.resolve("bert-large", "dgx-a100-640gb", plan={"recompute": "full", "micro_batch": 16})
    parts = simulator.answer(scenario).breakdown_s
    work = simulator.roofline(scenario).work
    for part in ("attention_projections", "attention", "feed_forward", "normalisation", "elementwise", "head"):
        together = sum(each.time_s for each in work if each.part == part and each.direction != "recomputation")
        assert together == pytest.approx(parts[part], rel=1e-9), part
    again = sum(each.time_s for each in work if each.direction == "recomputation")
    assert again == pytest.approx(parts["recompute"], rel=1e-9)


def test_arithmetic_is_that_of_the_step() -> None:
    scenario = simulator.resolve("bert-large", "dgx-a100-640gb", stack="nvidia-bert", plan={"recompute": "none"})
    answer = simulator.answer(scenario)
    together = sum(work.flops for work in simulator.roofline(scenario).work)
    assert together * scenario.devices == pytest.approx(answer.executed_flops_per_step, rel=1e-9)


def test_a_causal_mask_halves_the_arithmetic_of_fused_attention() -> None:
    scenario = simulator.resolve("gpt2-355m", "dgx-a100-640gb", stack="pytorch-fsdp", plan={"recompute": "none"})
    answer = simulator.answer(scenario)
    work = simulator.roofline(scenario).work
    attention = sum(each.flops for each in work if each.part == "attention")
    whole = sum(each.flops for each in work) + attention
    assert attention > 0.0
    assert whole * scenario.devices == pytest.approx(answer.executed_flops_per_step, rel=1e-9)


def test_plain_values_are_plain() -> None:
    plain = simulator.roofline(simulator.resolve("bert-base", "rtx-3090")).to_dict()
    assert plain["ridge"] == pytest.approx(plain["peak"] / plain["bandwidth"])
    assert {"intensity", "rate", "reached", "time_s"} <= plain["work"][0].keys()
