"""A scenario from a shell script or a list of arguments of Megatron-LM."""

from __future__ import annotations

from typing import Any

from hardware.errors import InputError
from simulator.launch.megatron.model_reading import group_of_states, model_of, refuse_groups
from simulator.launch.megatron.recomputation import fields_of
from simulator.launch.megatron.writing import MOMENTS
from simulator.launch.reading import WhatIsSaid, launch_file_of
from simulator.launch.record import LaunchFile
from simulator.launch.settings import LaunchSettings
from simulator.launch.shell.options import StartedTraining, devices_of, settings_of, training_of
from simulator.launch.tables import options_of

MARKS = ("--num-layers", "--tensor-model-parallel-size", "--micro-batch-size", "--num-attention-heads")
"""Options by which a file is known."""
_STRATEGIES = {"no_shard": "none", "optim": "zero1", "optim_grads": "zero2", "optim_grads_params": "zero3"}


def read(text: str, path: str, devices: int | None = None) -> LaunchFile:
    """What a script or a list of arguments says.

    Parameters
    ----------
    text
        The script.
    path
        Its file.
    devices
        Devices of the run, in the place of those that the script says.

    Raises
    ------
    InputError
        With file and line.
    """
    started = training_of(text, path, MARKS)
    settings = settings_of(started.options, path, options_of("megatron-lm"))
    assumed = list(started.script.assumed)
    model = model_of(settings, started.program, assumed)
    number = devices or devices_of(started.launcher, started.script.batch, path)
    plan = _plan(settings, model["layers"], started)
    workload = _workload(settings, plan, number, assumed)
    model["training"]["global_batch"] = workload["global_batch"]
    if number is None:
        assumed.append("devices: as many as the system usually has; the file does not say")
    said = WhatIsSaid(plan, workload, model, number)
    return launch_file_of("megatron-lm", settings, said, assumed, set_only=True)


def _plan(settings: LaunchSettings, layers: int, started: StartedTraining) -> dict[str, Any]:
    """The split of the run."""
    plan = settings.fields("plan", "tp", "pp", "cp", "ep")
    plan |= {
        "sequence_parallel": settings.flag("--sequence-parallel") and plan["tp"] > 1,
        **settings.fields("plan", "micro_batch", "optimizer"),
        **_recompute(settings),
        **settings.fields("plan", "offload_optimizer", "etp"),
    }
    settings.word("--cp-comm-type", {"p2p": True, "a2a": True, "allgather": True, "a2a+p2p": True})
    plan["optimizer"] = _optimizer(settings, plan["optimizer"])
    if settings.flag("--use-tp-pp-dp-mapping"):
        plan["placement"] = "tp-cp-pp-dp"
    plan |= _stages(settings, layers, plan["pp"])
    plan |= _precision(settings, started)
    plan |= _sharding(settings)
    return plan | settings.fields("plan", "attention")


def _optimizer(settings: LaunchSettings, name: str) -> str:
    """The optimizer, with the format of its moments; Muon as it is unless told."""
    settings.flag("--use-precision-aware-optimizer")
    formats = {"fp32": "fp32", **{moments: moments for moments in MOMENTS.values()}}
    first, second = (settings.word(option, formats) or "fp32" for option in ("--exp-avg-dtype", "--exp-avg-sq-dtype"))
    if first != second:
        raise settings.wrong(
            "--exp-avg-sq-dtype" if second != "fp32" else "--exp-avg-dtype", "is understood of both moments alike only"
        )
    settings.word("--muon-num-ns-steps", {"5": True})
    settings.word("--muon-tp-mode", {"duplicated": True})
    settings.word("--muon-scalar-optimizer", {"adam": True})
    if name == "sgd" and settings.real("--sgd-momentum") == 0.0:
        return "sgd-without-momentum"
    return next((known for known, moments in MOMENTS.items() if moments == first), name) if name == "adamw" else name


def _stages(settings: LaunchSettings, layers: int, stages: int) -> dict[str, Any]:
    """Chunks and uneven stages of a pipeline."""
    chunks = settings.fields("plan", "virtual_stages").get("virtual_stages")
    of_chunk = settings.whole("--num-layers-per-virtual-pipeline-stage")
    ends = [settings.flag(f"--account-for-{part}-in-pipeline-split") for part in ("embedding", "loss")]
    if of_chunk is not None:
        counted = layers + sum(ends)
        if counted % (stages * of_chunk):
            raise settings.wrong(
                "--num-layers-per-virtual-pipeline-stage", f"times pp={stages} has to divide {counted} layers"
            )
        chunks = counted // (stages * of_chunk)
    uneven = settings.fields("plan", "first_stage_layers", "last_stage_layers")
    several = (chunks or 1) > 1
    return {"virtual_stages": chunks or 1, "schedule": "interleaved" if several else "1f1b", **uneven}


def _precision(settings: LaunchSettings, started: StartedTraining) -> dict[str, Any]:
    """Number formats of products and gradients."""
    half, brain = settings.flag("--fp16"), settings.flag("--bf16")
    if half and brain:
        raise settings.wrong("--fp16", "excludes --bf16; keep one")
    narrow = settings.word("--fp8-format", {"hybrid": True, "e4m3": True}) or False
    in_bf16, in_fp32 = settings.flag("--grad-reduce-in-bf16"), settings.flag("--accumulate-allreduce-grads-in-fp32")
    plan: dict[str, Any] = {}
    if half or brain:
        plan["precision"] = "fp8" if narrow else "fp16" if half else "bf16"
        plan["gradients_in_fp32"] = in_fp32 if half else not in_bf16
    else:
        tensor_floats = started.script.variables.get("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE") == "1"
        plan["precision"] = "tf32" if tensor_floats else "fp32"
    if settings.flag("--first-last-layers-bf16"):
        ends = [settings.whole(f"--num-layers-at-{end}-in-bf16", least=0) for end in ("start", "end")]
        plan["layers_in_16_bits"] = sum(1 if number is None else number for number in ends)
    return plan


def _sharding(settings: LaunchSettings) -> dict[str, Any]:
    """What replicas share, in which groups."""
    distributed = settings.flag("--use-distributed-optimizer")
    strategy = settings.word("--data-parallel-sharding-strategy", _STRATEGIES)
    fully = settings.flag("--use-megatron-fsdp", "--use-custom-fsdp")
    instances = settings.whole("--num-distributed-optimizer-instances") or 1
    outer = settings.word("--outer-dp-sharding-strategy", {"no_shard": False, "optim": True})
    if outer:
        raise settings.wrong("--outer-dp-sharding-strategy", "is not understood; capsim reads no_shard")
    if settings.flag("--use-torch-fsdp2"):
        return {"sharding": "zero3"}
    sharding = (strategy or "none") if fully else "zero1" if distributed else "none"
    if instances == 1:
        return {"sharding": sharding}
    refuse_groups(settings, "--num-distributed-optimizer-instances", sharding)
    return {"sharding": "hybrid" if sharding == "zero3" else sharding, "instances": instances}


def _recompute(settings: LaunchSettings) -> dict[str, Any]:
    """What the backward pass computes again."""
    kind: str | None = settings.fields("plan", "recompute").get("recompute")
    old = settings.flag("--recompute-activations")
    names = ("--recompute-modules", "--recompute-method", "--recompute-num-layers")
    return fields_of(settings, kind or ("selective" if old else "none"), names)


def _workload(
    settings: LaunchSettings, plan: dict[str, Any], devices: int | None, assumed: list[str]
) -> dict[str, Any]:
    """Sequence, batch and length of the run; the groups of sharding become ranks."""
    shards = plan.pop("instances", None)
    inner = plan["tp"] * plan["pp"] * plan["cp"]
    replicas = devices // inner if devices is not None and devices % inner == 0 else None
    if shards is not None:
        option, ranks = "--num-distributed-optimizer-instances", (replicas or 0) * plan["cp"]
        plan["sharding_group"] = group_of_states(settings, option, shards, ranks)
    batch: int | None = settings.fields("workload", "global_batch").get("global_batch")
    if batch is None:
        if replicas is None:
            raise InputError(f"{settings.path}: --global-batch-size is missing, and the devices do not tell it; add it")
        batch = plan["micro_batch"] * replicas
        assumed.append(f"global_batch={batch}: one micro-batch of each replica")
    steps, samples = settings.fields("workload", "steps"), settings.whole("--train-samples")
    work = settings.fields("workload", "sequence_length") | {"global_batch": batch} | steps
    if not steps and samples is not None:
        work["tokens"] = float(samples * work["sequence_length"])
    capacity = settings.real("--moe-expert-capacity-factor")
    padded = settings.flag("--moe-pad-expert-input-to-capacity")
    if capacity is not None and capacity > 0 and padded:
        work["capacity_factor"] = capacity
    return work
