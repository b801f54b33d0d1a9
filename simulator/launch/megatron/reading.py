"""A scenario from a shell script or a list of arguments of Megatron-LM."""

from __future__ import annotations

from typing import Any

from hardware.errors import InputError
from simulator.launch.megatron.model_reading import model_of
from simulator.launch.megatron.writing import MOMENTS
from simulator.launch.naming import stack_of
from simulator.launch.record import LaunchFile
from simulator.launch.settings import LaunchSettings
from simulator.launch.shell.options import StartedTraining, settings_of, training_of
from simulator.launch.tables import options_of

MARKS = ("--num-layers", "--tensor-model-parallel-size", "--micro-batch-size", "--num-attention-heads")
"""Options by which a file is known."""
_PLACES = {
    "plan.tp": "--tensor-model-parallel-size",
    "plan.pp": "--pipeline-model-parallel-size",
    "plan.cp": "--context-parallel-size",
    "plan.ep": "--expert-model-parallel-size",
    "plan.etp": "--expert-tensor-parallel-size",
    "plan.virtual_stages": "--num-virtual-stages-per-pipeline-rank",
    "plan.first_stage_layers": "--decoder-first-pipeline-num-layers",
    "plan.last_stage_layers": "--decoder-last-pipeline-num-layers",
    "plan.micro_batch": "--micro-batch-size",
    "workload.global_batch": "--global-batch-size",
    "workload.sequence_length": "--seq-length",
}
"""Options that fields of a scenario come from, for errors about them."""
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
    settings = settings_of(started.options, path)
    assumed = list(started.script.assumed)
    table = options_of("megatron-lm")
    model = model_of(settings, started.program, assumed)
    devices = devices or devices_of(started, path)
    plan = _plan(settings, model["layers"], started)
    workload = _workload(settings, plan, devices, assumed)
    model["training"]["global_batch"] = workload["global_batch"]
    unread = settings.finish(table.unread, known=table.known)
    if devices is None:
        assumed.append("devices: as many as the system usually has; the file does not say")
    return LaunchFile(
        framework=table.framework,
        path=path,
        stack=stack_of("megatron-lm"),
        model=model,
        workload=workload,
        plan=plan,
        devices=devices,
        read=settings.read(),
        assumed=tuple(assumed),
        ignored=unread,
        places={field: settings.place(name) for field, name in _PLACES.items() if name in settings},
    )


def devices_of(started: StartedTraining, path: str) -> int | None:
    """Devices of the run, as torchrun's options or the batch system's lines say; none where they do not."""
    launcher = settings_of([word for word in started.launcher if not word.why or word.text.startswith("--")], path)
    per_node = launcher.whole("--nproc_per_node", "--nproc-per-node")
    nodes = launcher.value("--nnodes")
    batch = started.script.batch
    if per_node is None:
        per_node = _digits(batch.get("ntasks-per-node") or batch.get("gpus-per-node"))
        count = _digits(batch.get("nodes") or batch.get("N")) if per_node is not None else None
        return None if per_node is None else per_node * (count or 1)
    if nodes is None or nodes == []:
        return per_node
    number = _digits(str(nodes[0]))
    if number is None:
        raise InputError(f"{launcher.place('--nnodes')}: --nnodes={nodes[0]}: must be a whole number")
    return per_node * number


def _digits(text: str | None) -> int | None:
    """The number at the end of a text such as 8 or h100:8."""
    last = (text or "").rpartition(":")[2]
    return int(last) if last.isdigit() and 0 < int(last) < 10**7 else None


def _plan(settings: LaunchSettings, layers: int, started: StartedTraining) -> dict[str, Any]:
    """The split of the run."""
    tensor = settings.whole("--tensor-model-parallel-size") or 1
    stages = settings.whole("--pipeline-model-parallel-size") or 1
    plan: dict[str, Any] = {
        "tp": tensor,
        "pp": stages,
        "cp": settings.whole("--context-parallel-size") or 1,
        "ep": settings.whole("--expert-model-parallel-size") or 1,
        "sequence_parallel": settings.flag("--sequence-parallel") and tensor > 1,
        "micro_batch": settings.needed("--micro-batch-size", "--batch-size"),
        "optimizer": _optimizer(settings),
        "recompute": _recompute(settings),
        "offload_optimizer": settings.flag("--optimizer-cpu-offload"),
    }
    expert = settings.whole("--expert-tensor-parallel-size")
    if expert is not None:
        plan["etp"] = expert
    settings.word("--cp-comm-type", {"p2p": True, "a2a": True, "allgather": True, "a2a+p2p": True})
    if settings.flag("--use-tp-pp-dp-mapping"):
        plan["placement"] = "tp-cp-pp-dp"
    plan |= _stages(settings, layers, stages)
    plan |= _precision(settings, started)
    plan |= _sharding(settings)
    backends = {"auto": "fused", "flash": "fused", "fused": "fused", "unfused": "unfused", "local": "unfused"}
    plan["attention"] = settings.word("--attention-backend", backends) or "fused"
    return plan


def _optimizer(settings: LaunchSettings) -> str:
    """The optimizer, with the format of its moments; Muon as it is unless told."""
    kinds = {"adam": "adamw", "sgd": "sgd", "lion": "lion", "muon": "muon"}
    name = settings.word("--optimizer", kinds) or "adamw"
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
    chunks = settings.whole("--num-virtual-stages-per-pipeline-rank")
    of_chunk = settings.whole("--num-layers-per-virtual-pipeline-stage")
    ends = [settings.flag(f"--account-for-{part}-in-pipeline-split") for part in ("embedding", "loss")]
    if of_chunk is not None:
        counted = layers + sum(ends)
        if counted % (stages * of_chunk):
            raise settings.wrong(
                "--num-layers-per-virtual-pipeline-stage", f"times pp={stages} has to divide {counted} layers"
            )
        chunks = counted // (stages * of_chunk)
    uneven = {
        "first_stage_layers": settings.whole("--decoder-first-pipeline-num-layers"),
        "last_stage_layers": settings.whole("--decoder-last-pipeline-num-layers"),
    }
    told = {name: number for name, number in uneven.items() if number is not None}
    several = (chunks or 1) > 1
    return {"virtual_stages": chunks or 1, "schedule": "interleaved" if several else "1f1b", **told}


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
    if sharding in ("none", "zero2"):
        raise settings.wrong("--num-distributed-optimizer-instances", f"is not understood with sharding={sharding}")
    return {"sharding": "hybrid" if sharding == "zero3" else sharding, "instances": instances}


def _recompute(settings: LaunchSettings) -> str:
    """What the backward pass computes again."""
    kinds = {"full": "full", "selective": "selective", "none": "none"}
    kind = settings.word("--recompute-granularity", kinds)
    old = settings.flag("--recompute-activations")
    modules = settings.value("--recompute-modules")
    if modules is not None and modules != ["core_attn"]:
        raise settings.wrong("--recompute-modules", "is not understood; capsim reads core_attn")
    method = settings.word("--recompute-method", {"uniform": "uniform", "block": "block"})
    number = settings.whole("--recompute-num-layers")
    if kind == "full" and method == "block":
        raise settings.wrong(
            "--recompute-method", f"recomputes {number or 1} layers of a stage only, which is not understood"
        )
    if kind == "full" and (number or 1) > 1:
        raise settings.wrong("--recompute-num-layers", "keeps the input of each so many layers; capsim reads 1")
    return kind or ("selective" if old else "none")


def _workload(
    settings: LaunchSettings, plan: dict[str, Any], devices: int | None, assumed: list[str]
) -> dict[str, Any]:
    """Sequence, batch and length of the run; the groups of sharding become ranks."""
    shards = plan.pop("instances", None)
    inner = plan["tp"] * plan["pp"] * plan["cp"]
    replicas = devices // inner if devices is not None and devices % inner == 0 else None
    if shards is not None:
        ranks = (replicas or 0) * plan["cp"]
        if not ranks or ranks % shards:
            raise settings.wrong(
                "--num-distributed-optimizer-instances", f"does not divide the {ranks} data-parallel ranks"
            )
        plan["sharding_group"] = ranks // shards
    batch = settings.whole("--global-batch-size")
    if batch is None:
        if replicas is None:
            raise InputError(f"{settings.path}: --global-batch-size is missing, and the devices do not tell it; add it")
        batch = plan["micro_batch"] * replicas
        assumed.append(f"global_batch={batch}: one micro-batch of each replica")
    steps, samples = settings.whole("--train-iters"), settings.whole("--train-samples")
    work: dict[str, Any] = {
        "sequence_length": settings.needed("--seq-length", "--encoder-seq-length"),
        "global_batch": batch,
    }
    if steps is not None:
        work["steps"] = steps
    elif samples is not None:
        work["tokens"] = float(samples * work["sequence_length"])
    capacity = settings.real("--moe-expert-capacity-factor")
    padded = settings.flag("--moe-pad-expert-input-to-capacity")
    if capacity is not None and capacity > 0 and padded:
        work["capacity_factor"] = capacity
    return work
