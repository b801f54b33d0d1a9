"""How a run is split over devices: the one place where degrees are multiplied and checked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from hardware.errors import InputError, shown
from hardware.profile import Precision
from hardware.spec import NO_FLAG, Sheet
from simulator.columns import Columns
from simulator.formulas.typing import Num
from simulator.specs.model import Model, Models
from simulator.specs.stack import Optimizer, Recompute, Sharding, Stack, Stacks
from simulator.specs.workload import Workload, Workloads

Degree = Annotated[int, Field(ge=1, le=1_000_000), NO_FLAG]
Schedule = Literal["1f1b", "gpipe", "interleaved", "zero-bubble"]
Axis = Literal["tp", "cp", "dp", "pp"]

_STATE_BYTES: dict[str, float] = {"adamw": 8.0, "lamb": 8.0, "sgd": 4.0, "adafactor": 0.0, "adam-8bit": 2.0}
"""Moments of a parameter: two in fp32, one, none (Adafactor's are factored and counted apart), two of one byte."""
_GRADIENT_SWEEPS: dict[str, float] = {"adamw": 2.0, "lamb": 3.0, "sgd": 1.0, "adafactor": 3.0, "adam-8bit": 2.0}
"""How often an optimizer step reads the gradients: their norm, the update, LAMB's and Adafactor's statistics."""
_DTYPE_BYTES = {"fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 2.0}
"""Activations and 16-bit copies; under fp8 tensors between products stay in 16 bits."""


class Plan(Sheet):
    """A split of the run. What is not given is chosen, and the answer says so."""

    dp: Degree | None = None
    """Data-parallel replicas."""
    tp: Degree | None = None
    """Tensor-parallel ranks."""
    pp: Degree | None = None
    """Pipeline stages."""
    virtual_stages: Degree | None = None
    """Chunks of layers of one device in an interleaved pipeline."""
    cp: Degree | None = None
    """Context-parallel ranks, which share a sequence."""
    ep: Degree | None = None
    """Expert-parallel ranks, out of the data-parallel ones."""
    sequence_parallel: bool | None = None
    """Whether tensor-parallel ranks also share the tokens of normalisations and dropouts."""
    sharding: Sharding | None = None
    sharding_group: Degree | None = None
    """Ranks that share parameters under hybrid sharding, or optimizer states under ZeRO-1; all unless given."""
    micro_batch: Degree | None = None
    """Sequences of one forward pass."""
    schedule: Schedule | None = None
    recompute: Recompute | None = None
    precision: Precision | None = None
    parameters_in_fp32: bool | None = None
    gradients_in_fp32: bool | None = None
    master_weights: bool | None = None
    optimizer: Optimizer | None = None
    offload_optimizer: bool | None = None
    """Whether optimizer states live in the host's memory."""
    placement: tuple[Axis, ...] | None = None
    """Axes from the innermost, whose ranks are neighbours, to the outermost."""

    @field_validator("placement", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        axes = value.split("-") if isinstance(value, str) else value
        if axes is None or not isinstance(axes, list | tuple):
            return axes
        if sorted(map(str, axes)) != ["cp", "dp", "pp", "tp"]:
            raise ValueError(f"{shown(value)} must name tp, cp, dp and pp once each, such as tp-cp-dp-pp")
        return tuple(axes)

    def with_defaults(self, stack: Stack) -> Plan:
        """Fill everything but degrees and micro-batch as the stack would."""
        defaults = stack.defaults
        precision = self.precision or defaults.precision
        full = precision in ("fp32", "tf32")
        filled = {
            "precision": precision,
            "sharding": self.sharding or ("hybrid" if self.sharding_group else defaults.sharding),
            "recompute": self.recompute or defaults.recompute,
            "optimizer": self.optimizer or defaults.optimizer,
            "sequence_parallel": _first(self.sequence_parallel, defaults.sequence_parallel),
            "parameters_in_fp32": _first(self.parameters_in_fp32, full or defaults.parameters_in_fp32),
            "gradients_in_fp32": _first(self.gradients_in_fp32, full or defaults.gradients_in_fp32),
            "offload_optimizer": _first(self.offload_optimizer, False),
            "placement": self.placement or ("tp", "cp", "dp", "pp"),
        }
        holds_fp32 = full or bool(filled["parameters_in_fp32"])
        filled["master_weights"] = _first(self.master_weights, defaults.master_weights and not holds_fp32)
        return self.model_copy(update=filled)

    def with_degrees(self, devices: int) -> Plan:
        """Fill degrees that follow from the others: one everywhere, and data parallelism over what is left.

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
                f"valid products: {_divisors(devices)}",
                fields=degrees,
            )
        dp = self.dp or devices // inner
        if dp * inner != devices:
            raise InputError(
                f"dp={dp} x tp={tp} x pp={pp} x cp={cp} = {dp * inner} is not devices={devices}; "
                f"change a degree or leave dp open",
                fields=degrees,
            )
        virtual = self.virtual_stages or 1
        schedule = self.schedule or ("interleaved" if virtual > 1 else "1f1b")
        filled = {"dp": dp, "tp": tp, "pp": pp, "cp": cp, "ep": ep, "virtual_stages": virtual, "schedule": schedule}
        self._check_group()
        if tp == 1 and self.sequence_parallel:
            filled["sequence_parallel"] = False
        return self.model_copy(update=filled)

    def _check_group(self) -> None:
        """Refuse hybrid sharding without its group, and a group where nothing is shared by a part of the ranks."""
        if self.sharding == "hybrid" and self.sharding_group is None:
            raise InputError(
                "sharding=hybrid needs sharding_group, the ranks that share parameters", fields=["plan.sharding"]
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
        return _columns(self, float(workload.global_batch or 0))


def _first(value: bool | None, otherwise: bool) -> bool:
    """The value, where one is given."""
    return otherwise if value is None else value


def _divisors(number: int) -> str:
    """Name the divisors of a number, a few where there are many."""
    found = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    found += [number // divisor for divisor in reversed(found) if divisor * divisor != number]
    return ", ".join(map(str, found)) if len(found) <= 24 else ", ".join(map(str, found[:20])) + ", ..."


@dataclass(frozen=True)
class Plans(Columns):
    """Plans as numbers. Flags are 0 or 1; a stride is the distance in devices from one rank to the next."""

    dp: Num
    tp: Num
    pp: Num
    cp: Num
    ep: Num
    virtual_stages: Num
    micro_batch: Num
    micro_batches: Num
    sequence_parallel: Num
    parameter_group: Num
    gradient_group: Num
    optimizer_group: Num
    recompute_attention: Num
    recompute_layer: Num
    zero_bubble: Num
    all_at_once: Num
    element_bytes: Num
    parameter_bytes: Num
    gradient_bytes: Num
    master_bytes: Num
    state_bytes: Num
    factored: Num
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
    def replica_stride(self) -> Num:
        """Distance from one such rank to the next."""
        return np.minimum(self.dp_stride, np.where(np.asarray(self.cp) > 1.0, self.cp_stride, self.dp_stride))

    @property
    def tokens_shared(self) -> Num:
        """Ranks that share the tokens of normalisations and dropouts: tp with sequence parallelism."""
        return np.where(np.asarray(self.sequence_parallel) > 0.0, self.tp, 1.0)


def _columns(plan: Plan, global_batch: float) -> Plans:
    """Turn a complete plan into numbers."""
    degree = {"tp": plan.tp or 1, "cp": plan.cp or 1, "dp": plan.dp or 1, "pp": plan.pp or 1}
    stride, distance = {}, 1
    for axis in plan.placement or ("tp", "cp", "dp", "pp"):
        stride[axis] = float(distance)
        distance *= degree[axis]
    replicas = float(degree["dp"] * degree["cp"])
    group = float(plan.sharding_group or replicas)
    precision, optimizer = plan.precision or "bf16", plan.optimizer or "adamw"
    element = _DTYPE_BYTES[precision]
    micro_batch = float(plan.micro_batch or 1)
    return Plans(
        dp=float(degree["dp"]),
        tp=float(degree["tp"]),
        pp=float(degree["pp"]),
        cp=float(degree["cp"]),
        ep=float(plan.ep or 1),
        virtual_stages=float(plan.virtual_stages or 1),
        micro_batch=micro_batch,
        micro_batches=global_batch / (degree["dp"] * micro_batch),
        sequence_parallel=float(bool(plan.sequence_parallel)),
        parameter_group=_group(plan, ("zero3", "hybrid"), group),
        gradient_group=_group(plan, ("zero2", "zero3", "hybrid"), group),
        optimizer_group=_group(plan, ("zero1", "zero2", "zero3", "hybrid"), group),
        recompute_attention=float(plan.recompute == "selective"),
        recompute_layer=float(plan.recompute == "full"),
        zero_bubble=float(plan.schedule == "zero-bubble"),
        all_at_once=float(plan.schedule == "gpipe"),
        element_bytes=element,
        parameter_bytes=4.0 if plan.parameters_in_fp32 else element,
        gradient_bytes=4.0 if plan.gradients_in_fp32 else element,
        master_bytes=4.0 if plan.master_weights else 0.0,
        state_bytes=_STATE_BYTES[optimizer],
        factored=float(optimizer == "adafactor"),
        gradient_sweeps=_GRADIENT_SWEEPS[optimizer],
        offload=float(bool(plan.offload_optimizer)),
        tp_stride=stride["tp"],
        cp_stride=stride["cp"],
        dp_stride=stride["dp"],
        pp_stride=stride["pp"],
    )


def _group(plan: Plan, shards: tuple[str, ...], group: float) -> float:
    """Ranks that share one kind of state."""
    return group if plan.sharding in shards else 1.0


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
    yield from _rules_of_shape(plans, models, workloads, stacks)
    yield from _rules_of_replicas(plans, workloads)


def _rules_of_shape(plans: Plans, models: Models, workloads: Workloads, stacks: Stacks) -> Iterator[Constraint]:
    """How heads, layers, sequences and experts divide."""
    layers = models.layers[0]
    heads, kv_heads = np.asarray(layers.heads), np.asarray(layers.key_value_heads)
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
    experts = np.max([np.asarray(group.experts) for group in models.layers], axis=0)
    yield Constraint("experts", experts % plans.ep == 0, "ep={ep} does not divide {experts} experts")


def _rules_of_replicas(plans: Plans, workloads: Workloads) -> Iterator[Constraint]:
    """How replicas divide; no rule of these can be checked while their number is open."""
    yield Constraint("expert-group", np.asarray(plans.dp) % plans.ep == 0, "ep={ep} does not divide dp={dp}")
    yield Constraint(
        "batch",
        np.asarray(workloads.global_batch) % (plans.dp * plans.micro_batch) == 0,
        "dp={dp} x micro_batch={micro_batch} does not divide global_batch={global_batch}",
    )
    yield Constraint(
        "interleaving",
        (plans.virtual_stages == 1.0) | (np.asarray(plans.micro_batches) % plans.pp == 0),
        "an interleaved schedule needs micro-batches ({micro_batches}) to be a multiple of pp={pp}",
    )
    yield Constraint(
        "sharding-group",
        np.asarray(plans.dp * plans.cp) % plans.optimizer_group == 0,
        "sharding_group={optimizer_group} does not divide the {replicas} data-parallel ranks",
    )


_FIELDS = {
    "heads": ("plan.tp", "devices"),
    "kv-heads": ("plan.tp", "devices"),
    "layers": ("plan.pp", "devices"),
    "chunks": ("plan.virtual_stages", "plan.pp"),
    "virtual": ("plan.virtual_stages",),
    "sequence": ("plan.cp", "workload.sequence_length"),
    "sequence-parallel": ("plan.sequence_parallel", "plan.tp", "workload.sequence_length"),
    "experts": ("plan.ep",),
    "expert-group": ("plan.ep", "plan.dp"),
    "batch": ("plan.micro_batch", "plan.dp", "workload.global_batch"),
    "interleaving": ("plan.virtual_stages", "plan.micro_batch", "workload.global_batch"),
    "sharding-group": ("plan.sharding_group",),
}
"""The fields that each rule is about, the one to blame first."""


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
    layers = models.layers[0]
    values = {
        **{name: getattr(plans, name) for name in plans.__dataclass_fields__},
        "heads": layers.heads,
        "kv_heads": layers.key_value_heads,
        "layers": models.layer_count,
        "sequence": workloads.sequence_length,
        "part": workloads.sequence_length / plans.cp,
        "experts": model.experts,
        "global_batch": workloads.global_batch,
        "replicas": plans.replicas,
    }
    written = {name: f"{value:.15g}" for name, value in values.items()}
    of_shape = _rules_of_shape(plans, models, workloads, stack.columns())
    for rule in chain(of_shape, _rules_of_replicas(plans, workloads) if plan.dp is not None else ()):
        if not np.all(rule.kept):
            sentence = rule.message.format(**written) + _valid(rule.name, model, workload)
            raise InputError(sentence, fields=_FIELDS[rule.name])


def _valid(rule: str, model: Model, workload: Workload) -> str:
    """Values that would keep a rule, where they can be listed."""
    if rule == "experts" and model.experts == 1:
        return f": {model.id} has no experts to share"
    of = {
        "heads": model.attention_heads,
        "sequence": workload.sequence_length,
        "experts": model.experts,
        "batch": workload.global_batch,
    }.get(rule)
    return f"; valid{' products' if rule == 'batch' else ''}: {_divisors(of)}" if of else ""
