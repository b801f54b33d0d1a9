"""Modules that predict further tokens, against torch: parameters, arithmetic and saved bytes, difference 0."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from measure.count.activations import saved_activations
from measure.count.flops import flops
from measure.models import Setting, build, random_batch
from measure.models.layer import parameters_of
from simulator.specs.model import Model
from simulator.work.counts import counts_of
from simulator.work.program import program_of
from tests.against_torch.cases import FAMILIES, LLAMA, MIXTRAL, name_of, scenarios_of, setting_of

NAMED = {model.id: model for model in FAMILIES}
MODELS = [
    LLAMA,
    MIXTRAL,
    *(NAMED[name] for name in ("deepseek", "deepseek-lite", "qwen2-moe", "qwen3", "gemma-2", "olmo")),
]
MODULES = [("layernorm",), ("mlp",), ("moe",), ("layernorm", "mla_up_proj", "moe_act")]


def _with_modules(model: Model, number: int) -> Model:
    return model.model_copy(update={"multi_token_modules": number})


def _compare(model: Model, setting: Setting) -> None:
    module = build(model, setting)
    batch = random_batch(model, setting, 4)
    kept = saved_activations(lambda: module.loss(batch), module).bytes
    program = program_of(scenarios_of(model, setting))
    assert round(float(program.together.saved_bytes)) == kept
    fresh = build(model, setting)
    executed = float(program.model_flops + program.recomputed_flops)
    assert round(executed) == flops(lambda: fresh.loss(batch)).total


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_parameters_stand_beside_those_of_the_model(model: Model, number: int) -> None:
    model = _with_modules(model, number)
    alone, with_modules = (setting_of(model, multi_token=flag) for flag in (False, True))
    own, whole = (parameters_of([build(model, setting)]) for setting in (alone, with_modules))
    counts = counts_of(program_of(scenarios_of(model, with_modules)))
    assert float(counts.parameters) == own == float(counts_of(program_of(scenarios_of(model, alone))).parameters)
    assert float(counts.further_parameters) == whole - own
    assert float(counts.trained_parameters) == own


@pytest.mark.parametrize("how", [{}, {"recompute": "selective"}, {"recompute": "full"}, {"fused_attention": True}])
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_arithmetic_and_saved_bytes(model: Model, number: int, how: dict[str, Any]) -> None:
    if "fused_attention" in how and (model.window_pattern or model.score_cap or model.key_value_rank):
        how = {"fused_gate": True}
    _compare(_with_modules(model, number), setting_of(model, multi_token=True, **how))


@pytest.mark.parametrize("modules", MODULES, ids=",".join)
def test_recomputed_modules(modules: tuple[Any, ...]) -> None:
    for name in ("deepseek", "qwen2-moe"):
        if name == "deepseek" or "mla_up_proj" not in modules:
            setting = setting_of(NAMED[name], multi_token=True, recompute="selective", recompute_modules=modules)
            _compare(_with_modules(NAMED[name], 1), setting)


def test_all_parameters_learn_and_the_loss_is_a_sum() -> None:
    model = _with_modules(NAMED["deepseek"], 2)
    torch.manual_seed(0)
    module = build(model, Setting(sequence_length=32, multi_token=True))
    batch = random_batch(model, Setting(sequence_length=32), 2)
    loss = module.loss(batch)
    loss.backward()
    assert all(each.grad is not None and bool(each.grad.any()) for each in module.parameters())
    module.further = None
    assert 2.5 * module.loss(batch) < loss
