"""Bytes kept and arithmetic done again under each way of recomputation, against torch: difference 0."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from measure.count.activations import saved_activations
from measure.count.collectives import fake_ranks
from measure.count.flops import flops
from measure.models import Setting, Split, build, random_batch
from measure.models.recomputation import outputs_kept
from simulator.specs.choices import MODULES
from simulator.specs.model import Model
from simulator.work.program import program_of
from tests.against_torch.cases import (
    DENSE,
    FAMILIES,
    GPT,
    LLAMA,
    MIXTRAL,
    SOME_EXPERTS,
    name_of,
    predictions_of,
    scenarios_of,
    setting_of,
)

NAMED = {model.id: model for model in (*DENSE, *FAMILIES)}
DEEPSEEK, QWEN_MOE = NAMED["deepseek"], NAMED["qwen2-moe"]
SERIAL = [
    model
    for model in (*DENSE, MIXTRAL, SOME_EXPERTS, *FAMILIES)
    if model.block == "serial" and model.query_rank is None
]
"""Latents of queries are projected by torchtitan in another order than by the reference module."""
LONG = {"layers": 12}


@pytest.fixture(params=[2, 4])
def degree(request: pytest.FixtureRequest) -> Iterator[int]:
    with fake_ranks(request.param):
        yield request.param


def compare(model: Model, setting: Setting, micro_batch: int = 4) -> None:
    """Saved bytes and executed arithmetic of one micro-batch."""
    module = build(model, setting)
    batch = random_batch(model, setting, micro_batch, predictions=predictions_of(model, setting))
    kept = saved_activations(lambda: module.loss(batch), module, outputs=lambda: outputs_kept(module)).bytes
    program = program_of(scenarios_of(model, setting, micro_batch=micro_batch))
    # Means over layers round in the last place.
    assert round(float(program.together.saved_bytes)) == kept
    fresh = build(model, setting)
    executed = float(program.model_flops + program.recomputed_flops)
    assert round(executed) == flops(lambda: fresh.loss(batch)).total


@pytest.mark.parametrize("model", SERIAL, ids=name_of)
def test_operators(model: Model) -> None:
    compare(model, setting_of(model, recompute="operators"))


@pytest.mark.parametrize("model", [GPT, LLAMA, MIXTRAL, *(NAMED[name] for name in ("bert", "qwen2-moe"))], ids=name_of)
def test_operators_beside_an_attention_kernel(model: Model) -> None:
    compare(model, setting_of(model, recompute="operators", fused_attention=True))


def test_operators_of_a_wide_model() -> None:
    wide = LLAMA.model_copy(update={"hidden_size": 512, "feed_forward_size": 1408, "attention_heads": 8, "layers": 3})
    compare(wide, setting_of(wide, 256, recompute="operators", fused_attention=True), 3)


@pytest.mark.parametrize("counted", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("method", ["every", "block", "uniform"])
@pytest.mark.parametrize("model", [GPT, LLAMA, NAMED["bert"], NAMED["neox"]], ids=name_of)
def test_layers(model: Model, method: Any, counted: int) -> None:
    long = model.model_copy(update=LONG)
    compare(long, setting_of(long, recompute="full", recompute_method=method, recompute_layers=counted))


@pytest.mark.parametrize("method", ["every", "block", "uniform"])
def test_layers_of_a_tensor_parallel_rank(method: Any, degree: int) -> None:
    long, split = LLAMA.model_copy(update=LONG), Split(degree, sequence_parallel=True, regathers_inputs=True)
    compare(long, setting_of(long, recompute="full", recompute_method=method, recompute_layers=5, split=split))


def _modules_of(model: Model) -> list[str]:
    """Modules that a model has."""
    has = {
        "mla_up_proj": bool(model.key_value_rank),
        "mlp": model.experts == 1 or bool(model.dense_layers_first or model.dense_layers),
        **dict.fromkeys(("moe", "moe_act"), model.experts > 1),
        "shared_experts": bool(model.shared_experts),
    }
    return [name for name in MODULES if has.get(name, True)]


CASES = [
    (model, modules)
    for model in (GPT, LLAMA, MIXTRAL, QWEN_MOE, DEEPSEEK)
    for number in (1, 2, 7)
    for modules in (combinations(_modules_of(model), number) if number < 7 else [tuple(_modules_of(model))])
]


@pytest.mark.parametrize(
    ("model", "modules"), CASES, ids=lambda each: each.id if isinstance(each, Model) else ",".join(each)
)
def test_modules(model: Model, modules: tuple[Any, ...]) -> None:
    compare(model, setting_of(model, recompute="selective", recompute_modules=modules))


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    "modules", [("moe_act",), ("moe",), ("moe_act", "layernorm"), ("moe_act", "moe", "shared_experts")]
)
@pytest.mark.parametrize("model", [QWEN_MOE, DEEPSEEK], ids=name_of)
def test_modules_beside_routers_weights_inside(
    model: Model, modules: tuple[Any, ...], fused: bool, narrow: bool
) -> None:
    changes = {"fused_gate": fused, "activation_inputs_in_fp8": fused and narrow, "weighs_activations": True}
    compare(model, setting_of(model, recompute="selective", recompute_modules=modules, **changes))


@pytest.mark.parametrize("model", [GPT, LLAMA], ids=name_of)
def test_attention_kernel_as_a_module(model: Model) -> None:
    compare(model, setting_of(model, recompute="selective", recompute_modules=("core_attn",), fused_attention=True))


@pytest.mark.parametrize("modules", [("core_attn",), ("mlp",), ("mlp", "layernorm"), ("layernorm", "core_attn")])
@pytest.mark.parametrize("regathers", [False, True])
@pytest.mark.parametrize("model", [GPT, LLAMA], ids=name_of)
def test_modules_of_a_tensor_parallel_rank(
    model: Model, regathers: bool, modules: tuple[Any, ...], degree: int
) -> None:
    split = Split(degree, sequence_parallel=True, regathers_inputs=regathers)
    compare(model, setting_of(model, recompute="selective", recompute_modules=modules, split=split))
