"""Models that run forward beside the trained one against torch: a reference of DPO, and a teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from measure.count.activations import saved_activations
from measure.count.flops import flops
from measure.models import Setting, Split, build, random_batch
from simulator.specs.choices import Recompute
from simulator.specs.model import Model
from simulator.work.counts import counts_of
from simulator.work.program import Program, program_of
from tests.against_torch.cases import BERT, GPT, LLAMA, MIXTRAL, name_of, predictions_of, scenarios_of, setting_of

RECOMPUTE: tuple[Recompute, ...] = ("none", "selective", "full")
MODELS = (GPT, LLAMA, MIXTRAL)
_WIDER: dict[str, Any] = {"layers": 3, "hidden_size": 192, "feed_forward_size": 256, "dropout": False}
"""How a teacher differs from its student."""


def _program(model: Model, setting: Setting, **work: Any) -> Program:
    return program_of(scenarios_of(model, setting, tuning=work))


def _evaluated(module: Any, batch: Any) -> Tensor:
    """The forward pass of a model that is not trained."""
    with torch.no_grad():
        return module.eval().loss(batch).detach()


def _check(program: Program, run: Callable[[], Tensor], module: Any, ranks: int = 1) -> None:
    frozen = program.frozen
    assert frozen is not None
    counted = flops(run)
    assert program.model_flops + program.recomputed_flops + frozen.model_flops == counted.total
    assert counts_of(program).executed_flops == counted.total * ranks
    assert program.together.saved_bytes == saved_activations(run, module).bytes
    assert frozen.together.saved_bytes == 0.0
    assert frozen.together.trained_parameters + frozen.together.trained_expert_parameters == 0.0


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_a_reference_runs_forward_and_keeps_nothing(model: Model, fused: bool, recompute: Recompute) -> None:
    setting = setting_of(model, fused_attention=fused, recompute=recompute)
    module, reference = build(model, setting), build(model, setting)
    batch = random_batch(model, setting, 4)
    program = _program(model, setting, preference="dpo")
    _check(program, lambda: module.loss(batch) - _evaluated(reference, batch), module)
    assert program.frozen is not None
    assert program.frozen.model_flops == flops(lambda: module.loss(batch)).forward


def test_a_reference_of_a_tensor_parallel_rank() -> None:
    setting = setting_of(LLAMA, split=Split(2))
    from measure.count.collectives import fake_ranks

    with fake_ranks(2):
        module, reference = build(LLAMA, setting), build(LLAMA, setting)
        batch = random_batch(LLAMA, setting, 4)
        program = _program(LLAMA, setting, preference="dpo")
        _check(program, lambda: module.loss(batch) - _evaluated(reference, batch), module, ranks=2)


def _divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """What `ForwardKLLoss` of torchtune 0.6.1 adds up."""
    probabilities = torch.softmax(teacher, dim=-1, dtype=torch.float32)
    return -(probabilities * torch.log_softmax(logits, dim=-1, dtype=torch.float32)).sum(-1).mean()


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("model", [GPT, LLAMA, BERT], ids=name_of)
def test_a_teacher_s_probabilities_are_kept(
    model: Model, recompute: Recompute, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = setting_of(model, recompute=recompute)
    taught = {"base": model, **_WIDER}
    program = _program(model, setting, teacher=taught)
    teacher_of = Model.model_validate({**model.model_dump(exclude_unset=True), **_WIDER})
    module, teacher = build(model, setting), build(teacher_of, setting)
    batch = random_batch(model, setting, 4, predictions=predictions_of(model, setting))
    logits: list[Tensor] = []
    head, other = type(module.head), teacher.head

    def loss(self: Any, rows: Tensor, labels: Tensor) -> Tensor:
        if self is other:
            logits.append(rows)
            return rows.flatten()[0]
        return _divergence(rows, logits.pop()) + 0.0 * labels.sum()

    monkeypatch.setattr(head, "_loss", loss)

    def run() -> Tensor:
        _evaluated(teacher, batch)
        return module.loss(batch)

    _check(program, run, module)
    assert program.frozen is not None
    without = program_of(scenarios_of(model, setting))
    rows = predictions_of(model, setting) or setting.sequence_length
    kept = program.together.saved_bytes - without.together.saved_bytes
    assert kept == 4 * 4 * rows * model.vocabulary_size
