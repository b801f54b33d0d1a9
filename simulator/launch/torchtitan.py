"""Configurations of torchtitan: TOML, as releases up to 0.2 read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simulator.launch.documents import toml_text
from simulator.launch.reading import DocumentReader, WhatIsSaid
from simulator.launch.record import WrittenLaunch
from simulator.launch.saying import FrameworkFile, lacks, sharding_ranks, steps_of, written_launch
from simulator.launch.settings import LaunchSettings
from simulator.launch.starting import torchrun
from simulator.launch.tables import options_of
from simulator.scenario.scenario import Scenario
from simulator.specs.choices import LOOPED, V_SHAPED
from simulator.specs.loading import load_model
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
_TWO_CHUNKS = (*LOOPED, *V_SHAPED)
_OF_CHUNK = "parallelism.pipeline_parallel_layers_per_stage"
_OF_ENDS = 2
"""Layers that embedding and head count for where chunks are cut: `pipeline_parallel_first_stage_less_layers` and
`pipeline_parallel_last_stage_less_layers` of `Parallelism` in `torchtitan/config/job_config.py` of v0.2.2."""
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
    command = torchrun(scenario, "-m torchtitan.train --job.config_file {name}")
    file = FrameworkFile(
        "torchtitan",
        "torchtitan.toml",
        command,
        lambda notes: f"{notes.comment()}\n{toml_text(_settings(scenario))}",
        _unsaid(scenario),
    )
    return written_launch(scenario, file)


def _settings(scenario: Scenario) -> dict[str, Any]:
    table, plan, work = options_of("torchtitan"), scenario.plan, scenario.workload
    name, flavour = MODELS[scenario.model.id]
    narrow = {"model.converters": [_FLOAT8[0]]} if plan.precision == "fp8" else {}
    float8 = {"recipe_name": "tensorwise", "filter_fqns": ["output"]} if narrow else {}
    micro, batch = plan.micro_batch or 1, work.global_batch or 0
    return {
        "job.dump_folder": "./outputs",
        "job.description": f"{scenario.model.id} planned by capsim",
        "model.name": name,
        "model.flavor": flavour,
        **narrow,
        **{f"quantize.linear.float8.{key}": value for key, value in float8.items()},
        "optimizer.name": "AdamW",
        "optimizer.lr": 3e-4,
        "optimizer.implementation": "fused",
        "training.local_batch_size": batch // (plan.dp or 1) if (plan.pp or 1) > 1 else micro,
        "training.global_batch_size": batch,
        **table.settings_for("workload", work, "sequence_length"),
        "training.steps": steps_of(scenario),
        "training.dtype": "bfloat16" if _pure(plan) else "float32",
        **table.settings_for("plan", plan, "precision"),
        "training.mixed_precision_reduce": "float32",
        "training.enable_cpu_offload": bool(plan.offload_optimizer),
        **_parallelism(plan, scenario.model.layers),
        **{f"activation_checkpoint.{key}": value for key, value in _recompute(plan).items()},
        "compile.enable": True,
    }


def _recompute(plan: Plan) -> dict[str, str]:
    """What is computed again: all layers, every so many-th, or all but the outputs of some operators."""
    option = "op" if plan.recompute in ("operators", "selective") else str(plan.recompute_layers or 1)
    selects = plan.recompute in ("operators", "selective") or (plan.recompute_layers or 1) > 1
    return {"mode": "selective", "selective_ac_option": option} if selects else {"mode": plan.recompute or "none"}


def _pure(plan: Plan) -> bool:
    """Whether all states are in 16 bits."""
    return plan.precision == "bf16" and plan.master_weights is False and not plan.parameters_in_fp32


def _parallelism(plan: Plan, layers: int) -> dict[str, Any]:
    """Degrees of the axes; replicas are split in those that share parameters and those that hold the same."""
    shared, table = sharding_ranks(plan, "torchtitan"), options_of("torchtitan")
    settings: dict[str, Any] = {
        "parallelism.data_parallel_replicate_degree": (plan.dp or 1) // shared,
        "parallelism.data_parallel_shard_degree": shared,
        "parallelism.fsdp_reshard_after_forward": "never" if plan.sharding == "zero2" else "default",
        **table.settings_for("plan", plan, "tp", "pp", "cp", "ep"),
        "parallelism.expert_tensor_parallel_degree": (plan.etp or plan.tp or 1) if (plan.ep or 1) > 1 else 1,
    }
    if (plan.pp or 1) > 1:
        settings |= table.settings_for("plan", plan, "schedule")
        settings["parallelism.pipeline_parallel_microbatch_size"] = plan.micro_batch or 1
        settings |= _chunks(plan, layers)
    return settings


def _chunks(plan: Plan, layers: int) -> dict[str, int]:
    """Layers of a chunk, where a device has another number of chunks than torchtitan gives it."""
    chunks, wanted = plan.virtual_stages or 1, (plan.pp or 1) * (plan.virtual_stages or 1)
    if chunks == (2 if plan.schedule in _TWO_CHUNKS else 1):
        return {}
    of_chunk = -(-(layers + _OF_ENDS) // wanted)
    if -(-(layers + _OF_ENDS) // of_chunk) != wanted:
        remedy = f"it cuts {layers} layers, embedding and head into chunks of {of_chunk}; choose other virtual_stages"
        raise lacks("torchtitan", f"virtual_stages={chunks} on pp={plan.pp} stages", remedy)
    return {_OF_CHUNK: of_chunk}


def _unsaid(scenario: Scenario) -> Iterator[str]:
    """What a configuration does not say."""
    plan, model = scenario.plan, scenario.model
    if scenario.stack.id != "torchtitan" and "torchtitan" not in scenario.stack.id:
        yield f"the estimate is for the stack {scenario.stack.id}, which stands for torchtitan"
    if plan.recompute == "selective":
        yield "recompute=selective: torchtitan's keeps products and attention, and recomputes what lies between"
    if plan.gradients_in_fp32 is False and not _pure(plan):
        yield "gradients_in_fp32=False: parameters in fp32 have gradients in fp32"
    if plan.reduction_in_fp32 is False and plan.sharding != "none":
        yield "reduction_in_fp32=False: gradients travel in fp32, the one word of mixed_precision_reduce"
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


def _meaning(settings: LaunchSettings, devices: int | None, assumed: list[str]) -> WhatIsSaid:
    model = _model(settings)
    plan, shard = _read_degrees(settings, model)
    inner = plan["tp"] * plan["pp"] * plan["cp"]
    replicate = settings.whole("parallelism.data_parallel_replicate_degree") or 1
    if shard is None and devices is not None and devices % (inner * replicate) == 0:
        shard = devices // (inner * replicate)
    plan |= _read_sharding(settings, replicate, shard, plan["cp"])
    plan |= _read_precision(settings, shared=plan["sharding"] != "none") | _read_recompute(settings, assumed)
    if shard is not None:
        plan["dp"] = replicate * shard
        devices = devices or plan["dp"] * inner
    workload = _read_batch(settings, plan, assumed)
    settings.flag("compile.enable")
    return WhatIsSaid(plan, workload, model, devices)


def _model(settings: LaunchSettings) -> str | None:
    """A model of the catalogue; none of a flavour that it does not have."""
    name, flavour = settings.value("model.name"), settings.value("model.flavor")
    known = {(kind, size): model for model, (kind, size) in reversed(MODELS.items())}
    return known.get((str(name), str(flavour)))


def _read_degrees(settings: LaunchSettings, model: str | None) -> tuple[dict[str, Any], int | None]:
    """Degrees of the axes, and the replicas that share parameters where they are told."""
    plan = settings.fields("plan", "tp", "pp", "cp", "ep")
    expert = settings.fields("plan", "etp")
    if plan["ep"] > 1:
        plan |= {"etp": 1, **expert}
    plan["sequence_parallel"] = plan["tp"] > 1
    schedule = settings.fields("plan", "schedule")["schedule"]
    if plan["pp"] > 1:
        plan |= {"schedule": schedule, "virtual_stages": _read_chunks(settings, plan["pp"], schedule, model)}
    shard = settings.whole("parallelism.data_parallel_shard_degree", least=-1)
    return plan, 1 if shard == 0 else None if shard in (None, -1) else shard


def _read_chunks(settings: LaunchSettings, stages: int, schedule: str, model: str | None) -> int:
    """Chunks of layers of a device."""
    of_chunk = settings.whole(_OF_CHUNK)
    if of_chunk is None:
        return 2 if schedule in _TWO_CHUNKS else 1
    if model is None:
        raise settings.wrong(
            _OF_CHUNK,
            "leaves the chunks of a device open, since the model is none that capsim knows the layers of; leave it out",
        )
    chunks = -(-(load_model(model).layers + _OF_ENDS) // of_chunk)
    if chunks % stages:
        raise settings.wrong(_OF_CHUNK, f"makes {chunks} chunks of {model}, which {stages} stages do not share evenly")
    return chunks // stages


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


def _read_precision(settings: LaunchSettings, *, shared: bool) -> dict[str, Any]:
    """Number formats of products, states and gradients, where parameters are shared or not."""
    states = settings.word("training.dtype", {"bfloat16": "bf16", "float32": "fp32"}) or "fp32"
    products = settings.fields("plan", "precision")["precision"]
    converters = settings.value("model.converters") or []
    if not isinstance(converters, list):
        raise settings.wrong("model.converters", f'must be a list, such as ["{_FLOAT8[0]}"]')
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
    settings.word("training.mixed_precision_reduce", {"float32": True})
    if products == "bf16" and shared:
        plan["reduction_in_fp32"] = True  # of FSDP; replicas alone reduce gradients as they are stored
    return plan | settings.fields("plan", "offload_optimizer")


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
    work = settings.fields("workload", "sequence_length")
    if batch is None or batch < 0:
        batch = local * plan["dp"] if "dp" in plan else None
        assumed.append(
            f"global_batch={batch}: one local batch of each replica"
            if batch
            else "global_batch: it follows from the devices; say --devices"
        )
    if batch is not None:
        work["global_batch"] = batch
    return work | settings.fields("workload", "steps")


read = DocumentReader("torchtitan", _meaning)
"""What a configuration of torchtitan says."""
