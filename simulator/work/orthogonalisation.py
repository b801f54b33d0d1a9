"""Muon's orthogonalisation of hidden matrices, once a step: products in 16 bits, and what ranks send for them.

A matrix has to be whole for it, or its products have to be shared. Tensor-parallel ranks gather the momentum and each
orthogonalise all of it (Megatron core_v0.19.0, optimizer/emerging_optimizers.py, ``duplicated``). Of ranks that share
optimizer states

* those that own whole tensors each orthogonalise their own (the layer-wise distributed optimizer of Megatron);
* those with rows of every matrix share the products, and send what each of these needs (torch.optim.Muon on tensors
  that fully_shard has cut, as torch 2.13 distributes them);
* those with pieces of a flat buffer gather the matrices that they have a piece of, and keep their own of the result
  (Liu et al., Muon is Scalable for LLM Training, arXiv 2502.16982, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.formulas.typing import Num
from simulator.pricing.requests import Collective, CollectiveKind, MatrixProduct
from simulator.work.operators import flagged
from simulator.work.program import Program
from simulator.work.tasks import Phase, PlaceKind, Resource, Task, TaskPlace
from simulator.work.transformer import Scenarios
from simulator.work.updates import StageShare, trained_weights

ITERATIONS = 5.0
"""Of Newton and Schulz, which all libraries take unless told."""
_ELEMENT_BYTES = 2.0
_GATHERED_BYTES = 4.0
"""Tensor-parallel ranks gather the momentum as it is, in fp32."""
_STEP = TaskPlace(PlaceKind.STEP)
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Matrices:
    """Equal hidden matrices of a stage, with the parts of tensor-parallel ranks, and who shares their states."""

    number: Num
    shorter: Num
    longer: Num
    is_tall: Num
    """1 where rows are the longer side, else 0."""
    tensor_ranks: Num
    tensor_stride: Num
    group: Num
    """Ranks that share optimizer states [1]."""
    stride: Num


def newton_schulz(program: Program, share: StageShare) -> Iterator[Task]:
    """Tasks of Muon on a stage beside its update; none where no plan has it.

    Parameters
    ----------
    program
        Of the scenarios.
    share
        How much of the model the stage has.
    """
    scenarios = program.scenarios
    matrices = list(_matrices(program, share))
    many: Num = sum((each.number for each in matrices), start=np.float64(0.0))
    for each in matrices:
        yield from _of_equal(each, many, scenarios)


def working_bytes(program: Program, share: StageShare) -> Num:
    """Of the largest matrix while it is orthogonalised, after torch's Muon, which works on one at a time [B].

    The mixture of momentum and gradient in fp32, two versions of the matrix in bf16, and both squares.

    Parameters
    ----------
    program, share
        As of `newton_schulz`.
    """
    most: Num = 0.0
    for each in _matrices(program, share):
        exists = np.where(np.asarray(each.number) > 0.0, 1.0, 0.0)
        versions = (4.0 + 2.0 * _ELEMENT_BYTES) * each.longer + 2.0 * _ELEMENT_BYTES * each.shorter
        most = np.maximum(most, exists * each.shorter * versions)
    return most


def _matrices(program: Program, share: StageShare) -> Iterator[_Matrices]:
    """Hidden matrices that are trained."""
    plans = program.scenarios.plans
    sharers = plans.optimizer_group
    for weight, number, of_experts in trained_weights(program, share):
        if weight.kind != "matrix":
            continue
        group = plans.sharing_experts(sharers) if of_experts else sharers
        stride = plans.expert_replica_stride if of_experts else plans.replica_stride
        for of_weight, rows, columns in weight.orthogonalised:
            yield _Matrices(
                number * of_weight,
                np.minimum(rows, columns),
                np.maximum(rows, columns),
                np.where(np.asarray(rows) > columns, 1.0, 0.0),
                weight.row_ranks * np.asarray(weight.column_ranks),
                plans.tp_stride,
                group,
                stride,
            )


def _of_equal(each: _Matrices, many: Num, scenarios: Scenarios) -> Iterator[Task]:
    """Products and messages of equal matrices."""
    plans, stacks = scenarios.plans, scenarios.stacks
    shared = np.asarray(each.group) > 1.0
    is_flat = shared & (np.asarray(stacks.flat_shards) > 0.0)
    is_cut = shared & ~is_flat & (np.asarray(plans.gradient_group) > 1.0)
    owned = np.ceil(many / each.group) / np.maximum(many, 1.0)
    touched = np.minimum(1.0 / np.asarray(each.group) + 1.0 / np.maximum(many, 1.0), 1.0)
    part = np.where(is_flat, touched, np.where(is_cut | ~shared, 1.0, owned))
    used = plans.orthogonal * (1.0 - np.asarray(plans.offload)) * each.number
    yield from _products(each, used * part, np.where(is_cut, each.group, 1.0))
    yield from _messages(each, used, part, is_flat, is_cut)


def _products(each: _Matrices, count: Num, sharers: Num) -> Iterator[Task]:
    """The three products of each iteration, of which so many ranks share rows, or of a tall matrix its columns."""
    tall = np.asarray(each.is_tall) > 0.0
    a, b = each.shorter, each.longer
    rows, inner = np.where(tall, a, a / sharers), np.where(tall, b / sharers, b)
    sizes = (
        ("transpose times momentum", rows, a, inner),
        ("square of the product", rows, a, a),
        ("product times momentum", rows, inner, a),
    )
    for name, m, n, k in sizes:
        request = MatrixProduct(m=m, n=n, k=k, element_bytes=_ELEMENT_BYTES, of_weight=False, wide=True)
        number = ITERATIONS * count
        yield Task(name, "optimizer", request, Phase.STEP, _STEP, Resource.DEVICE, number, number)


def _messages(each: _Matrices, used: Num, part: Num, is_flat: Mask, is_cut: Mask) -> Iterator[Task]:
    """What ranks send: matrices to be whole, or factors and sums of shared products."""
    a, b, tall = each.shorter, each.longer, np.asarray(each.is_tall) > 0.0
    whole, square = _ELEMENT_BYTES * a * b, _ELEMENT_BYTES * a * a
    split = np.where(np.asarray(each.tensor_ranks) > 1.0, used * part, 0.0)
    if np.any(split > 0.0):
        momentum = _GATHERED_BYTES * a * b
        ranks = each.tensor_ranks, each.tensor_stride
        yield _message("momentum of split matrices", "all_gather", momentum, ranks, split, Resource.TENSOR_LINKS)
    among = each.group, each.stride
    flat, cut = flagged(used, np.where(is_flat, 1.0, 0.0)), flagged(used, np.where(is_cut, 1.0, 0.0))
    listed: tuple[tuple[str, CollectiveKind, Num, Num], ...] = (
        ("momentum of matrices", "all_gather", whole, flat),
        ("norms of matrices", "all_reduce", np.full_like(np.asarray(a), _ELEMENT_BYTES), cut),
        ("factors of products", "all_gather", whole, np.where(tall, 0.0, 2.0 * ITERATIONS * cut)),
        ("factors of squares", "all_gather", square, np.where(tall, 0.0, ITERATIONS * cut)),
        ("sums of products", "all_reduce", square, np.where(tall, 2.0 * ITERATIONS * cut, 0.0)),
    )
    for name, kind, size, count in listed:
        if np.any(np.asarray(count) > 0.0):
            yield _message(name, kind, size, among, count, Resource.DATA_LINKS)


def _message(
    name: str, kind: CollectiveKind, size: Num, among: tuple[Num, Num], count: Num, resource: Resource
) -> Task:
    """Collectives of one kind and size among ranks of a degree and a stride."""
    request = Collective(kind=kind, message_bytes=size, degree=among[0], stride=among[1])
    return Task(name, "optimizer", request, Phase.STEP, _STEP, resource, count)
