"""Plans as numbers: the one place where degrees are multiplied."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.formulas.typing import Num
from simulator.specs.columns import Columns
from simulator.specs.recomputation import Recomputation

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
    unfused_loss: Num
    """1 where the cross-entropy is single operations, whatever the stack does, else 0; and so on."""
    fused_loss: Num
    chunked_loss: Num
    zero_bubble: Num
    v_shaped: Num
    """1 where each stage has two chunks of layers, one from each end of the model, else 0."""
    paired: Num
    """1 where forward and backward passes run as pairs, as DualPipeV has them, else 0."""
    all_at_once: Num
    element_bytes: Num
    product_bytes: Num
    """Of an element of what products in the plan's format take: 1 under fp8, with scales of
    blocks 33/32, as under mxfp8, and 9/16 under nvfp4, else as of others [B]."""
    current_scaling: Num
    """1 where what products take in 8 bits is scaled by its own largest number, for which it is read first, else 0."""
    narrow_activations: Num
    """1 where what gated activation functions read is kept in fp8, else 0."""
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
    in_backward: Num
    """1 where the optimizer updates parameters as their gradients come, else 0."""
    tp_stride: Num
    cp_stride: Num
    dp_stride: Num
    pp_stride: Num

    @property
    def replicas(self) -> Num:
        """Ranks that hold the same part of the model and reduce its gradients together."""
        return self.dp * self.cp

    @property
    def ends(self) -> dict[str, Num]:
        """What decides the layers of a pipeline's ends, as `simulator.formulas.pipeline.stage_layers` names it."""
        return {"first": self.first_stage_layers, "last": self.last_stage_layers, "v_shaped": self.v_shaped}

    @property
    def ends_together(self) -> Num:
        """1 where embedding and head are on one stage: the only one, or the first of a pipeline in the shape of a V."""
        return np.where(np.asarray(self.pp) > 1.0, self.v_shaped, 1.0)

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
