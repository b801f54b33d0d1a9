"""Arithmetic against torch's own counter on the meta device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from measure.count.collectives import fake_ranks
from measure.count.flops import Flops, flops, flops_needed_again
from measure.models import Layer, Setting, Split, Tower, build, random_batch
from simulator.specs.choices import Recompute
from simulator.specs.model import Model
from simulator.work.counts import counts_of
from simulator.work.program import program_of
from tests.against_torch.cases import (
    BERT,
    BERT_LARGE,
    EVERY,
    GPT,
    GPT_22B,
    LLAMA,
    MIXTRAL,
    NEOX,
    PALM,
    PALM_540B,
    SPLIT,
    name_of,
    predictions_of,
    scenarios_of,
    setting_of,
)

RECOMPUTE: tuple[Recompute, ...] = ("none", "selective", "full")


@pytest.fixture(params=[2, 4, 8])
def degree(request: pytest.FixtureRequest) -> Iterator[int]:
    with fake_ranks(request.param):
        yield request.param


def of_torch(model: Model, setting: Setting, micro_batch: int = 4, *, stops_early: bool = False) -> Flops:
    module = build(model, setting)
    batch = random_batch(model, setting, micro_batch, predictions=predictions_of(model, setting))
    return flops(lambda: module.loss(batch), stops_early=stops_early)


def check(model: Model, setting: Setting, micro_batch: int = 4) -> None:
    scenarios = scenarios_of(model, setting, micro_batch=micro_batch)
    one, counted = program_of(scenarios), of_torch(model, setting, micro_batch)
    assert one.model_flops == 3 * counted.forward - _without_input_gradient(model, setting)
    assert one.model_flops + one.recomputed_flops == counted.total
    assert counts_of(one).executed_flops == counted.total * setting.split.degree


def _without_input_gradient(model: Model, setting: Setting) -> int:
    """Projections of positions, of which the backward pass is one product instead of two."""
    if model.positions != "transformer-xl":
        return 0
    width = model.attention_heads // setting.split.degree * model.width_of_head
    return 2 * model.layers * setting.sequence_length * model.hidden_size * width


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("model", EVERY, ids=name_of)
def test_small_models(model: Model, recompute: Recompute) -> None:
    check(model, setting_of(model, recompute=recompute))


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize(("model", "length", "micro_batch"), [(BERT_LARGE, 512, 8), (BERT_LARGE, 128, 3)], ids=name_of)
def test_bert_large(model: Model, length: int, micro_batch: int, recompute: Recompute) -> None:
    check(model, setting_of(model, length, recompute=recompute), micro_batch)


@pytest.mark.parametrize("model", [GPT_22B, PALM_540B], ids=name_of)
def test_large_decoders(model: Model) -> None:
    check(model, setting_of(model, 2048, recompute="full"), 4)


@pytest.mark.parametrize("fused_qkv", [False, True])
@pytest.mark.parametrize("model", [BERT, GPT, PALM, LLAMA, NEOX], ids=name_of)
def test_fused_attention_computes_its_scores_again(model: Model, fused_qkv: bool) -> None:
    check(model, setting_of(model, fused_attention=True, fused_qkv=fused_qkv))


def test_head_on_all_positions() -> None:
    check(BERT, setting_of(BERT, all_positions=True))


@pytest.mark.parametrize("recompute", ["selective", "full"])
@pytest.mark.parametrize("model", SPLIT, ids=name_of)
def test_tensor_parallel_rank(model: Model, degree: int, recompute: Recompute) -> None:
    check(model, setting_of(model, recompute=recompute, split=Split(degree)))


@pytest.mark.parametrize("model", [BERT, GPT, PALM, LLAMA], ids=name_of)
def test_sequence_parallel_rank(model: Model, degree: int) -> None:
    split = Split(degree, sequence_parallel=True, regathers_inputs=True)
    check(model, setting_of(model, recompute="full", split=split))


def test_parts_add_up() -> None:
    setting = setting_of(BERT_LARGE, 512)
    scenarios = scenarios_of(BERT_LARGE, setting)
    program = program_of(scenarios)
    ends = program.embedding.model_flops + program.head.model_flops
    assert ends + 24 * program.groups[0].model_flops == of_torch(BERT_LARGE, setting).total


def test_step_of_many_micro_batches() -> None:
    setting = setting_of(GPT)
    scenarios = scenarios_of(GPT, setting, micro_batch=2, micro_batches=3, dp=2)
    assert counts_of(program_of(scenarios)).model_flops == 6 * of_torch(GPT, setting, 2).total


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("model", [BERT, LLAMA], ids=name_of)
def test_recomputation_that_stops_early(model: Model, recompute: Recompute) -> None:
    """Torch leaves out what follows the last tensor it needs: the last product of attention, or of a pre-norm layer."""
    setting = setting_of(model, recompute=recompute)
    one = program_of(scenarios_of(model, setting, stack={"drops_unused_recompute": True}))
    assert one.model_flops + one.recomputed_flops == of_torch(model, setting, stops_early=True).total


@pytest.mark.parametrize("model", [PALM, NEOX, LLAMA, BERT, MIXTRAL], ids=name_of)
def test_recomputation_of_a_compiler(model: Model) -> None:
    """A compiler leaves out every product that nothing needs: in a parallel block both of them."""
    model = model.model_copy(update={"dropout": False})
    setting = setting_of(model)
    scenarios = scenarios_of(model, setting_of(model, recompute="full"), stack={"drops_unused_recompute": True})
    one = program_of(scenarios).groups[0]
    built = Layer(model, setting, experts=model.experts > 1)
    scores = Tower(model, setting).positions()
    inputs = torch.empty(64, 4, model.hidden_size, device="meta", dtype=torch.bfloat16, requires_grad=True)
    assert one.recomputed_flops == flops_needed_again(lambda hidden: built(hidden, scores), inputs)
