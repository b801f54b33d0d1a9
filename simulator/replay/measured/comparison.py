"""A step as it was predicted beside the same as it was measured, kind by kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hardware import units
from simulator.pricing.requests import Collective, Send
from simulator.replay.measured.exchanges import Exchange
from simulator.replay.measured.kinds import IDLE, SEND, TimeKind, names
from simulator.replay.measured.steps import KindTime, MeasuredStep, measured_step
from simulator.replay.measured.touched import Touched, touched
from simulator.replay.sums import activities, idle_of, slowest_stage
from simulator.replay.timeline import StageRun, Timeline
from simulator.scenario.scenario import Scenario
from simulator.work.tasks import Resource

_NONE = KindTime(0.0, 0.0)
_BUSY_HOST = 1.05
"""Time of a step by the clock over that of its processor from which other programs must have run."""


@dataclass(frozen=True)
class KindComparison:
    """One kind of time of a step, predicted and measured."""

    kind: TimeKind
    predicted: KindTime
    measured: KindTime
    constants: tuple[Touched, ...]
    """What the predicted time depends on."""

    @property
    def difference(self) -> float:
        """Predicted less measured time [s]."""
        return self.predicted.seconds - self.measured.seconds

    @property
    def ratio(self) -> float | None:
        """Predicted over measured time [1]; none where nothing was measured."""
        return self.predicted.seconds / self.measured.seconds if self.measured.seconds > 0.0 else None


@dataclass(frozen=True)
class StepComparison:
    """A step, predicted and measured."""

    scenario: Scenario
    stage: int
    """Of the pipeline, from 0."""
    step_time: float
    """Predicted [s]."""
    measured: MeasuredStep
    rows: tuple[KindComparison, ...]
    """Every kind that takes time, the largest differences first."""
    exchanges: tuple[Exchange, ...]
    """Collectives that were predicted, by kind and size."""
    notes: tuple[str, ...]
    clock: float
    """Of the measured step by the clock, which is longer than its own time where other programs ran beside it [s]."""

    @property
    def ratio(self) -> float:
        """Predicted over measured time of the step [1]."""
        return self.step_time / self.measured.duration

    def to_dict(self) -> dict[str, Any]:
        """As plain values; times in seconds, sizes in bytes."""
        step = self.measured
        return {
            "trace": step.trace,
            "measured_on": step.device,
            "measured_step": step.name,
            "steps_s": list(step.steps),
            "stage": self.stage,
            "predicted_s": self.step_time,
            "measured_s": step.duration,
            "measured_by_the_clock_s": self.clock,
            "ratio": self.ratio,
            "kinds": [_kind_to_dict(row, self.step_time, step.duration) for row in self.rows],
            "exchanges": {
                "predicted": [_exchange_to_dict(each) for each in self.exchanges],
                "measured": [_exchange_to_dict(each) for each in step.exchanges],
            },
            "not_named_s": dict(step.unnamed),
            "notes": list(self.notes),
        }


def _kind_to_dict(row: KindComparison, predicted: float, measured: float) -> dict[str, Any]:
    """One kind as plain values."""
    return {
        "kind": row.kind.name,
        "predicted_s": row.predicted.seconds,
        "measured_s": row.measured.seconds,
        "predicted_share": row.predicted.seconds / predicted,
        "measured_share": row.measured.seconds / measured,
        "difference_s": row.difference,
        "ratio": row.ratio,
        "predicted_busy_s": row.predicted.busy,
        "measured_busy_s": row.measured.busy,
        "constants": [vars(each) for each in row.constants],
    }


def _exchange_to_dict(each: Exchange) -> dict[str, Any]:
    """Collectives of one kind and size as plain values."""
    return {
        "kind": each.kind,
        "message_bytes": each.message_bytes,
        "ranks": each.ranks,
        "calls": each.calls,
        "seconds": each.seconds,
    }


def compare_step(
    timeline: Timeline, measured: MeasuredStep | str | Path, *, stage: int | None = None
) -> StepComparison:
    """Lay a measured step beside its prediction.

    Parameters
    ----------
    timeline
        The predicted step.
    measured
        The measured one, or the file of its trace.
    stage
        Of the pipeline, from 0, that the trace is of; the slowest unless given.

    Raises
    ------
    InputError
        Where the file is no trace of torch's profiler.
    """
    by_clock = measured if isinstance(measured, MeasuredStep) else measured_step(measured)
    step, disturbed = _undisturbed(by_clock)
    run = slowest_stage(timeline) if stage is None else timeline.stages[stage]
    predicted = kinds_of(timeline, run)
    rows = (
        KindComparison(kind, predicted.get(name, _NONE), step.kinds.get(name, _NONE), touched(kind, timeline.scenario))
        for name, kind in names().kinds.items()
        if name in predicted or name in step.kinds
    )
    return StepComparison(
        timeline.scenario,
        run.index,
        timeline.step_time,
        step,
        tuple(sorted(rows, key=lambda row: -abs(row.difference))),
        exchanges_of_stage(run),
        (*step.notes, *_unlike(timeline.scenario, step), *disturbed),
        by_clock.duration,
    )


def kinds_of(timeline: Timeline, stage: StageRun) -> dict[str, KindTime]:
    """Predicted time of one stage by kind: sums are the step.

    Parameters
    ----------
    timeline, stage
        The step, and one of its stages.
    """
    seconds, busy = defaultdict[str, float](float), defaultdict[str, float](float)
    for span, times in activities(stage):
        kind = names().of_request(span.request, span.part)
        if span.resource is Resource.DEVICE:
            seconds[kind] += times * span.duration
        if not span.waits and kind != IDLE:
            busy[kind] += times * span.duration
    received = float(np.sum(stage.received))
    seconds[SEND] += received
    busy[SEND] += received
    seconds[IDLE] += idle_of(timeline, stage)
    return {
        kind: KindTime(seconds[kind], busy[kind]) for kind in seconds.keys() | busy.keys() if seconds[kind] + busy[kind]
    }


def exchanges_of_stage(stage: StageRun) -> tuple[Exchange, ...]:
    """Predicted collectives of one stage by kind and size, those that take longest first."""
    sums: dict[tuple[str, float, float], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for span, times in activities(stage):
        request = span.request
        if span.waits or not isinstance(request, Collective | Send):
            continue
        message = float(np.asarray(request.message_bytes))
        kind = request.kind if isinstance(request, Collective) else SEND
        both = sums[kind, message, float(np.asarray(request.degree))]
        both[0] += times * span.size / message if message else times
        both[1] += times * span.duration
    rows = (Exchange(*key, calls, seconds) for key, (calls, seconds) in sums.items() if seconds > 0.0)
    return tuple(sorted(rows, key=lambda row: -row.seconds))


def _unlike(scenario: Scenario, step: MeasuredStep) -> Iterator[str]:
    """What a trace says of itself that the scenario says differently."""
    said = {
        "model": scenario.model.id,
        "layers": scenario.model.layers,
        "sequence_length": scenario.workload.sequence_length,
        "micro_batch": scenario.plan.micro_batch,
        "precision": scenario.precision,
        "attention": scenario.plan.attention,
    }
    other = [f"{name}={step.recorded[name]}" for name, value in said.items() if step.recorded.get(name, value) != value]
    if other:
        yield f"the trace was recorded with {', '.join(other)}, which is not what is predicted"


def _undisturbed(step: MeasuredStep) -> tuple[MeasuredStep, tuple[str, ...]]:
    """A step of a CPU in the time of its processor, where other programs ran beside it, and what to say of that.

    Predictions for a CPU rest on times of its processor too. What others took is taken from all kinds alike.
    """
    taken = step.recorded.get("processor_s")
    if not isinstance(taken, list) or step.place >= len(taken) or not isinstance(taken[step.place], int | float):
        return step, ()
    processor = float(taken[step.place])
    if not 0.0 < processor * _BUSY_HOST < step.duration:
        return step, ()
    share = processor / step.duration
    kinds = {name: KindTime(kind.seconds * share, kind.busy * share) for name, kind in step.kinds.items()}
    unnamed = tuple((name, seconds * share) for name, seconds in step.unnamed)
    said = (
        f"the step took {units.duration(step.duration)} by the clock and {units.duration(processor)} of its processor, "
        "since other programs ran beside it; what they took is taken from all kinds alike"
    )
    return replace(step, duration=processor, kinds=kinds, unnamed=unnamed), (said,)
