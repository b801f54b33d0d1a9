"""One formula, any number of plans: a row of arrays gives what the same numbers give alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formulas.public import formulas, title

_FLAGS = ("all_at_once", "bias", "causal", "dropout", "wraps", "zero_bubble")
_SHARES = ("bandwidth_efficiency", "efficiency", "idle_share", "sustained", "weight_gradient_share", "pair_loss")
_RANGES = {
    **dict.fromkeys(_FLAGS, (0.0, 1.0, True)),
    **dict.fromkeys(_SHARES, (0.05, 0.5, False)),
    "peak": (1e12, 1e15, False),
    "bandwidth": (1e9, 5e12, False),
    "launch": (0.0, 1e-4, False),
    "inputs": (1.0, 2.0, True),
    "passes": (1.0, 2.0, True),
    "stage": (0.0, 3.0, True),
    "stages": (4.0, 64.0, True),
    "price": (1e-5, 1e-2, False),
    "intensity": (1e-8, 1e-6, False),
    "ramp": (0.0, 1e-7, False),
    "added_up": (0.0, 1.0, True),
    "deviation": (0.0, 0.1, False),
    "failure_rate": (0.0, 1e-4, False),
    "preemption_rate": (0.0, 1e-4, False),
    "event_rate": (0.0, 1e-4, False),
    "grouping": (0.0, 1.0, False),
    "interruption_rate": (1e-6, 1e-2, False),
}
_USUAL = (1.0, 512.0, True)


def _number(name: str) -> st.SearchStrategy[float]:
    low, high, whole = _RANGES.get(name, _USUAL)
    if whole:
        return st.integers(int(low), int(high)).map(float)
    return st.floats(low, high)


def _names(formula: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(formula).parameters)


def _call(formula: Callable[..., Any], values: dict[str, Any]) -> Any:
    return formula(**values)


@pytest.mark.parametrize("formula", formulas(), ids=title)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_rows_of_arrays_equal_single_numbers(formula: Callable[..., Any], data: st.DataObject) -> None:
    rows = [{name: data.draw(_number(name), label=name) for name in _names(formula)} for _ in range(3)]
    together = _call(formula, {name: np.array([row[name] for row in rows]) for name in _names(formula)})
    alone = [_call(formula, row) for row in rows]
    assert np.shape(together) == (3,)
    assert np.all(np.isfinite(together))
    np.testing.assert_allclose(together, alone, rtol=1e-12)


@pytest.mark.parametrize("formula", formulas(), ids=title)
def test_arguments_broadcast(formula: Callable[..., Any]) -> None:
    low = {name: _RANGES.get(name, _USUAL)[0] or 1.0 for name in _names(formula)}
    axes = (np.array([[1.0], [2.0]]), np.array([[1.0, 2.0, 4.0]]))
    grid = {**low, **dict(zip(low, axes, strict=False))}
    assert np.shape(_call(formula, grid)) == ((2, 3) if len(low) > 1 else (2, 1))
