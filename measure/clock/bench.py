"""From a case to its result: whatever happens on the device becomes a result, and never a crash."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from hardware.errors import one_line
from measure.clock import timer
from measure.clock.kernels import UnsupportedError, Work, prepare
from measure.clock.machines import Machine
from measure.clock.steps import PARTS, Step, prepare_step, sample_steps
from measure.clock.timer import Effort, TooFastError, sample, sustained, times_of
from simulator.profiling.amounts import amounts
from simulator.profiling.record import Case, Outcome, Result, Times
from simulator.profiling.steps import step_amounts, written
from simulator.specs.model import Model

_GRAPHED = 300e-6
"""Calls that take longer are not replayed as a graph: the host keeps ahead of them [s]."""
_GRAPH_CALLS = 20
_ROOM = 0.9
"""Share of the free memory that a case may need by count; beyond, it is not tried."""
_LONGEST_REASON = 120
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")
_LOST = ("CUDA error", "device-side assert", "unspecified launch failure", "HIP error")


class DeviceLostError(RuntimeError):
    """The device does not answer any more; nothing later in this process would be true."""


class Bench:
    """Measures cases on one device.

    Parameters
    ----------
    machine
        The device.
    effort
        How much time a case may cost.
    models
        The models whose steps may be asked for, by id.
    """

    def __init__(self, machine: Machine, effort: Effort, models: Mapping[str, Model]) -> None:
        self.machine, self.effort, self.models = machine, effort, models

    def run(self, case: Case) -> Result:
        """Measure one case.

        Raises
        ------
        DeviceLostError
            Where the device failed for good.
        """
        start = time.monotonic()
        torch.manual_seed(0)
        try:
            found = self._step(case) if case.phase == "step" else self._kernel(case)
        except UnsupportedError as error:
            found = _without(case, "unsupported", error)
        except TooFastError as error:
            found = _without(case, "rejected", error)
        except (MemoryError, RuntimeError) as error:  # torch's own out-of-memory is a RuntimeError
            found = self._failed(case, error)
        finish = {"at": time.time(), "took_s": time.monotonic() - start}
        return found.model_copy(update=finish)

    def _failed(self, case: Case, error: Exception) -> Result:
        """What an error of torch means."""
        text = str(error)
        if isinstance(error, MemoryError) or any(word in text for word in _OUT_OF_MEMORY):
            error.__traceback__ = None  # its frames hold the tensors
            self.machine.release()
            return _without(case, "out_of_memory", error)
        if any(word in text for word in _LOST):
            raise DeviceLostError(f"{case.words}: {one_line(text.splitlines()[0])}") from None
        return _without(case, "unsupported", error)

    def _kernel(self, case: Case) -> Result:
        """A single kernel."""
        each = amounts(case)
        if too_much := self._too_much(each.footprint):
            return _without(case, "out_of_memory", too_much)
        work = prepare(case, self.machine)
        with work.manner(), nullcontext() if case.operation.endswith("backward") else torch.no_grad():
            taken = (sustained if case.sustained else sample)(work.call, self.machine, self.effort)
            replayed = None if case.sustained else self._replayed(work, taken)
        floor = self._floor(case, work)
        eager = times_of(taken.device, taken.repeats, floor_s=floor)
        graph = None if replayed is None else times_of(replayed.device, replayed.repeats * _GRAPH_CALLS, floor_s=floor)
        return Result(
            case=case,
            outcome="measured",
            method=self.machine.method if graph is None else "graph",
            times=eager if graph is None else graph,
            eager=None if graph is None else eager,
            host_s=float(np.median(taken.host)) if self.machine.kind != "cpu" else None,
            flops=work.amounts.flops,
            bytes=work.amounts.bytes,
            state=taken.state,
        )

    def _replayed(self, work: Work, taken: timer.Samples) -> timer.Samples | None:
        """Times of one call within a graph, where the device has graphs and the host would be in the way."""
        if not work.replayable or float(np.median(taken.device)) > _GRAPHED:
            return None
        replay = self.machine.graph(work.call, _GRAPH_CALLS)
        if replay is None:
            return None
        many = sample(lambda _: replay(), self.machine, self.effort)
        return timer.Samples(tuple(time / _GRAPH_CALLS for time in many.device), many.host, many.repeats)

    def _floor(self, case: Case, work: Work) -> float:
        """The least time that the device could take for a call [s]."""
        rate = self.machine.peak_flops(case.dtype) if work.amounts.flops else None
        bandwidth = self.machine.peak_bandwidth() if work.cold and case.phase != "host_copy" else None
        return max(
            work.amounts.flops / rate if rate else 0.0,
            work.amounts.bytes / bandwidth if bandwidth else 0.0,
        )

    def _step(self, case: Case) -> Result:
        """A whole training step."""
        model = self.models.get(case.variant.partition("/")[0])
        if model is None:
            raise UnsupportedError(f"the model of {case.variant} is not among those that were named")
        counted = step_amounts(case, model)
        if too_much := self._too_much(counted.footprint):
            return _without(case, "out_of_memory", too_much)
        step: Step = prepare_step(case, model, self.machine)
        self.machine.watch_memory()
        taken = sample_steps(step, self.machine, self.effort)
        peak, reserved = self.machine.peak_bytes()
        rate = self.machine.peak_flops(case.dtype)
        return Result(
            case=case,
            outcome="measured",
            method=self.machine.method,
            model=written(model),
            times=times_of(taken.whole, 1, floor_s=counted.flops / rate if rate else 0.0),
            parts=_parts(taken.parts),
            host_s=float(np.median(taken.host)) if self.machine.kind != "cpu" else None,
            flops=counted.flops,
            peak_memory_bytes=peak,
            reserved_memory_bytes=reserved,
            state=taken.state,
        )

    def _too_much(self, footprint: float) -> str:
        """Why a case is not even tried, where it is too large by count."""
        free = self.machine.free_bytes()
        if footprint <= _ROOM * free:
            return ""
        return f"needs {footprint / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free"


def _parts(samples: Sequence[Sequence[float]]) -> dict[str, Times]:
    """Times of the parts of a step."""
    return {name: times_of(each, 1) for name, each in zip(PARTS, samples, strict=True)}


def _without(case: Case, outcome: Outcome, why: Any) -> Result:
    """A result without times."""
    reason = one_line(str(why).strip().splitlines()[0] if str(why).strip() else type(why).__name__)
    return Result(case=case, outcome=outcome, reason=reason[:_LONGEST_REASON])
