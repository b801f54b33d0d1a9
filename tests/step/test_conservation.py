"""What all devices hold together is what there is of it, whatever the plan; counted rank by rank in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simulator
from hardware.errors import InputError
from simulator.formulas.pipeline import stage_layers
from simulator.pricing.requests import Collective
from simulator.specs.loading import load_model, load_stack
from simulator.specs.plan import Plan, check
from simulator.specs.workload import Workload
from simulator.step.memory import on_stage
from simulator.work.once import on_stage as held_on
from simulator.work.once import once_a_step
from simulator.work.program import Program, program_of
from tests.stacks import unrestricted

_STATES = 12.0
"""Of a parameter under mixed precision with Adam: master copy and two moments [B]."""
_MODEL = {"base": "mixtral-8x7b", "layers": 8, "experts": 8}


def _program(plan: dict[str, Any], devices: int) -> Program:
    full_plan = {"micro_batch": 1, "recompute": "none", "precision": "bf16", "sequence_parallel": False, **plan}
    scenario = simulator.resolve(
        _MODEL,
        "superpod-h100",
        devices=devices,
        stack=unrestricted("megatron-lm"),
        plan=full_plan,
        workload={"sequence_length": 1024, "global_batch": 512},
    )
    return program_of(scenario.columns())


def _copies(dp: int, cp: int, ep: int, group: int, *, dp_inside: bool) -> int:
    """Pieces of experts, each as large as a rank's, that all replicas store where neighbours of a group share them."""
    ranks = product(range(cp), range(dp)) if dp_inside else ((c, d) for d, c in product(range(dp), range(cp)))
    expert = [d % ep for _, d in ranks]
    groups = [expert[at : at + group] for at in range(0, len(expert), group)]
    return sum(len(set(each)) for each in groups)


def _spread_copies(replicas: int, tp: int, ep: int, etp: int, group: int) -> float:
    """As before, over the tensor-parallel ranks of a replica, where experts lie on neighbouring ranks of all axes.

    Whoever shares nothing stores all it has.
    """
    pieces = [(rank // etp % ep, rank % etp) for rank in range(replicas * tp)]
    if group == 1:
        return len(pieces) / tp
    groups = [pieces[at : at + group * tp] for at in range(0, len(pieces), group * tp)]
    return sum(len(set(each)) for each in groups) / tp


@pytest.mark.parametrize("ep", [1, 2, 8, 64])
def test_optimizer_states_of_experts_exist_once(ep: int) -> None:
    """Qwen3 30B-A3B on 128 H100 under ZeRO-1."""
    answer = simulator.estimate(
        "qwen3-30b-a3b",
        "dgx-h100",
        devices=128,
        stack=unrestricted("megatron-lm"),
        plan={"sharding": "zero1", "ep": ep, "tp": 1, "pp": 1, "micro_batch": 1, "offload_optimizer": False},
        workload={"global_batch": 1024},
    )
    assert answer.memory_bytes["optimizer"] * 128 == pytest.approx(_STATES * answer.parameters, rel=1e-9)


def test_141_billion_parameters_do_not_fit_eight_devices() -> None:
    plan = {"ep": 8, "sharding": "zero3", "micro_batch": 1, "tp": 1, "pp": 1, "offload_optimizer": False}
    answer = simulator.estimate("mixtral-8x22b", "dgx-h100", devices=8, stack=unrestricted("megatron-lm"), plan=plan)
    assert not answer.fits
    held = answer.memory_bytes["parameters"] + answer.memory_bytes["gradients"] + answer.memory_bytes["optimizer"]
    assert held * 8 >= 16.0 * answer.parameters


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from(["none", "zero1", "zero2", "zero3", "hybrid"]),
    st.booleans(),
)
def test_states_are_those_of_the_copies_that_exist(
    tp: int, pp: int, cp: int, dp: int, ep: int, sharding: str, dp_inside: bool
) -> None:
    ep = min(ep, dp)
    plan: dict[str, Any] = {"tp": tp, "pp": pp, "cp": cp, "dp": dp, "ep": ep, "sharding": sharding}
    plan["placement"] = "tp-dp-cp-pp" if dp_inside else "tp-cp-dp-pp"
    _conserves_states(plan, lambda among: _copies(dp, cp, ep, among, dp_inside=dp_inside))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([(2, 1), (4, 1), (4, 2), (8, 1), (8, 2)]),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from(["none", "zero1", "zero2", "zero3", "hybrid"]),
)
def test_states_of_experts_that_fewer_ranks_split_are_those_of_the_copies_that_exist(
    pp: int, cp: int, dp: int, split: tuple[int, int], ep: int, sharding: str
) -> None:
    (tp, etp), replicas = split, dp * cp
    ep = min(ep, replicas * tp // etp)
    plan: dict[str, Any] = {"tp": tp, "pp": pp, "cp": cp, "dp": dp, "ep": ep, "etp": etp, "sharding": sharding}
    _conserves_states(plan, lambda among: _spread_copies(replicas, tp, ep, etp, among))


def _conserves_states(plan: dict[str, Any], copies: Callable[[int], float]) -> None:
    """All devices together hold what there is; `copies` says of a group that shares how many of a rank's experts."""
    tp, pp, replicas, sharding = plan["tp"], plan["pp"], plan["dp"] * plan["cp"], plan["sharding"]
    group = replicas
    if sharding == "hybrid":
        group = plan["sharding_group"] = max(replicas // 2, 1)
    program = _program(plan, tp * pp * replicas)
    shares = {"none": "", "zero1": "o", "zero2": "og", "zero3": "ogp", "hybrid": "ogp"}[sharding]
    stages = [on_stage(program, float(stage)) for stage in range(pp)]
    dense = program.layers.parameters + program.embedding.tally.parameters + program.head.tally.parameters
    experts = program.layers.expert_parameters
    plans = program.scenarios.plans
    for name, letter, size in (
        ("optimizer", "o", _STATES),
        ("gradients", "g", float(plans.gradient_bytes)),
        ("parameters", "p", float(plans.parameter_bytes)),
    ):
        if name == "gradients" and float(program.scenarios.stacks.keeps_16_bit_gradients):
            continue
        among = group if letter in shares else 1
        expected = size * tp * (float(dense) * replicas / among + float(experts) * copies(among))
        together = sum(float(np.asarray(getattr(stage, name))) for stage in stages) * tp * replicas
        assert together == pytest.approx(expected, rel=1e-9), name


@pytest.mark.parametrize("sharding", ["none", "zero1", "zero3"])
@pytest.mark.parametrize(
    ("tp", "cp", "dp", "ep", "etp"), [(2, 1, 4, 8, 1), (4, 1, 2, 4, 2), (2, 2, 2, 8, 1), (1, 4, 2, 8, 1)]
)
def test_experts_that_are_spread_over_ranks_of_all_axes_are_conserved(
    tp: int, cp: int, dp: int, ep: int, etp: int, sharding: str
) -> None:
    """Of `dp * cp * tp` ranks each `ep * etp` hold all experts once, whichever axes they lie along."""
    program = _program({"tp": tp, "cp": cp, "dp": dp, "ep": ep, "etp": etp, "sharding": sharding}, tp * cp * dp)
    ranks = tp * cp * dp
    whole = _program({"tp": 1, "cp": 1, "dp": 1, "sharding": "none"}, 1)
    experts, dense = (float(np.asarray(part)) for part in (program.layers.expert_parameters, program.layers.parameters))
    assert experts * ep * etp == float(np.asarray(whole.layers.expert_parameters))
    copies = ranks / (ep * etp)
    held = dense + float(np.asarray(program.embedding.tally.parameters + program.head.tally.parameters))
    states = float(np.asarray(on_stage(program, 0.0).optimizer)) * ranks
    among = 1.0 if sharding == "none" else dp * cp
    of_experts = experts * ep * etp * (copies if sharding == "none" else 1.0)
    assert states == pytest.approx(_STATES * (held * ranks / among + of_experts), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([1, 2]),
    st.sampled_from([2, 4, 8]),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([(1, 1), (2, 2), (2, 1), (4, 2), (8, 1)]),
)
def test_gradients_of_experts_travel_among_those_that_hold_them(
    cp: int, dp: int, ep: int, split: tuple[int, int]
) -> None:
    """Under ZeRO-1 they are scattered over the copies of an expert, and what was updated is gathered there."""
    tp, etp = split
    ep = min(ep, dp)
    plan = {"tp": tp, "cp": cp, "dp": dp, "ep": ep, "etp": etp, "sharding": "zero1"}
    copies = dp * cp * tp // (ep * etp)
    expected = {("reduce_scatter", copies), ("all_gather", copies)} if copies > 1 else set()
    assert _sent_for_experts(_program(plan, tp * cp * dp)) == expected


@pytest.mark.parametrize(("tp", "ep", "etp", "copies"), [(8, 2, 1, 4), (8, 1, 2, 4), (4, 4, 1, 1), (2, 1, 2, 1)])
def test_gradients_of_experts_are_added_up_inside_of_one_replica(tp: int, ep: int, etp: int, copies: int) -> None:
    """Tensor-parallel ranks that hold the same experts, on tokens of their own; dense layers have nobody to ask."""
    program = _program({"tp": tp, "dp": 1, "ep": ep, "etp": etp, "sharding": "none"}, tp)
    assert _sent_for_experts(program) == ({("all_reduce", copies)} if copies > 1 else set())


def _sent_for_experts(program: Program) -> set[tuple[str, float]]:
    """Kinds and degrees of the collectives of experts' parameters that are made once a step."""
    tasks = once_a_step(program, held_on(program, first=1.0, last=1.0))
    made = [task for task in tasks if task.name.endswith("of experts") and float(np.asarray(task.count)) > 0.0]
    requests = [task.request for task in made]
    return {(each.kind, float(np.asarray(each.degree))) for each in requests if isinstance(each, Collective)}


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 70), st.integers(0, 70))
def test_stages_hold_the_layers_of_the_model(layers: int, stages: int, first: int, last: int) -> None:
    """Evenly, or with layers of one end or of both as the plan has them, where the rules allow it."""
    stages = min(stages, layers)
    plan = Plan(pp=stages, first_stage_layers=first or None, last_stage_layers=last or None)
    if not _allowed(plan, layers):
        first = last = 0
    held = np.asarray(
        stage_layers(float(layers), float(stages), stage=np.arange(float(stages)), first=float(first), last=float(last))
    ).reshape(-1)
    assert float(np.sum(held)) == pytest.approx(layers)
    assert float(np.min(held)) >= (1.0 if first or last else 0.0)
    for stated_layers, index in ((first, 0), (last, -1)):
        assert not stated_layers or held[index] == stated_layers


def _allowed(plan: Plan, layers: int) -> bool:
    """Whether a model of so many layers may be cut so."""
    model, stack = load_model({"base": "gpt2-355m", "layers": layers}), load_stack("megatron-lm")
    work = Workload().resolve(model)
    try:
        check(plan.with_defaults(stack), model, work, stack)
    except InputError:
        return False
    return True


@pytest.mark.parametrize(
    ("ends", "sentence"),
    [
        ({"first_stage_layers": 1, "last_stage_layers": 1}, "are not the model's 24 layers; leave one of them open"),
        ({"first_stage_layers": 24}, "leave too few of 24 layers"),
    ],
)
def test_no_layer_is_lost_between_two_ends(ends: dict[str, int], sentence: str) -> None:
    plan = {"pp": 2, "tp": 1, "micro_batch": 1, **ends}
    with pytest.raises(InputError, match=sentence):
        simulator.estimate("gpt2-355m", "dgx-a100-640gb", devices=8, plan=plan)


@pytest.mark.parametrize(
    ("model", "system", "plan", "layers"),
    [
        ("gpt3-175b", "superpod-a100", {"tp": 8, "pp": 40}, 96),
        ("bert-large", "dgx-a100-640gb", {"tp": 1, "pp": 16}, 24),
        ("gpt3-175b", "superpod-a100", {"tp": 8, "pp": 8, "first_stage_layers": 10, "last_stage_layers": 8}, 96),
    ],
)
def test_no_layer_is_there_twice(model: str, system: str, plan: dict[str, Any], layers: int) -> None:
    devices, stack = plan["tp"] * plan["pp"], unrestricted("megatron-lm")
    plan = {"micro_batch": 1, **plan}
    stages = simulator.stages(simulator.resolve(model, system, devices=devices, stack=stack, plan=plan))
    assert sum(stage.layers for stage in stages) == layers
    if "first_stage_layers" in plan:
        assert (stages[0].layers, stages[-1].layers) == (10.0, 8.0)
        assert sorted({stage.layers for stage in stages[1:-1]}) == [13.0]
