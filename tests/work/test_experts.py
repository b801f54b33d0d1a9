"""Experts: the busiest rank, capacities, padding, and calls of the stack. 60 tokens, 2 of 8 experts each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulator.formulas.flops import busiest_rank
from simulator.pricing.requests import Collective, MatrixProduct, Stream
from simulator.specs.stack import IN_ONE_KERNEL
from simulator.work.counts import counts_of
from simulator.work.operators import Operator
from simulator.work.program import Program, program_of
from tests.work.asking import plain
from tests.work.small import counts, launches, moved, named, saved, sizes, small

_SENT = 30 * 2 * 48 * 2
"""Bytes that a rank of two sends to experts: half of the tokens, twice each."""


def _experts(
    ep: int = 4, plan: dict[str, Any] | None = None, workload: dict[str, Any] | None = None, **stack: float
) -> Program:
    split = {"ep": ep, **(plan or {})}
    return small("mixtral-8x7b", split, sizes={"key_value_heads": 6}, workload=workload or {}, **stack)


def _layer(*arguments: Any, **stack: Any) -> dict[str, Operator]:
    block = _experts(*arguments, **stack).groups[0]
    return {each.name: named(block, each.name) for each in block.operators}


def _flops(operator: Operator) -> list[float]:
    """Arithmetic of each call, forward and backward."""
    requests = [call.request for call in (*operator.forward, *operator.backward)]
    return [plain(request.flops) for request in requests if isinstance(request, MatrixProduct)]


def _asked(operator: Operator) -> Any:
    return operator.forward[0].request


def test_the_busiest_rank_paces_products_messages_and_memory() -> None:
    """Of 8 experts on 4 ranks one has twice the mean; FLOPs and bytes of messages stay those of the mean."""
    how = {"sends_once": 1.0, "weighs_activations": 0.0}
    even, uneven = _layer(**how), _layer(workload={"expert_imbalance": 2.0}, **how)
    load = float(busiest_rank(2.0, 8, ranks=4))
    assert load == pytest.approx(1.45, abs=0.05)
    for name in ("feed-forward input", "feed-forward output"):
        assert sizes(uneven[name])[0] == pytest.approx(60 * load)
        assert plain(_asked(uneven[name]).computed_flops) == pytest.approx(load * plain(_asked(even[name]).flops))
        assert _flops(uneven[name]) == pytest.approx(_flops(even[name]))
    across = _asked(uneven["all-to-all of experts"])
    assert isinstance(across, Collective)
    assert (plain(across.message_bytes), plain(across.busiest)) == (_SENT, pytest.approx(load))
    assert plain(across.paced_bytes) == pytest.approx(load * _SENT)
    for name in ("feed-forward input", "feed-forward output"):
        assert saved(uneven[name]) == pytest.approx(load * saved(even[name]))
    assert moved(uneven["activation function"])[0] == pytest.approx(load * moved(even["activation function"])[0])
    tokens = "dispatch and combination of tokens"
    assert moved(uneven[tokens])[0] == pytest.approx(load * 4 * 2 * _SENT)  # both ranks have what each was sent
    assert saved(uneven[tokens]) == saved(even[tokens]) == _SENT


def test_weights_of_the_router_scale_outputs_or_activations() -> None:
    """A rank routes 30 tokens twice each; its 2 experts have 30 rows each, 40 of the 80 widths of each input."""
    outside, inside = (_layer(weighs_activations=flag) for flag in (0.0, 1.0))
    tokens = "dispatch and combination of tokens"
    assert (saved(outside[tokens]), saved(inside[tokens])) == (_SENT, 0.0)
    assert saved(inside["router"]) - saved(outside["router"]) == 30 * 2 * (4 - 2)
    assert saved(outside["activation function"]) == saved(inside["activation function"])  # a fused gate makes it again
    apart = [_layer(weighs_activations=flag, fused_gate=0.0)["activation function"] for flag in (0.0, 1.0)]
    assert saved(apart[1]) - saved(apart[0]) == 2 * 30 * 80 * 2


def test_inputs_of_a_gate_in_8_bits() -> None:
    """Both inputs are read in 16 bits, written once in 8 and read so in the backward pass."""
    wide, narrow = (_layer(plan={"activation_inputs_in_fp8": flag})["activation function"] for flag in (False, True))
    elements = 2 * 2 * 30 * 80
    assert (saved(wide), saved(narrow)) == (2 * elements, elements)
    ahead, back = (narrow - wide for narrow, wide in zip(moved(narrow), moved(wide), strict=True))
    assert (ahead, back) == (elements, -elements)


@pytest.mark.parametrize(("casts", "kept"), [(0.0, 2.0), (1.0, 1.0)])
def test_recomputed_activations_keep_what_they_read_as_the_stack_does(casts: float, kept: float) -> None:
    plan = {"activation_inputs_in_fp8": True, "recompute": "selective", "recompute_modules": ["moe_act"]}
    layer = _layer(plan=plan, casts_repeated_inputs=casts)
    assert dict(layer["activation function"].kept.repeated_in)["moe_act"] == kept * 2 * 2 * 30 * 80


def test_one_rank_has_all_tokens_however_they_fall() -> None:
    even, uneven = _layer(1), _layer(1, workload={"expert_imbalance": 4.0})
    for name, one in even.items():
        other = uneven[name]
        if isinstance(_asked(one), MatrixProduct):
            assert sizes(one) == pytest.approx(sizes(other))
        if isinstance(_asked(one), Stream):
            assert moved(one) == pytest.approx(moved(other))
        assert saved(one) == pytest.approx(saved(other))
    assert counts(uneven["all-to-all of experts"]) == (0, 0)


@pytest.mark.parametrize("of", ["workload", "stack"])
def test_a_capacity_decides_whatever_the_routing(of: str) -> None:
    """GShard and Switch: each expert has 1.25 times the mean, filled up, so that no rank is busier than another."""
    told = {"workload": {"expert_imbalance": 3.0}, "capacity_factor": 1.25}
    if of == "workload":
        told = {"workload": {"expert_imbalance": 3.0, "capacity_factor": 1.25}, "capacity_factor": 2.0}
    layer, even = _layer(sends_once=1.0, **told), _layer(sends_once=1.0)
    assert sizes(layer["feed-forward input"]) == pytest.approx((75, 80, 48, 2, 1))
    assert plain(_asked(layer["feed-forward input"]).flops) == plain(_asked(even["feed-forward input"]).flops)
    across = _asked(layer["all-to-all of experts"])
    assert (plain(across.message_bytes), plain(across.busiest)) == (1.25 * _SENT, 1.0)
    assert moved(layer["dispatch and combination of tokens"])[0] == 2 * 5 * _SENT
    # Both tensor-parallel ranks gather what was sent to each, and keep it in full.
    assert saved(layer["feed-forward input"]) == 2 * 1.25 * _SENT
    unlimited = _layer(workload={"expert_imbalance": 3.0, "capacity_factor": 0.0}, capacity_factor=1.25)
    assert sizes(unlimited["feed-forward input"])[0] == pytest.approx(60 * float(busiest_rank(3.0, 8, ranks=4)))


@pytest.mark.parametrize(
    ("at_once", "calls", "called", "launched", "modules"),
    [(IN_ONE_KERNEL, 8, 1, 1, 1), (4.0, 4, 2, 8, 1), (3.0, 8 / 3, 3, 8, 1), (1.0, 1, 8, 8, 8)],
    ids=["grouped", "on four streams", "on three", "looped"],
)
def test_how_products_of_experts_are_launched(
    at_once: float, calls: float, called: float, launched: float, modules: float
) -> None:
    """8 experts on one rank: in one call, four by four, or one by one; parameters and FLOPs are the same."""
    layer, grouped = _layer(1, experts_at_once=at_once), _layer(1)
    for name in ("feed-forward input", "feed-forward output"):
        assert sizes(layer[name])[3:] == pytest.approx((calls, called))
        assert launches(layer[name]) == (launched, launched)
        assert layer[name].kept == grouped[name].kept
    kernels = launches(grouped["activation function"])
    assert launches(layer["activation function"]) == tuple(modules * each for each in kernels)


def test_streams_serve_no_more_experts_than_there_are() -> None:
    """Two experts on a rank run together on four streams, and are launched one by one."""
    layer = _layer(4, experts_at_once=4.0)
    assert sizes(layer["feed-forward input"])[3:] == (2, 1)
    assert launches(layer["feed-forward input"]) == (2, 2)


def test_tokens_of_each_expert_are_filled_up() -> None:
    """To 8 in 16 bits, to 16 in 8 bits, where they are copied for it; padding is no arithmetic of the model."""
    padding = {"expert_padding": 8.0, "narrow_expert_padding": 16.0}
    wide, narrow = _layer(**padding), _layer(4, {"precision": "fp8"}, **padding, system="dgx-h100")
    assert sizes(wide["feed-forward input"])[0] == 63.5
    assert sizes(narrow["feed-forward input"])[0] == 67.5
    assert plain(_asked(wide["feed-forward input"]).flops) == pytest.approx(2 * 2 * 60 * 80 * 48)
    copied = _layer(4, {"precision": "fp8"}, narrow_expert_padding=1.0, system="dgx-h100")
    tokens = "dispatch and combination of tokens"
    assert moved(narrow[tokens])[0] - moved(copied[tokens])[0] == 2 * 4 * _SENT
    assert launches(narrow[tokens])[0] - launches(copied[tokens])[0] == 2


def test_received_tokens_are_sorted_where_a_rank_has_several_experts() -> None:
    """There and back, by both ranks of an expert what each was sent; a stack that sends a token once copies it where it
    arrives instead of where it comes from."""
    tokens = "dispatch and combination of tokens"
    passes = {
        name: (moved(layer[tokens])[0] / _SENT, launches(layer[tokens])[0])
        for name, layer in {
            "alone": _layer(1),
            "several": _layer(4),
            "one each": _layer(8, {"tp": 1, "dp": 8}),
            "once": _layer(4, sends_once=1.0),
        }.items()
    }
    assert passes == {"alone": (4, 4), "several": (12, 6), "one each": (8, 4), "once": (8, 4)}  # all tokens at tp 1


def test_tokens_may_go_to_experts_in_8_bits_and_come_back_in_16() -> None:
    """With a scale of 4 bytes for 128 elements; in 16 bits both ways where products are in 16."""
    fp8: Any = {"system": "dgx-h100", "narrow_dispatch": 1.0}
    there, back = "all-to-all to experts", "all-to-all from experts"
    layer = _layer(4, {"precision": "fp8"}, **fp8)
    assert "all-to-all of experts" not in layer
    sent = {name: plain(_asked(layer[name]).message_bytes) / _SENT for name in (there, back)}
    assert sent == {there: pytest.approx((1 + 4 / 128) / 2), back: 1}
    assert (counts(layer[there]), counts(layer[back])) == ((1, 1), (1, 1))
    assert sum(launches(layer[name])[0] for name in (there, back)) == 1
    wide = _layer(4, **fp8)
    assert plain(_asked(wide["all-to-all of experts"]).message_bytes) == _SENT
    assert counts(wide["all-to-all of experts"]) == (2, 2)


def test_groups_of_experts_reach_the_exchange() -> None:
    limits = {"expert_groups": 4, "groups_per_token": 2}
    program = small("mixtral-8x7b", {"ep": 4}, sizes={"key_value_heads": 6, **limits}, sends_once=1.0)
    asked = _asked(named(program.groups[0], "all-to-all of experts"))
    assert (plain(asked.expert_groups), plain(asked.groups_per_token)) == (4, 2)


@pytest.mark.parametrize("ep", [1, 4])
def test_ranks_of_an_expert_gather_what_each_of_them_was_sent(ep: int) -> None:
    """Permute, all-to-all, gather; and scatter, all-to-all back. Nothing is gathered again, nor for dense layers."""
    layer = _layer(ep, {}, {"expert_imbalance": 1.0}, regathers_inputs=1.0)
    across = _asked(layer["all-to-all of experts"])
    for name in ("all-gather of experts", "reduce-scatter of experts"):
        asked = _asked(layer[name])
        assert (plain(asked.degree), counts(layer[name])) == (2, (1, 1))
        assert plain(asked.message_bytes) == 2 * plain(across.message_bytes)
        # As many rows as the experts of a rank multiply together.
        rows = sizes(layer["feed-forward input"])
        assert plain(asked.message_bytes) == rows[0] * rows[3] * 48 * 2
    assert counts(layer["all-gather of a layer"]) == (1, 2)  # of attention, whose input is gathered again
    assert counts(layer["reduce-scatter of a layer"]) == (1, 1)


def test_shared_experts_gather_tokens_as_dense_layers_do() -> None:
    program = small("mixtral-8x7b", {"ep": 4}, sizes={"key_value_heads": 6, "shared_experts": 1}, regathers_inputs=1.0)
    layer = {each.name: named(program.groups[0], each.name) for each in program.groups[0].operators}
    assert counts(layer["all-gather of a layer"]) == (2, 4)
    assert counts(layer["all-gather of experts"]) == (1, 1)


def test_whole_experts_exchange_with_no_tensor_parallel_rank() -> None:
    layer = _layer(4, {"etp": 1})
    assert "all-gather of experts" not in layer
    assert counts(layer["reduce-scatter of a layer"]) == (1, 1)


def test_flops_are_those_of_the_mean() -> None:
    even = counts_of(_experts())
    for how in ({"expert_imbalance": 4.0}, {"capacity_factor": 2.0}):
        counted = counts_of(_experts(workload=how))
        assert plain(counted.model_flops) == pytest.approx(plain(even.model_flops))
        assert plain(counted.executed_flops) == pytest.approx(plain(even.executed_flops))
        assert plain(counted.parameters) == plain(even.parameters)


def test_many_plans_are_one_call() -> None:
    """Columns of imbalances and degrees broadcast."""
    scenarios = _experts().scenarios
    loads, ranks = np.array([1.0, 1.5, 4.0]), np.array([1.0, 2.0, 8.0])
    many = replace(
        scenarios,
        workloads=replace(scenarios.workloads, expert_imbalance=loads),
        plans=replace(scenarios.plans, ep=ranks),
    )
    rows = np.asarray(_asked(named(program_of(many).groups[0], "feed-forward input")).m)
    assert rows == pytest.approx(15 * ranks * busiest_rank(loads, 8, ranks=ranks))
