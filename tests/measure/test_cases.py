"""Which cases a run has, in which order, and how long they are expected to take."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hardware.errors import InputError
from measure.clock.cases import PROBES, CaseScope, plan_of, scope_of
from measure.clock.timer import Effort
from measure.device.naming import catalogued, models_of
from measure.runs.forecast import Forecast
from simulator.profiling.listing import Size, cases_of
from simulator.profiling.records.amounts import amounts
from simulator.profiling.records.record import Case
from simulator.specs.loading import load_model
from simulator.specs.model import Model
from simulator.work.program import program_of
from tests.against_torch.cases import EVERY, name_of, scenarios_of, setting_of
from tests.measure.fakes import FakeMachine

BERT, PALM = load_model("bert-large"), load_model("palm-8b")
GPU = scope_of("cuda", cache_bytes=50 * 2**20)
SCOPES = [GPU, scope_of("cpu"), scope_of("cpu", tiny=True), scope_of("cuda", tiny=True)]


@pytest.mark.parametrize("scope", SCOPES)
def test_probes_come_first(scope: CaseScope) -> None:
    cases = plan_of(scope, [BERT, PALM]).cases
    tiers = [tier for tier, _ in cases]
    assert tiers[:4] == ["first"] * 4
    assert tiers[4:17] == ["probe"] * 13
    probes = [case for tier, case in cases if tier == "probe"]
    assert len({case.key for case in probes}) == 13
    assert [case.sustained for case in probes] == [False] * 12 + [True]
    order = [tier for index, tier in enumerate(tiers) if index == 0 or tiers[index - 1] != tier]
    assert order[:5] == ["first", "probe", "whole", "model", "step"]


@pytest.mark.parametrize("scope", SCOPES)
def test_one_whole_step_follows_the_probes(scope: CaseScope) -> None:
    cases = plan_of(scope, [PALM, BERT]).cases
    (whole,) = [case for tier, case in cases if tier == "whole"]
    assert (whole.phase, whole.variant.partition("/")[0].removesuffix("-tiny")) == ("step", BERT.id)
    assert whole.dimensions["layers"] == 2
    assert [case.key for _, case in cases].count(whole.key) == 1


@pytest.mark.parametrize("budget_s", [60.0, 120.0])
def test_a_short_budget_on_a_processor_holds_a_whole_step(budget_s: float) -> None:
    """At the rates that are expected before anything was timed, and half as fast."""
    scope, machine = scope_of("cpu"), FakeMachine(flops=2e10, free=64e9)
    machine.kind = "cpu"
    forecast = Forecast(machine, Effort.within(budget_s), {each.id: each for each in (BERT, PALM)}, None)
    before = 0.0
    for tier, case in plan_of(scope, [BERT, PALM]).cases:
        if tier == "whole":
            assert forecast.cost(case) < 0.4 * budget_s
            assert before + forecast.cost(case) < budget_s
            break
        before += forecast.cost(case)


@pytest.mark.parametrize("scope", SCOPES)
def test_every_phase_is_planned_and_no_case_twice(scope: CaseScope) -> None:
    cases = [case for _, case in plan_of(scope, [BERT, PALM]).cases]
    assert len({case.key for case in cases}) == len(cases)
    phases = Counter(case.phase for case in cases)
    assert {"launch", "copy", "gemm", "attention", "pointwise", "normalisation", "optimizer", "step"} <= set(phases)
    assert ("host_copy" in phases) == scope.graphics
    assert [case.key for case in cases] == [case.key for _, case in plan_of(scope, [BERT, PALM]).cases]


def test_a_minute_has_room_for_all_probes() -> None:
    """On any GPU of the catalogue, down to the slowest."""
    for known, peak in (("h100-sxm5-80gb", 989e12), ("rtx-3090", 71e12), ("t4", 65e12), (None, None)):
        machine = FakeMachine(flops=peak, free=14e9)
        machine.cache_bytes = 50 * 2**20
        forecast = Forecast(machine, Effort.within(60.0), {}, known)
        first = [case for tier, case in plan_of(GPU, [BERT]).cases if tier in ("first", "probe")]
        assert sum(forecast.cost(case) for case in first) < 30.0


def test_the_shapes_of_the_named_models_are_those_that_they_run() -> None:
    cases = cases_of(BERT, Size(512, 8), "bf16", "flash")
    products = {(case.operation, *case.dimensions.values()) for case in cases if case.phase == "gemm"}
    tokens = 4096
    assert ("linear", tokens, 4096, 1024) in products
    assert ("input_gradient", tokens, 1024, 4096) in products
    assert ("weight_gradient", 1024, 4096, tokens) in products
    assert ("batched", 512, 512, 64, 128) in products  # scores of unfused attention
    attention = [case for case in cases if case.phase == "attention"]
    assert [case.operation for case in attention] == ["forward", "backward"]
    assert attention[0].dimensions["heads"] == 16
    names = {case.operation for case in cases}
    assert {"layer_norm", "gelu", "dropout", "softmax", "cross_entropy", "embedding"} <= names
    grouped = [case for case in cases_of(PALM, Size(2048, 1), "bf16", "flash") if case.phase == "attention"]
    assert grouped[0].dimensions["kv_heads"] == 1
    assert grouped[0].dimensions["causal"] == 1


@pytest.mark.parametrize("model", EVERY, ids=name_of)
def test_listed_products_have_the_arithmetic_of_the_model(model: Model) -> None:
    """Every product of the forward pass is among the cases: their arithmetic is that of the simulator's operators."""
    cases = cases_of(model, Size(64, 2), "bf16", "flash")
    assert all(amounts(case).bytes > 0 for case in cases)
    setting = setting_of(model)
    groups = program_of(scenarios_of(model, setting, micro_batch=2)).groups
    whole = max(float(np.asarray(group.model_flops)) for group in groups)
    assert max(amounts(case).flops for case in cases) <= whole


def test_tensor_parallel_ranks_have_their_share() -> None:
    whole = {case.dimensions["n"] for case in cases_of(PALM, Size(2048, 1), "bf16", "flash") if case.phase == "gemm"}
    shares = {
        case.dimensions["n"] for case in cases_of(PALM, Size(2048, 1, 8), "bf16", "flash") if case.phase == "gemm"
    }
    assert 32768 in whole
    assert 4096 in shares


def test_forecasts_learn() -> None:
    forecast = Forecast(FakeMachine(), Effort(), {}, None)
    case = Case(phase="gemm", operation="linear", dimensions={"m": 512, "n": 512, "k": 512}, dtype="bf16")
    before = forecast.cost(case)
    for _ in range(30):
        forecast.learn(case, 5.0 * before)
    assert forecast.cost(case) == pytest.approx(5.0 * before, rel=0.05)
    forecast.learn(case, 0.0)  # a clock that stands still is no reason to fail


def test_probes_span_four_decades() -> None:
    work = [2.0 * m * n * k for m, n, k in PROBES]
    assert len(PROBES) == 12
    assert max(work) / min(work) > 1e4


@pytest.mark.parametrize(
    ("name", "memory", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 85.0e9, "h100-sxm5-80gb"),
        ("NVIDIA H100 PCIe", 85.0e9, "h100-pcie-80gb"),
        ("NVIDIA A100-SXM4-40GB", 42.3e9, "a100-sxm4-40gb"),
        ("NVIDIA A100 80GB PCIe", 85.0e9, "a100-pcie-80gb"),
        ("Tesla V100-SXM2-16GB", 16.9e9, "v100-sxm2-16gb"),
        ("NVIDIA GeForce RTX 3090", 25.3e9, "rtx-3090"),
        ("NVIDIA GeForce RTX 3090 Ti", 25.3e9, "rtx-3090-ti"),
        ("NVIDIA RTX A6000", 51.0e9, "rtx-a6000"),
        ("NVIDIA RTX 6000 Ada Generation", 51.0e9, "rtx-6000-ada"),
        ("NVIDIA TITAN RTX", 25.4e9, "titan-rtx"),
        ("Tesla T4", 15.8e9, "t4"),
        ("NVIDIA L4", 24.0e9, "l4"),
        ("AMD Instinct MI300X", 206.0e9, "mi300x"),
        ("NVIDIA H20", 100.0e9, None),
        ("NVIDIA GeForce RTX 3090", 12.0e9, None),
        ("", 1e9, None),
    ],
)
def test_names_of_drivers(name: str, memory: float, expected: str | None) -> None:
    assert catalogued(name, memory) == expected


def test_models_are_named_or_refused() -> None:
    assert [model.id for model in models_of(" bert-large, palm-8b,bert-large")] == ["bert-large", "palm-8b"]
    with pytest.raises(InputError, match="did you mean bert-large"):
        models_of("bert-larg")
    with pytest.raises(InputError, match="--models names 0 models"):
        models_of(",")
