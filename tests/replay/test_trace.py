"""Traces keep to the Trace Event Format: what viewers ask of each kind of event."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simulator
from hardware.errors import InputError
from simulator.replay.timeline import Timeline, timeline
from simulator.replay.trace import trace_of, write_trace
from simulator.work.tasks import Resource
from tests.stacks import unrestricted

Event = dict[str, Any]
PLANS: dict[str, dict[str, Any]] = {
    "1f1b": {"pp": 4, "tp": 2, "sharding": "zero1", "sequence_parallel": True},
    "zero bubble": {"pp": 4, "schedule": "zero-bubble"},
    "interleaved": {"pp": 4, "virtual_stages": 2, "recompute": "full"},
    "fully sharded": {"sharding": "zero3"},
}
_ROUNDING = 1e-3
"""Of times in microseconds: a nanosecond."""


@pytest.fixture(scope="module")
def steps() -> dict[str, Timeline]:
    stack, work = unrestricted("megatron-lm"), {"global_batch": 32}
    return {
        name: timeline(
            simulator.resolve(
                "gpt3-6.7b",
                "dgx-a100-640gb",
                devices=8,
                stack=stack,
                plan={"micro_batch": 1, **plan},
                workload=work,
            )
        )
        for name, plan in PLANS.items()
    }


def events_of(step: Timeline, **keywords: Any) -> dict[str, list[Event]]:
    """Events of a trace, by what they are."""
    by_phase: dict[str, list[Event]] = defaultdict(list)
    for event in trace_of(step, **keywords)["traceEvents"]:
        by_phase[event["ph"]].append(event)
    return by_phase


def threads(slices: list[Event]) -> dict[tuple[int, int], list[Event]]:
    """Slices of each thread, as they begin, the longer first."""
    by_thread: dict[tuple[int, int], list[Event]] = defaultdict(list)
    for event in sorted(slices, key=lambda event: (event["ts"], -event["dur"])):
        by_thread[event["pid"], event["tid"]].append(event)
    return by_thread


@pytest.mark.parametrize("name", PLANS)
def test_every_event_has_what_its_phase_needs(steps: dict[str, Timeline], name: str) -> None:
    step = steps[name]
    trace = json.loads(json.dumps(trace_of(step), allow_nan=False))
    assert trace["displayTimeUnit"] in ("ms", "ns")
    needed = {
        "M": {"name", "pid", "args"},
        "X": {"name", "cat", "pid", "tid", "ts", "dur"},
        "C": {"name", "pid", "ts", "args"},
        "s": {"name", "cat", "id", "pid", "tid", "ts"},
        "f": {"name", "cat", "id", "pid", "tid", "ts", "bp"},
    }
    whole = step.step_time * 1e6
    for event in trace["traceEvents"]:
        assert needed[event["ph"]] <= set(event)
        assert isinstance(event["pid"], int)
        if event["ph"] != "M":
            assert -_ROUNDING - 1e-6 * whole <= event["ts"] <= whole + _ROUNDING
        if event["ph"] == "X":
            assert event["dur"] >= 0.0
            assert event["name"]
            assert event["cat"] in ("compute", "communication", "host", "wait", "idle")
        if event["ph"] == "C":
            assert all(isinstance(value, float | int) and value >= 0.0 for value in event["args"].values())


@pytest.mark.parametrize("detail", ["passes", "tasks"])
@pytest.mark.parametrize("name", PLANS)
def test_slices_of_a_thread_nest(steps: dict[str, Timeline], name: str, detail: str) -> None:
    """Each lies inside the one that is open when it begins, or behind it; those of links do not even nest."""
    for (_, thread), slices in threads(events_of(steps[name], detail=detail)["X"]).items():
        is_device = thread == 1 + list(Resource).index(Resource.DEVICE)
        open_until: list[float] = []
        for event in slices:
            start, end = event["ts"], event["ts"] + event["dur"]
            while open_until and open_until[-1] <= start + _ROUNDING:
                open_until.pop()
            assert not open_until or (is_device and end <= open_until[-1] + _ROUNDING), event
            open_until.append(end)


@pytest.mark.parametrize("name", PLANS)
def test_processes_and_threads_have_names(steps: dict[str, Timeline], name: str) -> None:
    step = steps[name]
    by_phase = events_of(step)
    named = {event["pid"]: event["args"]["name"] for event in by_phase["M"] if event["name"] == "process_name"}
    number = len(step.stages)
    assert list(named) == list(range(1, number + 1))
    assert named[1] == f"stage 1 of {number}: {32 // number} layers, {8 // number} devices alike"
    lanes = {
        (event["pid"], event["tid"]): event["args"]["name"] for event in by_phase["M"] if event["name"] == "thread_name"
    }
    assert set(threads(by_phase["X"])) <= set(lanes)
    assert sorted({lane for (pid, _), lane in lanes.items() if pid == 1}) == sorted(
        [*(each.value for each in Resource), "data links, gradients"]
    )


@pytest.mark.parametrize("name", ["1f1b", "zero bubble", "interleaved"])
def test_transfers_are_arrows_between_passes(steps: dict[str, Timeline], name: str) -> None:
    """In pairs, from inside the pass that sends to inside the one that receives, on another stage and never back in
    time; as many as there are passes that wait for another stage.
    """
    step = steps[name]
    by_phase = events_of(step)
    starts, ends = ({event["id"]: event for event in by_phase[phase]} for phase in "sf")
    assert set(starts) == set(ends)
    assert len(starts) == len(by_phase["s"]) == len(by_phase["f"])
    assert len(starts) == sum(int(np.count_nonzero(stage.waits_for >= 0)) for stage in step.stages)
    slices = threads(by_phase["X"])

    def inside(event: Event) -> bool:
        within = slices[event["pid"], event["tid"]]
        return any(each["ts"] < event["ts"] < each["ts"] + each["dur"] and each["cat"] != "idle" for each in within)

    for number, start in starts.items():
        end = ends[number]
        assert start["name"] == end["name"]
        assert start["cat"] == end["cat"]
        assert start["pid"] != end["pid"]
        assert start["ts"] <= end["ts"]
        assert inside(start)
        assert inside(end)


@pytest.mark.parametrize("name", PLANS)
def test_counters_follow_memory(steps: dict[str, Timeline], name: str) -> None:
    """One of each stage, whose parts are the same all along, and whose largest sum is its peak."""
    memory = [event for event in events_of(steps[name])["C"] if event["name"] == "memory [GB]"]
    for process in {event["pid"] for event in memory}:
        own = [event for event in memory if event["pid"] == process]
        assert [event["ts"] for event in own] == sorted(event["ts"] for event in own)
        assert len({tuple(event["args"]) for event in own}) == 1
        assert own[0]["args"]["activations"] == own[-1]["args"]["activations"] == 0.0
    most = max(sum(event["args"].values()) for event in memory)
    peaks = [stage["peak_memory"]["bytes"] for stage in _summary(steps[name])["stages"]]
    assert most * 1e9 == pytest.approx(max(peaks), rel=1e-9)


def _summary(step: Timeline) -> dict[str, Any]:
    from simulator.replay.summary import to_dict

    return to_dict(step)


@pytest.mark.parametrize("name", PLANS)
def test_tasks_are_all_written(steps: dict[str, Timeline], name: str) -> None:
    """What the device computes in a trace of all tasks is what the lanes add up to."""
    step = steps[name]
    device = 1 + list(Resource).index(Resource.DEVICE)
    for stage in _summary(step)["stages"]:
        tasks = [
            event
            for event in events_of(step, detail="tasks", stages=[stage["stage"]])["X"]
            if event["cat"] == "compute" and event["tid"] == device and "part of the step" in event["args"]
        ]
        assert sum(event["dur"] for event in tasks) == pytest.approx(stage["compute_s"] * 1e6, rel=1e-9)


def test_passes_alone_have_no_tasks(steps: dict[str, Timeline]) -> None:
    """A forward and a backward slice for each micro-batch of each stage."""
    slices = events_of(steps["1f1b"], detail="passes")["X"]
    names = Counter(event["name"].split()[0] for event in slices if event["args"].get("micro-batch"))
    assert names["forward"] == names["backward"] == 4 * 32
    assert not [event for event in slices if "attention" in event["name"]]


def test_some_stages_alone(steps: dict[str, Timeline]) -> None:
    """Only their processes, and only arrows between them."""
    by_phase = events_of(steps["1f1b"], stages=[1, 2])
    for phase in "MXCsf":
        assert {event["pid"] for event in by_phase[phase]} == {2, 3}


@pytest.mark.parametrize("most", [0, 1_000, 5_000])
def test_tasks_are_bounded(steps: dict[str, Timeline], most: int) -> None:
    """Beyond so many tasks micro-batches stand as whole passes."""
    step = steps["1f1b"]
    passes = len(events_of(step, detail="passes")["X"])
    slices = events_of(step, most=most)["X"]
    assert passes <= len(slices) <= passes + most
    assert len(events_of(step)["X"]) <= passes + 60_000
    if most:
        assert len(slices) > passes


def test_other_data_say_what_it_is_of(steps: dict[str, Timeline]) -> None:
    step = steps["1f1b"]
    other = trace_of(step)["otherData"]
    assert (other["model"], other["system"], other["devices"]) == ("gpt3-6.7b", "dgx-a100-640gb", 8)
    assert other["step time, replayed [s]"] == step.step_time
    assert other["step time, closed formula [s]"] == step.closed_form


def test_files(steps: dict[str, Timeline], tmp_path: Path) -> None:
    """Compressed where the name says so, the same bytes each time, and the same content either way."""
    trace = trace_of(steps["fully sharded"], detail="passes")
    plain, packed, again = (tmp_path / name for name in ("a.json", "a.json.gz", "b.json.gz"))
    for path in (plain, packed, again):
        write_trace(trace, path)
    assert packed.read_bytes() == again.read_bytes()
    assert packed.read_bytes()[:2] == b"\x1f\x8b"
    assert json.loads(gzip.decompress(packed.read_bytes())) == json.loads(plain.read_text())
    assert len(packed.read_bytes()) < len(plain.read_bytes()) / 3


def test_a_place_that_cannot_be_written(steps: dict[str, Timeline], tmp_path: Path) -> None:
    trace = trace_of(steps["fully sharded"], detail="passes", most=0)
    with pytest.raises(InputError, match=r"there/trace.json: .*name a file in a folder that can be written") as error:
        write_trace(trace, tmp_path / "there" / "trace.json")
    assert "\n" not in str(error.value)
