"""Traces made up of the fields that Kineto writes: output_json.cpp and CuptiActivity.cpp of pytorch/kineto."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from simulator.replay.measured.reading import ProfilerTrace, read_trace

HOST = 4711
"""Process and main thread of the host."""
ENGINE = 4712
"""Thread of the engine of gradients."""
GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel"
ADD = (
    "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul> >"
    "(int, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul>)"
)
FLASH = (
    "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4, false, false, cutlass::bfloat16_t> >"
    "(pytorch_flash::Flash_fwd_params)"
)
ALL_REDUCE = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"


def event(
    category: str, name: str, start: float, duration: float, thread: int = HOST, **arguments: Any
) -> dict[str, Any]:
    """A complete event of the host [us]."""
    place = {"ph": "X", "cat": category, "name": name, "pid": HOST, "tid": thread, "ts": start, "dur": duration}
    return place | {"args": arguments}


def operator(name: str, start: float, duration: float, thread: int = HOST, **arguments: Any) -> dict[str, Any]:
    return event("cpu_op", name, start, duration, thread, **arguments)


def mark(number: int, start: float, duration: float) -> dict[str, Any]:
    return event("user_annotation", f"ProfilerStep#{number}", start, duration)


def launch(correlation: int, start: float, thread: int = HOST) -> dict[str, Any]:
    return event("cuda_runtime", "cudaLaunchKernel", start, 2.0, thread, cbid=211, correlation=correlation)


def kernel(
    name: str,
    correlation: int,
    start: float,
    duration: float,
    *,
    stream: int = 7,
    category: str = "kernel",
    device: int = 0,
    **more: Any,
) -> dict[str, Any]:
    arguments = {"device": device, "context": 1, "stream": stream, "correlation": correlation, **more}
    place = {"ph": "X", "cat": category, "name": name, "pid": device, "tid": stream, "ts": start, "dur": duration}
    return place | {"args": arguments}


def document(*events: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What the profiler writes around events, with metadata and flows that tell nothing of time."""
    beside = [
        {"ph": "M", "name": "process_name", "pid": HOST, "tid": 0, "ts": 1.0, "args": {"name": "python"}},
        {"ph": "s", "cat": "ac2g", "name": "ac2g", "id": 1, "pid": HOST, "tid": HOST, "ts": 1.0},
        {"ph": "i", "s": "g", "name": "Record Window End", "pid": "", "tid": "", "ts": 9e9},
        {"ph": "X", "cat": "Trace", "name": "PyTorch Profiler (0)", "pid": "Spans", "tid": "x", "ts": 0.0, "dur": 9e9},
    ]
    return {"schemaVersion": 1, "traceEvents": [*beside, *events], **more}


def write(path: Path, *events: dict[str, Any], **more: Any) -> Path:
    path.write_text(json.dumps(document(*events, **more)))
    return path


def trace_of(folder: Path, *events: dict[str, Any], **more: Any) -> ProfilerTrace:
    """Events as they are once read."""
    return read_trace(write(folder / "trace.json", *events, **more))
