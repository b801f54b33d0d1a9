"""Casts to 8 bits, and what products read. 60 tokens, 48 wide; one micro-batch a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulator.pricing.requests import MatrixProduct
from simulator.work.counts import counts_of
from simulator.work.program import Block
from simulator.work.tasks import Phase
from tests.work.asking import plain
from tests.work.small import launches, moved, named, small

_NAME = "casts to 8 bits"
_READ, _RETURNED = 48 + 48 + 48 + 80, 3 * 48 + 48 + 80 + 48
"""Widths that the four products of a layer read and return: into and out of attention and feed-forward layer."""
_WEIGHTS = 48 * 3 * 48 + 48 * 48 + 2 * 48 * 80
_KEPT_APART: dict[str, Any] = {"narrow_weight_bytes": 2.0}


def _layer(plan: dict[str, Any] | None = None, **how: Any) -> Block:
    split = {"precision": "fp8", "tp": 1, "dp": 8, "sequence_parallel": False, **(plan or {})}
    return small("gpt2-355m", split, **{"system": "dgx-h100", "fuses_casts": 0.0, **how}).groups[0]


def _cast(block: Block) -> tuple[float, float]:
    """Bytes that all casts of a layer move forward and backward."""
    each = [moved(operator) for operator in block.operators if operator.name == _NAME]
    return sum(ahead for ahead, _ in each), sum(back for _, back in each)


def test_inputs_and_gradients_of_outputs_are_cast() -> None:
    """Read in 16 bits, written twice in 8; weights likewise, once a step."""
    layer = _layer(**_KEPT_APART)
    assert _cast(layer) == (4 * (60 * _READ + _WEIGHTS), 4 * 60 * _RETURNED)
    assert launches(named(layer, _NAME)) == launches(named(layer, _NAME, 1)) == (2, 2)  # of attention, and of the rest
    assert _cast(_layer(narrow_weight_bytes=0.0)) == (4 * 60 * _READ, 4 * 60 * _RETURNED)


def test_weights_are_cast_once_a_step_or_after_each_gather() -> None:
    several = _cast(_layer({"micro_batch": 1}, **_KEPT_APART))
    assert several[0] == pytest.approx(4 * (20 * _READ + _WEIGHTS / 3))
    shared = _cast(_layer({"micro_batch": 1, "sharding": "zero3"}, gathers_each_pass=1.0))
    assert shared == pytest.approx((4 * (20 * _READ + _WEIGHTS), 4 * 20 * _RETURNED + 3 * _WEIGHTS))


def test_products_read_8_bits_and_return_16() -> None:
    request = named(_layer(), "feed-forward input").forward[0].request
    assert plain(request.moved_bytes) == 60 * 48 + 48 * 80 + 2 * 60 * 80  # type: ignore[union-attr]
    for operator in _layer({"precision": "bf16"}).operators:
        for call in (*operator.forward, *operator.backward):
            assert not isinstance(call.request, MatrixProduct) or call.request.input_bytes is None


@pytest.mark.parametrize(("precision", "taken"), [("mxfp8", 1 + 1 / 32), ("nvfp4", 0.5 + 1 / 16)])
def test_scales_of_blocks_move_too(precision: str, taken: float) -> None:
    layer = _layer({"precision": precision}, system="gb200-nvl72", narrow_weight_bytes=0.0)
    assert _cast(layer) == pytest.approx(((2 + 2 * taken) * 60 * _READ, (2 + 2 * taken) * 60 * _RETURNED))
    request = named(layer, "feed-forward input").forward[0].request
    assert plain(request.moved_bytes) == taken * (60 * 48 + 48 * 80) + 2 * 60 * 80  # type: ignore[union-attr]
    assert plain(named(layer, "feed-forward input").kept.saved) == taken * 60 * 48


def test_a_scale_of_now_costs_another_reading() -> None:
    """Elements are read for their largest number, and once more to be cast into two copies."""
    current = _layer({"fp8_scaling": "current"}, narrow_weight_bytes=0.0)
    assert _cast(current) == ((2 * 2 + 2) * 60 * _READ, (2 * 2 + 2) * 60 * _RETURNED)
    delayed, named_so = (_layer(plan, narrow_weight_bytes=0.0) for plan in ({}, {"fp8_scaling": "delayed"}))
    assert _cast(delayed) == _cast(named_so) == ((2 + 2) * 60 * _READ, (2 + 2) * 60 * _RETURNED)


def test_kernels_that_make_what_is_cast_find_its_scale_on_the_way() -> None:
    """With delayed scales they write two copies of 8 bits in place of 16, with those of now all but the reading."""
    delayed, current = (
        _cast(_layer({"fp8_scaling": scaling}, narrow_weight_bytes=0.0, fuses_casts=1.0))[0]
        for scaling in ("delayed", "current")
    )
    alone = 60 * 48  # what attention returns, which no such kernel makes
    assert delayed == (2 + 2) * alone
    assert current == (2 * 2 + 2) * alone + (2 + 2) * 60 * (_READ - 48)


def test_blocks_have_scales_of_their_own() -> None:
    """A scale in fp32 for 128 elements: 33/32 of a byte, kept and read."""
    layer = _layer({"fp8_scaling": "blockwise"}, narrow_weight_bytes=0.0)
    taken = 1 + 4 / 128
    assert _cast(layer) == pytest.approx(((2 + 2 * taken) * 60 * _READ, (2 + 2 * taken) * 60 * _RETURNED))
    assert plain(named(layer, "feed-forward input").kept.saved) == taken * 60 * 48


def test_no_casts_in_16_bits_nor_of_layers_that_stay_there() -> None:
    names = {operator.name for operator in _layer({"precision": "bf16"}).operators}
    assert _NAME not in names
    half = _layer({"layers_in_16_bits": 1}, narrow_weight_bytes=0.0)
    assert _cast(half) == (2 * 60 * _READ, 2 * 60 * _RETURNED)
    wide = [
        task.request
        for task in half.tasks
        if isinstance(task.request, MatrixProduct) and task.request.wide and task.name == "feed-forward input"
    ]
    assert wide
    assert all(request.input_bytes is None for request in wide)


def test_frozen_weights_need_no_transposed_copies() -> None:
    """Nothing is cast for a gradient of weights that nobody wants, and gradients once."""
    work = {"lora_rank": 4, "lora_targets": "attention"}
    assert _cast(_layer(workload=work, **_KEPT_APART)) == (3 * 60 * _READ, 3 * 60 * _RETURNED)


def test_what_is_recomputed_is_cast_again() -> None:
    tasks = _layer({"recompute": "full"}).tasks
    again = [task for task in tasks if task.name == _NAME and task.phase is Phase.RECOMPUTE]
    assert [plain(task.count) for task in again] == [1, 1]
    module = _layer({"recompute": "selective", "recompute_modules": ["mlp"]})
    part = [task for task in module.tasks if task.name == _NAME and task.phase is Phase.RECOMPUTE]
    ahead = sum(plain(task.count) for task in module.tasks if task.name == _NAME and task.phase is Phase.FORWARD)
    assert (len(part), ahead) == (1, 2)
    assert float(np.asarray(part[0].request.moved_bytes)) >= 4 * 60 * (48 + 80)  # type: ignore[union-attr]


def test_arithmetic_stays() -> None:
    """FLOPs and parameters are those of 16 bits."""
    split = {"tp": 1, "dp": 8, "sequence_parallel": False}
    narrow, wide = (
        counts_of(small("gpt2-355m", {**split, "precision": each}, system="dgx-h100")) for each in ("fp8", "bf16")
    )
    assert plain(narrow.model_flops) == plain(wide.model_flops)
    assert plain(narrow.parameters) == plain(wide.parameters)
