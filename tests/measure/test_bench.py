"""From a case to its result, on devices made up for the purpose."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import pytest
import torch

from measure.clock import bench as benches
from measure.clock.bench import Bench, DeviceLostError
from measure.clock.cases import plan_of, scope_of
from measure.clock.kernels import ReadyCase, number_of_sets, prepare
from measure.clock.steps import prepare_step
from measure.clock.timer import TINY, Effort, TooFastError, sample, sustained, times_of
from measure.device.machines import Cpu, machine_of
from measure.device.nvml import Nvml
from measure.models import parameters_of
from simulator.profiling.records.amounts import amounts
from simulator.profiling.records.record import Case
from simulator.profiling.records.scenarios import cut, shrunk, step_amounts
from simulator.specs.loading import load_model
from simulator.specs.model import Model
from tests.against_torch.cases import EVERY, name_of
from tests.measure.fakes import FakeMachine, gemm

EFFORT = Effort(warm_up_s=0.001, block_s=0.002, samples=9, most_s=1.0, sustained_s=0.05)


def timed(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """Let prepared kernels take the machine's time."""

    def prepared(case: Case, _: object) -> ReadyCase:
        work = prepare(case, machine)
        return replace(work, call=machine.counted(work.call))

    monkeypatch.setattr(benches, "prepare", prepared)
    return machine


def run(machine: FakeMachine, case: Case, monkeypatch: pytest.MonkeyPatch) -> Any:
    return Bench(timed(machine, monkeypatch), EFFORT, {}).run(case)


def test_a_kernel_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(FakeMachine(call_s=1e-4), gemm(), monkeypatch)
    assert result.outcome == "measured"
    assert result.method == "events"
    assert result.times.median == pytest.approx(1e-4)
    assert result.times.samples == 9
    assert result.times.repeats == 20  # of 0.1 ms in 2 ms
    assert result.flops == 2.0 * 64**3
    assert result.bytes == 3 * 4 * 64**2
    assert result.state.throttled == ("power_cap",)
    assert result.host_s > 0


def test_short_calls_are_replayed_as_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(FakeMachine(call_s=4e-5, graphs=True), gemm(), monkeypatch)
    assert result.method == "graph"
    assert result.times.median == pytest.approx(1e-6)
    assert result.eager.median == pytest.approx(4e-5)
    long = run(FakeMachine(call_s=1e-3, graphs=True), gemm(), monkeypatch)
    assert long.method == "events"
    assert long.eager is None


def test_a_burst_and_a_long_load_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock falls after half of the time; the last half of the samples has it."""
    machine = FakeMachine(call_s=lambda blocks: 1e-4 if blocks < 30 else 2e-4)
    result = run(machine, gemm().model_copy(update={"sustained": True}), monkeypatch)
    assert result.times.upper_quartile == pytest.approx(2e-4)
    assert result.times.median == pytest.approx(2e-4)


def test_impossible_samples_are_dropped_or_the_case_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    peak = 2.0 * 64**3 / 5e-5  # a call cannot take less than 50 us
    good = run(FakeMachine(call_s=1e-4, flops=peak), gemm(), monkeypatch)
    assert good.times.dropped == 0
    few = run(FakeMachine(call_s=lambda blocks: 1e-5 if blocks % 8 == 1 else 1e-4, flops=peak), gemm(), monkeypatch)
    assert few.outcome == "measured"
    assert few.times.dropped > 0
    assert few.times.least >= 5e-5
    bad = run(FakeMachine(call_s=1e-5, flops=peak), gemm(), monkeypatch)
    assert bad.outcome == "rejected"
    assert bad.reason == "9 of 9 samples beat the device's peak"
    assert bad.times is None


def test_bandwidth_bounds_only_what_does_not_fit_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Case(phase="copy", operation="device", dimensions={"bytes": 2**15})
    machine = FakeMachine(call_s=1e-5, bandwidth=1e9)
    assert run(machine, copy, monkeypatch).outcome == "rejected"
    assert run(machine, copy.model_copy(update={"warm": True}), monkeypatch).outcome == "measured"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB.\nMore."), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("No available kernel. Aborting execution."), "unsupported"),
        (NotImplementedError("not for this type"), "unsupported"),
    ],
)
def test_errors_are_results(error: Exception, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> ReadyCase:
        raise error

    monkeypatch.setattr(benches, "prepare", fails)
    machine = FakeMachine()
    result = Bench(machine, EFFORT, {}).run(gemm())
    assert result.outcome == outcome
    assert result.reason
    assert "\n" not in result.reason
    assert machine.released == (outcome == "out_of_memory")


def test_a_device_that_is_lost_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> ReadyCase:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    monkeypatch.setattr(benches, "prepare", fails)
    with pytest.raises(DeviceLostError, match=r"gemm linear .*illegal memory access was encountered$"):
        Bench(FakeMachine(), EFFORT, {}).run(gemm())


def test_what_is_too_large_by_count_is_not_tried() -> None:
    machine = FakeMachine(free=1e6)
    result = Bench(machine, EFFORT, {}).run(gemm(4096, 4096, 4096))
    assert result.outcome == "out_of_memory"
    assert result.reason == "needs 0.2 GiB and 0.0 GiB are free"
    assert machine.blocks == 0


def test_unknown_kernels_and_models_are_unsupported() -> None:
    laboratory = Bench(FakeMachine(), EFFORT, {})
    for phase in ("pointwise", "normalisation"):
        case = Case.model_validate({"phase": phase, "operation": "add", "dimensions": {"rows": 1, "columns": 1}})
        unknown = case.model_copy(update={"operation": "gelu_of_tomorrow"})
        with pytest.raises(KeyError):
            amounts(unknown)
    step = Case(phase="step", operation="train", variant="nobody/fused", dtype="fp32")
    assert laboratory.run(step).outcome == "unsupported"


def test_buffers_are_rotated_past_the_cache() -> None:
    machine = FakeMachine()
    sets = number_of_sets(gemm(), machine)
    assert sets * amounts(gemm()).footprint > 2.0 * machine.cache_bytes
    assert number_of_sets(gemm().model_copy(update={"warm": True}), machine) == 1
    assert number_of_sets(gemm(), FakeMachine(free=1.0)) == 1


def test_every_planned_kernel_runs_on_a_cpu() -> None:
    """What a GPU would be asked for runs here too, small; only kernels that a CPU lacks do not."""
    model = load_model("gpt2-124m")
    cases = [case for _, case in plan_of(scope_of("cuda", tiny=True), [load_model("bert-large"), model]).cases]
    laboratory = Bench(Cpu(), TINY, {each.id: each for each in map(shrunk, (load_model("bert-large"), model))})
    seen = set()
    for case in cases:
        kind = (case.phase, case.operation, case.dtype, case.variant.partition("-")[0])
        if kind in seen or case.sustained:
            continue
        seen.add(kind)
        result = laboratory.run(case)
        if case.phase == "host_copy" or case.variant.endswith("/fused"):  # both models drop: no such kernel here
            assert result.outcome == "unsupported"
        elif case.variant not in ("cudnn", "efficient", "fused"):
            assert result.outcome == "measured", result.reason


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("model", EVERY, ids=name_of)
def test_reference_layers_have_the_parameters_that_are_counted(model: Model, layers: int) -> None:
    sizes = {"layers": layers, "sequence_length": 16, "micro_batch": 1}
    case = Case(phase="step", operation="train", dimensions=sizes, dtype="fp32", variant=f"{model.id}/unfused")
    step = prepare_step(case, model, Cpu())
    counted = step_amounts(case, model)
    assert parameters_of([step.module]) == counted.parameters
    assert counted.flops > 0
    assert cut(model, layers).layers >= min(layers, model.layers)


@pytest.mark.parametrize("name", ["bert-large", "palm-8b"])
def test_a_step_is_measured_with_its_parts(name: str) -> None:
    model = shrunk(load_model(name))
    sizes = {"layers": 2, "sequence_length": 16, "micro_batch": 2}
    kind = "unfused" if model.dropout else "fused"  # torch has no fused attention with dropout on a CPU
    case = Case(phase="step", operation="train", dimensions=sizes, dtype="fp32", variant=f"{model.id}/{kind}")
    result = Bench(Cpu(), TINY, {model.id: model}).run(case)
    assert result.outcome == "measured"
    assert result.times is not None
    assert set(result.parts) == {"forward", "backward", "optimizer"}
    assert sum(part.least for part in result.parts.values()) <= 1.2 * result.times.upper_quartile
    assert result.method == "process_time"


def test_times_are_quartiles() -> None:
    times = times_of([4.0, 1.0, 3.0, 2.0, 5.0], 10)
    assert (times.least, times.lower_quartile, times.median, times.upper_quartile) == (1.0, 2.0, 3.0, 4.0)
    assert times.repeats == 10
    with pytest.raises(TooFastError):
        times_of([1.0, 2.0, 3.0, 4.0], 1, floor_s=2.5)
    with pytest.raises(TooFastError):
        times_of([0.0, 0.0, 0.0], 1)


def test_sampling_stops_when_it_costs_too_much() -> None:
    machine = FakeMachine()
    slow = machine.counted(lambda index: None)
    machine.call_s = 1.0
    assert len(sample(slow, machine, EFFORT).device) == 3
    assert len(sustained(slow, machine, EFFORT).device) >= 3


def test_the_cpu_is_a_machine() -> None:
    machine = machine_of("cpu")
    start = machine.mark()
    sum(range(100_000))
    assert machine.elapsed(start, machine.mark()) > 0
    assert machine.cache_bytes > 0
    assert machine.free_bytes() > 1e8
    assert machine.graph(lambda index: None, 3) is None


class Library:
    """A management library that knows one device."""

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:  # noqa: N802
        return 0 if uuid == b"GPU-1" else 6

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:  # noqa: N802
        return 0 if index == 0 else 6

    def nvmlDeviceGetClockInfo(self, handle: Any, kind: int, value: Any) -> int:  # noqa: N802
        value._obj.value = {1: 1410, 2: 1593}[kind]
        return 0

    def nvmlDeviceGetTemperature(self, handle: Any, kind: int, value: Any) -> int:  # noqa: N802
        value._obj.value = 61
        return 0

    def nvmlDeviceGetPowerUsage(self, handle: Any, value: Any) -> int:  # noqa: N802
        value._obj.value = 395_500
        return 0

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any, value: Any) -> int:  # noqa: N802
        value._obj.value = 0x4 | 0x1 | 0x20
        return 0

    def nvmlDeviceGetEccMode(self, handle: Any, now: Any, then: Any) -> int:  # noqa: N802
        now._obj.value = 1
        return 0

    def nvmlDeviceGetMigMode(self, handle: Any, now: Any, then: Any) -> int:  # noqa: N802
        return 3  # not supported

    def nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:  # noqa: N802
        text.value = b"570.86.15"
        return 0


def test_the_management_library_is_read() -> None:
    nvml = Nvml(Library(), "GPU-1", 3)
    state = nvml.state()
    assert (state.clock_hz, state.memory_clock_hz, state.temperature_c, state.power_w) == (1.41e9, 1.593e9, 61, 395.5)
    assert state.throttled == ("power_cap", "software_thermal")
    assert nvml.limits() == {"error_correction": True}  # the rest it does not tell
    assert nvml.driver() == "570.86.15"
    assert nvml.processes() is None
    assert Nvml(Library(), "GPU-2", 0).state() == state
    with pytest.raises(OSError, match="does not know the device"):
        Nvml(Library(), None, 1)
    assert isinstance(ctypes.c_uint(0), ctypes.c_uint)
