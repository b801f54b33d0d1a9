"""Limits and symmetries of a step: of any model, on any system, under any stack and plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from simulator.pricing.analytic import NARROW, AnalyticBackend
from simulator.pricing.requests import Collective, Send
from simulator.scenario.scenario import Scenario
from simulator.specs.choices import V_SHAPED
from simulator.specs.plan import Plan
from simulator.step.evaluation import Evaluation, evaluate
from simulator.work.exchanges import each_micro_batch
from simulator.work.once import on_fullest, once_a_step
from simulator.work.program import Program
from simulator.work.tasks import Task
from tests.step.drawing import scenarios
from tests.thorough import cases
from tests.work.asking import plain

_LINKS = (
    "tensor_parallel",
    "context_parallel",
    "expert_parallel",
    "parameter_gather",
    "pipeline_transfer",
    "gradient_reduction",
)
"""Parts of a step that links take."""
_MANY = settings(
    max_examples=cases(usual=40, thorough=600),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def _evaluated(scenario: Scenario, backend: Any = None) -> Evaluation:
    return evaluate(scenario.columns(), backend or scenario.backend())


def _parts(scenario: Scenario, backend: Any = None) -> dict[str, float]:
    return {name: plain(value) for name, value in _evaluated(scenario, backend).step.parts.items()}


def _with_links(scenario: Scenario, **figures: Any) -> AnalyticBackend:
    """The backend with figures of all links changed."""
    backend = scenario.backend()
    assert isinstance(backend, AnalyticBackend)
    levels: Any = tuple(replace(level, **figures) for level in backend.wires.levels)
    return replace(backend, wires=replace(backend.wires, levels=levels))


def _changed(scenario: Scenario, **fields: Any) -> Scenario:
    """The scenario with fields of its plan changed."""
    return replace(scenario, plan=Plan(**{**dict(scenario.plan), **fields}))


def _one_replica(scenario: Scenario) -> Scenario:
    """The part of the devices and of the batch that one data-parallel rank has."""
    dp, batch = scenario.plan.dp or 1, scenario.workload.global_batch or 0
    left = replace(scenario, devices=scenario.devices // dp)
    left = replace(left, workload=scenario.workload.model_copy(update={"global_batch": batch // dp}))
    return _changed(left, dp=1, ep=1, etp=None, sharding="zero2", sharding_group=None)


def _same(one: Scenario, other: Scenario) -> None:
    """Both take as long and hold as much, part by part."""
    first, second = _evaluated(one), _evaluated(other)
    assert plain(first.step.time) == pytest.approx(plain(second.step.time), rel=1e-12)
    for name, value in vars(first.memory).items():
        assert plain(value) == pytest.approx(plain(getattr(second.memory, name)), rel=1e-12), name
    assert plain(first.program.model_flops) == pytest.approx(plain(second.program.model_flops), rel=1e-12)


def _exchanges(program: Program, least: float = 2.0) -> list[Task]:
    """All that links carry, among so many ranks at least, and that is there at all."""
    of_blocks = [task for block in program.blocks for task in block.tasks]
    tasks = [*of_blocks, *each_micro_batch(program), *once_a_step(program, on_fullest(program))]
    sent = [task for task in tasks if isinstance(task.request, Collective | Send)]
    return [task for task in sent if np.any(np.asarray(task.count) * (_degree(task) >= least) > 0.0)]


def _degree(task: Task) -> Any:
    """Ranks of an exchange."""
    assert isinstance(task.request, Collective | Send)
    return np.asarray(task.request.degree)


# Limits


@_MANY
@given(scenarios())
def test_links_without_end_take_no_more_than_their_latency(scenario: Scenario) -> None:
    endless = _with_links(scenario, bandwidth=1e300, ramp=0.0, reduction_ramp=0.0)
    for task in _exchanges(_evaluated(scenario).program):
        request: Any = task.request
        larger = replace(request, message_bytes=1e3 * request.message_bytes)
        assert plain(endless.time(larger)) == pytest.approx(plain(endless.time(task.request)), rel=1e-12, abs=1e-200)
        assert plain(endless.time(task.request)) <= plain(scenario.backend().time(task.request))
    ideal = _with_links(scenario, bandwidth=1e300, ramp=0.0, reduction_ramp=0.0, latency=0.0, latency_per_rank=0.0)
    parts, before = _parts(scenario, ideal), _parts(scenario)
    left = {name: parts[name] for name in _LINKS if parts.get(name, 0.0) > 1e-12 * sum(before.values())}
    assert left == {}
    # Parts are those of the slowest stage, which may be another one.
    for name in before if scenario.plan.pp == 1 else ():
        if name not in (*_LINKS, "host", "recompute", "pipeline_bubble"):
            assert parts[name] == pytest.approx(before[name], rel=1e-9), name


@_MANY
@given(scenarios(most=0))
def test_one_device_has_nothing_to_say_and_nothing_to_wait_for(scenario: Scenario) -> None:
    assert scenario.devices == 1
    result = _evaluated(scenario)
    assert [task.name for task in _exchanges(result.program, least=1.0)] == []
    parts = {name: plain(value) for name, value in result.step.parts.items()}
    assert [name for name in (*_LINKS, "pipeline_bubble") if parts.get(name, 0.0)] == []
    assert sum(parts.values()) == pytest.approx(plain(result.step.time), rel=1e-12)
    slow = _with_links(scenario, bandwidth=1.0, latency=1.0)
    assert plain(_evaluated(scenario, slow).step.time) == plain(result.step.time)


@_MANY
@given(scenarios())
def test_a_bubble_belongs_to_a_pipeline(scenario: Scenario) -> None:
    """And falls with the number of micro-batches to a share of nothing."""
    batch = scenario.workload.global_batch or 0
    # One micro-batch alone adds up no gradients, so that its passes are shorter.
    scenario, longer = (
        replace(scenario, workload=scenario.workload.model_copy(update={"global_batch": times * batch}))
        for times in (2, 10**6)
    )
    bubble, time = _parts(scenario).get("pipeline_bubble", 0.0), plain(_evaluated(longer).step.time)
    several, filled = (scenario.plan.pp or 1) > 1, scenario.plan.schedule in ("zero-bubble", *V_SHAPED)
    assert (bubble > 0.0) == several or (filled and bubble == 0.0)
    of_longer = _parts(longer).get("pipeline_bubble", 0.0)
    if scenario.plan.schedule in ("gpipe", "looped-bfs"):
        # All stages wait for one that is slow in all forward passes, and for another that is in all backward passes.
        assert bubble - 1e-6 * time <= of_longer < 0.5 * time
        return
    if filled or scenario.plan.precision in NARROW:  # little fills it in short steps, or weights are cast once a step
        assert of_longer <= bubble + 1e-6 * time
    else:
        assert of_longer == pytest.approx(bubble, rel=1e-4, abs=1e-6 * time)
    assert of_longer < 1e-3 * time


# Symmetries


@_MANY
@given(scenarios(), st.integers(16, 512))
def test_the_order_of_kinds_of_layers_does_not_matter(scenario: Scenario, window: int) -> None:
    """Layers that see all keys and layers that see some, or layers with experts and layers without."""
    model = scenario.model
    assume(model.layers > 2 and model.decoder_layers is None)
    kinds: dict[str, Any] = {"window_pattern": (None, window), "sliding_window": None}
    if model.experts > 1:
        kinds["expert_period"] = 2
    one = replace(scenario, model=model.model_copy(update=kinds))
    columns = one.columns()
    assume(len(columns.models.layers) == 2)  # some models have further kinds of their own
    turned = replace(columns, models=replace(columns.models, layers=columns.models.layers[::-1]))
    first, second = _evaluated(one), evaluate(turned, one.backend())
    assert plain(first.step.time) == pytest.approx(plain(second.step.time), rel=1e-12)
    assert plain(first.memory.total) == pytest.approx(plain(second.memory.total), rel=1e-12)
    assert plain(first.program.model_flops) == pytest.approx(plain(second.program.model_flops), rel=1e-12)


@_MANY
@given(scenarios(), st.permutations(["tp", "cp", "dp", "pp"]), st.booleans())
def test_an_axis_of_one_rank_has_no_place(scenario: Scenario, order: list[str], alone: bool) -> None:
    """Axes with several ranks keep their order; the others go where another order has them."""
    scenario = _one_replica(scenario) if alone else scenario
    used = [axis for axis in scenario.plan.placement or () if (getattr(scenario.plan, axis) or 1) > 1]
    places = iter(used)
    moved = [next(places) if axis in used else axis for axis in order]
    _same(scenario, _changed(scenario, placement="-".join(moved)))


@_MANY
@given(scenarios())
def test_what_one_rank_shares_with_itself_is_not_shared(scenario: Scenario) -> None:
    """All replicas as one group are what there is without groups; groups of one are as if nothing were shared."""
    replicas = (scenario.plan.dp or 1) * (scenario.plan.cp or 1)
    whole, alone = ({"sharding": "hybrid", "sharding_group": group} for group in (replicas, 1))
    _same(_changed(scenario, **whole), _changed(scenario, sharding="zero3", sharding_group=None))
    _same(_changed(scenario, **alone), _changed(scenario, sharding="none", sharding_group=None))
    group = {"sharding": "zero1", "sharding_group": replicas}
    _same(_changed(scenario, **group), _changed(scenario, sharding="zero1", sharding_group=None))


@_MANY
@given(scenarios())
def test_schedules_order_the_same_work(scenario: Scenario) -> None:
    """GPipe takes as long as 1F1B, or longer where stages differ, and zero bubbles no longer; neither holds less.

    But for the sum of gradients, which zero bubbles leave less to hide behind. On one stage, or with one micro-batch,
    all are alike.
    """
    assume(scenario.plan.virtual_stages == 1)
    first, gpipe, zero = (
        _evaluated(_changed(scenario, schedule=schedule)) for schedule in ("1f1b", "gpipe", "zero-bubble")
    )
    assert plain(gpipe.step.time) * (1 + 1e-12) >= plain(first.step.time)
    without = [plain(each.step.time - each.step.parts["gradient_reduction"]) for each in (first, zero)]
    assert without[0] >= without[1] * (1 - 1e-12)
    if plain(first.program.scenarios.plans.pp) == 1.0:
        assert plain(first.step.time) == plain(gpipe.step.time) == plain(zero.step.time)
    for other in (gpipe, zero):
        assert plain(first.memory.total) <= plain(other.memory.total) * (1 + 1e-12)
    if plain(first.program.scenarios.plans.micro_batches) == 1.0:
        assert plain(first.memory.total) == plain(gpipe.memory.total) == plain(zero.memory.total)
