"""Values that would keep a rule, for the sentence about one that does not."""

from __future__ import annotations

from simulator.specs.model import Model
from simulator.specs.plans import divisors, virtual_stages_of
from simulator.specs.workload import Workload


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
