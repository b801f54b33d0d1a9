"""Configurations of MaxText: YAML beside its base.yml, whose keys are also arguments of its command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hardware.errors import InputError
from simulator.launch.naming import model_named, names_of
from simulator.launch.reading import DocumentReader, WhatIsSaid
from simulator.launch.record import WrittenLaunch
from simulator.launch.saying import FrameworkFile, in_yaml, lacks, micro_batches_of, steps_of, written_launch
from simulator.launch.settings import LaunchSettings
from simulator.launch.starting import environment
from simulator.launch.tables import options_of
from simulator.scenario.scenario import Scenario
from simulator.specs.loading import load_model
from simulator.specs.plan import Plan

_OPTIMIZERS = ("adamw", "sgd", "muon")
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_STACK = "maxtext"
"""A name that means the stack for the devices of the system, GPUs or TPUs."""
_AXES = {"tp": ("tensor", "tensor_sequence"), "pp": ("pipeline",), "cp": ("context",), "ep": ("expert",)}


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document is a configuration of MaxText."""
    marks = ("per_device_batch_size", "base_emb_dim", "remat_policy")
    return any(key in document for key in marks) or any(str(key).startswith(("ici_", "dcn_")) for key in document)


def write(scenario: Scenario) -> WrittenLaunch:
    """A configuration for MaxText.

    Raises
    ------
    InputError
        Where MaxText has no such model, or cannot run the plan.
    """
    table = options_of("maxtext")
    if scenario.model.id not in names_of("maxtext"):
        raise lacks(table.framework, f"model {scenario.model.id}", f"it has {', '.join(names_of('maxtext'))}")
    if scenario.plan.precision in ("fp16", "tf32") or scenario.plan.optimizer not in _OPTIMIZERS:
        what = f"precision={scenario.plan.precision} with optimizer={scenario.plan.optimizer}"
        raise lacks(table.framework, what, "choose bf16, fp8 or fp32, and adamw, sgd or muon")
    several = environment(scenario, nodes="NNODES", first="JAX_COORDINATOR_IP", port="JAX_COORDINATOR_PORT")
    before = "" if scenario.system.device.kind == "tpu" else several  # hosts of a slice know each other
    command, text = f"{before}python3 -m maxtext.trainers.pre_train.train {{name}}", in_yaml(_settings, scenario)
    file = FrameworkFile("maxtext", "maxtext.yml", command, text, _unsaid(scenario))
    return written_launch(scenario, file, scenario.stack)


def _settings(scenario: Scenario) -> dict[str, Any]:
    """All keys."""
    table, plan, work = options_of("maxtext"), scenario.plan, scenario.workload
    micro_batches, stages = micro_batches_of(scenario), plan.pp or 1
    accumulation = 1 if stages > 1 else micro_batches
    per_device = (work.global_batch or 0) / accumulation / scenario.devices
    settings: dict[str, Any] = {
        "base_config": "base.yml",
        "run_name": f"capsim-{scenario.model.id}",
        "hardware": "tpu" if scenario.system.device.kind == "tpu" else "gpu",
        "model_name": names_of("maxtext")[scenario.model.id][0],
        "per_device_batch_size": int(per_device) if per_device.is_integer() else per_device,
        "gradient_accumulation_steps": accumulation,
        **table.settings_for("workload", work, "sequence_length"),
        "steps": steps_of(scenario),
        **_mesh(scenario),
        **table.settings_for("plan", plan, "recompute", "precision"),
        "weight_dtype": "float32" if plan.parameters_in_fp32 or plan.master_weights else "bfloat16",
        **table.settings_for("plan", plan, "optimizer", "attention"),
    }
    if plan.precision == "fp8":
        settings["quantization"] = "fp8"
    if plan.offload_optimizer:
        settings |= table.settings_for("plan", plan, "offload_optimizer")
    if stages > 1:
        chunks = plan.virtual_stages or 1
        settings["num_pipeline_microbatches"] = micro_batches
        settings["num_layers_per_pipeline_stage"] = scenario.model.layers // (stages * chunks)
    return settings


def _mesh(scenario: Scenario) -> dict[str, Any]:
    """Degrees of the axes; the axis of experts shares the batch, so that replicas are fewer by it."""
    plan = scenario.plan
    experts = plan.ep or 1
    replicas = (plan.dp or 1) // experts
    shared = _sharding_ranks(plan)
    tensor = "ici_tensor_sequence_parallelism" if plan.sequence_parallel else "ici_tensor_parallelism"
    return {
        "ici_data_parallelism": replicas // shared,
        "ici_fsdp_parallelism": shared,
        tensor: plan.tp,
        "ici_pipeline_parallelism": plan.pp,
        "ici_context_parallelism": plan.cp,
        "ici_expert_parallelism": experts,
        **({"shard_optimizer_over_data": True} if plan.sharding == "zero1" else {}),
    }


def _sharding_ranks(plan: Plan) -> int:
    """Ranks of the fsdp axis; parameters are shared along the axes of context and experts too."""
    replicas, others = (plan.dp or 1) // (plan.ep or 1), (plan.cp or 1) * (plan.ep or 1)
    if plan.sharding in ("zero3", "zero2"):
        return replicas
    group = (plan.sharding_group or 1) if plan.sharding == "hybrid" else 1
    if group % others:
        what = f"sharding={plan.sharding} beside cp={plan.cp} x ep={plan.ep}, along which parameters are shared"
        raise lacks("MaxText", what, f"choose zero3, or hybrid with a group that is a multiple of {others}")
    return group // others


def _unsaid(scenario: Scenario) -> Iterator[str]:
    """What a configuration does not say."""
    plan: Plan = scenario.plan
    if plan.sharding == "zero1" and plan.sharding_group is not None:
        yield f"sharding_group={plan.sharding_group}: states are shared by all replicas"
    if plan.sharding == "zero2":
        yield "sharding=zero2: written as the fsdp axis, which shares parameters too"
    if plan.recompute == "selective":
        modules = plan.recompute_modules
        what = f"recompute_modules={','.join(modules)}" if modules else "recompute=selective"
        yield f"{what}: written as the nearest policy, save_dot_with_context_except_mlp"
    if plan.recompute == "none":
        yield "recompute=none: written as minimal_with_context, which keeps all products and the context"
    if plan.gradients_in_fp32 is not None:
        yield "gradients_in_fp32: grad_dtype of base.yml"
    if scenario.system.cross_pod or scenario.devices > scenario.system.devices_per_node:
        yield "which axis crosses slices or hosts: all are written as ici_*, those over the network are dcn_*"
    if not scenario.workload.says_length:
        yield "how long the run is: 1,000 steps stand for it"
    yield "learning rate, its schedule, data and tokenizer: those of base.yml"


def _meaning(settings: LaunchSettings, devices: int | None, assumed: list[str]) -> WhatIsSaid:
    plan, number = _read_mesh(settings, devices)
    plan |= _read_precision(settings, assumed)
    model = _read_model(settings)
    plan |= _read_chunks(settings, plan["pp"], model)
    workload = _read_batch(settings, plan, number, assumed)
    if isinstance(model, dict):
        model["training"] = {name: workload[name] for name in ("sequence_length", "global_batch")}
    return WhatIsSaid(plan, workload, model, number, _STACK)


def _degree(settings: LaunchSettings, axis: str) -> int | None:
    """Ranks of an axis, over both kinds of network; none where it takes what is left."""
    sizes = [settings.whole(f"{kind}_{axis}_parallelism", least=-1) for kind in ("ici", "dcn")]
    return None if -1 in sizes else (sizes[0] or 1) * (sizes[1] or 1)


def _read_mesh(settings: LaunchSettings, devices: int | None) -> tuple[dict[str, Any], int | None]:
    """Degrees of the axes, and the devices where they follow."""
    plan: dict[str, Any] = {}
    for axis, words in _AXES.items():
        sizes = [_degree(settings, word) for word in words]
        if None in sizes:
            raise settings.wrong(f"ici_{words[0]}_parallelism", "takes what is left, which only data and fsdp may here")
        plan[axis] = int(sizes[0] or 1) * int(sizes[-1] or 1) if len(sizes) > 1 else sizes[0]
    plan["sequence_parallel"] = (_degree(settings, "tensor_sequence") or 1) > 1
    data, shared = _degree(settings, "data"), _degree(settings, "fsdp")
    if "ici_fsdp_parallelism" not in settings and "dcn_fsdp_parallelism" not in settings:
        shared = None if data is not None else 1  # base.yml: the fsdp axis takes what is left
    inner = plan["tp"] * plan["pp"] * plan["cp"] * plan["ep"]
    if None in (data, shared):
        known = inner * (data or 1) * (shared or 1)
        if devices is None:
            raise InputError(f"{settings.path}: the replicas take what is left of the devices; say them by --devices")
        rest = max(devices // known, 1)
        data, shared = data or rest, shared or rest
    total = inner * (data or 1) * (shared or 1)
    plan["dp"] = (data or 1) * (shared or 1) * plan["ep"]
    sharing, states = (shared or 1) * plan["cp"] * plan["ep"], settings.flag("shard_optimizer_over_data")
    if sharing > 1 and (data or 1) > 1:
        plan |= {"sharding": "hybrid", "sharding_group": sharing}
    else:
        plan["sharding"] = "zero3" if sharing > 1 else "zero1" if states else "none"
    return plan, devices or total


def _read_precision(settings: LaunchSettings, assumed: list[str]) -> dict[str, Any]:
    """Number formats, recomputation and optimizer."""
    quantization = settings.word(
        "quantization", {"": False, "none": False, "fp8": True, "fp8_full": True, "nanoo_fp8": True}
    )
    products = settings.fields("plan", "precision")["precision"]
    weights, gradients = settings.word("weight_dtype", _DTYPES), settings.word("grad_dtype", _DTYPES)
    plan: dict[str, Any] = {
        "precision": "fp8" if quantization else products,
        **settings.fields("plan", "recompute", "optimizer", "offload_optimizer"),
    }
    if "remat_policy" not in settings:
        assumed.append("recompute=full: as base.yml has it")
    if products != "fp32" and weights not in (None, "fp32"):
        plan["master_weights"] = False
    if gradients is not None and products != "fp32":
        plan["gradients_in_fp32"] = gradients == "fp32"
    return plan | settings.fields("plan", "attention")


def _read_batch(
    settings: LaunchSettings, plan: dict[str, Any], devices: int | None, assumed: list[str]
) -> dict[str, Any]:
    """Sequence, batch and length of the run."""
    per_device = settings.real("per_device_batch_size") or 12.0
    accumulation = settings.whole("gradient_accumulation_steps") or 1
    local = round(per_device * (devices or 1))
    batch = local * accumulation
    parts = settings.whole("num_pipeline_microbatches", least=-1)
    if plan["pp"] > 1:
        count = parts if parts is not None and parts > 0 else plan["pp"]
        plan["micro_batch"] = max(local // (plan["dp"] * count), 1)
    else:
        plan["micro_batch"] = max(local // plan["dp"], 1)
    work = settings.fields("workload", "sequence_length") | {"global_batch": batch}
    if "per_device_batch_size" not in settings:
        assumed.append("per_device_batch_size=12: as base.yml has it")
    return work | settings.fields("workload", "steps")


def _read_chunks(settings: LaunchSettings, stages: int, model: str | dict[str, Any] | None) -> dict[str, Any]:
    """Chunks of layers of a device, which the circular pipeline repeats."""
    of_chunk = settings.whole("num_layers_per_pipeline_stage") or 1
    repeats = settings.whole("num_pipeline_repeats", least=-1) or -1
    if stages == 1:
        return {"virtual_stages": 1, "schedule": "1f1b"}
    if repeats < 0 and model is None:
        raise InputError(f"{settings.path}: num_pipeline_repeats is missing, and the model is not known; add it")
    if repeats < 0:
        layers = model["layers"] if isinstance(model, dict) else load_model(str(model)).layers
        if layers % (stages * of_chunk):
            raise InputError(
                f"{settings.place('num_layers_per_pipeline_stage')}: num_layers_per_pipeline_stage={of_chunk} x "
                f"pp={stages} does not divide {layers} layers"
            )
        repeats = layers // (stages * of_chunk)
    return {"virtual_stages": repeats, "schedule": "interleaved" if repeats > 1 else "gpipe"}


def _read_model(settings: LaunchSettings) -> str | dict[str, Any] | None:
    """A model by its name in MaxText, or by the sizes of the block that Llama, Mistral and Mixtral have."""
    name = settings.value("model_name")
    known = None if name is None else model_named("maxtext", str(name))
    if known is not None or name not in (None, "default"):
        return known
    if "base_num_decoder_layers" not in settings:
        return None
    settings.word("decoder_block", {"llama2": True, "mistral": True, "mixtral": True, "default": True})
    settings.value("mlp_activations")
    sizes = settings.fields("model")
    experts = settings.whole("num_experts") or 1
    chosen = (
        {"experts": experts, "experts_per_token": settings.whole("num_experts_per_tok") or 1} if experts > 1 else {}
    )
    if experts > 1 and (width := settings.whole("base_moe_mlp_dim")) is not None:
        chosen["expert_feed_forward_size"] = width
    return {
        "id": "maxtext-model",
        "name": "model of a MaxText configuration",
        "family": "llama",
        "kind": "decoder",
        "objective": "causal",
        "feed_forward": "gated",
        "activation": "silu",
        "normalisation": "rmsnorm",
        "positions": "rotary",
        "tied_head": settings.flag("logits_via_embedding"),
        "dropout": settings.flag("enable_dropout"),
        **sizes,
        **chosen,
    }


read = DocumentReader("maxtext", _meaning)
"""What a configuration of MaxText says."""
