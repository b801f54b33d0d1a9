"""What is counted in a step: the model's arithmetic and parameters, however the step is split."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulator.pricing.requests import Collective, HostCopy, HostWork, Send, Stream, StreamKind
from simulator.work.counts import counts_of, undivided
from simulator.work.messages import messages, tasks_of_stage
from simulator.work.operators import Holding, Operator, product, ring, stream
from simulator.work.program import Program, program_of, resource_of
from simulator.work.recomputation import repeats, tally_of_layer
from simulator.work.tallies import Tally, tally
from simulator.work.tasks import Phase, PlaceKind, Resource
from tests.work.asking import plain
from tests.work.small import named, small

_EVEN: dict[str, Any] = {"vocabulary_size": 104, "position_rows": 40}
"""A vocabulary that every degree divides."""
_TOKENS = 24 * 20
_PRODUCTS = 2 * (4 * 48 * 48 + 2 * 48 * 80)
"""Weights of the products of both layers."""
_SCORES = 2 * 24 * 6 * 20 * 20 * 8
"""Terms of one of attention's products, in both layers."""
_PLANS: dict[str, dict[str, Any]] = {
    "alone": {"tp": 1, "dp": 8, "sequence_parallel": False},
    "tensor": {"tp": 2},
    "pipeline": {"tp": 1, "pp": 2, "dp": 4, "sequence_parallel": False},
    "context": {"tp": 1, "cp": 4, "dp": 2, "sequence_parallel": False},
    "all": {"tp": 2, "pp": 2, "cp": 2, "dp": 1},
    "sharded": {"tp": 1, "dp": 8, "sequence_parallel": False, "sharding": "zero3"},
}


def _gpt(plan: dict[str, Any], base: str = "gpt2-355m", **how: Any) -> Program:
    return small(base, plan, sizes={**_EVEN, **how.pop("sizes", {})}, **how)


@pytest.mark.parametrize("fused", [0.0, 1.0])
@pytest.mark.parametrize("name", _PLANS)
def test_arithmetic_of_a_model_is_that_of_its_weights_and_scores(name: str, fused: float) -> None:
    """A multiplication and an addition for each weight and token forward, twice as many backward."""
    counts = counts_of(_gpt(_PLANS[name], fused_attention=fused))
    weights = _PRODUCTS + 48 * 104
    assert plain(counts.model_flops) == 3 * 2 * (_TOKENS * weights + 2 * _SCORES)
    assert plain(counts.causal_attention_flops) == 3 * 2 * 2 * _SCORES
    # Fused attention forms its scores again.
    assert plain(counts.executed_flops) == plain(counts.model_flops) + fused * 2 * _SCORES
    assert plain(counts.repeated_flops) == 0


@pytest.mark.parametrize("name", _PLANS)
def test_recomputation_repeats_a_forward_pass_of_the_layers(name: str) -> None:
    counts = counts_of(_gpt({**_PLANS[name], "recompute": "full"}, fused_attention=0.0))
    forward = 2 * (_TOKENS * _PRODUCTS + 2 * _SCORES)
    assert plain(counts.repeated_flops) == forward
    assert plain(counts.executed_flops) == plain(counts.model_flops) + forward
    selective = counts_of(_gpt({**_PLANS[name], "recompute": "selective"}, fused_attention=0.0))
    assert plain(selective.repeated_flops) == 2 * 2 * _SCORES


def test_a_compiler_leaves_out_what_nobody_needs() -> None:
    """Of a full recomputation the product into the residual stream, of a selective one that with the values."""
    full = _gpt({"recompute": "full"}, fused_attention=0.0, drops_unused_recompute=1.0)
    assert plain(counts_of(full).repeated_flops) == 2 * (_TOKENS * (_PRODUCTS - 2 * 48 * 80) + 2 * _SCORES)
    selective = _gpt({"recompute": "selective"}, fused_attention=0.0, drops_unused_recompute=1.0)
    assert plain(counts_of(selective).repeated_flops) == 2 * _SCORES


@pytest.mark.parametrize("name", _PLANS)
def test_parameters_of_a_model_are_those_of_its_parts(name: str) -> None:
    counts = counts_of(_gpt(_PLANS[name]))
    layers = _PRODUCTS + 2 * (4 * 48 + 80 + 48 + 4 * 48)
    assert plain(counts.parameters) == plain(counts.active_parameters) == layers + 48 * (104 + 40) + 2 * 48


def test_a_token_meets_the_chosen_experts() -> None:
    """2 of 8; and arithmetic is that of what it meets."""
    counts = counts_of(_gpt({"ep": 4}, "mixtral-8x7b", sizes={"key_value_heads": 6, "position_rows": 0}))
    expert, rest = 2 * 3 * 48 * 80, 2 * (4 * 48 * 48 + 8 * 48)
    ends = 2 * 48 * 104 + 48 + 2 * 2 * 48
    assert plain(counts.parameters) == 8 * expert + rest + ends
    assert plain(counts.active_parameters) == 2 * expert + rest + ends
    assert plain(counts.model_flops) == 3 * 2 * (_TOKENS * (2 * expert + rest + 48 * 104) + 2 * _SCORES)


def test_layers_of_all_groups_count_as_causal() -> None:
    """Dense layers first, then experts: attention is alike in both."""
    shape = {"key_value_heads": 6, "position_rows": 0, "layers": 5, "dense_layers_first": 3}
    counts = counts_of(_gpt({"ep": 4}, "mixtral-8x7b", sizes=shape))
    assert plain(counts.causal_attention_flops) == 3 * 2 * 2 * _SCORES / 2 * 5


def test_only_a_causal_mask_counts_as_causal() -> None:
    assert plain(counts_of(_gpt({}, "bert-large")).causal_attention_flops) == 0


def test_the_whole_is_one_device_with_all_of_it() -> None:
    whole = undivided(_gpt(_PLANS["all"], all_positions=1.0).scenarios)
    plans = whole.plans
    degrees = (plans.dp, plans.tp, plans.pp, plans.cp, plans.ep, plans.virtual_stages, plans.micro_batches)
    assert {plain(each) for each in degrees} == {1.0}
    assert plain(plans.micro_batch) == 24
    assert plain(plans.sequence_parallel) == plain(whole.stacks.all_positions) == 0


# Parts of a program


def test_layers_add_up_and_ends_come_once() -> None:
    program = _gpt({}, sizes={"layers": 6})
    layer, layers, together = program.groups[0].tally, program.layers, program.together
    for name in ("saved_bytes", "all_saved_bytes", "parameters", "partial_parameters", "cast_parameters"):
        assert plain(getattr(layers, name)) == 6 * plain(getattr(layer, name)) > 0
        ends = plain(getattr(program.embedding.tally, name)) + plain(getattr(program.head.tally, name))
        assert plain(getattr(together, name)) == plain(getattr(layers, name)) + ends
    assert plain(layers.widest_bytes) == plain(layer.widest_bytes)
    assert program.blocks == (*program.groups, program.embedding, program.head)
    assert plain(program.model_flops) == 6 * plain(program.groups[0].model_flops) + plain(program.head.model_flops)


def test_of_unequal_layers_the_largest_counts() -> None:
    shape = {"key_value_heads": 6, "position_rows": 0, "layers": 5, "dense_layers_first": 3}
    program = _gpt({"ep": 4}, "mixtral-8x7b", sizes=shape)
    dense, experts = (block.tally for block in program.groups)
    assert (plain(program.groups[0].number), plain(program.groups[1].number)) == (3, 2)
    largest = program.largest_layer
    assert plain(largest.parameters) == plain(dense.parameters) > plain(experts.parameters)
    assert plain(largest.expert_parameters) == plain(experts.expert_parameters) > plain(dense.expert_parameters)
    assert plain(program.layers.parameters) == 3 * plain(dense.parameters) + 2 * plain(experts.parameters)
    assert plain(program.layers.expert_parameters) == 2 * plain(experts.expert_parameters)


def test_layers_that_share_parameters_keep_activations_each() -> None:
    one = Tally(saved_bytes=2.0, all_saved_bytes=3.0, parameters=5.0, expert_parameters=7.0, widest_bytes=11.0)
    one = Tally(**{**vars(one), "partial_parameters": 13.0, "cast_parameters": 17.0})
    apart, shared = one.times(4.0, shared=0.0), one.times(4.0, shared=1.0)
    assert apart == Tally(8.0, 12.0, 20.0, 28.0, 52.0, 68.0, 11.0)
    assert shared == Tally(8.0, 12.0, 5.0, 7.0, 13.0, 17.0, 11.0)
    assert one.plus(Tally(widest_bytes=19.0, parameters=1.0)) == Tally(2.0, 3.0, 6.0, 7.0, 13.0, 17.0, 19.0)
    assert one.at_most(Tally(parameters=6.0, saved_bytes=1.0)) == Tally(2.0, 3.0, 6.0, 7.0, 13.0, 17.0, 11.0)


def test_layers_that_share_parameters_train_and_quantise_them_once() -> None:
    one = Tally(trained_parameters=2.0, quantised_parameters=3.0, quantised_bytes=5.0, widest_quantised=7.0)
    assert one.times(4.0, shared=1.0) == one
    assert one.times(4.0, shared=0.0) == Tally(
        trained_parameters=8.0, quantised_parameters=12.0, quantised_bytes=20.0, widest_quantised=7.0
    )
    assert Tally(parameters=10.0, quantised_parameters=8.0, quantised_bytes=4.5).gathered_bytes(2.0) == 2 * 2.0 + 4.5


def _kept(saved: float, *, in_attention: bool = False, **others: Any) -> Operator:
    kept = Holding(saved=saved, in_attention=in_attention, **others)
    how: dict[str, Any] = {"moved": (1.0, 1.0), "launches": (1.0, 1.0), "kept": kept}
    return stream("a stream", "elementwise", StreamKind.RESIDUAL, **how)


def test_what_a_recomputed_layer_keeps() -> None:
    operators = [_kept(100.0), _kept(30.0, in_attention=True, widest=9.0), _kept(5.0, in_attention=True, widest=8.0)]
    assert tally(operators) == Tally(135.0, 135.0, widest_bytes=np.float64(9.0))
    for recompute, expected in (("none", 135.0), ("selective", 100.0), ("full", 7.0)):
        plans = _gpt({"recompute": recompute}).scenarios.plans
        layer_tally = tally_of_layer(operators, plans, checkpoint=7.0)
        assert (plain(layer_tally.saved_bytes), plain(layer_tally.all_saved_bytes)) == (expected, 135.0)


@pytest.mark.parametrize(
    ("recompute", "drops", "expected"),
    [
        ("none", 0.0, (0, 0, 0, 0)),
        ("full", 0.0, (1, 1, 1, 1)),
        ("selective", 0.0, (0, 1, 1, 0)),
        ("full", 1.0, (1, 1, 1, 0)),
        ("selective", 1.0, (0, 1, 0, 0)),
    ],
)
def test_what_is_repeated(recompute: str, drops: float, expected: tuple[float, ...]) -> None:
    scenarios = _gpt({"recompute": recompute}, drops_unused_recompute=drops).scenarios
    operators = [
        _kept(1.0),
        _kept(1.0, in_attention=True),
        _kept(1.0, in_attention=True, output_kept=True),
        _kept(1.0, output_unused=1.0),
    ]
    assert tuple(plain(repeats(each, scenarios.plans, scenarios.stacks)) for each in operators) == expected


def test_a_full_recomputation_keeps_the_inputs_of_layers() -> None:
    for shares, tokens in ((True, 30), (False, 60)):
        program = _gpt({"recompute": "full", "sequence_parallel": shares})
        assert plain(program.groups[0].tally.saved_bytes) == tokens * 48 * 2
        again = [task for task in program.groups[0].tasks if task.phase is Phase.RECOMPUTE]
        ahead = [task for task in program.groups[0].tasks if task.phase is Phase.FORWARD]
        assert [plain(task.kernels) for task in again] == [plain(task.kernels) for task in ahead]
        assert [plain(task.count) for task in again] == [plain(task.count) for task in ahead]


# Operators


def test_a_product_has_two_gradients_as_large_as_itself() -> None:
    how: dict[str, Any] = {"m": 3.0, "n": 5.0, "k": 7.0, "batch": 2.0, "count": 4.0, "element_bytes": 2.0}
    one = product("p", "feed_forward", **how)
    sizes = [
        (each.request.m, each.request.n, each.request.k, each.request.weight_gradient)  # type: ignore[union-attr]
        for each in (*one.forward, *one.backward)
    ]
    assert sizes == [(3, 5, 7, False), (3, 7, 5, False), (7, 5, 3, True)]
    assert {each.request.flops for each in (*one.forward, *one.backward)} == {2 * 2 * 3 * 5 * 7}  # type: ignore[union-attr]
    assert [(each.count, each.kernels) for each in (*one.forward, *one.backward)] == [(4, 1), (4, 0), (4, 1)]
    without = product("p", "feed_forward", **how, has_input_gradient=False)
    assert [each.request for each in without.backward] == [one.backward[1].request]
    of_tokens = product("p", "attention", **how, of_weight=False)
    assert of_tokens.backward[1].request.weight_gradient is False  # type: ignore[union-attr]


def test_widths_of_weights_slow_a_product_unless_they_are_padded() -> None:
    how: dict[str, Any] = {"m": 8.0, "n": 101.0, "k": 64.0, "element_bytes": 2.0}

    def alignment(**others: Any) -> set[float]:
        one = product("p", "head", **how, **others)
        return {plain(each.request.alignment) for each in (*one.forward, *one.backward)}  # type: ignore[union-attr]

    assert alignment() == {1 - 6 * 0.08}
    assert alignment(padded=True) == alignment(of_weight=False) == {1.0}


def test_a_ring_of_one_sends_nothing() -> None:
    one = ring("r", 8.0, degree=1.0, stride=1.0, reach=1.0)
    assert [plain(each.count) for each in (*one.forward, *one.backward)] == [0, 0]
    assert plain(one.hiding.occasions) == 1
    several = ring("r", 8.0, degree=4.0, stride=2.0, reach=1.0)
    assert [(plain(each.count), plain(each.kernels)) for each in (*several.forward, *several.backward)] == [
        (3, 3),
        (6, 3),
    ]
    assert (several.part, several.hiding.line, several.hiding.share) == ("context_parallel", "ring", 1.0)


def test_what_a_request_occupies() -> None:
    send, copy = Send(message_bytes=1.0, degree=2.0, stride=1.0), HostCopy(moved_bytes=1.0)
    assert resource_of(send) is Resource.TENSOR_LINKS
    assert resource_of(copy) is resource_of(HostWork(seconds=1.0)) is Resource.HOST
    assert resource_of(Stream(kind=StreamKind.RESIDUAL, moved_bytes=1.0, kernels=1.0)) is Resource.DEVICE


@pytest.mark.parametrize("wide", [0, 1, 2, 3])
def test_layers_that_stay_in_16_bits_split_products_not_arithmetic(wide: int) -> None:
    plan = {"precision": "fp8", "tp": 1, "dp": 8, "sequence_parallel": False, "layers_in_16_bits": wide}
    program = small("gpt2-355m", plan, sizes=_EVEN, system="dgx-h100")
    tasks = [
        task for task in program.groups[0].tasks if task.name == "feed-forward input" and task.phase is Phase.FORWARD
    ]
    shares = {task.request.wide: plain(task.count) for task in tasks}  # type: ignore[union-attr]
    assert shares == ({False: 1.0} if wide == 0 else {False: 1 - min(wide, 2) / 2, True: min(wide, 2) / 2})
    assert sum(plain(task.kernels) for task in tasks) == 1
    weights = _PRODUCTS + 48 * 104
    assert plain(counts_of(program).model_flops) == 3 * 2 * (_TOKENS * weights + 2 * _SCORES)
    assert plain(named(program.groups[0], "feed-forward input").kept.saved) == 3 * 20 * 48  # products keep 8 bits


def test_plans_in_one_column_may_differ_in_what_stays_wide() -> None:
    plan = {"precision": "fp8", "tp": 1, "dp": 8, "sequence_parallel": False}
    scenarios = small("gpt2-355m", plan, sizes=_EVEN, system="dgx-h100").scenarios
    plans = replace(scenarios.plans, wide_layers=np.array([0.0, 1.0]))
    tasks = program_of(replace(scenarios, plans=plans)).groups[0].tasks
    ahead = [task for task in tasks if task.name == "feed-forward input" and task.phase is Phase.FORWARD]
    shares = {task.request.wide: np.asarray(task.count).tolist() for task in ahead}  # type: ignore[union-attr]
    assert shares == {False: [1.0, 0.5], True: [0.0, 0.5]}


# What a stage sends


def test_each_stage_has_its_layers_and_its_end() -> None:
    plan = {"tp": 1, "pp": 2, "dp": 4, "sequence_parallel": False}
    program = _gpt(plan, sizes={"layers": 6})
    micro_batches = 24 / (4 * 3)

    def blocks(first: float, last: float) -> dict[PlaceKind, float]:
        kinds = (PlaceKind.GROUP, PlaceKind.EMBEDDING, PlaceKind.HEAD)
        stage = tasks_of_stage(program, first=first, last=last)
        return {task.place.kind: plain(number) for task, number in stage if task.place.kind in kinds}

    layers = micro_batches * 6 / 2
    of = (PlaceKind.GROUP, PlaceKind.EMBEDDING, PlaceKind.HEAD)
    assert blocks(1.0, 0.0) == dict(zip(of, (layers, micro_batches, 0), strict=True))
    assert blocks(0.0, 1.0) == dict(zip(of, (layers, 0, micro_batches), strict=True))
    assert {plain(n) for task, n in tasks_of_stage(program, first=1.0, last=0.0) if task.phase is Phase.STEP} == {1.0}


def test_all_devices_send_what_is_received() -> None:
    """Activations leave every stage but the last, gradients every stage but the first."""
    plan = {"tp": 1, "pp": 4, "dp": 2, "sequence_parallel": False}
    program = _gpt(plan, sizes={"layers": 8})
    sent: Counter[str] = Counter()
    for stage in range(4):
        for each in messages(program, float(stage)):
            if each.part == "pipeline_transfer":
                assert (each.kind, plain(each.message_bytes)) == ("send", 60 * 48 * 2)
                sent[f"{each.name} {stage}"] += int(plain(each.count))
    each_micro_batch = 24 // (2 * 3)
    expected = {f"activations between stages {stage}": each_micro_batch for stage in range(3)}
    expected |= {f"gradients between stages {stage}": each_micro_batch for stage in range(1, 4)}
    assert dict(+sent) == expected


@pytest.mark.parametrize("schedule", ["zero-bubble-v", "dualpipe-v"])
def test_a_v_sends_down_and_up(schedule: str) -> None:
    """Down and up between neighbours; where it turns, at the last stage, and at both of its ends nothing is sent."""
    plan = {"tp": 1, "pp": 4, "dp": 2, "micro_batch": 1, "sequence_parallel": False, "schedule": schedule}
    program = _gpt(plan | {"virtual_stages": 2}, sizes={"layers": 8})
    for stage in range(4):
        sent = Counter[str]()
        for each in messages(program, float(stage)):
            if each.part == "pipeline_transfer":
                sent[each.name] += int(plain(each.count))
        neighbours = 1 if stage in (0, 3) else 2
        assert sent == {f"{what} between stages": 12 * neighbours for what in ("activations", "gradients")}


def test_messages_are_those_of_all_layers_and_micro_batches() -> None:
    """Whole tensors: 2 sums forward and 2 backward in each of 2 layers, for each of 2 micro-batches."""
    program = _gpt({"sequence_parallel": False})
    sums = [each for each in messages(program) if each.part == "tensor_parallel" and plain(each.count)]
    counted = {each.name: 0.0 for each in sums}
    for each in sums:
        counted[each.name] += plain(each.count)
        assert (each.kind, each.resource) == ("all_reduce", Resource.TENSOR_LINKS)
    assert counted == {
        "all-reduce of a layer": 2 * 2 * 4,
        "all-reduce of the embedding": 2,
        "all-reduce of the head": 2,
        "all-reduce of softmax sums": 3 * 2,
    }
    assert not [each for each in messages(program) if not isinstance(each.kind, str)]
    assert all(isinstance(task.request, Collective | Send) or task.resource not in (
        Resource.TENSOR_LINKS, Resource.DATA_LINKS
    ) for task, _ in tasks_of_stage(program, first=1.0, last=1.0))  # fmt: skip
