"""Configurations of torchtitan: TOML, as releases up to 0.2 read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simulator.launch.documents import settings_from
from simulator.launch.naming import stack_of
from simulator.launch.record import LaunchFile, WrittenLaunch
from simulator.launch.saying import lacks, notes_of, refuse_unlaunchable, sharding_ranks
from simulator.launch.settings import LaunchSettings
from simulator.launch.tables import options_of
from simulator.scenario.scenario import Scenario
from simulator.specs.plan import Plan

MODELS = {
    "llama-3-8b": ("llama3", "8B"),
    "llama-3.1-8b": ("llama3", "8B"),
    "llama-3-70b": ("llama3", "70B"),
    "llama-3.1-70b": ("llama3", "70B"),
    "llama-3.1-405b": ("llama3", "405B"),
    "qwen3-30b-a3b": ("qwen3", "30B-A3B"),
    "qwen3-235b-a22b": ("qwen3", "235B-A22B"),
}
"""Models of the catalogue by name and flavour of torchtitan."""
_SCHEDULES = {
    "1f1b": "1F1B",
    "gpipe": "GPipe",
    "interleaved": "Interleaved1F1B",
    "zero-bubble": "InterleavedZeroBubble",
}
_READ_SCHEDULES = {word.lower(): name for name, word in _SCHEDULES.items()} | {"zbvzerobubble": "zero-bubble"}
_TWO_CHUNKS = ("interleaved", "zero-bubble")
_USUAL_EVERY = 2
"""`selective_ac_option` of `ActivationCheckpoint` in `torchtitan/config/job_config.py` of v0.2.2."""
_FLOAT8 = ("quantize.linear.float8", "float8")


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is a configuration of torchtitan."""
    return bool({"parallelism", "activation_checkpoint", "job"} & document.keys()) and "model" in document


def write(scenario: Scenario) -> WrittenLaunch:
    """A configuration for torchtitan.

    Raises
    ------
    InputError
        Where torchtitan has no such model, or cannot run the plan.
    """
    table = options_of("torchtitan")
    if scenario.model.id not in MODELS:
        remedy = f"it has {', '.join(MODELS)}"
        raise lacks(table.framework, f"configuration of {scenario.model.id}", remedy)
    if scenario.plan.precision in ("fp16", "tf32"):
        raise lacks(table.framework, f"precision={scenario.plan.precision}", "choose bf16, fp8 or fp32")
    if scenario.plan.sharding == "zero1":
        raise lacks(table.framework, "sharding=zero1", "choose zero3, zero2, hybrid or none")
    refuse_unlaunchable(scenario, stack_of("torchtitan"))
    notes = notes_of(scenario, table.framework, table.release, list(_unsaid(scenario)))
    sections = "".join(f"\n[{name}]\n{_lines(values)}" for name, values in _sections(scenario))
    name = f"{scenario.model.id}-torchtitan.toml"
    nodes, per_node = _nodes(scenario)
    command = f"torchrun --nnodes {nodes} --nproc_per_node {per_node} -m torchtitan.train --job.config_file {name}"
    return WrittenLaunch(table.framework, name, notes.comment() + sections, command, notes.unsaid)


def _nodes(scenario: Scenario) -> tuple[int, int]:
    per_node = min(scenario.devices, scenario.system.devices_per_node)
    return -(-scenario.devices // per_node), per_node


def _lines(values: Mapping[str, Any]) -> str:
    return "".join(f"{name} = {_value(value)}\n" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _sections(scenario: Scenario) -> Iterator[tuple[str, dict[str, Any]]]:
    plan, work = scenario.plan, scenario.workload
    name, flavour = MODELS[scenario.model.id]
    yield "job", {"dump_folder": "./outputs", "description": f"{scenario.model.id} planned by capsim"}
    narrow = plan.precision == "fp8"
    yield "model", {"name": name, "flavor": flavour, **({"converters": [_FLOAT8[0]]} if narrow else {})}
    if narrow:
        yield "quantize.linear.float8", {"recipe_name": "tensorwise", "filter_fqns": ["output"]}
    yield "optimizer", {"name": "AdamW", "lr": 3e-4, "implementation": "fused"}
    micro, stages = plan.micro_batch or 1, plan.pp or 1
    batch = work.global_batch or 0
    local = batch // (plan.dp or 1) if stages > 1 else micro
    steps = round(work.total_steps) if work.says_length else 1000
    yield (
        "training",
        {
            "local_batch_size": local,
            "global_batch_size": batch,
            "seq_len": work.sequence_length or 0,
            "steps": steps,
            "dtype": "bfloat16" if _pure(plan) else "float32",
            "mixed_precision_param": "float32" if plan.precision == "fp32" else "bfloat16",
            "enable_cpu_offload": bool(plan.offload_optimizer),
        },
    )
    yield "parallelism", _parallelism(plan)
    yield "activation_checkpoint", _recompute(plan)
    yield "compile", {"enable": True}


def _recompute(plan: Plan) -> dict[str, str]:
    """What is computed again: all layers, every so many-th, or all but the outputs of some operators."""
    option = "op" if plan.recompute in ("operators", "selective") else str(plan.recompute_layers or 1)
    selects = plan.recompute in ("operators", "selective") or (plan.recompute_layers or 1) > 1
    return {"mode": "selective", "selective_ac_option": option} if selects else {"mode": plan.recompute or "none"}


def _pure(plan: Plan) -> bool:
    """Whether all states are in 16 bits."""
    return plan.precision == "bf16" and plan.master_weights is False and not plan.parameters_in_fp32


def _parallelism(plan: Plan) -> dict[str, Any]:
    """Degrees of the axes; replicas are split in those that share parameters and those that hold the same."""
    replicas, context = plan.dp or 1, plan.cp or 1
    shared = sharding_ranks(plan, "torchtitan")
    section: dict[str, Any] = {
        "data_parallel_replicate_degree": replicas // shared,
        "data_parallel_shard_degree": shared,
        "fsdp_reshard_after_forward": "never" if plan.sharding == "zero2" else "default",
        "tensor_parallel_degree": plan.tp or 1,
        "pipeline_parallel_degree": plan.pp or 1,
        "context_parallel_degree": context,
        "expert_parallel_degree": plan.ep or 1,
        "expert_tensor_parallel_degree": (plan.etp or plan.tp or 1) if (plan.ep or 1) > 1 else 1,
    }
    if (plan.pp or 1) > 1:
        section["pipeline_parallel_schedule"] = _SCHEDULES[plan.schedule or "1f1b"]
        section["pipeline_parallel_microbatch_size"] = plan.micro_batch or 1
    return section


def _unsaid(scenario: Scenario) -> Iterator[str]:
    """What a configuration does not say."""
    plan, model = scenario.plan, scenario.model
    if scenario.stack.id != "torchtitan" and "torchtitan" not in scenario.stack.id:
        yield f"the estimate is for the stack {scenario.stack.id}, which stands for torchtitan"
    if plan.recompute == "selective":
        yield "recompute=selective: torchtitan's keeps products and attention, and recomputes what lies between"
    if plan.gradients_in_fp32 is False and not _pure(plan):
        yield "gradients_in_fp32=False: gradients are reduced in fp32"
    if plan.attention == "unfused":
        yield "attention=unfused: torchtitan calls torch's scaled_dot_product_attention"
    if plan.optimizer != "adamw":
        yield f"optimizer={plan.optimizer}: torchtitan has Adam and AdamW"
    if (plan.tp or 1) > 1 and not plan.sequence_parallel:
        yield "sequence_parallel=False: torchtitan shares the tokens of normalisations with tensor parallelism"
    if model.positions == "rotary" and model.dropout:
        yield "dropout"
    if not scenario.workload.says_length:
        yield "how long the run is: 1,000 steps stand for it"
    yield "learning rate, its schedule, data and tokenizer: those in the file are placeholders"


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
    settings, table = settings_from(document, path), options_of("torchtitan")
    assumed: list[str] = []
    model = _model(settings)
    plan, shard = _read_degrees(settings)
    inner = plan["tp"] * plan["pp"] * plan["cp"]
    replicate = settings.whole("parallelism.data_parallel_replicate_degree") or 1
    if shard is None and devices is not None and devices % (inner * replicate) == 0:
        shard = devices // (inner * replicate)
    plan |= _read_sharding(settings, replicate, shard, plan["cp"])
    plan |= _read_precision(settings) | _read_recompute(settings, assumed)
    if shard is not None:
        plan["dp"] = replicate * shard
        devices = devices or plan["dp"] * inner
    workload = _read_batch(settings, plan, assumed)
    settings.flag("compile.enable")
    return LaunchFile(
        framework=table.framework,
        path=path,
        stack=stack_of("torchtitan"),
        model=model,
        workload=workload,
        plan=plan,
        devices=devices,
        read=settings.read(),
        assumed=tuple(assumed),
        ignored=settings.finish(table.unread, known=table.known),
        places={
            **{f"plan.{axis}": settings.place(f"parallelism.{name}_parallel_degree") for axis, name in _AXES.items()},
            "workload.sequence_length": settings.place("training.seq_len"),
            "workload.global_batch": settings.place("training.global_batch_size"),
        },
    )


_AXES = {"tp": "tensor", "pp": "pipeline", "cp": "context", "ep": "expert"}


def _model(settings: LaunchSettings) -> str | None:
    """A model of the catalogue; none of a flavour that it does not have."""
    name, flavour = settings.value("model.name"), settings.value("model.flavor")
    known = {(kind, size): model for model, (kind, size) in reversed(MODELS.items())}
    return known.get((str(name), str(flavour)))


def _read_degrees(settings: LaunchSettings) -> tuple[dict[str, Any], int | None]:
    """Degrees of the axes, and the replicas that share parameters where they are told."""
    plan: dict[str, Any] = {
        axis: settings.whole(f"parallelism.{name}_parallel_degree") or 1 for axis, name in _AXES.items()
    }
    expert = settings.whole("parallelism.expert_tensor_parallel_degree")
    if plan["ep"] > 1:
        plan["etp"] = expert or 1
    plan["sequence_parallel"] = plan["tp"] > 1
    schedule = settings.word("parallelism.pipeline_parallel_schedule", _READ_SCHEDULES) or "1f1b"
    if plan["pp"] > 1:
        plan |= {"schedule": schedule, "virtual_stages": 2 if schedule in _TWO_CHUNKS else 1}
    shard = settings.whole("parallelism.data_parallel_shard_degree", least=-1)
    return plan, 1 if shard == 0 else None if shard in (None, -1) else shard


def _read_sharding(settings: LaunchSettings, replicate: int, shard: int | None, context: int) -> dict[str, Any]:
    """What replicas share."""
    kept = settings.word("parallelism.fsdp_reshard_after_forward", {"default": False, "always": False, "never": True})
    if shard == 1 and context == 1:
        return {"sharding": "none"}
    if replicate > 1:
        if shard is None:
            raise settings.wrong(
                "parallelism.data_parallel_replicate_degree", "leaves the shard degree open; give it, or --devices"
            )
        return {"sharding": "hybrid", "sharding_group": shard * context}
    return {"sharding": "zero2" if kept else "zero3"}


def _read_precision(settings: LaunchSettings) -> dict[str, Any]:
    """Number formats of products and states."""
    types = {"bfloat16": "bf16", "float32": "fp32"}
    states = settings.word("training.dtype", types) or "fp32"
    products = settings.word("training.mixed_precision_param", types) or "bf16"
    converters = settings.value("model.converters") or []
    unknown = [name for name in converters if name not in _FLOAT8]
    if unknown:
        raise settings.wrong(
            "model.converters", f"holds {unknown[0]!r}, which is not understood; capsim reads {_FLOAT8[0]}"
        )
    plan: dict[str, Any] = {"precision": "fp8" if converters else products, "optimizer": "adamw"}
    settings.word("optimizer.name", {"adamw": True, "adam": True})
    if states == "bf16":
        plan |= {"master_weights": False, "gradients_in_fp32": False, "precision": "fp8" if converters else "bf16"}
    elif products == "bf16":
        plan["gradients_in_fp32"] = True
    plan["offload_optimizer"] = settings.flag("training.enable_cpu_offload")
    return plan


def _read_recompute(settings: LaunchSettings, assumed: list[str]) -> dict[str, Any]:
    """What the backward pass computes again."""
    modes = {"none": "none", "full": "full", "selective": "selective"}
    mode = settings.word("activation_checkpoint.mode", modes)
    option = settings.value("activation_checkpoint.selective_ac_option")
    if mode in ("none", "full"):
        return {"recompute": mode}
    if option is None:
        assumed.append(f"recompute_layers={_USUAL_EVERY}, recompute_method=every: as torchtitan has it")
        option = _USUAL_EVERY
    if option == "op":
        return {"recompute": "operators"}
    if not str(option).isdecimal():
        raise settings.wrong("activation_checkpoint.selective_ac_option", "is neither op nor every how many layers")
    counted = max(int(str(option)), 1)  # none at all means each
    several = {"recompute_method": "every", "recompute_layers": counted} if counted > 1 else {}
    return {"recompute": "full", **several}


def _read_batch(settings: LaunchSettings, plan: dict[str, Any], assumed: list[str]) -> dict[str, Any]:
    """Sequence, batch and length of the run."""
    local = settings.whole("training.local_batch_size") or 8
    batch = settings.whole("training.global_batch_size", least=-1)
    part = settings.whole("parallelism.pipeline_parallel_microbatch_size") or 1
    plan["micro_batch"] = part if plan["pp"] > 1 else local
    work: dict[str, Any] = {"sequence_length": settings.whole("training.seq_len") or 2048}
    if batch is None or batch < 0:
        batch = local * plan["dp"] if "dp" in plan else None
        assumed.append(
            f"global_batch={batch}: one local batch of each replica"
            if batch
            else "global_batch: it follows from the devices; say --devices"
        )
    if batch is not None:
        work["global_batch"] = batch
    steps = settings.whole("training.steps")
    return {**work, "steps": steps} if steps is not None else work
