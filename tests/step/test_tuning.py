"""What is not trained has no gradient, no states and no reduction; what there is of it all devices hold together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import simulator
from simulator.formulas.states import quantised_bytes
from simulator.pricing.requests import Collective, MatrixProduct, Stream, StreamKind
from simulator.step.memory import on_stage
from simulator.work.counts import counts_of
from simulator.work.once import on_stage as held_on
from simulator.work.once import once_a_step
from simulator.work.program import Program, program_of
from tests.stacks import unrestricted

_QLORA = {"lora_rank": 16, "lora_targets": "all-linear", "base_precision": "nf4"}
_BLOCKS = 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
"""Weights of the linear layers of Llama 3.1 8B, of all that it has."""
_ALL = 8_030_261_248
_ADAPTERS = 32 * 16 * (2 * 8192 + 2 * 5120 + 3 * 18432)
"""Of rank 16 beside all of them."""


def _program(work: dict[str, Any], devices: int = 1, stack: str = "huggingface", **plan: Any) -> Program:
    scenario = simulator.resolve(
        "llama-3.1-8b",
        "dgx-h100",
        devices=devices,
        stack=unrestricted(stack),
        plan={"micro_batch": 1, "recompute": "none", "precision": "bf16", **plan},
        workload={"sequence_length": 1024, "global_batch": 64, **work},
    )
    return program_of(scenario.columns())


def test_adapters_of_llama_3_8b_of_rank_16() -> None:
    counts = counts_of(_program(_QLORA))
    assert counts.trained_parameters == _ADAPTERS == 41_943_040
    assert counts.parameters == _ALL + _ADAPTERS


def test_magnitudes_are_one_for_each_output() -> None:
    outputs = 32 * (4096 + 2 * 1024 + 4096 + 2 * 14336 + 4096)
    counts = counts_of(_program({**_QLORA, "dora": True}))
    assert counts.trained_parameters == _ADAPTERS + outputs


def test_magnitudes_take_time_and_room_for_whole_weights() -> None:
    """The widest matrix three times in 16 bits, and a unit matrix as wide as what it reads."""
    plain, scaled = (_program({**_QLORA, "dora": dora}, recompute="full") for dora in (False, True))
    widest = 14336  # of what the matrix out of the feed-forward layer reads
    wide = 2 * (3 * 14336 * 4096 + widest**2)
    assert scaled.largest_layer.widest_passing == wide
    assert plain.largest_layer.widest_passing == 0.0
    assert on_stage(scaled, 0.0).buffers - on_stage(plain, 0.0).buffers >= wide
    assert scaled.model_flops > plain.model_flops


def test_virtual_tokens() -> None:
    prompt = _program({"train": "prompt", "virtual_tokens": 20})
    assert counts_of(prompt).trained_parameters == 20 * 4096
    assert prompt.scenarios.workloads.sequence_length == 1044
    longer = _program({"train": "prompt", "virtual_tokens": 1, "sequence_length": 1043})
    assert prompt.model_flops == longer.model_flops
    prefix = _program({"train": "prefix", "virtual_tokens": 20})
    assert counts_of(prefix).trained_parameters == 20 * 32 * 2 * 1024
    # Of each of 32 layers two products of scores forward, four backward and one again: 20 keys more.
    more = 32 * 2 * 1024 * 20 * 4096
    none = _program({"train": "prefix", "virtual_tokens": 10})
    assert prefix.model_flops - none.model_flops == 6 * more / 2
    assert on_stage(prefix, 0.0).gradients == 20 * 32 * 2 * 1024 * 4


def test_a_reference_sees_no_virtual_tokens() -> None:
    work = {"train": "prompt", "virtual_tokens": 20, "preference": "dpo", "global_batch": 64}
    frozen = _program(work, micro_batch=2).frozen
    assert frozen is not None
    assert frozen.scenarios.workloads.sequence_length == 1024
    assert counts_of(frozen).parameters == _ALL


@pytest.mark.parametrize(
    ("precision", "bits"), [("nf4", 4.5), ("nf4-double", 4 + 8 * (1 + 4 / 256) / 64), ("fp8", 8.0), (None, 16.0)]
)
def test_bytes_of_a_frozen_weight(precision: str | None, bits: float) -> None:
    held = on_stage(_program({**_QLORA, "base_precision": precision}), 0.0)
    outside = (_ALL - _BLOCKS) * 2  # embedding, head and normalisations stay in 16 bits
    assert held.parameters == _BLOCKS * bits / 8 + outside + _ADAPTERS * 4
    assert held.gradients == _ADAPTERS * 4
    assert held.optimizer == _ADAPTERS * 8


def test_int8_has_a_scale_for_each_row() -> None:
    held = on_stage(_program({**_QLORA, "base_precision": "int8"}), 0.0)
    scales = 32 * 4 * (2 * 4096 + 2 * 1024 + 2 * 14336 + 4096)
    assert held.parameters == _BLOCKS + scales + (_ALL - _BLOCKS) * 2 + _ADAPTERS * 4


def test_double_quantisation_takes_4_127_bits() -> None:
    double = quantised_bytes(1.0, weight_bytes=0.5, scale_bytes=1 + 4 / 256, scale_block=64.0)
    assert round(8 * float(double), 3) == 4.127  # QLoRA, section 3: 0.5 - 0.373 bits beside 4


@pytest.mark.parametrize("tp", [2, 4, 8])
@pytest.mark.parametrize("train", [_QLORA, {"lora_rank": 16, "lora_targets": "attention"}, {"train": "head"}])
def test_ranks_share_parameters_and_arithmetic(train: dict[str, Any], tp: int) -> None:
    one, split = (_program(train, degree, "megatron-lm", tp=degree, dp=1) for degree in (1, tp))
    assert counts_of(split).executed_flops == counts_of(one).executed_flops
    trained, held = (np.asarray(getattr(split.together, name)) for name in ("trained_parameters", "parameters"))
    of_one = one.together
    assert trained * tp == of_one.trained_parameters
    norms = held * tp - np.asarray(of_one.parameters)
    assert norms == (tp - 1) * 65 * 4096  # which every rank has
    assert split.together.quantised_bytes * tp == pytest.approx(of_one.quantised_bytes)


@pytest.mark.parametrize("sharding", ["zero1", "zero2", "zero3"])
def test_replicas_share_states_of_what_is_trained_and_parameters_of_all(sharding: str) -> None:
    held = on_stage(_program(_QLORA, 8, dp=8, sharding=sharding), 0.0)
    whole = on_stage(_program(_QLORA, 8, dp=8, sharding="none"), 0.0)
    assert held.optimizer == whole.optimizer / 8
    assert held.gradients == (whole.gradients if sharding == "zero1" else whole.gradients / 8)
    assert held.parameters == (whole.parameters / 8 if sharding == "zero3" else whole.parameters)


@pytest.mark.parametrize("sharding", ["none", "zero1"])
@pytest.mark.parametrize(("train", "trained"), [(_QLORA, _ADAPTERS), ({"train": "head"}, 128256 * 4096)])
def test_gradients_are_reduced_of_what_is_trained(train: dict[str, Any], trained: int, sharding: str) -> None:
    program = _program(train, 8, dp=8, sharding=sharding, reduction_in_fp32=True)
    tasks = once_a_step(program, held_on(program, first=1.0, last=1.0))
    reduced = [
        float(np.asarray(task.count)) * float(np.asarray(task.request.message_bytes))
        for task in tasks
        if isinstance(task.request, Collective) and task.name == "gradients"
    ]
    assert sum(reduced) == trained * 4


def test_the_optimizer_moves_what_is_trained() -> None:
    moved = {}
    for name, train in (("lora", _QLORA), ("full", {})):
        program = _program(train)
        tasks = once_a_step(program, held_on(program, first=1.0, last=1.0))
        streams = [task.request for task in tasks if isinstance(task.request, Stream)]
        moved[name] = float(sum(np.asarray(request.moved_bytes) for request in streams))
    assert moved["lora"] / moved["full"] == pytest.approx(_ADAPTERS / _ALL)


def test_weights_are_made_again_for_each_product() -> None:
    """Forward, again and backward; held bytes are read and 16-bit ones written."""
    program = _program(_QLORA, recompute="full")
    kinds = [
        float(np.asarray(task.count)) * float(np.asarray(task.request.moved_bytes)) * float(np.asarray(block.number))
        for block in program.blocks
        for task in block.tasks
        if isinstance(task.request, Stream) and task.request.kind is StreamKind.DEQUANTISATION
    ]
    assert sum(kinds) == pytest.approx(3 * _BLOCKS * (4.5 / 8 + 2))


def test_products_in_fp8_take_weights_in_fp8_as_they_are() -> None:
    work = {**_QLORA, "base_precision": "fp8"}
    asked = {}
    for precision in ("fp8", "bf16"):
        program = _program(work, stack="megatron-lm", precision=precision)
        requests = [
            task.request for block in program.blocks for task in block.tasks if isinstance(task.request, Stream)
        ]
        made = [request.moved_bytes for request in requests if request.kind is StreamKind.DEQUANTISATION]
        asked[precision] = float(sum(np.asarray(size) for size in made))
    assert asked["fp8"] == 0.0
    assert asked["bf16"] > 0.0


def test_frozen_products_have_no_gradient_of_weights() -> None:
    layer = _program({"lora_rank": 16, "lora_targets": "attention"}).groups[0]
    of_weights = {
        task.name
        for task in layer.tasks
        if isinstance(task.request, MatrixProduct) and task.request.weight_gradient and np.any(task.count)
    }
    assert of_weights
    assert all(name.startswith("adapters") for name in of_weights)


def test_the_head_alone_runs_backward_no_further() -> None:
    program = _program({"train": "head"}, recompute="full")
    back = [
        task.name
        for block in (*program.groups, program.embedding)
        for task in block.tasks
        if task.phase.value != "forward" and np.any(np.asarray(task.count) * np.ones(1) > 0.0)
    ]
    assert back == []
    assert program.layers.saved_bytes == 0.0


def test_quantised_weights_cost_time_and_save_memory() -> None:
    answers = [
        simulator.estimate(
            "llama-3.1-8b",
            "rtx-3090",
            plan={"micro_batch": 1, "recompute": "full"},
            workload={"sequence_length": 2048, "global_batch": 16, "lora_rank": 16, "base_precision": precision},
        )
        for precision in (None, "nf4")
    ]
    plain, few = answers
    assert few.step_time_s > plain.step_time_s
    assert few.model_flops_per_step == plain.model_flops_per_step
    assert few.fits
    assert 6.0 < few.memory_bytes["total"] / 2**30 < 13.0
    assert plain.memory_bytes["total"] - few.memory_bytes["total"] > 9 * 2**30
    assert few.trained_parameters == _ADAPTERS


def test_conventions_count_what_is_done() -> None:
    """4 N of frozen weights and 6 N of adapters; behind a head alone 2 N, and no backward pass of attention."""
    sizes = {"plan": {"micro_batch": 1, "tp": 1, "dp": 8}, "workload": {"sequence_length": 1024, "global_batch": 64}}
    answers = {}
    for name, train in (("full", {}), ("lora", {"lora_rank": 16}), ("head", {"train": "head"})):
        work = {**sizes["workload"], **train}
        answers[name] = simulator.estimate("llama-3.1-8b", "dgx-h100", plan=sizes["plan"], workload=work)
    tokens, attention = 64 * 1024, 12 * 32 * 32 * 128 * 1024
    head = 128256 * 4096
    flops = {name: answer.mfu_by_convention["palm"] * answer.step_time_s for name, answer in answers.items()}
    peak = 6 * _ALL * tokens + attention * tokens
    unit = flops["full"] / peak
    assert flops["lora"] == pytest.approx(unit * tokens * (4 * _ALL + 6 * _ADAPTERS + attention))
    assert flops["head"] == pytest.approx(unit * tokens * (2 * _ALL + 2 * head + attention / 3))
