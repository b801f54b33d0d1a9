"""Packed documents against torch: its kernel of variable lengths, and masks over whole squares."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from measure.count.activations import saved_activations
from measure.count.flops import flops
from measure.models import Setting, build, random_batch
from simulator.specs.choices import Recompute
from simulator.specs.model import Model
from simulator.work.counts import counts_of
from simulator.work.program import program_of
from tests.against_torch.cases import BERT, GPT, LLAMA, MIXTRAL, PALM, name_of, predictions_of, scenarios_of, setting_of

RECOMPUTE: tuple[Recompute, ...] = ("none", "selective", "full")
MODELS = (BERT, GPT, PALM, LLAMA, MIXTRAL)
PACKED = {"unequal": (29, 17, 11, 7), "alike": (16,) * 4, "one": (64,), "short": (1,) * 40 + (24,)}
"""Documents of a sequence of 64 tokens."""


def _counted(model: Model, setting: Setting, micro_batch: int = 4) -> tuple[int, int, int]:
    """What torch counts: arithmetic of the forward pass and of both, and kept bytes."""
    module = build(model, setting)
    batch = random_batch(model, setting, micro_batch, predictions=predictions_of(model, setting))
    counted = flops(lambda: module.loss(batch))
    return counted.forward, counted.total, saved_activations(lambda: module.loss(batch), module).bytes


@pytest.mark.parametrize("documents", PACKED.values(), ids=PACKED)
@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_arithmetic_and_kept_bytes(model: Model, fused: bool, recompute: Recompute, documents: tuple[int, ...]) -> None:
    setting = setting_of(model, fused_attention=fused, recompute=recompute, document_lengths=documents)
    program = program_of(scenarios_of(model, setting))
    forward, total, kept = _counted(model, setting)
    assert round(float(program.model_flops)) == 3 * forward
    assert round(float(program.model_flops + program.recomputed_flops)) == total
    assert math.isclose(counts_of(program).executed_flops, total, rel_tol=1e-15)
    assert program.together.saved_bytes == kept


@pytest.mark.parametrize("model", [GPT, LLAMA], ids=name_of)
def test_a_kernel_of_variable_lengths_is_run_again(model: Model) -> None:
    whole = setting_of(model, fused_attention=True, document_lengths=PACKED["unequal"])
    setting = replace(whole, recompute="selective", recompute_modules=("core_attn",))
    program, (_, total, kept) = program_of(scenarios_of(model, setting)), _counted(model, setting)
    assert round(float(program.model_flops + program.recomputed_flops)) == total
    assert program.together.saved_bytes == kept
    assert kept < _counted(model, whole)[2]


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_a_kernel_of_variable_lengths_keeps_what_one_of_whole_sequences_keeps(model: Model) -> None:
    whole = setting_of(model, fused_attention=True)
    assert _counted(model, replace(whole, document_lengths=PACKED["unequal"]))[2] == _counted(model, whole)[2]


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_only_a_fused_kernel_leaves_other_documents_out(model: Model) -> None:
    whole, packed = setting_of(model), setting_of(model, document_lengths=PACKED["unequal"])
    assert _counted(model, packed)[1] == _counted(model, whole)[1]
    lengths, heads = PACKED["unequal"], model.attention_heads * model.width_of_head
    less = model.layers * 4 * heads * (64**2 - sum(length**2 for length in lengths)) * 4
    fused = [replace(each, fused_attention=True) for each in (whole, packed)]
    assert _counted(model, fused[0])[0] - _counted(model, fused[1])[0] == less
    counted = [float(program_of(scenarios_of(model, each)).model_flops) for each in fused]
    assert round(counted[0] - counted[1]) == 3 * less


def test_masks_and_kernels_attend_to_the_same() -> None:
    """Documents one by one, a mask over all of them, and the sequences that they are, by the same weights."""
    documents = (10, 3, 19)
    settings = [
        setting_of(GPT, 32, device="cpu", dtype=torch.float64, fused_attention=fused, document_lengths=documents)
        for fused in (True, False)
    ]

    def hidden(setting: Setting) -> Tensor:
        torch.manual_seed(0)
        module = build(GPT, setting).eval()
        inputs = torch.randn(32, 2, GPT.hidden_size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            return module.tower(inputs)

    settings.append(replace(settings[1], masks_documents=False))
    one_by_one, masked, in_products = map(hidden, settings)
    assert torch.allclose(one_by_one, masked, atol=1e-12)
    assert torch.allclose(one_by_one, in_products, atol=1e-12)
    assert not torch.allclose(one_by_one, hidden(replace(settings[0], document_lengths=())), atol=1e-3)
