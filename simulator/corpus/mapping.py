"""From a published run to a scenario: rules that read free words and fill what was not published."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from hardware.errors import InputError
from hardware.reading import build
from hardware.spec import Device, System
from simulator.corpus.architectures import model_of
from simulator.corpus.devices import device_of
from simulator.corpus.networks import system_of
from simulator.corpus.notes import FieldReading, Notes
from simulator.corpus.other_work import refuse_other_work
from simulator.corpus.published import count_of, inputs_of, is_binned, plan_of, stack_of
from simulator.corpus.runs import RefusedError, Run
from simulator.corpus.tuning import tuning_of
from simulator.corpus.words import first_rule, plain
from simulator.pricing.analytic import AnalyticBackend
from simulator.scenario.choosing import choose
from simulator.scenario.defaults import with_precision
from simulator.specs.model import Model
from simulator.specs.plan import Plan, check
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload
from simulator.work.transformer import Scenarios

_BINNED_TOKENS = 0.553
"""Mean length of sequences sorted by length, each padded to a multiple of 64, over the longest: 283 of 512 on
Wikipedia, by the rates of NVIDIA's PaddlePaddle BERT with and without sorting."""
_BINNED_SQUARES = 0.61
"""Root mean square of these lengths over the longest, which attention goes by: 312 of 512."""
_BIN = 64
_TWO_CORES = ("tpu-v2", "tpu-v3")
"""Chips whose two cores software sees as devices of their own (Google Cloud, TPU v2 and v3; recalled)."""


@dataclass(frozen=True)
class MappedRun:
    """A run with the scenario that stands for it."""

    run: Run
    model: Model
    workload: Workload
    system: System
    devices: int
    plan: Plan
    stack: Stack
    assumed: tuple[str, ...] = field(default=())
    """What was filled because it was not published."""
    readings: tuple[FieldReading, ...] = field(default=(), compare=False)
    """How the words of its fields were read."""

    def columns(self) -> Scenarios:
        """The scenario as numbers."""
        return Scenarios(
            self.model.columns(), self.workload.columns(), self.plan.columns(self.workload), self.stack.columns()
        )

    def backend(self) -> AnalyticBackend:
        """The backend that prices it."""
        return AnalyticBackend.of(self.system, self.devices, self.plan.precision or "bf16")


def case_of(run: Run, notes: Notes | None = None) -> MappedRun:
    """Make a scenario of a run.

    Parameters
    ----------
    run
        The run.
    notes
        Receives how its fields were read, also where it is refused.

    Raises
    ------
    RefusedError
        With the reason, where the run is not training or lacks what no rule can fill.
    """
    notes = notes if notes is not None else Notes()
    refuse_other_work(run)
    try:
        try:
            return _case_of(run, notes, habits=True)
        except InputError:
            if run.plan.vpp is not None or (run.plan.pp or 1) == 1:
                raise
            notes.readings.clear()
            notes.assumed.clear()
            return _case_of(run, notes, habits=False)
    except InputError as error:
        raise RefusedError("inconsistent or impossible plan", str(error)) from None


def _case_of(run: Run, notes: Notes, *, habits: bool) -> MappedRun:
    """Make a scenario of a run, with what a stack's users do by habit or without, or fail with a sentence."""
    device = device_of(run.hardware.device, notes)
    run = _with_ranks_as_chips(run, device, notes)
    stack, implied = stack_of(run, device, notes)
    model = model_of(run, notes)
    devices = _devices(run, notes)
    system = system_of(run, device, devices, notes)
    plan = plan_of(run, system, devices, stack, implied=implied, habits=habits, notes=notes)
    workload = _workload(run, model, devices, stack, notes)
    stack = inputs_of(run, stack, notes)
    plan = _complete(with_precision(plan, system), run, model, workload, system, stack, devices, notes)
    # A run as published is a fact: what its stack, which may stand for a fork or an older release, is said to lack
    # refuses no run. Only what no software can do does.
    check(plan, model, workload, stack)
    said, assumed = tuple(notes.readings), tuple(notes.assumed)
    case = MappedRun(run, model, workload, system, devices, plan, stack, assumed, said)
    case.backend()  # not every number of devices is a slice of a torus
    return case


def _with_ranks_as_chips(run: Run, device: Device, notes: Notes) -> Run:
    """A run whose ranks are chips, where software counted the two cores of each as ranks of their own."""
    hardware, plan = run.hardware, run.plan
    if device.kind != "tpu" or not plan.dp or not hardware.devices:
        return run
    ranks = plan.dp * (plan.tp or 1) * (plan.pp or 1) * (plan.cp or 1)
    told = (hardware.model_extra or {}).get("logical_devices") == ranks
    if ranks != 2.0 * hardware.devices or plan.dp % 2 or not (told or device.id in _TWO_CORES):
        return run
    notes.read("plan.dp", "ranks are cores, two a chip", f"plan.dp = {plan.dp / 2:g} chips", word=f"{plan.dp:g}")
    micro = None if plan.micro_batch is None else 2.0 * plan.micro_batch
    chips = plan.model_copy(update={"dp": plan.dp / 2.0, "micro_batch": micro})
    return run.model_copy(update={"plan": chips})


def _devices(run: Run, notes: Notes) -> int:
    """How many devices a run used: as published, or as slices, degrees or words imply."""
    hardware, plan = run.hardware, run.plan
    if hardware.devices is not None:
        return count_of("devices", hardware.devices)
    if hardware.slices is not None and hardware.chips_per_slice is not None:
        return count_of("devices", hardware.slices * hardware.chips_per_slice)
    notes.assume("devices: as the plan or the words imply")
    if plan.dp is not None:
        return count_of("devices", plan.dp * (plan.tp or 1) * (plan.pp or 1) * (plan.cp or 1))
    words = plain(f"{hardware.intra or ''} {hardware.inter or ''}")
    if re.search(r"(single|one|1)[- ](gpu|device|chip|card)\b", words):
        return 1
    if hardware.devices_per_node is not None and re.search(r"single[- ](node|server|host|machine)", words):
        return count_of("devices", hardware.devices_per_node)
    raise RefusedError("number of devices not published")


def _replicas(run: Run, devices: int) -> float | None:
    """Data-parallel ranks, as published or as the devices leave them to the published degrees."""
    plan = run.plan
    inner = (plan.tp or 1) * (plan.pp or 1) * (plan.cp or 1)
    if plan.dp is not None or devices % inner:
        return plan.dp
    return devices / inner if devices == inner or plan.tp is not None or plan.pp is not None else None


def _batch(run: Run, devices: int, notes: Notes) -> int:
    """Sequences of one optimizer step."""
    plan, replicas = run.plan, _replicas(run, devices)
    if plan.global_batch is not None:
        return max(int(min(plan.global_batch, 1e12)), 1)
    if plan.micro_batch is None or replicas is None:
        raise RefusedError("no batch")
    notes.assume("no accumulation of gradients" if plan.grad_accum is None else "batch from accumulation")
    return count_of("global_batch", round(min(plan.micro_batch * replicas * (plan.grad_accum or 1), 1e12)))


def _workload(run: Run, model: Model, devices: int, stack: Stack, notes: Notes) -> Workload:
    """The workload of a run."""
    batch = _batch(run, devices, notes)
    if run.model.seq_len is None:
        notes.assume("sequence length of the family")
    length = count_of("seq_len", run.model.seq_len or model.training.sequence_length)
    fields: dict[str, Any] = {"sequence_length": length, "global_batch": batch}
    if run.model.target_len is not None and model.decoder_layers is not None:
        fields["target_length"] = count_of("target_len", run.model.target_len)
    if is_binned(run):
        fields["effective_tokens"] = max(_BINNED_TOKENS * length, 1.0)
        fields["sequence_length"] = length = _binned(length)
    elif (effective := _number(run.extra.effective_tokens_per_seq)) is not None:
        fields["effective_tokens"] = min(max(effective, 1.0), float(length))
    predictions = _predictions(run, length)
    if predictions is not None and model.objective == "mlm":
        fields["predictions"] = predictions
    if model.experts > 1:
        fields |= _routing(run, stack, notes)
    fields |= tuning_of(run, notes)
    return build(Workload, fields).resolve(model)


def _routing(run: Run, stack: Stack, notes: Notes) -> dict[str, float]:
    """How tokens were routed: as published, or as the stack's published runs do."""
    names = ("expert_imbalance", "capacity_factor")
    told = {name: value for name in names if (value := getattr(run.extra, name)) is not None}
    if told:
        return told
    rule = first_rule("routings", stack.id)
    if rule:
        notes.assume(rule["assumed"])
    return {name: rule[name] for name in names if name in rule}


def _binned(length: int) -> int:
    """The padded length that stands for all bins, a multiple of theirs that holds the mean [tokens]."""
    bins = max(round(_BINNED_SQUARES * length / _BIN), math.ceil(_BINNED_TOKENS * length / _BIN))
    return min(_BIN * bins, length)


def _number(value: float | str | None) -> float | None:
    """A positive number, where one was published."""
    return value if isinstance(value, float) and math.isfinite(value) and value > 0 else None


def _predictions(run: Run, length: int) -> int | None:
    """Masked positions of a sequence: a number, or a share of the sequence in words."""
    positions = run.extra.mlm_head_positions_per_seq
    share = re.search(r"(\d+(?:\.\d+)?) ?%", positions) if isinstance(positions, str) else None
    number = float(share[1]) / 100.0 * length if share else _number(positions)
    return None if number is None else max(round(min(number, length)), 1)


def _complete(
    plan: Plan,
    run: Run,
    model: Model,
    workload: Workload,
    system: System,
    stack: Stack,
    devices: int,
    notes: Notes,
) -> Plan:
    """Fill degrees and micro-batch: from what is known of them, or as the fastest plan that fits."""
    batch = workload.global_batch or 1
    micro = run.plan.micro_batch
    if micro is None and plan.dp and run.plan.grad_accum:
        micro = batch / (plan.dp * run.plan.grad_accum)
    if micro is not None:
        plan = plan.model_copy(update={"micro_batch": max(round(min(micro, 1e9)), 1)})
    inner = (plan.tp or 1) * (plan.pp or 1) * (plan.cp or 1)
    if plan.dp is None and run.plan.tp and run.plan.pp and devices % inner == 0:
        plan = plan.model_copy(update={"dp": devices // inner})
    if plan.dp is None or plan.micro_batch is None:
        plan = plan.model_copy(update={"cp": plan.cp or 1})  # whoever shares sequences says so
        filled = choose(plan, plan, model, workload, system, stack, devices, published=True).plan
        notes.assume("plan: the fastest that fits")
        plan = filled
    return _with_spread_experts(plan.with_degrees(devices), notes)


def _with_spread_experts(plan: Plan, notes: Notes) -> Plan:
    """A plan whose experts are spread over tensor-parallel ranks too, where the others are too few for them."""
    replicas, ep, tp = (plan.dp or 1) * (plan.cp or 1), plan.ep or 1, plan.tp or 1
    if replicas % ep == 0 or (replicas * tp) % ep:
        return plan
    notes.assume("experts spread over tensor-parallel ranks")
    return plan.model_copy(update={"etp": math.gcd(tp, replicas * tp // ep)})
