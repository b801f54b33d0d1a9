"""Rules that plans must keep: the one place where degrees are checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from simulator.formulas import pipeline
from simulator.formulas.typing import Num
from simulator.specs.architectures import Models
from simulator.specs.model import Model
from simulator.specs.plans import Plans, divisors, virtual_stages_of
from simulator.specs.recomputation import lacking_modules
from simulator.specs.stack import Stacks
from simulator.specs.workload import Workload, Workloads

FIELDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("heads", "kv-heads"), ("plan.tp", "devices")),
    "layers": ("plan.pp", "devices"),
    **dict.fromkeys(("end-layers", "both-ends"), ("plan.first_stage_layers", "plan.last_stage_layers", "plan.pp")),
    "chunks": ("plan.virtual_stages", "plan.pp"),
    "virtual": ("plan.virtual_stages",),
    "bent-chunks": ("plan.virtual_stages", "plan.schedule"),
    "bent-ends": ("plan.first_stage_layers", "plan.last_stage_layers", "plan.schedule"),
    "pairing": ("plan.schedule", "plan.micro_batch", "workload.global_batch"),
    "sequence": ("plan.cp", "workload.sequence_length"),
    "sequence-parallel": ("plan.sequence_parallel", "plan.tp", "workload.sequence_length"),
    "experts": ("plan.ep",),
    "expert-tensor": ("plan.etp", "plan.tp"),
    "adapters": ("plan.tp", "workload.lora_rank"),
    "magnitudes": ("plan.tp", "workload.dora"),
    "prefix": ("plan.tp", "plan.cp", "plan.pp", "workload.train"),
    "prefix-again": ("plan.recompute", "workload.train"),
    "frozen-heads": ("plan.tp", "workload.teacher"),
    "frozen-layers": ("plan.pp", "workload.teacher"),
    "pairs": ("plan.micro_batch", "workload.preference"),
    "expert-group": ("plan.ep", "plan.dp"),
    "batch": ("plan.micro_batch", "plan.dp", "workload.global_batch"),
    "interleaving": ("plan.virtual_stages", "plan.micro_batch", "workload.global_batch"),
    "in-backward": ("plan.optimizer_in_backward", "plan.micro_batch", "workload.global_batch"),
    "in-backward-once": ("plan.optimizer_in_backward", "model"),
    "in-backward-alone": ("plan.optimizer_in_backward", "plan.sharding", "plan.pp"),
    "sharding-group": ("plan.sharding_group",),
    "modules": ("plan.recompute_modules", "model"),
    "operators": ("plan.recompute", "model"),
    "narrow-activations": ("plan.activation_inputs_in_fp8", "model", "stack"),
    "adapted-again": ("plan.recompute", "workload.lora_rank"),
    "recompute-layers": ("plan.recompute_layers", "plan.pp", "plan.virtual_stages"),
}
"""The fields that each rule is about, the one to blame first."""


@dataclass(frozen=True)
class Constraint:
    """A rule that a plan must keep: which rows keep it, and what to say of one that does not."""

    name: str
    kept: NDArray[np.bool_]
    message: str


def constraints(plans: Plans, models: Models, workloads: Workloads, stacks: Stacks) -> Iterator[Constraint]:
    """Rules of divisibility, checked for all rows at once.

    Parameters
    ----------
    plans, models, workloads, stacks
        Columns that broadcast against each other.

    Yields
    ------
    Constraint
        One for each rule, whether or not some row breaks it.
    """
    yield from rules_of_shape(plans, models, workloads, stacks)
    yield from rules_of_replicas(plans, workloads)


def rules_of_shape(plans: Plans, models: Models, workloads: Workloads, stacks: Stacks) -> Iterator[Constraint]:
    """How heads, layers, sequences and experts divide."""
    heads, kv_heads = np.asarray(models.heads), np.asarray(models.key_value_heads)
    tp, pp, cp = np.asarray(plans.tp), np.asarray(plans.pp), np.asarray(plans.cp)
    count = np.asarray(models.layer_count)
    yield Constraint("heads", heads % tp == 0, "tp={tp} does not divide {heads} attention heads")
    yield Constraint(
        "kv-heads",
        (kv_heads % tp == 0) | (tp % kv_heads == 0),
        "tp={tp} and {kv_heads} key-value heads: one must divide the other",
    )
    chunks = pp * plans.virtual_stages  # embedding and head may be counted as a layer each
    yield Constraint("layers", pp <= count, "pp={pp} exceeds {layers} layers")
    yield from _rules_of_ends(plans, count)
    yield Constraint(
        "chunks",
        (plans.virtual_stages == 1.0) | (count % chunks == 0) | ((count + 2.0) % chunks == 0),
        "pp={pp} x virtual_stages={virtual_stages} does not divide {layers} layers",
    )
    yield Constraint(
        "virtual",
        (plans.virtual_stages == 1.0) | (pp > 1),
        "virtual_stages={virtual_stages} needs a pipeline (pp > 1)",
    )
    yield from _rules_of_bends(plans)
    sequence = np.asarray(workloads.sequence_length)
    yield Constraint("sequence", sequence % cp == 0, "cp={cp} does not divide sequence_length={sequence}")
    yield Constraint(
        "sequence-parallel",
        (np.asarray(plans.sequence_parallel) * (1.0 - stacks.pads_shards) == 0) | (sequence / cp % tp == 0),
        "sequence parallelism: tp={tp} does not divide the {part} tokens of a rank's sequence",
    )
    yield from _rules_of_tuning(plans, workloads)
    yield _one_use(plans, models, workloads)
    if workloads.frozen is not None:
        yield from _rules_of_frozen(tp, pp, workloads.frozen.models)
    yield Constraint("expert-tensor", tp % np.asarray(plans.etp) == 0, "etp={etp} does not divide tp={tp}")
    yield from _rules_of_recomputation(plans, models, np.asarray(workloads.tuning.rank) > 0.0)
    yield _narrow_activations(plans, models, stacks)
    yield Constraint("experts", np.asarray(models.experts) % plans.ep == 0, "ep={ep} does not divide {experts} experts")


def _rules_of_bends(plans: Plans) -> Iterator[Constraint]:
    """What schedules in the shape of a V need: torch takes two chunks a device (pipelining/schedules.py, 2.13)."""
    bent = np.asarray(plans.v_shaped) > 0.0
    yield Constraint(
        "bent-chunks",
        ~bent | (plans.virtual_stages == 2.0),
        "a schedule in the shape of a V has two chunks of layers a device, not virtual_stages={virtual_stages}",
    )
    ends = np.asarray(plans.first_stage_layers) + np.asarray(plans.last_stage_layers)
    yield Constraint(
        "bent-ends",
        ~bent | (ends == 0.0),
        "a schedule in the shape of a V has both ends of the model on the first device; leave first_stage_layers and "
        "last_stage_layers out",
    )


def _rules_of_tuning(plans: Plans, workloads: Workloads) -> Iterator[Constraint]:
    """What stands beside frozen weights and is not split, or not made again.

    PEFT 0.21.2 refuses magnitudes beside Megatron's layers (peft/tuners/lora/config.py), and prefixes under gradient
    checkpointing (peft/peft_model.py).
    """
    tuning, whole = workloads.tuning, np.asarray(plans.tp) == 1.0
    divides = np.asarray(tuning.rank) % np.asarray(plans.tp) == 0
    yield Constraint("adapters", divides, "tp={tp} does not divide lora_rank={lora_rank}")
    plain, kept = np.asarray(tuning.magnitudes) == 0.0, np.asarray(tuning.prefix) == 0.0
    yield Constraint("magnitudes", plain | whole, "dora with tp={tp}: magnitudes are not split; valid: 1")
    alone = whole & (np.asarray(plans.cp) == 1.0) & (np.asarray(plans.pp) == 1.0)
    yield Constraint(
        "prefix", kept | alone, "train=prefix with tp={tp}, cp={cp}, pp={pp}: a prefix is not split; valid: 1 each"
    )
    again = np.maximum(plans.recompute_layer, plans.recomputation.operators)
    yield Constraint(
        "prefix-again",
        kept | (again == 0.0),
        "train=prefix: PEFT refuses prefixes beside recomputed layers; choose recompute=none or selective",
    )


def _narrow_activations(plans: Plans, models: Models, stacks: Stacks) -> Constraint:
    """What is kept in fp8 is what a gate in one kernel reads.

    Megatron Core says so of SwiGLU (`activation_func_fp8_input_store`, `megatron/core/fusions/fused_bias_swiglu.py` of
    core_v0.19.0).
    """
    gated = reduce(np.minimum, (np.asarray(each.feed_forward.inputs) for each in models.layers)) > 1.0
    return Constraint(
        "narrow-activations",
        (np.asarray(plans.narrow_activations) == 0.0) | (gated & (np.asarray(stacks.fused_gate) > 0.0)),
        "activation_inputs_in_fp8: belongs to a gated feed-forward layer whose gate is one kernel (a stack's "
        "fused_gate); leave it out",
    )


def _one_use(plans: Plans, models: Models, workloads: Workloads) -> Constraint:
    """What an optimizer in the backward pass needs of a model: gradients that no second use of parameters adds to."""
    several = models.shared_layers, models.encoder_decoder, workloads.multi_token
    many = reduce(np.maximum, map(np.asarray, several)) > 0.0
    return Constraint(
        "in-backward-once",
        (np.asarray(plans.in_backward) == 0.0) | ~many,
        "optimizer_in_backward: gradients of layers that share parameters, and of words that two towers or further "
        "predictions read, wait for each other; leave it out",
    )


def _rules_of_frozen(tp: Num, pp: Num, models: Models) -> Iterator[Constraint]:
    """How heads and layers of a model that runs beside the trained one divide."""
    heads, kv_heads = np.asarray(models.heads), np.asarray(models.key_value_heads)
    divides = (heads % tp == 0) & ((kv_heads % tp == 0) | (np.asarray(tp) % kv_heads == 0))
    yield Constraint(
        "frozen-heads", divides, "tp={tp} does not divide the {frozen_heads} attention heads of the teacher"
    )
    yield Constraint(
        "frozen-layers", np.asarray(models.layer_count) >= pp, "pp={pp} exceeds {frozen_layers} layers of the teacher"
    )


def _rules_of_ends(plans: Plans, count: Num) -> Iterator[Constraint]:
    """How many of so many layers the ends of a pipeline may have."""
    pp = np.asarray(plans.pp)
    first, last = np.asarray(plans.first_stage_layers), np.asarray(plans.last_stage_layers)
    others = pp - (first > 0.0) - (last > 0.0)
    yield Constraint(
        "end-layers",
        (first + last == 0.0) | ((pp > 1) & (first + last + others <= count)),
        "first_stage_layers={first_stage_layers} and last_stage_layers={last_stage_layers} leave too few of {layers} "
        "layers to pp={pp} stages",
    )
    yield Constraint(
        "both-ends",
        (first == 0.0) | (last == 0.0) | (pp != 2.0) | (first + last == count),
        "first_stage_layers={first_stage_layers} and last_stage_layers={last_stage_layers} of pp={pp} stages are not "
        "the model's {layers} layers; leave one of them open",
    )


def _rules_of_recomputation(plans: Plans, models: Models, adapted: NDArray[np.bool_]) -> Iterator[Constraint]:
    """What can be recomputed of a model: its own modules, and as many layers as a stage runs one after the other."""
    again = plans.recomputation
    for name, why in lacking_modules(again, models):
        flag = np.asarray(getattr(again, name))
        yield Constraint("modules", flag == 0.0, f"recompute_modules={name}: the model has {why}")
    if np.any(adapted) and (again.by_operator or again.by_module):
        chosen = reduce(
            np.maximum, (np.asarray(each) for each in again.by_module.values()), np.asarray(again.operators)
        )
        yield Constraint(
            "adapted-again",
            (chosen == 0.0) | ~adapted,
            "adapters beside recomputed modules or operators are not understood; choose recompute=none, selective or "
            "full",
        )
    if again.by_operator and any(each.block.shares_input for each in models.layers):
        operators = np.asarray(again.operators)
        yield Constraint(
            "operators",
            operators == 0.0,
            "recompute=operators: the model has parallel blocks, which torchtitan has not",
        )
    if again.counts_layers:
        counted = np.maximum(np.maximum(again.every, again.block), again.uniform)
        most = most_at_a_stage(plans, models)
        yield Constraint(
            "recompute-layers",
            counted <= most,
            "recompute_layers={recompute_layers} exceeds the {stage_layers} layers of a stage",
        )


def most_at_a_stage(plans: Plans, models: Models) -> Num:
    """Layers of the fullest stage; of virtual ones of each [layer]."""
    stages = (0.0, 1.0, plans.pp - np.float64(1.0))
    held = (pipeline.stage_layers(models.layer_count, plans.pp, stage=stage, **plans.ends) for stage in stages)
    return np.ceil(reduce(np.maximum, held) / plans.virtual_stages)


def rules_of_replicas(plans: Plans, workloads: Workloads) -> Iterator[Constraint]:
    """How replicas divide; no rule of these can be checked while their number is open."""
    ranks = np.asarray(plans.replicas) * plans.tp
    yield Constraint(
        "expert-group",
        ranks % (plans.ep * np.asarray(plans.etp)) == 0,
        "ep={ep} x etp={etp} does not divide the {stage_ranks} ranks of a stage (dp={dp} x cp={cp} x tp={tp})",
    )
    yield Constraint(
        "batch",
        np.asarray(workloads.global_batch) % (plans.dp * plans.micro_batch) == 0,
        "dp={dp} x micro_batch={micro_batch} does not divide global_batch={global_batch}",
    )
    yield Constraint(
        "pairs",
        np.asarray(plans.micro_batch) % workloads.sequences == 0,
        "micro_batch={micro_batch} holds half a pair of two sequences",
    )
    yield Constraint(
        "interleaving",
        (plans.virtual_stages == 1.0) | (np.asarray(plans.micro_batches) >= plans.pp),
        "an interleaved schedule needs at least as many micro-batches ({micro_batches}) as pp={pp}",
    )
    yield Constraint(
        "pairing",
        (np.asarray(plans.paired) == 0.0) | (np.asarray(plans.micro_batches) >= 2.0 * np.asarray(plans.pp)),
        "DualPipeV needs two micro-batches for each of pp={pp} stages, and there are {micro_batches}",
    )
    yield from _rules_of_updates(plans)
    yield Constraint(
        "sharding-group",
        np.asarray(plans.dp * plans.cp) % plans.optimizer_group == 0,
        "sharding_group={optimizer_group} does not divide the {replicas} data-parallel ranks",
    )


def _rules_of_updates(plans: Plans) -> Iterator[Constraint]:
    """What an optimizer in the backward pass needs: the whole gradient of a parameter, as soon as one pass has made it.

    torchtune 0.6.1 refuses gradient accumulation (recipes/full_finetune_single_device.py and
    recipes/full_finetune_distributed.py).
    """
    apart = np.asarray(plans.in_backward) == 0.0
    yield Constraint(
        "in-backward",
        apart | (np.asarray(plans.micro_batches) <= 1.0),
        "optimizer_in_backward: gradients of {micro_batches} micro-batches would have to be summed; valid: one "
        "micro-batch, so that dp={dp} x micro_batch is global_batch={global_batch}",
    )
    shared = (np.asarray(plans.parameter_group) >= plans.replicas) & (np.asarray(plans.pp) <= 1.0)
    yield Constraint(
        "in-backward-alone",
        apart | shared,
        "optimizer_in_backward with pp={pp} and {replicas} replicas: each needs the whole gradient at once; valid: "
        "pp=1, and one replica or sharding=zero3",
    )


def valid_values(rule: str, model: Model, workload: Workload, *, stages: int) -> str:
    """Values that would keep a rule, where they can be listed."""
    if rule == "chunks":
        valid = ", ".join(map(str, virtual_stages_of(model.all_layers, stages)))
        return f"; valid virtual_stages: {valid}" if valid else f"; of pp={stages} only virtual_stages=1 does"
    if rule == "pairs":
        return "; valid: even numbers"
    if rule == "experts" and model.experts == 1:
        return f": {model.id} has no experts to share"
    of = {
        "heads": model.attention_heads,
        "sequence": (workload.sequence_length or 0) + workload.lengthening,
        "experts": model.experts,
        "batch": workload.global_batch,
        "adapters": workload.lora_rank,
    }.get(rule)
    return f"; valid{' products' if rule == 'batch' else ''}: {listed_divisors(of)}" if of else ""


def listed_divisors(number: int) -> str:
    """Name the divisors of a number, a few where there are many."""
    valid = divisors(number)
    return ", ".join(map(str, valid)) if len(valid) <= 24 else ", ".join(map(str, valid[:20])) + ", ..."
