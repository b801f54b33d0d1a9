"""What a picture of a step consists of: bars on rows, as arrays, few enough to be drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hardware import units
from simulator.replay.drawing import words
from simulator.replay.events import Detail
from simulator.replay.orders import PassKind
from simulator.replay.spans import Piece, Span
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
_SHORTEST = 1e-9
"""Nothing shorter is drawn [s]."""
_SHORT = 0.25
"""Of the width over which passes become one bar: shorter gaps between them follow it together."""


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
        if duration < _SHORTEST:
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

    @property
    def note(self) -> str:
        """What was left out of it, in words."""
        if self.most_merged > 1:
            return f"up to {self.most_merged:,} neighbouring passes are drawn as one bar"
        if self.whole_passes:
            return f"{units.plural(self.whole_passes, 'pass', 'passes')} are drawn without their tasks"
        return ""


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
    tasks = sum(_tasks_in(stage, start, end) for stage in stages)
    fine = detail or ("tasks" if tasks <= most else "passes")
    sheet = _Sheet(stages, lanes=fine == "tasks" or len(stages) == 1)
    merged, whole = 1, 0
    quantum = 0.0 if fine == "tasks" else _quantum(stages, start, end, most)
    share = most // max(len(stages), 1)
    for stage in stages:
        index = _within(stage, start, end)
        once = stage.before.flat(), *(piece.flat(begin) for begin, piece in stage.after)
        for spans in once:
            sheet.add_spans(stage, (span for span in spans if span.end > start and span.start < end))
        number = _affordable(stage, index, share) if fine == "tasks" else 0
        _add_tasks(sheet, stage, index[:number], start, end)
        merged = max(merged, _add_passes(sheet, stage, index[number:], quantum))
        _add_idle(sheet, stage, index[_firsts(stage, index, quantum)], start)
        _add_end(sheet, stage, timeline.step_time, end)
        whole += len(index) - number if fine == "tasks" else 0
    return Picture(*sheet.done(), fine, merged, whole)


def _within(stage: StageRun, start: float, end: float) -> NDArray[np.int64]:
    """Passes of a stage that touch a window of time."""
    chosen: NDArray[np.int64] = np.flatnonzero((stage.end > start) & (stage.start < end))
    return chosen


def _sizes(stage: StageRun) -> NDArray[np.int64]:
    """Spans of each pass of a stage, by chunk and kind."""
    table = np.zeros((len(stage.held), len(PassKind)), dtype=np.int64)
    for (chunk, kind), each in stage.passes.items():
        table[chunk, kind] = _spans_in(each.piece)
    return table


def _spans_in(piece: Piece) -> int:
    """How many spans a piece has."""
    return len(piece.spans) + sum(_spans_in(each) for _, _, each in piece.inner)


def _tasks_in(stage: StageRun, start: float, end: float) -> int:
    """How many bars a stage's tasks in a window of time are."""
    index = _within(stage, start, end)
    whole = _sizes(stage)[stage.order.chunks[index], stage.order.kinds[index]]
    if len(index) > 2:  # all but the first and the last are in it as wholes
        return int(whole.sum())
    duration = np.maximum(stage.end[index] - stage.start[index], 1e-30)
    inside = np.minimum(stage.end[index], end) - np.maximum(stage.start[index], start)
    return int(np.sum(whole * np.clip(inside / duration, 0.0, 1.0)))


def _affordable(stage: StageRun, index: NDArray[np.int64], most: int) -> int:
    """How many of some passes can be drawn with all their tasks; one at least."""
    whole = np.cumsum(_sizes(stage)[stage.order.chunks[index], stage.order.kinds[index]])
    return max(int(np.searchsorted(whole, most, side="right")), min(len(index), 2))


def _quantum(stages: Sequence[StageRun], start: float, end: float, most: int) -> float:
    """The least width over which passes become one bar so that all bars are few enough [s]; 0 where they are anyway."""
    parts = [(stage, _within(stage, start, end)) for stage in stages]
    quantum = 0.0
    while sum(_bars_with(stage, index, quantum) for stage, index in parts) > most:
        quantum = quantum * 1.5 or (end - start) / 4096.0
    return quantum


def _bars_with(stage: StageRun, index: NDArray[np.int64], quantum: float) -> int:
    """How many bars some passes become, with what they receive and the gaps before them."""
    firsts = _firsts(stage, index, quantum)
    gaps = np.count_nonzero(_gaps(stage, index[firsts]) > _SHORTEST)
    received = np.count_nonzero(stage.received[index[firsts]] > 0.0)
    return len(firsts) * (3 if len(firsts) < len(index) else 1) + int(gaps + received)


def _gaps(stage: StageRun, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Idle time before each of some passes [s]."""
    since = np.concatenate([[stage.before.duration], stage.end[:-1]])
    gaps: NDArray[np.float64] = (stage.start - since)[index]
    return gaps


def _firsts(stage: StageRun, index: NDArray[np.int64], quantum: float) -> NDArray[np.int64]:
    """Places of the passes with which a bar begins."""
    if quantum <= 0.0 or len(index) == 0:
        return np.arange(len(index))
    begin = stage.start[index] + stage.received[index]
    bucket = np.floor(begin / quantum)
    apart = begin[1:] - stage.end[index[:-1]] > quantum * _SHORT
    return np.concatenate([[0], 1 + np.flatnonzero((bucket[1:] != bucket[:-1]) | apart)])


class _Sheet:
    """Bars as they are added."""

    def __init__(self, stages: Sequence[StageRun], *, lanes: bool) -> None:
        self.lanes = lanes
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
    firsts = _firsts(stage, index, quantum)
    lasts = np.append(firsts[1:], len(index))[: len(firsts)] - 1
    contents = {key: words.content(stage, *key) for key in stage.passes}
    row, order = sheet.row(stage.index, Resource.DEVICE), stage.order
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        place = int(index[first])
        begin = float(stage.start[place] + stage.received[place])
        _add_received(sheet, stage, place)
        if first < last:
            _add_several(sheet, stage, index[first : last + 1], begin)
            continue
        key = int(order.chunks[place]), PassKind(order.kinds[place])
        micro_batch = int(order.micro_batches[place])
        hover = words.of_pass(stage, key, micro_batch, begin) + contents[key]
        bars = sheet.bars(_OF_PASS[key[1]])
        bars.add(row, begin, float(stage.end[place]) - begin, hover, micro_batch=micro_batch, text=f"{micro_batch + 1}")
        if sheet.lanes:
            _add_links(sheet, stage, key, micro_batch, begin)
    return int(np.max(lasts - firsts, initial=0)) + 1


def _add_several(sheet: _Sheet, stage: StageRun, index: NDArray[np.int64], begin: float) -> None:
    """Passes as one bar; what the device waits for between them follows together."""
    row, order = sheet.row(stage.index, Resource.DEVICE), stage.order
    kinds = {_OF_PASS[PassKind(kind)] for kind in np.unique(order.kinds[index])}
    kind: BarKind = kinds.pop() if len(kinds) == 1 else "several passes"
    received = float(np.sum(stage.received[index[1:]]))
    idle = float(np.sum(_gaps(stage, index[1:])))
    busy = float(stage.end[index[-1]]) - begin - received - idle
    hover = words.of_several(stage, index, begin, busy)
    sheet.bars(kind).add(row, begin, busy, hover, micro_batch=int(order.micro_batches[index[0]]))
    hover = words.told(stage, "between these passes", begin, received, "waits for transfers between stages")
    sheet.bars("exposed communication").add(row, begin + busy, received, hover)
    hover = words.told(stage, "between these passes", begin, idle, "idle")
    sheet.bars("idle").add(row, begin + busy + received, idle, hover)


def _add_links(sheet: _Sheet, stage: StageRun, key: tuple[int, PassKind], micro_batch: int, begin: float) -> None:
    """Links between replicas in a pass, which outlast single layers."""
    for span in stage.passes[key].piece.flat(begin):
        if span.resource is Resource.DATA_LINKS:
            hover = words.of_span(stage, span, span.start, micro_batch, key[0])
            row = sheet.row(stage.index, span.resource)
            sheet.bars("communication").add(row, span.start, span.duration, hover, micro_batch=micro_batch)


def _add_received(sheet: _Sheet, stage: StageRun, place: int) -> None:
    """What a pass receives before it begins."""
    seconds, begin = float(stage.received[place]), float(stage.start[place])
    if seconds <= 0.0:
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
    gaps = _gaps(stage, index)
    drawn = (gaps > _SHORTEST) & (stage.start[index] > start)
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
