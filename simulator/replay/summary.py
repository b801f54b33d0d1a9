"""A timeline in numbers: each stage's lanes, what its device waits for, and the peak of its memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.replay.held import HeldOverTime, held_over_time
from simulator.replay.orders import PassKind
from simulator.replay.running import Times
from simulator.replay.sums import LaneSums, slowest_of, sums_of
from simulator.replay.timeline import StageRun, Timeline
from simulator.work.program import program_of
from simulator.work.tasks import Resource

_HOST = ("host", "step_overhead", "offload")
_BUBBLE = "pipeline_bubble"


@dataclass(frozen=True)
class StageSummary:
    """One stage of a step."""

    run: StageRun
    sums: LaneSums
    held: HeldOverTime

    @property
    def layers(self) -> float:
        """How many it holds [layer]."""
        return sum(held.layers for held in self.run.held)

    @property
    def compute(self) -> float:
        """Time for which its device computes [s]."""
        return sum(seconds for (resource, _), seconds in self.sums.busy.items() if resource is Resource.DEVICE)

    @property
    def exposed(self) -> float:
        """Time for which its device waits for links [s]."""
        return sum(seconds for part, seconds in self.sums.waits.items() if part not in (*_HOST, _BUBBLE))

    @property
    def host(self) -> float:
        """Time for which it waits for its host [s]."""
        return sum(seconds for part, seconds in self.sums.waits.items() if part in _HOST)

    @property
    def idle(self) -> float:
        """Time for which it waits for other stages [s]."""
        return self.sums.idle + self.sums.waits.get(_BUBBLE, 0.0)

    def lane(self, resource: Resource) -> float:
        """Time for which a resource is busy [s]."""
        return sum(seconds for (each, _), seconds in self.sums.busy.items() if each is resource)

    def to_dict(self) -> dict[str, Any]:
        """As plain values; times in seconds, sizes in bytes."""
        peak = self.held.peak
        return {
            "stage": self.run.index,
            "layers": self.layers,
            "compute_s": self.compute,
            "exposed_communication_s": self.exposed,
            "host_s": self.host,
            "idle_s": self.idle,
            "parts_s": self.sums.parts,
            "lanes_s": {resource.value: self.lane(resource) for resource in Resource},
            "peak_memory": {
                "bytes": peak.total,
                "at_s": peak.time,
                "during": peak.task,
                "micro_batches_in_flight": peak.in_flight,
                "tensors_bytes": dict(peak.tensors),
            },
        }


def summaries(timeline: Timeline) -> tuple[StageSummary, ...]:
    """Every stage of a timeline in numbers."""
    program = program_of(timeline.scenario.columns())
    return tuple(
        StageSummary(stage, sums_of(timeline, stage), held_over_time(timeline, stage, program))
        for stage in timeline.stages
    )


def to_dict(timeline: Timeline) -> dict[str, Any]:
    """A timeline as plain values; times in seconds, sizes in bytes."""
    stages = summaries(timeline)
    slowest = stages[slowest_of([stage.sums for stage in stages])]
    return {
        "step_time_s": timeline.step_time,
        "closed_form_s": timeline.closed_form,
        "difference": timeline.difference,
        "slowest_stage": slowest.run.index,
        "stages": [stage.to_dict() for stage in stages],
    }


_MARKS = ".FBIWr="
"""Idle; forward; backward; gradients of inputs, and of weights; what is received; once a step."""


def picture(stage: StageRun, start: float, end: float, width: int) -> str:
    """What a stage does most in each of so many equal parts of a window, one letter a part.

    ``F`` forward, ``B`` backward, ``I`` gradients of inputs, ``W`` of weights, ``r`` receiving, ``=`` once a step,
    ``.`` idle.

    Parameters
    ----------
    stage
        Of a timeline.
    start, end
        Of the window [s].
    width
        Parts [1].
    """
    edges = np.linspace(start, end, width + 1)
    shares = np.zeros((len(_MARKS), width))
    begin = stage.start + stage.received
    for kind in range(4):
        chosen = stage.order.kinds == kind
        shares[kind + 1] = _covered(begin[chosen], stage.end[chosen], edges)
    shares[5] = _covered(stage.start, begin, edges)
    after = [(first, first + piece.duration) for first, piece in stage.after if piece.duration > 0.0]
    spans = np.array([(0.0, stage.before.duration), *after])
    shares[6] = _covered(spans[:, 0], spans[:, 1], edges)
    shares[0] = np.maximum(edges[1] - edges[0] - shares[1:].sum(axis=0), 0.0)
    return "".join(_MARKS[index] for index in shares.argmax(axis=0))


def fill_of(timeline: Timeline) -> float:
    """Until when the pipeline fills: the end of the first stage's first backward pass [s]."""
    first = timeline.stages[0]
    return float(first.end[np.flatnonzero(first.order.kinds != PassKind.FORWARD)[0]])


def _covered(start: Times, end: Times, edges: Times) -> Times:
    """How much of each part lies in any of some spans that follow one another [s]."""
    whole = np.concatenate([[0.0], np.cumsum(end - start)])
    last = np.searchsorted(start, edges, side="right")
    inside = np.zeros(len(edges))
    some = last > 0
    inside[some] = np.minimum(edges[some], end[last[some] - 1]) - start[last[some] - 1]
    return np.diff(whole[np.maximum(last - 1, 0)] + inside)
