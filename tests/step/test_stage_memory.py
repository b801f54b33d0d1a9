"""Bytes of each stage of a small pipeline, worked out by hand.

One rank handles sequences of 20 tokens, 48 wide. A layer has 17,408 parameters and keeps 24,480 bytes of a micro-batch,
the embedding has 6,768 and keeps 960, and the head has 96 beside the tied table of 4,848 and keeps 12,080.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulator.step.memory import Memory, layers_on, on_stage, peak, peak_total
from simulator.work.program import Program
from tests.work.asking import plain
from tests.work.small import small

_LAYER, _EMBEDDING, _TABLE, _NORM = 17_408, 6_768, 101 * 48, 96
_KEPT, _MASK, _LOSS = 24_480, 960, 12_080
_INPUT, _LOGITS, _WIDEST = 20 * 48 * 2, 20 * 101 * 4, 20 * 80 * 2
_ALL = 2 * _LAYER + _EMBEDDING + _NORM
_NOTHING = dict.fromkeys(
    (
        "runtime_memory",
        "fragmentation",
        "communication_buffers",
        "logit_copies",
        "optimizer_copies",
        "early_optimizer_copies",
        "frees_gradients",
        "live_parameters",
        "keeps_ends_gathered",
        "narrow_weight_bytes",
        "keeps_16_bit_gradients",
        "shares_checkpoints",
        "balances_head",
    ),
    0.0,
)
_ALONE: dict[str, Any] = {
    "tp": 1,
    "dp": 8,
    "sequence_parallel": False,
    "micro_batch": 1,
    "sharding": "none",
    "gradients_in_fp32": False,
}
_PIPE: dict[str, Any] = {**_ALONE, "dp": 4, "pp": 2}


def _program(plan: dict[str, Any], base: str = "gpt2-355m", **how: Any) -> Program:
    sizes = {"position_rows": 40, **how.pop("sizes", {})}
    return small(base, plan, sizes=sizes, **{**_NOTHING, **how})


def _memory(plan: dict[str, Any], stage: float = 0.0, base: str = "gpt2-355m", **how: Any) -> Memory:
    memory = on_stage(_program(plan, base, **how), stage)
    return Memory(**{name: plain(value) for name, value in vars(memory).items()})


def test_states_of_one_device_that_holds_all() -> None:
    """Mixed precision with Adam: 2 + 2 + 12 bytes a parameter."""
    memory = _memory(_ALONE)
    assert (memory.parameters, memory.gradients, memory.optimizer) == (2 * _ALL, 2 * _ALL, 12 * _ALL)
    assert memory.activations == 2 * _KEPT + _MASK + _LOSS
    assert (memory.buffers, memory.reserved) == (0, 0)
    assert plain(memory.total) == 16 * _ALL + 2 * _KEPT + _MASK + _LOSS


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"gradients_in_fp32": True}, (2, 4, 12)),
        ({"parameters_in_fp32": True}, (4, 2, 8)),
        ({"optimizer": "sgd"}, (2, 2, 8)),
        ({"optimizer": "adam-bf16"}, (2, 2, 6)),
        ({"offload_optimizer": True}, (2, 2, 0)),
        ({"sharding": "zero1"}, (2, 2, 12 / 8)),
        ({"sharding": "zero2"}, (2, 2 / 8, 12 / 8)),
        ({"sharding": "zero3"}, (2 / 8, 2 / 8, 12 / 8)),
        ({"sharding": "hybrid", "sharding_group": 4}, (2 / 4, 2 / 4, 12 / 4)),
    ],
)
def test_bytes_of_a_parameter(changes: dict[str, Any], expected: tuple[float, ...]) -> None:
    memory = _memory({**_ALONE, **changes})
    assert (memory.parameters, memory.gradients, memory.optimizer) == pytest.approx([each * _ALL for each in expected])


def test_adafactor_keeps_a_row_and_a_column_of_each_matrix() -> None:
    """Edges of each layer's four matrices and of both tables, and vectors, beside the master copy."""
    memory = _memory({**_ALONE, "optimizer": "adafactor"})
    layer = (144 + 48) + (48 + 48) + (80 + 48) + (48 + 80) + 8 * 48 + 80 + 48
    assert memory.optimizer == 4 * _ALL + 4 * (2 * layer + 101 + 40 + 2 * 48 + 2 * 48)


def test_stages_keep_the_micro_batches_in_flight() -> None:
    """The first of two stages two of them, the last one; a tied table lies on both."""
    first, last = _memory(_PIPE), _memory(_PIPE, 1.0)
    assert first.parameters == 2 * (_LAYER + _EMBEDDING)
    assert last.parameters == 2 * (_LAYER + _NORM + _TABLE)
    assert first.activations == 2 * (_KEPT + _MASK)
    assert last.activations == _KEPT + _LOSS
    assert first.buffers == 2 * _WIDEST  # gradients of the widest tensor and of its input
    assert last.buffers == 0


@pytest.mark.parametrize(
    ("changes", "waiting"),
    [
        ({"schedule": "1f1b"}, 4),
        ({"schedule": "gpipe"}, 12),
        ({"schedule": "zero-bubble"}, 4),
        ({"virtual_stages": 2}, (2 * 3 + 4 + 1) / 2),
        ({"micro_batch": 12}, 1),
    ],
)
def test_schedules_keep_more_or_less_in_flight(changes: dict[str, Any], waiting: float) -> None:
    plan = {**_ALONE, "dp": 2, "pp": 4, **changes}
    memory, times = _memory(plan, sizes={"layers": 8}), changes.get("micro_batch", 1)
    assert memory.activations == pytest.approx(waiting * times * (2 * _KEPT + _MASK))


def test_stages_in_the_middle_have_no_ends() -> None:
    plan = {**_ALONE, "dp": 2, "pp": 4}
    for stage in (1, 2):
        inside = _memory(plan, float(stage), sizes={"layers": 8})
        assert inside.parameters == 2 * 2 * _LAYER
        assert inside.activations == (4 - stage) * 2 * _KEPT


def test_a_recomputed_layer_is_kept_while_it_runs_backward() -> None:
    memory = _memory({**_PIPE, "recompute": "full"})
    assert memory.activations == 2 * (_INPUT + _MASK)
    assert memory.buffers == _KEPT - _INPUT + 2 * _WIDEST


def test_logits_are_gone_when_a_layer_runs_backward() -> None:
    assert _memory({**_ALONE, "recompute": "full"}).buffers == _KEPT - _INPUT + 2 * _WIDEST - _LOGITS
    assert _memory(_ALONE, logit_copies=2.0).buffers == 2 * _LOGITS
    assert _memory(_PIPE, logit_copies=2.0).buffers == 2 * _WIDEST
    classes = {"objective": "classification", "classes": 5}
    assert _memory(_ALONE, sizes=classes, logit_copies=2.0).buffers == 2 * _WIDEST


def test_gathered_layers_take_buffers() -> None:
    """Two in 16 bits, of which one is fetched ahead, and the gradients of one as they travel."""
    plan = {**_ALONE, "sharding": "zero3", "reduction_in_fp32": True}
    gathered = 2 * _LAYER * 2 + _LAYER * 4
    assert _memory(plan).buffers == gathered
    assert _memory(plan, keeps_ends_gathered=1.0).buffers == gathered + (_EMBEDDING + _NORM) * (2 + 4)
    assert _memory({**_PIPE, "sharding": "zero3"}, 1.0, keeps_ends_gathered=1.0).buffers == (
        (2 * _LAYER + _NORM) * 2 + (_LAYER + _NORM) * 2
    )
    assert _memory(plan, live_parameters=40_000.0).buffers == 40_000 * 2 + _LAYER * 4
    assert _memory(plan, live_parameters=1e9).buffers == _ALL * 2 + _LAYER * 4
    assert _memory(_ALONE, live_parameters=1e9, keeps_ends_gathered=1.0).buffers == 0


def test_gathered_experts_take_buffers() -> None:
    how: dict[str, Any] = {"base": "mixtral-8x7b", "sizes": {"key_value_heads": 6, "position_rows": 0}}
    dense, experts = 4 * 48 * 48 + 8 * 48 + 2 * 48, 3 * 48 * 80
    both = _memory({**_ALONE, "ep": 4, "sharding": "zero3"}, **how)
    whole = _memory({**_ALONE, "ep": 8, "sharding": "zero3"}, **how)
    widest = 3200 * 2 * 2  # a token's two experts, gate and product
    of_layer = max(2 * widest - _LOGITS, 0)
    assert both.buffers == (dense + 2 * experts) * (2 * 2 + 2) + of_layer
    assert whole.buffers == dense * (2 * 2 + 2) + of_layer
    ends = 2 * _TABLE + 48
    assert both.parameters == ((2 * dense + ends) / 8 + 2 * 2 * experts / 2) * 2
    assert whole.optimizer == ((2 * dense + ends) / 8 + 2 * experts) * 12


def test_an_optimizer_copies_when_activations_are_gone() -> None:
    kept = 2 * _KEPT + _MASK + _LOSS
    assert _memory(_ALONE, optimizer_copies=1.0).buffers == 4 * _ALL - kept
    assert _memory({**_ALONE, "sharding": "zero1"}, optimizer_copies=8.0).buffers == 4 * _ALL - kept
    assert _memory({**_ALONE, "offload_optimizer": True}, optimizer_copies=1.0).buffers == 0
    assert _memory({**_ALONE, "optimizer": "sgd"}, optimizer_copies=1.0).buffers == 0


def test_early_copies_of_an_optimizer_live_with_the_activations() -> None:
    assert _memory(_ALONE, early_optimizer_copies=3.0).buffers == 3 * 4 * _ALL
    assert _memory({**_ALONE, "sharding": "zero1"}, early_optimizer_copies=3.0).buffers == 3 * 4 * _ALL / 8
    assert _memory({**_ALONE, "offload_optimizer": True}, early_optimizer_copies=3.0).buffers == 0
    assert _memory({**_ALONE, "optimizer": "sgd"}, early_optimizer_copies=3.0).buffers == 0


def test_gradients_that_come_as_activations_go() -> None:
    """Together no more than the larger of both, and what the update copies is beside the gradients."""
    once: dict[str, Any] = {**_ALONE, "micro_batch": 3}
    kept = 3 * (2 * _KEPT + _MASK + _LOSS)
    assert 2 * _ALL < kept < 2 * _ALL + 4 * _ALL
    both, freed = _memory(once), _memory(once, frees_gradients=1.0)
    assert (both.gradients, freed.gradients) == (2 * _ALL, 0)
    assert plain(both.total) - plain(freed.total) == 2 * _ALL
    copied = _memory(once, frees_gradients=1.0, optimizer_copies=1.0)
    assert copied.activations + copied.gradients + copied.buffers == 6 * _ALL
    few = _memory(_ALONE, frees_gradients=1.0)  # eight ranks with 24 sequences: their sums over micro-batches stay
    assert few.gradients == 2 * _ALL
    small = _memory(_ALONE, frees_gradients=1.0, logit_copies=8.0, workload={"global_batch": 8})
    kept = 2 * _KEPT + _MASK + _LOSS
    assert small.gradients == 2 * _ALL - kept
    assert small.activations + small.gradients + small.buffers == kept + 8 * _LOGITS > 2 * _ALL


def test_what_is_reserved() -> None:
    memory = _memory(_ALONE, runtime_memory=1000.0, fragmentation=0.25, communication_buffers=64.0)
    assert memory.buffers == 64
    assert memory.reserved == 1000 + 0.25 * (16 * _ALL + 2 * _KEPT + _MASK + _LOSS + 64)


def test_casts_keep_weights_of_products_in_16_bits_besides() -> None:
    """Of layers all but normalisations; the tied table where the head stands."""
    plan = {**_ALONE, "parameters_in_fp32": True}
    of_layer = _LAYER - 4 * 48
    assert _memory(plan, autocast=1.0).parameters == 4 * _ALL + 2 * (2 * of_layer + _TABLE)
    assert _memory(plan, autocast=0.0).parameters == 4 * _ALL
    assert _memory({**plan, "sharding": "zero3"}, autocast=1.0).parameters == 4 * _ALL / 8
    pipe = {**_PIPE, "parameters_in_fp32": True}
    assert _memory(pipe, autocast=1.0).parameters == 4 * (_LAYER + _EMBEDDING) + 2 * of_layer
    assert _memory(pipe, 1.0, autocast=1.0).parameters == 4 * (_LAYER + _NORM + _TABLE) + 2 * (of_layer + _TABLE)


@pytest.mark.parametrize("wide", [0, 1])
def test_copies_in_8_bits_of_weights_whose_products_are(wide: int) -> None:
    plan = {**_ALONE, "precision": "fp8", "layers_in_16_bits": wide}
    how: dict[str, Any] = {"system": "dgx-h100"}
    copies = 2 * (2 - wide) * (_LAYER - 4 * 48)
    with_copies, without = (_memory(plan, narrow_weight_bytes=size, **how) for size in (2.0, 0.0))
    assert with_copies.parameters - without.parameters == copies
    shards = {**plan, "sharding": "zero3"}
    assert _memory(shards, narrow_weight_bytes=2.0, **how) == _memory(shards, **how)
    assert _memory(_ALONE, narrow_weight_bytes=2.0) == _memory(_ALONE)


def test_gradients_in_16_bits_stay_beside_their_sums() -> None:
    sums = {**_ALONE, "gradients_in_fp32": True}
    assert _memory(sums, keeps_16_bit_gradients=1.0).gradients == 6 * _ALL
    assert _memory(_ALONE, keeps_16_bit_gradients=1.0).gradients == 2 * _ALL
    wide = {**sums, "parameters_in_fp32": True}
    assert _memory(wide, keeps_16_bit_gradients=1.0).gradients == 4 * _ALL


def test_ranks_that_share_inputs_of_recomputed_layers() -> None:
    plan = {**_ALONE, "tp": 2, "dp": 4, "recompute": "full", "micro_batch": 3}
    alone, shared = (_memory(plan, shares_checkpoints=flag).activations for flag in (0.0, 1.0))
    assert alone - shared == 2 * 3 * _INPUT / 2
    parallel = {**plan, "sequence_parallel": True}
    assert _memory(parallel, shares_checkpoints=1.0) == _memory(parallel)
    kept = {**plan, "recompute": "none"}
    assert _memory(kept, shares_checkpoints=1.0) == _memory(kept)


def test_layers_that_share_parameters_have_them_on_every_stage() -> None:
    memory = _memory(_PIPE, base="albert-base", sizes={"layers": 4})
    alone = _memory(_ALONE, base="albert-base", sizes={"layers": 4})
    assert memory.parameters < alone.parameters
    assert alone.parameters - memory.parameters == pytest.approx(2 * plain(_head_parameters()))
    assert memory.activations > alone.activations / 2


def _head_parameters() -> Any:
    return _program(_PIPE, "albert-base").head.tally.parameters


def test_a_head_that_counts_as_layers() -> None:
    """A table of 8 layers' parameters beside 16 layers: a stage ends with the layer that reaches 12 of these 24."""
    sizes = {"layers": 16, "vocabulary_size": 8 * 17_408 // 48 + 1}
    scenario = _program(_PIPE, sizes=sizes, balances_head=1.0)
    held = [plain(layers_on(scenario, float(stage))) for stage in (0, 1)]
    assert held == [13, 3]
    even = _program(_PIPE, sizes=sizes)
    assert [plain(layers_on(even, float(stage))) for stage in (0, 1)] == [8, 8]
    uneven = _program({**_PIPE, "first_stage_layers": 10, "last_stage_layers": 6}, sizes=sizes)
    assert [plain(layers_on(uneven, float(stage))) for stage in (0, 1)] == [10, 6]
    classes = {**sizes, "objective": "classification"}
    assert plain(layers_on(_program(_PIPE, sizes=classes, balances_head=1.0), 0.0)) == 9


@pytest.mark.parametrize(
    ("plan", "sizes", "fullest"),
    [
        (_ALONE, {}, 0),
        (_PIPE, {"layers": 8}, 0),
        ({**_ALONE, "dp": 1, "pp": 8, "micro_batch": 4}, {"layers": 17}, 1),
        ({**_ALONE, "dp": 2, "pp": 4, "micro_batch": 12}, {"layers": 8, "vocabulary_size": 9001}, 3),
    ],
)
def test_a_peak_is_that_of_the_fullest_stage(plan: dict[str, Any], sizes: dict[str, Any], fullest: int) -> None:
    program = _program(plan, sizes=sizes)
    totals = [plain(on_stage(program, float(stage)).total) for stage in range(plan.get("pp", 1))]
    assert totals.index(max(totals)) == fullest
    assert plain(peak(program).total) == plain(peak_total(program)) == max(totals)
    parts = on_stage(program, float(fullest))
    for name, value in vars(peak(program)).items():
        assert plain(value) == plain(getattr(parts, name))
        assert np.shape(value) == np.shape(parts.total)
