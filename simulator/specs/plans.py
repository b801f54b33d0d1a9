"""Plans as numbers, and the rules that they must keep: the one place where degrees are multiplied and checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from simulator.formulas import pipeline
from simulator.formulas.typing import Num
from simulator.specs.architectures import Models
from simulator.specs.columns import Columns
from simulator.specs.recomputation import Recomputation, lacking_modules
from simulator.specs.stack import Stacks
from simulator.specs.workload import Workloads

AXES = ("tp", "cp", "dp", "pp")
"""Degrees that multiply to the devices, from the innermost unless placed otherwise."""


@dataclass(frozen=True)
class Plans(Columns):
    """Plans as numbers. Flags are 0 or 1; a stride is the distance in devices from one rank to the next."""

    dp: Num
    tp: Num
    pp: Num
    cp: Num
    ep: Num
    etp: Num
    """Tensor-parallel ranks of each expert."""
    virtual_stages: Num
    first_stage_layers: Num
    """Layers of the first stage; 0 where they follow from an even split."""
    last_stage_layers: Num
    micro_batch: Num
    micro_batches: Num
    sequence_parallel: Num
    parameter_group: Num
    gradient_group: Num
    optimizer_group: Num
    recompute_attention: Num
    recompute_layer: Num
    recomputation: Recomputation
    """What is recomputed beside these."""
    fused_attention: Num
    zero_bubble: Num
    all_at_once: Num
    element_bytes: Num
    product_bytes: Num
    """Of an element of what products in the plan's format take: 1 under fp8, else as of others [B]."""
    wide_layers: Num
    """Layers whose products stay in 16 bits where those of the others are in 8 [layer]."""
    parameter_bytes: Num
    gradient_bytes: Num
    """Of a gradient as it is stored [B]."""
    reduced_bytes: Num
    """Of a gradient as it travels [B]."""
    master_bytes: Num
    state_bytes: Num
    """Of the optimizer's states of a parameter, without scales and factors [B]."""
    factored: Num
    """1 where second moments of matrices are sums of rows and of columns, else 0."""
    orthogonal: Num
    """1 where the momentum of hidden matrices is orthogonalised and AdamW updates the rest, else 0."""
    scale_block: Num
    """Elements of states that share a scale; 0 where they need none [parameter]."""
    unscaled_bytes: Num
    """Of fp32 copies that are made of a parameter's states to update them [B]."""
    splits_master: Num
    """1 where an optimizer can keep of a master copy only what a bf16 parameter lacks of it, else 0."""
    gradient_sweeps: Num
    offload: Num
    tp_stride: Num
    cp_stride: Num
    dp_stride: Num
    pp_stride: Num

    @property
    def replicas(self) -> Num:
        """Ranks that hold the same part of the model and reduce its gradients together."""
        return self.dp * self.cp

    @property
    def keeps_inputs(self) -> Num:
        """Whether layers keep their inputs, to recompute all of them or all but the outputs of some operators."""
        again = self.recomputation
        return np.maximum(self.recompute_layer, again.operators) if again.by_operator else self.recompute_layer

    @property
    def replica_stride(self) -> Num:
        """Distance from one such rank to the next."""
        both = np.where(np.asarray(self.dp) > 1.0, np.minimum(self.dp_stride, self.cp_stride), self.cp_stride)
        return np.where(np.asarray(self.cp) > 1.0, both, self.dp_stride)

    @property
    def _spreads(self) -> NDArray[np.bool_]:
        """Whether experts lie on neighbouring ranks of all axes of a stage, not on data-parallel ones alone."""
        return np.asarray((np.asarray(self.etp) < self.tp) | (np.asarray(self.dp) % self.ep != 0))

    @property
    def expert_stride(self) -> Num:
        """Distance from one rank of an expert-parallel group to the next."""
        return np.where(self._spreads, self._spread_stride, self.dp_stride)

    @property
    def _spread_stride(self) -> Num:
        """Distance of neighbours with different experts: over tensor-parallel ranks first, where they do not share."""
        return np.where(np.asarray(self.etp) < self.tp, self.tp_stride * np.asarray(self.etp), self.replica_stride)

    @property
    def expert_replica_stride(self) -> Num:
        """Distance from one rank to the next that holds the same experts."""
        return np.where(self._spreads, self._spread_stride, self.replica_stride) * self.ep

    @property
    def expert_copies(self) -> Num:
        """Ranks that hold the same experts and reduce their gradients together."""
        return self.replicas * np.asarray(self.tp) / (self.ep * np.asarray(self.etp))

    def sharing_experts(self, group: Num) -> Num:
        """Ranks that share states of the same experts, where so many neighbouring replicas share theirs, at least 1.

        Where each expert lies on one of `ep` data-parallel ranks, a group of replicas holds it `ep` times less often
        than a dense parameter; the group first runs along the inner one of the axes dp and cp. Where experts are spread
        over all ranks of a stage, each of which holds an `ep * etp`-th of them, neighbours hold different ones first.
        Where replicas share nothing, tensor-parallel ranks with the same experts do not either.
        """
        inner_dp = np.asarray(self.dp_stride) < self.cp_stride
        along_dp = np.where(inner_dp, np.minimum(group, self.dp), np.maximum(group / self.cp, 1.0))
        along_cp = np.where(inner_dp, np.maximum(group / self.dp, 1.0), np.minimum(group, self.cp))
        spread = np.maximum(group * np.asarray(self.tp) / (self.ep * np.asarray(self.etp)), 1.0)
        spread = np.where(np.asarray(group) > 1.0, spread, 1.0)
        return np.where(self._spreads, spread, np.maximum(along_dp / self.ep, 1.0) * along_cp)

    @property
    def tokens_shared(self) -> Num:
        """Ranks that share the tokens of normalisations and dropouts: tp with sequence parallelism."""
        return np.where(np.asarray(self.sequence_parallel) > 0.0, self.tp, 1.0)

    @classmethod
    def split(
        cls,
        degrees: Mapping[str, Num],
        placed: Mapping[str, Num],
        *,
        global_batch: Num,
        micro_batch: Num,
        shards: tuple[Num, Num, Num],
        sharding_group: Num,
        recomputation: Recomputation,
        **others: Num,
    ) -> Plans:
        """Columns from degrees and the places of the axes: the one place where degrees are multiplied.

        Parameters
        ----------
        degrees
            Of tp, cp, dp and pp, and ep and etp.
        placed
            Place of each of the four axes: 0 for the innermost.
        global_batch, micro_batch
            Sequences of a step and of a forward pass.
        shards
            Flags: whether replicas share parameters, gradients, optimizer states.
        sharding_group
            Ranks that share them; 0 for all replicas.
        recomputation
            What is recomputed beside attention or whole layers.
        others
            The remaining columns.
        """
        stride = {axis: _stride(axis, degrees, placed) for axis in AXES}
        replicas = degrees["dp"] * np.asarray(degrees["cp"])
        group = np.where(np.asarray(sharding_group) > 0.0, sharding_group, replicas)
        parameters, gradients, states = (np.where(np.asarray(flag) > 0.0, group, 1.0) for flag in shards)
        return cls(
            **{name: degrees[name] for name in (*AXES, "ep", "etp")},
            **{f"{axis}_stride": distance for axis, distance in stride.items()},
            micro_batch=micro_batch,
            micro_batches=global_batch / (degrees["dp"] * np.asarray(micro_batch)),
            parameter_group=parameters,
            gradient_group=gradients,
            optimizer_group=states,
            recomputation=recomputation,
            **others,
        )


def _stride(axis: str, degrees: Mapping[str, Num], placed: Mapping[str, Num]) -> Num:
    """Distance in devices from one rank of an axis to the next: the product of the degrees of the axes inside it."""
    distance: Num = 1.0
    for other in AXES:
        if other != axis:
            inside = np.asarray(placed[other]) < placed[axis]
            distance = distance * np.where(inside, degrees[other], 1.0)
    return distance


def divisors(number: int) -> list[int]:
    """All divisors of a number, in order.

    Examples
    --------
    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    small = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    return small + [number // divisor for divisor in reversed(small) if divisor * divisor != number]


def virtual_stages_of(layers: int, stages: int) -> list[int]:
    """Virtual stages of a pipeline that divide the layers, where embedding and head may count as a layer each.

    Examples
    --------
    >>> virtual_stages_of(32, 4), virtual_stages_of(30, 4)
    ([2, 4, 8], [2, 4, 8])
    """
    few = range(2, layers // stages + 2)
    return [each for each in few if layers % (stages * each) == 0 or (layers + 2) % (stages * each) == 0]


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
    sequence = np.asarray(workloads.sequence_length)
    yield Constraint("sequence", sequence % cp == 0, "cp={cp} does not divide sequence_length={sequence}")
    yield Constraint(
        "sequence-parallel",
        (np.asarray(plans.sequence_parallel) * (1.0 - stacks.pads_shards) == 0) | (sequence / cp % tp == 0),
        "sequence parallelism: tp={tp} does not divide the {part} tokens of a rank's sequence",
    )
    yield Constraint(
        "adapters", np.asarray(workloads.tuning.rank) % tp == 0, "tp={tp} does not divide lora_rank={lora_rank}"
    )
    if workloads.frozen is not None:
        yield from _rules_of_frozen(tp, pp, workloads.frozen.models)
    yield Constraint("expert-tensor", tp % np.asarray(plans.etp) == 0, "etp={etp} does not divide tp={tp}")
    yield from _rules_of_recomputation(plans, models, np.asarray(workloads.tuning.rank) > 0.0)
    yield Constraint("experts", np.asarray(models.experts) % plans.ep == 0, "ep={ep} does not divide {experts} experts")


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
    ends = {"first": plans.first_stage_layers, "last": plans.last_stage_layers}
    stages = (0.0, 1.0, plans.pp - np.float64(1.0))
    held = (pipeline.stage_layers(models.layer_count, plans.pp, stage=stage, **ends) for stage in stages)
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
        "sharding-group",
        np.asarray(plans.dp * plans.cp) % plans.optimizer_group == 0,
        "sharding_group={optimizer_group} does not divide the {replicas} data-parallel ranks",
    )
