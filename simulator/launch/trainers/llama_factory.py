"""Configurations of LLaMA-Factory: YAML for training of a whole model from the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simulator.launch.naming import names_of
from simulator.launch.reading import DocumentReader, WhatIsSaid
from simulator.launch.record import WrittenLaunch
from simulator.launch.saying import (
    FrameworkFile,
    in_yaml,
    lacks,
    micro_batches_of,
    nodes_of,
    steps_of,
    written_launch,
)
from simulator.launch.settings import LaunchSettings
from simulator.launch.tables import options_of
from simulator.launch.trainers.common import (
    batch_of,
    model_of_hub,
    of_deepspeed,
    optimizer_of,
    precision_of,
    said_optimizer,
)
from simulator.scenario.scenario import Scenario
from simulator.specs.plan import Plan

_ZERO = {"zero2": "ds_z2", "zero3": "ds_z3"}
"""Configurations of DeepSpeed in examples/deepspeed, by the start of their names."""


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is a configuration of LLaMA-Factory."""
    return "model_name_or_path" in document


def write(scenario: Scenario) -> WrittenLaunch:
    """A configuration for LLaMA-Factory.

    Raises
    ------
    InputError
        Where the model has no name at the hub, or the plan cannot be run.
    """
    table, model, plan = options_of("llama-factory"), scenario.model, scenario.plan
    if model.id not in names_of("hub") or model.kind != "decoder":
        raise lacks(table.framework, f"name for {model.id}", "choose a decoder of the Hugging Face hub")
    if plan.sharding not in ("none", *_ZERO):
        what = f"configuration of DeepSpeed for sharding={plan.sharding} among its examples"
        raise lacks(table.framework, what, "choose zero2, zero3 or none")
    if (plan.tp or 1) > 1 or (plan.cp or 1) > 1:
        what = f"setting of its own for tp={plan.tp}, cp={plan.cp}"
        raise lacks(table.framework, what, "choose replicas, or write for axolotl or accelerate")
    nodes, per_node = nodes_of(scenario)
    command = f"FORCE_TORCHRUN=1 NNODES={nodes} NPROC_PER_NODE={per_node} llamafactory-cli train {{name}}"
    text = in_yaml(_settings, scenario)
    return written_launch(
        scenario, FrameworkFile("llama-factory", "llama-factory.yaml", command, text, _unsaid(scenario))
    )


def _settings(scenario: Scenario) -> dict[str, Any]:
    table, plan, work = options_of("llama-factory"), scenario.plan, scenario.workload
    offload = "_offload" if plan.offload_optimizer else ""
    deepspeed = {"deepspeed": f"examples/deepspeed/{_ZERO.get(plan.sharding or '')}{offload}_config.json"}
    return {
        "model_name_or_path": names_of("hub")[scenario.model.id][0],
        "stage": "pt",
        "do_train": True,
        "finetuning_type": "full",
        **(deepspeed if plan.sharding in _ZERO else {}),
        "dataset": "my_dataset",
        **table.settings_for("workload", work, "sequence_length"),
        "packing": work.effective_tokens in (None, work.sequence_length),
        "output_dir": "saves",
        **table.settings_for("plan", plan, "micro_batch"),
        "gradient_accumulation_steps": micro_batches_of(scenario),
        "max_steps": steps_of(scenario),
        "learning_rate": 1.0e-5,
        "lr_scheduler_type": "cosine",
        **said_optimizer("optim", plan.optimizer),
        **_precision(plan),
        **table.settings_for("plan", plan, "attention", "recompute"),
    }


def _precision(plan: Plan) -> dict[str, Any]:
    """Number formats; all states are in bf16 only where LLaMA-Factory allows it, which is not under ZeRO-3."""
    settings: dict[str, Any] = {"bf16": plan.precision in ("bf16", "fp8"), "fp16": plan.precision == "fp16"}
    if plan.precision in ("tf32", "fp8"):
        settings[plan.precision] = True
    return settings | ({"pure_bf16": True} if _pure(plan) else {})


def _pure(plan: Plan) -> bool:
    """Whether all states are in bf16, and can be."""
    narrow = plan.precision == "bf16" and plan.master_weights is False and not plan.parameters_in_fp32
    return narrow and plan.sharding != "zero3"


def _unsaid(scenario: Scenario) -> Iterator[str]:
    plan = scenario.plan
    yield f"devices={scenario.devices}: as many processes as the launcher starts"
    if plan.sharding in _ZERO:
        yield "number formats of gradients under DeepSpeed: those of the configuration that the file names"
    if plan.master_weights is False and not _pure(plan):
        yield "master_weights=False: DeepSpeed holds fp32 copies of 16-bit parameters"
    if not scenario.workload.says_length:
        yield "how long the run is: max_steps 1000 stands for it"
    yield "learning rate, its schedule and data: those in the file are placeholders"


def _meaning(settings: LaunchSettings, devices: int | None, assumed: list[str]) -> WhatIsSaid:
    _refuse_other_training(settings)
    plan: dict[str, Any] = {
        "tp": 1,
        "pp": 1,
        "cp": 1,
        "sharding": "none",
        **precision_of(settings),
        **settings.fields("plan", "micro_batch"),
        "optimizer": optimizer_of(settings, "optim"),
        **settings.fields("plan", "recompute", "attention"),
    }
    if settings.flag("tf32") and plan["precision"] == "fp32":
        plan["precision"] = "tf32"
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
