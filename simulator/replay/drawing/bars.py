"""What a picture of a step consists of: bars on rows, as arrays, few enough to be drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hardware import units
from simulator.replay.drawing import words
from simulator.replay.drawing.merging import (
    SHORTEST,
    Coarseness,
    affordable,
    coarseness,
    firsts_of,
    tasks_in,
    within,
)
from simulator.replay.events import Detail
from simulator.replay.orders import PassKind
from simulator.replay.spans import Span
from simulator.replay.timeline import StageRun, Timeline
from simulator.work.tasks import Phase, Resource

BarKind = Literal[
    "forward",
    "backward",
    "weight gradients",
    "several passes",
    "recompute",
    "once a step",
    "communication",
    "exposed communication",
    "host",
    "idle",
]
"""What a bar shows; each has its colour, those of passes also by micro-batch."""
MOST_BARS = 6_000
"""Bars of a picture: more are slow to draw, and none of them is wider than a pixel."""
_OF_PASS: dict[PassKind, BarKind] = {
    PassKind.FORWARD: "forward",
    PassKind.BACKWARD: "backward",
    PassKind.INPUT_GRADIENTS: "backward",
    PassKind.WEIGHT_GRADIENTS: "weight gradients",
}
_HOST_PARTS = ("host", "step_overhead")


@dataclass
class Bars:
    """Bars of one kind, one entry each; times from the start of the step [s]."""

    rows: list[int] = field(default_factory=list)
    """From the top."""
    start: list[float] = field(default_factory=list)
    duration: list[float] = field(default_factory=list)
    micro_batches: list[int] = field(default_factory=list)
    """From 0; -1 of what belongs to none."""
    text: list[str] = field(default_factory=list)
    """In the bar."""
    hover: list[str] = field(default_factory=list)

    def add(
        self, row: int, start: float, duration: float, hover: str, *, micro_batch: int = -1, text: str = ""
    ) -> None:
        """Add one, unless it is too short to be one."""
        if duration < SHORTEST:
            return
        self.rows.append(row)
        self.start.append(start)
        self.duration.append(duration)
        self.micro_batches.append(micro_batch)
        self.text.append(text)
        self.hover.append(hover)


@dataclass(frozen=True)
class Picture:
    """Rows of bars of one step."""

    labels: tuple[str, ...]
    """Of the rows, from the top."""
    bars: dict[BarKind, Bars]
    detail: Detail
    most_merged: int = 1
    """Passes that one bar stands for, at most."""
    whole_passes: int = 0
    """Passes that are drawn as wholes where tasks were asked for."""
    shortest: float = 0.0
    """Transfers between stages that are shorter are not drawn [s]."""
    lanes: bool = False
    """Whether each resource has a row."""

    @property
    def note(self) -> str:
        """What was left out of it, in words."""
        notes = []
        if self.lanes and self.detail == "passes":
            notes.append("exchanges inside layers are only drawn with tasks")
        if self.most_merged > 1:
            notes.append(f"up to {self.most_merged:,} neighbouring passes are one bar, with their waits behind it")
        if self.shortest > 0.0:
            notes.append(f"transfers between stages below {units.duration(self.shortest)} are left out")
        if self.whole_passes:
            notes.append(f"{units.plural(self.whole_passes, 'pass', 'passes')} are drawn without their tasks")
        return "; ".join(notes)


def picture_of(
    timeline: Timeline,
    stages: Sequence[StageRun],
    *,
    start: float,
    end: float,
    detail: Detail | None = None,
    most: int = MOST_BARS,
) -> Picture:
    """Rows of bars of some stages in a window of time.

    Parameters
    ----------
    timeline
        Of a step.
    stages
        Of its pipeline, in the order of the rows.
    start, end
        Of the window [s].
    detail
        Whole passes, or the tasks in them; unless given tasks, where they are few enough.
    most
        Bars, at most.

    Returns
    -------
    Picture
        One row a stage, or for tasks and for a single stage one for each resource that it uses.
    """
    tasks = sum(tasks_in(stage, start, end) for stage in stages)
    fine = detail or ("tasks" if tasks <= most else "passes")
    quantum, least = Coarseness() if fine == "tasks" else coarseness(stages, start, end, most)
    sheet = _Sheet(stages, lanes=fine == "tasks" or len(stages) == 1, least=least)
    merged, whole = 1, 0
    share = most // max(len(stages), 1)
    for stage in stages:
        index = within(stage, start, end)
        once = stage.before.flat(), *(piece.flat(begin) for begin, piece in stage.after)
        for spans in once:
            sheet.add_spans(stage, (span for span in spans if span.end > start and span.start < end))
        number = affordable(stage, index, share) if fine == "tasks" else 0
        _add_tasks(sheet, stage, index[:number], start, end)
        merged = max(merged, _add_passes(sheet, stage, index[number:], quantum))
        _add_idle(sheet, stage, index[firsts_of(stage, index, quantum)], start)
        _add_end(sheet, stage, timeline.step_time, end)
        whole += len(index) - number if fine == "tasks" else 0
    return Picture(*sheet.done(), fine, merged, whole, least, sheet.lanes)


class _Sheet:
    """Bars as they are added."""

    def __init__(self, stages: Sequence[StageRun], *, lanes: bool, least: float) -> None:
        self.lanes, self.least = lanes, least
        self._stages = [stage.index for stage in stages]
        self._keys: dict[tuple[int, Resource], int] = {}
        self._bars: dict[BarKind, Bars] = {}
        for stage in stages:
            self.row(stage.index, Resource.DEVICE)

    def row(self, stage: int, resource: Resource) -> int:
        """The row of a resource of a stage, in the order in which they were asked for."""
        return self._keys.setdefault((stage, resource), len(self._keys))

    def shows(self, span: Span) -> bool:
        """Whether there is a row for a span."""
        return self.lanes or span.resource is Resource.DEVICE

    def bars(self, kind: BarKind) -> Bars:
        """Those of one kind."""
        return self._bars.setdefault(kind, Bars())

    def add_spans(self, stage: StageRun, spans: Iterable[Span]) -> None:
        """What a stage does once a step."""
        for span in filter(self.shows, spans):
            kind = kind_of(span, once=True)
            hover = words.of_span(stage, span, span.start)
            self.bars(kind).add(self.row(stage.index, span.resource), span.start, span.duration, hover, text=span.name)

    def done(self) -> tuple[tuple[str, ...], dict[BarKind, Bars]]:
        """Labels of the rows, and the bars, with rows in the order of stages and of resources."""
        order = list(Resource)
        keys = sorted(self._keys, key=lambda key: (self._stages.index(key[0]), order.index(key[1])))
        place = {self._keys[key]: number for number, key in enumerate(keys)}
        for bars in self._bars.values():
            bars.rows = [place[row] for row in bars.rows]
        alone = len(self._stages) == 1
        labels = tuple(_label(stage, resource, lanes=self.lanes, alone=alone) for stage, resource in keys)
        return labels, self._bars


def _label(stage: int, resource: Resource, *, lanes: bool, alone: bool) -> str:
    """What stands beside a row."""
    if not lanes:
        return f"stage {stage + 1}"
    if alone:
        return resource.value
    return f"stage {stage + 1}" if resource is Resource.DEVICE else resource.value


def kind_of(span: Span, *, once: bool = False) -> BarKind:
    """What a span is drawn as; `once` says whether it happens once a step."""
    if span.waits:
        if span.part == "pipeline_bubble":
            return "idle"
        return "host" if span.part in _HOST_PARTS else "exposed communication"
    if span.resource is Resource.HOST:
        return "host"
    if span.resource is not Resource.DEVICE:
        return "communication"
    if once or span.phase is Phase.STEP:
        return "once a step"
    if span.phase is Phase.RECOMPUTE:
        return "recompute"
    return "forward" if span.phase is Phase.FORWARD else "backward"


def _of_task(span: Span, kind: PassKind) -> BarKind:
    """What a task of a pass is drawn as."""
    drawn = kind_of(span)
    return "weight gradients" if drawn == "backward" and kind is PassKind.WEIGHT_GRADIENTS else drawn


def _add_tasks(sheet: _Sheet, stage: StageRun, index: NDArray[np.int64], start: float, end: float) -> None:
    """Tasks of some passes, and what the passes receive."""
    order = stage.order
    for place in index.tolist():
        kind, chunk = PassKind(order.kinds[place]), int(order.chunks[place])
        micro_batch = int(order.micro_batches[place])
        begin = float(stage.start[place] + stage.received[place])
        if begin > start:
            _add_received(sheet, stage, place)
        for span in stage.passes[chunk, kind].piece.flat(begin):
            if span.end > start and span.start < end:
                row = sheet.row(stage.index, span.resource)
                hover = words.of_span(stage, span, span.start, micro_batch, chunk)
                bars = sheet.bars(_of_task(span, kind))
                bars.add(row, span.start, span.duration, hover, micro_batch=micro_batch, text=span.name)


def _add_passes(sheet: _Sheet, stage: StageRun, index: NDArray[np.int64], quantum: float) -> int:
    """Passes as wholes, and how many of them one bar stands for at most."""
    firsts = firsts_of(stage, index, quantum)
    lasts = np.append(firsts[1:], len(index))[: len(firsts)] - 1
    contents = {key: words.content(stage, *key) for key in stage.passes}
    links = {key: each.links if sheet.lanes else () for key, each in stage.passes.items()}
    row, order = sheet.row(stage.index, Resource.DEVICE), stage.order
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        place = int(index[first])
        begin = float(stage.start[place] + stage.received[place])
        _add_received(sheet, stage, place)
        if first < last:
            _add_several(sheet, stage, index[first : last + 1], begin, links)
            continue
        key = int(order.chunks[place]), PassKind(order.kinds[place])
        micro_batch = int(order.micro_batches[place])
        hover = words.of_pass(stage, key, micro_batch, begin) + contents[key]
        bars = sheet.bars(_OF_PASS[key[1]])
        bars.add(row, begin, float(stage.end[place]) - begin, hover, micro_batch=micro_batch, text=f"{micro_batch + 1}")
        for span in links[key]:
            moved = span.at(begin)
            hover = words.of_span(stage, moved, moved.start, micro_batch, key[0])
            where = sheet.row(stage.index, span.resource)
            sheet.bars("communication").add(where, moved.start, span.duration, hover, micro_batch=micro_batch)
    return int(np.max(lasts - firsts, initial=0)) + 1


def _add_several(
    sheet: _Sheet,
    stage: StageRun,
    index: NDArray[np.int64],
    begin: float,
    links: dict[tuple[int, PassKind], tuple[Span, ...]],
) -> None:
    """Passes as one bar; what the device waits for between them follows together, as does what links carry."""
    row, order = sheet.row(stage.index, Resource.DEVICE), stage.order
    kinds = {_OF_PASS[PassKind(kind)] for kind in np.unique(order.kinds[index])}
    kind: BarKind = kinds.pop() if len(kinds) == 1 else "several passes"
    received = float(np.sum(stage.received[index[1:]]))
    idle = float(np.sum(stage.gaps[index[1:]]))
    busy = float(stage.end[index[-1]]) - begin - received - idle
    hover = words.of_several(stage, index, begin, busy)
    sheet.bars(kind).add(row, begin, busy, hover, micro_batch=int(order.micro_batches[index[0]]))
    hover = words.told(stage, "between these passes", begin, received, "waits for transfers between stages")
    sheet.bars("exposed communication").add(row, begin + busy, received, hover)
    hover = words.told(stage, "between these passes", begin, idle, "idle")
    sheet.bars("idle").add(row, begin + busy + received, idle, hover)
    keys = zip(order.chunks[index].tolist(), order.kinds[index].tolist(), strict=True)
    counts = Counter((chunk, PassKind(kind)) for chunk, kind in keys)
    carried = sum(number * sum(span.duration for span in links[key]) for key, number in counts.items())
    if carried > 0.0:
        where = sheet.row(stage.index, Resource.DATA_LINKS)
        hover = words.told(stage, "transfers of these passes", begin, carried, "together")
        sheet.bars("communication").add(where, begin, carried, hover)


def _add_received(sheet: _Sheet, stage: StageRun, place: int) -> None:
    """What a pass receives before it begins."""
    seconds, begin = float(stage.received[place]), float(stage.start[place])
    if seconds <= sheet.least:
        return
    forward, micro_batch = stage.order.kinds[place] == PassKind.FORWARD, int(stage.order.micro_batches[place])
    name, phase = ("activations", Phase.FORWARD) if forward else ("gradients", Phase.BACKWARD)
    for resource, waits in ((Resource.PIPELINE_LINKS, False), (Resource.DEVICE, True)):
        what = f"{name} of stage {int(stage.waits_for[place]) + 1}"
        span = Span(resource, what, "pipeline_transfer", phase, begin, seconds, waits=waits)
        if sheet.shows(span):
            hover = words.of_span(stage, span, begin, micro_batch, int(stage.order.chunks[place]))
            row = sheet.row(stage.index, resource)
            sheet.bars(kind_of(span)).add(row, begin, seconds, hover, micro_batch=micro_batch, text=name)


def _add_idle(sheet: _Sheet, stage: StageRun, index: NDArray[np.int64], start: float) -> None:
    """Gaps before passes, with what the device waits for."""
    row, order = sheet.row(stage.index, Resource.DEVICE), stage.order
    gaps = stage.gaps[index]
    drawn = (gaps > SHORTEST) & (stage.start[index] > start)
    for place, gap in zip(index[drawn].tolist(), gaps[drawn].tolist(), strict=True):
        what = "activations" if order.kinds[place] == PassKind.FORWARD else "gradients"
        why = f"waits for {what} of micro-batch {int(order.micro_batches[place]) + 1}"
        if stage.waits_for[place] >= 0:
            why += f" from stage {int(stage.waits_for[place]) + 1}"
        begin = float(stage.start[place]) - gap
        sheet.bars("idle").add(row, begin, gap, words.told(stage, "idle", begin, gap, why), text="idle")


def _add_end(sheet: _Sheet, stage: StageRun, step_time: float, end: float) -> None:
    """The gap from the end of a stage to the end of the step."""
    gap = step_time - stage.finish
    if stage.finish < end:
        hover = words.told(stage, "idle", stage.finish, gap, "waits for stages that end later")
        sheet.bars("idle").add(sheet.row(stage.index, Resource.DEVICE), stage.finish, gap, hover, text="idle")
