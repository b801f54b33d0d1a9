"""Environments, results and devices made up for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulator.profiling.records.record import (
    CallTimes,
    Case,
    DeviceReport,
    Dtype,
    Environment,
    Method,
    Result,
    Software,
    State,
)


def environment(name: str = "Some GPU", *, torch: str = "2.13.0", started: float = 1.0) -> Environment:
    device = DeviceReport(kind="cuda", name=name, memory_bytes=80e9, processors=132)
    return Environment(device=device, software=Software(python="3.12", torch=torch), started=started)


def gemm(m: int = 64, n: int = 64, k: int = 64) -> Case:
    return Case(phase="gemm", operation="linear", dimensions={"m": m, "n": n, "k": k}, dtype="fp32")


def measured(case: Case, *, median: float = 1e-3, samples: int = 9) -> Result:
    times = CallTimes(median=median, lower_quartile=median, upper_quartile=median, least=median, samples=samples)
    return Result(case=case, outcome="measured", method="events", times=times, took_s=0.5)


class FakeMachine:
    """A GPU whose kernels run on the CPU and take the time that a test says."""

    kind = "cuda"
    target = "cpu"
    method: Method = "events"

    def __init__(
        self,
        *,
        call_s: float | Callable[[int], float] = 1e-4,
        free: float = 1e9,
        flops: float | None = None,
        bandwidth: float | None = None,
        graphs: bool = False,
    ) -> None:
        self.cache_bytes = 1e5
        self.call_s, self.free, self.flops, self.bandwidth, self.graphs = call_s, free, flops, bandwidth, graphs
        self.time, self.blocks, self.calls, self.released = 0.0, 0, 0, 0

    def counted(self, call: Callable[[int], object]) -> Callable[[int], object]:
        """A call that takes its time."""

        def run(index: int) -> object:
            self.calls += 1
            self.time += self.call_s if isinstance(self.call_s, float) else self.call_s(self.blocks)
            return call(index)

        return run

    def mark(self) -> Any:
        self.blocks += 1
        return self.time

    def elapsed(self, start: Any, end: Any) -> float:
        return float(end - start)

    def wait(self) -> None:
        self.time += 1e-7

    def now(self) -> float:
        return self.time

    def state(self) -> State | None:
        return State(clock_hz=1.4e9, throttled=("power_cap",))

    def free_bytes(self) -> float:
        return self.free

    def release(self) -> None:
        self.released += 1

    def watch_memory(self) -> None:
        """Nothing to watch."""

    def peak_bytes(self) -> tuple[float | None, float | None]:
        return 1e6, 2e6

    def graph(self, call: Callable[[int], object], calls: int) -> Callable[[], None] | None:
        def replay() -> None:
            self.time += calls * 1e-6
            self.calls += 1

        return replay if self.graphs else None

    def peak_flops(self, dtype: Dtype) -> float | None:
        return self.flops

    def peak_bandwidth(self) -> float | None:
        return self.bandwidth
