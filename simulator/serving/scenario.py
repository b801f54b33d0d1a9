"""What is served, complete: model, system, engine, split and formats, with nothing left open."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hardware import catalogue
from hardware.classes import Precision, peak_field
from hardware.errors import InputError, about, shown
from hardware.reading import placed
from hardware.spec import Device, System
from simulator.pricing.analytic import NARROW, AnalyticBackend, precisions_of
from simulator.pricing.backend import Backend
from simulator.pricing.constants import Constants, find
from simulator.pricing.measured import MeasuredBackend
from simulator.scenario.scenario import Named, spec_of
from simulator.serving.constants import ServingFactors, int8_gain
from simulator.serving.constants import fitted as fitted_factors
from simulator.specs import rules
from simulator.specs.loading import load_model
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.serving.formats import StoredFormat, format_named
from simulator.specs.serving.iterations import Iterations
from simulator.specs.serving.plan import ServingLoad, ServingPlan
from simulator.specs.serving.stack import ServingStack, load_serving_stack, serving_stacks
from simulator.specs.workload import Workload
from simulator.work.transformer import Scenarios

_USUAL = {"gpu": ("vllm", "tensorrt"), "tpu": ("jetstream", "pathways"), "cpu": ("llama-cpp", "onnxruntime")}
"""Engines that generate and that encode, which people would use on a kind of device."""


@dataclass(frozen=True)
class ServingScenario:
    """What is served, complete."""

    model: Model
    system: System
    devices: int
    stack: ServingStack
    plan: ServingPlan
    """With every field given."""
    weights: StoredFormat
    kv_cache: StoredFormat
    constants: Constants
    load: ServingLoad | None = None
    assumed: tuple[str, ...] = ()
    """What was chosen because nobody said."""
    factors: ServingFactors = ServingFactors()
    """What runs say of the engine's rates and times on the device."""

    @property
    def device(self) -> Device:
        """The accelerator."""
        return self.system.device

    @property
    def generates(self) -> bool:
        """Whether it generates text; else it encodes."""
        return self.model.objective in ("causal", "seq2seq")

    @property
    def precision(self) -> Precision:
        """Number format of products."""
        return self.plan.precision or "bf16"

    @property
    def wide_precision(self) -> Precision:
        """Number format of what lies between products."""
        if self.precision not in NARROW:
            return self.precision
        return "bf16" if "bf16" in precisions_of(self.device) else "fp16"

    @property
    def tp(self) -> int:
        """Tensor-parallel ranks of a replica."""
        return self.plan.tp or 1

    @property
    def pp(self) -> int:
        """Pipeline stages of a replica."""
        return self.plan.pp or 1

    @property
    def replicas(self) -> int:
        """Copies of the model."""
        return self.plan.replicas or 1

    @property
    def peak(self) -> float:
        """Peak rate of a device in the format of products [FLOP/s]."""
        return float(getattr(self.device.peak, peak_field(self.precision)))

    @cached_property
    def columns(self) -> Scenarios:
        """One sequence of one token as numbers, without iterations; `iteration` and `encoding` have others."""
        kernels = self.stack.kernels(self.device.kind)
        work = Workload(sequence_length=1, global_batch=self.replicas, **self._targets()).resolve(self.model)
        work = work.model_copy(update={"multi_token": False})
        plan = self._training_plan().with_defaults(kernels, self.model.family)
        full = plan.with_degrees(self.tp * self.pp * self.replicas)
        stacks = self.constants.stacks(kernels, self.system, self.precision)
        stacks = replace(stacks, launch=stacks.launch * np.exp(self.factors.launches))
        models = self.model.columns()
        quiet = tuple(
            replace(
                of,
                dropout=0.0,
                attention=replace(of.attention, dropout=0.0),
                cross_attention=None if of.cross_attention is None else replace(of.cross_attention, dropout=0.0),
            )
            for of in models.layers
        )
        models = replace(models, layers=quiet, dropout=0.0, multi_token=None)
        return Scenarios(models, work.columns(), full.columns(work), stacks)

    def _targets(self) -> dict[str, Any]:
        return {"target_length": 1} if self.model.kind == "encoder-decoder" else {}

    def _training_plan(self) -> Plan:
        """The split as the parts of a model know it."""
        tp, ep = self.tp, self.plan.ep or 1
        precision = self.wide_precision
        return Plan.model_construct(
            **{name: field.default for name, field in Plan.model_fields.items()}
            | {
                "dp": self.replicas,
                "tp": tp,
                "pp": self.pp,
                "cp": 1,
                "ep": ep,
                "etp": max(tp // ep, 1),
                "micro_batch": 1,
                "precision": precision,
                "recompute": "none",
                "sequence_parallel": False,
                "parameters_in_fp32": precision == "fp32",
            }
        )

    def iteration(self, work: Iterations) -> Scenarios:
        """The columns of an engine's iterations, of which each has its entry."""
        columns = self.columns
        read, single = work.prompts * np.asarray(work.prompt_tokens), np.asarray(work.decodes)
        if self.model.kind == "encoder-decoder":
            first, second = np.maximum(read, 1e-6), single
        else:
            first, second = read + single, 0.0 * single
        workloads = replace(columns.workloads, sequence_length=first, target_length=second, effective_tokens=first)
        return replace(columns, workloads=workloads, iterations=work)

    def encoding(self, sequences: Any, tokens: Any, padded: Any = None) -> Scenarios:
        """The columns of encoding so many sequences of so many tokens, of which the rest up to `padded` is padding."""
        columns, length = self.columns, np.asarray(tokens if padded is None else padded, dtype=np.float64)
        workloads = replace(columns.workloads, sequence_length=length, effective_tokens=np.asarray(tokens, dtype=float))
        plans = replace(columns.plans, micro_batch=np.asarray(sequences, dtype=np.float64))
        return replace(columns, workloads=workloads, plans=plans)

    @cached_property
    def backend(self) -> Backend:
        """The backend that prices it, at the rates of the engine's kernels."""
        kernels = self.stack.kernels(self.device.kind)
        backend = self.constants.backend(kernels, self.system, self.devices, self.precision)
        if isinstance(backend, MeasuredBackend):
            return replace(backend, analytic=self.factors.on_backend(_at_rates(backend.analytic, self.stack)))
        assert isinstance(backend, AnalyticBackend)
        return self.factors.on_backend(_at_rates(backend, self.stack))


def _at_rates(backend: AnalyticBackend, stack: ServingStack) -> AnalyticBackend:
    """A backend whose devices and links reach what the kernels of an engine reach."""

    def faster(device: Any) -> Any:
        return replace(
            device,
            efficiency=device.efficiency * stack.product_efficiency,
            weight_efficiency=device.weight_efficiency * stack.streaming_efficiency,
            bandwidth_efficiency=device.bandwidth_efficiency * stack.streaming_efficiency,
            attention_efficiency=device.attention_efficiency * stack.attention_efficiency,
            decode_bandwidth_efficiency=device.decode_bandwidth_efficiency * stack.decode_attention_efficiency,
            decode_efficiency=device.decode_efficiency * stack.decode_attention_efficiency,
            stream_efficiency=device.stream_efficiency * stack.kernel_efficiency,
            reduce_efficiency=device.reduce_efficiency * stack.kernel_efficiency,
        )

    bridge, inner, outer, cross = (
        replace(level, efficiency=level.efficiency * stack.link_efficiency) for level in backend.wires.levels
    )
    wires = replace(backend.wires, levels=(bridge, inner, outer, cross))
    return replace(backend, device=faster(backend.device), wide=faster(backend.wide), wires=wires)


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
        weights = format_named("weights", filled.weights or "bf16")
        kv_cache = format_named("kv_cache", filled.kv_cache or "bf16")
        served = ServingScenario(
            the_model, the_system, 1, engine, filled, weights, kv_cache, fitted, asked_load, tuple(assumed)
        )
        return _with_factors(_with_degrees(served, devices, assumed))


def _with_factors(served: ServingScenario) -> ServingScenario:
    """With what runs say of the engine on the device, as far as it is physical."""
    device, stored = served.device, served.weights.id
    known = fitted_factors().of(served.stack.id, device.device_class, stored, generates=served.generates)
    base = served.backend
    plain = base.analytic.device if isinstance(base, MeasuredBackend) else base.device  # type: ignore[attr-defined]
    held = known.held(plain)
    gain = int8_gain(device, stack=served.stack.id, weights=stored, generates=served.generates)
    return replace(served, factors=replace(held, products=held.products + gain))


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
    for name, value, offered in (("weights", weights, stack.weights), ("kv_cache", cache, stack.kv_cache)):
        format_named(name, value)  # type: ignore[arg-type]
        if value not in offered:
            raise InputError(
                f"{name}={value}: {stack.id} has no such format; valid: {', '.join(offered)}", fields=[f"plan.{name}"]
            )
    stored = format_named("weights", weights)
    wide: Precision = "bf16" if "bf16" in known and weights != "fp16" else "fp16"
    if "fp16" not in known and wide == "fp16":
        wide = "bf16" if "bf16" in known else "fp32"
    precision = asked.precision or (stored.product if stored.product in known else wide)
    if precision not in known:
        raise InputError(
            f"precision={precision}: {device.id} has no units for it; valid: {', '.join(known)}",
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
        tp, pp = smallest_split(served, most=min(most, system.most_devices))
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
