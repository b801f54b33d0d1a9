"""The figure of a timeline holds its events, its memory and what the window asks for."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import simulator
from hardware import units
from hardware.errors import InputError
from simulator import Timeline
from simulator.replay.drawing import palette
from simulator.replay.drawing.bars import Picture, kind_of, picture_of
from simulator.replay.drawing.lines import memory_lines
from simulator.replay.drawing.window import window_of, window_of_layer
from simulator.replay.events import Detail, events_of
from simulator.replay.figure import figure_of
from simulator.replay.held import held_over_time
from simulator.replay.spans import Span
from simulator.replay.sums import sums_of
from simulator.work.tasks import Phase, Resource

_UNITS = {" us": 1e-6, " ms": 1e-3, " s": 1.0, " min": 60.0}


@cache
def _timeline(schedule: str = "1f1b", stages: int = 4, micro_batches: int = 8) -> Timeline:
    """GPT-3 in a pipeline, small enough to draw all of it."""
    plan = {"pp": stages, "tp": 2, "dp": 1, "micro_batch": 1, "schedule": schedule}
    batch = {"global_batch": micro_batches}
    return simulator.timeline(
        simulator.resolve("gpt3-6.7b", "superpod-a100", devices=2 * stages, plan=plan, workload=batch)
    )


@cache
def _deep() -> Timeline:
    """A trillion parameters: 64 stages, 512 micro-batches."""
    plan = {"pp": 64, "tp": 8, "dp": 2, "micro_batch": 1, "schedule": "1f1b"}
    batch = {"global_batch": 1024}
    return simulator.timeline(
        simulator.resolve("megatron-1t", "superpod-a100", devices=1024, plan=plan, workload=batch)
    )


def _picture(timeline: Timeline, detail: Detail | None = None, **options: Any) -> Picture:
    window = {"start": 0.0, "end": timeline.step_time, **options}
    return picture_of(timeline, timeline.stages, detail=detail, **window)


def _seconds(axis: Any) -> float:
    return _UNITS[axis.ticksuffix]


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe", "zero-bubble"])
@pytest.mark.parametrize("detail", ["passes", "tasks"])
def test_bars_are_the_events(schedule: str, detail: Detail) -> None:
    timeline = _timeline(schedule)
    figure = figure_of(timeline, detail=detail, memory=False, most=100_000)
    unit = _seconds(figure.layout.xaxis)
    drawn = Counter(
        (round(float(start) * unit, 9), round(float(length) * unit, 9))
        for trace in figure.data
        for start, length in zip(trace.base, trace.x, strict=True)
    )
    events = [event for stage in timeline.stages for event in events_of(stage, detail=detail)]
    on_device = [event for event in events if detail == "tasks" or event.resource is Resource.DEVICE]
    wanted = Counter((round(event.start, 9), round(event.duration, 9)) for event in on_device if event.duration >= 1e-9)
    ends = Counter(
        (round(stage.finish, 9), round(timeline.step_time - stage.finish, 9))
        for stage in timeline.stages
        if timeline.step_time - stage.finish >= 1e-9
    )
    assert drawn == wanted + ends
    assert figure.layout.barmode == "overlay"


def test_rows_kinds_and_micro_batches_of_passes() -> None:
    timeline = _timeline()
    picture = _picture(timeline, "passes")
    assert picture.labels == ("stage 1", "stage 2", "stage 3", "stage 4")
    forward = picture.bars["forward"]
    for row, stage in enumerate(timeline.stages):
        mine = [place for place, each in enumerate(forward.rows) if each == row]
        kept = stage.order.kinds == 0
        assert [forward.start[place] for place in mine] == (stage.start + stage.received)[kept].tolist()
        assert [forward.micro_batches[place] for place in mine] == stage.order.micro_batches[kept].tolist()
        assert [forward.text[place] for place in mine] == [f"{number + 1}" for number in range(8)]
    idle = picture.bars["idle"]
    of_first = [seconds for row, seconds in zip(idle.rows, idle.duration, strict=True) if row == 0]
    assert sum(of_first) == pytest.approx(sums_of(timeline, timeline.stages[0]).idle, rel=1e-6)
    assert any("waits for gradients of micro-batch 1 from stage 2" in hover for hover in idle.hover)


def test_colours_take_turns_by_micro_batch() -> None:
    figure = _timeline().figure(detail="passes", memory=False)
    traces = {trace.name: trace for trace in figure.data}
    assert list(traces["forward"].marker.color[:4]) == [*palette.FORWARD, palette.FORWARD[0]]
    assert traces["backward"].marker.color[0] == palette.BACKWARD[0]
    assert traces["pipeline idle"].marker.color == palette.IDLE
    assert traces["pipeline idle"].marker.pattern.shape == "/"
    zero = _timeline("zero-bubble").figure(detail="passes", memory=False)
    assert palette.WEIGHTS[0] in set({trace.name: trace for trace in zero.data}["weight gradients"].marker.color)


@pytest.mark.parametrize(
    ("span", "kind"),
    [
        (Span(Resource.DEVICE, "a product", "feed_forward", Phase.FORWARD, 0.0, 1.0), "forward"),
        (Span(Resource.DEVICE, "a product", "feed_forward", Phase.RECOMPUTE, 0.0, 1.0), "recompute"),
        (Span(Resource.DEVICE, "optimizer", "optimizer", Phase.STEP, 0.0, 1.0), "once a step"),
        (Span(Resource.TENSOR_LINKS, "sum", "tensor_parallel", Phase.FORWARD, 0.0, 1.0), "communication"),
        (Span(Resource.DEVICE, "s", "tensor_parallel", Phase.FORWARD, 0.0, 1.0, waits=True), "exposed communication"),
        (Span(Resource.DEVICE, "s", "pipeline_bubble", Phase.STEP, 0.0, 1.0, waits=True), "idle"),
        (Span(Resource.DEVICE, "launches", "host", Phase.FORWARD, 0.0, 1.0, waits=True), "host"),
    ],
)
def test_what_a_span_is_drawn_as(span: Span, kind: str) -> None:
    assert kind_of(span) == kind


def test_words_say_size_rate_and_place() -> None:
    timeline = _timeline()
    start, end = window_of_layer(timeline, 1, 3)
    picture = picture_of(timeline, timeline.stages[1:2], start=start, end=end)
    hovers = [hover for bars in picture.bars.values() for hover in bars.hover]
    product = next(hover for hover in hovers if "feed-forward input" in hover and "layer 4" in hover)
    event = next(
        event
        for event in events_of(timeline.stages[1], start=start, end=end)
        if event.name == "feed-forward input" and event.place == "layer 4"
    )
    # 2 x 2,048 tokens x 4,096 x 16,384 over 2 ranks
    assert event.size == 2 * 2048 * 4096 * 16384 / 2
    assert "stage 2, micro-batch 1, layer 4" in product
    assert "137 GFLOP at" in product
    assert any(hover.startswith("<b>the device waits</b>") for hover in hovers)


def test_a_single_stage_has_a_lane_for_each_resource() -> None:
    timeline = _timeline()
    picture = picture_of(timeline, timeline.stages[1:2], start=0.0, end=timeline.step_time, detail="tasks")
    used = {event.resource for event in events_of(timeline.stages[1])}
    assert picture.labels == tuple(resource.value for resource in Resource if resource in used)
    several = _picture(timeline, "tasks")
    assert [label for label in several.labels if label.startswith("stage")] == [f"stage {n}" for n in range(1, 5)]


def test_overlapped_buckets_of_data_parallel_gradients_are_seen() -> None:
    timeline = simulator.timeline(simulator.resolve("bert-large", "dgx-a100-640gb"))
    picture = _picture(timeline)
    assert picture.labels == ("device", "data links", "host")
    links = picture.bars["communication"]
    buckets = [start for start, row in zip(links.start, links.rows, strict=True) if row == 1]
    assert len(buckets) > 10
    over = float(timeline.stages[0].end[-1])
    assert sum(start < over for start in buckets) > 0.9 * len(buckets)


def test_many_passes_become_few_bars_that_cover_the_same_time() -> None:
    timeline = _deep()
    picture = _picture(timeline)
    number = sum(len(bars.rows) for bars in picture.bars.values())
    assert number < 7000
    assert picture.most_merged > 1
    assert picture.note == f"up to {picture.most_merged} neighbouring passes are one bar, with their waits behind it"
    for row, stage in enumerate(timeline.stages[:3]):
        bars = sorted(
            (start, start + seconds)
            for each in picture.bars.values()
            for start, seconds, where in zip(each.start, each.duration, each.rows, strict=True)
            if where == row
        )
        assert all(after >= before - 1e-6 for (_, before), (after, _) in pairwise(bars))
        idle = picture.bars["idle"]
        drawn = sum(seconds for where, seconds in zip(idle.rows, idle.duration, strict=True) if where == row)
        assert drawn == pytest.approx(sums_of(timeline, stage).idle, rel=1e-6)
    assert timeline.figure().layout.title.subtitle.text.endswith(picture.note)


def test_transfers_too_short_to_be_seen_go_first() -> None:
    timeline = _timeline()
    full = _picture(timeline, "passes")
    number = sum(len(bars.rows) for bars in full.bars.values())
    assert (full.note, full.shortest) == ("", 0.0)
    picture = _picture(timeline, "passes", most=number - 20)
    assert picture.most_merged == 1
    assert picture.note == f"transfers between stages below {units.duration(timeline.step_time / 4000)} are left out"
    assert timeline.stages[1].received.max() < timeline.step_time / 4000
    assert any("for activations of stage" in hover for hover in full.bars["exposed communication"].hover)
    assert not any("for activations of stage" in hover for hover in picture.bars["exposed communication"].hover)
    assert picture.bars["forward"] == full.bars["forward"]


def test_tasks_beyond_the_most_are_drawn_as_passes() -> None:
    timeline = _timeline()
    picture = _picture(timeline, "tasks", most=4_000)
    assert 0 < picture.whole_passes < sum(len(stage.order) for stage in timeline.stages)
    assert picture.note == f"{picture.whole_passes} passes are drawn without their tasks"


def test_memory_is_what_is_held() -> None:
    timeline = _timeline()
    figure = timeline.figure()
    for number, stage in enumerate(timeline.stages):
        held = held_over_time(timeline, stage)
        trace = next(trace for trace in figure.data if trace.name == f"held on stage {number + 1}")
        assert np.allclose(np.array(trace.y) * 2.0**30, held.total)
        assert np.allclose(np.array(trace.x) * _seconds(figure.layout.xaxis), held.times)
    capacity = next(trace for trace in figure.data if trace.name == "device memory")
    assert set(capacity.y) == {held.capacity / 2.0**30}
    first = held_over_time(timeline, timeline.stages[0]).peak
    assert first.task == "backward pass of micro-batch 1"
    (note,) = figure.layout.annotations
    assert note.text == f"peak {units.size(first.total)} on stage 1:<br>{first.task}"


def test_lines_of_few_points_keep_the_peak() -> None:
    timeline = _deep()
    lines = memory_lines(timeline, timeline.stages, start=0.0, end=timeline.step_time)
    assert [line.held.stage for line in lines] == [0, 32, 63]
    long = simulator.timeline(
        simulator.resolve(
            "gpt3-6.7b", "superpod-a100", devices=8, plan={"pp": 4, "micro_batch": 1}, workload={"global_batch": 4096}
        )
    )
    (line,) = memory_lines(long, long.stages[:1], start=0.0, end=long.step_time)
    assert len(line.held.times) > len(line.times)
    assert len(line.times) <= 1300
    assert line.total.max() == line.held.total.max()


def test_a_window_is_what_the_axis_shows() -> None:
    timeline = _timeline()
    start, end = window_of(timeline, (2, 3))
    figure = timeline.figure(start=start, end=end)
    unit = _seconds(figure.layout.xaxis)
    assert [limit * unit for limit in figure.layout.xaxis.range] == pytest.approx([start, end])
    for stage in timeline.stages:
        of = np.isin(stage.order.micro_batches, (2, 3))
        assert start <= stage.start[of].min()
        assert end >= stage.end[of].max()
    inside = [event for stage in timeline.stages for event in events_of(stage, start=start, end=end)]
    layer, until = window_of_layer(timeline, 0, 2, backward=True)
    assert start < layer < until < max(event.end for event in inside)


def test_layers_are_counted_over_chunks() -> None:
    plan = {"pp": 4, "micro_batch": 1, "schedule": "interleaved", "virtual_stages": 2}
    timeline = simulator.timeline(
        simulator.resolve("gpt3-6.7b", "superpod-a100", devices=8, plan=plan, workload={"global_batch": 8})
    )
    stage = timeline.stages[1]
    second = int(np.flatnonzero((stage.order.chunks == 1) & (stage.order.kinds == 0))[0])
    start, end = window_of_layer(timeline, 1, 4)
    assert stage.start[second] <= start + 1e-3 < end <= stage.end[second]
    assert window_of_layer(timeline, 1, 3)[1] <= stage.end[second - 1]


def test_two_timelines_share_an_axis() -> None:
    one, other = _timeline(), _timeline("gpipe")
    figure = one.figure(detail="passes", other=other, memory=False)
    assert figure.layout.xaxis2.matches == "x" or figure.layout.xaxis.matches == "x2"
    unit = _seconds(figure.layout.xaxis)
    forward = [trace for trace in figure.data if trace.name == "forward"]
    assert [trace.yaxis for trace in forward] == ["y", "y2"]
    assert [trace.showlegend for trace in forward] == [True, False]
    assert max(forward[1].base) * unit == pytest.approx(
        max(stage.start[stage.order.kinds == 0].max() for stage in other.stages), rel=0.01
    )
    assert figure.layout.xaxis.range[1] * unit == pytest.approx(max(one.step_time, other.step_time))


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: _timeline().figure(stages=[4]), "stages=4: the pipeline has 4 stages; give numbers from 0 to 3"),
        (lambda: _timeline().figure(stages=[]), "stages=none: the pipeline has 4 stages"),
        (lambda: _timeline().figure(start=9.0, end=1.0), "end=1: the window starts at 9 s; give a later end"),
        (lambda: window_of(_timeline(), (7, 8)), "micro_batches=8-9: the step has 8, give numbers from 1 to 8"),
        (lambda: window_of_layer(_timeline(), 0, 8), "layer=9: stage 1 has 8 layers, give a number from 1 to 8"),
    ],
)
def test_what_is_not_there_is_a_sentence(draw: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw()


def test_without_plotly_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.subplots", None)
    with pytest.raises(InputError, match=r"plotly, which is not installed; pip install 'capsim\[dashboard\]'"):
        _timeline().figure()
