"""Activities of a stage in absolute time: what a window shows, and what a device waits for."""

from __future__ import annotations

from itertools import pairwise

import pytest

import simulator
from simulator.replay.events import events_of
from simulator.replay.sums import sums_of
from simulator.replay.timeline import Timeline, timeline
from simulator.work.tasks import Resource
from tests.stacks import unrestricted


@pytest.fixture(scope="module")
def step() -> Timeline:
    plan = {"pp": 4, "micro_batch": 1, "sharding": "zero1"}
    stack, work = unrestricted("megatron-lm"), {"global_batch": 32}
    return timeline(simulator.resolve("gpt3-6.7b", "dgx-a100-640gb", devices=8, stack=stack, plan=plan, workload=work))


def test_the_device_is_accounted_for(step: Timeline) -> None:
    """Compute, waits and gaps follow one another, and with the end of the step they are all of it."""
    for stage in step.stages:
        own = sorted(
            (event for event in events_of(stage) if event.resource is Resource.DEVICE), key=lambda event: event.start
        )
        assert sum(event.duration for event in own) == pytest.approx(stage.finish, rel=1e-9)
        for one, other in pairwise(own):
            assert other.start == pytest.approx(one.end, abs=1e-9)
        compute = sum(event.duration for event in own if event.kind == "compute")
        sums = sums_of(step, stage)
        device = sum(seconds for (resource, _), seconds in sums.busy.items() if resource is Resource.DEVICE)
        assert compute == pytest.approx(device, rel=1e-9)


def test_passes_and_tasks_cover_the_same(step: Timeline) -> None:
    """A pass is as long as what is in it, from the same moment on."""
    stage = step.stages[1]
    passes = [event for event in events_of(stage, detail="passes") if event.kind == "compute" and not event.part]
    assert len(passes) == len(stage.order)
    for event, end in zip(passes, stage.end.tolist(), strict=True):
        assert event.end == pytest.approx(end, rel=1e-12)
    assert [event.name for event in passes[:4]] == ["forward 1", "forward 2", "forward 3", "backward 1"]


def test_idle_time_says_for_whom(step: Timeline) -> None:
    """The second stage waits for its first activations, and before the first backward pass for gradients."""
    idle = [event for event in events_of(step.stages[1]) if event.kind == "idle"]
    assert idle[0].why == "waits for activations of micro-batch 1 from stage 1"
    back = next(event for event in idle if "gradients" in event.why)
    assert back.why == "waits for gradients of micro-batch 1 from stage 3"
    assert back.end == pytest.approx(step.stages[1].start[3])
    assert {event.part for event in idle} == {"pipeline_bubble"}


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.1), (0.2, 0.4), (0.0, 1e9)])
def test_a_window_shows_what_touches_it(step: Timeline, start: float, end: float) -> None:
    """All of the passes and of what happens once a step that lie in it, and nothing that is over or has not begun."""
    stage = step.stages[0]
    every, shown = list(events_of(stage)), list(events_of(stage, start=start, end=end))
    inside = [event for event in every if event.start >= start and event.end <= end and event.duration > 0.0]
    assert set(inside) <= set(shown)
    longest = max(event.duration for event in events_of(stage, detail="passes"))
    assert all(event.end > start - longest and event.start < end + longest for event in shown)
    once = [event for event in shown if event.phase == "step"]
    assert all(event.end > start and event.start < end for event in once)
    assert len(shown) == len(every) or end < step.step_time
