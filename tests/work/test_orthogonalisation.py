"""What Muon does once a step, worked out by hand for two layers of 48 with a plain feed-forward layer of 80.

Of each layer it takes four matrices of 48 x 48 and one of 80 x 48, which is tall, and one of 48 x 80, which is wide.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from simulator.pricing.requests import Collective, MatrixProduct
from simulator.work.once import on_fullest, once_a_step
from simulator.work.program import Program
from simulator.work.tasks import Resource, Task
from tests.work.asking import plain
from tests.work.small import small

_ALONE: dict[str, Any] = {"tp": 1, "dp": 8, "sequence_parallel": False, "micro_batch": 1, "optimizer": "muon"}
_SQUARES, _OTHERS = 2 * 4, 2 * 1
_MATRICES = _SQUARES + 2 * _OTHERS
_A, _B = 48.0, 80.0


def _muon(plan: dict[str, Any], base: str = "gpt2-355m", **how: Any) -> list[Task]:
    program: Program = small(base, {**_ALONE, **plan}, sizes={"position_rows": 40, **how.pop("sizes", {})}, **how)
    return [task for task in once_a_step(program, on_fullest(program)) if task.part == "optimizer"]


def _products(tasks: list[Task]) -> dict[tuple[float, ...], float]:
    """How many products there are of each m, n and k."""
    listed: defaultdict[tuple[float, ...], float] = defaultdict(float)
    for task in tasks:
        if isinstance(task.request, MatrixProduct):
            asked = task.request
            listed[plain(asked.m), plain(asked.n), plain(asked.k)] += plain(task.count)
    return dict(listed)


def _sent(tasks: list[Task]) -> dict[tuple[str, float, float], float]:
    """How many messages there are of each name, size and degree."""
    listed: defaultdict[tuple[str, float, float], float] = defaultdict(float)
    for task in tasks:
        if isinstance(task.request, Collective) and plain(task.count):
            listed[task.name, plain(task.request.message_bytes), plain(task.request.degree)] += plain(task.count)
    return dict(listed)


def test_other_optimizers_have_no_products() -> None:
    for optimizer in ("adamw", "adam-bf16", "adam-fp8", "adam-8bit", "lamb", "lion", "sgd", "adafactor"):
        tasks = _muon({"optimizer": optimizer})
        assert not _products(tasks)
        assert not _sent(tasks)


def test_replicas_that_share_nothing_orthogonalise_everything() -> None:
    tasks = _muon({"sharding": "none"})
    assert _products(tasks) == {
        (_A, _A, _A): 5 * (3 * _SQUARES + 2 * _OTHERS),
        (_A, _A, _B): 5 * 2 * _OTHERS,
        (_A, _B, _A): 5 * 2 * _OTHERS,
    }
    assert not _sent(tasks)
    assert {task.resource for task in tasks if isinstance(task.request, MatrixProduct)} == {Resource.DEVICE}
    asked = [task.request for task in tasks if isinstance(task.request, MatrixProduct)]
    assert all(request.wide and not request.of_weight for request in asked)


@pytest.mark.parametrize(("replicas", "own"), [(8, 2), (4, 3), (2, 6)])
def test_owners_of_whole_matrices_share_them_out(replicas: int, own: int) -> None:
    """12 matrices: the rank with most has 2 of 8, 3 of 4, 6 of 2."""
    tasks = _muon({"sharding": "zero1", "sharding_group": replicas})
    whole = _products(_muon({"sharding": "none"}))
    assert _products(tasks) == pytest.approx({size: count * own / 12 for size, count in whole.items()})
    assert not _sent(tasks)


def test_pieces_of_a_flat_buffer_are_gathered_whole() -> None:
    """A rank has pieces of an eighth of the matrices, and of one that it shares with its neighbour."""
    tasks = _muon({"sharding": "zero1"}, flat_shards=1.0)
    whole = _products(_muon({"sharding": "none"}))
    share = 1 / 8 + 1 / 12
    assert _products(tasks) == pytest.approx({size: count * share for size, count in whole.items()})
    name = "momentum of matrices"
    assert _sent(tasks) == {(name, 2 * _A * _A, 8): _SQUARES, (name, 2 * _A * _B, 8): 2 * _OTHERS}


def test_rows_of_matrices_share_each_product() -> None:
    tasks = _muon({"sharding": "zero3"})
    assert _products(tasks) == {
        (_A / 8, _A, _A): 5 * (2 * _SQUARES + _OTHERS) + 5 * _SQUARES,
        (_A / 8, _A, _B): 5 * _OTHERS,
        (_A / 8, _B, _A): 5 * _OTHERS,
        (_A, _A, _B / 8): 5 * _OTHERS,
        (_A, _A, _A): 5 * _OTHERS,
        (_A, _B / 8, _A): 5 * _OTHERS,
    }
    square = 2 * _A * _A
    assert _sent(tasks) == {
        ("norms of matrices", 2, 8): _MATRICES,
        ("factors of products", square, 8): 2 * 5 * _SQUARES,
        ("factors of products", 2 * _A * _B, 8): 2 * 5 * _OTHERS,
        ("factors of squares", square, 8): 5 * (_SQUARES + _OTHERS),
        ("sums of products", square, 8): 2 * 5 * _OTHERS,
    }


def test_tensor_parallel_ranks_gather_momenta_in_fp32() -> None:
    """Each of two ranks then orthogonalises the whole of what it has a half of."""
    tasks = _muon({"tp": 2, "dp": 4, "sharding": "none"})
    assert _products(tasks) == _products(_muon({"sharding": "none"}))
    name = "momentum of split matrices"
    assert _sent(tasks) == {(name, 4 * _A * _A, 2): _SQUARES, (name, 4 * _A * _B, 2): 2 * _OTHERS}


def test_stages_have_their_own_layers() -> None:
    whole = _products(_muon({"sharding": "none"}))
    piped = _products(_muon({"sharding": "none", "pp": 2, "dp": 4}))
    assert piped == {size: count / 2 for size, count in whole.items()}


def test_experts_are_shared_by_the_ranks_that_hold_them() -> None:
    """8 experts of 48 x 160 and 80 x 48 on 4 of 8 ranks: 2 ranks hold each, and share its rows."""
    sizes = {"key_value_heads": 6, "position_rows": 0}
    tasks = _muon({"ep": 4, "sharding": "zero3"}, "mixtral-8x7b", sizes=sizes)
    listed = _products(tasks)
    experts = 2 * 8 / 4
    # The matrix into an expert is tall, that out of it wide.
    assert listed[_A, _A, 160 / 2] == 5 * experts
    assert listed[_A / 2, _A, 80] == 5 * experts
    assert {degree for _, _, degree in _sent(tasks)} == {2, 8}


def test_an_update_moves_momentum_and_what_it_mixes() -> None:
    """Of hidden matrices a momentum in fp32 and 22 bytes besides, of the rest two moments.

    Adam with narrow moments has 2 bytes less of a master copy here, which it reads and writes.
    """
    layer = 4 * 48 * 48 + 4 * 48 + 2 * 48 * 80 + 80 + 48 + 4 * 48
    hidden = 2 * (4 * 48 * 48 + 2 * 48 * 80)
    everything = 2 * layer + 101 * 48 + 40 * 48 + 2 * 48

    def moved(optimizer: str) -> float:
        tasks = _muon({"optimizer": optimizer, "sharding": "none"}, optimizer_passes=1.0)
        (task,) = [task for task in tasks if task.name == "optimizer"]
        return plain(task.request.moved_bytes)  # type: ignore[union-attr]

    assert moved("muon") - moved("adamw") == hidden * (22 - 8)
    assert moved("adamw") - moved("lion") == everything * 8
    assert moved("adamw") - moved("adam-bf16") == everything * (8 + 4)
    assert moved("adam-fp8") - moved("adam-bf16") == everything * (5 * 8 - 4)
