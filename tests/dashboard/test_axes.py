"""Axes hold their values and have few, round, written ticks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.figures import axes

_MEASURES = [axes.TIME, axes.MONEY, axes.ENERGY, axes.MEMORY, axes.COUNT]
_AMOUNT = st.floats(min_value=1e-4, max_value=1e9)


@given(st.lists(_AMOUNT, min_size=1, max_size=20), st.sampled_from(_MEASURES))
def test_linear_axes(values: list[float], measure: axes.Measure) -> None:
    axis: Any = axes.linear(values, measure)
    low, high = axis["range"]
    assert low <= min(values) <= max(values) <= high
    _assert_readable(axis)
    assert len({round(later - one, 9) for one, later in pairwise(axis["tickvals"])}) <= 2
    assert axes.linear(values, measure, zero=True)["range"][0] == 0.0  # type: ignore[index]


@given(st.lists(_AMOUNT, min_size=1, max_size=20), st.sampled_from(_MEASURES), st.sampled_from([0.0, 0.06]))
def test_logarithmic_axes(values: list[float], measure: axes.Measure, room: float) -> None:
    axis: Any = axes.logarithmic(values, measure, room=room)
    low, high = axis["range"]
    assert 10.0**low <= min(values) * (1 + 1e-9)
    assert 10.0**high >= max(values) * (1 - 1e-9)
    _assert_readable(axis)
    assert len(axis["tickvals"]) >= 2
    assert all(10.0**low * 0.999 <= tick <= 10.0**high * 1.001 for tick in axis["tickvals"])


def _assert_readable(axis: Any) -> None:
    assert len(axis["tickvals"]) == len(axis["ticktext"]) <= 8
    assert list(axis["tickvals"]) == sorted(set(axis["tickvals"]))
    assert all(len(text) <= 12 for text in axis["ticktext"])


@pytest.mark.parametrize(
    ("values", "measure", "some"),
    [
        ([3600.0, 86400.0 * 100], axes.TIME, {"1 h", "1 d", "5 d"}),
        ([0.35, 7.0], axes.TIME, {"500 ms", "1 s", "5 s"}),
        ([16.6, 38.0], axes.TIME, {"20 s", "30 s"}),
        ([800.0, 90_000.0], axes.MONEY, {"$1k", "$10k"}),
        ([550_000.0, 900_000.0], axes.MONEY, {"$600k", "$800k"}),
        ([2.0**31, 60 * 2.0**30], axes.MEMORY, {"4 GiB", "16 GiB"}),
    ],
)
def test_ticks_that_people_would_choose(values: list[float], measure: axes.Measure, some: set[str]) -> None:
    assert some <= set(axes.logarithmic(values, measure)["ticktext"])  # type: ignore[call-overload]


@pytest.mark.parametrize("counts", [[1], [8, 16], [2**i for i in range(13)], [35, 70, 140, 280, 560, 1120, 2240]])
def test_numbers_of_devices(counts: list[int]) -> None:
    axis: Any = axes.doubling(counts)
    assert axis["tickvals"][-1] == max(counts)
    assert set(axis["tickvals"]) <= set(counts)
    assert axis["ticktext"] == [f"{tick:,}" for tick in axis["tickvals"]]
    assert len(axis["tickvals"]) <= 6
    assert axis["range"][0] < axis["range"][1]
