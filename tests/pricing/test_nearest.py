"""Residuals of the nearest shapes: exact where they were measured, nothing far away."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.measured import ATTENTION_SIZES, PRODUCT_SIZES
from simulator.pricing.nearest import NEAR, Nearest, Values

_PRODUCTS = len(PRODUCT_SIZES)


def _shapes(rows: int, seed: int = 0) -> tuple[Values, Values]:
    """Shapes whose residual changes slowly with their size."""
    random = np.random.default_rng(seed)
    sizes = 2.0 ** random.uniform(5.0, 14.0, (rows, _PRODUCTS)).round(1)
    sizes[:, 3], sizes[:, 4] = 1.0, random.integers(0, 2, rows)
    return sizes, _smooth(sizes)


def _smooth(sizes: Values) -> Values:
    return np.asarray(0.2 * np.sin(np.log2(sizes[:, :3]).sum(axis=1) / 6.0) - 0.1 * sizes[:, 4])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 200), st.integers(0, 1000))
def test_a_measured_shape_is_as_measured(rows: int, seed: int) -> None:
    sizes, _ = _shapes(rows, seed)
    residuals = np.random.default_rng(seed).normal(0.0, 0.3, rows)
    sizes, first = np.unique(sizes, axis=0, return_index=True)
    factor, distance = Nearest(sizes, residuals[first]).correction(*sizes.T)
    assert np.log(factor) == pytest.approx(residuals[first], abs=1e-6)
    assert np.all(distance == 0.0)


def test_repeated_shapes_count_with_their_mean() -> None:
    sizes = np.array([[512.0, 512.0, 512.0, 1.0, 0.0]] * 3)
    factor, _ = Nearest(sizes, np.array([0.1, 0.2, 0.3])).correction(512.0, 512.0, 512.0, 1.0, 0.0)
    assert float(factor) == pytest.approx(np.exp(0.2))


def test_the_farther_a_shape_the_less_is_said() -> None:
    nearest = Nearest(np.array([[512.0, 512.0, 512.0, 1.0, 0.0]]), np.array([0.3]))
    m = 512.0 * 2.0 ** np.array([0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 9.0])
    factor, distance = nearest.correction(m, 512.0, 512.0, 1.0, 0.0)
    assert np.all(np.diff(factor) < 0.0)
    assert factor[0] == pytest.approx(np.exp(0.3))
    assert factor[-1] == pytest.approx(1.0, abs=1e-4)
    assert distance == pytest.approx([0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 9.0])
    assert NEAR == 1.0


@pytest.mark.parametrize("at", [PRODUCT_SIZES.index("weight_gradient")])
def test_products_of_another_kind_say_nothing(at: int) -> None:
    shape = np.array([512.0, 512.0, 512.0, 1.0, 0.0])
    other = shape.copy()
    other[at] = 1.0
    factor, distance = Nearest(shape[None], np.array([0.5])).correction(*other)
    assert float(factor) == 1.0
    assert float(distance) > 100.0


@pytest.mark.parametrize("name", ["causal", "backward", "head_size"])
def test_attention_of_another_kind_says_nothing(name: str) -> None:
    shape = np.array([512.0, 512.0, 8.0, 16.0, 16.0, 64.0, 0.0, 0.0])
    other = shape.copy()
    other[ATTENTION_SIZES.index(name)] += 8.0 if name == "head_size" else 1.0
    factor, distance = Nearest(shape[None], np.array([0.5])).correction(*other)
    assert float(factor) == 1.0
    assert float(distance) > 100.0


def test_what_changes_slowly_is_learned_and_noise_is_not() -> None:
    sizes, residuals = _shapes(3000)
    asked, truth = _shapes(500, seed=1)
    factor, _ = Nearest(sizes, residuals).correction(*asked.T)
    assert np.median(np.abs(np.log(factor) - truth)) < 0.2 * np.median(np.abs(truth))
    noise = Nearest(sizes, np.random.default_rng(2).normal(0.0, 0.2, len(sizes)))
    assert noise.width < 0.2
    assert np.quantile(np.abs(np.log(noise.correction(*asked.T)[0])), 0.9) < 0.08


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
def test_sizes_broadcast_like_the_formulas(rows: int, columns: int, depth: int) -> None:
    nearest = Nearest(*_shapes(80))
    m = np.exp2(np.arange(5.0, 5.0 + rows))[:, None, None]
    n = np.array([512.0, 640.0, 1024.0, 1000.0, 4096.0, 96.0])[:columns][:, None]
    gradient = np.array([0.0, 1.0, 0.0, 1.0])[:depth]
    factor, distance = nearest.correction(m, n, 1024.0, 1.0, gradient)
    assert factor.shape == distance.shape == (rows, columns, depth)
    for at in np.ndindex(rows, columns, depth):
        one = nearest.correction(m[at[0], 0, 0], n[at[1], 0], 1024.0, 1.0, gradient[at[2]])
        assert factor[at] == pytest.approx(float(one[0]), rel=1e-12)
        assert distance[at] == pytest.approx(float(one[1]), rel=1e-12)


def test_sizes_of_its_own_may_be_named() -> None:
    nearest = Nearest(np.array([[1.0], [2.0]]), np.array([0.1, 0.2]), names=["length"])
    assert np.log(nearest.correction(np.array([1.0, 2.0]))[0]) == pytest.approx([0.1, 0.2])


def test_a_million_shapes_of_few_kinds_are_quick() -> None:
    nearest = Nearest(*_shapes(2000))
    m = np.exp2(np.random.default_rng(0).integers(4, 16, 1_000_000).astype(np.float64))
    start = perf_counter()
    factor, _ = nearest.correction(m, 4096.0, 1024.0, 1.0, 0.0)
    assert perf_counter() - start < 3.0
    assert len(np.unique(factor)) <= 12
