"""Cross-entropies of every kind against torch: arithmetic and kept bytes."""

from __future__ import annotations

from typing import Any

import pytest
from torch.nn import functional

from measure.count.activations import saved_activations
from measure.count.flops import flops
from measure.models import build, random_batch
from simulator.specs.model import Model
from simulator.work.program import program_of
from tests.against_torch.cases import BERT, EVERY, GPT, LLAMA, PALM, name_of, predictions_of, scenarios_of, setting_of
from tests.against_torch.losses import set_loss
from tests.against_torch.tuning import adapted

_LORA = {"train": "lora", "lora_rank": 4, "lora_targets": "attention"}
CAPPED = next(model for model in EVERY if model.id == "gemma-2")


def check(
    model: Model, kind: str, tuning: dict[str, Any], z_loss: float = 0.0, smoothing: float = 0.0, **stack: Any
) -> None:
    """Arithmetic and kept bytes are those of torch, without a gradient of the head that is there early."""
    setting = setting_of(model)
    module = adapted(model, setting, "attention") if tuning else build(model, setting)
    early = set_loss(module, kind, z_loss)
    batch = random_batch(model, setting, 4, predictions=predictions_of(model, setting))
    told = {**tuning, "z_loss": z_loss or None, "label_smoothing": smoothing or None}
    program = program_of(scenarios_of(model, setting, tuning=told, stack=stack or None, cross_entropy=kind))
    assert program.together.saved_bytes == saved_activations(lambda: module.loss(batch), module).bytes - early
    assert program.model_flops + program.recomputed_flops == flops(lambda: module.loss(batch)).total


@pytest.mark.parametrize("tuning", [{}, _LORA], ids=["full", "lora"])
@pytest.mark.parametrize("z_loss", [0.0, 1e-4])
@pytest.mark.parametrize("kind", ["unfused", "fused"])
@pytest.mark.parametrize("model", [BERT, GPT, LLAMA, PALM], ids=name_of)
def test_losses_of_all_logits(model: Model, kind: str, z_loss: float, tuning: dict[str, Any]) -> None:
    check(model, kind, tuning, z_loss)


@pytest.mark.parametrize("tuning", [{}, _LORA], ids=["full", "lora"])
@pytest.mark.parametrize("model", [GPT, LLAMA, PALM], ids=name_of)
def test_losses_by_pieces(model: Model, tuning: dict[str, Any]) -> None:
    check(model, "chunked", tuning)


@pytest.mark.parametrize("stack", [{"keeps_logits": False}, {"loss_passes": 1.0}])
def test_the_plan_says_it_whatever_the_stack_does(stack: dict[str, Any]) -> None:
    check(LLAMA, "unfused", {}, **stack)


def test_capped_logits_stay_for_their_gradient() -> None:
    check(CAPPED, "unfused", {}, 1e-4)


def test_smoothed_labels_keep_which_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = functional.cross_entropy
    monkeypatch.setattr(functional, "cross_entropy", lambda *inputs: plain(*inputs, label_smoothing=0.1))
    check(LLAMA, "unfused", {}, smoothing=0.1)
