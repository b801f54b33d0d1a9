"""One plan is a batch of one: scenarios priced together get what each gets alone."""

from __future__ import annotations

import numpy as np
import pytest

import simulator
from simulator.pricing.analytic import AnalyticBackend
from simulator.specs.plan import Plan
from simulator.specs.plans import Plans
from simulator.step.evaluation import evaluate
from simulator.work.counts import counts_of
from simulator.work.transformer import Scenarios
from tests.stacks import unrestricted

_PLANS: list[dict[str, object]] = [
    {"dp": 16, "micro_batch": 2},
    {"dp": 4, "tp": 4, "micro_batch": 4, "sequence_parallel": True},
    {"dp": 2, "tp": 2, "pp": 4, "micro_batch": 1, "recompute": "full"},
    {"dp": 4, "pp": 4, "virtual_stages": 2, "micro_batch": 2, "recompute": "selective"},
    {"dp": 16, "micro_batch": 1, "sharding": "zero3"},
    {"dp": 16, "micro_batch": 4, "sharding": "hybrid", "sharding_group": 8, "optimizer": "adafactor"},
    {"dp": 8, "cp": 2, "micro_batch": 2, "sharding": "zero1", "offload_optimizer": True},
    {"dp": 4, "tp": 2, "pp": 2, "micro_batch": 2, "schedule": "gpipe", "placement": "pp-dp-tp-cp"},
]


def _scenario(plan: dict[str, object]) -> simulator.Scenario:
    return simulator.resolve(
        {"base": "bert-large", "dropout": True},
        "dgx-a100-640gb",
        devices=16,
        stack=unrestricted("megatron-lm"),
        plan={"precision": "bf16", **plan},
        workload={"sequence_length": 512, "global_batch": 256},
    )


def _backend(case: simulator.Scenario) -> AnalyticBackend:
    backend = case.backend()
    assert isinstance(backend, AnalyticBackend)
    return backend


def test_plans_together_equal_each_alone() -> None:
    scenarios = [_scenario(plan) for plan in _PLANS]
    first = scenarios[0]
    plans = Plans.stack([scenario.plan.columns(scenario.workload) for scenario in scenarios])
    shared = first.columns()
    together = Scenarios(shared.models, shared.workloads, plans, shared.stacks)
    evaluation = evaluate(together, first.backend())
    whole = counts_of(evaluation.program)
    for row, scenario in enumerate(scenarios):
        alone = simulator.answer(scenario)
        assert float(np.asarray(evaluation.step.time)[row]) == pytest.approx(alone.step_time_s, rel=1e-12)
        assert float(np.asarray(evaluation.memory.total)[row]) == pytest.approx(alone.memory_bytes["total"], rel=1e-12)
        assert float(np.broadcast_to(whole.executed_flops, len(_PLANS))[row]) == alone.executed_flops_per_step


def test_models_workloads_stacks_and_devices_can_be_columns_too() -> None:
    cases = [
        simulator.resolve("bert-large", "dgx-1-v100", stack="nvidia-bert", workload={"sequence_length": 128}),
        simulator.resolve("bert-large", "dgx-a100-640gb", stack="mlperf-nvidia", workload={"effective_tokens": 254}),
        simulator.resolve(
            {"base": "llama-2-7b", "layers": 4, "hidden_size": 2048, "attention_heads": 16, "feed_forward_size": 8192},
            "dgx-h100",
            stack=unrestricted("megatron-lm"),
            plan={"tp": 2, "pp": 2, "precision": "fp8"},
        ),
    ]
    scenarios = Scenarios.stack([case.columns() for case in cases])
    backend = AnalyticBackend.stack([_backend(case) for case in cases])
    evaluation = evaluate(scenarios, backend)
    for row, case in enumerate(cases):
        alone = simulator.answer(case)
        assert float(np.asarray(evaluation.step.time)[row]) == pytest.approx(alone.step_time_s, rel=1e-12)
        assert float(np.asarray(evaluation.memory.total)[row]) == pytest.approx(alone.memory_bytes["total"], rel=1e-12)


def test_models_of_different_structure_are_not_stacked() -> None:
    """Runs of different structure are priced together all the same, in groups: tests/evidence."""
    dense, experts = (
        simulator.resolve(model, "dgx-h100", stack=unrestricted("megatron-lm"), workload={"global_batch": 64}).columns()
        for model in ({"base": "llama-2-7b", "layers": 4}, {"base": "mixtral-8x7b", "layers": 4})
    )
    assert dense.structure != experts.structure
    with pytest.raises(ValueError, match="different structure"):
        Scenarios.stack([dense, experts])


def test_open_grids_broadcast() -> None:
    scenario = _scenario({"dp": 16, "micro_batch": 1})
    columns = scenario.columns()
    grid = {"tp": np.array([[1.0], [2.0], [4.0]]), "micro_batch": np.array([[1.0, 2.0, 4.0, 8.0]])}
    plans = Plans(**{**vars(columns.plans), **grid})
    evaluation = evaluate(Scenarios(columns.models, columns.workloads, plans, columns.stacks), scenario.backend())
    assert np.shape(evaluation.step.time) == (3, 4)
    assert np.all(np.isfinite(evaluation.step.time))


def test_a_plan_needs_every_field_to_become_columns() -> None:
    assert Plan(dp=2).with_degrees(2).columns(simulator.Workload(global_batch=8)).dp == 2.0
