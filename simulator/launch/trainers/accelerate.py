"""Configurations of accelerate: YAML that says how processes share a model, and neither model nor batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simulator.launch.reading import DocumentReader, WhatIsSaid
from simulator.launch.record import WrittenLaunch
from simulator.launch.saying import (
    FrameworkFile,
    in_yaml,
    micro_batches_of,
    sharding_ranks,
    written_launch,
)
from simulator.launch.settings import LaunchSettings
from simulator.launch.starting import nodes_of, of_accelerate
from simulator.launch.tables import options_of
from simulator.launch.trainers.common import STRATEGIES, beside, hybrid_of
from simulator.scenario.scenario import Scenario
from simulator.specs.plan import Plan

_KINDS = {"no": "one", "multi_gpu": "replicas", "fsdp": "fsdp", "deepspeed": "deepspeed"}
_ZERO = {"none": 0, "zero1": 1, "zero2": 2, "zero3": 3}
_PARALLEL = "parallelism_config.parallelism_config_"
_FSDP = "fsdp_config.fsdp_"
_DEEPSPEED = "deepspeed_config."


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is a configuration of accelerate."""
    return "distributed_type" in document or "compute_environment" in document


def write(scenario: Scenario) -> WrittenLaunch:
    """A configuration for accelerate.

    Raises
    ------
    InputError
        Where it cannot run the plan.
    """
    command = f"accelerate launch --config_file {{name}} {of_accelerate(scenario)}train.py"
    text = in_yaml(_settings, scenario)
    return written_launch(scenario, FrameworkFile("accelerate", "accelerate.yaml", command, text, _unsaid(scenario)))


def uses_deepspeed(plan: Plan) -> bool:
    """Whether a plan is DeepSpeed's: FSDP shares parameters, and offloads everything."""
    return plan.sharding == "zero1" or (plan.sharding in ("zero2", "zero3") and bool(plan.offload_optimizer))


def _settings(scenario: Scenario) -> dict[str, Any]:
    plan, devices = scenario.plan, scenario.devices
    kind = "DEEPSPEED" if uses_deepspeed(plan) else "MULTI_GPU" if plan.sharding == "none" else "FSDP"
    settings: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": kind if devices > 1 or kind != "MULTI_GPU" else "NO",
        **options_of("accelerate").settings_for("plan", plan, "precision"),
        "num_machines": nodes_of(scenario)[0],
        "num_processes": devices,
        "machine_rank": 0,
        "rdzv_backend": "static",
        "same_network": True,
        "main_training_function": "main",
    }
    if kind == "DEEPSPEED":
        settings["deepspeed_config"] = {
            "zero_stage": _ZERO[plan.sharding or "none"],
            "gradient_accumulation_steps": micro_batches_of(scenario),
            "offload_optimizer_device": "cpu" if plan.offload_optimizer else "none",
            "offload_param_device": "none",
            **({"deepspeed_multinode_launcher": "standard"} if nodes_of(scenario)[0] > 1 else {}),
        }
    if kind == "FSDP":
        settings["fsdp_config"] = _fsdp(plan)
    if kind != "DEEPSPEED" and ((plan.tp or 1) > 1 or (plan.cp or 1) > 1 or plan.sharding == "hybrid"):
        settings |= _parallelism(plan)
    return settings


def _fsdp(plan: Plan) -> dict[str, Any]:
    return {
        "fsdp_version": 2,
        "fsdp_reshard_after_forward": plan.sharding != "zero2",
        "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_activation_checkpointing": plan.recompute == "full",
        "fsdp_offload_params": bool(plan.offload_optimizer),
        "fsdp_cpu_ram_efficient_loading": True,
        "fsdp_state_dict_type": "SHARDED_STATE_DICT",
    }


def _parallelism(plan: Plan) -> dict[str, Any]:
    shared = sharding_ranks(plan, "accelerate")
    return {
        f"{_PARALLEL}dp_replicate_size": (plan.dp or 1) // shared,
        f"{_PARALLEL}dp_shard_size": shared,
        **options_of("accelerate").settings_for("plan", plan, "tp", "cp"),
    }


def _unsaid(scenario: Scenario) -> Iterator[str]:
    plan, work = scenario.plan, scenario.workload
    micro = f"--per_device_train_batch_size {plan.micro_batch}"
    steps = micro_batches_of(scenario)
    yield f"the model ({scenario.model.id}) and its sequences of {work.sequence_length} tokens: the script's"
    yield f"batch of {work.global_batch}: the script's, {micro} and --gradient_accumulation_steps {steps}"
    yield f"optimizer={plan.optimizer}: the script's"
    if plan.recompute == "full" and (plan.sharding == "none" or uses_deepspeed(plan)):
        yield "recompute=full: the script's, --gradient_checkpointing"
    if plan.offload_optimizer and not uses_deepspeed(plan):
        yield "offloading of states alone: fsdp_offload_params moves parameters and gradients too"
    if uses_deepspeed(plan) and ((plan.tp or 1) > 1 or (plan.cp or 1) > 1):
        yield f"tp={plan.tp}, cp={plan.cp}: with DeepSpeed they are settings of its own configuration"
    if plan.precision == "tf32":
        yield "precision=tf32: torch.backends.cuda.matmul.allow_tf32 = True in the script"


def _meaning(settings: LaunchSettings, devices: int | None, assumed: list[str]) -> WhatIsSaid:
    """The devices that somebody says take the place of the file's processes."""
    number = settings.whole("num_processes")
    settings.whole("num_machines")
    number = devices or number
    kind = settings.word("distributed_type", _KINDS) or "one"
    plan = {**settings.fields("plan", "precision"), "pp": 1, **settings.fields("plan", "tp", "cp")}
    if kind == "fsdp":
        plan |= _read_fsdp(settings, number, plan)
    elif kind == "deepspeed":
        plan |= _read_deepspeed(settings, number)
    else:
        plan["sharding"] = "none"
        for name in settings.names():
            if name.startswith((_FSDP, _PARALLEL)):
                settings.value(name)  # of no use to processes that share nothing
    assumed.append("micro_batch and global_batch: the script's; say them by --micro-batch and --global-batch")
    assumed.append("optimizer=adamw: the script's; say it by --optimizer")
    assumed += [] if "recompute" in plan else ["recompute=none: the script's; say it by --recompute"]
    return WhatIsSaid({"recompute": "none", "optimizer": "adamw", **plan}, devices=number)


_INSIDE_NODES = ("hybrid_shard", "4")
"""Strategies of FSDP 1 that share inside of a node, and hold the same on each."""


def _read_fsdp(settings: LaunchSettings, devices: int | None, plan: Mapping[str, Any]) -> dict[str, Any]:
    """What FSDP of either version shares."""
    settings.whole(f"{_FSDP}version")
    kept = settings.value(f"{_FSDP}reshard_after_forward")
    word = str(kept).lower()
    strategies = {**STRATEGIES, **dict.fromkeys(_INSIDE_NODES, "hybrid")}
    strategy = settings.word(f"{_FSDP}sharding_strategy", strategies)
    if strategy is None and word in STRATEGIES:
        strategy = STRATEGIES[word]
    if strategy is None:
        strategy = "zero2" if kept is not None and word in ("false", "no") else "zero3"
    checkpointing = settings.flag(f"{_FSDP}activation_checkpointing")
    sharding = {
        "sharding": strategy,
        "recompute": "full" if checkpointing else "none",
        "offload_optimizer": settings.flag(f"{_FSDP}offload_params"),
    }
    replicate = settings.whole(f"{_PARALLEL}dp_replicate_size") or 1
    shard = settings.whole(f"{_PARALLEL}dp_shard_size")
    if strategy == "hybrid" and replicate == 1:
        machines = settings.whole("num_machines") or 1
        if devices is None or devices % machines:
            raise settings.wrong(
                f"{_FSDP}sharding_strategy", "shares inside of nodes: num_processes has to say their size"
            )
        return sharding | {"sharding_group": devices // machines}
    if replicate == 1:
        return sharding
    return sharding | hybrid_of(settings, plan, devices, replicate, shard, _OPEN_SHARD)


_OPEN_SHARD = (f"{_PARALLEL}dp_replicate_size", "leaves the shard size open; add num_processes")


def _read_deepspeed(settings: LaunchSettings, devices: int | None) -> dict[str, Any]:
    """What DeepSpeed shares, by a file of its own where one is named."""
    name = f"{_DEEPSPEED}deepspeed_config_file"
    if name in settings:
        plan = beside(settings, name, devices)
        if plan is None:
            raise settings.wrong(name, "is not there; put it beside the file, or read it by itself with --model")
        return {field: value for field, value in plan.items() if field not in ("recompute", "optimizer")}
    stage = settings.whole(f"{_DEEPSPEED}zero_stage", least=0)
    if stage is None or stage > 3:
        raise settings.wrong("distributed_type", "needs deepspeed_config with zero_stage 0, 1, 2 or 3")
    settings.whole(f"{_DEEPSPEED}gradient_accumulation_steps")
    if settings.word(f"{_DEEPSPEED}offload_param_device", {"none": False, "cpu": True, "nvme": True}):
        raise settings.wrong(f"{_DEEPSPEED}offload_param_device", "offloads parameters, which capsim does not price")
    device = settings.word(f"{_DEEPSPEED}offload_optimizer_device", {"none": False, "cpu": True})
    return {"sharding": ("none", "zero1", "zero2", "zero3")[stage], "offload_optimizer": bool(device)}


read = DocumentReader("accelerate", _meaning)
"""What a configuration of accelerate says."""
