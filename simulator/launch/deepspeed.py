"""DeepSpeed's JSON configuration, which says how a model is trained and not which."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from hardware.errors import InputError
from simulator.launch.documents import nested
from simulator.launch.reading import DocumentReader, WhatIsSaid
from simulator.launch.record import WrittenLaunch
from simulator.launch.saying import FrameworkFile, LaunchNotes, micro_batches_of, written_launch
from simulator.launch.settings import LaunchSettings
from simulator.launch.starting import of_deepspeed
from simulator.launch.tables import options_of
from simulator.scenario.scenario import Scenario
from simulator.specs.plan import Plan

_STAGES = {"none": 0, "zero1": 1, "zero2": 2, "zero3": 3, "hybrid": 3}
_MOMENTA = {"sgd": 0.9, "sgd-without-momentum": 0.0}
_TYPES = {"bf16": "bfloat16", "fp16": "float16"}
_BYTES = {"fp32": True, "float32": True, "float": True, "bf16": False, "bfloat16": False, "fp16": False}
_BYTES |= {"float16": False, "half": False}
"""Whether a type of numbers is fp32."""
AUTO = "auto"
"""Stands for what the caller of DeepSpeed fills in."""


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is a configuration of DeepSpeed."""
    marks = {"train_batch_size", "train_micro_batch_size_per_gpu", "zero_optimization"}
    return bool(marks & document.keys()) and not {"model", "base_model", "compute_environment"} & document.keys()


def write(scenario: Scenario) -> WrittenLaunch:
    """A configuration for DeepSpeed.

    Raises
    ------
    InputError
        Where DeepSpeed cannot run the plan.
    """
    command = f"deepspeed {of_deepspeed(scenario)} train.py --deepspeed_config {{name}}"
    file = FrameworkFile(
        "deepspeed", "ds_config.json", command, lambda notes: _text(scenario, notes), _unsaid(scenario)
    )
    return written_launch(scenario, file)


def _text(scenario: Scenario, notes: LaunchNotes) -> str:
    """JSON, whose comments are a list under a key of their own."""
    lines = [line.strip() for line in notes.comment("").strip("\n").split("\n")]
    return json.dumps({options_of("deepspeed").comment: lines, **nested(_settings(scenario))}, indent=2) + "\n"


def _optimizer(plan: Plan) -> dict[str, Any]:
    """The optimizer's section; torch's SGD has no momentum unless told."""
    name, params = plan.optimizer or "adamw", {"lr": 1e-4, "weight_decay": 0.1}
    if name in _MOMENTA:
        plan, params["momentum"] = plan.model_copy(update={"optimizer": "sgd"}), _MOMENTA[name]
    return {**options_of("deepspeed").settings_for("plan", plan, "optimizer"), "optimizer.params": params}


def _settings(scenario: Scenario) -> dict[str, Any]:
    """All sections."""
    plan = scenario.plan
    settings: dict[str, Any] = {
        "train_batch_size": scenario.workload.global_batch or 0,
        "train_micro_batch_size_per_gpu": plan.micro_batch or 1,
        "gradient_accumulation_steps": micro_batches_of(scenario),
        "gradient_clipping": 1.0,
        **_optimizer(plan),
        **_precision(plan),
        "zero_optimization": _zero(plan),
    }
    if (plan.tp or 1) > 1:
        settings["tensor_parallel.autotp_size"] = plan.tp
    if (plan.ep or 1) > 1:
        etp = plan.etp or plan.tp
        settings["expert_parallel"] = {"enabled": True, "autoep_size": plan.ep, "expert_tensor_parallel_size": etp}
    if (plan.pp or 1) > 1:
        interval = int(plan.recompute == "full")
        settings["pipeline"] = {"stages": plan.pp, "activation_checkpoint_interval": interval}
    return settings


def _precision(plan: Plan) -> dict[str, Any]:
    """Number formats of products, states and gradients."""
    sections: dict[str, Any] = {}
    narrow = plan.precision in _TYPES
    if narrow and plan.parameters_in_fp32:
        sections["torch_autocast"] = {"enabled": True, "dtype": _TYPES[plan.precision or "bf16"]}
    elif narrow:
        sections[plan.precision or "bf16"] = {"enabled": True}
        if plan.precision == "bf16" and plan.master_weights is False:
            sections["bf16"]["bf16_master_weights_and_grads"] = True
    if narrow and plan.gradients_in_fp32 is not None and not plan.parameters_in_fp32:
        sections["data_types"] = {"grad_accum_dtype": "fp32" if plan.gradients_in_fp32 else plan.precision}
    if narrow and plan.reduction_in_fp32 is not None:
        sections["communication_data_type"] = "fp32" if plan.reduction_in_fp32 else plan.precision
    return sections


def _zero(plan: Plan) -> dict[str, Any]:
    """What replicas share."""
    section: dict[str, Any] = {"stage": _STAGES[plan.sharding or "none"]}
    if plan.sharding == "hybrid":
        section["mics_shard_size"] = plan.sharding_group
    if section["stage"]:
        section |= {"overlap_comm": plan.sharding in ("zero3", "hybrid"), "contiguous_gradients": True}
    if plan.offload_optimizer:
        section["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    return section


def _unsaid(scenario: Scenario) -> Iterator[str]:
    """What a configuration does not say."""
    plan, work, model = scenario.plan, scenario.workload, scenario.model
    yield f"the model ({model.id}), its sequences of {work.sequence_length} tokens and the run's length: the program's"
    if (plan.pp or 1) > 1:
        yield f"pp={plan.pp}: the program builds PipelineModule(num_stages={plan.pp})"
    elif plan.recompute == "full":
        yield "recompute=full: the program switches it on, such as by model.gradient_checkpointing_enable()"
    if plan.attention == "unfused":
        yield "attention=unfused: the program's, such as attn_implementation='eager'"
    if plan.precision == "tf32":
        yield "precision=tf32: the program's, by torch.backends.cuda.matmul.allow_tf32 = True"
    if plan.sharding == "hybrid":
        yield "sharding=hybrid: MiCS, which the program enters by deepspeed.zero.MiCS_Init; not in v0.19.8 and later"
    if plan.sharding_group is not None and plan.sharding == "zero1":
        yield f"sharding_group={plan.sharding_group}: ZeRO-1 shares states among all replicas"
    if plan.first_stage_layers or plan.last_stage_layers:
        yield "first_stage_layers, last_stage_layers: PipelineModule splits by its partition_method"
    yield "learning rate, its schedule and data: those in the file are placeholders"


def _meaning(settings: LaunchSettings, devices: int | None, assumed: list[str]) -> WhatIsSaid:
    plan = {**_read_degrees(settings), **_read_precision(settings), **_read_zero(settings)}
    plan |= settings.fields("plan", "optimizer")
    if plan["optimizer"] == "sgd" and settings.real("optimizer.params.momentum") == 0.0:
        plan["optimizer"] = "sgd-without-momentum"
    if "optimizer.type" not in settings:
        assumed.append("optimizer=adamw: the program's own optimizer is not known")
    plan["recompute"] = "full" if settings.whole("pipeline.activation_checkpoint_interval", least=0) else "none"
    if "pipeline.activation_checkpoint_interval" not in settings:
        assumed.append("recompute=none: it is the program that switches it on; say so by --recompute full")
    workload, number = _read_batch(settings, plan, devices, assumed)
    return WhatIsSaid(plan, workload, devices=number)


def _open(settings: LaunchSettings, *names: str) -> int | None:
    """A whole number; none where it is left to DeepSpeed's caller."""
    return None if settings.value(*names) == AUTO else settings.whole(*names)


def _read_degrees(settings: LaunchSettings) -> dict[str, Any]:
    """Degrees of the axes."""
    tensor = settings.whole("tensor_parallel.autotp_size", "tensor_parallel.tp.tp_size", least=0) or 1
    stages = _open(settings, "pipeline.stages") or 1
    plan: dict[str, Any] = {"tp": tensor, "pp": stages, "cp": 1, "ep": 1}
    if settings.flag("expert_parallel.enabled"):
        plan["ep"] = settings.whole("expert_parallel.autoep_size") or 1
        plan["etp"] = settings.whole("expert_parallel.expert_tensor_parallel_size") or 1
    if (settings.whole("sequence_parallel_size") or 1) > 1:
        raise settings.wrong(
            "sequence_parallel_size", "is not understood: capsim's deepspeed has no context parallelism"
        )
    return plan


def _flag(settings: LaunchSettings, name: str) -> bool:
    """Whether something is switched on; what the caller fills in counts as off."""
    return settings.value(name) != AUTO and settings.flag(name)


def _read_precision(settings: LaunchSettings) -> dict[str, Any]:
    """Number formats of products, states and gradients."""
    brain, half = _flag(settings, "bf16.enabled"), _flag(settings, "fp16.enabled")
    if brain and half:
        raise settings.wrong("fp16.enabled", "excludes bf16.enabled; keep one")
    plan: dict[str, Any] = {"precision": "bf16" if brain else "fp16" if half else "fp32"}
    if (
        "bf16.enabled" not in settings
        and "fp16.enabled" not in settings
        and not _flag(settings, "torch_autocast.enabled")
    ):
        return plan
    if settings.value("bf16.enabled") == AUTO and not half:
        plan["precision"] = "bf16"
    if _flag(settings, "torch_autocast.enabled"):
        words = {"bfloat16": "bf16", "float16": "fp16", "bf16": "bf16", "fp16": "fp16"}
        plan |= {"precision": settings.word("torch_autocast.dtype", words) or "bf16", "parameters_in_fp32": True}
    if settings.flag("bf16.bf16_master_weights_and_grads"):
        plan["master_weights"] = False
    stored, sent = (
        settings.word("data_types.grad_accum_dtype", _BYTES),
        settings.word("communication_data_type", _BYTES),
    )
    if stored is not None:
        plan["gradients_in_fp32"] = stored
    if sent is not None:
        plan["reduction_in_fp32"] = sent
    return plan


def _read_zero(settings: LaunchSettings) -> dict[str, Any]:
    """What replicas share."""
    stage = settings.whole("zero_optimization.stage", least=0) or 0
    if stage > 3:
        raise settings.wrong("zero_optimization.stage", "must be 0, 1, 2 or 3")
    plan: dict[str, Any] = {"sharding": ("none", "zero1", "zero2", "zero3")[stage]}
    group = settings.whole("zero_optimization.mics_shard_size", least=-1)
    if group is not None and group > 0:
        plan |= {"sharding": "hybrid", "sharding_group": group}
    device = settings.word("zero_optimization.offload_optimizer.device", {"cpu": True, "none": False})
    plan["offload_optimizer"] = bool(device) or settings.flag("zero_optimization.cpu_offload")
    if settings.word("zero_optimization.offload_param.device", {"none": False, "cpu": True, "nvme": True}):
        raise settings.wrong(
            "zero_optimization.offload_param.device", "offloads parameters, which capsim does not price"
        )
    for name in ("zero_hpz_partition_size", "zero_quantized_weights", "zero_quantized_gradients"):
        value = settings.value(f"zero_optimization.{name}")
        if value is True or (value is not None and not isinstance(value, bool) and value != 1 and value != 0):
            raise settings.wrong(f"zero_optimization.{name}", "is a part of ZeRO++, which capsim does not price")
    return plan


def _read_batch(
    settings: LaunchSettings, plan: dict[str, Any], devices: int | None, assumed: list[str]
) -> tuple[dict[str, Any], int | None]:
    """Batches, and the devices where they follow."""
    batch = _open(settings, "train_batch_size")
    micro = _open(settings, "train_micro_batch_size_per_gpu")
    steps = _open(settings, "gradient_accumulation_steps")
    inner = plan["tp"] * plan["pp"]
    replicas = devices // inner if devices is not None and devices % inner == 0 else None
    if micro is None and batch is not None and replicas is not None and batch % (replicas * (steps or 1)) == 0:
        micro = batch // (replicas * (steps or 1))
    if batch is None and micro is not None and replicas is not None:
        batch = micro * (steps or 1) * replicas
    if micro is not None:
        plan["micro_batch"] = micro
    else:
        assumed.append("micro_batch: left to DeepSpeed's caller; say it by --micro-batch")
    if batch is None:
        assumed.append("global_batch: it depends on the devices or on DeepSpeed's caller; say it by --global-batch")
        return {}, devices
    if devices is None and micro is not None and steps is not None:
        if batch % (micro * steps):
            raise settings.wrong(
                "train_batch_size", f"is no multiple of {micro} sequences x {steps} accumulation steps"
            )
        return {"global_batch": batch}, batch // (micro * steps) * inner
    if (
        devices is not None
        and None not in (micro, steps, replicas)
        and batch != (micro or 0) * (steps or 0) * (replicas or 0)
    ):
        raise InputError(
            f"{settings.place('train_batch_size')}: train_batch_size={batch} is not {micro} x {steps} x dp={replicas}; "
            f"change --devices={devices} or the batch"
        )
    return {"global_batch": batch}, devices


read = DocumentReader("deepspeed", _meaning)
"""What a configuration of DeepSpeed says."""
