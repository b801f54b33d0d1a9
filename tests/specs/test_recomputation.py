"""What a plan may say of recomputation, what contradicts it, and which stacks have it."""

from __future__ import annotations

from typing import Any

import pytest

import simulator
from hardware.errors import InputError
from hardware.reading import build
from simulator.specs.loading import load_stack
from simulator.specs.plan import Plan
from tests.work.asking import program


@pytest.mark.parametrize(
    ("said", "recompute"),
    [
        ({"recompute_modules": "core_attn, mlp"}, "selective"),
        ({"recompute_layers": 2, "recompute_method": "every"}, "full"),
        ({"recompute": "operators"}, "operators"),
        ({}, None),
    ],
)
def test_the_kind_follows(said: dict[str, Any], recompute: str | None) -> None:
    assert build(Plan, said).recompute == recompute


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"recompute": "full", "recompute_modules": ["mlp"]}, "recompute_modules=mlp belongs to recompute=selective"),
        ({"recompute": "none", "recompute_layers": 4}, "recompute_layers=4 belongs to recompute=full, not to"),
        ({"recompute_layers": 4}, "recompute_layers=4 needs recompute_method, what it counts: every, block or uniform"),
        ({"recompute_method": "block"}, "recompute_method=block needs recompute_layers, how many layers"),
        (
            {"recompute_modules": ["mlp"], "recompute_layers": 4, "recompute_method": "block"},
            "recompute_layers=4 belongs to recompute=full, not to recompute=selective",
        ),
        ({"recompute_modules": "attn"}, "unknown module 'attn'"),
        ({"recompute_modules": "mlp,mlp"}, "'mlp,mlp' must name modules once each"),
    ],
)
def test_contradictions_are_one_sentence(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        build(Plan, said)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("model", "plan", "stack", "sentence"),
    [
        ("llama-3-8b", {"recompute_modules": "mla_up_proj"}, "megatron-lm", "the model has no latent attention"),
        ("llama-3-8b", {"recompute_modules": "moe_act"}, "megatron-lm", "moe_act: the model has no experts"),
        ("mixtral-8x7b", {"recompute_modules": "mlp"}, "megatron-lm", "mlp: the model has no dense feed-forward layer"),
        ("mixtral-8x7b", {"recompute_modules": "shared_experts"}, "megatron-lm", "the model has no shared experts"),
        ("bert-large", {"recompute_modules": "layernorm"}, "megatron-lm", "layernorm: the model has normalisations of"),
        ("palm-8b", {"recompute": "operators"}, "pytorch-fsdp", "recompute=operators: the model has parallel blocks"),
        (
            "llama-3-8b",
            {"recompute_layers": 9, "recompute_method": "block", "pp": 4},
            "megatron-lm",
            "recompute_layers=9 exceeds the 8 layers of a stage",
        ),
        (
            "llama-3-8b",
            {"recompute_modules": "mlp"},
            "megatron-lm-2022",
            "2022 has no recompute_modules=mlp",
        ),
        (
            "llama-3-8b",
            {"recompute_layers": 2, "recompute_method": "every"},
            "megatron-lm",
            "has no recompute_method=every; it has recompute_method block, uniform",
        ),
        ("llama-3-8b", {"recompute": "operators"}, "megatron-lm", "stack=megatron-lm has no recompute=operators"),
    ],
)
def test_what_a_model_or_a_stack_lacks_is_refused(model: str, plan: dict[str, Any], stack: str, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        simulator.resolve(model, "dgx-h100", devices=64, stack=stack, plan={"micro_batch": 1, **plan})
    assert sentence in str(refused.value)


def test_stacks_have_what_their_code_has() -> None:
    megatron, titan = load_stack("megatron-lm").offers, load_stack("pytorch-fsdp-compiled").offers
    assert len(megatron.recompute_modules) == 7
    assert megatron.recompute_methods == ("block", "uniform")
    assert (titan.recompute_methods, titan.recompute_modules) == (("every",), ())
    assert "operators" in titan.recompute
    assert "operators" not in megatron.recompute
    assert load_stack("megatron-lm-2021").offers.recompute_methods == ("block", "uniform")


@pytest.mark.parametrize(
    ("plan", "layers", "inputs"),
    [
        ({"recompute_layers": 5, "recompute_method": "every"}, 8 * 2, 8 * 2),
        ({"recompute_layers": 5, "recompute_method": "block"}, 8 * 5, 8 * 5),
        ({"recompute_layers": 5, "recompute_method": "uniform"}, 96, 8 * 3),
        ({"recompute_layers": 5, "recompute_method": "block", "virtual_stages": 2}, 8 * 2 * 5, 8 * 2 * 5),
        ({"recompute_layers": 4, "recompute_method": "uniform", "virtual_stages": 2}, 96, 8 * 2 * 2),
    ],
)
def test_layers_are_counted_on_each_stage(plan: dict[str, Any], layers: int, inputs: int) -> None:
    """Of 96 layers on 8 stages of 12: each fifth, the first five, chunks of five; 6 of a virtual stage."""
    split, batch = {"pp": 8, "tp": 8, "recompute": "full"}, {"global_batch": 512}
    some = program("gpt3-175b", plan={**split, **plan}, devices=512, workload=batch)
    one = some.groups[0].tally
    kept = (96 - layers) * float(one.all_saved_bytes) + inputs * float(one.checkpoint_bytes)
    assert float(some.layers.saved_bytes) == pytest.approx(kept, rel=1e-12)
    full = program("gpt3-175b", plan=split, devices=512, workload=batch)
    assert float(some.repeated_flops) == pytest.approx(float(full.repeated_flops) * layers / 96, rel=1e-12)
