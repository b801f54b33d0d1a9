"""From a case to its result: whatever happens on the device becomes a result, and never a crash."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext

import numpy as np
import torch

from hardware.errors import one_line
from measure.clock import timer
from measure.clock.compiling import compiled
from measure.clock.kernels import ReadyCase, UnsupportedError, prepare
from measure.clock.outcomes import beyond, without
from measure.clock.steps import prepare_step, result_of, sample_steps
from measure.clock.timer import Effort, TooFastError, sample, sustained, times_of
from measure.device.machines import Machine, lost, out_of_memory
from simulator.profiling.records.amounts import amounts
from simulator.profiling.records.record import Case, Result
from simulator.profiling.records.scenarios import step_amounts
from simulator.specs.model import Model

_GRAPHED = 300e-6
"""Calls that take longer are not replayed as a graph: the host keeps ahead of them [s]."""
_GRAPH_CALLS = 20


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
            result = self._step(case) if case.phase == "step" else self._kernel(case)
        except UnsupportedError as error:
            result = without(case, "unsupported", error)
        except TooFastError as error:
            result = without(case, "rejected", error)
        except (MemoryError, RuntimeError) as error:  # torch's own out-of-memory is a RuntimeError
            result = self._failed(case, error)
        finish = {"at": time.time(), "took_s": time.monotonic() - start}
        return result.model_copy(update=finish)

    def _failed(self, case: Case, error: Exception) -> Result:
        """What an error of torch means."""
        if out_of_memory(error):
            error.__traceback__ = None  # its frames hold the tensors
            self.machine.release()
            return without(case, "out_of_memory", error)
        if lost(error):
            raise DeviceLostError(f"{case.words}: {one_line(str(error).splitlines()[0])}") from None
        return without(case, "unsupported", error)

    def _kernel(self, case: Case) -> Result:
        """A single kernel."""
        each = amounts(case)
        if too_much := beyond(each.footprint, self.machine.free_bytes()):
            return without(case, "out_of_memory", too_much)
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

    def _replayed(self, work: ReadyCase, taken: timer.Samples) -> timer.Samples | None:
        """Times of one call within a graph, where the device has graphs and the host would be in the way."""
        if not work.replayable or float(np.median(taken.device)) > _GRAPHED:
            return None
        replay = self.machine.graph(work.call, _GRAPH_CALLS)
        if replay is None:
            return None
        many = sample(lambda _: replay(), self.machine, self.effort)
        return timer.Samples(tuple(time / _GRAPH_CALLS for time in many.device), many.host, many.repeats)

    def _floor(self, case: Case, work: ReadyCase) -> float:
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
        if too_much := beyond(counted.footprint, self.machine.free_bytes()):
            return without(case, "out_of_memory", too_much)
        step = prepare_step(case, model, self.machine)
        with compiled(step, self.machine) if case.operation == "compiled" else nullcontext():
            self.machine.watch_memory()
            taken = sample_steps(step, self.machine, self.effort)
        return result_of(case, model, counted, taken, self.machine)
