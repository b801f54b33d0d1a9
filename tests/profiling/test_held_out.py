"""Rows that are fitted and scored never mix; kept shapes cover all."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.profiling.fit.held_out import halves, score, spread


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=200))
def test_a_group_lies_on_one_side(groups: list[tuple[int, int]]) -> None:
    columns = np.array(groups, dtype=np.float64)
    fitted = halves(columns)
    names = {group: {bool(fitted[at]) for at, other in enumerate(groups) if other == group} for group in groups}
    assert all(len(sides) == 1 for sides in names.values())
    largest = max(groups.count(group) for group in groups)
    assert abs(2 * int(fitted.sum()) - len(groups)) <= largest
    order = np.random.default_rng(0).permutation(len(groups))
    assert np.array_equal(halves(columns[order]), fitted[order])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 60), st.integers(0, 100))
def test_kept_shapes_differ(rows: int, most: int, seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(1, 12, (rows, 2)).astype(np.float64)
    picked = spread(sizes, np.zeros(rows, dtype=bool), most)
    assert len(picked) == min(most, len(np.unique(sizes, axis=0)))
    assert len(np.unique(sizes[picked], axis=0)) == len(picked)


def test_kept_shapes_cover_the_range_and_prefer_what_is_preferred() -> None:
    grid = np.array([(2.0**i, 2.0**j) for i in range(32) for j in range(32)])
    picked = spread(grid, np.zeros(len(grid), dtype=bool), 64)
    distance = np.abs(np.log2(grid)[:, None] - np.log2(grid[picked])[None]).max(axis=2).min(axis=1)
    assert distance.max() <= 4.0
    preferred = grid[:, 0] >= 2.0**16
    assert preferred[spread(grid, preferred, 64)].sum() > 40


def test_a_score_says_how_far_off() -> None:
    measured = np.array([1.0, 2.0, 4.0, 8.0])
    accuracy = score(
        "gemm", "all", measured, fitted=9, predicted=1.1 * measured, corrected=measured, before=2.0 * measured
    )
    assert (accuracy.fitted, accuracy.scored) == (9, 4)
    assert (accuracy.median, accuracy.p90, accuracy.bias, accuracy.with_residuals, accuracy.before) == (
        0.1,
        0.1,
        0.1,
        0.0,
        1.0,
    )
