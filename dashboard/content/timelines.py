"""What the Timeline page shows: a step, replayed, the part of it that is looked at, and its lanes in numbers; pure."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import simulator
from dashboard.choices.scenario import BEST, arguments, fields, has_upload
from dashboard.choices.state import Choices, Field, Value
from dashboard.content import comparing, exports
from dashboard.content.answers import Answer, Kept, answer
from dashboard.content.glossary import words
from dashboard.content.searching import sent
from hardware import units
from hardware.errors import InputError, shown
from simulator import Timeline
from simulator.answers.limits import by_kind
from simulator.replay.drawing.lines import memory_lines
from simulator.replay.drawing.window import window_of, window_of_layer
from simulator.replay.events import Detail
from simulator.replay.held import MemoryPeak
from simulator.replay.sums import LaneSums, slowest_of, sums_of
from simulator.replay.trace import trace_of

STEP, SOME, LAYER = "whole step", "micro-batches", "one layer"
ZOOM, STAGES, MICRO_BATCHES, WHICH_LAYER, PASS, DETAIL, MEMORY, OTHER = (
    f"timeline_{name}"
    for name in ("zoom", "stages", "micro_batches", "layer", "pass", "detail", "memory", "other")
)  # fmt: skip
_AS_FITS = "as fits"
FIELDS = (
    Field(ZOOM, "Zoom", "choice", (STEP, SOME, LAYER), default=STEP),
    Field(STAGES, "Stages", "text", example="1-4 or 1,8"),
    Field(MICRO_BATCHES, "Micro-batches", "text", example="1-2"),
    Field(WHICH_LAYER, "Layer of the stage", "whole", default=1),
    Field(PASS, "Pass", "choice", ("forward", "backward"), default="forward"),
    Field(DETAIL, "Detail", "choice", (_AS_FITS, "passes", "tasks"), default=_AS_FITS),
    Field(MEMORY, "Memory", "flag", default=True),
    Field(OTHER, "Second plan", "text", longest=comparing.LONGEST, example="model.bert-base"),
)
BY_NAME = {field.name: field for field in FIELDS}
_OF_ZOOM = {
    STEP: (ZOOM, STAGES, DETAIL, MEMORY),
    SOME: (ZOOM, STAGES, MICRO_BATCHES, DETAIL, MEMORY),
    LAYER: (ZOOM, STAGES, MICRO_BATCHES, WHICH_LAYER, PASS, MEMORY),
}
_PLACES = {"micro_batches": MICRO_BATCHES, "layer": WHICH_LAYER}
"""Fields by what the API calls them."""
_LEAST = 5e-7
"""Times below it are not told [s]."""
_RANGE = re.compile(r"^(\d{1,6})(?:-(\d{1,6}))?$")
_TIMELINES: Kept[Timeline] = Kept(32)
_SUMS: Kept[tuple[LaneSums, ...]] = Kept(32)
_PEAKS: Kept[tuple[int, MemoryPeak]] = Kept(32)


@dataclass(frozen=True)
class LookedAt:
    """The part of a step that is drawn."""

    stages: tuple[int, ...] | None
    """From 0; all of them where it says nothing."""
    start: float
    end: float
    """Of the window [s]."""
    detail: Detail | None
    memory: bool


def shown_fields(choices: Choices) -> list[Field]:
    """The fields that mean something for the zoom that is chosen."""
    return [BY_NAME[name] for name in _OF_ZOOM[choices.text(ZOOM)]]


def replayed(choices: Choices, asked: Answer) -> Timeline:
    """One step of a scenario on every stage."""
    return _TIMELINES.get(choices.only(fields()), lambda: simulator.timeline(asked.scenario))


def looked_at(choices: Choices, timeline: Timeline, until: float) -> LookedAt:
    """What the zoom that is chosen shows of a timeline.

    Parameters
    ----------
    choices
        Of the page.
    timeline
        Of a step.
    until
        Where the whole step ends on the axis [s].

    Raises
    ------
    InputError
        Where the step does not have a stage, micro-batch or layer; its fields are those of the page.
    """
    number, zoom = len(timeline.stages), choices.text(ZOOM)
    told = choices[STAGES]
    stages = None if told is None else tuple(_numbers(STAGES, str(told), number, "the pipeline has", "stage"))
    most = 1 + max(int(stage.order.micro_batches.max()) for stage in timeline.stages)
    micro = _numbers(MICRO_BATCHES, str(choices[MICRO_BATCHES] or "1"), most, "the step has", "micro-batch")
    detail: Detail | None = {"passes": "passes", "tasks": "tasks"}.get(choices.text(DETAIL))  # type: ignore[assignment]
    memory = bool(choices[MEMORY])
    if zoom == STEP:
        return LookedAt(stages, 0.0, until, detail, memory)
    if zoom == SOME:
        return LookedAt(stages, *window_of(timeline, (micro[0], micro[-1]), stages), detail, memory)
    stage = (stages or (0,))[0]
    backward, layer = choices[PASS] == "backward", choices.whole(WHICH_LAYER) - 1
    try:
        window = window_of_layer(timeline, stage, layer, micro_batch=micro[0], backward=backward)
    except InputError as error:
        raise InputError(str(error), fields=[_PLACES.get(name, name) for name in error.fields]) from None
    return LookedAt((stage,), *window, "tasks", memory)


def _numbers(name: str, text: str, most: int, has: str, noun: str) -> list[int]:
    """Numbers from 0 of a text such as ``1-4,8``, in their order."""
    chosen: set[int] = set()
    for part in text.split(","):
        match = _RANGE.match(part.strip())
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= low <= high <= most:
            known = units.plural(most, noun, "micro-batches" if noun == "micro-batch" else "")
            valid = f"write numbers from 1 to {most}, such as 1-{min(most, 4)}" if most > 1 else "write 1"
            sentence = f"{name}={shown(text)}: {has} {known}; {valid}"
            raise InputError(sentence, fields=(name,))
        chosen.update(range(low - 1, high))
    return sorted(chosen)


def kept_text(choices: Choices) -> str | None:
    """A scenario as the text that a link keeps of it, where it can be kept."""
    if has_upload(choices):
        return None
    text = comparing.to_text([choices.only(fields())])
    return text if len(text) <= comparing.LONGEST else None


def other_of(choices: Choices) -> tuple[Choices | None, list[str]]:
    """The scenario that is kept beside, and what was wrong with it in the link."""
    text = choices[OTHER]
    if text is None:
        return None, []
    rows, problems = comparing.from_text(str(text))
    return rows[0], [problem.replace("Scenario 1", "Second plan") for problem in problems]


def other_timeline(other: Choices) -> Timeline:
    """One step of the scenario that is kept beside."""
    return replayed(other, answer(other))


def labels(choices: Choices, other: Choices) -> list[str]:
    """What tells the two scenarios from each other."""
    known = [label.partition(" ")[2] for label in comparing.labels([choices.only(fields()), other])]
    return ["as chosen" if label == choices.text("system") == other.text("system") else label for label in known]


def sums(choices: Choices, timeline: Timeline) -> tuple[LaneSums, ...]:
    """Times of the lanes of every stage."""
    question = choices.only(fields())
    return _SUMS.get(question, lambda: tuple(sums_of(timeline, stage) for stage in timeline.stages))


def peak(choices: Choices, timeline: Timeline) -> tuple[int, MemoryPeak]:
    """The fullest stage, from 0, and its peak."""

    def compute() -> tuple[int, MemoryPeak]:
        lines = memory_lines(timeline, timeline.stages, start=0.0, end=timeline.step_time)
        held = max((line.held for line in lines), key=lambda each: each.peak.total)
        return held.stage, held.peak

    return _PEAKS.get(choices.only(fields()), compute)


def busiest(lanes: tuple[LaneSums, ...]) -> int:
    """The slowest stage, from 0, whose time the estimate breaks down."""
    return slowest_of(lanes)


def shares(lanes: LaneSums, step_time: float) -> dict[str, float]:
    """Shares of the step by kind of work [1]."""
    return {kind: sum(parts.values()) / step_time for kind, parts in by_kind(lanes.parts).items()}


def rows(lanes: LaneSums, estimate: simulator.Estimate) -> list[dict[str, str]]:
    """What the device of a stage does in a step, beside the breakdown of the estimate."""
    ours, theirs = lanes.parts, estimate.breakdown_s
    pairs = {name: (ours.get(name, 0.0), theirs.get(name, 0.0)) for name in (*ours, *theirs)}
    listed = sorted(pairs.items(), key=lambda each: -max(each[1]))
    table = [_row(words(name), *times) for name, times in listed if max(times) >= _LEAST]
    return [*table, _row("step", sum(ours.values()), sum(theirs.values()))]


def _row(name: str, ours: float, theirs: float) -> dict[str, str]:
    """One part of a step in both."""
    difference = ours - theirs
    sign = "+" if difference > 0 else "-"
    return {
        "part": name,
        "replayed": units.duration(ours) if ours >= _LEAST else "-",
        "estimate": units.duration(theirs) if theirs >= _LEAST else "-",
        "difference": f"{sign}{units.duration(abs(difference))}" if abs(difference) >= _LEAST else "0",
    }


def agreement(timeline: Timeline) -> str:
    """How the replay compares with the formula, in a sentence."""
    ours, theirs = units.duration(timeline.step_time), units.duration(timeline.closed_form)
    size = abs(timeline.difference)
    if size < 5e-5:
        return f"Replayed, the step takes {ours}, as the closed formula of estimates and searches says."
    compared = f"{100.0 * size:.2f} % {'longer' if timeline.difference > 0 else 'shorter'}"
    formula = f"the closed formula of estimates and searches says ({theirs})"
    return f"Replayed, the step takes {ours}, {compared} than {formula}."


def trace_file(timeline: Timeline) -> bytes:
    """The step as a compressed trace that Perfetto opens."""
    return gzip.compress(json.dumps(trace_of(timeline), separators=(",", ":")).encode(), mtime=0)


def _planned(choices: Choices, asked: Answer) -> Choices:
    """The scenario with the plan that was searched for, where one was."""
    if not choices[BEST]:
        return choices
    values: Mapping[str, Value | None] = {"stack": asked.estimate.stack, **sent(asked.estimate.plan)}
    return choices.change({**values, BEST: False})


def as_python(choices: Choices, asked: Answer, view: LookedAt) -> str:
    """A program that draws the same."""
    keywords: dict[str, Any] = {}
    if view.stages is not None:
        keywords["stages"] = list(view.stages)
    if choices[ZOOM] != STEP:
        keywords |= {"start": view.start, "end": view.end}
    if view.detail is not None:
        keywords["detail"] = view.detail
    if not view.memory:
        keywords["memory"] = False
    call = exports.as_call("simulator.estimate", arguments(_planned(choices, asked)))
    lines = [f"answer = {call}", "timeline = answer.timeline()"]
    other, _ = other_of(choices)
    figure = exports.as_call("timeline.figure", keywords)
    if other is not None:
        call = exports.as_call("simulator.estimate", arguments(_planned(other, answer(other))))
        lines.append(f"other = {call}.timeline()")
        figure = f"{figure[:-1]}{', ' if keywords else ''}other=other)"
    return exports.as_program(*lines, "print(timeline.step_time, timeline.closed_form)", f"{figure}.show()")


def as_command(choices: Choices, asked: Answer) -> str:
    """The command that prints the same and writes the trace."""
    return f"capsim timeline {exports.scenario_words(_planned(choices, asked))} -o trace.json.gz"
