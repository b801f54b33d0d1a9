"""Configurations of LLaMA-Factory: YAML for training of a whole model from the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulator.launch.documents import settings_from
from simulator.launch.naming import stack_of
from simulator.launch.record import LaunchFile
from simulator.launch.settings import LaunchSettings
from simulator.launch.tables import options_of
from simulator.launch.trainers.common import batch_of, model_of_hub, of_deepspeed, optimizer_of, precision_of

_KERNELS = {"auto": "fused", "fa2": "fused", "sdpa": "fused", "disabled": "unfused"}


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is a configuration of LLaMA-Factory."""
    return "model_name_or_path" in document


def read(document: Mapping[str, Any], path: str, devices: int | None = None) -> LaunchFile:
    """What a configuration says.

    Parameters
    ----------
    document
        What the file holds.
    path
        The file.
    devices
        Devices of the run, where somebody says.

    Raises
    ------
    InputError
        With file and line.
    """
    settings, table = settings_from(document, path), options_of("llama-factory")
    assumed: list[str] = []
    _refuse_other_training(settings)
    plan: dict[str, Any] = {
        "tp": 1,
        "pp": 1,
        "cp": 1,
        "sharding": "none",
        **precision_of(settings),
        "micro_batch": settings.whole("per_device_train_batch_size") or 8,
        "optimizer": optimizer_of(settings, "optim"),
        "recompute": "none" if settings.flag("disable_gradient_checkpointing") else "full",
        "attention": settings.word("flash_attn", _KERNELS) or "fused",
    }
    if settings.flag("pure_bf16"):
        plan |= {"precision": "bf16", "master_weights": False}
    plan |= of_deepspeed(settings, devices)
    if "disable_gradient_checkpointing" not in settings:
        assumed.append("recompute=full: LLaMA-Factory checkpoints each layer unless told")
    work: dict[str, Any] = {"sequence_length": settings.whole("cutoff_len") or 2048}
    steps = settings.whole("max_steps", least=-1)
    work |= {"steps": steps} if steps is not None and steps > 0 else {}
    work |= batch_of(settings, plan, devices, assumed)
    return LaunchFile(
        framework=table.framework,
        path=path,
        stack=stack_of("llama-factory"),
        model=model_of_hub(settings, "model_name_or_path"),
        workload=work,
        plan=plan,
        devices=devices,
        read=settings.read(),
        assumed=tuple(assumed),
        ignored=settings.finish(table.unread, known=table.known),
    )


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
