"""A step in the Trace Event Format, which Perfetto and chrome://tracing open.

One process a stage, one thread a resource; passes enclose their tasks on the thread of the device, transfers between
stages are flows, and memory and the rate of arithmetic are counters. The format: "Trace Event Format", Google, revision
of 2016; times are in microseconds.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hardware.writing import write_bytes
from simulator.replay.events import Detail, Event, events_of
from simulator.replay.held import HeldOverTime, held_over_time
from simulator.replay.orders import PassKind
from simulator.replay.timeline import StageRun, Timeline
from simulator.work.program import program_of
from simulator.work.tasks import Resource

MOST_EVENTS = 60_000
"""Tasks that a trace holds unless more are asked for; beyond it most micro-batches are written as whole passes."""
_THREADS = {resource: number for number, resource in enumerate(Resource)}
_OF_GRADIENTS = len(_THREADS)
"""Thread of what data links reduce: the last gradients of a pass may go beside the first gathers of the next."""
_MICRO = 1e6


def trace_of(
    timeline: Timeline, *, detail: Detail | None = None, stages: Sequence[int] | None = None, most: int = MOST_EVENTS
) -> dict[str, Any]:
    """A timeline as a trace.

    Parameters
    ----------
    timeline
        Of a step.
    detail
        Whole passes, or every task in them; unless given tasks, as far as their number allows.
    stages
        Indices of the stages to write, from 0; all unless given.
    most
        Tasks that are written unless `detail` says all.

    Returns
    -------
    dict
        What `json.dump` writes: ``traceEvents`` and what they are of.
    """
    chosen = [timeline.stages[index] for index in stages] if stages is not None else list(timeline.stages)
    program = program_of(timeline.scenario.columns())
    fine = (
        _fine(chosen, most)
        if detail is None
        else dict.fromkeys((stage.index for stage in chosen), np.inf if detail == "tasks" else 0.0)
    )
    events: list[dict[str, Any]] = []
    for stage in chosen:
        events += _names(timeline, stage)
        events += _slices(stage, fine[stage.index])
        events += _memory(held_over_time(timeline, stage, program))
    events += _flows(timeline, {stage.index for stage in chosen})
    scenario = timeline.scenario
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "model": scenario.model.id,
            "system": scenario.system.id,
            "devices": scenario.devices,
            "stack": scenario.stack.id,
            "step time, replayed [s]": timeline.step_time,
            "step time, closed formula [s]": timeline.closed_form,
        },
    }


def write_trace(trace: dict[str, Any], path: Path) -> None:
    """Write a trace to a file, compressed where its name ends in ``.gz``.

    Raises
    ------
    InputError
        Where the file cannot be written.
    """
    text = json.dumps(trace, separators=(",", ":")).encode()
    write_bytes(path, gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)


def _fine(stages: Sequence[StageRun], most: int) -> dict[int, float]:
    """Until when tasks of each stage are written one by one [s], so that all together are at most so many."""
    share = most / max(len(stages), 1)
    until = {}
    for stage in stages:
        table = np.zeros((len(stage.held), len(PassKind)))
        for (chunk, kind), each in stage.passes.items():
            table[chunk, kind] = each.piece.number
        sizes = table[stage.order.chunks, stage.order.kinds]
        within = np.flatnonzero(np.cumsum(sizes) <= share)
        until[stage.index] = float(stage.end[within[-1]]) if len(within) else 0.0
        if len(within) == len(sizes):
            until[stage.index] = np.inf
    return until


def _names(timeline: Timeline, stage: StageRun) -> Iterator[dict[str, Any]]:
    """Names of the process and of its threads."""
    alike = timeline.scenario.devices // max(len(timeline.stages), 1)
    layers = sum(held.layers for held in stage.held)
    name = f"stage {stage.index + 1} of {len(timeline.stages)}: {layers:g} layers, {alike} devices alike"
    yield _meta("process_name", stage.index, {"name": name})
    yield _meta("process_sort_index", stage.index, {"sort_index": stage.index})
    named = {resource.value: thread for resource, thread in _THREADS.items()}
    for thread_name, thread in {**named, f"{Resource.DATA_LINKS.value}, gradients": _OF_GRADIENTS}.items():
        yield _meta("thread_name", stage.index, {"name": thread_name}, thread)
        yield _meta("thread_sort_index", stage.index, {"sort_index": thread}, thread)


def _meta(name: str, stage: int, arguments: dict[str, Any], thread: int = 0) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": stage + 1, "tid": thread + 1, "args": arguments}


def _slices(stage: StageRun, fine: float) -> Iterator[dict[str, Any]]:
    """Activities as complete events: passes, and in them their tasks."""
    for event in events_of(stage, detail="passes"):
        if event.part == "" or event.resource is not Resource.DATA_LINKS or event.start >= fine:
            yield _slice(event)
    if fine <= 0.0:
        return
    for event in events_of(stage, end=fine):
        if event.micro_batch is not None and event.end <= fine and event.part != "pipeline_transfer":
            yield _slice(event)
            yield from _rate(event)


def _thread(event: Event) -> int:
    """Number of the thread that an activity is of, from 0."""
    reduces = event.resource is Resource.DATA_LINKS and event.name.startswith("gradients")
    return _OF_GRADIENTS if reduces else _THREADS[event.resource]


def _slice(event: Event) -> dict[str, Any]:
    """One complete event."""
    arguments: dict[str, Any] = {"phase": event.phase}
    if event.micro_batch is not None:
        arguments["micro-batch"] = event.micro_batch + 1
    if event.chunk is not None:
        arguments["chunk"] = event.chunk + 1
    for name, value in (("part of the step", event.part), ("place", event.place), ("waits", event.why)):
        if value:
            arguments[name] = value.replace("_", " ")
    if event.unit:
        arguments[f"size [{event.unit}]"] = event.size
        if event.duration > 0.0:
            arguments[f"rate [{event.unit}/s]"] = event.size / event.duration
    return {
        "ph": "X",
        "name": event.name,
        "cat": event.kind,
        "pid": event.stage + 1,
        "tid": _thread(event) + 1,
        "ts": event.start * _MICRO,
        "dur": event.duration * _MICRO,
        "args": arguments,
    }


def _rate(event: Event) -> Iterator[dict[str, Any]]:
    """The rate of arithmetic while a task runs, as a counter."""
    if event.unit == "FLOP" and event.duration > 0.0:
        yield _counter("arithmetic [TFLOP/s]", event.stage, event.start, {"rate": event.size / event.duration / 1e12})
        yield _counter("arithmetic [TFLOP/s]", event.stage, event.end, {"rate": 0.0})


def _memory(held: HeldOverTime) -> Iterator[dict[str, Any]]:
    """Memory of a stage as a counter."""
    constant = {name: size / 1e9 for name, size in held.constant.items()}
    for time, kept, buffers in zip(held.times.tolist(), held.activations.tolist(), held.buffers.tolist(), strict=True):
        parts = {**constant, "activations": kept / 1e9, "buffers": buffers / 1e9}
        yield _counter("memory [GB]", held.stage, time, parts)


def _counter(name: str, stage: int, time: float, values: dict[str, float]) -> dict[str, Any]:
    return {"ph": "C", "name": name, "pid": stage + 1, "tid": 0, "ts": time * _MICRO, "args": values}


def _flows(timeline: Timeline, chosen: Iterable[int]) -> Iterator[dict[str, Any]]:
    """Transfers between stages as arrows from the pass that sends to the pass that receives."""
    among, number = set(chosen), 0
    ends = {stage.index: _by_pass(timeline, stage) for stage in timeline.stages if stage.index in among}
    for stage in timeline.stages:
        if stage.index not in among:
            continue
        for index in np.flatnonzero(np.asarray(stage.waits_for) >= 0).tolist():
            source = int(stage.waits_for[index])
            if source not in among:
                continue
            kind, chunk = int(stage.order.kinds[index]), int(stage.order.chunks[index])
            virtual = timeline.pipeline.virtual_stage(stage.index, chunk)
            before = virtual - 1 if kind == PassKind.FORWARD else virtual + 1
            sent = ends[source].get((kind == PassKind.FORWARD, before, int(stage.order.micro_batches[index])))
            if sent is None:
                continue
            number += 1
            name = "activations" if kind == PassKind.FORWARD else "gradients"
            # A flow binds to the slices that enclose its points, so that both lie a little inside.
            yield _flow("s", name, number, source, sent - 1e-9)
            yield _flow("f", name, number, stage.index, float(stage.start[index] + stage.received[index]) + 1e-9)


def _flow(phase: str, name: str, number: int, stage: int, time: float) -> dict[str, Any]:
    """One end of an arrow."""
    end = {"bp": "e"} if phase == "f" else {}
    device = _THREADS[Resource.DEVICE] + 1
    flow = {"ph": phase, "name": name, "cat": "transfer", "id": number, "pid": stage + 1, "tid": device}
    return flow | end | {"ts": time * _MICRO}


def _by_pass(timeline: Timeline, stage: StageRun) -> dict[tuple[bool, int, int], float]:
    """When each pass of a stage ends, by whether it is forward, virtual stage and micro-batch [s]."""
    virtual = [timeline.pipeline.virtual_stage(stage.index, chunk) for chunk in range(len(stage.held))]
    order = stage.order
    rows = zip(
        order.kinds.tolist(), order.chunks.tolist(), order.micro_batches.tolist(), stage.end.tolist(), strict=True
    )
    return {
        (kind == PassKind.FORWARD, virtual[chunk], micro_batch): end
        for kind, chunk, micro_batch, end in rows
        if kind != PassKind.WEIGHT_GRADIENTS
    }
