"""The device that is timed: its clocks, its memory, and what no kernel on it can exceed.

All that differs between a GPU and a CPU is here; the rest of the package does not know which of them it times.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

from hardware.catalogue import load_device
from hardware.errors import InputError, shown
from measure.device.naming import catalogued
from measure.device.nvml import Nvml
from simulator.profiling.records.record import Dtype, Method, State

DTYPES: dict[Dtype, Any] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
_SLACK = 1.02
"""What a sample may exceed a peak by before it counts as impossible: clocks and bandwidths are printed rounded."""
_CPU_CLOCK, _CPU_LANES = 6.5e9, 64.0
"""No core has more: clock [Hz], and arithmetic of two units of 16 numbers [FLOP] in a cycle."""
_CPU_CACHE = 32 * 2**20
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")
_LOST = ("CUDA error", "device-side assert", "unspecified launch failure", "HIP error")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch's own is a RuntimeError with these words."""
    return isinstance(error, MemoryError) or any(word in str(error) for word in _OUT_OF_MEMORY)


def lost(error: BaseException) -> bool:
    """Whether an error says that the device does not answer any more."""
    return not out_of_memory(error) and any(word in str(error) for word in _LOST)


class Machine(Protocol):
    """A device that can be timed."""

    kind: str
    """As torch names it: cuda or cpu."""
    target: str
    """Where tensors go: cuda:0 or cpu."""
    method: Method
    cache_bytes: float
    """Last-level cache [B]."""

    def mark(self) -> Any:
        """A moment of the device's work as given to it so far."""

    def elapsed(self, start: Any, end: Any) -> float:
        """Time between two such moments, once the work is done [s]."""

    def wait(self) -> None:
        """Until all work is done."""

    def now(self) -> float:
        """The clock that paces warm-up and budgets of samples [s]."""

    def state(self) -> State | None:
        """Clocks, temperature and power."""

    def free_bytes(self) -> float:
        """Memory that can still be had [B]."""

    def release(self) -> None:
        """Give back memory that nothing uses."""

    def watch_memory(self) -> None:
        """Forget the peak of memory so far."""

    def peak_bytes(self) -> tuple[float | None, float | None]:
        """The most memory that tensors took and that was reserved since [B]."""

    def graph(self, call: Callable[[int], object], calls: int) -> Callable[[], None] | None:
        """Something that replays so many calls without the host, where the device can."""

    def peak_flops(self, dtype: Dtype) -> float | None:
        """Rate of arithmetic that is impossible to exceed [FLOP/s], where it is known."""

    def peak_bandwidth(self) -> float | None:
        """Rate of memory that is impossible to exceed [B/s], where it is known."""


class Cpu:
    """One thread of a CPU, by the processor time of this process, which busy neighbours do not lengthen."""

    kind = "cpu"
    target = "cpu"
    method: Method = "process_time"

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.cache_bytes = float(_cpu_cache())

    def mark(self) -> Any:
        """Processor time so far."""
        return time.process_time()

    def elapsed(self, start: Any, end: Any) -> float:
        """Their difference."""
        return float(end - start)

    def wait(self) -> None:
        """Nothing is under way."""

    def now(self) -> float:
        """The wall clock: a budget is of real time."""
        return time.monotonic()

    def state(self) -> State | None:
        """Not told."""
        return None

    def free_bytes(self) -> float:
        """What the system can give without swapping."""
        return available_memory()

    def release(self) -> None:
        """Leave it to the allocator."""
        gc.collect()

    def watch_memory(self) -> None:
        """Not told."""

    def peak_bytes(self) -> tuple[float | None, float | None]:
        """Not told."""
        return None, None

    def graph(self, call: Callable[[int], object], calls: int) -> Callable[[], None] | None:
        """There are none."""
        del call, calls
        return None

    def peak_flops(self, dtype: Dtype) -> float | None:
        """A bound for every core; matrix units of some cores reach more in 16 bits, which is not bounded."""
        return _CPU_CLOCK * _CPU_LANES if dtype == "fp32" else None

    def peak_bandwidth(self) -> float | None:
        """Not known."""
        return None


class SharedCpu(Cpu):
    """A CPU on which processes wait for each other: by the wall clock, since waiting takes no processor time.

    Parameters
    ----------
    processes
        Those that share its memory.
    """

    method: Method = "wall"

    def __init__(self, processes: int) -> None:
        super().__init__()
        self.processes = processes

    def mark(self) -> Any:
        """The wall clock."""
        return time.perf_counter()

    def free_bytes(self) -> float:
        """The share of one process."""
        return available_memory() / self.processes


class Cuda:
    """A GPU that torch calls cuda, by device events."""

    kind = "cuda"
    method: Method = "events"

    def __init__(self, index: int) -> None:
        torch.cuda.set_device(index)
        self.target = f"cuda:{index}"
        self.properties = torch.cuda.get_device_properties(index)
        uuid = getattr(self.properties, "uuid", None)
        self.nvml = None if torch.version.hip else Nvml.of(None if uuid is None else f"GPU-{uuid}", index)
        self.cache_bytes = float(getattr(self.properties, "L2_cache_size", 0) or 64 * 2**20)
        self.limits = {} if self.nvml is None else self.nvml.limits()
        self.known = catalogued(self.properties.name, float(self.properties.total_memory))

    def mark(self) -> Any:
        """A recorded event."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def elapsed(self, start: Any, end: Any) -> float:
        """Between two events."""
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3

    def wait(self) -> None:
        """Until the device is idle."""
        torch.cuda.synchronize()

    def now(self) -> float:
        """The wall clock."""
        return time.monotonic()

    def state(self) -> State | None:
        """As the driver tells it."""
        return None if self.nvml is None else self.nvml.state()

    def free_bytes(self) -> float:
        """Free on the device, and free in torch's allocator."""
        free, _ = torch.cuda.mem_get_info()
        return float(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())

    def release(self) -> None:
        """Empty the allocator; between cases only, never between samples."""
        gc.collect()
        torch.cuda.empty_cache()

    def watch_memory(self) -> None:
        """Start anew."""
        torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> tuple[float | None, float | None]:
        """As torch's allocator counted."""
        return float(torch.cuda.max_memory_allocated()), float(torch.cuda.max_memory_reserved())

    def graph(self, call: Callable[[int], object], calls: int) -> Callable[[], None] | None:
        """A captured graph; none where a call does what cannot be captured."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                for index in range(calls):
                    call(index)
        except RuntimeError as error:
            if "out of memory" in str(error):
                raise
            torch.cuda.synchronize()
            return None
        replay: Callable[[], None] = graph.replay
        return replay

    def peak_flops(self, dtype: Dtype) -> float | None:
        """The data sheet's, at the highest clock that the card may run at."""
        if self.known is None or dtype == "none":
            return None
        device = load_device(self.known)
        rate = getattr(device.peak, dtype)
        return None if rate is None else float(rate) * _SLACK * max(1.0, self.limits.get("clock_hz", 0) / device.clock)

    def peak_bandwidth(self) -> float | None:
        """The data sheet's."""
        return None if self.known is None else float(load_device(self.known).memory.bandwidth) * _SLACK


def knows_bf16(machine: Machine) -> bool:
    """Whether matrix units of the device know bfloat16."""
    return machine.kind != "cuda" or torch.cuda.get_device_capability()[0] >= 8


def machine_of(name: str | None) -> Machine:
    """The device of a name; the first GPU, or else the CPU, where none is given.

    Raises
    ------
    InputError
        Where there is no such device.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    chosen = name or ("cuda:0" if gpus else "cpu")
    if chosen == "cpu":
        return Cpu()
    kind, _, number = chosen.partition(":")
    if kind != "cuda" or (number and not (number.isascii() and number.isdigit())):
        raise InputError(f"--device={shown(chosen)}: write cpu, cuda or cuda:N")
    if int(number or 0) >= gpus:
        valid = ", ".join(["cpu", *(f"cuda:{index}" for index in range(min(gpus, 16)))])
        raise InputError(f"--device={shown(chosen)}: torch sees no such device here; valid: {valid}")
    return Cuda(int(number or 0))


def available_memory() -> float:
    """Memory of the host that can be had [B]; a guess where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        return float(lines["MemAvailable"].split()[0]) * 1024.0
    except (OSError, KeyError, ValueError, IndexError):
        return 2.0 * 2**30


def _cpu_cache() -> int:
    """Last-level cache [B], as the system tells it."""
    try:
        size = int(os.sysconf("SC_LEVEL3_CACHE_SIZE"))
    except (OSError, ValueError, AttributeError):
        size = 0
    return size if size > 0 else _CPU_CACHE
