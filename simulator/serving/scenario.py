"""What is served, complete: model, system, engine, split and formats, with nothing left open."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hardware import catalogue
from hardware.classes import Precision
from hardware.errors import InputError, about, shown
from hardware.reading import placed
from hardware.spec import Device, System
from simulator.pricing.analytic import AnalyticBackend, precisions_of
from simulator.pricing.constants import Constants, find
from simulator.pricing.measured import MeasuredBackend
from simulator.scenario.scenario import Named, spec_of
from simulator.serving.constants import fitted as fitted_factors
from simulator.serving.served import ServingScenario
from simulator.specs import rules
from simulator.specs.loading import load_model
from simulator.specs.model import Model
from simulator.specs.serving.formats import format_named
from simulator.specs.serving.plan import ServingLoad, ServingPlan
from simulator.specs.serving.stack import ServingStack, load_serving_stack, serving_stacks
from simulator.specs.workload import Workload

_USUAL = {"gpu": ("vllm", "tensorrt"), "tpu": ("jetstream", "pathways"), "cpu": ("llama-cpp", "onnxruntime")}
"""Engines that generate and that encode, which people would use on a kind of device."""


def resolve_serving(
    model: Named | Model,
    system: str | Path | System,
    *,
    devices: int | None = None,
    stack: str | Path | ServingStack | None = None,
    plan: Named | ServingPlan | None = None,
    load: Named | ServingLoad | None = None,
    constants: str | Path | Constants | None = None,
    profile: Any = None,
    **degrees: Any,
) -> ServingScenario:
    """Complete what is said of serving a model.

    Parameters
    ----------
    model, system
        As of `simulator.estimate`.
    devices
        How many devices [device]; those that the degrees multiply to, or one replica's, unless given.
    stack
        The engine; what people would use unless given.
    plan
        A mapping or file of the fields of `simulator.specs.serving.plan.ServingPlan`.
    load
        The requests, from which a split is chosen where it is open.
    constants, profile
        As of `simulator.estimate`.
    degrees
        Fields of the plan one by one: tp, pp, ep, replicas, weights, kv_cache, precision, memory_utilisation,
        block_size, chunk.

    Raises
    ------
    InputError
        One sentence with the place, the value and what would be valid.

    Examples
    --------
    >>> served = resolve_serving("llama-3-70b", "dgx-h100", devices=8, tp=4, weights="fp8")
    >>> served.stack.id, served.replicas, served.precision
    ('vllm', 2, 'fp8')
    """
    assumed: list[str] = []
    with placed(plan, under="plan."), placed(load, under="load."):
        with about("model"):
            the_model = load_model(model)
        with about("system"):
            the_system = catalogue.load_system(system)
        with about("constants"):
            fitted = find(constants)
        with about("profile"):
            fitted = fitted if profile is None else replace(fitted, profile=catalogue.load_profile(profile))
        asked = spec_of(ServingPlan, {**_mapping(plan), **{key: v for key, v in degrees.items() if v is not None}})
        asked_load = None if load is None else spec_of(ServingLoad, load)
        if the_model.objective == "mlm":
            the_model = the_model.model_copy(update={"objective": "encoding"})
        engine = _stack(stack, the_system.device, the_model, assumed)
        filled = _with_formats(asked, engine, the_system.device, assumed)
        check_degrees(filled, the_model, engine)
        _check_lengths(the_model, asked_load)
        weights = format_named("weights", filled.weights or "bf16")
        kv_cache = format_named("kv_cache", filled.kv_cache or "bf16")
        served = ServingScenario(
            the_model, the_system, 1, engine, filled, weights, kv_cache, fitted, asked_load, tuple(assumed)
        )
        return _with_factors(_with_degrees(served, devices, assumed))


def _with_factors(served: ServingScenario) -> ServingScenario:
    """With what runs say of the engine on the device, as far as it is physical."""
    known = fitted_factors().of(
        served.stack.id, served.device.device_class, served.weights.id, generates=served.generates
    )
    base = served.backend
    analytic = base.analytic if isinstance(base, MeasuredBackend) else base
    assert isinstance(analytic, AnalyticBackend)
    return replace(served, factors=known.held(analytic.device))


def _check_lengths(model: Model, load: ServingLoad | None) -> None:
    """Refuse sequences that have no row in a learned table of positions."""
    if load is None or model.positions != "learned" or not model.position_rows:
        return
    parts = {"input_tokens": load.input_tokens, "output_tokens": load.output_tokens or 0.0}
    longest = max(parts.values()) if model.kind == "encoder-decoder" else sum(parts.values())
    if longest > model.position_rows:
        told = " + ".join(f"{name}={value:.15g}" for name, value in parts.items() if value)
        raise InputError(
            f"{told} exceeds the {model.position_rows} rows of {model.id}'s position table; shorten it, or give the "
            f"model more rows: {{base: {model.id}, position_rows: {longest:.0f}}}",
            fields=["load.input_tokens"],
        )


def _mapping(plan: Named | ServingPlan | None) -> dict[str, Any]:
    """What is given of a plan."""
    return {} if plan is None else spec_of(ServingPlan, plan).model_dump(exclude_unset=True)


def _stack(name: Any, device: Device, model: Model, assumed: list[str]) -> ServingStack:
    """The engine, which has to run on the device and to do what the model is for."""
    task = "generate" if model.objective in ("causal", "seq2seq") else "encode"
    if name is None:
        usual = _USUAL[device.kind][task == "encode"]
        known = load_serving_stack(usual)
        if not known.runs_on(device):
            able = [load_serving_stack(other) for other in serving_stacks()]
            known = next(other for other in able if other.runs_on(device) and task in other.tasks)
        assumed.append(f"stack={known.id}, usual on a {device.kind} for what {model.id} does")
        return known
    known = load_serving_stack(name)
    able_names = [other for other in serving_stacks() if _is_able(load_serving_stack(other), device, task)]
    if not known.runs_on(device):
        where = " and ".join(known.platforms) + (f" of {', '.join(known.vendors)}" if known.vendors else "")
        raise InputError(
            f"stack={known.id} runs on {where}, and {device.id} is a {device.kind} of {device.vendor}; valid: "
            f"{', '.join(able_names)}",
            fields=["stack"],
        )
    if task not in known.tasks:
        what = "generates text" if task == "generate" else "encodes sequences"
        raise InputError(
            f"stack={known.id} does not {task}, and {model.id} {what}; valid: {', '.join(able_names)}",
            fields=["stack"],
        )
    return known


def _is_able(stack: ServingStack, device: Device, task: str) -> bool:
    """Whether an engine runs on a device and does a task."""
    return stack.runs_on(device) and task in stack.tasks


def _with_formats(asked: ServingPlan, stack: ServingStack, device: Device, assumed: list[str]) -> ServingPlan:
    """Formats and habits of the engine where nothing is said of them."""
    known = precisions_of(device)
    weights = asked.weights or next((each for each in stack.weights if each in known), stack.weights[0])
    cache = asked.kv_cache or next((each for each in stack.kv_cache if each in known), stack.kv_cache[0])
    weights, cache = format_named("weights", weights).id, format_named("kv_cache", cache).id
    for name, value, offered in (("weights", weights, stack.weights), ("kv_cache", cache, stack.kv_cache)):
        if value not in offered:
            raise InputError(
                f"{name}={value}: {stack.id} has no such format; valid: {', '.join(offered)}", fields=[f"plan.{name}"]
            )
    stored = format_named("weights", weights)
    wide: Precision = "bf16" if "bf16" in known and weights != "fp16" else "fp16"
    if "fp16" not in known and wide == "fp16":
        wide = "bf16" if "bf16" in known else "fp32"
    own = "int8" if weights == "int8" and stack.int8_products else stored.product
    with_int8 = (*known, *(("int8",) if device.peak.int8 else ()))
    precision = asked.precision or (own if own in with_int8 else wide)
    if precision not in with_int8:
        raise InputError(
            f"precision={precision}: {device.id} has no units for it; valid: {', '.join(with_int8)}",
            fields=["plan.precision"],
        )
    filled = {
        "weights": weights,
        "kv_cache": cache,
        "precision": precision,
        "memory_utilisation": asked.memory_utilisation or stack.memory_utilisation,
        "block_size": asked.block_size or stack.block_size,
        "chunk": asked.chunk or stack.chunk,
    }
    for name in ("weights", "kv_cache"):
        if getattr(asked, name) is None:
            assumed.append(f"{name}={filled[name]}, as {stack.id} does")
    return asked.model_copy(update=filled)


def check_degrees(plan: ServingPlan, model: Model, stack: ServingStack) -> None:
    """Refuse degrees that the engine lacks, or that do not divide what they split.

    Raises
    ------
    InputError
        With the value and valid ones.
    """
    for axis in ("tp", "pp", "ep"):
        if (getattr(plan, axis) or 1) > 1 and axis not in stack.axes:
            can = ", ".join(stack.axes) or "no split inside a replica"
            raise InputError(
                f"{axis}={getattr(plan, axis)}: {stack.id} does not offer it; it has {can}", fields=[f"plan.{axis}"]
            )
    tp, ep = plan.tp or 1, plan.ep or 1
    if ep % tp and tp % ep:
        raise InputError(f"ep={ep} and tp={tp}: one must divide the other", fields=["plan.ep", "plan.tp"])
    for message, field in _broken(plan, model):
        raise InputError(message, fields=[f"plan.{field}"])


def _broken(plan: ServingPlan, model: Model) -> Iterator[tuple[str, str]]:
    """Rules of divisibility that a plan breaks, with the field to blame."""
    tp, pp, ep, layers = plan.tp or 1, plan.pp or 1, plan.ep or 1, model.all_layers
    work = Workload(sequence_length=1, global_batch=1)
    if model.attention_heads % tp:
        yield f"tp={tp} does not divide {model.attention_heads} attention heads" + _valid("heads", model, work), "tp"
    if model.kv_heads % tp and tp % model.kv_heads:
        yield f"tp={tp} and {model.kv_heads} key-value heads: one must divide the other", "tp"
    if pp > layers:
        yield f"pp={pp} exceeds {layers} layers", "pp"
    if model.experts % ep:
        yield f"ep={ep} does not divide {model.experts} experts" + _valid("experts", model, work), "ep"


def _valid(rule: str, model: Model, work: Workload) -> str:
    return rules.valid_values(rule, model, work, stages=1)


def _with_degrees(served: ServingScenario, devices: int | None, assumed: list[str]) -> ServingScenario:
    """The scenario with all degrees, the smallest split that holds the model where they are open."""
    from simulator.serving.choosing import smallest_split

    plan, system = served.plan, served.system
    if devices is not None and (isinstance(devices, bool) or not isinstance(devices, int) or devices < 1):
        raise InputError(f"devices={shown(devices)}: give a whole number, such as 8", fields=["devices"])
    most = devices or math.inf
    if plan.tp is None and plan.pp is None:
        tp, pp = smallest_split(served, most=min(most, system.most_devices), devices=devices)
        assumed.append(f"tp={tp}, pp={pp}: the smallest replica that holds the model")
    else:
        tp, pp = plan.tp or 1, plan.pp or 1
    each = tp * pp
    if devices is not None and plan.replicas is None and devices % each:
        raise InputError(
            f"tp={tp} x pp={pp} = {each} does not divide devices={devices}; valid products: "
            f"{rules.listed_divisors(devices)}",
            fields=["plan.tp", "plan.pp", "devices"],
        )
    replicas = plan.replicas or (devices // each if devices is not None else max((plan.ep or 1) // tp, 1))
    number = each * replicas
    if devices is not None and number != devices:
        raise InputError(
            f"tp={tp} x pp={pp} x replicas={replicas} = {number} is not devices={devices}; change a degree or leave "
            "replicas open",
            fields=["plan.replicas", "devices"],
        )
    if number > system.most_devices:
        raise InputError(
            f"tp={tp} x pp={pp} x replicas={replicas} = {number}: {system.id} has 1 to {system.most_devices} devices",
            fields=["devices"],
        )
    if (plan.ep or 1) > tp and replicas % ((plan.ep or 1) // tp):
        raise InputError(
            f"ep={plan.ep} spans {(plan.ep or 1) // tp} replicas of tp={tp}, which do not divide replicas={replicas}",
            fields=["plan.ep"],
        )
    full = plan.model_copy(update={"tp": tp, "pp": pp, "ep": plan.ep or 1, "replicas": replicas})
    return replace(served, plan=full, devices=number, assumed=tuple(assumed))
