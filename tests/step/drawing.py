"""Random scenarios: models, systems, stacks and plans whose degrees divide, drawn for tests of properties."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

import simulator
from hardware import catalogue
from hardware.errors import InputError
from hardware.spec import System
from simulator.pricing.analytic import precisions_of
from simulator.scenario.scenario import Scenario
from simulator.specs.choices import RECOMPUTES, SCHEDULES, SHARDINGS, V_SHAPED
from simulator.specs.loading import load_model, load_stack, names
from simulator.specs.model import Model
from simulator.specs.plans import divisors
from simulator.specs.stack import Overlap, Stack
from tests.stacks import unrestricted

_SYSTEMS = sorted(catalogue.names("systems"))
_MODELS = sorted(names("models"))
_EXPERTS = [name for name in _MODELS if load_model(name).experts > 1]
_STACKS = tuple(load_stack(name) for name in sorted(names("stacks")))
_LENGTHS = (128, 512, 1024, 2048, 4096, 8192, 32768)
_MOST_DEVICES = 10
"""Exponent of two."""


@st.composite
def scenarios(draw: st.DrawFn, most: int = _MOST_DEVICES) -> Scenario:
    """A scenario with nothing left open; the sizes of its model and the overlap of its stack are drawn too.

    It has no more than two to the power of `most` devices.
    """
    system = catalogue.load_system(draw(st.sampled_from(_SYSTEMS)))
    model, stack = draw(_models()), draw(_stacks(system.device.kind))
    devices = min(2 ** draw(st.integers(0, most)), system.most_devices)
    lengths = [length for length in _LENGTHS if model.positions != "learned" or length <= model.position_rows]
    length = draw(st.sampled_from(lengths or [model.position_rows]))
    plan = draw(_plans(model, system, devices, length))
    batch = plan["dp"] * plan["micro_batch"] * _micro_batches(draw, plan)
    work = {"sequence_length": length, "global_batch": batch}
    try:
        return simulator.resolve(model, system, devices=devices, plan=plan, stack=stack, workload=work)
    except InputError:
        assume(False)
        raise


@st.composite
def _models(draw: st.DrawFn) -> Model:
    """One of the catalogue, or such a one with other numbers of layers and experts and another vocabulary."""
    model = load_model(draw(st.sampled_from(_EXPERTS if draw(st.booleans()) else _MODELS)))
    if draw(st.booleans()):
        return model
    changes: dict[str, Any] = {
        "layers": draw(st.integers(1, 40)),
        "vocabulary_size": draw(st.integers(100, 200_000)),
        "dense_layers_first": 0,
        "expert_period": 1,
    }
    if model.experts > 1:
        changes["experts"] = draw(st.sampled_from([2, 4, 8, 16, 60, 128]))
        changes["experts_per_token"] = draw(st.sampled_from([1, 2]))
    return model.model_copy(update=changes)


@st.composite
def _stacks(draw: st.DrawFn, platform: str) -> Stack:
    """One of the catalogue that runs on such devices and here every plan, perhaps with other shares of overlap."""
    stack = unrestricted(draw(st.sampled_from([each for each in _STACKS if each.platform == platform])))
    if draw(st.booleans()):
        return stack
    shares = {name: draw(st.sampled_from([0.0, 0.3, 0.7, 1.0])) for name in Overlap.model_fields}
    return stack.model_copy(update={"overlap": Overlap(**shares)})


@st.composite
def _plans(draw: st.DrawFn, model: Model, system: System, devices: int, length: int) -> dict[str, Any]:
    """A plan of all axes, its degrees out of the divisors that the model leaves."""
    left, plan = devices, dict[str, Any]()
    for axis in draw(st.permutations(["tp", "pp", "cp"])):
        fitting = [degree for degree in divisors(left) if _fits(axis, degree, model, length)]
        plan[axis] = draw(st.sampled_from([1, *fitting]))
        left //= plan[axis]
    plan |= {"dp": left, "etp": draw(st.sampled_from(divisors(plan["tp"])))}
    places = left * plan["cp"] * plan["tp"] // plan["etp"]
    plan["ep"] = draw(st.sampled_from(divisors(math.gcd(places, model.experts))))
    plan["sharding"] = draw(st.sampled_from(SHARDINGS))
    if plan["sharding"] == "hybrid":
        plan["sharding_group"] = draw(st.sampled_from(divisors(left * plan["cp"])))
    plan["micro_batch"] = draw(st.sampled_from([1, 2, 4]))
    plan["recompute"] = draw(st.sampled_from(RECOMPUTES))
    plan["sequence_parallel"] = length // plan["cp"] % plan["tp"] == 0 and draw(st.booleans())
    plan["offload_optimizer"] = draw(st.integers(0, 7)) == 0
    plan["placement"] = "-".join(draw(st.permutations(["tp", "cp", "dp", "pp"])))
    plan["precision"] = draw(st.sampled_from(precisions_of(system.device)))
    if plan["pp"] > 1:
        plan |= draw(_schedules(model, plan["pp"]))
    return plan


@st.composite
def _schedules(draw: st.DrawFn, model: Model, stages: int) -> dict[str, Any]:
    """How a pipeline runs its micro-batches, or how many layers its ends have."""
    schedule = draw(st.sampled_from(SCHEDULES))
    if schedule == "interleaved":
        chunks = [chunk for chunk in (2, 3, 4) if model.all_layers % (stages * chunk) == 0]
        return {"virtual_stages": draw(st.sampled_from(chunks))} if chunks else {}
    if schedule in (*V_SHAPED, "looped-bfs"):
        return {"schedule": schedule, "virtual_stages": 2} if model.all_layers % (2 * stages) == 0 else {}
    if draw(st.booleans()):
        return {"schedule": schedule}
    ends = [name for name in ("first_stage_layers", "last_stage_layers") if draw(st.booleans())]
    most = (model.all_layers - stages) // 2 + 1
    return {"schedule": schedule, **{name: draw(st.integers(1, most)) for name in ends[: stages - 1]}}


def _fits(axis: str, degree: int, model: Model, length: int) -> bool:
    """Whether the model can be cut so."""
    if axis == "pp":
        return degree <= model.all_layers
    if axis == "cp":
        return length % degree == 0
    return model.attention_heads % degree == 0 and (model.kv_heads % degree == 0 or degree % model.kv_heads == 0)


def _micro_batches(draw: st.DrawFn, plan: dict[str, Any]) -> int:
    """How many of them there are; an interleaved schedule needs a multiple of the stages."""
    several: int = draw(st.sampled_from([1, 1, 2, 4, 8, 16]))
    least = 2 if plan.get("schedule") == "dualpipe-v" else 1
    return int(plan["pp"]) * max(min(several, 4), least) if "virtual_stages" in plan else several
