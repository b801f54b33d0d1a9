"""A scenario as a shell script that starts Megatron-LM under torchrun."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from simulator.launch.megatron.model_options import (
    Option,
    model_options,
    program_of_model,
    refuse_model,
    unsaid_of_model,
)
from simulator.launch.megatron.recomputation import discards_outputs, options_of_plan
from simulator.launch.record import WrittenLaunch
from simulator.launch.saying import FrameworkFile, LaunchNotes, micro_batches_of, steps_of, written_launch
from simulator.launch.starting import environment, nodes_of
from simulator.launch.tables import options_of
from simulator.scenario.scenario import Scenario
from simulator.specs.plan import Plan

MOMENTS = {"adam-bf16": "bf16", "adam-fp8": "fp8"}
"""Formats of both moments under the precision-aware optimizer."""
FULLY_SHARDED = {"zero2": "optim_grads", "zero3": "optim_grads_params", "hybrid": "optim_grads_params"}
"""Strategies of Megatron-FSDP."""


class _OptionGroup(NamedTuple):
    """Options under one name of the script."""

    name: str
    options: list[Option]


def write(scenario: Scenario) -> WrittenLaunch:
    """A shell script for Megatron-LM.

    Raises
    ------
    InputError
        Where Megatron-LM cannot run the plan or build the model.
    """
    refuse_model(scenario.model)
    command = f"{environment(scenario)}bash {{name}}"
    unsaid = [*unsaid_of_model(scenario.model), *unsaid_of_plan(scenario, "--train-iters")]
    file = FrameworkFile("megatron-lm", "megatron-lm.sh", command, lambda notes: _text(scenario, notes), unsaid)
    return written_launch(scenario, file)


def _text(scenario: Scenario, notes: LaunchNotes) -> str:
    """The script."""
    return "".join(
        [
            "#!/bin/bash\n",
            notes.comment(),
            "# --data-path replaces --mock-data.\n",
            "set -euo pipefail\n\n",
            _environment(scenario),
            *(_array(group) for group in _groups(scenario)),
            _start(scenario),
        ]
    )


def _environment(scenario: Scenario) -> str:
    """Variables of the environment, and of the nodes."""
    plan, (nodes, per_node) = scenario.plan, nodes_of(scenario)
    lines = []
    if plan.sharding not in FULLY_SHARDED and ((plan.tp or 1) > 1 or (plan.cp or 1) > 1):
        lines.append("export CUDA_DEVICE_MAX_CONNECTIONS=1")
    if plan.precision == "tf32":
        lines.append("export TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1")
    lines += [f"GPUS_PER_NODE={per_node}", f"NUM_NODES={nodes}"]
    lines += ["NODE_RANK=${NODE_RANK:-0}", "MASTER_ADDR=${MASTER_ADDR:-localhost}", "MASTER_PORT=${MASTER_PORT:-29500}"]
    return "\n".join([*lines, "CHECKPOINT_PATH=${CHECKPOINT_PATH:-checkpoints}"]) + "\n\n"


def _array(group: _OptionGroup) -> str:
    """Options as an array of the shell."""
    lines = "".join(f"    {' '.join(map(_quoted, option))}\n" for option in group.options)
    return f"{group.name}=(\n{lines})\n\n"


def _quoted(word: str) -> str:
    return f'"{word}"' if set(word) & set("[]$ ()*") else word


def _groups(scenario: Scenario) -> Iterator[_OptionGroup]:
    model, plan = scenario.model, scenario.plan
    sequence = scenario.workload.sequence_length or 0
    launch: list[Option] = [("--nproc_per_node", "$GPUS_PER_NODE"), ("--nnodes", "$NUM_NODES")]
    launch += [("--node_rank", "$NODE_RANK"), ("--master_addr", "$MASTER_ADDR"), ("--master_port", "$MASTER_PORT")]
    yield _OptionGroup("DISTRIBUTED_ARGS", launch)
    yield _OptionGroup("MODEL_ARGS", list(model_options(model, plan, sequence)))
    yield _OptionGroup("PARALLEL_ARGS", [*_degrees(plan, model.layers), *_sharding(plan)])
    yield _OptionGroup(
        "TRAINING_ARGS", [*_batch(scenario), *_precision(plan, model.layers), *_recompute(plan), *_optimizer(plan)]
    )
    yield _OptionGroup("SCHEDULE_ARGS", [("--lr", "1.0e-4"), ("--min-lr", "1.0e-5"), ("--lr-decay-style", "cosine")])
    yield _OptionGroup(
        "DATA_ARGS",
        [("--mock-data",), ("--split", "949,50,1"), ("--save", "$CHECKPOINT_PATH"), ("--save-interval", "1000")],
    )


def _said(plan: Plan, *names: str) -> Iterator[Option]:
    """Options that say one field each."""
    for option, value in options_of("megatron-lm").settings_for("plan", plan, *names).items():
        yield (option, str(value))


def _degrees(plan: Plan, layers: int) -> Iterator[Option]:
    """Degrees of the axes, and how stages share the layers."""
    yield from _said(plan, "tp")
    if plan.sequence_parallel:
        yield ("--sequence-parallel",)
    yield from _said(plan, "pp")
    yield from _stages(plan, layers)
    yield from _said(plan, "cp")
    if (plan.cp or 1) > 1:
        yield ("--cp-comm-type", "p2p")
    if (plan.ep or 1) > 1 or plan.etp not in (None, plan.tp):
        yield from _said(plan, "ep")
    if plan.etp is not None:
        yield from _said(plan, "etp")
    if plan.placement == ("tp", "cp", "pp", "dp"):
        yield ("--use-tp-pp-dp-mapping",)


def _stages(plan: Plan, layers: int) -> Iterator[Option]:
    """Chunks and uneven stages of a pipeline."""
    stages, chunks = plan.pp or 1, plan.virtual_stages or 1
    if chunks > 1:
        yield from _said(plan, "virtual_stages")
    if plan.first_stage_layers is not None:
        yield from _said(plan, "first_stage_layers")
    if plan.last_stage_layers is not None:
        yield from _said(plan, "last_stage_layers")
    if plan.first_stage_layers is None and plan.last_stage_layers is None and layers % (stages * chunks):
        if (layers + 1) % (stages * chunks):
            yield ("--account-for-embedding-in-pipeline-split",)
        yield ("--account-for-loss-in-pipeline-split",)


def _sharding(plan: Plan) -> Iterator[Option]:
    """What replicas share."""
    if plan.sharding == "none":
        return
    yield ("--use-distributed-optimizer",)
    if plan.sharding in FULLY_SHARDED:
        yield ("--use-megatron-fsdp",)
        yield ("--data-parallel-sharding-strategy", FULLY_SHARDED[plan.sharding])
        yield ("--no-gradient-accumulation-fusion",)
        yield ("--ckpt-format", "fsdp_dtensor")
    replicas = (plan.dp or 1) * (plan.cp or 1)
    if plan.sharding_group is not None and plan.sharding_group < replicas:
        yield ("--num-distributed-optimizer-instances", str(replicas // plan.sharding_group))
    yield ("--overlap-grad-reduce",)
    yield ("--overlap-param-gather",)


def _batch(scenario: Scenario) -> Iterator[Option]:
    """Batches and steps."""
    plan, work = scenario.plan, scenario.workload
    yield from _said(plan, "micro_batch")
    yield ("--global-batch-size", str(work.global_batch))
    yield ("--train-iters", str(steps_of(scenario)))
    group = chunk_of_micro_batches(scenario)
    if group is not None:
        yield ("--microbatch-group-size-per-virtual-pipeline-stage", str(group))
    if work.multi_token:
        yield ("--mtp-num-layers", str(scenario.model.multi_token_modules))
    if work.capacity_factor:
        yield ("--moe-expert-capacity-factor", f"{work.capacity_factor:.15g}")
        yield ("--moe-pad-expert-input-to-capacity",)


def chunk_of_micro_batches(scenario: Scenario) -> int | None:
    """Micro-batches that run through a chunk before the next, where stages do not divide them; none otherwise."""
    micro_batches, stages = micro_batches_of(scenario), scenario.plan.pp or 1
    if (scenario.plan.virtual_stages or 1) == 1 or micro_batches % stages == 0:
        return None
    sizes = range(stages, micro_batches + 1)
    return next(size for size in sizes if not micro_batches % size or micro_batches % size >= stages)


def _precision(plan: Plan, layers: int) -> Iterator[Option]:
    """Number formats of products and gradients."""
    if plan.precision in ("bf16", "fp8"):
        yield ("--bf16",)
        if not plan.gradients_in_fp32:
            yield ("--grad-reduce-in-bf16",)
    if plan.precision == "fp16":
        yield ("--fp16",)
        if plan.gradients_in_fp32:
            yield ("--accumulate-allreduce-grads-in-fp32",)
    if plan.precision == "fp8":
        wide = min(plan.layers_in_16_bits or 0, layers)
        yield ("--fp8-format", "hybrid")
        yield ("--fp8-recipe", "tensorwise" if wide or discards_outputs(plan) else "delayed")
        if wide:
            yield ("--first-last-layers-bf16",)
            yield ("--num-layers-at-start-in-bf16", str((wide + 1) // 2))
            yield ("--num-layers-at-end-in-bf16", str(wide // 2))


def _recompute(plan: Plan) -> Iterator[Option]:
    """Recomputation, and the kernel of attention."""
    for name, value in options_of_plan(plan).items():
        yield (f"--{name.replace('_', '-')}", *(map(str, value) if isinstance(value, list) else [str(value)]))
    fused = "auto" if plan.precision in ("fp32", "tf32") else "flash"
    yield ("--attention-backend", fused if plan.attention == "fused" else "unfused")


def _optimizer(plan: Plan) -> Iterator[Option]:
    """The optimizer, the format of its moments, and where its states live."""
    name, moments = plan.optimizer or "adamw", MOMENTS.get(plan.optimizer or "adamw")
    yield from _said(plan.model_copy(update={"optimizer": "adamw" if moments else name.partition("-")[0]}), "optimizer")
    if name == "sgd-without-momentum":
        yield ("--sgd-momentum", "0.0")
    if plan.offload_optimizer:
        yield ("--optimizer-cpu-offload",)
    if plan.offload_optimizer or moments:
        yield ("--use-precision-aware-optimizer",)
    if moments:
        yield ("--exp-avg-dtype", moments)
        yield ("--exp-avg-sq-dtype", moments)


def unsaid_of_plan(scenario: Scenario, steps_option: str) -> Iterator[str]:
    """What options of Megatron Core cannot say of a plan, or of the data."""
    plan, work = scenario.plan, scenario.workload
    narrow = plan.precision not in ("fp32", "tf32")
    if narrow and plan.parameters_in_fp32:
        yield "parameters_in_fp32: Megatron-LM holds 16-bit parameters and fp32 copies of them in its optimizer"
    if narrow and plan.master_weights is False and not plan.parameters_in_fp32:
        yield "master_weights=False: its optimizer holds fp32 copies of 16-bit parameters"
    if plan.reduction_in_fp32 is not None and plan.reduction_in_fp32 != plan.gradients_in_fp32:
        yield "reduction_in_fp32: gradients travel as they are stored"
    if not narrow and plan.gradients_in_fp32 is False:
        yield "gradients_in_fp32=False under fp32"
    if work.effective_tokens is not None and work.effective_tokens < (work.sequence_length or 0):
        yield f"effective_tokens={work.effective_tokens:.15g}: padding follows from the data"
    if not work.says_length:
        yield f"how long the run is: {steps_option} 1000 stands for it"
    yield "learning rate and its schedule, data and tokenizer: those in the file are placeholders"


def _start(scenario: Scenario) -> str:
    names = ("MODEL_ARGS", "PARALLEL_ARGS", "TRAINING_ARGS", "SCHEDULE_ARGS", "DATA_ARGS")
    arrays = " \\\n".join(f'    "${{{name}[@]}}"' for name in names)
    program = program_of_model(scenario.model)
    return f'torchrun "${{DISTRIBUTED_ARGS[@]}}" {program} \\\n{arrays}\n'
