"""Figures of the Plan page hold the values of the API."""

from __future__ import annotations

from typing import Any

import pytest

import simulator
from dashboard.content.glossary import words
from dashboard.figures import plan as figures
from dashboard.figures.theme import OF_KIND, OF_MEMORY

_CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "encoder": ("bert-large", "dgx-a100-640gb", {}),
    "pipeline": ("gpt3-175b", "superpod-a100", {"devices": 1024, "plan": {"pp": 8, "tp": 8}}),
    "too large": ("palm-62b", "dgx-a100-640gb", {}),
    "unknown interval": ("bert-large", "rtx-3090", {"constants": "none"}),
}


@pytest.fixture(params=_CASES, name="scenario")
def _scenario(request: pytest.FixtureRequest) -> simulator.Scenario:
    model, system, others = _CASES[request.param]
    return simulator.resolve(model, system, **others)


def test_parts_of_a_step_follow_each_other(scenario: simulator.Scenario) -> None:
    estimate = simulator.answer(scenario)
    parts, step = figures.waterfall(estimate).data
    assert list(step.x) == [estimate.step_time_s]
    shown = {name: time for name, time in estimate.breakdown_s.items() if time >= 0.0005 * estimate.step_time_s}
    assert dict(zip(parts.y, parts.x, strict=True)) == {words(name): time for name, time in shown.items()}
    ends = [base + time for base, time in zip(parts.base, parts.x, strict=True)]
    assert list(parts.base) == pytest.approx([0.0, *ends[:-1]])
    assert ends[-1] == pytest.approx(estimate.step_time_s, rel=0.005)
    kinds = {words(part): kind for kind, inside in estimate.breakdown_by_kind.items() for part in inside}
    assert list(parts.marker.color) == [OF_KIND[kinds[name]] for name in parts.y]


def test_the_interval_is_an_error_bar(scenario: simulator.Scenario) -> None:
    estimate = simulator.answer(scenario)
    bar = figures.waterfall(estimate).data[1].error_x
    if estimate.step_time_low_s is None or estimate.step_time_high_s is None:
        assert bar.visible is False
    else:
        assert bar.array[0] == pytest.approx(estimate.step_time_high_s - estimate.step_time_s)
        assert bar.arrayminus[0] == pytest.approx(estimate.step_time_s - estimate.step_time_low_s)


def test_bars_of_memory_are_the_stages(scenario: simulator.Scenario) -> None:
    stages = simulator.stages(scenario)
    figure = figures.stage_memory(stages)
    assert [trace.name for trace in figure.data] == list(OF_MEMORY)
    for trace in figure.data:
        assert list(trace.y) == pytest.approx([stage.memory_bytes[trace.name] / 2**30 for stage in stages])
        assert trace.marker.color == OF_MEMORY[trace.name]
        assert len(trace.x) == len(stages)
    totals = [sum(trace.y[number] for trace in figure.data) for number in range(len(stages))]
    assert totals == pytest.approx([stage.memory_bytes["total"] / 2**30 for stage in stages])
    (line,) = figure.layout.shapes
    assert line.y0 == line.y1 == pytest.approx(stages[0].memory_bytes["capacity"] / 2**30)
    assert figure.layout.yaxis.range[1] > max(line.y0, *totals)


def test_products_stand_below_the_roof(scenario: simulator.Scenario) -> None:
    roofline = simulator.roofline(scenario)
    roof, *groups = figures.roofline(roofline).data
    assert list(roof.y)[1:] == pytest.approx([roofline.peak / 1e12] * 2)
    assert roof.y[0] / roof.x[0] * 1e12 == pytest.approx(roofline.bandwidth)
    points = {(x, y) for group in groups for x, y in zip(group.x, group.y, strict=True)}
    whole = sum(work.time_s for work in roofline.work)
    shown = [work for work in roofline.work if work.flops and work.time_s >= 0.0005 * whole]
    assert points == {(work.intensity, work.rate / 1e12) for work in shown}
    assert all(y <= min(roofline.peak, x * roofline.bandwidth) / 1e12 for x, y in points)


def test_operators_are_listed_longest_first(scenario: simulator.Scenario) -> None:
    roofline = simulator.roofline(scenario)
    rows = figures.operator_rows(roofline)
    assert len(rows) == len(roofline.work)
    assert [row["operator"] for row in rows] == [work.operator for work in roofline.work]
    assert rows[0]["ms per step"] == pytest.approx(roofline.work[0].time_s * 1e3, abs=1e-3)


def test_levers_show_how_far_they_move() -> None:
    sensitivity = simulator.sensitivity("bert-large", "dgx-a100-640gb")
    figure = figures.levers(sensitivity)
    shown = {(y, x) for trace in figure.data for y, x in zip(trace.y, trace.x, strict=True)}
    for lever in sensitivity.levers:
        for ratio, _ in lever.answers:
            assert ((lever.name, 100.0 * (ratio - 1.0)) in shown) == (lever.span > 0.001)
    assert figure.layout.yaxis.categoryarray[-1] == sensitivity.levers[0].name


@pytest.mark.parametrize("name", ["waterfall", "stage_memory", "roofline"])
def test_tooltips_say_what_words_mean(name: str) -> None:
    scenario = simulator.resolve("bert-large", "dgx-a100-640gb")
    answer = {
        "waterfall": simulator.answer(scenario),
        "stage_memory": simulator.stages(scenario),
        "roofline": simulator.roofline(scenario),
    }[name]
    figure = getattr(figures, name)(answer)
    told = [text for trace in figure.data if trace.hovertext is not None for text in trace.hovertext]
    assert len(told) > 3
    assert all(text.startswith("<b>") for text in told)
