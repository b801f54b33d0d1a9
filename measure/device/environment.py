"""What a measurement runs on and with: device, driver, versions, clocks, limits, and the machine around it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from measure.device.machines import Cuda, Machine
from simulator.profiling.records.record import DeviceReport, Environment, HostReport, Software, World

_PREFIXES = (
    *("NCCL_", "CUDA_", "CUBLAS", "TORCH_", "TORCHDYNAMO_", "TORCHINDUCTOR_", "TRITON_", "PYTORCH_"),
    *("OMP_", "MKL_", "MALLOC_", "GLOO_", "NVIDIA_TF32"),
)
_MOST_SETTINGS = 60
_LONGEST = 120
_MOST_TOPOLOGY = 4000


def environment_of(machine: Machine, *, world: World | None = None) -> Environment:
    """Describe what a run measures on.

    Parameters
    ----------
    machine
        The device.
    world
        The ranks, where collectives are measured.
    """
    cuda = isinstance(machine, Cuda)
    nvml = machine.nvml if isinstance(machine, Cuda) else None
    return Environment(
        device=_gpu(machine) if isinstance(machine, Cuda) else _processor(machine),
        software=_software(nvml.driver() if nvml is not None else None, gpu=cuda),
        host=HostReport(cpu=_short(_cpu_name()), cores=os.cpu_count() or 0, memory_bytes=_host_memory()),
        devices=torch.cuda.device_count() if cuda else 1,
        state=machine.state(),
        other_processes=_others(nvml.processes() if nvml is not None else None),
        settings=_settings(gpu=cuda),
        world=world,
        topology=_topology() if cuda and torch.cuda.device_count() > 1 else None,
        started=time.time(),
    )


def _gpu(machine: Cuda) -> DeviceReport:
    """A GPU, as torch, its driver and the catalogue know it."""
    properties = machine.properties
    return DeviceReport(
        kind="cuda",
        name=_short(properties.name),
        memory_bytes=float(properties.total_memory),
        processors=properties.multi_processor_count,
        cache_bytes=machine.cache_bytes,
        capability=f"{properties.major}.{properties.minor}",
        catalogue=machine.known,
        **machine.limits,
    )


def _processor(machine: Machine) -> DeviceReport:
    """One thread of a CPU."""
    return DeviceReport(
        kind="cpu",
        name=_short(_cpu_name()),
        memory_bytes=_host_memory(),
        processors=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        cache_bytes=machine.cache_bytes,
    )


def _software(driver: str | None, *, gpu: bool) -> Software:
    """Versions."""
    cuda = torch.version.cuda or torch.version.hip
    cudnn = torch.backends.cudnn.version() if gpu else None
    return Software(
        python=platform.python_version(),
        torch=_short(str(torch.__version__)),
        platform=_short(platform.platform()),
        cuda=None if cuda is None else _short(cuda),
        driver=driver,
        cudnn=None if cudnn is None else str(cudnn),
        nccl=_nccl() if gpu else None,
    )


def _nccl() -> str | None:
    """Version of the library of collectives."""
    try:
        return ".".join(map(str, torch.cuda.nccl.version()))
    except (AttributeError, RuntimeError, TypeError):
        return None


def _settings(*, gpu: bool) -> dict[str, str]:
    """Switches that change which kernels run."""
    settings: dict[str, Any] = {"float32_matmul_precision": torch.get_float32_matmul_precision()}
    if gpu:
        products = torch.backends.cuda.matmul
        settings["fp16_reduced_precision"] = getattr(products, "allow_fp16_reduced_precision_reduction", None)
        settings["bf16_reduced_precision"] = getattr(products, "allow_bf16_reduced_precision_reduction", None)
        settings["cudnn_benchmark"] = torch.backends.cudnn.benchmark
    variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith(_PREFIXES)}
    return {
        _short(name): _short(str(value)) for name, value in [*settings.items(), *variables.items()][:_MOST_SETTINGS]
    }


def _others(processes: int | None) -> int | None:
    """Processes beside this one."""
    return None if processes is None else max(processes - 1, 0)


def _cpu_name() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(named, "") or platform.processor() or platform.machine()


def _host_memory() -> float:
    """Memory of the host [B]."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE")) * float(os.sysconf("SC_PHYS_PAGES"))
    except (OSError, ValueError, AttributeError):
        return 0.0


def _topology() -> str | None:
    """How the GPUs are wired, as the driver's tool prints it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        printed = subprocess.run([tool, "topo", "-m"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return printed[:_MOST_TOPOLOGY]


def _short(text: str) -> str:
    return text[:_LONGEST]
