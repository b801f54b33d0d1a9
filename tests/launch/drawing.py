"""Random scenarios that a stack can run, for files that are written and read back."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from hardware import catalogue
from hardware.errors import InputError
from hardware.spec import System
from simulator.launch.record import LaunchFile
from simulator.scenario.scenario import Scenario, resolve
from simulator.specs.choices import V_SHAPED
from simulator.specs.loading import load_model, load_stack
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.training.guidance import PAIR
from simulator.specs.training.tuning import MATRICES

SYSTEMS = ("dgx-h100", "superpod-a100")
_DEGREES = (1, 2, 4, 8)
_TARGETS = ("all-linear", "attention", "feed-forward", "q_proj,v_proj", "qkv", "o_proj,down_proj", "linear_fc1")


@cache
def _system(name: str) -> System:
    return catalogue.load_system(name)


def _drawn(rng: random.Random, stack: str, model: Model, only: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """A plan with every field that the stack lists, drawn at random."""
    spec = load_stack(stack)
    offers = spec.offers
    degree = {axis: rng.choice(_DEGREES) if axis in spec.axes else 1 for axis in ("tp", "pp", "cp")}
    chunks = rng.choice((1, 2, 3)) if degree["pp"] > 1 and "interleaved" in offers.schedules else 1
    plan: dict[str, Any] = {
        **degree,
        "dp": rng.choice((1, 2, 3, 4, 8, 16)),
        "ep": rng.choice((1, 2, 4, 8)) if model.experts > 1 and "ep" in spec.axes else 1,
        "virtual_stages": chunks,
        "schedule": "interleaved" if chunks > 1 else rng.choice(offers.schedules) if degree["pp"] > 1 else "1f1b",
        "micro_batch": rng.choice((1, 2, 4)),
        "sharding": rng.choice(offers.shardings),
        "recompute": rng.choice(offers.recompute),
        "precision": rng.choice(offers.precisions),
        "optimizer": rng.choice(offers.optimizers),
        "sequence_parallel": offers.sequence_parallel and degree["tp"] > 1 and rng.random() < 0.5,
        "offload_optimizer": offers.offload_optimizer and rng.random() < 0.2,
        "placement": rng.choice(offers.placements or ("tp-cp-dp-pp",)),
    }
    if plan["schedule"] == "interleaved" and chunks == 1:
        plan["schedule"] = "1f1b"
    if plan["schedule"] in (*V_SHAPED, "looped-bfs"):
        plan["virtual_stages"] = 2
    plan |= {name: rng.choice(words) for name, words in only.items()}
    replicas = plan["dp"] * plan["cp"]
    if plan["sharding"] == "hybrid" or (plan["sharding"] == "zero1" and rng.random() < 0.2):
        plan["sharding_group"] = rng.choice([n for n in range(1, replicas + 1) if replicas % n == 0])
    return plan


def tuned_work(rng: random.Random) -> dict[str, Any]:
    """Adapters, a format of frozen weights, a preference and its reference, drawn at random; at least one of them."""
    adapted, preference = rng.random() < 0.75, rng.choice((None, "dpo", "dpo", "reward"))
    work: dict[str, Any] = {}
    if adapted or preference is None:
        work["lora_rank"] = rng.choice((4, 8, 16, 64))
        work["lora_targets"] = rng.choice(_TARGETS)
        work["lora_dropout"] = rng.choice((None, 0.05))
        work["base_precision"] = rng.choice((None, None, "nf4", "nf4-double", "int8"))
    if preference is not None:
        work["preference"] = preference
    if preference == "dpo":
        work["reference"] = rng.choice((None, "copy", "precomputed"))
    return {name: value for name, value in work.items() if value is not None}


def compared_work(scenario: Scenario) -> dict[str, Any]:
    """A workload's fields, with the matrices that have adapters in the place of the words for them."""
    work, tunings = scenario.workload, scenario.workload.tunings()
    gated = scenario.model.feed_forward == "gated"  # a plain layer has no gate, whether or not a word means it
    wanted = [name for name in MATRICES if getattr(tunings, name) and (gated or name != "gate")]
    return {**work.model_dump(exclude={"lora_targets"}), "matrices": wanted}


def scenarios(
    stack: str,
    models: Sequence[str],
    number: int,
    *,
    systems: Sequence[str] = SYSTEMS,
    only: Mapping[str, Sequence[Any]] | None = None,
    seed: int = 7,
    tuned: bool = False,
) -> Iterator[Scenario]:
    """Random scenarios that keep every rule, and that the stack can run; `only` limits the values of some fields.

    Where `tuned`, they train adapters or on preferences.
    """
    rng, made = random.Random(seed), 0
    while made < number:
        model = load_model(rng.choice(models))
        plan = _drawn(rng, stack, model, only or {})
        if plan["dp"] * plan["tp"] * plan["pp"] * plan["cp"] > 512:
            continue
        extra = tuned_work(rng) if tuned else {}
        plan["micro_batch"] *= PAIR if "preference" in extra else 1
        work: dict[str, Any] = {
            "sequence_length": min(rng.choice((512, 1024, 2048)), model.position_rows or 10**6),
            "global_batch": plan["dp"] * plan["micro_batch"] * rng.choice((1, 2, 4, 8, 12)),
            "steps": rng.randint(1, 10**6),
            **extra,
        }
        devices = plan["dp"] * plan["tp"] * plan["pp"] * plan["cp"]
        system = _system(rng.choice(systems))
        try:
            scenario = resolve(model, system, devices=devices, plan=plan, stack=stack, workload=work)
        except InputError:
            continue
        made += 1
        yield scenario


def read_back(launched: LaunchFile, scenario: Scenario, **changes: Any) -> Scenario:
    """The scenario that a launch file says, on the same system."""
    document = {**launched.document(), **changes}
    return resolve(
        document["model"],
        scenario.system,
        devices=document.get("devices"),
        plan=document["plan"],
        stack=document["stack"],
        workload=document["workload"],
    )


def compared(plan: Plan) -> Mapping[str, Any]:
    """A plan's fields, in one form where two mean the same."""
    fields = plan.model_dump()
    replicas = (plan.dp or 1) * (plan.cp or 1)
    if plan.sharding == "hybrid" and plan.sharding_group == replicas:
        fields |= {"sharding": "zero3", "sharding_group": None}
    if replicas == 1 or (plan.sharding == "hybrid" and plan.sharding_group == 1):
        fields |= {"sharding": "none", "sharding_group": None}
    if plan.sharding == "zero1" and plan.sharding_group == replicas:
        fields["sharding_group"] = None
    fields["etp"] = plan.etp or plan.tp
    return fields
