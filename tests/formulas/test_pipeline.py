"""Pipelines: layers of stages, idle shares of schedules, and micro-batches in flight, worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.formulas import pipeline


def _stages(layers: float, stages: int, **ends: float) -> list[float]:
    return [float(pipeline.stage_layers(layers, stages, stage=float(at), **ends)) for at in range(stages)]


@pytest.mark.parametrize(
    ("layers", "stages", "held"),
    [
        (8, 1, [8]),
        (8, 2, [4, 4]),
        (7, 2, [3.5, 3.5]),
        (8, 4, [2, 2, 2, 2]),
        (10, 4, [2, 3, 3, 2]),
        (9, 4, [1.5, 3, 3, 1.5]),
        (13, 4, [2.5, 4, 4, 2.5]),
        (6, 5, [0, 2, 2, 2, 0]),
        (11, 8, [1, 2, 2, 2, 1, 1, 1, 1]),
    ],
)
def test_the_ends_of_a_pipeline_hold_what_the_others_leave(layers: float, stages: int, held: list[float]) -> None:
    assert _stages(layers, stages) == held
    assert float(pipeline.end_layers(layers, stages)) == held[0]
    assert float(pipeline.inner_layers(layers, stages)) == np.ceil(layers / stages)


def test_ends_may_be_told() -> None:
    assert _stages(10, 4, first=1.0, last=3.0) == [1, 3, 3, 3]
    assert _stages(10, 4, first=1.0) == [1, 3, 3, 3]  # the others share what is left
    assert _stages(9, 2, last=7.0) == [2, 7]
    assert _stages(24, 4, first=21.0) == [21, 1, 1, 1]
    assert _stages(10, 4, last=1.0) == [3, 3, 3, 1]
    assert _stages(10, 2, first=6.0, last=4.0) == [6, 4]
    assert _stages(10, 1, first=6.0, last=4.0) == [10]


@pytest.mark.parametrize(
    ("layers", "stages", "head", "held"),
    [
        (16, 2, 4.0, [11, 5]),
        (16, 4, 0.0, [5, 4, 4, 3]),
        (16, 4, 4.0, [6, 5, 5, 0]),
        (16, 1, 4.0, [16]),
        (4, 4, 100.0, [4, 0, 0, 0]),
    ],
)
def test_a_head_counts_as_layers(layers: float, stages: int, head: float, held: list[float]) -> None:
    stage_layers = [
        float(pipeline.balanced_layers(layers, stages, stage=float(at), head_layers=head)) for at in range(stages)
    ]
    assert stage_layers == held


@given(st.integers(1, 100), st.integers(1, 16), st.floats(0.0, 50.0))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_no_layer_is_lost(layers: int, stages: int, head: float) -> None:
    at = np.arange(float(stages))
    assert np.sum(pipeline.balanced_layers(float(layers), stages, stage=at, head_layers=head)) == layers
    if layers >= stages:
        assert np.sum(pipeline.stage_layers(float(layers), stages, stage=at)) == pytest.approx(layers)


def test_a_step_is_its_micro_batches_and_what_fills_and_drains() -> None:
    assert pipeline.step_time(2.0, 7.0, micro_batches=8.0, idle_share=1.0) == 8 * 2 + 7 - 2
    assert pipeline.step_time(2.0, 7.0, micro_batches=8.0, idle_share=0.5) == 8 * 2 + 2.5
    assert pipeline.step_time(2.0, 2.0, micro_batches=8.0, idle_share=1.0) == 16


@pytest.mark.parametrize(
    ("virtual", "how", "share"),
    [
        (1, {}, 1),
        (4, {}, 1 / 4),
        (1, {"zero_bubble": 1.0}, 1 / 3),  # (F + B - W) / (F + B + W)
        (2, {"zero_bubble": 1.0}, 1 / 6),
        (1, {"zero_bubble": 1.0, "forward_share": 0.3, "weight_gradient_share": 0.2}, 1 - 2 * 0.2),
        (1, {"zero_bubble": 1.0, "forward_share": 0.1, "weight_gradient_share": 0.2}, 1 - 0.2 - 0.1),
        (1, {"zero_bubble": 1.0, "forward_share": 0.5, "weight_gradient_share": 0.4}, 1 - 0.4 - 0.1),
        (2, {"forward_share": 0.1}, 1 / 2),
    ],
)
def test_idle_shares_of_schedules(virtual: float, how: dict[str, float], share: float) -> None:
    assert float(pipeline.idle_share(virtual, **how)) == pytest.approx(share)


@pytest.mark.parametrize(
    ("stage", "how", "held"),
    [
        (0, {}, 8),
        (3, {}, 5),
        (7, {}, 1),
        (0, {"micro_batches": 4.0}, 4),
        (0, {"all_at_once": 1.0}, 64),
        (3, {"zero_bubble": 1.0}, 8),
        (0, {"zero_bubble": 1.0, "micro_batches": 4.0}, 4),
        (0, {"virtual_stages": 2.0}, (2 * 7 + 8 + 1) / 2),
        (7, {"virtual_stages": 2.0}, (8 + 1) / 2),
        (7, {"virtual_stages": 3.0}, (2 * 8 + 1) / 3),
        (0, {"virtual_stages": 2.0, "micro_batches": 8.0}, 8),
        (0, {"virtual_stages": 2.0, "all_at_once": 1.0}, 64),
    ],
)
def test_micro_batches_in_flight(stage: float, how: dict[str, Any], held: float) -> None:
    """Of 8 stages and 64 micro-batches."""
    assert float(pipeline.in_flight(8.0, float(stage), **{"micro_batches": 64.0, **how})) == pytest.approx(held)
