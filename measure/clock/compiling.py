"""Steps that torch.compile has made kernels of: compiled whole, or not measured."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from measure.clock.kernels import UnsupportedError
from measure.clock.steps import TrainingStep
from measure.device.machines import Machine, lost, out_of_memory

_SWITCHES = ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE")


@contextmanager
def compiled(
    step: TrainingStep, machine: Machine, *, backend: str | Callable[..., Any] = "inductor"
) -> Iterator[TrainingStep]:
    """Compile the forward and backward pass of a step, without a break; what was compiled is forgotten at the end.

    The optimizer is the same fused kernel as without a compiler.

    Parameters
    ----------
    step
        As it runs without a compiler.
    machine
        The device.
    backend
        What makes kernels of the graph: a name that torch knows, or a function.

    Raises
    ------
    UnsupportedError
        Where the machine or the module cannot be compiled, in one sentence.
    """
    if missing := _missing(machine, backend):
        raise UnsupportedError(missing)
    # What is compiled belongs to the code of the module, which models share: forget those before.
    torch.compiler.reset()
    try:
        with warnings.catch_warnings():  # advice on speed, and what torch calls deprecated in its own code
            warnings.simplefilter("ignore")
            step.loss = torch.compile(step.module, fullgraph=True, dynamic=False, backend=backend)
            try:
                step.run()
                machine.wait()
            except Exception as error:  # compilers fail in their own ways
                if out_of_memory(error) or lost(error):
                    raise
                raise UnsupportedError(f"torch.compile: {_cause(error)}") from None
        yield step
    finally:
        torch.compiler.reset()


def _missing(machine: Machine, backend: object) -> str:
    """Why nothing can be compiled here."""
    for switch in _SWITCHES:
        if os.environ.get(switch) == "1":
            return f"torch.compile is switched off by {switch}=1"
    if machine.kind == "cpu" and backend == "inductor":
        compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
        if shutil.which(compiler.split()[0]) is None:
            return f"torch.compile needs a C++ compiler on a CPU, and {compiler} is not installed"
    return ""


def _cause(error: Any) -> str:
    """The first line of what went wrong at the bottom of it."""
    inner = getattr(error, "inner_exception", None)
    text = str(error if inner is None else inner).strip()
    return text.splitlines()[0] if text else type(error).__name__
