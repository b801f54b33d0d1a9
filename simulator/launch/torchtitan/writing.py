"""Configurations of torchtitan that capsim writes: TOML, as releases up to 0.2 read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simulator.launch.documents import toml_text
from simulator.launch.record import WrittenLaunch
from simulator.launch.saying import FrameworkFile, lacks, sharding_ranks, steps_of, written_launch
from simulator.launch.starting import torchrun
from simulator.launch.tables import options_of
from simulator.launch.torchtitan.stages import USUAL_LESS, less_for, shares
from simulator.launch.torchtitan.words import FIRST_LESS, FLOAT8, LAST_LESS, MODELS, OF_CHUNK, TWO_CHUNKS
from simulator.scenario.scenario import Scenario
from simulator.specs.plan import Plan


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
    narrow = {"model.converters": [FLOAT8[0]]} if plan.precision == "fp8" else {}
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
    """How layers are cut: into as many for each chunk as capsim prices.

    Embedding and head count for nothing where the chunks divide the layers, and for a layer each where they do not.
    """
    stages, chunks = plan.pp or 1, plan.virtual_stages or 1
    if chunks == 1:
        wanted = shares(layers, stages, plan.first_stage_layers, plan.last_stage_layers)
        less = less_for(wanted)
        if less is None:
            what = f"stages of {wanted[0]}, {', '.join(map(str, wanted[1:-1]))}{', ' * (stages > 2)}{wanted[-1]} layers"
            raise lacks("torchtitan", what, "choose other first_stage_layers and last_stage_layers")
        return dict(zip((FIRST_LESS, LAST_LESS), less, strict=True))
    ends = 0 if layers % (stages * chunks) == 0 else USUAL_LESS
    said = {FIRST_LESS: ends, LAST_LESS: ends}
    if chunks == (2 if plan.schedule in TWO_CHUNKS else 1):
        return said
    return {**said, OF_CHUNK: (layers + 2 * ends) // (stages * chunks)}


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
