"""The tensors that operators list: they are their parameters, and have the shapes that libraries give them."""

from __future__ import annotations

import numpy as np
import pytest

import simulator
from simulator.specs.loading import names
from simulator.work.operators import Operator
from simulator.work.program import Program, program_of
from simulator.work.weights import linear_weights
from tests.work.asking import plain
from tests.work.small import named, small


def _listed(operator: Operator) -> float:
    """Elements of the tensors of an operator."""
    tensors = (tensor for weight in operator.kept.weights for tensor in weight.tensors)
    return sum(plain(number) * plain(rows) * plain(columns) for number, rows, columns in tensors)


def _whole(model: str, **how: object) -> Program:
    return program_of(simulator.resolve(model, "dgx-a100-640gb", devices=8, **how).columns())  # type: ignore[arg-type]


@pytest.mark.parametrize("model", names("models")[::3])
def test_tensors_are_all_parameters(model: str) -> None:
    for block in _whole(model).blocks:
        for operator in block.operators:
            owned = plain(operator.kept.parameters + operator.kept.expert_parameters)
            assert _listed(operator) == pytest.approx(owned, rel=1e-12), operator.name


@pytest.mark.parametrize("model", ["llama-3-8b", "mixtral-8x7b"])
def test_tensors_of_adapters_are_their_parameters(model: str) -> None:
    adapted = 0
    for block in _whole(model, workload={"train": "lora", "lora_rank": 8}).blocks:
        for operator in block.operators:
            adapted += operator.kept.added
            assert _listed(operator) == plain(operator.kept.parameters + operator.kept.expert_parameters)
    assert adapted > 0


def test_projections_are_one_tensor_where_they_are_joined() -> None:
    """48 wide, of which a rank of two has half; Muon takes queries, keys and values apart, whole."""

    def cut(fused: float) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
        program = small("gpt2-355m", fused_qkv=fused)
        matrix = named(program.groups[0], "query projection").kept.weights[0]
        return tuple(  # type: ignore[return-value]
            [tuple(map(plain, each)) for each in listed if plain(each[0])]
            for listed in (matrix.tensors, matrix.orthogonalised)
        )

    assert cut(1.0) == ([(1, 72, 48)], [(1, 48, 48)] * 3)
    assert cut(0.0) == ([(1, 24, 48)] * 3, [(1, 48, 48)] * 3)


def test_gates_are_orthogonalised_apart_where_projections_are() -> None:
    def cut(fused: float) -> list[tuple[float, ...]]:
        program = small("llama-2-7b", fused_qkv=fused, sizes={"position_rows": 0})
        matrix = named(program.groups[0], "feed-forward input").kept.weights[0]
        return [tuple(map(plain, each)) for each in matrix.orthogonalised if plain(each[0])]

    assert cut(1.0) == [(1, 160, 48)]
    assert cut(0.0) == [(1, 80, 48)] * 2


def test_blocks_of_a_column_are_joined_row_by_row() -> None:
    (matrix,) = linear_weights(5.0, 3.0, np.array([0.0, 2.0]), joined=np.array([0.0, 1.0]), factors=(2.0, 3.0))
    listed = [[np.broadcast_to(each, (2,)).tolist() for each in tensor] for tensor in matrix.tensors]
    assert listed == [
        [[0, 6], [3, 5], [5, 5]],
        [[6, 0], [3, 3], [5, 5]],
        [[0, 0], [0, 2], [5, 5]],
    ]
