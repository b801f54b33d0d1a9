"""Configurations of LLaMA-Factory: YAML for training of a whole model from the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulator.launch.reading import DocumentReader, WhatIsSaid
from simulator.launch.settings import LaunchSettings
from simulator.launch.trainers.common import OPTIMIZERS, batch_of, model_of_hub, of_deepspeed, precision_of


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is a configuration of LLaMA-Factory."""
    return "model_name_or_path" in document


def _meaning(settings: LaunchSettings, devices: int | None, assumed: list[str]) -> WhatIsSaid:
    _refuse_other_training(settings)
    plan: dict[str, Any] = {
        "tp": 1,
        "pp": 1,
        "cp": 1,
        "sharding": "none",
        **precision_of(settings),
        **settings.fields("plan", "micro_batch"),
        "optimizer": settings.word("optim", OPTIMIZERS) or "adamw",
        **settings.fields("plan", "recompute", "attention"),
    }
    if settings.flag("pure_bf16"):
        plan |= {"precision": "bf16", "master_weights": False}
    plan |= of_deepspeed(settings, devices)
    if "disable_gradient_checkpointing" not in settings:
        assumed.append("recompute=full: LLaMA-Factory checkpoints each layer unless told")
    work = settings.fields("workload") | batch_of(settings, plan, devices, assumed)
    return WhatIsSaid(plan, work, model_of_hub(settings, "model_name_or_path"), devices)


def _refuse_other_training(settings: LaunchSettings) -> None:
    """Refuse adapters, and stages with more than one model."""
    kind, stage = settings.value("finetuning_type"), settings.value("stage")
    if kind not in (None, "full"):
        raise settings.wrong(
            "finetuning_type", "trains a part of the model, which capsim does not price; it reads full"
        )
    if kind is None:
        raise settings.wrong(
            "model_name_or_path", "goes with finetuning_type, which is lora unless told; add finetuning_type: full"
        )
    if stage not in (None, "pt", "sft"):
        raise settings.wrong("stage", "is not understood; capsim reads pt and sft")


read = DocumentReader("llama-factory", _meaning)
"""What a configuration of LLaMA-Factory says."""
