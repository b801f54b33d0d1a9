"""What a published run trained: the whole model, or adapters, and how the rest was held."""

from __future__ import annotations

import re
from typing import Any

from simulator.corpus.notes import Notes
from simulator.corpus.runs import RefusedError, Run
from simulator.corpus.words import match_rule, meaning, plain, stated

_LORA = re.compile(r"q?lora")
_NAMED = re.compile(r"(^|[^a-z])q?lora([^a-z]|$)")
_RANK = 1_000_000


def trains_adapters(run: Run) -> bool:
    """Whether a run trained low-rank adapters, by its method or, where it tells none, by its other words."""
    method = plain(run.plan.peft)
    words = plain(f"{run.task or ''} {run.plan.framework or ''} {run.model.name or ''}")
    told = run.plan.lora_rank is not None or _NAMED.search(words)
    return bool(_LORA.fullmatch(method) or (not method and told))


def tuning_of(run: Run, notes: Notes) -> dict[str, Any]:
    """Fields of a workload that say what was trained; nothing where that was the whole model.

    Parameters
    ----------
    run
        The run.
    notes
        Receives what was read and assumed.

    Raises
    ------
    RefusedError
        Where frozen weights were held in a way that cannot be priced.
    """
    if not trains_adapters(run):
        return {}
    fields: dict[str, Any] = {"train": "lora"}
    habits = match_rule("adapters_usual", f"{run.source.title} {run.plan.framework or ''}")
    usual = habits.rule if habits else {}
    rank, targets = run.plan.lora_rank, stated(run.plan.lora_targets)
    for name, value in (("lora_rank", None if rank is None else round(min(rank, _RANK))), ("lora_targets", targets)):
        if value is not None:
            fields[name] = value
            notes.read(f"plan.{name}", "as it stands", f"workload.{name} = {value}", str(value))
        elif name in usual and habits is not None:
            fields[name] = usual[name]
            notes.assume(f"{name}={usual[name]}: as the recipes of this software do")
    if "fp8" in usual and meaning("precisions", run.plan.precision) == "fp8":
        fields["base_precision"] = usual["fp8"]
        notes.assume(f"base_precision={usual['fp8']}: as the recipes of this software do")
    held = stated(run.plan.quantization)
    if held is not None and plain(held) not in ("none", "no", "false"):
        precision = meaning("bases", held)
        if precision is None:
            raise RefusedError("quantised parameters", plain(held)[:80])
        fields["base_precision"] = precision
        notes.read("plan.quantization", "bases", f"workload.base_precision = {precision}", plain(held))
    return fields
