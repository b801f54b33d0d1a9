"""Configurations of axolotl: YAML for training of a whole model from the Hugging Face hub."""

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
    sharding_ranks,
    steps_of,
    written_launch,
)
from simulator.launch.settings import LaunchSettings
from simulator.launch.tables import options_of
from simulator.launch.trainers.common import (
    batch_of,
    hybrid_of,
    model_of_hub,
    of_deepspeed,
    optimizer_of,
    precision_of,
    said_optimizer,
)
from simulator.scenario.scenario import Scenario
from simulator.specs.plan import Plan

_ZERO = {"zero1": "zero1.json", "zero2": "zero2.json", "zero3": "zero3_bf16.json"}


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is a configuration of axolotl."""
    return "base_model" in document


def write(scenario: Scenario) -> WrittenLaunch:
    """A configuration for axolotl.

    Raises
    ------
    InputError
        Where the model has no name at the hub, or the plan cannot be run.
    """
    table, model = options_of("axolotl"), scenario.model
    if model.id not in names_of("hub") or model.kind != "decoder":
        raise lacks(table.framework, f"name for {model.id}", "choose a decoder of the Hugging Face hub")
    if _uses_deepspeed(scenario.plan) and (scenario.plan.tp or 1) > 1:
        raise lacks(table.framework, "tensor parallelism beside DeepSpeed", "choose sharding=zero3")
    command = f"axolotl train {{name}} --launcher torchrun -- --nproc_per_node={scenario.system.devices_per_node}"
    text = in_yaml(_settings, scenario)
    return written_launch(scenario, FrameworkFile("axolotl", "axolotl.yaml", command, text, _unsaid(scenario)))


def _uses_deepspeed(plan: Plan) -> bool:
    """Whether a plan is DeepSpeed's: FSDP shares parameters, or offloads all that it shares."""
    return plan.sharding == "zero1" or (plan.sharding == "zero2" and bool(plan.offload_optimizer))


def _settings(scenario: Scenario) -> dict[str, Any]:
    table, plan, work = options_of("axolotl"), scenario.plan, scenario.workload
    return {
        "base_model": names_of("hub")[scenario.model.id][0],
        "datasets": [{"path": "my-dataset", "type": "completion"}],
        "output_dir": "./outputs",
        **table.settings_for("workload", work, "sequence_length"),
        "sample_packing": work.effective_tokens in (None, work.sequence_length),
        **table.settings_for("plan", plan, "micro_batch"),
        "gradient_accumulation_steps": micro_batches_of(scenario),
        "max_steps": steps_of(scenario),
        **said_optimizer("optimizer", plan.optimizer),
        "learning_rate": 2e-5,
        "lr_scheduler": "cosine",
        **_precision(plan),
        **table.settings_for("plan", plan, "attention"),
        "gradient_checkpointing": plan.recompute == "full",
        **_sharding(plan),
    }


def _precision(plan: Plan) -> dict[str, Any]:
    narrow = plan.precision == "fp8"
    return {
        "bf16": plan.precision in ("bf16", "fp8"),
        "fp16": plan.precision == "fp16",
        "tf32": plan.precision == "tf32",
        **({"fp8": True} if narrow else {}),
    }


def _sharding(plan: Plan) -> dict[str, Any]:
    """FSDP where parameters are shared, DeepSpeed where only states are."""
    degrees = options_of("axolotl").settings_for("plan", plan, "tp", "cp")
    if plan.sharding in (None, "none"):
        return {name: size for name, size in degrees.items() if size > 1}
    if _uses_deepspeed(plan):
        return {"deepspeed": f"deepspeed_configs/{_ZERO[plan.sharding]}"}
    replicas = plan.dp or 1
    shared = sharding_ranks(plan, "axolotl")
    settings = {
        "offload_params": bool(plan.offload_optimizer),
        "reshard_after_forward": plan.sharding != "zero2",
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "state_dict_type": "SHARDED_STATE_DICT",
    }
    degrees |= {"dp_replicate_size": replicas // shared, "dp_shard_size": shared}
    return {"fsdp_version": 2, "fsdp_config": settings, **degrees}


def _unsaid(scenario: Scenario) -> Iterator[str]:
    plan = scenario.plan
    yield f"devices={scenario.devices}: as many processes as the launcher starts"
    if _uses_deepspeed(plan):
        yield "offloading and precision of DeepSpeed: those of the configuration that the file names"
    elif plan.offload_optimizer:
        yield "offloading of states alone: offload_params moves parameters and gradients too"
    if not scenario.workload.says_length:
        yield "how long the run is: max_steps 1000 stands for it"
    yield "learning rate, its schedule and data: those in the file are placeholders"


def _meaning(settings: LaunchSettings, devices: int | None, assumed: list[str]) -> WhatIsSaid:
    _refuse_adapters(settings)
    plan: dict[str, Any] = {"pp": 1, **precision_of(settings), **_read_degrees(settings)}
    if settings.flag("tf32") and plan["precision"] == "fp32":
        plan["precision"] = "tf32"
    plan |= of_deepspeed(settings, devices) or _read_fsdp(settings, plan, devices)
    plan |= _read_others(settings)
    work = settings.fields("workload", "sequence_length")
    if not settings.flag("sample_packing"):
        assumed.append("sample_packing is off, and how far sequences are padded is not known: say --effective-tokens")
    work |= settings.fields("workload", "steps")
    work |= batch_of(settings, plan, devices, assumed)
    return WhatIsSaid(plan, work, model_of_hub(settings, "base_model"), devices)


def _refuse_adapters(settings: LaunchSettings) -> None:
    """Refuse training of adapters, and of quantised models."""
    for key in ("adapter", "load_in_8bit", "load_in_4bit"):
        if settings.value(key) not in (None, "", False):
            raise settings.wrong(
                key, "trains adapters of a frozen model, which capsim does not price; it reads full training"
            )


def _read_degrees(settings: LaunchSettings) -> dict[str, Any]:
    plan = settings.fields("plan", "tp", "cp")
    if (settings.whole("expert_parallel_size") or 1) > 1:
        raise settings.wrong(
            "expert_parallel_size", "is not understood: capsim's huggingface has no expert parallelism"
        )
    return plan


def _read_fsdp(settings: LaunchSettings, plan: Mapping[str, Any], devices: int | None) -> dict[str, Any]:
    """What FSDP shares."""
    keys = [name for name in settings.names() if name.startswith("fsdp")]
    replicate, shard = settings.whole("dp_replicate_size") or 1, settings.whole("dp_shard_size")
    if not keys and (shard or 1) == 1:
        return {"sharding": "none"}
    kept = settings.value("fsdp_config.reshard_after_forward", "fsdp_config.fsdp_reshard_after_forward")
    offload = settings.flag("fsdp_config.offload_params", "fsdp_config.fsdp_offload_params")
    sharing = {"sharding": "zero2" if kept is False else "zero3", "offload_optimizer": offload}
    if settings.flag("fsdp_config.activation_checkpointing", "fsdp_config.fsdp_activation_checkpointing"):
        sharing["recompute"] = "full"
    if replicate == 1:
        return sharing
    if_open = ("dp_replicate_size", "leaves the shard size open; add dp_shard_size or say --devices")
    return sharing | hybrid_of(settings, plan, devices, replicate, shard, if_open)


def _read_others(settings: LaunchSettings) -> dict[str, Any]:
    """Micro-batch, optimizer, recomputation and attention."""
    kernel = settings.fields("plan", "attention").get("attention")
    flags = {name: settings.flag(name) for name in ("flash_attention", "sdp_attention", "eager_attention")}
    kernel = kernel or ("unfused" if flags["eager_attention"] else "fused" if any(flags.values()) else None)
    checkpointing = settings.value("gradient_checkpointing")
    if checkpointing in ("offload", "offload_disk"):
        raise settings.wrong("gradient_checkpointing", "offloads activations, which capsim does not price")
    plan: dict[str, Any] = {
        **settings.fields("plan", "micro_batch"),
        "optimizer": optimizer_of(settings, "optimizer"),
    }
    if kernel is not None:
        plan["attention"] = kernel
    if checkpointing is not None:
        plan["recompute"] = "full" if settings.flag("gradient_checkpointing") else "none"
    return {"recompute": "none", **plan}


read = DocumentReader("axolotl", _meaning)
"""What a configuration of axolotl says."""
