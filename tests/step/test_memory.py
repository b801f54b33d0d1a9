"""What memory must do where a stack keeps more or less than torch does by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import simulator
from simulator.specs.stack import Stack
from simulator.step.memory import Memory, on_stage, peak
from simulator.work.program import program_of
from simulator.work.transformer import Scenarios
from tests.stacks import unrestricted

_GIB = 2.0**30


def _scenarios(
    plan: dict[str, Any] | None = None, model: Any = "gpt2-355m", stack: str = "megatron-lm", **changes: Any
) -> Scenarios:
    software: Stack = unrestricted(stack).model_copy(update=changes)
    asked = {"tp": 1, "pp": 1, "micro_batch": 2, "recompute": "none", "sharding": "none", **(plan or {})}
    work = {"sequence_length": 1024, "global_batch": 64}
    return simulator.resolve(model, "dgx-a100-640gb", devices=8, plan=asked, stack=software, workload=work).columns()


def _memory(*arguments: Any, **changes: Any) -> Memory:
    scenarios = _scenarios(*arguments, **changes)
    return peak(program_of(scenarios))


def _float(value: Any) -> float:
    return float(np.asarray(value).item())


def _kept(*arguments: Any, **changes: Any) -> float:
    return _float(_memory(*arguments, **changes).activations)


def test_automatic_casts_keep_weights_twice_and_a_wider_stream() -> None:
    plan = {"precision": "fp16", "parameters_in_fp32": True}
    pure = _memory(plan, stack="pytorch-ddp", autocast=False)
    cast = _memory(plan, stack="pytorch-ddp", autocast=True)
    assert _float(cast.parameters) == pytest.approx(1.5 * _float(pure.parameters), rel=0.002)
    assert _float(cast.parameters) < 1.5 * _float(pure.parameters)  # normalisations and positions are not cast
    assert _float(cast.activations) > _float(pure.activations)
    full = {"precision": "fp32"}
    assert _memory(full, stack="pytorch-ddp", autocast=True) == _memory(full, stack="pytorch-ddp", autocast=False)


def test_an_activation_function_in_single_operations_keeps_its_factors() -> None:
    width = 24 * 2 * 1024 * 4096 * 2.0
    assert _kept(activation_copies=2.0) - _kept(activation_copies=0.0) == pytest.approx(2.0 * width)


def test_a_fused_gate_keeps_its_inputs_only() -> None:
    model = {"base": "llama-2-7b", "layers": 4}
    saved = _kept(None, model, fused_gate=False) - _kept(None, model, fused_gate=True)
    assert saved == pytest.approx(4 * 2 * 1024 * 11008 * 2.0)


def test_a_loss_in_pieces_keeps_no_logits() -> None:
    with_logits, without = (_memory(keeps_logits=keeps) for keeps in (True, False))
    logits = 2 * 1024 * 50257 * 4.0
    assert _float(with_logits.activations) - _float(without.activations) == pytest.approx(logits, rel=0.01)
    assert _float(with_logits.buffers) > _float(without.buffers)


def test_16_bit_gradients_beside_their_sums() -> None:
    plan = {"precision": "bf16", "gradients_in_fp32": True}
    both, sums = (_memory(plan, keeps_16_bit_gradients=keeps) for keeps in (True, False))
    assert _float(both.gradients) == pytest.approx(1.5 * _float(sums.gradients))


def test_the_optimizer_works_when_activations_are_gone() -> None:
    few, many = (_memory({"micro_batch": size}, optimizer_copies=4.0) for size in (1, 8))
    none = _memory({"micro_batch": 1}, optimizer_copies=0.0)
    assert _float(few.buffers) > _float(none.buffers)
    assert _float(many.buffers) == _float(_memory({"micro_batch": 8}, optimizer_copies=0.0).buffers)


def test_buckets_are_held_all_the_time() -> None:
    held = _float(_memory(communication_buffers=_GIB).buffers) - _float(_memory(communication_buffers=0.0).buffers)
    assert held == pytest.approx(_GIB)


def test_ranks_that_share_checkpoints() -> None:
    plan = {"tp": 4, "recompute": "full", "sequence_parallel": False}
    alone, shared = (_kept(plan, shares_checkpoints=shares, keeps_logits=False) for shares in (False, True))
    checkpoints = 24 * 2 * 1024 * 1024 * 2.0
    assert alone - shared == pytest.approx(0.75 * checkpoints)


def test_a_head_that_counts_as_layers_leaves_fewer_to_the_last_stage() -> None:
    scenarios = _scenarios({"pp": 4}, {"base": "gpt2-355m", "vocabulary_size": 200_000}, balances_head=True)
    program = program_of(scenarios)
    first, last = (_float(on_stage(program, stage).parameters) for stage in (0.0, 3.0))
    table = 200_000 * 1024 * 2.0
    assert first - table > last - table


def test_a_second_stage_with_more_layers_is_not_overlooked() -> None:
    scenarios = _scenarios(
        {"pp": 8, "dp": 1, "micro_batch": 8}, {"base": "gpt2-355m", "layers": 17, "vocabulary_size": 5000}
    )
    program = program_of(scenarios)
    stages = [_float(on_stage(program, float(stage)).total) for stage in range(8)]
    assert stages[1] > max(stages[0], stages[7])
    assert _float(peak(program).total) == max(stages)
