"""Tensor parallelism by torch's own distributed tensors: collectives and kept bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import loss_parallel

from measure.count.activations import saved_activations
from measure.count.collectives import LoggedCollective, collectives, fake_ranks
from measure.models import Batch, Setting, Split, Transformer, build, distribute, random_batch
from measure.verification.exchanges import traffic_of
from simulator.specs.model import Model
from simulator.work.program import program_of
from simulator.work.transformer import Scenarios
from tests.against_torch.cases import (
    BERT,
    GPT,
    LLAMA,
    name_of,
    predictions_of,
    scenarios_of,
    setting_of,
)

MICRO_BATCH = 4
ENCODER = BERT.model_copy(update={"pooler": False})
"""Torch's loss over parts of the vocabulary cannot be added to a loss of plain tensors."""
CASES = [
    (model, degree, shares)
    for model, degrees, shared in (
        (GPT, (2, 4, 8), (False, True)),
        (ENCODER, (2, 8), (False,)),
        (LLAMA, (2,), (False,)),
    )
    for degree in degrees
    for shares in shared
]


@contextmanager
def distributed(model: Model, degree: int, shares: bool) -> Iterator[tuple[Transformer, Batch, Scenarios]]:
    """A module of distributed tensors, and the scenario that says the same."""
    whole = setting_of(model, fused_qkv=True)
    cut: Setting = setting_of(model, fused_qkv=True, split=Split(degree, sequence_parallel=shares))
    with fake_ranks(degree):
        module = build(model, whole)
        distribute(module, init_device_mesh("cpu", (degree,)), sequence_parallel=shares)
        batch = random_batch(model, whole, MICRO_BATCH, predictions=predictions_of(model, whole))
        with loss_parallel():
            yield module, batch, scenarios_of(model, cut, micro_batch=MICRO_BATCH)


@pytest.mark.parametrize(("model", "degree", "shares"), CASES, ids=name_of)
def test_collectives(model: Model, degree: int, shares: bool) -> None:
    with distributed(model, degree, shares) as (module, batch, scenarios):
        logged_counts = collectives(lambda: module(batch).backward()).count
    program = program_of(scenarios)
    said = traffic_of(program)
    if shares:
        # Torch leaves each rank its part of these gradients until an optimizer asks for the sum.
        size = int(program.together.partial_parameters * scenarios.plans.gradient_bytes)
        said -= {LoggedCollective("all_reduce", size, degree): 1}
    assert said == logged_counts


@pytest.mark.parametrize(("model", "degree", "shares"), CASES, ids=name_of)
def test_kept_bytes(model: Model, degree: int, shares: bool) -> None:
    with distributed(model, degree, shares) as (module, batch, scenarios):
        activations = saved_activations(lambda: module(batch), module)
    assert program_of(scenarios).together.saved_bytes == activations.bytes
