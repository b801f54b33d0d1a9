"""Devices whose every constant is known, and records of what `capsim measure` would have found on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from hardware.catalogue import load_class, load_device, plain_host
from hardware.classes import DeviceClass, Precision
from hardware.measured import CollectiveName, LinkConstants, MeasuredProfile, StackConstants, StreamConstants
from hardware.reading import build
from hardware.spec import Device
from measure.clock.cases import TIERS, Tier, plan_of, scope_of
from measure.clock.collectives import cases_of
from simulator.formulas.typing import Num
from simulator.pricing.constants import Constants
from simulator.pricing.measured_links import MeasuredLinks
from simulator.profiling.fit import attentions, products
from simulator.profiling.fit.sheet import DataSheet
from simulator.profiling.records.amounts import amounts
from simulator.profiling.records.reading import measurements_of
from simulator.profiling.records.record import (
    CallTimes,
    Case,
    Environment,
    HostReport,
    Method,
    Record,
    Result,
    Session,
    Software,
    World,
)
from simulator.profiling.records.record import (
    DeviceReport as RecordedDevice,
)
from simulator.profiling.records.scenarios import attention_of, scenarios_of, written
from simulator.specs.loading import load_model, load_stack
from simulator.specs.model import Model
from simulator.step.passes import BACKWARD_LAUNCH, pass_of, slower
from simulator.step.time import step_time
from simulator.work.program import program_of
from simulator.work.tasks import Phase
from simulator.work.transformer import Scenarios

MODELS = ("bert-base", "gpt2-124m", "llama-3.2-1b")
"""Those that are measured."""
UNSEEN = ("bert-large", "gpt2-355m", "distilbert")
"""Those that are not, and are asked for."""
STARTED = 1.79e9
"""When the first session began [s since 1970]: September 2026."""
_PASSED_BY = frozenset({"host_copy"})

Seconds = Callable[[Case], float]


@dataclass(frozen=True)
class MadeUp:
    """A device of which all is known.

    Parameters
    ----------
    truth
        Its constants, as a profile without shapes.
    device
        Its data sheet.
    machine
        What a record says of it.
    stack
        The software that runs its steps.
    """

    truth: MeasuredProfile
    device: Device
    machine: RecordedDevice
    stack: str

    @property
    def method(self) -> Method:
        """The clock."""
        return "process_time" if self.machine.kind == "cpu" else "events"

    @property
    def dtype(self) -> Precision:
        """The number format that its steps are measured in."""
        return "fp32" if self.machine.kind == "cpu" else "bf16"

    @cached_property
    def constants(self) -> Constants:
        """What prices its steps."""
        return Constants(profile=self.truth)

    def cases(self, models: Sequence[str], tiers: Iterable[Tier]) -> list[Case]:
        """What `capsim measure` would run of these models."""
        wanted = set(tiers) | ({"whole"} if "step" in tiers else set())  # the step that is measured first is one
        planned = plan_of(scope_of(self.machine.kind), [load_model(name) for name in models])
        return [case for tier, case in planned.cases if tier in wanted and case.phase not in _PASSED_BY]

    def record(
        self,
        models: Sequence[str] = MODELS,
        tiers: Iterable[Tier] = TIERS,
        *,
        noise: float = 0.02,
        seed: int = 0,
        ranks: int = 0,
        keep: Callable[[Case], bool] = lambda _: True,
    ) -> Record:
        """What a run would leave.

        Parameters
        ----------
        models
            Whose kernels and steps.
        tiers
            How far the run came.
        noise
            Deviation of the logarithm of every time.
        seed
            Of the noise.
        ranks
            Of a node whose collectives are measured too.
        keep
            Which cases.
        """
        random = np.random.default_rng(seed)
        known = {name: load_model(name) for name in models}
        cases = [case for case in self.cases(models, tiers) if keep(case)]
        results = [self._result(case, known, random, noise) for case in cases]
        sessions = [Session(self.environment(), tuple(result for result in results if result is not None))]
        if ranks:
            world = World(ranks=ranks, nodes=1, backend="nccl")
            exchanged = [self._collective(case, random, noise) for case in cases_of(ranks, ranks, "nccl", 2**12, 2**28)]
            measured = tuple(result for result in exchanged if result is not None)
            sessions.append(Session(self.environment().model_copy(update={"world": world}), measured))
        return Record(tuple(sessions))

    def environment(self) -> Environment:
        """What a record says of where it was measured."""
        software = Software(python="3.12.1", torch="2.13.0", cuda=None if self.machine.kind == "cpu" else "13.0")
        host = HostReport(cpu="Some Processor", cores=16, memory_bytes=64 * 2.0**30)
        return Environment(device=self.machine, software=software, host=host, started=STARTED)

    def _result(self, case: Case, models: dict[str, Model], random: Any, noise: float) -> Result | None:
        """The outcome of a case; none where the device has no such kernel."""
        if case.phase == "step":
            return self._step(case, models[case.variant.partition("/")[0]], random, noise)
        seconds = self._kernel(case)
        if seconds is None:
            return None
        moved = amounts(case)
        taken = times_of(seconds, random, noise)
        return Result(
            case=case, outcome="measured", method=self.method, times=taken, flops=moved.flops, bytes=moved.bytes
        )

    def _step(self, case: Case, model: Model, random: Any, noise: float) -> Result:
        """A step, and its parts."""
        whole, parts = self.step(case, model)
        return Result(
            case=case,
            outcome="measured",
            method=self.method,
            model=written(model),
            times=times_of(whole, random, noise),
            parts={name: times_of(seconds, random, noise) for name, seconds in parts.items()},
        )

    def _kernel(self, case: Case) -> float | None:
        """What a kernel takes [s]."""
        if case.phase == "gemm":
            return self._product(case)
        if case.phase == "attention":
            return self._attention(case)
        memory = self.truth.constants.memory
        bandwidth = float(self.device.memory.bandwidth)
        if case.phase == "launch":
            return memory.launch
        reaches = memory.normalisation_efficiency if case.phase == "normalisation" else memory.efficiency
        reaches = 1.0 if case.phase == "copy" and self.machine.kind == "cpu" else reaches
        drawn = self._software.drawn * _elements(case) if case.operation == "dropout" else 0.0
        return memory.launch + amounts(case).bytes / (bandwidth * reaches) + drawn

    @property
    def _software(self) -> StackConstants:
        return self.truth.stacks[self.stack]

    def _sheet(self, dtype: str) -> DataSheet | None:
        """The limits of a number format, where the device has units for it."""
        known = getattr(self.device.peak, dtype, None) and dtype in self.truth.constants.gemm
        return DataSheet.of(self.device, dtype) if known else None  # type: ignore[arg-type]

    def _product(self, case: Case) -> float | None:
        sheet = self._sheet(case.dtype)
        if sheet is None:
            return None
        gemm, gradient = self.truth.constants.gemm, self.truth.constants.weight_gradient_efficiency
        row = self._rows(case).products
        return float(products.seconds(row, sheet, gemm[row.dtype.item()], weight_gradient=gradient).item())

    def _attention(self, case: Case) -> float | None:
        """Kernels other than the fastest take longer."""
        sheet, fused = self._sheet(case.dtype), self.truth.constants.attention.get(case.dtype)  # type: ignore[arg-type]
        if sheet is None or fused is None or case.variant == "math":
            return None
        slower_by = 1.0 + 0.3 * ("flash", "cudnn", "efficient").index(case.variant)
        return float(attentions.seconds(self._rows(case).attentions, sheet, fused).item()) * slower_by

    def _rows(self, case: Case) -> Any:
        """A case as a fit sees it."""
        result = Result(case=case, outcome="measured", method=self.method, times=exactly(1.0))
        return measurements_of(Record((Session(self.environment(), (result,)),)))

    def step(self, case: Case, model: Model) -> tuple[float, dict[str, float]]:
        """Time of a step and of its parts [s]."""
        stack = load_stack(self.stack).model_copy(update={"attention": attention_of(case)})
        system, precision = plain_host(self.device), self.dtype
        bare = scenarios_of(case, model, self.stack)
        stacks = self.constants.stacks(stack, system, precision)
        scenarios = Scenarios(bare.models, bare.workloads, bare.plans, stacks)
        backend = self.constants.backend(stack, system, 1, precision)
        program = program_of(scenarios)
        step = step_time(program, backend)
        forward: Num = 0.0
        backward: Num = 0.0
        launched: Num = 0.0
        launched_back: Num = 0.0
        for block in program.blocks:
            one = pass_of(block.tasks, backend, stacks.launch)
            forward, backward = forward + block.number * one.forward, backward + block.number * one.backward
            for task in block.tasks:
                if task.phase is Phase.FORWARD:
                    launched = launched + block.number * task.kernels
                else:
                    launched_back = launched_back + block.number * task.kernels
        backward = backward + step.parts["gradient_accumulation"]
        hosts = stacks.launch * launched, BACKWARD_LAUNCH * stacks.launch * launched_back
        parts = {"forward": slower(forward, hosts[0]), "backward": slower(backward, hosts[1])}
        parts["optimizer"] = step.parts["optimizer"]
        return _plain(step.time), {name: _plain(seconds) for name, seconds in parts.items()}

    def _collective(self, case: Case, random: Any, noise: float) -> Result | None:
        """A collective over the true links."""
        kind = "send" if case.operation == "send_recv" else case.operation
        sizes = case.dimensions
        known = MeasuredLinks(self.truth.links)
        time, knows = known.time(kind, float(sizes["bytes"]), 2.0 if kind == "send" else float(sizes["ranks"]))
        if not np.all(knows):
            return None
        taken = times_of(float(np.asarray(time)), random, noise)
        return Result(case=case, outcome="measured", method="wall", times=taken, bytes=float(sizes["bytes"]))


def times_of(seconds: float, random: Any, noise: float) -> CallTimes:
    """Samples of a call about its true time; on a CPU only the lower quartile is used, so that it has the noise."""
    middle = seconds * float(np.exp(random.normal(0.0, noise)))
    return CallTimes(least=middle, lower_quartile=middle, median=middle, upper_quartile=middle * 1.01, samples=9)


def exactly(seconds: float) -> CallTimes:
    """A call that always takes so long."""
    return CallTimes(least=seconds, lower_quartile=seconds, median=seconds, upper_quartile=seconds, samples=1)


def _plain(value: Any) -> float:
    return float(np.asarray(value).reshape(-1)[0])


def _elements(case: Case) -> float:
    return float(case.dimensions["rows"]) * float(case.dimensions["columns"])


_SOURCE = {"source": "made up", "seen": "recalled"}


def _constants(name: str, **changes: Any) -> DeviceClass:
    """The constants of a device class, with others for all products, all attention and the memory."""
    start = load_class(name)
    gemm = {each: known.model_copy(update=changes["gemm"]) for each, known in start.gemm.items()}
    attention = {each: known.model_copy(update=changes["attention"]) for each, known in start.attention.items()}
    memory = start.memory.model_copy(update=changes["memory"])
    others = {"weight_gradient_efficiency": changes["weight_gradient"]}
    return start.model_copy(update={"gemm": gemm, "attention": attention, "memory": memory, **others})


_SHARES = {
    "normalisation": (2 / 3, 3 / 4),
    "final-normalisation": (2 / 3, 3 / 4),
    "activation-function": (2 / 3, 3 / 4),
    "gated-activation-function": (3 / 5, 5 / 9),
    "dropout-and-residual": (3 / 5, 3 / 5),
    "softmax-and-dropout": (2 / 3, 3 / 5),
    "rotary-positions": (1.0, 1.0),
    "cross-entropy": (1.0, 1.0),
    "embedding": (1.0, 1.0),
    "position-embedding": (1.0, 1.0),
    "optimizer": (1.0, 1.0),
    "gradient-sums": (1.0, 1.0),
}
"""Bytes of the kernels that a stream consists of over those of its single operations, forward and backward."""


def _streams(reached: float, changed: float) -> dict[str, StreamConstants]:
    """Rates of streams in a step: those of their kernels alone, but for what caches change."""
    return {
        kind: StreamConstants(forward=reached * changed / ahead, backward=reached / changed / back)
        for kind, (ahead, back) in _SHARES.items()
    }


def graphics(**truth: Any) -> MadeUp:
    """An RTX 3090 that is slower than the catalogue's."""
    device = load_device("rtx-3090")
    constants = _constants(
        device.device_class,
        gemm={
            "efficiency": 0.85,
            "bandwidth_efficiency": 0.75,
            "launch": 6e-6,
            "fill": 90.0,
            "small_tile": 15.0,
            "sustained": 0.88,
        },
        attention={
            "efficiency": 0.45,
            "backward_efficiency": 0.35,
            "bandwidth_efficiency": 0.6,
            "launch": 15e-6,
            "fill": 100.0,
        },
        memory={"efficiency": 0.8, "normalisation_efficiency": 0.65, "launch": 4e-6},
        weight_gradient=0.9,
    )
    software = StackConstants(launch="7 us", step_overhead="4 ms", streams=_streams(0.72, 1.08), drawn=f"{3e-12!r} s")
    profile = MeasuredProfile(
        id="truth",
        title="Made up",
        **_SOURCE,
        device=device.id,
        constants=constants,
        fitted=("fp32", "tf32", "fp16", "bf16"),
        stacks={"pytorch-eager": software},
        links=_links(),
    )
    machine = RecordedDevice(
        kind="cuda", name=device.name, memory_bytes=24e9, processors=82, capability="8.6", catalogue=device.id
    )
    return MadeUp(profile.model_copy(update=truth), device, machine, "pytorch-eager")


def _links() -> dict[CollectiveName, dict[int, LinkConstants]]:
    """Links of a node of four."""
    kinds: tuple[CollectiveName, ...] = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send")
    return {
        kind: {
            ranks: LinkConstants(
                latency=f"{12 + 2 * ranks} us",
                medium_cost="4 us",
                medium_size="16 KiB",
                large_cost="25 us",
                large_size="1.5 MiB",
                rate=f"{11.0 * (1.0 - 0.3 / ranks)!r} GB/s",
            )
            for ranks in (2, 4)
        }
        for kind in kinds
    }


def processor() -> MadeUp:
    """A core of a server."""
    measured = {"source": ["made up"], "seen": "recalled"}
    device = build(
        Device,
        {
            "id": "some-processor-1-thread",
            "name": "Some Processor",
            "vendor": "unknown",
            "architecture": "processor cores",
            "kind": "cpu",
            "device_class": "cpu",
            "peak": {"fp32": {"value": "120 GFLOP/s", **measured}},
            "memory": {"kind": "host", "capacity": "64 GiB", "bandwidth": {"value": "12 GB/s", **measured}},
            "processors": 1,
            "clock": "3 GHz",
            "power": {"limit": {"value": "10 W", **measured}},
            "host_link": {"kind": "pcie4x16", "bandwidth": {"value": "12 GB/s", **measured}},
        },
    )
    constants = _constants(
        device.device_class,
        gemm={
            "efficiency": 0.95,
            "bandwidth_efficiency": 0.7,
            "launch": 8e-6,
            "fill": 30.0,
            "small_tile": 6.0,
            "sustained": 1.0,
        },
        attention={
            "efficiency": 0.4,
            "backward_efficiency": 0.25,
            "bandwidth_efficiency": 0.4,
            "launch": 30e-6,
            "fill": 40.0,
        },
        memory={"efficiency": 0.7, "normalisation_efficiency": 0.5, "launch": 5e-6},
        weight_gradient=0.9,
    )
    software = StackConstants(launch="0 us", step_overhead="0 ms", streams=_streams(0.6, 1.1), drawn=f"{2e-9!r} s")
    profile = MeasuredProfile(
        id="truth",
        title="Made up",
        **_SOURCE,
        device=device,
        constants=constants,
        fitted=("fp32",),
        stacks={"pytorch-cpu": software},
    )
    machine = RecordedDevice(
        kind="cpu", name=device.name, memory_bytes=64 * 2.0**30, processors=16, threads=1, clock_hz=3e9
    )
    return MadeUp(profile, device, machine, "pytorch-cpu")


__all__ = ["MODELS", "UNSEEN", "MadeUp", "exactly", "graphics", "processor", "replace", "times_of"]
