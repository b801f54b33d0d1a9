"""From a published run to a scenario: rules that read free words and fill what was not published."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hardware.catalogue import load_device, names
from hardware.errors import InputError
from hardware.reading import read_mapping
from hardware.spec import Device, System
from simulator.backends.analytic import AnalyticBackend, precisions_of
from simulator.defaults import choose
from simulator.evidence.architectures import model_of
from simulator.evidence.networks import system_of
from simulator.evidence.runs import RefusedError, Run
from simulator.specs.loading import load_stack
from simulator.specs.model import Model
from simulator.specs.plan import Plan, check
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload
from simulator.transformer import Scenarios

_RULES = Path(__file__).with_name("rules.yaml")
_BINNED_TOKENS = 0.553
"""Mean length of sequences sorted by length, each padded to a multiple of 64, over the longest: 283 of 512 on
Wikipedia, by the rates of NVIDIA's PaddlePaddle BERT with and without sorting."""
_BINNED_SQUARES = 0.61
"""The same for the root of the mean square, which attention goes by: 312 of 512."""


@dataclass(frozen=True)
class Case:
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

    def columns(self) -> Scenarios:
        """The scenario as numbers."""
        return Scenarios(
            self.model.columns(), self.workload.columns(), self.plan.columns(self.workload), self.stack.columns()
        )

    def backend(self) -> AnalyticBackend:
        """The backend that prices it."""
        return AnalyticBackend.of(self.system, self.devices, self.plan.precision or "bf16")


@cache
def _rules() -> dict[str, list[dict[str, Any]]]:
    return {name: list(rules) for name, rules in read_mapping(_RULES).items()}


def first_rule(kind: str, words: str, title: str = "") -> dict[str, Any]:
    """The first rule of a kind whose patterns occur in some words and in a title; empty where none does."""
    return next(
        (
            rule
            for rule in _rules()[kind]
            if re.search(rule["match"], words.lower()) and re.search(rule.get("title", ""), title.lower())
        ),
        {},
    )


def case_of(run: Run) -> Case:
    """Make a scenario of a run.

    Raises
    ------
    RefusedError
        With the reason, where the run is not training or lacks what no rule can fill.
    """
    try:
        return _case_of(run)
    except InputError as error:
        raise RefusedError("inconsistent or impossible plan", str(error)) from None


def _case_of(run: Run) -> Case:
    """Make a scenario of a run, or fail with a sentence."""
    if run.task == "forward":
        raise RefusedError("forward pass only")
    if run.plan.peft is not None:
        raise RefusedError("trains adapters only")
    if re.search(r"\b(one|single) layer\b", run.model.name):
        raise RefusedError("a layer, not a model")
    assumed: list[str] = []
    device = _device(run, assumed)
    stack = _stack(run, device)
    model = model_of(run)
    devices = int(run.hardware.devices or 1)
    system = system_of(run, device, devices)
    plan = _plan(run, device, devices, stack)
    workload = _workload(run, model, assumed)
    stack = _adjusted(run, stack)
    plan = _complete(plan, run, model, workload, system, stack, devices, assumed)
    check(plan, model, workload, stack)
    return Case(run, model, workload, system, devices, plan, stack, tuple(assumed))


def _device(run: Run, assumed: list[str]) -> Device:
    """The device of a run."""
    words = run.hardware.device.lower()
    if words in names("devices"):
        return load_device(words)
    rule = first_rule("devices", words)
    if not rule:
        raise RefusedError("unknown device", words)
    if "assumed" in rule:
        assumed.append(rule["assumed"])
    return load_device(rule["device"])


def _stack(run: Run, device: Device) -> Stack:
    """The software of a run."""
    plan = run.plan
    words = f"{plan.framework or ''} {plan.compiler or ''} {plan.torch_compile or ''} {plan.precision} {device.id}"
    words += " sequence parallel" if plan.sequence_parallel else ""
    words += f" {plan.recompute or ''} {run.extra.container or ''}"
    if device.kind == "tpu":
        pathways = "pathways" in words.lower()
        return load_stack("pathways" if pathways else "xla-tpu")
    rule = first_rule("stacks", words, run.source.title)
    return load_stack(rule.get("stack", "pytorch-ddp"))


def _adjusted(run: Run, stack: Stack) -> Stack:
    """The stack as the run used it: its attention kernel, where the vocabulary head ran, whether padding was out."""
    changes: dict[str, Any] = {}
    if run.extra.input_mode is not None:
        changes["unpads"] = run.extra.input_mode in ("unpadded", "packed")
    if _is_binned(run):
        changes["unpads"] = True
    if run.plan.flash_attention is not None and (_is_binned(run) or not changes.get("unpads")):
        changes["attention"] = "fused" if run.plan.flash_attention else "unfused"
    if isinstance(run.extra.mlm_head_positions_per_seq, str):
        every = run.extra.mlm_head_positions_per_seq.lower() == "all"
        changes["head_positions"] = "all" if every else "masked"
    return stack.model_copy(update=changes)


def _is_binned(run: Run) -> bool:
    """Whether sequences were sorted by length, so that none is padded far."""
    words = (run.extra.input_mode, run.extra.effective_tokens_per_seq)
    return any(isinstance(word, str) and re.search("binned|bucketed", word) for word in words)


_SHARDING = (
    ("hsdp|hybrid", "hybrid"),
    ("zero-?3|fsdp", "zero3"),
    ("zero-?2", "zero2"),
    ("zero-?1|distributed", "zero1"),
    ("none|2d", "none"),
)
_OPTIMIZERS = (("8.?bit", "adam-8bit"), ("lamb", "lamb"), ("adafactor", "adafactor"), ("sgd", "sgd"), ("adam", "adamw"))


def _word(table: tuple[tuple[str, str], ...], words: str | None) -> str | None:
    """The first meaning in a table whose pattern occurs in some words."""
    if words is None:
        return None
    return next((meaning for pattern, meaning in table if re.search(pattern, words.lower())), None)


def _plan(run: Run, device: Device, devices: int, stack: Stack) -> Plan:
    """The plan as far as it was published."""
    given = run.plan
    degrees = {name: int(value) for name in ("dp", "tp", "pp", "cp", "ep") if (value := getattr(given, name))}
    published: dict[str, Any] = dict(degrees)
    if given.vpp and given.vpp > 1:
        published["virtual_stages"] = int(given.vpp)
    elif given.vpp is None and (given.pp or 1) > 1:
        published["virtual_stages"] = _interleaving(run, stack)
    sharding = _word(_SHARDING, given.sharding)
    published["sharding"] = sharding
    if sharding == "hybrid":
        published["sharding_group"] = _sharding_group(run, devices)
    if given.zero1_group and sharding == "zero1":
        published["sharding_group"] = int(given.zero1_group)
    published["sequence_parallel"] = given.sequence_parallel
    published["recompute"] = _word((("selective", "selective"), ("full", "full"), ("none", "none")), given.recompute)
    published["optimizer"] = _word(_OPTIMIZERS, given.optimizer)
    published["offload_optimizer"] = True if "offload" in (given.optimizer or "").lower() else None
    published["precision"] = _precision(run, device)
    plan = Plan(**{name: value for name, value in published.items() if value is not None})
    return plan.with_defaults(stack)


def _interleaving(run: Run, stack: Stack) -> int | None:
    """Virtual stages that a stack's users take by habit, where they divide the layers."""
    rule = first_rule("interleaving", stack.id)
    chunks = (run.model.layers or 0.0) / ((run.plan.pp or 1.0) * rule.get("layers", 1))
    return int(chunks) if rule and chunks > 1.0 and chunks == int(chunks) else None


def _precision(run: Run, device: Device) -> str | None:
    """The precision of a run; a narrower one that the model does not know counts as the next."""
    given = (run.plan.precision or "").lower()
    if not given:
        return None
    if given not in precisions_of(device):
        raise RefusedError(f"precision {given} without constants", device.id)
    return given


def _sharding_group(run: Run, devices: int) -> int:
    """Ranks that share parameters under hybrid sharding: as the mesh says, or those of a node."""
    mesh = re.search(r"fsdp=(\d+)", run.plan.ici or "")
    group = int(mesh[1]) if mesh else int(run.hardware.devices_per_node or 8)
    return min(group, int(run.plan.dp or devices))


def _workload(run: Run, model: Model, assumed: list[str]) -> Workload:
    """The workload of a run."""
    batch = run.plan.global_batch
    if batch is None and run.plan.micro_batch and run.plan.dp:
        batch = run.plan.micro_batch * run.plan.dp * (run.plan.grad_accum or 1)
        assumed.append("no accumulation of gradients" if run.plan.grad_accum is None else "batch from accumulation")
    if batch is None:
        raise RefusedError("no batch")
    length = int(run.model.seq_len or model.training.sequence_length)
    predictions = run.extra.mlm_head_positions_per_seq
    given: dict[str, Any] = {"sequence_length": length, "global_batch": int(batch)}
    if run.model.target_len is not None:
        given["target_length"] = int(run.model.target_len)
    if isinstance(predictions, float) and model.objective == "mlm":
        given["predictions"] = max(round(predictions), 1)
    if _is_binned(run):
        given["effective_tokens"] = _BINNED_TOKENS * length
        given["sequence_length"] = 64 * round(_BINNED_SQUARES * length / 64)
    elif isinstance(run.extra.effective_tokens_per_seq, float):
        given["effective_tokens"] = min(run.extra.effective_tokens_per_seq, float(length))
    return Workload(**given).resolve(model)


def _complete(
    plan: Plan,
    run: Run,
    model: Model,
    workload: Workload,
    system: System,
    stack: Stack,
    devices: int,
    assumed: list[str],
) -> Plan:
    """Fill degrees and micro-batch: from what is known of them, or as the fastest plan that fits."""
    batch = workload.global_batch or 1
    micro = run.plan.micro_batch
    if micro is None and plan.dp and run.plan.grad_accum:
        micro = batch / (plan.dp * run.plan.grad_accum)
    if micro is not None:
        plan = plan.model_copy(update={"micro_batch": max(round(micro), 1)})
    inner = (plan.tp or 1) * (plan.pp or 1) * (plan.cp or 1)
    if plan.dp is None and run.plan.tp and run.plan.pp and devices % inner == 0:
        plan = plan.model_copy(update={"dp": devices // inner})
    if plan.dp is None or plan.micro_batch is None:
        filled = choose(plan, plan, model, workload, system, stack, devices)
        assumed.append("plan: the fastest that fits")
        plan = filled
    return plan.with_degrees(devices)
