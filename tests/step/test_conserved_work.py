"""What all devices compute and keep together is what one device would, but for what is documented as done twice.

Operator by operator, over all axes of the plan: a rank's share times the ranks is the whole.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from simulator.scenario.scenario import Scenario
from simulator.specs.plan import Plan
from simulator.step.memory import host_bytes, on_stage
from simulator.work.hiding import Phase
from simulator.work.operators import Operator
from simulator.work.program import Block, Program, program_of
from tests.step.drawing import scenarios
from tests.thorough import cases
from tests.work.asking import plain

_MANY = settings(
    max_examples=cases(usual=60, thorough=600),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
_ALONE: dict[str, Any] = {
    **dict.fromkeys(("dp", "tp", "pp", "cp", "ep", "etp", "virtual_stages"), 1),
    **dict.fromkeys(("sharding_group", "first_stage_layers", "last_stage_layers")),
    "sharding": "none",
    "sequence_parallel": False,
    "recompute": "none",
    "schedule": "1f1b",
}
_UNPADDED = {"expert_padding": 1, "narrow_expert_padding": 1}
_SEQUENCES = ("pooler", "sequence classes")
"""Of whole sequences: each rank that shares a sequence has all of it."""
_WHOLE = ("head transform", "activation and normalisation of the head", "token classes", *_SEQUENCES)
"""Behind the layers every tensor-parallel rank does these alike; only the product with the words is divided."""
_OF_POSITIONS = ("relative position projection", "projection of positions", "position to content")
"""Products of positions, and of keys with them, of which every context-parallel rank has all."""
_SCORES = ("scores", "context", "content to position", "position to content")
"""Products of unfused attention, DeBERTa's with positions among them."""
_OF_TOKENS = (
    "embedding to hidden size",
    "router",
    "gate of shared experts",
    "latent of queries",
    "latent of keys and values",
    "projection of a further prediction",
)
"""Products that are divided by token, if at all."""


def _programs(scenario: Scenario, **changes: Any) -> tuple[Program, Program]:
    """Of the plan, and of one device that does the same micro-batch alone."""
    plan = Plan(**{**dict(scenario.plan), **changes})
    alone = Plan(**{**dict(plan), **_ALONE})
    return tuple(program_of(replace(scenario, plan=each).columns()) for each in (plan, alone))  # type: ignore[return-value]


def _pairs(one: Program, other: Program) -> list[tuple[Operator, Operator]]:
    """The same operators of both programs, those that links carry left out."""
    pairs = []
    for here, there in zip(one.blocks, other.blocks, strict=True):
        computed = [
            [each for each in block.operators if not each.part.endswith("_parallel")] for block in (here, there)
        ]
        pairs += list(zip(*computed, strict=True))
    assert all(here.name == there.name for here, there in pairs)
    return pairs


def _flops(operator: Operator) -> float:
    """Arithmetic of both passes, and what fused attention repeats left out."""
    calls = (*operator.forward, *operator.backward)
    computed: list[Any] = [call for call in calls if hasattr(call.request, "flops")]
    return sum(plain(call.count * (call.request.flops - call.request.recomputed_flops)) for call in computed)


def _done_twice(operator: Operator, scenario: Scenario) -> float:
    """How often ranks together compute what one would: 1 but for what is documented."""
    plan, model = scenario.plan, scenario.model
    tp, cp = plan.tp or 1, plan.cp or 1
    if operator.name in _WHOLE:
        return tp * (cp if operator.name in _SEQUENCES else 1)
    if operator.name in _OF_TOKENS:
        return 1.0 if plan.sequence_parallel else tp
    if operator.name == "vocabulary head":
        return tp * ceil(model.vocabulary_size / tp) / model.vocabulary_size
    copies = max(tp / model.kv_heads, 1.0)
    if operator.name.startswith("key and value projection"):
        return copies
    if operator.name == "query projection" and scenario.stack.fused_qkv:
        heads, keys = model.attention_heads, 2 * model.kv_heads
        return (heads + copies * keys) / (heads + keys)
    return cp if operator.name in _OF_POSITIONS else 1.0


@_MANY
@given(scenarios())
def test_arithmetic_of_all_devices_is_that_of_the_model(scenario: Scenario) -> None:
    """Over tp, cp and ep of one replica; the others take other sequences, and stages other layers."""
    divided, alone = _programs(scenario)
    ranks = (scenario.plan.tp or 1) * (scenario.plan.cp or 1)
    for here, there in _pairs(divided, alone):
        expected = _flops(there) * _done_twice(here, scenario)
        assert _flops(here) * ranks == pytest.approx(expected, rel=1e-9), here.name
    replicas, micro_batches = scenario.plan.dp or 1, plain(divided.scenarios.plans.micro_batches)
    sequences = replicas * micro_batches * (scenario.plan.micro_batch or 1)
    assert sequences == scenario.workload.global_batch


@_MANY
@given(scenarios())
def test_recomputation_repeats_the_forward_pass_of_the_layers(scenario: Scenario) -> None:
    """All of it under full recomputation, the scores alone under selective, but for what a compiler leaves out."""
    stack = scenario.stack.model_copy(update={"drops_unused_recompute": False})
    # Layers of modules that predict further tokens are in the block of the head; others are in groups.
    work = scenario.workload.model_copy(update={"multi_token": False})
    scenario = replace(scenario, stack=stack, workload=work)
    once, again, scores = (_programs(scenario, recompute=how)[0] for how in ("none", "full", "selective"))
    assert plain(once.repeated_flops) == 0.0
    assert plain(again.repeated_flops) == pytest.approx(sum(_forward(block) for block in once.groups), rel=1e-9)
    assert plain(scores.repeated_flops) == pytest.approx(
        sum(_forward(block, only_scores=True) for block in once.groups), rel=1e-9
    )
    for program in (again, scores):
        assert plain(program.model_flops) == plain(once.model_flops)


def _forward(block: Block, *, only_scores: bool = False) -> float:
    """Arithmetic of the forward pass of all layers of a group; of the scores alone, that of unfused attention."""
    tasks = [task for task in block.tasks if task.phase is Phase.FORWARD and hasattr(task.request, "flops")]
    wanted: list[Any] = [task for task in tasks if not only_scores or task.name in _SCORES]
    return sum(plain(block.number * task.count * task.request.flops) for task in wanted)


@_MANY
@given(scenarios())
def test_what_devices_keep_together_is_what_one_would(scenario: Scenario) -> None:
    """Bytes of activations over tp with shared tokens, cp and ep: nothing is kept twice but what is documented.

    Experts are balanced, so that the busiest rank is as any other, and their tokens not padded.
    """
    plan, model = scenario.plan, scenario.model
    tp, cp = plan.tp or 1, plan.cp or 1
    stack = scenario.stack.model_copy(
        update={"regathers_inputs": True, "unpads": False, "pads_shards": True, **_UNPADDED}
    )
    work = scenario.workload.model_copy(update={"expert_imbalance": 1.0})
    divided, alone = _programs(
        replace(scenario, stack=stack, workload=work), sequence_parallel=tp > 1, recompute="none"
    )
    copies = max(tp / model.kv_heads, 1.0)
    heads = model.attention_heads, 2 * model.kv_heads
    for here, there in _pairs(divided, alone):
        factor: float = {
            "layout of heads": (heads[0] + copies * heads[1]) / sum(heads),
            "normalisation of queries and keys": (heads[0] + copies * heads[1] / 2) / (heads[0] + heads[1] / 2),
            **dict.fromkeys(_OF_POSITIONS, cp),
            "cross-entropy": tp * ceil(model.vocabulary_size / tp) / model.vocabulary_size,
        }.get(here.name, 1.0)
        if here.name in _WHOLE or (here.name == "vocabulary head" and model.objective == "mlm"):
            factor = tp * (cp if here.name in _SEQUENCES else 1)
        elif here.name == "feed-forward input" and plain(here.kept.expert_parameters):
            factor = plan.etp or tp  # gathered for the experts, and not again
        together = plain(here.kept.saved) * tp * cp
        if here.name == "embedding" and model.relative_rows:  # whose table each rank normalises for itself
            assert factor * plain(there.kept.saved) <= together * (1 + 1e-9)
            assert together <= factor * tp * cp * plain(there.kept.saved) * (1 + 1e-9)
            continue
        if here.name == "projection of positions":  # of which tensor-parallel ranks keep all inputs, and their outputs
            assert factor * plain(there.kept.saved) <= together <= factor * tp * plain(there.kept.saved)
            continue
        # Each rank keeps the statistics of what is normalised over heads of all ranks: two numbers a token.
        shared = 1e-2 if here.name == "normalisation of queries and keys" else 1e-9
        assert together == pytest.approx(plain(there.kept.saved) * factor, rel=shared), here.name


@_MANY
@given(scenarios())
def test_parameters_of_all_ranks_are_those_of_the_model(scenario: Scenario) -> None:
    """Over tp and ep, but for what each rank has: normalisations, biases of outputs, positions, copies of key heads."""
    divided, alone = _programs(scenario)
    plan, tp = scenario.plan, scenario.plan.tp or 1
    ep, etp = plan.ep or 1, plan.etp or tp
    for here, there in _pairs(divided, alone):
        own, whole = (plain(each.kept.expert_parameters) for each in (here, there))
        biases = plain(here.kept.partial_parameters) if own else 0.0
        assert own * etp * ep - (etp - 1) * biases * ep == pytest.approx(whole, rel=1e-9)
        if own or here.name in _WHOLE or "vocabulary" in here.name or here.name in ("embedding", "query projection"):
            continue
        alike = plain(here.kept.partial_parameters)
        assert plain(here.kept.parameters) * tp - (tp - 1) * alike >= plain(there.kept.parameters) * (1 - 1e-9)
        if "key and value" not in here.name:
            assert plain(here.kept.parameters) * tp - (tp - 1) * alike == pytest.approx(plain(there.kept.parameters))
    assert np.all(np.asarray(divided.together.parameters) <= np.asarray(alone.together.parameters) * (1 + 1e-12))


@_MANY
@given(scenarios())
def test_offloaded_states_are_on_the_host_instead(scenario: Scenario) -> None:
    """With gradients in fp32 beside them, which the host's optimizer reads; a device has one copy or the other."""
    here, there = (_programs(scenario, offload_optimizer=away)[0] for away in (False, True))
    stages = [float(stage) for stage in range(scenario.plan.pp or 1)]
    on_device = [plain(on_stage(here, stage).optimizer) for stage in stages]
    assert [plain(on_stage(there, stage).optimizer) for stage in stages] == [0.0] * len(stages)
    assert plain(np.asarray(host_bytes(here))) == 0.0
    plans = here.scenarios.plans
    bytes_of_one = plain(plans.state_bytes + plans.master_bytes)
    if bytes_of_one:
        expected = max(on_device) * (bytes_of_one + 4.0) / bytes_of_one
        assert plain(host_bytes(there)) == pytest.approx(expected, rel=1e-9)
