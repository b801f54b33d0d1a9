"""Bytes of parameters, gradients and optimizer states against those that torch's optimizers and FSDP hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.optim import Optimizer

from measure.count.collectives import fake_ranks
from measure.count.optimizer import OptimizerName, local_bytes, make_optimizer, optimizer_state, state_bytes
from measure.models import build, random_batch
from simulator.formulas import states
from simulator.specs.choices import Sharding
from simulator.specs.model import Model
from simulator.step.memory import on_stage
from simulator.work.program import program_of
from tests.against_torch.cases import BERT_LARGE, GPT, LLAMA, name_of, scenarios_of, setting_of


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("model", [BERT_LARGE, LLAMA], ids=name_of)
def test_bytes_of_a_parameter(model: Model, optimizer: OptimizerName) -> None:
    """Moments are those of parameters in fp32: the parameters themselves, or their master copy."""
    setting = setting_of(model, dtype=torch.float32)
    state = optimizer_state(optimizer, build(model, setting).parameters())
    scenarios = scenarios_of(model, setting, optimizer=optimizer)
    assert state.per_parameter == scenarios.plans.state_bytes
    held = state.parameters
    assert state.bytes == states.model_state_bytes(held, 0.0, gradient_bytes=0.0, optimizer_bytes=state.per_parameter)


@pytest.mark.parametrize("shape", [(64, 64), (64, 256), (48, 1000)])
def test_factored_moments(shape: tuple[int, int]) -> None:
    state = optimizer_state("adafactor", [torch.nn.Parameter(torch.ones(shape))])
    assert state.bytes == states.factored_state_bytes(shape[0] * shape[1], 1.0, width=shape[0])


def test_factored_moments_of_a_vector_are_whole() -> None:
    assert optimizer_state("adafactor", [torch.nn.Parameter(torch.ones(64))]).bytes == 4 * 64


@pytest.mark.parametrize("shape", [(64, 256), (64,)])
def test_factored_moments_without_numbers(shape: tuple[int, ...]) -> None:
    """On the meta device the states are made before their numbers are asked for."""
    real, meta = (torch.nn.Parameter(torch.ones(shape, device=device)) for device in ("cpu", "meta"))
    assert optimizer_state("adafactor", [meta]) == optimizer_state("adafactor", [real])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("degree", [1, 2, 8])
def test_shards_of_a_rank(optimizer: OptimizerName, degree: int) -> None:
    """A step of FSDP: every state is cut over the ranks."""
    setting = setting_of(GPT, device="cpu", dtype=torch.float32)
    with fake_ranks(degree):
        module = build(GPT, setting)
        fully_shard(module, mesh=init_device_mesh("cpu", (degree,)))
        module(random_batch(GPT, setting, 1)).backward()
        steps = make_optimizer(optimizer, module.parameters())
        steps.step()
        shard_bytes = _states(module, steps)
    sharding: Sharding = "zero3" if degree > 1 else "none"
    scenarios = scenarios_of(GPT, setting, micro_batch=1, dp=degree, sharding=sharding, optimizer=optimizer)
    held = on_stage(program_of(scenarios), 0.0)
    assert shard_bytes == (held.parameters, held.gradients, held.optimizer)
    whole = states.model_state_bytes(
        program_of(scenarios).together.parameters,
        4.0,
        gradient_bytes=4.0,
        optimizer_bytes=scenarios.plans.state_bytes,
        parameter_group=degree,
        gradient_group=degree,
        optimizer_group=degree,
    )
    assert np.asarray(sum(shard_bytes)) == whole


def _states(module: torch.nn.Module, steps: Optimizer) -> tuple[int, int, int]:
    """Bytes of parameters, gradients and optimizer states of this rank."""
    held = list(module.parameters())
    gradients = [parameter.grad for parameter in held if parameter.grad is not None]
    return local_bytes(held), local_bytes(gradients), state_bytes(steps)
