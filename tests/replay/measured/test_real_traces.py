"""Traces that torch's profiler writes here, against what torch itself says of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile, schedule

from measure.models import Setting, build, random_batch
from simulator.profiling.records.scenarios import cut, shrunk
from simulator.replay.measured.kinds import names
from simulator.replay.measured.reading import read_trace
from simulator.replay.measured.steps import measured_step, step_of
from simulator.specs.loading import load_model

_STEPS = 2


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Any]]]:
    """Two steps of a tiny BERT, and the profiler's events."""
    path = tmp_path_factory.mktemp("traces") / "tiny.json.gz"
    events: list[Any] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = cut(shrunk(load_model("bert-base")), 2)
    setting = Setting(sequence_length=32)
    module, batch = build(model, setting), random_batch(model, setting, 2, predictions=5)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-6)

    def ready(profiler: Any) -> None:
        profiler.export_chrome_trace(str(path))
        events.extend(profiler.events())

    with profile(
        activities=[ProfilerActivity.CPU],
        record_shapes=True,
        schedule=schedule(wait=0, warmup=1, active=_STEPS, repeat=1),
        on_trace_ready=ready,
    ) as profiler:
        for _ in range(_STEPS + 1):
            optimizer.zero_grad(set_to_none=True)
            module.loss(batch).backward()
            optimizer.step()
            profiler.step()
    yield path, events
    torch.set_num_threads(threads)


def kind_by_torch(event: Any) -> str:
    """The kind of an event by the operators around it, as torch nests them."""
    chain = [event]
    while chain[-1].cpu_parent is not None:
        chain.append(chain[-1].cpu_parent)
    fits = [fit for each in chain if (fit := names().of_operator(each.name)) is not None]
    whole = [fit for fit in fits if fit.whole]
    return whole[-1].kind if whole else fits[0].kind if fits else "others"


def test_self_times_are_torchs(traced: tuple[Path, list[Any]]) -> None:
    """Both steps by kind, in the sum of what torch calls the self time of each operator."""
    path, events = traced
    expected: dict[str, float] = defaultdict(float)
    for event in events:
        if not event.name.startswith("ProfilerStep"):  # whose star stands for all numbers
            expected[kind_by_torch(event)] += event.self_cpu_time_total
    trace = read_trace(path)
    summed: dict[str, float] = defaultdict(float)
    for number in range(1, _STEPS + 1):
        one = type(trace)(
            trace.name,
            tuple(each for each in trace.events if not _is_other_mark(each.name, number)),
            trace.ranks,
            trace.recorded,
        )
        for kind, time in step_of(one, names()).kinds.items():
            summed[kind] += time.seconds * 1e6
    idle = summed.pop("idle")
    assert set(summed) == set(expected)
    for kind, seconds in expected.items():
        # torch keeps whole microseconds of some of its times.
        assert summed[kind] == pytest.approx(seconds, rel=0.02, abs=20.0), kind
    assert idle > 0.0


def _is_other_mark(name: str, number: int) -> bool:
    return name.startswith("ProfilerStep#") and name != f"ProfilerStep#{number}"


VIEWS_AND_MEMORY = {
    "as_strided", "chunk", "detach", "empty", "empty_like", "empty_strided", "expand", "flatten", "item", "lift_fresh",
    "_local_scalar_dense", "new_empty", "permute", "reshape", "_reshape_alias", "resize_", "resolve_conj", "select",
    "slice", "split", "squeeze", "t", "to", "transpose", "unflatten", "_unsafe_view", "unsqueeze", "view",
}  # fmt: skip
"""What no rule names of a BERT: operators that neither compute nor move anything."""


def test_what_computes_in_a_real_step_is_named(traced: tuple[Path, list[Any]]) -> None:
    step = measured_step(traced[0])
    assert len(step.steps) == _STEPS
    assert step.duration == min(step.steps)
    assert sum(kind.seconds for kind in step.kinds.values()) == pytest.approx(step.duration, rel=1e-9)
    assert {"matrix_products", "normalisation", "softmax", "elementwise", "embedding", "optimizer"} <= set(step.kinds)
    assert not step.exchanges
    operators = {event.name for event in read_trace(traced[0]).events if event.name.startswith("aten::")}
    unnamed = {name for name in operators if names().of_operator(name) is None}
    assert {name.removeprefix("aten::") for name in unnamed} <= VIEWS_AND_MEMORY
    assert len(operators - unnamed) > 20
