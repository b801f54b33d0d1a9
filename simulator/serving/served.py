"""What is served, complete, and its numbers: columns of iterations, and the backend at the rates of an engine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from hardware.classes import Precision, peak_field
from hardware.spec import Device, System
from simulator.pricing.analytic import NARROW, AnalyticBackend, precisions_of
from simulator.pricing.backend import Backend
from simulator.pricing.constants import Constants
from simulator.pricing.measured import MeasuredBackend
from simulator.serving.constants import ServingFactors
from simulator.serving.sizes import Sizes
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.serving.formats import ProductFormat, StoredFormat
from simulator.specs.serving.iterations import Iterations
from simulator.specs.serving.plan import ServingLoad, ServingPlan
from simulator.specs.serving.stack import ServingStack
from simulator.specs.workload import Workload
from simulator.work.transformer import Scenarios


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
    factors: ServingFactors = field(default_factory=ServingFactors)
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
    def precision(self) -> ProductFormat:
        """Number format of products."""
        return self.plan.precision or "bf16"

    @property
    def wide_precision(self) -> Precision:
        """Number format of what lies between products."""
        if self.precision != "int8" and self.precision not in NARROW:
            return self.precision
        return "bf16" if "bf16" in precisions_of(self.device) else "fp16"

    @property
    def known_precision(self) -> Precision:
        """The format whose constants products have: those in whole numbers reach what products in 16 bits do."""
        return self.wide_precision if self.precision == "int8" else self.precision

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
        return float(getattr(self.device.peak, peak_field(self.precision)) or 0.0)

    @cached_property
    def sizes(self) -> Sizes:
        """Sizes of what a device holds."""
        return Sizes(self)

    @cached_property
    def columns(self) -> Scenarios:
        """One sequence of one token as numbers, without iterations; `iteration` and `encoding` have others."""
        kernels = self.stack.kernels(self.device.kind)
        work = Workload(sequence_length=1, global_batch=self.replicas, **self._targets()).resolve(self.model)
        work = work.model_copy(update={"multi_token": False})
        plan = self._training_plan().with_defaults(kernels, self.model.family)
        full = plan.with_degrees(self.tp * self.pp * self.replicas)
        stacks = self.constants.stacks(kernels, self.system, self.known_precision)
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
                "sequence_parallel": self.stack.shares_tokens and tp > 1,
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
            first, second = np.maximum(read + single, 1e-6), 0.0 * single
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
        backend = self.constants.backend(kernels, self.system, self.devices, self.known_precision)
        if isinstance(backend, MeasuredBackend):
            return replace(backend, analytic=self._with_rates(backend.analytic))
        assert isinstance(backend, AnalyticBackend)
        return self._with_rates(backend)

    def _with_rates(self, backend: AnalyticBackend) -> AnalyticBackend:
        """A backend at the rates of the engine's kernels, and of the format of products."""
        if self.precision == "int8":
            backend = replace(backend, device=replace(backend.device, peak=self.peak))
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
