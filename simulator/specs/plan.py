"""How a run is split over devices, as a user says it; `plans` has the same as numbers, and the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Annotated, Any, Self, get_args

import numpy as np
from pydantic import Field, field_validator, model_validator

from hardware.classes import Precision
from hardware.errors import InputError, shown
from hardware.fields import Also, Unit
from hardware.sheet import NO_FLAG, Sheet
from simulator.formulas.typing import Num
from simulator.specs import recomputation, rules
from simulator.specs.choices import (
    OPTIMIZER_TRAITS,
    V_SHAPED,
    AttentionKernel,
    Axis,
    CrossEntropy,
    Fp8Scaling,
    Optimizer,
    Recompute,
    RecomputeMethod,
    RecomputeModule,
    Schedule,
    Sharding,
    traits_of,
)
from simulator.specs.model import Model
from simulator.specs.plans import AXES, Plans
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

Degree = Annotated[int, Field(ge=1, le=1_000_000), NO_FLAG]
Ranks = Annotated[Degree, Unit("rank")]
Stages = Annotated[Degree, Unit("stage")]

_BLOCKWISE = 1.0 + 4.0 / 128.0
_PRODUCT_BYTES = {"fp32": 4.0, "tf32": 4.0, "fp8": 1.0, "mxfp8": 33.0 / 32.0, "nvfp4": 9.0 / 16.0}
"""What products take, with scales of a byte for 32 or 16 elements, or blockwise in fp32 for 128 of fp8 (DeepSeek-V3,
arXiv 2412.19437, section 3.3.2); what lies between them has at least 16 bits."""
_NOT_UNLESS_SAID = ("activation_inputs_in_fp8", "optimizer_in_backward", "offload_optimizer")
SHARDS: dict[str, tuple[float, float, float]] = {
    "none": (0.0, 0.0, 0.0),
    "zero1": (0.0, 0.0, 1.0),
    "zero2": (0.0, 1.0, 1.0),
    "zero3": (1.0, 1.0, 1.0),
    "hybrid": (1.0, 1.0, 1.0),
}
"""Whether replicas share parameters, gradients and optimizer states."""


class Plan(Sheet):
    """A split of the run. What is not given is chosen, and the answer says so."""

    dp: Ranks | None = None
    """Data-parallel replicas."""
    tp: Ranks | None = None
    """Tensor-parallel ranks."""
    pp: Stages | None = None
    """Pipeline stages."""
    virtual_stages: Stages | None = None
    """Chunks of layers of one device in an interleaved pipeline."""
    first_stage_layers: Annotated[Degree, Unit("layer")] | None = None
    """Layers of the first stage of a pipeline, where they are not shared evenly."""
    last_stage_layers: Annotated[Degree, Unit("layer")] | None = None
    """Layers of the last stage of a pipeline, where they are not shared evenly."""
    cp: Ranks | None = None
    """Context-parallel ranks, which share a sequence."""
    ep: Ranks | None = None
    """Expert-parallel ranks, out of those that share a stage: data-, context- and tensor-parallel ones."""
    etp: Ranks | None = None
    """Tensor-parallel ranks of each expert; as many as of the dense layers unless given."""
    sequence_parallel: bool | None = None
    """Whether tensor-parallel ranks also share the tokens of normalisations and dropouts."""
    sharding: Sharding | None = None
    """What replicas share: nothing, optimizer states (zero1), gradients too (zero2), parameters too (zero3), or all of
    it inside groups (hybrid)."""
    sharding_group: Ranks | None = None
    """Ranks that share parameters under hybrid sharding, or optimizer states under ZeRO-1; all unless given."""
    micro_batch: Annotated[Degree, Unit("sequence")] | None = None
    """Sequences of one forward pass."""
    schedule: Schedule | None = None
    """Order of the micro-batches in a pipeline."""
    recompute: Recompute | None = None
    """What the backward pass computes again instead of keeping: nothing, attention or modules (selective), all but the
    outputs of some operators (operators), or layers (full)."""
    recompute_modules: Annotated[tuple[RecomputeModule, ...] | None, Also(str, "names with commas")] = None
    """Modules of a layer that selective recomputation is of, as Megatron names them: core_attn, mlp and the like;
    scores and softmax of unfused attention unless given."""
    recompute_layers: Annotated[Degree, Unit("layer")] | None = None
    """Layers that full recomputation counts by `recompute_method`; all of them, one by one, unless given."""
    recompute_method: RecomputeMethod | None = None
    """Which layers these are: every so many-th (every), the first of each stage (block), or all, of which so many keep
    one input (uniform)."""
    attention: AttentionKernel | None = None
    """Whether attention writes its scores to memory, or is one kernel (FlashAttention); as the stack does unless
    given."""
    cross_entropy: CrossEntropy | None = None
    """Whether the loss is single operations on logits in fp32 (unfused), one kernel that leaves their gradient in their
    place (fused), or made of hidden states piece by piece, so that all logits never exist (chunked); as the stack does
    unless given."""
    precision: Precision | None = None
    """Number format of matrix products."""
    fp8_scaling: Fp8Scaling | None = None
    """Under fp8, what shares a scale: a tensor, by its largest number in steps before (delayed) or now, for which it is
    read once more (current), or 128 elements (blockwise); as the stack does unless given."""
    layers_in_16_bits: Annotated[int, Field(ge=0, le=1_000_000), NO_FLAG, Unit("layer")] | None = None
    """Layers, usually the first and the last ones, whose products stay in 16 bits where those of the others are in
    fp8."""
    activation_inputs_in_fp8: bool | None = None
    """Whether what gated activation functions read is kept in fp8 for the backward pass; no unless given."""
    parameters_in_fp32: bool | None = None
    """Whether the model holds its parameters in fp32 and casts them for each product (autocast)."""
    gradients_in_fp32: bool | None = None
    """Whether gradients are kept and summed in fp32."""
    reduction_in_fp32: bool | None = None
    """Whether gradients travel in fp32; as they are stored unless given."""
    master_weights: bool | None = None
    """Whether the optimizer holds an fp32 copy of 16-bit parameters."""
    optimizer: Optimizer | None = None
    """Optimizer; its states go into memory, its passes into time."""
    clip_gradients: bool | None = None
    """Whether gradients are clipped by their norm before the update, for which they are read once more; so unless the
    optimizer is SGD or runs in the backward pass."""
    optimizer_in_backward: bool | None = None
    """Whether the optimizer updates each parameter as its gradient comes and frees that, so that gradients of the whole
    model never exist at once; no unless given."""
    offload_optimizer: bool | None = None
    """Whether optimizer states live in the host's memory."""
    placement: Annotated[tuple[Axis, ...] | None, Also(str, "words with hyphens, such as tp-cp-dp-pp")] = None
    """Axes from the innermost, whose ranks are neighbours, to the outermost; each once."""

    @field_validator("placement", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        axes = value.split("-") if isinstance(value, str) else value
        if axes is None or not isinstance(axes, list | tuple):
            return axes
        if sorted(map(str, axes)) != ["cp", "dp", "pp", "tp"]:
            raise ValueError(f"{shown(value)} must name tp, cp, dp and pp once each, such as tp-cp-dp-pp")
        return tuple(axes)

    @field_validator("recompute_modules", mode="before")
    @classmethod
    def _read_modules(cls, value: object) -> object:
        return recomputation.read_modules(value)

    @model_validator(mode="before")
    @classmethod
    def _imply(cls, value: Any) -> Any:
        return recomputation.with_implied(value)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        fault = recomputation.contradiction(*self.again) or self._in_backward_beside()
        if fault is None and self.fp8_scaling and self.precision not in (None, "fp8"):
            fault = f"fp8_scaling={self.fp8_scaling} belongs to precision=fp8, not to precision={self.precision}"
        if fault is not None:
            raise ValueError(fault)
        return self

    def _in_backward_beside(self) -> str | None:
        """What an optimizer in the backward pass cannot go with, as torchtune 0.6.1 says for clipping."""
        beside = {"clip_gradients": "needs all gradients at once", "offload_optimizer": "updates on the host"}
        for name, why in beside.items():
            if self.optimizer_in_backward and getattr(self, name):
                return f"optimizer_in_backward and {name}, which {why}; leave one out"
        return None

    @property
    def again(self) -> tuple[str | None, tuple[RecomputeModule, ...] | None, int | None, str | None]:
        """What is recomputed."""
        return self.recompute, self.recompute_modules, self.recompute_layers, self.recompute_method

    def with_defaults(self, stack: Stack, family: str | None = None) -> Plan:
        """Fill everything but degrees and micro-batch as the stack would for a model of some family."""
        defaults = stack.defaults
        precision = self.precision or defaults.precision
        full = precision in ("fp32", "tf32")
        stored_full = full or self._sums_in_fp32(stack, precision)
        optimizer = self.optimizer or defaults.optimizer
        filled = {
            "precision": precision,
            "sharding": self.sharding or ("hybrid" if self.sharding_group else defaults.sharding),
            "recompute": self.recompute or defaults.recompute,
            "attention": self.attention or stack.attention_of(family),
            "optimizer": optimizer,
            "fp8_scaling": self.fp8_scaling or (defaults.fp8_scaling if precision == "fp8" else None),
            "sequence_parallel": _first(self.sequence_parallel, defaults.sequence_parallel),
            "parameters_in_fp32": _first(self.parameters_in_fp32, full or defaults.parameters_in_fp32),
            "gradients_in_fp32": _first(self.gradients_in_fp32, stored_full),
            "reduction_in_fp32": _first(self.reduction_in_fp32, self._reduces_in_fp32(stack, full=full)),
            **{name: bool(getattr(self, name)) for name in _NOT_UNLESS_SAID},
            "placement": self.placement or ("tp", "cp", "dp", "pp"),
        }
        clips = OPTIMIZER_TRAITS[optimizer].clips and not filled["optimizer_in_backward"]
        filled["clip_gradients"] = _first(self.clip_gradients, clips)
        copies = defaults.master_weights and not (full or filled["parameters_in_fp32"])
        filled["master_weights"] = _first(self.master_weights, copies)
        return self.model_copy(update=filled)

    def _sums_in_fp32(self, stack: Stack, precision: Precision) -> bool:
        """Whether gradients are kept in fp32 where nobody says: as the stack does, or as parameters where none sum."""
        if self.optimizer_in_backward:
            return _first(self.parameters_in_fp32, stack.defaults.parameters_in_fp32)
        return stack.defaults.gradients_in_fp32 and precision in stack.defaults.fp32_gradients_of

    def _reduces_in_fp32(self, stack: Stack, *, full: bool) -> bool:
        """Whether gradients travel in fp32 where the plan does not say: as the stack does, or as they are stored."""
        precision = self.precision or stack.defaults.precision
        stored = _first(self.gradients_in_fp32, full or self._sums_in_fp32(stack, precision))
        habit = stack.defaults.reduction_in_fp32
        return stored if habit is None or self.gradients_in_fp32 is not None or full else habit

    def with_degrees(self, devices: int, *, usual: Schedule = "1f1b") -> Plan:
        """Fill degrees that follow from the others: one everywhere, and data parallelism over what is left.

        Parameters
        ----------
        devices
            Devices of the run.
        usual
            The schedule of a pipeline without virtual stages for which nobody chooses one.

        Raises
        ------
        InputError
            Where the degrees do not multiply to the devices.
        """
        tp, pp, cp, ep = self.tp or 1, self.pp or 1, self.cp or 1, self.ep or 1
        inner = tp * pp * cp
        degrees = [f"plan.{name}" for name in ("tp", "pp", "cp", "dp") if getattr(self, name)] + ["devices"]
        if self.dp is None and devices % inner:
            raise InputError(
                f"tp={tp} x pp={pp} x cp={cp} = {inner} does not divide devices={devices}; "
                f"valid products: {rules.listed_divisors(devices)}",
                fields=degrees,
            )
        dp = self.dp or devices // inner
        if dp * inner != devices:
            raise InputError(
                f"dp={dp} x tp={tp} x pp={pp} x cp={cp} = {dp * inner} is not devices={devices}; "
                f"change a degree or leave dp open",
                fields=degrees,
            )
        virtual = self.virtual_stages or (2 if self.schedule in V_SHAPED and pp > 1 else 1)
        schedule = self.schedule or ("interleaved" if virtual > 1 else usual if pp > 1 else "1f1b")
        filled = {"dp": dp, "tp": tp, "pp": pp, "cp": cp, "ep": ep, "virtual_stages": virtual, "schedule": schedule}
        self._check_group()
        if tp == 1 and self.sequence_parallel:
            filled["sequence_parallel"] = False
        return self.model_copy(update=filled)

    def _check_group(self) -> None:
        """Refuse hybrid sharding without its group, and a group where nothing is shared by a part of the ranks."""
        if self.sharding == "hybrid" and self.sharding_group is None:
            raise InputError(
                "sharding=hybrid needs sharding_group, the ranks that share parameters, such as sharding_group=8",
                fields=["plan.sharding"],
            )
        if self.sharding_group is not None and self.sharding not in (None, "zero1", "hybrid"):
            raise InputError(
                f"sharding_group={self.sharding_group} belongs to sharding=hybrid or zero1, not to "
                f"sharding={self.sharding}",
                fields=["plan.sharding_group"],
            )

    @property
    def devices(self) -> int:
        """Devices of a plan whose degrees are all given."""
        return (self.dp or 1) * (self.tp or 1) * (self.pp or 1) * (self.cp or 1)

    def columns(self, workload: Workload) -> Plans:
        """The plan as numbers; every field must be given."""
        return _columns(_numbers(self), workload)

    def recomputation(self, **others: Num) -> recomputation.Recomputation:
        """Columns of what is recomputed beside attention or whole layers, of which a search tries `others`."""
        return recomputation.Recomputation(**{**recomputation.numbers_of(*self.again), **others})

    def held(self) -> dict[str, float]:
        """Columns of what no search tries: attention, bytes of each kind of state, and how it is updated."""
        precision, optimizer = self.precision or "bf16", OPTIMIZER_TRAITS[self.optimizer or "adamw"]
        taken = _BLOCKWISE if self.fp8_scaling == "blockwise" else _PRODUCT_BYTES.get(precision, 2.0)
        return {
            "fused_attention": float(self.attention == "fused"),
            **{f"{kind}_loss": float(self.cross_entropy == kind) for kind in get_args(CrossEntropy)},
            "element_bytes": (element := max(taken, 2.0)),
            "product_bytes": taken,
            "current_scaling": float(self.fp8_scaling == "current"),
            "narrow_activations": float(bool(self.activation_inputs_in_fp8)),
            "wide_layers": float(self.layers_in_16_bits or 0) if taken < element else 0.0,
            "parameter_bytes": 4.0 if self.parameters_in_fp32 else element,
            "gradient_bytes": 4.0 if self.gradients_in_fp32 else element,
            "reduced_bytes": 4.0 if _first(self.reduction_in_fp32, bool(self.gradients_in_fp32)) else element,
            "master_bytes": 4.0 if self.master_weights else 0.0,
            "state_bytes": optimizer.state_bytes,
            "factored": float(optimizer.factored),
            "orthogonal": float(optimizer.orthogonal),
            "scale_block": optimizer.scale_block,
            "unscaled_bytes": optimizer.unscaled_bytes,
            "splits_master": float(optimizer.splits_master and (precision == "bf16" or taken < 2.0)),
            "gradient_sweeps": optimizer.gradient_sweeps + float(bool(self.clip_gradients)),
            "in_backward": float(bool(self.optimizer_in_backward)),
            **{name: float(getattr(self, name) or 0) for name in ("first_stage_layers", "last_stage_layers")},
        }


def _first(value: bool | None, otherwise: bool) -> bool:
    """The value, where one is given."""
    return otherwise if value is None else value


def columns_of(plans: Sequence[Plan], workload: Workload) -> Plans:
    """Complete plans as columns, one entry a plan."""
    rows = [_numbers(plan) for plan in plans]
    return _columns({name: np.array([row[name] for row in rows]) for name in rows[0]}, workload)


def _columns(numbers: Mapping[str, Num], workload: Workload) -> Plans:
    """Columns from the numbers of one plan or of many."""
    left = dict(numbers)
    degrees = {name: left.pop(name) for name in (*AXES, "ep", "etp")}
    placed = {axis: left.pop(f"{axis}_place") for axis in AXES}
    shards = left.pop("shards_parameters"), left.pop("shards_gradients"), left.pop("shards_states")
    again = recomputation.Recomputation(**{name: left.pop(name) for name in recomputation.NAMES})
    batch = float(workload.global_batch or 0)
    return Plans.split(degrees, placed, global_batch=batch, shards=shards, recomputation=again, **left)


def _numbers(plan: Plan) -> dict[str, float]:
    """A complete plan as numbers."""
    order, shards = plan.placement or AXES, SHARDS[plan.sharding or "none"]
    return {
        **{name: float(getattr(plan, name) or 1) for name in (*AXES, "ep", "micro_batch", "virtual_stages")},
        "etp": float(plan.etp or plan.tp or 1),
        **{f"{axis}_place": float(order.index(axis)) for axis in AXES},
        **dict(zip(("shards_parameters", "shards_gradients", "shards_states"), shards, strict=True)),
        "sharding_group": float(plan.sharding_group or 0),
        "sequence_parallel": float(bool(plan.sequence_parallel)),
        "recompute_attention": float(plan.recompute == "selective" and not plan.recompute_modules),
        "recompute_layer": float(plan.recompute == "full"),
        **recomputation.numbers_of(*plan.again),
        **{name: float(flag) for name, flag in traits_of(plan.schedule).items()},
        "offload": float(bool(plan.offload_optimizer)),
        **plan.held(),
    }


def check(plan: Plan, model: Model, workload: Workload, stack: Stack) -> None:
    """Refuse a plan that breaks a rule.

    Parameters
    ----------
    plan
        Degrees that are open count as one; without `dp` the rules about replicas are left out.
    model, workload, stack
        What it is for.

    Raises
    ------
    InputError
        With the first rule it breaks, and valid values where there is a list of them.
    """
    plans, models, workloads = plan.columns(workload), model.columns(), workload.columns()
    frozen = workloads.frozen
    values = {
        **{name: getattr(plans, name) for name in plans.__dataclass_fields__ if name != "recomputation"},
        "recompute_layers": plan.recompute_layers or 0,
        "stage_layers": rules.most_at_a_stage(plans, models),
        "heads": models.heads,
        "kv_heads": models.key_value_heads,
        "layers": models.layer_count,
        "sequence": workloads.sequence_length,
        "part": workloads.sequence_length / plans.cp,
        "experts": model.experts,
        "global_batch": workloads.global_batch,
        "lora_rank": workloads.tuning.rank,
        "frozen_heads": frozen.models.heads if frozen is not None else 0.0,
        "frozen_layers": frozen.models.layer_count if frozen is not None else 0.0,
        "replicas": plans.replicas,
        "stage_ranks": plans.replicas * np.asarray(plans.tp),
    }
    written = {name: f"{value:.15g}" for name, value in values.items()}
    of_shape = rules.rules_of_shape(plans, models, workloads, stack.columns())
    for rule in chain(of_shape, rules.rules_of_replicas(plans, workloads) if plan.dp is not None else ()):
        if not np.all(rule.kept) and not (rule.name == "pairs" and plan.micro_batch is None):
            valid = rules.valid_values(rule.name, model, workload, stages=plan.pp or 1)
            raise InputError(rule.message.format(**written) + valid, fields=rules.FIELDS[rule.name])
