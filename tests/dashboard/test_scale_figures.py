"""Figures and tables of the Scale page hold the values of the API."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

import simulator
from dashboard.figures import scale
from dashboard.figures.theme import OF_KIND
from hardware import units
from simulator import Scaling


@cache
def _scaling(**wishes: Any) -> Scaling:
    return simulator.scale("bert-large", "dgx-a100-640gb", workload={"global_batch": 64}, max_devices=256, **wishes)


@pytest.mark.parametrize("kind", ["strong", "weak"])
def test_curves_of_a_scaling(kind: str) -> None:
    scaling = _scaling(kind=kind)
    counts = [point.devices for point in scaling.points]
    ideal, curve = scale.rate(scaling).data
    assert list(curve.x) == list(ideal.x) == counts
    assert list(curve.y) == [point.estimate.tokens_per_s for point in scaling.points]
    assert list(ideal.y) == [point.ideal_tokens_per_s for point in scaling.points]
    rates = [most / devices for most, devices in zip(ideal.y, counts, strict=True)]
    assert rates == pytest.approx([rates[0]] * len(rates))
    (share,) = scale.efficiency(scaling).data
    assert list(share.y) == [100.0 * point.efficiency for point in scaling.points]


def test_where_efficiency_halves_is_drawn() -> None:
    scaling = _scaling()
    figure = scale.efficiency(scaling)
    assert [shape.x0 for shape in figure.layout.shapes if shape.x0 == shape.x1] == [scaling.halved_at]
    (words,) = figure.layout.annotations
    assert words.text == f"half at some {units.digits(scaling.halved_at or 0.0, 2)}"
    never = simulator.scale("bert-large", "dgx-a100-640gb", counts=[1, 2])
    assert scale.efficiency(never).layout.annotations == ()


def test_shares_add_up() -> None:
    scaling = _scaling()
    figure = scale.shares(scaling)
    for trace in figure.data:
        assert list(trace.y) == [100.0 * point.estimate.limits.get(trace.name, 0.0) for point in scaling.points]
        assert trace.marker.color == OF_KIND[trace.name]
    sums = [sum(trace.y[number] for trace in figure.data) for number in range(len(scaling.points))]
    assert sums == pytest.approx([100.0] * len(scaling.points), abs=0.3)


def test_points_as_a_table() -> None:
    scaling = _scaling()
    table, formats = scale.rows(scaling)
    assert [row["devices"] for row in table] == [point.devices for point in scaling.points]
    assert [row["efficiency"] for row in table] == [100.0 * point.efficiency for point in scaling.points]
    assert set(formats) <= set(table[0])
