"""Bytes kept for the backward pass against what autograd keeps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from measure.count.activations import saved_activations
from measure.count.collectives import fake_ranks
from measure.models import Setting, Split, build, random_batch
from simulator.specs.choices import Recompute
from simulator.specs.model import Model
from simulator.work.program import program_of
from tests.against_torch.cases import (
    BERT,
    BERT_LARGE,
    EVERY,
    FAMILIES,
    GPT,
    GPT_22B,
    LLAMA,
    MIXTRAL,
    NEOX,
    PALM,
    PALM_540B,
    SOME_EXPERTS,
    SPLIT,
    name_of,
    predictions_of,
    scenarios_of,
    setting_of,
)

RECOMPUTE: tuple[Recompute, ...] = ("none", "selective", "full")
SHARES = {"gathers-again": True, "keeps-gathered": False}
"""What sequence parallelism does with the gathered input of a product: Megatron's way, and that of torch."""


@pytest.fixture(params=[2, 4, 8])
def degree(request: pytest.FixtureRequest) -> Iterator[int]:
    with fake_ranks(request.param):
        yield request.param


def of_torch(model: Model, setting: Setting, micro_batch: int = 4) -> int:
    module = build(model, setting)
    batch = random_batch(model, setting, micro_batch, predictions=predictions_of(model, setting))
    return saved_activations(lambda: module.loss(batch), module).bytes


def check(model: Model, setting: Setting, micro_batch: int = 4) -> None:
    program = program_of(scenarios_of(model, setting, micro_batch=micro_batch))
    assert program.together.saved_bytes == of_torch(model, setting, micro_batch)


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("model", EVERY, ids=name_of)
def test_small_models(model: Model, recompute: Recompute) -> None:
    check(model, setting_of(model, recompute=recompute))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("model", EVERY, ids=name_of)
def test_precisions(model: Model, dtype: torch.dtype) -> None:
    check(model, setting_of(model, dtype=dtype))


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize(("length", "micro_batch"), [(512, 8), (128, 3)])
def test_bert_large(length: int, micro_batch: int, recompute: Recompute) -> None:
    check(BERT_LARGE, setting_of(BERT_LARGE, length, recompute=recompute), micro_batch)


@pytest.mark.parametrize("model", [GPT_22B, PALM_540B], ids=name_of)
def test_large_decoders(model: Model) -> None:
    check(model, setting_of(model, 2048, recompute="selective"), 4)


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("fused_qkv", [False, True])
@pytest.mark.parametrize("model", [BERT, GPT, PALM, LLAMA, NEOX], ids=name_of)
def test_fused_attention(model: Model, fused_qkv: bool, recompute: Recompute) -> None:
    check(model, setting_of(model, fused_attention=True, fused_qkv=fused_qkv, recompute=recompute))


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("model", [BERT, GPT, PALM, LLAMA, NEOX], ids=name_of)
def test_joint_projection(model: Model, recompute: Recompute) -> None:
    check(model, setting_of(model, fused_qkv=True, recompute=recompute))


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("model", [PALM, LLAMA, MIXTRAL], ids=name_of)
def test_fused_gate(model: Model, recompute: Recompute) -> None:
    check(model, setting_of(model, fused_gate=True, recompute=recompute))


SPARSE = (MIXTRAL, SOME_EXPERTS, *(model for model in FAMILIES if model.experts > 1))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("model", SPARSE, ids=name_of)
def test_routers_weights_inside_of_experts(model: Model, fused: bool) -> None:
    check(model, setting_of(model, fused_gate=fused, weighs_activations=True))


@pytest.mark.parametrize("weighs", [False, True])
@pytest.mark.parametrize("model", [PALM, LLAMA, *SPARSE], ids=name_of)
def test_activation_inputs_in_8_bits(model: Model, weighs: bool) -> None:
    check(model, setting_of(model, fused_gate=True, activation_inputs_in_fp8=True, weighs_activations=weighs))


def test_head_on_all_positions() -> None:
    check(BERT, setting_of(BERT, all_positions=True))


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("model", SPLIT, ids=name_of)
def test_tensor_parallel_rank(model: Model, degree: int, recompute: Recompute) -> None:
    check(model, setting_of(model, recompute=recompute, split=Split(degree)))


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("regathers", SHARES.values(), ids=SHARES)
@pytest.mark.parametrize("model", SPLIT, ids=name_of)
def test_sequence_parallel_rank(model: Model, degree: int, regathers: bool, recompute: Recompute) -> None:
    split = Split(degree, sequence_parallel=True, regathers_inputs=regathers)
    check(model, setting_of(model, recompute=recompute, split=split))


@pytest.mark.parametrize("model", [BERT_LARGE, PALM_540B], ids=name_of)
def test_large_models_on_a_rank(model: Model, degree: int) -> None:
    split = Split(degree, sequence_parallel=True, regathers_inputs=True)
    check(model, setting_of(model, 512, split=split), 1)


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("model", [BERT, GPT, PALM, LLAMA], ids=name_of)
def test_each_layer_alone(model: Model, recompute: Recompute) -> None:
    """Each layer keeps just what one layer is said to keep, and the rest is what embedding and head are said to."""
    setting = setting_of(model, recompute=recompute)
    program = program_of(scenarios_of(model, setting))
    one = program.groups[0].tally.saved_bytes
    ends = program.embedding.tally.saved_bytes + program.head.tally.saved_bytes
    kept = [of_torch(model.model_copy(update={"layers": number}), setting) for number in (1, 2, 5)]
    assert kept == [ends + number * one for number in (1, 2, 5)]
