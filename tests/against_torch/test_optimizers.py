"""Bytes of parameters, gradients and optimizer states against those that torch's optimizers and FSDP hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from measure.count.collectives import collectives, fake_ranks
from measure.count.optimizer import (
    OptimizerName,
    hidden_matrices,
    local_bytes,
    make_optimizers,
    optimizer_state,
    state_bytes,
)
from measure.models import Setting, build, random_batch
from simulator.formulas import states
from simulator.pricing.requests import MatrixProduct
from simulator.specs.choices import Sharding
from simulator.specs.model import Model
from simulator.step.memory import on_stage
from simulator.work.messages import messages
from simulator.work.once import on_fullest, once_a_step
from simulator.work.program import program_of
from simulator.work.updates import largest_update
from tests.against_torch.cases import (
    BERT_LARGE,
    EVERY,
    GPT,
    LLAMA,
    NEOX,
    T5,
    name_of,
    predictions_of,
    scenarios_of,
    setting_of,
)
from tests.against_torch.live import updated_in_backward
from tests.against_torch.tuning import adapted

_OTHER_SHAPES = ("gpt-oss", "umt5")
"""Biases of experts are one tensor in the module, and tables of every layer one in the formula: the factors differ."""


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "sgd-without-momentum"])
@pytest.mark.parametrize("model", [BERT_LARGE, LLAMA], ids=name_of)
def test_bytes_of_a_parameter(model: Model, optimizer: OptimizerName) -> None:
    """Moments are those of parameters in fp32: the parameters themselves, or their master copy."""
    setting = setting_of(model, dtype=torch.float32)
    state = optimizer_state(optimizer, build(model, setting).parameters())
    scenarios = scenarios_of(model, setting, optimizer=optimizer)
    assert state.per_parameter == scenarios.plans.state_bytes
    held = state.parameters
    assert state.bytes == states.model_state_bytes(held, 0.0, gradient_bytes=0.0, optimizer_bytes=state.per_parameter)


@pytest.mark.parametrize("optimizer", ["adafactor", "muon", "adam-bf16"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("model", [model for model in EVERY if model.id not in _OTHER_SHAPES], ids=name_of)
def test_bytes_of_all_tensors(model: Model, optimizer: OptimizerName, *, fused: bool) -> None:
    """Of every shape of a model: rows and columns of matrices, and what AdamW keeps beside Muon."""
    setting = setting_of(model, dtype=torch.bfloat16 if optimizer == "adam-bf16" else torch.float32, fused_qkv=fused)
    module = build(model, setting)
    state = optimizer_state(optimizer, module.parameters(), hidden_matrices(module))
    held = on_stage(program_of(scenarios_of(model, setting, optimizer=optimizer)), 0.0)
    assert state.bytes == held.optimizer


@pytest.mark.parametrize("shape", [(64, 64), (64, 256), (48, 1000)])
def test_factored_moments(shape: tuple[int, int]) -> None:
    state = optimizer_state("adafactor", [torch.nn.Parameter(torch.ones(shape))])
    assert state.bytes == states.factored_state_bytes(*map(float, shape))


def test_factored_moments_of_a_vector_are_whole() -> None:
    state = optimizer_state("adafactor", [torch.nn.Parameter(torch.ones(64))])
    assert state.bytes == states.factored_state_bytes(0.0, 0.0, unfactored=64.0) == 4 * 64


@pytest.mark.parametrize("shape", [(64, 64), (48, 1000), (1000, 48)])
@pytest.mark.parametrize("iterations", [1, 5])
def test_products_of_an_orthogonalised_matrix(shape: tuple[int, int], iterations: int) -> None:
    matrix = torch.nn.Parameter(torch.ones(shape))
    matrix.grad = torch.ones(shape)
    muon = torch.optim.Muon([matrix], ns_steps=iterations)
    with FlopCounterMode(display=False) as counted:
        muon.step()
    expected = states.newton_schulz_flops(min(shape), max(shape), iterations=iterations)
    assert counted.get_total_flops() == expected


@pytest.mark.parametrize("model", [GPT, LLAMA, T5], ids=name_of)
def test_products_of_a_step_of_muon(model: Model) -> None:
    """Those of the tasks once a step, of all matrices of the model; a gate is a matrix of its own."""
    module = build(model, setting := setting_of(model, device="cpu", dtype=torch.float32))
    gated = {id(layer.feed_forward.inward.weight) for layer in module.tower.layers if model.feed_forward == "gated"}
    matrices = [
        torch.nn.Parameter(part)
        for matrix in hidden_matrices(module)
        for part in (matrix.detach().chunk(2) if id(matrix) in gated else [matrix.detach()])
    ]
    for matrix in matrices:
        matrix.grad = torch.zeros_like(matrix)
    (muon,) = make_optimizers("muon", matrices, matrices)
    with FlopCounterMode(display=False) as counted:
        muon.step()
    assert counted.get_total_flops() == _products(model, setting)


@pytest.mark.parametrize("degree", [2, 4])
@pytest.mark.parametrize("model", [GPT, NEOX], ids=name_of)
def test_messages_of_muon_among_shards(model: Model, degree: int) -> None:
    """What torch sends for matrices that fully_shard has cut by rows."""
    setting = setting_of(model, device="cpu", dtype=torch.float32)
    with fake_ranks(degree):
        module = build(model, setting)
        for layer in module.tower.layers:
            fully_shard(layer, mesh=init_device_mesh("cpu", (degree,)))
        fully_shard(module, mesh=init_device_mesh("cpu", (degree,)))
        module(random_batch(model, setting, 1)).backward()
        muon, _ = make_optimizers("muon", module.parameters(), hidden_matrices(module))
        counted = collectives(muon.step)
    scenarios = scenarios_of(model, setting, micro_batch=1, dp=degree, sharding="zero3", optimizer="muon")
    said = [one for one in messages(program_of(scenarios)) if one.part == "optimizer"]
    for kind in ("all_gather", "all_reduce"):
        sent = sum(np.asarray(one.message_bytes * one.count) for one in said if one.kind == kind)
        assert counted.bytes(kind, degree) == sent


def _products(model: Model, setting: Setting) -> float:
    """Arithmetic once a step."""
    program = program_of(scenarios_of(model, setting, optimizer="muon"))
    tasks = once_a_step(program, on_fullest(program))
    asked = [(task.request, task.count) for task in tasks if isinstance(task.request, MatrixProduct)]
    return float(sum(np.asarray(request.flops * count) for request, count in asked))


@pytest.mark.parametrize("shape", [(64, 256), (64,)])
def test_factored_moments_without_numbers(shape: tuple[int, ...]) -> None:
    """On the meta device the states are made before their numbers are asked for."""
    real, meta = (torch.nn.Parameter(torch.ones(shape, device=device)) for device in ("cpu", "meta"))
    assert optimizer_state("adafactor", [meta]) == optimizer_state("adafactor", [real])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("degree", [1, 2, 8])
def test_shards_of_a_rank(optimizer: OptimizerName, degree: int) -> None:
    """A step of FSDP: every state is cut over the ranks."""
    setting = setting_of(GPT, device="cpu", dtype=torch.float32)
    with fake_ranks(degree):
        module = build(GPT, setting)
        fully_shard(module, mesh=init_device_mesh("cpu", (degree,)))
        module(random_batch(GPT, setting, 1)).backward()
        steps = make_optimizers(optimizer, module.parameters(), hidden_matrices(module))
        for each in steps:
            each.step()
        shard_bytes = _states(module, steps)
    sharding: Sharding = "zero3" if degree > 1 else "none"
    scenarios = scenarios_of(GPT, setting, micro_batch=1, dp=degree, sharding=sharding, optimizer=optimizer)
    held = on_stage(program_of(scenarios), 0.0)
    assert shard_bytes == (held.parameters, held.gradients, held.optimizer)
    if optimizer == "muon":
        return
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


def _states(module: torch.nn.Module, steps: list[Optimizer]) -> tuple[int, int, int]:
    """Bytes of parameters, gradients and optimizer states of this rank."""
    held = list(module.parameters())
    gradients = [parameter.grad for parameter in held if parameter.grad is not None]
    return local_bytes(held), local_bytes(gradients), sum(map(state_bytes, steps))


_LORA = {"train": "lora", "lora_rank": 4, "lora_targets": "attention"}


def _updates_alone(model: Model) -> bool:
    of_many_uses = model.shared_layers or model.kind == "encoder-decoder"
    return not of_many_uses and model.experts == 1 and not model.position_products


@pytest.mark.parametrize(("tuning", "fused"), [({}, True), ({}, False), (_LORA, False)])
@pytest.mark.parametrize("model", [each for each in EVERY if _updates_alone(each)], ids=name_of)
def test_gradients_that_are_freed_by_updates(model: Model, tuning: dict[str, Any], *, fused: bool) -> None:
    """At once those of one tensor with its bias, and of a table that the head has too: three where these are added."""
    if tuning and (model.positions == "transformer-xl" or model.key_value_rank):
        return  # adapters beside it are refused
    setting = setting_of(model, device="cpu", fused_qkv=fused)
    module = adapted(model, setting, "attention") if tuning == _LORA else build(model, setting)
    batch = random_batch(model, setting, 4, predictions=predictions_of(model, setting))
    before, at_end = updated_in_backward(module, lambda: module.loss(batch))
    plan = {"optimizer": "sgd-without-momentum", "optimizer_in_backward": True}
    program = program_of(scenarios_of(model, setting, tuning=tuning, **plan))
    assert before == on_stage(program, 0.0).gradients
    last = largest_update(program)
    assert last is not None
    assert at_end == (2 * np.asarray(last.at_end) if not tuning else 0)
