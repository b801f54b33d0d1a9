"""Configurations of axolotl: YAML for training of a whole model from the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hardware.writing import yaml_text
from simulator.launch.documents import settings_from
from simulator.launch.naming import names_of, stack_of
from simulator.launch.record import LaunchFile, WrittenLaunch
from simulator.launch.saying import lacks, notes_of, refuse_unlaunchable, sharding_ranks
from simulator.launch.settings import LaunchSettings
from simulator.launch.tables import options_of
from simulator.launch.trainers.common import (
    OPTIMIZER_ARGUMENTS,
    WRITTEN_OPTIMIZERS,
    batch_of,
    model_of_hub,
    of_deepspeed,
    optimizer_of,
    precision_of,
)
from simulator.scenario.scenario import Scenario
from simulator.specs.plan import Plan

_KERNELS = {"flash": "fused", "flash_attention_2": "fused", "sdpa": "fused", "eager": "unfused"}
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
    refuse_unlaunchable(scenario, stack_of("axolotl"))
    notes = notes_of(scenario, table.framework, table.release, list(_unsaid(scenario)))
    name = f"{model.id}-axolotl.yaml"
    command = f"axolotl train {name} --launcher torchrun -- --nproc_per_node={scenario.system.devices_per_node}"
    return WrittenLaunch(table.framework, name, notes.comment() + yaml_text(_document(scenario)), command, notes.unsaid)


def _uses_deepspeed(plan: Plan) -> bool:
    """Whether a plan is DeepSpeed's: FSDP shares parameters, or offloads all that it shares."""
    return plan.sharding == "zero1" or (plan.sharding == "zero2" and bool(plan.offload_optimizer))


def _optimizer(name: str) -> dict[str, Any]:
    """The optimizer, with arguments where its name does not tell."""
    arguments = OPTIMIZER_ARGUMENTS.get(name)
    return {"optimizer": WRITTEN_OPTIMIZERS[name], **({"optim_args": arguments} if arguments else {})}


def _document(scenario: Scenario) -> dict[str, Any]:
    plan, work = scenario.plan, scenario.workload
    accumulation = (work.global_batch or 1) // ((plan.dp or 1) * (plan.micro_batch or 1))
    return {
        "base_model": names_of("hub")[scenario.model.id][0],
        "datasets": [{"path": "my-dataset", "type": "completion"}],
        "output_dir": "./outputs",
        "sequence_len": work.sequence_length,
        "sample_packing": work.effective_tokens in (None, work.sequence_length),
        "micro_batch_size": plan.micro_batch,
        "gradient_accumulation_steps": accumulation,
        "max_steps": round(work.total_steps) if work.says_length else 1000,
        **_optimizer(plan.optimizer or "adamw"),
        "learning_rate": 2e-5,
        "lr_scheduler": "cosine",
        **_precision(plan),
        "attn_implementation": "eager" if plan.attention == "unfused" else "flash_attention_2",
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
    degrees = {"tensor_parallel_size": plan.tp or 1, "context_parallel_size": plan.cp or 1}
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
    settings, table = settings_from(document, path), options_of("axolotl")
    assumed: list[str] = []
    _refuse_adapters(settings)
    plan: dict[str, Any] = {"pp": 1, **precision_of(settings), **_read_degrees(settings)}
    if settings.flag("tf32") and plan["precision"] == "fp32":
        plan["precision"] = "tf32"
    plan |= of_deepspeed(settings, devices) or _read_fsdp(settings, plan, devices)
    plan |= _read_others(settings)
    work: dict[str, Any] = {"sequence_length": settings.needed("sequence_len")}
    if not settings.flag("sample_packing"):
        assumed.append("sample_packing is off, and how far sequences are padded is not known: say --effective-tokens")
    steps = settings.whole("max_steps", least=-1)
    work |= {"steps": steps} if steps is not None and steps > 0 else {}
    work |= batch_of(settings, plan, devices, assumed)
    return LaunchFile(
        framework=table.framework,
        path=path,
        stack=stack_of("axolotl"),
        model=model_of_hub(settings, "base_model"),
        workload=work,
        plan=plan,
        devices=devices,
        read=settings.read(),
        assumed=tuple(assumed),
        ignored=settings.finish(table.unread, known=table.known),
        places={"plan.tp": settings.place("tensor_parallel_size"), "plan.cp": settings.place("context_parallel_size")},
    )


def _refuse_adapters(settings: LaunchSettings) -> None:
    """Refuse training of adapters, and of quantised models."""
    for key in ("adapter", "load_in_8bit", "load_in_4bit"):
        if settings.value(key) not in (None, "", False):
            raise settings.wrong(
                key, "trains adapters of a frozen model, which capsim does not price; it reads full training"
            )


def _read_degrees(settings: LaunchSettings) -> dict[str, Any]:
    plan = {"tp": settings.whole("tensor_parallel_size") or 1, "cp": settings.whole("context_parallel_size") or 1}
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
    inner = replicate * plan["tp"] * plan["cp"]
    shard = shard or (devices // inner if devices is not None and devices % inner == 0 else None)
    if shard is None:
        raise settings.wrong("dp_replicate_size", "leaves the shard size open; add dp_shard_size or say --devices")
    return {**sharing, "sharding": "hybrid", "sharding_group": shard * plan["cp"]}


def _read_others(settings: LaunchSettings) -> dict[str, Any]:
    """Micro-batch, optimizer, recomputation and attention."""
    kernel = settings.word("attn_implementation", _KERNELS)
    flags = {name: settings.flag(name) for name in ("flash_attention", "sdp_attention", "eager_attention")}
    kernel = kernel or ("unfused" if flags["eager_attention"] else "fused" if any(flags.values()) else None)
    checkpointing = settings.value("gradient_checkpointing")
    if checkpointing in ("offload", "offload_disk"):
        raise settings.wrong("gradient_checkpointing", "offloads activations, which capsim does not price")
    plan: dict[str, Any] = {
        "micro_batch": settings.needed("micro_batch_size"),
        "optimizer": optimizer_of(settings, "optimizer"),
    }
    if kernel is not None:
        plan["attention"] = kernel
    if checkpointing is not None:
        plan["recompute"] = "full" if settings.flag("gradient_checkpointing") else "none"
    return {"recompute": "none", **plan}
