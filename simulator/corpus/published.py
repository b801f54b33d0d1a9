"""The plan and the software of a published run, as far as its source tells them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from hardware.reading import build
from hardware.spec import Device, System
from simulator.corpus.notes import Notes
from simulator.corpus.runs import RefusedError, Run
from simulator.corpus.words import RuleMatch, first_rule, match_rule, meaning, plain, stated
from simulator.pricing.analytic import precisions_of
from simulator.specs.loading import load_stack
from simulator.specs.plan import Plan
from simulator.specs.recomputation import COMPANIONS
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


def stack_of(run: Run, device: Device, notes: Notes | None = None) -> tuple[Stack, str | None]:
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
    match = match_rule("stacks", words, title=run.source.title, platform=device.kind)
    assert match is not None  # the last rule takes all
    stack, implied = str(match.rule["stack"]), match.rule.get("sharding")
    if notes is not None:
        notes.read("plan.framework", match, f"stack = {stack}")
        if not match.word and "platform" not in match.rule:
            notes.assume(f"software: {stack}, which stands for what no rule knows")
    return _shipped(stack), implied


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


def inputs_of(run: Run, stack: Stack, notes: Notes | None = None) -> Stack:
    """The stack as the run used it: where the vocabulary head ran, whether padding was out."""
    notes = notes if notes is not None else Notes()
    changes: dict[str, Any] = {}
    unpads = _unpads(run)
    if unpads is not None:
        changes["unpads"] = unpads
        words = run.extra.input_mode or str(run.extra.effective_tokens_per_seq)
        place = "extra.input_mode" if run.extra.input_mode else "extra.effective_tokens_per_seq"
        notes.read(place, "words for padding that is out", f"stack.unpads = {unpads}", word=words)
    positions = run.extra.mlm_head_positions_per_seq
    if isinstance(positions, str):
        changes["head_positions"] = "all" if re.match(r"all\b|every", plain(positions)) else "masked"
        result = f"stack.head_positions = {changes['head_positions']}"
        notes.read("extra.mlm_head_positions_per_seq", "all or masked positions", result, word=positions)
    return stack.model_copy(update=changes)


def _unpads(run: Run) -> bool | None:
    """Whether padding was taken out, where the run tells."""
    mode = plain(run.extra.input_mode)
    if is_binned(run):
        return True
    return bool(re.search(r"un-?pad|packed|var-?len|remov|without padding|no padding", mode)) if mode else None


def _attention(run: Run, notes: Notes) -> str | None:
    """The attention kernel, where the run tells; what is said of unpadded sequences is not: a stack has its own."""
    fused = run.plan.flash_attention
    if fused is None:
        return None
    if _unpads(run) and not is_binned(run):
        notes.read(
            "plan.flash_attention", "not heeded", "the stack's own kernel for unpadded sequences", word=str(fused)
        )
        return None
    kernel = "fused" if fused else "unfused"
    notes.read("plan.flash_attention", "taken as it is", f"plan.attention = {kernel}", word=str(fused))
    return kernel


def is_binned(run: Run) -> bool:
    """Whether sequences were sorted by length, so that none is padded far."""
    words = (run.extra.input_mode, run.extra.effective_tokens_per_seq)
    return any(isinstance(word, str) and re.search("binned|bucket|sorted|by length", plain(word)) for word in words)


def plan_of(
    run: Run,
    system: System,
    devices: int,
    stack: Stack,
    *,
    implied: str | None = None,
    habits: bool = True,
    notes: Notes | None = None,
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
    notes
        Receives how words were read, and what was assumed.

    Raises
    ------
    RefusedError
        Where a precision has no constants, a degree is no whole number, or words mean what no plan holds, or nothing.
    """
    said, notes = run.plan, notes if notes is not None else Notes()
    degrees = ("dp", "tp", "pp", "cp", "ep")
    published: dict[str, Any] = {name: count_of(name, value) for name in degrees if (value := getattr(said, name))}
    if said.vpp and said.vpp > 1:
        published["virtual_stages"] = count_of("vpp", said.vpp)
    elif said.vpp is None and (said.pp or 1) > 1 and habits:
        published["virtual_stages"] = stages = _interleaving(run, stack)
        if stages is not None:
            notes.assume(f"virtual stages: {stages}, as users of {stack.id} interleave")
    sharding = _read("shardings", "plan.sharding", said.sharding, notes) or implied
    published["sharding"] = sharding
    if sharding == "hybrid":
        published["sharding_group"] = _sharding_group(run, system, devices)
    if said.zero1_group and sharding == "zero1":
        published["sharding_group"] = count_of("zero1_group", said.zero1_group)
    published["sequence_parallel"] = said.sequence_parallel
    published |= _recompute(run, notes)
    published["optimizer"] = _read("optimizers", "plan.optimizer", said.optimizer, notes)
    offloads = re.search(r"offload|infinity", plain(f"{said.optimizer or ''} {said.sharding or ''}"))
    published["offload_optimizer"] = True if offloads else None
    if offloads:
        place = "plan.optimizer" if offloads[0] in plain(said.optimizer) else "plan.sharding"
        notes.read(place, "words for states on the host", "plan.offload_optimizer = True", word=offloads[0])
    published["attention"] = _attention(run, notes)
    published["precision"] = _precision(run, system.device, notes)
    plan = build(Plan, {name: value for name, value in published.items() if value is not None})
    return plan.with_defaults(stack, plain(run.model.family))


_FIELDS = {"shardings": "sharding", "recomputes": "recompute", "optimizers": "optimizer"}
_GUESSED = ("optimizers",)
"""Kinds of words of which an unknown one is replaced by the software's default: optimizers cost much the same."""


def _read(kind: str, place: str, words: str | None, notes: Notes) -> str | None:
    """What words of a plan mean; nothing where they say that it was not published.

    Raises
    ------
    RefusedError
        Where they mean what no plan holds, or no rule knows them.
    """
    match = _rule_of(kind, place, words, notes)
    return None if match is None else str(match.rule["means"])


def _rule_of(kind: str, place: str, words: str | None, notes: Notes, name: str | None = None) -> RuleMatch | None:
    """The rule that says what words of a plan mean, noted; nothing where they say that it was not published."""
    match = match_rule(kind, words) if words else None
    if match is None and stated(words) is None:
        return None
    name = name or _FIELDS[kind]
    if match is None:
        if kind not in _GUESSED:
            raise RefusedError(f"unknown {name}", plain(words)[:80])
        notes.assume(f"{name}: the default of the software, as nobody knows {plain(words)[:40]!r}")
        return None
    if "refused" in match.rule:
        raise RefusedError(str(match.rule["refused"]), plain(words)[:80])
    more = "".join(f", {field} = {match.rule[field]}" for field in COMPANIONS if field in match.rule)
    notes.read(place, match, f"plan.{name} = {match.rule['means']}{more}")
    return match


def _recompute(run: Run, notes: Notes) -> dict[str, Any]:
    """What the backward pass computes again, of how many layers or which modules.

    By the policy of JAX frameworks, which says more, or in words. The feed-forward layer that modules name is that of
    experts where the model has them.
    """
    said, kind = run.plan, "recomputes"
    place, words = "plan.recompute", said.recompute
    if stated(said.remat_policy) is not None and (words is None or match_rule("policies", said.remat_policy)):
        place, words = "plan.remat_policy", said.remat_policy
        kind = "policies" if match_rule("policies", words) else kind
    match = _rule_of(kind, place, words, notes, "recompute")
    if match is None:
        return {}
    fields = {name: match.rule[name] for name in COMPANIONS if name in match.rule}
    if "recompute_modules" in fields and (run.model.experts or 1) > 1:
        fields["recompute_modules"] = fields["recompute_modules"].replace("mlp", "moe")
    return {"recompute": str(match.rule["means"]), **fields}


def _interleaving(run: Run, stack: Stack) -> int | None:
    """Virtual stages that a stack's users take by habit, where they divide the layers."""
    rule = first_rule("interleaving", stack.id)
    chunks = (run.model.layers or 0.0) / ((run.plan.pp or 1.0) * rule.get("layers", 1))
    return int(chunks) if rule and chunks > 1.0 and chunks == int(chunks) else None


def _precision(run: Run, device: Device, notes: Notes) -> str | None:
    """The precision of a run, as the device executes it.

    Raises
    ------
    RefusedError
        Where the device has no units or constants for it, or nobody knows it.
    """
    words = plain(stated(run.plan.precision))
    if not words:
        return None
    match, valid = match_rule("precisions", words), precisions_of(device)
    if match is None:
        raise RefusedError("unknown precision", words[:80])
    precision = str(match.rule["means"])
    if precision == "tf32" and "tf32" not in valid:
        precision = "fp32"
        notes.assume("precision: fp32, since units for tf32 came with Ampere")
    if device.kind == "tpu" and precision in ("fp32", "tf32", "fp16") and precision not in valid:
        precision = "bf16"
        notes.assume("precision: bf16, the default of products on a TPU")
    if precision not in valid:
        raise RefusedError(f"precision {precision} without constants", device.id)
    notes.read("plan.precision", match, f"plan.precision = {precision}")
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
