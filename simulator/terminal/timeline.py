"""A timeline as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hardware import units
from simulator.answers.estimate import Estimate
from simulator.replay.summary import StageSummary, fill_of, picture, summaries
from simulator.replay.sums import slowest_of
from simulator.replay.timeline import Timeline
from simulator.terminal.estimate import plan_in_words
from simulator.work.tasks import Resource

_MOST_STAGES = 16
_MOST_TENSORS = 6
_STYLES = {"F": "cyan", "B": "blue", "I": "blue", "W": "magenta", "=": "green", "r": "yellow", ".": "dim"}
_LEGEND = "F forward, B backward, I gradients of inputs, W of weights, r receiving, = once a step, . idle"


def print_timeline(answer: Estimate, timeline: Timeline, *, title: str | None = None) -> None:
    """Print a timeline: how long, the picture of the pipeline, every stage, the slowest one's lanes, and the peak."""
    console = Console(highlight=False, markup=False, emoji=False)
    stages = summaries(timeline)
    slowest = stages[slowest_of([stage.sums for stage in stages])]
    fullest = max(stages, key=lambda stage: stage.held.peak.total)
    devices = units.plural(answer.devices, "device")
    console.print(Text(title or f"{answer.model} on {answer.system}, {devices}: one step", style="bold"))
    console.print(Text(plan_in_words(answer), style="dim"))
    parts: list[RenderableType] = [
        _head(timeline),
        _pictures(timeline, stages, console.width),
        _stages(timeline, stages),
        _parts(answer, timeline, slowest),
        _lanes(timeline, slowest),
        _peak(fullest),
    ]
    for part in parts:
        console.print(Padding(part, (1, 0, 0, 0)))


def _head(timeline: Timeline) -> Table:
    """The two times of the step, and what lies between them."""
    table = Table.grid(padding=(0, 2))
    rows = [
        (
            "Step time, replayed",
            units.duration(timeline.step_time),
            "every pass on its lane",
        ),
        ("By the formula", units.duration(timeline.closed_form), f"the replay takes {_signed(timeline.difference)}"),
    ]
    for name, value, detail in rows:
        table.add_row(Text(name, style="bold"), Text(value, style="cyan"), Text(detail, style="dim"))
    return table


def _signed(share: float) -> str:
    """How much longer or shorter, in words."""
    if abs(share) < 5e-5:
        return "as long"
    return f"{abs(share):.2%} {'longer' if share > 0 else 'less'}".replace("%", " %")


def _chosen(stages: Sequence[StageSummary]) -> list[StageSummary | None]:
    """Stages to show: all, or the first and the last ones with a gap between them."""
    if len(stages) <= _MOST_STAGES:
        return list(stages)
    half = _MOST_STAGES // 2
    return [*stages[:half], None, *stages[-half:]]


def _pictures(timeline: Timeline, stages: Sequence[StageSummary], width: int) -> Text:
    """A line of letters for each stage: the whole step, or where that is too fine how it begins and how it ends."""
    label = len(str(len(stages))) + 7
    wide, whole = max(width - label - 1, 20), timeline.step_time
    shown = 1.5 * fill_of(timeline)
    windows = [(0.0, shown), (whole - shown, whole)] if 3.0 * shown < whole else [(0.0, whole)]
    text = Text()
    for stage in _chosen(stages):
        if stage is None:
            text.append("...\n", style="dim")
            continue
        text.append(f"stage {stage.run.index + 1}".ljust(label))
        each = (wide - 3 * (len(windows) - 1)) // len(windows)
        for number, (start, end) in enumerate(windows):
            text.append(" ~ " if number else "", style="dim")
            for mark in picture(stage.run, start, end, each):
                text.append(mark, style=_STYLES.get(mark, ""))
        text.append("\n")
    if len(windows) > 1:
        text.append(f"the first and the last {units.duration(shown)}; ", style="dim")
    text.append(_LEGEND, style="dim")
    return text


def _stages(timeline: Timeline, stages: Sequence[StageSummary]) -> Table:
    """Each stage: what its device does, and the peak of its memory."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    for name in ("layers", "compute", "exposed", "host", "idle", "peak memory"):
        table.add_column(name, justify="right")
    for stage in _chosen(stages):
        if stage is None:
            table.add_row("...")
            continue
        times = [stage.compute, stage.exposed, stage.host, stage.idle]
        shares = [units.percent(seconds / timeline.step_time) for seconds in times]
        name = f"{stage.run.index + 1}"
        table.add_row(name, f"{stage.layers:g}", *shares, units.size(stage.held.peak.total))
    return table


def _parts(answer: Estimate, timeline: Timeline, slowest: StageSummary) -> Table:
    """The sums over the slowest stage's lanes beside the breakdown of the estimate."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"stage {slowest.run.index + 1}, by part")
    for name in ("replayed", "estimate", "difference"):
        table.add_column(name, justify="right")
    sums = slowest.sums.parts
    least = timeline.step_time * 5e-4
    for part in sorted(set(sums) | set(answer.breakdown_s), key=lambda part: -sums.get(part, 0.0)):
        replayed, estimated = sums.get(part, 0.0), answer.breakdown_s.get(part, 0.0)
        if max(replayed, estimated) < least:
            continue
        share = (replayed - estimated) / timeline.step_time
        words = "" if abs(share) < 5e-5 else f"{100 * share:+.2f} % of the step"
        table.add_row(part.replace("_", " "), units.duration(replayed), units.duration(estimated), words)
    return table


def _lanes(timeline: Timeline, slowest: StageSummary) -> Table:
    """How busy each resource of the slowest stage is."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"stage {slowest.run.index + 1}, by lane")
    for name in ("busy", "of the step"):
        table.add_column(name, justify="right")
    for resource in Resource:
        seconds = slowest.lane(resource)
        if seconds > 0.0:
            table.add_row(resource.value, units.duration(seconds), units.percent(seconds / timeline.step_time))
    return table


def _peak(fullest: StageSummary) -> Text:
    """When the fullest stage holds most, and what."""
    peak, capacity = fullest.held.peak, fullest.held.capacity
    flight = units.digits(peak.in_flight)
    text = Text()
    text.append(f"Peak memory: {units.size(peak.total)} of {units.size(capacity)} ", style="bold")
    text.append(
        f"on stage {fullest.run.index + 1} after {units.duration(peak.time)}, as the {peak.task} begins; "
        f"activations of {flight} micro-batches\n"
    )
    largest = [f"{name} {units.size(size)}" for name, size in peak.tensors[:_MOST_TENSORS]]
    text.append("  " + ", ".join(largest), style="dim")
    return text
