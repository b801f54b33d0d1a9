"""Bytes of optimizer states worked out by hand: formats of moments, scales, factors, and what ranks share of them.

On one rank each of two layers has four matrices of 48 x 48, one of 80 x 48 and one of 48 x 80, and vectors; there are
a table of 101 words and one of 40 positions, and the normalisation of the head.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulator.step.memory import on_stage, peak
from simulator.work.program import Program
from tests.work.asking import plain
from tests.work.small import small

_ALONE: dict[str, Any] = {"tp": 1, "dp": 8, "sequence_parallel": False, "micro_batch": 1, "sharding": "none"}
_HIDDEN = 2 * (4 * 48 * 48 + 2 * 48 * 80)
_TABLES = (101 + 40) * 48
_VECTORS = 2 * (4 * 48 + 80 + 48 + 4 * 48) + 2 * 48
_ALL = _HIDDEN + _TABLES + _VECTORS
_ROWS = 2 * (3 * 48 + 48 + 80 + 48) + 101 + 40
_COLUMNS = 2 * (48 + 48 + 48 + 80) + 2 * 48
"""Queries, keys and values are one matrix of 144 x 48."""


def _gpt(optimizer: str, plan: dict[str, Any] | None = None, **how: Any) -> Program:
    sizes = {"position_rows": 40, **how.pop("sizes", {})}
    return small("gpt2-355m", {**_ALONE, "optimizer": optimizer, **(plan or {})}, sizes=sizes, **how)


def _states(optimizer: str, plan: dict[str, Any] | None = None, **how: Any) -> float:
    """Bytes of the states without master copies."""
    return plain(on_stage(_gpt(optimizer, {"master_weights": False, **(plan or {})}, **how), 0.0).optimizer)


@pytest.mark.parametrize(
    ("optimizer", "each"),
    [
        ("adamw", 8),
        ("lamb", 8),
        ("adam-bf16", 4),
        ("lion", 4),
        ("sgd", 4),
        ("adam-fp8", 2),
        ("sgd-without-momentum", 0),
    ],
)
def test_states_that_are_alike_of_every_parameter(optimizer: str, each: int) -> None:
    assert _states(optimizer) == each * _ALL
    for sharding, group in (("zero1", 8), ("zero3", 8)):
        assert _states(optimizer, {"sharding": sharding}) == each * _ALL / group


def test_muon_has_one_moment_of_hidden_matrices() -> None:
    assert _states("muon") == 4 * _HIDDEN + 8 * (_TABLES + _VECTORS)
    assert _states("muon", {"sharding": "zero3"}) == _states("muon") / 8


def test_factors_of_matrices() -> None:
    assert _states("adafactor") == 4 * (_ROWS + _COLUMNS + _VECTORS)
    assert _states("adafactor-with-momentum") == _states("adafactor") + 4 * _ALL
    apart = _states("adafactor", fused_qkv=0.0)
    assert apart == _states("adafactor") + 4 * 2 * 2 * 48


def test_factors_among_ranks() -> None:
    """Owners have whole tensors, rows are cut with their matrix, and a flat buffer has neither rows nor columns."""
    assert _states("adafactor", {"sharding": "zero1"}) == _states("adafactor") / 8
    assert _states("adafactor", {"sharding": "zero3"}) == 4 * (_ROWS / 8 + _COLUMNS + _VECTORS / 8)
    for sharding in ("zero1", "zero3"):
        assert _states("adafactor", {"sharding": sharding}, flat_shards=1.0) == 4 * _ALL / 8
    assert _states("adafactor", flat_shards=1.0) == _states("adafactor")


def test_factors_of_experts_among_those_that_hold_them() -> None:
    """Of 8 experts each of 4 ranks has 2, which 2 replicas share."""
    how: dict[str, Any] = {"sizes": {"key_value_heads": 6, "position_rows": 0}}

    def states(plan: dict[str, Any]) -> float:
        plan = {**_ALONE, "master_weights": False, "optimizer": "adafactor", "micro_batch": 1, **plan}
        return plain(on_stage(small("mixtral-8x7b", plan, **how), 0.0).optimizer)

    def experts(number: float) -> float:
        return 2 * number * 4 * (2 * 80 + 48 + 48 + 80)

    alone = states({}) - experts(8)
    assert states({"ep": 4}) == alone + experts(2)
    assert states({"ep": 4, "sharding": "zero1"}) == pytest.approx(alone / 8 + experts(1), rel=1e-12)


def test_states_in_8_bits_have_scales_and_leave_small_tensors_wide() -> None:
    """Of 4,096 elements on: a matrix of 144 x 48 has 27 blocks of 256; positions and vectors stay in fp32."""
    small_ones = 2 * 48 * 48 + 2 * 2 * 48 * 80 + 40 * 48 + _VECTORS
    scaled = 2 * 144 * 48 + 101 * 48
    assert small_ones + scaled == _ALL
    scales = 2 * 27 + np.ceil(101 * 48 / 256)
    assert _states("adam-8bit") == 8 * small_ones + 2 * scaled + 8 * scales
    assert _states("adam-8bit", wide_table_states=1.0) == 8 * (small_ones + 101 * 48) + 2 * 2 * 144 * 48 + 8 * 2 * 27
    assert _states("adam-8bit", {"sharding": "zero1"}) == _states("adam-8bit") / 8


@pytest.mark.parametrize(("precision", "kept"), [("bf16", 2), ("fp8", 2), ("fp16", 4)])
@pytest.mark.parametrize("optimizer", ["adam-bf16", "adam-fp8"])
def test_master_copies_of_bf16_parameters_are_split(optimizer: str, precision: str, kept: int) -> None:
    plan = {"precision": precision, "sharding": "zero1", "master_weights": True}
    how: dict[str, Any] = {"system": "dgx-h100"}

    def states(name: str, splits: float) -> float:
        return plain(on_stage(_gpt(name, plan, splits_master_weights=splits, **how), 0.0).optimizer)

    assert states(optimizer, 0.0) - states(optimizer, 1.0) == (4 - kept) * _ALL / 8
    assert states("adamw", 0.0) == states("adamw", 1.0)


def test_what_an_update_makes_besides() -> None:
    """Where activations are few: fp32 copies of moments in fp8, and the matrix that Muon works on."""
    how: dict[str, Any] = {"workload": {"sequence_length": 1, "global_batch": 8}, "communication_buffers": 0.0}

    def buffers(optimizer: str) -> float:
        memory = peak(_gpt(optimizer, {"sharding": "none"}, optimizer_copies=0.0, **how))
        return plain(memory.buffers + memory.activations)

    assert buffers("adam-fp8") == 8 * _ALL
    assert buffers("muon") == 8 * 48 * 80 + 4 * 48 * 48


def test_stages_of_a_pipeline_have_their_own_tensors() -> None:
    piped = _gpt("adafactor", {"pp": 2, "dp": 4, "master_weights": False})
    layer = 4 * (144 + 48 + 48 + 48 + 80 + 48 + 48 + 80 + 4 * 48 + 80 + 48 + 4 * 48)
    assert plain(on_stage(piped, 0.0).optimizer) == layer + 4 * (101 + 40 + 2 * 48)
    assert plain(on_stage(piped, 1.0).optimizer) == layer + 4 * (2 * 48 + 101 + 48)


def test_gradients_that_an_optimizer_in_the_backward_pass_leaves() -> None:
    """Of eight ranks that share all, an eighth of one layer; its matrices are gathered and its gradients scattered."""
    plan = {"sharding": "zero3", "micro_batch": 3, "optimizer_in_backward": True}
    layer = 4 * 48 * 48 + 2 * 48 * 80 + 4 * 48 + 80 + 48 + 4 * 48
    freed, whole = (_gpt("adamw", {**plan, "optimizer_in_backward": flag}) for flag in (True, False))
    assert plain(on_stage(freed, 0.0).gradients) == 2 * layer / 8
    assert plain(on_stage(whole, 0.0).gradients) == 2 * _ALL / 8
    assert plain(on_stage(freed, 0.0).optimizer) == plain(on_stage(whole, 0.0).optimizer)


@pytest.mark.parametrize(("optimizer", "sweeps"), [("adamw", (1, 2)), ("lamb", (2, 3)), ("sgd", (1, 2))])
def test_clipping_reads_gradients_once_more(optimizer: str, sweeps: tuple[int, int]) -> None:
    programs = [_gpt(optimizer, {"clip_gradients": clip}) for clip in (False, True)]
    assert tuple(plain(program.scenarios.plans.gradient_sweeps) for program in programs) == sweeps
    usual = plain(_gpt(optimizer).scenarios.plans.gradient_sweeps)
    assert usual == {"adamw": 2, "lamb": 3, "sgd": 1}[optimizer]  # SGD is told without clipping
