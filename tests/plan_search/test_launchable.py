"""What a search recommends can be launched: checked one plan at a time, in plain Python, by what each code asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

import simulator
from hardware.errors import InputError
from simulator.plan_search.exploration import explore
from simulator.plan_search.searching import search, setting_of, space_of
from simulator.renting.sweeping import Option, sweep
from simulator.scenario.scenario import resolve
from simulator.specs.plan import Plan

_LAYERS, _HEADS, _SEQUENCE, _BATCH, _DEVICES = 96, 96, 2048, 1536, 1024


@cache
def _best(stack: str, number: int = 1000) -> list[Plan]:
    """The best plans for GPT-3 175B on 1,024 A100."""
    scenario = resolve(
        "gpt3-175b",
        "superpod-a100",
        devices=_DEVICES,
        stack=stack,
        workload={"sequence_length": _SEQUENCE, "global_batch": _BATCH},
        open_plan=True,
    )
    seen = explore(space_of(scenario, ()), setting_of(scenario), top=number)
    return [place.grid.plan(place.index, scenario.plan).with_degrees(_DEVICES) for place in seen.best.places]


def _order(plan: Plan) -> str:
    """Axes of more than one rank, from the innermost."""
    return "-".join(axis for axis in plan.placement or () if getattr(plan, axis) > 1)


def _degrees(plan: Plan) -> tuple[int, int, int, int, int, int]:
    """Degrees, chunks and micro-batches of a plan."""
    dp, tp, pp, cp, chunks = plan.dp or 1, plan.tp or 1, plan.pp or 1, plan.cp or 1, plan.virtual_stages or 1
    return dp, tp, pp, cp, chunks, _BATCH // (dp * (plan.micro_batch or 1))


def _megatron(plan: Plan) -> list[str]:
    """What Megatron Core's arguments, ranks and schedules would say."""
    dp, tp, pp, cp, chunks, micro_batches = _degrees(plan)
    usual = "-".join(axis for axis in ("tp", "cp", "dp", "pp") if getattr(plan, axis) > 1)
    other = "-".join(axis for axis in ("tp", "cp", "pp", "dp") if getattr(plan, axis) > 1)
    faults = {
        "world": dp * tp * pp * cp != _DEVICES,
        "heads": _HEADS % tp != 0,
        "sequence": cp > 1 and _SEQUENCE % (2 * cp) != 0,
        "layers": all((_LAYERS + more) % pp for more in (0, 1, 2)),
        "chunks": chunks > 1 and all((_LAYERS + more) % (pp * chunks) for more in (0, 1, 2)),
        "schedule": plan.schedule != ("interleaved" if chunks > 1 else "1f1b"),
        "interleaving": chunks > 1 and (pp == 1 or not _some_group(pp, micro_batches)),
        "order": _order(plan) not in (usual, other),
        "expert ranks": _order(plan) == other != usual and dp > 1 and pp > 1 and cp > 1,
        "offload": bool(plan.offload_optimizer) and plan.optimizer != "adamw",
        "optimizer": plan.optimizer not in ("adamw", "sgd"),
    }
    return [name for name, wrong in faults.items() if wrong]


def _some_group(stages: int, micro_batches: int) -> bool:
    """Whether `microbatch_group_size_per_vp_stage` has a value that the interleaved schedule takes."""
    return any(micro_batches % n == 0 or micro_batches % n >= stages for n in range(stages, micro_batches + 1))


def _bridge(plan: Plan) -> list[str]:
    """What Megatron Bridge would say besides: Megatron-FSDP has no `use_tp_pp_dp_mapping`."""
    dp, _, pp, *_ = _degrees(plan)
    inside = dp > 1 and pp > 1 and _order(plan).index("pp") < _order(plan).index("dp")
    return _megatron(plan) + (["mapping"] if inside and plan.sharding in ("zero2", "zero3", "hybrid") else [])


def _deepspeed(plan: Plan) -> list[str]:
    """What DeepSpeed's engines would say."""
    dp, tp, pp, cp, chunks, _ = _degrees(plan)
    faults = {
        "world": dp * tp * pp != _DEVICES or cp > 1,
        "ZeRO with a pipeline": pp > 1 and plan.sharding not in ("none", "zero1"),
        "schedule": plan.schedule != "1f1b" or chunks > 1,
        "order": _order(plan) != "-".join(axis for axis in ("tp", "dp", "pp") if getattr(plan, axis) > 1),
        "recompute": plan.recompute == "selective",
        "tokens": bool(plan.sequence_parallel),
        "precision": plan.precision not in ("fp32", "fp16", "bf16"),
    }
    return [name for name, wrong in faults.items() if wrong]


def _nanotron(plan: Plan) -> list[str]:
    """What nanotron's configuration would say."""
    dp, tp, pp, cp, chunks, _ = _degrees(plan)
    faults = {
        "world": dp * tp * pp * cp != _DEVICES,
        "heads": _HEADS % tp != 0,
        "sharding": plan.sharding not in ("none", "zero1"),
        "schedule": plan.schedule not in ("1f1b", "gpipe") or chunks > 1,
        "order": _order(plan) != "-".join(axis for axis in ("tp", "cp", "dp", "pp") if getattr(plan, axis) > 1),
        "recompute": plan.recompute == "selective",
        "offload": bool(plan.offload_optimizer),
    }
    return [name for name, wrong in faults.items() if wrong]


_CHECKS: dict[str, Callable[[Plan], list[str]]] = {
    "deepspeed": _deepspeed,
    "nanotron": _nanotron,
    "megatron-lm": _megatron,
    "nemo": _megatron,
    "megatron-bridge": _bridge,
}


@pytest.mark.parametrize("stack", _CHECKS)
def test_the_thousand_best_plans_can_all_be_launched(stack: str) -> None:
    plans = _best(stack)
    assert len(plans) > 500
    faults = {name for plan in plans for name in _CHECKS[stack](plan)}
    assert not faults


@pytest.mark.parametrize("stack", ["deepspeed", "megatron-bridge"])
def test_recommended_plans_are_accepted_when_they_are_named(stack: str) -> None:
    outcome = search("gpt3-175b", "superpod-a100", devices=512, stack=stack, top=20)
    for one in outcome.best:
        again = simulator.estimate("gpt3-175b", "superpod-a100", devices=512, stack=stack, plan=one.plan)
        assert again.step_time_s == pytest.approx(one.step_time_s, rel=1e-12)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("tp>=2", "tp>=2 is met by nothing that stack=pytorch-ddp can run; its tp: 1"),
        (
            "sharding=zero2|zero3",
            "sharding=zero2|zero3 is met by nothing that stack=pytorch-ddp can run; its sharding: ",
        ),
        ("offload_optimizer=yes", "its offload_optimizer: no"),
        ("virtual_stages>1", "its virtual_stages: 1"),
    ],
    ids=str,
)
def test_conditions_that_a_named_stack_cannot_meet_are_refused(where: str, words: str) -> None:
    with pytest.raises(InputError) as raised:
        search("bert-large", "dgx-h100", stack="pytorch-ddp", where=where)
    assert words in str(raised.value)


def test_a_stack_that_nobody_named_gives_way_to_one_that_can() -> None:
    outcome = search("bert-large", "dgx-h100", where="tp>=2")
    assert outcome.stack == "megatron-lm"
    assert {one.plan["tp"] for one in outcome.best} <= {2, 4, 8}


def test_where_nothing_fits_with_the_usual_stack_others_are_tried() -> None:
    """A model of 1.3 billion parameters on devices of 16 GiB needs its states shared by more than replicas of it."""
    outcome = search("gpt3-1.3b", "dgx-1-v100", workload={"sequence_length": 2048, "global_batch": 64})
    assert outcome.feasible
    assert outcome.stack != "pytorch-ddp"
    assert any("since nothing fits with pytorch-ddp" in note for note in outcome.best[0].assumed)


def test_rent_recommends_what_its_stacks_can_run() -> None:
    wishes: dict[str, Any] = {"processes": 1, "workload": {"sequence_length": 2048, "global_batch": 256}}
    for each in sweep(["gpt3-6.7b"], ["dgx-a100-640gb"], [8, 64], stack="nanotron", **wishes):
        assert isinstance(each, Option)
        plan = each.estimate.plan
        assert plan["sharding"] in ("none", "zero1")
        assert plan["schedule"] in ("1f1b", "gpipe")


def test_improvements_are_such_as_the_stack_has() -> None:
    slow = simulator.resolve(
        "gpt3-175b",
        "superpod-a100",
        devices=512,
        stack="deepspeed",
        plan={"tp": 8, "pp": 16, "micro_batch": 1, "recompute": "full"},
    )
    for each in simulator.improvements(slow, top=30):
        stack = simulator.load_stack(each.stack)
        assert each.plan.sharding in stack.offers.shardings
        assert each.plan.recompute in stack.offers.recompute
        assert each.plan.optimizer in stack.offers.optimizers
        if each.stack == "deepspeed":
            assert not [fault for fault in _deepspeed(each.plan.model_copy(update={"dp": 8})) if fault == "schedule"]
            assert each.plan.sharding in ("none", "zero1") or each.plan.pp == 1
