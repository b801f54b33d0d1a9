"""The code for GPUs, on a GPU that is made up: that it calls what there is, in the order in which it must."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from measure.clock.bench import Bench
from measure.clock.timer import TINY
from measure.device.environment import environment_of
from measure.device.machines import Cuda, machine_of
from simulator.profiling.records.record import Case, Environment, line_of
from tests.measure.fakes import gemm


class Event:
    """An event of a device that has done everything as soon as it is told."""

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing
        self.at: float | None = None

    def record(self) -> None:
        self.at = time.perf_counter() * 1e3

    def synchronize(self) -> None:
        assert self.at is not None

    def elapsed_time(self, other: Event) -> float:
        assert self.at is not None
        assert other.at is not None
        return other.at - self.at


class Graph:
    def replay(self) -> None:
        time.sleep(2e-6)


@contextmanager
def capture(graph: Graph) -> Iterator[None]:
    yield


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    properties = SimpleNamespace(
        name="NVIDIA H100 80GB HBM3",
        total_memory=85_000_000_000,
        multi_processor_count=132,
        major=9,
        minor=0,
        L2_cache_size=1_000_000,
        uuid="11111111-2222-3333-4444-555555555555",
    )
    made_up: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "set_device": lambda index: None,
        "get_device_properties": lambda index: properties,
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": capture,
        "synchronize": lambda: None,
        "empty_cache": lambda: None,
        "mem_get_info": lambda: (80_000_000_000, 85_000_000_000),
        "memory_reserved": lambda: 3_000,
        "memory_allocated": lambda: 1_000,
        "reset_peak_memory_stats": lambda: None,
        "max_memory_allocated": lambda: 2_000,
        "max_memory_reserved": lambda: 3_000,
    }
    for name, value in made_up.items():
        monkeypatch.setattr(torch.cuda, name, value)
    machine = machine_of("cuda:1")
    assert isinstance(machine, Cuda)
    machine.target = "cpu"  # there is no such device to put tensors on
    return machine


def test_it_is_known(gpu: Cuda) -> None:
    assert gpu.known == "h100-sxm5-80gb"
    assert gpu.peak_flops("bf16") == pytest.approx(989.4e12 * 1.02)
    assert gpu.peak_flops("none") is None
    assert gpu.peak_bandwidth() == pytest.approx(3.35e12 * 1.02)
    assert gpu.free_bytes() == 80_000_002_000
    assert gpu.state() is None  # no management library
    gpu.limits["clock_hz"] = 2.0 * 1.98e9
    assert gpu.peak_flops("bf16") == pytest.approx(2.0 * 989.4e12 * 1.02)


def test_its_environment_is_described(gpu: Cuda) -> None:
    environment = environment_of(gpu)
    assert (environment.device.kind, environment.device.catalogue, environment.device.capability) == (
        "cuda",
        "h100-sxm5-80gb",
        "9.0",
    )
    assert environment.devices == 2
    assert Environment.model_validate_json(line_of(environment)) == environment


def test_kernels_are_timed_by_events_and_graphs(gpu: Cuda) -> None:
    result = Bench(gpu, TINY, {}).run(gemm(8, 8, 8))
    assert result.outcome == "measured", result.reason
    assert result.method == "graph"
    assert result.times is not None
    assert result.times.repeats % 20 == 0
    assert result.eager is not None
    assert result.host_s is not None


def test_a_graph_that_cannot_be_captured_is_done_without(gpu: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def fails(graph: Graph) -> Iterator[None]:
        yield
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", fails)
    result = Bench(gpu, TINY, {}).run(gemm(8, 8, 8))
    assert result.method == "events"
    assert result.eager is None


def test_copies_to_the_host_are_timed(gpu: Cuda) -> None:
    case = Case(phase="host_copy", operation="to_host", dimensions={"bytes": 4096}, variant="pageable")
    result = Bench(gpu, TINY, {}).run(case)
    assert result.outcome == "measured", result.reason
    assert result.method == "events"
