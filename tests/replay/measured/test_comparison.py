"""Predicted and measured time of a step by kind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import simulator
from hardware.catalogue import load_class
from simulator.replay.measured.comparison import compare_step, exchanges_of_stage, kinds_of
from simulator.replay.measured.kinds import names
from simulator.replay.measured.steps import MeasuredStep, measured_step
from simulator.replay.measured.touched import touched
from simulator.replay.sums import sums_of
from simulator.replay.timeline import Timeline, timeline
from simulator.scenario.scenario import Scenario
from tests.replay.measured.made_up import event, mark, operator, write

SCENARIOS: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "replicas": ("bert-large", "dgx-a100-640gb", {}, 8),
    "shards": ("llama-2-7b", "dgx-h100", {"sharding": "zero3", "micro_batch": 1}, 8),
    "pipeline": ("gpt2-1.5b", "dgx-a100-640gb", {"pp": 4, "micro_batch": 1, "schedule": "1f1b"}, 8),
    "tensor parallel": ("gpt3-175b", "superpod-a100", {"tp": 8, "pp": 8, "recompute": "full"}, 64),
    "one device": ("bert-base", "rtx-3090", {"attention": "unfused"}, 1),
}


def scenario(name: str) -> Scenario:
    model, system, plan, devices = SCENARIOS[name]
    return simulator.resolve(model, system, devices=devices, plan=plan)


@pytest.fixture(scope="module", params=SCENARIOS)
def replayed(request: pytest.FixtureRequest) -> Timeline:
    return timeline(scenario(request.param))


def test_kinds_of_every_stage_add_up_to_the_step(replayed: Timeline) -> None:
    for stage in replayed.stages:
        kinds = kinds_of(replayed, stage)
        assert set(kinds) <= set(names().kinds)
        assert sum(kind.seconds for kind in kinds.values()) == pytest.approx(replayed.step_time, rel=1e-9)


def test_kinds_agree_with_the_parts_of_the_step(replayed: Timeline) -> None:
    """Where a part of the step is one kind, both say the same."""
    stage = replayed.stages[0]
    kinds, parts = kinds_of(replayed, stage), sums_of(replayed, stage).parts
    for part, kind in {"optimizer": "optimizer", "gradient_accumulation": "gradient_sums"}.items():
        seconds = kinds[kind].seconds if kind in kinds else 0.0
        assert seconds == pytest.approx(parts.get(part, 0.0), rel=1e-9), part


def test_fused_attention_is_apart_from_products() -> None:
    """Unfused attention is products and softmax; fused attention is neither."""
    one = scenario("one device")
    unfused = timeline(one)
    fused = timeline(replace(one, plan=one.plan.model_copy(update={"attention": "fused"})))
    before, after = (kinds_of(each, each.stages[0]) for each in (unfused, fused))
    assert "attention" not in before
    assert after["attention"].seconds > 0.0
    assert after["matrix_products"].seconds < before["matrix_products"].seconds
    assert after["softmax"].seconds < before["softmax"].seconds


def test_predicted_exchanges_are_whole_messages() -> None:
    """BERT-large: one all-reduce of all gradients among 8 replicas; what hides is busy, and not of the step."""
    step = timeline(scenario("replicas"))
    (exchange,) = exchanges_of_stage(step.stages[0])
    assert (exchange.kind, exchange.ranks) == ("all_reduce", 8.0)
    assert exchange.calls == pytest.approx(1.0)
    assert exchange.message_bytes == pytest.approx(4 * 336_226_108, rel=1e-9)
    reduced = kinds_of(step, step.stages[0])["all_reduce"]
    assert reduced.busy == pytest.approx(exchange.seconds)
    assert reduced.seconds < reduced.busy


def test_gathers_of_shards_come_once_a_layer_and_pass() -> None:
    step = timeline(scenario("shards"))
    gathers = [each for each in exchanges_of_stage(step.stages[0]) if each.kind == "all_gather"]
    micro_batches = step.pipeline.orders[0].kinds.size / 2
    layer = max(gathers, key=lambda each: each.seconds)
    assert layer.calls == pytest.approx(2 * 32 * micro_batches)


@pytest.fixture
def measured(tmp_path: Path) -> MeasuredStep:
    """One second: 600 ms of products, 100 of the optimizer, 50 of an all-reduce beside them, 40 of nobody."""
    path = write(
        tmp_path / "step.json",
        mark(1, 0.0, 1e6),
        operator("aten::mm", 0.0, 600e3),
        event("user_annotation", "gloo:all_reduce", 580e3, 50e3, 9),
        event("user_annotation", "Optimizer.step#AdamW.step", 700e3, 100e3),
        operator("mine::own", 800e3, 40e3),
        capsim={
            "model": "bert-large",
            "sequence_length": 512,
            "micro_batch": "?",
        },
    )
    return measured_step(path)


def test_the_largest_differences_come_first(measured: MeasuredStep) -> None:
    step = timeline(scenario("replicas"))
    comparison = compare_step(step, measured)
    differences = [abs(row.difference) for row in comparison.rows]
    assert differences == sorted(differences, reverse=True)
    assert sum(row.difference for row in comparison.rows) == pytest.approx(step.step_time - 1.0)
    rows = {row.kind.name: row for row in comparison.rows}
    assert rows["matrix_products"].measured.seconds == pytest.approx(0.6)
    assert rows["matrix_products"].ratio == pytest.approx(rows["matrix_products"].predicted.seconds / 0.6)
    assert rows["attention"].ratio is None
    assert (rows["all_reduce"].measured.busy, rows["all_reduce"].measured.seconds) == pytest.approx((0.05, 0.03))
    assert rows["others"].predicted.seconds == 0.0
    assert comparison.ratio == pytest.approx(step.step_time)


def test_what_a_trace_says_of_itself_is_held_against_the_scenario(measured: MeasuredStep) -> None:
    step = timeline(scenario("replicas"))
    notes = compare_step(step, measured).notes
    length = step.scenario.workload.sequence_length
    assert any("recorded with" in note and "micro_batch=?" in note for note in notes)
    assert any("sequence_length=512" in note for note in notes) == (length != 512)
    assert not any("model=" in note for note in notes)


def test_what_other_programs_took_is_left_out(measured: MeasuredStep) -> None:
    """Of a second by the clock 800 ms were the step's: every kind has four fifths of its time, and keeps its share."""
    step = timeline(scenario("replicas"))
    alone, disturbed = (
        compare_step(step, replace(measured, recorded={"processor_s": [seconds]})) for seconds in (0.99, 0.8)
    )
    assert (alone.measured.duration, alone.clock) == pytest.approx((1.0, 1.0))
    assert (disturbed.measured.duration, disturbed.clock) == pytest.approx((0.8, 1.0))
    before, after = ({row.kind.name: row.measured for row in each.rows} for each in (alone, disturbed))
    assert after["matrix_products"].seconds == pytest.approx(0.48)
    assert sum(kind.seconds for kind in after.values()) == pytest.approx(0.8)
    assert after["all_reduce"].busy / before["all_reduce"].busy == pytest.approx(0.8)
    assert any("1.00 s by the clock and 800 ms of its processor" in note for note in disturbed.notes)
    assert not any("by the clock" in note for note in alone.notes)
    for nonsense in ([], ["?"], "?", [0.0]):
        assert compare_step(step, replace(measured, recorded={"processor_s": nonsense})).clock == pytest.approx(1.0)


def test_as_plain_values(measured: MeasuredStep) -> None:
    comparison = compare_step(timeline(scenario("replicas")), measured)
    told = json.loads(json.dumps(comparison.to_dict()))
    assert told["measured_s"] == pytest.approx(1.0)
    assert sum(kind["measured_share"] for kind in told["kinds"]) == pytest.approx(1.0)
    assert sum(kind["predicted_share"] for kind in told["kinds"]) == pytest.approx(1.0)
    assert told["not_named_s"] == {"mine::own": pytest.approx(0.04)}
    assert told["exchanges"]["measured"][0]["kind"] == "all_reduce"
    products = next(kind for kind in told["kinds"] if kind["kind"] == "matrix_products")
    assert {"level", "of", "name", "value"} == set(products["constants"][0])


def test_another_stage_of_a_pipeline(measured: MeasuredStep) -> None:
    step = timeline(scenario("pipeline"))
    last = compare_step(step, measured, stage=3)
    assert last.stage == 3
    head = {row.kind.name: row for row in last.rows}["matrix_products"].predicted.seconds
    assert head == pytest.approx(kinds_of(step, step.stages[3])["matrix_products"].seconds)


def test_constants_are_those_of_the_scenario() -> None:
    """Class, links and stack by their sheets; of what was fitted the shifts of its device, class and stack."""
    one = scenario("replicas")
    kinds = names().kinds
    products = {(each.level, each.name, each.of): each.value for each in touched(kinds["matrix_products"], one)}
    assert (
        products["device class", "gemm.bf16.efficiency", "a100-sxm"] == load_class("a100-sxm").gemm["bf16"].efficiency
    )
    shifts = one.constants.shifts["products"]
    assert products["fitted", "products", "all"] == shifts["all"]["all"]
    assert products["fitted", "products", "device a100-sxm4-80gb"] == shifts["device"]["a100-sxm4-80gb"]
    reductions = touched(kinds["all_reduce"], one)
    assert {each.of for each in reductions if each.level == "link"} == {"nvlink3"}
    assert ("stack", "overlap.gradients") in {(each.level, each.name) for each in reductions}
    assert "outer_links" not in {each.name for each in reductions}
    assert not touched(kinds["others"], one)


def test_constants_of_a_measured_profile_stand_in_their_place() -> None:
    one = simulator.resolve("bert-base", profile="cpu-amd-epyc", devices=1)
    profile = one.constants.profile
    assert profile is not None
    kinds = names().kinds
    (efficiency,) = (each for each in touched(kinds["matrix_products"], one) if each.name == "gemm.fp32.efficiency")
    assert (efficiency.level, efficiency.of) == ("profile", "cpu-amd-epyc")
    assert efficiency.value == profile.constants.gemm["fp32"].efficiency
    normalisation = {each.name: each for each in touched(kinds["normalisation"], one)}
    assert "streams.normalisation.forward" in normalisation
    assert "memory.normalisation_efficiency" not in normalisation
    assert not any(each.level == "fitted" for each in touched(kinds["matrix_products"], one))
