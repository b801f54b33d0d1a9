"""The plan and the software of a published run, as far as its source tells them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from hardware.reading import build
from hardware.spec import Device, System
from simulator.corpus.runs import RefusedError, Run
from simulator.corpus.words import first_rule, meaning, plain
from simulator.pricing.analytic import precisions_of
from simulator.specs.loading import load_stack
from simulator.specs.plan import Plan
from simulator.specs.stack import Stack

_MOST = 10_000_000
_SDPA_YEAR = 2024
_BEFORE_SDPA = re.compile(r"torch[ =v-]*1\.\d|transformers[ =v-]*([0-3]\.\d|4\.([0-2]?\d|3[0-5])\b)")
"""Releases of torch without scaled_dot_product_attention, and of transformers (to 4.35) that do not call it."""
_DATED = re.compile(r"\b(20[12]\d)-[01]\d-[0-3]\d\b|arxiv\W{0,2}([12]\d)[01]\d\.\d{4,5}")
_NOT_COMPILED = ("", "none", "no", "false", "off", "0", "eager")


def count_of(name: str, value: float) -> int:
    """A published number of things as a whole one.

    Raises
    ------
    RefusedError
        Where it is none.
    """
    if not 1 <= value <= _MOST or value != int(value):
        raise RefusedError("a count that is not whole", f"{name}={value:.15g}")
    return int(value)


def stack_of(run: Run, device: Device) -> tuple[Stack, str | None]:
    """The software of a run, and how its users shard parameters unless they say so."""
    plan = run.plan
    precision = meaning("precisions", plan.precision) or plan.precision
    words = f"{plan.framework or ''} {plan.compiler or ''} {plan.torch_compile or ''} {precision} {device.id}"
    words += " sequence parallel" if plan.sequence_parallel else ""
    words += f" {plan.recompute or ''} {run.extra.container or ''}"
    words += "" if plain(plan.torch_compile) in _NOT_COMPILED else " torch-compile"
    words += " model-parallel" if (plan.tp or 1) > 1 or (plan.pp or 1) > 1 else ""
    words += " sharded" if meaning("shardings", plan.sharding) in ("zero3", "hybrid") else ""
    words += " before-sdpa" if _before_sdpa(run) else ""
    rule = first_rule("stacks", words, title=run.source.title, platform=device.kind)
    return _shipped(rule["stack"]), rule.get("sharding")


def _before_sdpa(run: Run) -> bool:
    """Whether software is of before 2024, when PyTorch's libraries came to fuse attention unless told.

    The date of the source decides, else a version that its words name, else whether attention was fused.
    """
    year = year_of(run)
    if year is not None:
        return year < _SDPA_YEAR
    words = plain(f"{run.plan.framework or ''} {run.extra.container or ''}")
    return bool(_BEFORE_SDPA.search(words)) or run.plan.flash_attention is False


def year_of(run: Run) -> int | None:
    """Year of a source, where its address or title holds a date or the number of a preprint; else nothing."""
    dated = _DATED.search(plain(f"{run.source.where} {run.source.title}"))
    return None if dated is None else int(dated[1] or f"20{dated[2]}")


@cache
def _shipped(name: str) -> Stack:
    """A stack of the catalogue."""
    return load_stack(name)


def inputs_of(run: Run, stack: Stack) -> Stack:
    """The stack as the run used it: where the vocabulary head ran, whether padding was out."""
    changes: dict[str, Any] = {}
    unpads = _unpads(run)
    if unpads is not None:
        changes["unpads"] = unpads
    positions = run.extra.mlm_head_positions_per_seq
    if isinstance(positions, str):
        changes["head_positions"] = "all" if re.match(r"all\b|every", plain(positions)) else "masked"
    return stack.model_copy(update=changes)


def _unpads(run: Run) -> bool | None:
    """Whether padding was taken out, where the run tells."""
    mode = plain(run.extra.input_mode)
    if is_binned(run):
        return True
    return bool(re.search(r"un-?pad|packed|var-?len|remov|without padding|no padding", mode)) if mode else None


def _attention(run: Run) -> str | None:
    """The attention kernel, where the run tells; what is said of unpadded sequences is not: a stack has its own."""
    fused = run.plan.flash_attention
    if fused is None or (_unpads(run) and not is_binned(run)):
        return None
    return "fused" if fused else "unfused"


def is_binned(run: Run) -> bool:
    """Whether sequences were sorted by length, so that none is padded far."""
    words = (run.extra.input_mode, run.extra.effective_tokens_per_seq)
    return any(isinstance(word, str) and re.search("binned|bucket|sorted|by length", plain(word)) for word in words)


def plan_of(
    run: Run, system: System, devices: int, stack: Stack, *, implied: str | None = None, habits: bool = True
) -> Plan:
    """The plan as far as it was published, and the stack's defaults but for degrees and micro-batch.

    Parameters
    ----------
    run
        The run.
    system, devices
        What it ran on, and how many devices of it.
    stack
        The software.
    implied
        The sharding of a framework whose users shard without saying so.
    habits
        Whether pipelines are interleaved as the stack's users do where nobody says.

    Raises
    ------
    RefusedError
        Where a precision has no constants, or a degree is no whole number.
    """
    said = run.plan
    degrees = ("dp", "tp", "pp", "cp", "ep")
    published: dict[str, Any] = {name: count_of(name, value) for name in degrees if (value := getattr(said, name))}
    if said.vpp and said.vpp > 1:
        published["virtual_stages"] = count_of("vpp", said.vpp)
    elif said.vpp is None and (said.pp or 1) > 1 and habits:
        published["virtual_stages"] = _interleaving(run, stack)
    sharding = meaning("shardings", said.sharding) or implied
    published["sharding"] = sharding
    if sharding == "hybrid":
        published["sharding_group"] = _sharding_group(run, system, devices)
    if said.zero1_group and sharding == "zero1":
        published["sharding_group"] = count_of("zero1_group", said.zero1_group)
    published["sequence_parallel"] = said.sequence_parallel
    published["recompute"] = meaning("recomputes", said.recompute or said.remat_policy)
    published["optimizer"] = meaning("optimizers", said.optimizer)
    offloads = re.search(r"offload|infinity", plain(f"{said.optimizer or ''} {said.sharding or ''}"))
    published["offload_optimizer"] = True if offloads else None
    published["attention"] = _attention(run)
    published["precision"] = _precision(run, system.device)
    plan = build(Plan, {name: value for name, value in published.items() if value is not None})
    return plan.with_defaults(stack, plain(run.model.family))


def _interleaving(run: Run, stack: Stack) -> int | None:
    """Virtual stages that a stack's users take by habit, where they divide the layers."""
    rule = first_rule("interleaving", stack.id)
    chunks = (run.model.layers or 0.0) / ((run.plan.pp or 1.0) * rule.get("layers", 1))
    return int(chunks) if rule and chunks > 1.0 and chunks == int(chunks) else None


def _precision(run: Run, device: Device) -> str | None:
    """The precision of a run, as the device executes it.

    Raises
    ------
    RefusedError
        Where the device has no units or constants for it, or nobody knows it.
    """
    words = plain(run.plan.precision)
    if not words:
        return None
    precision, valid = meaning("precisions", words), precisions_of(device)
    if precision is None:
        raise RefusedError("unknown precision", words[:80])
    if precision == "tf32" and "tf32" not in valid:
        precision = "fp32"  # the switch does nothing before Ampere
    if device.kind == "tpu" and precision in ("fp32", "tf32", "fp16") and precision not in valid:
        precision = "bf16"  # the default precision of products on a TPU
    if precision not in valid:
        raise RefusedError(f"precision {precision} without constants", device.id)
    return precision


def _sharding_group(run: Run, system: System, devices: int) -> int:
    """Ranks that share parameters under hybrid sharding: as the mesh says, or those of a node or of a TPU slice."""
    said = run.plan
    mesh = re.search(r"fsdp=(\d+)", said.ici or "")
    if mesh:
        group = float(mesh[1])
    elif system.device.kind == "tpu":
        inner = (said.tp or 1) * (said.pp or 1) * (said.cp or 1)
        group = max(min(system.devices_per_pod or devices, devices) // inner, 1.0)
    else:
        group = run.hardware.devices_per_node or 8.0
    return count_of("sharding_group", min(group, said.dp or float(devices)))
