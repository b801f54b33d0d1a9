"""Rows that are held out of a fit, a spread of shapes that is kept, and how far off predictions were."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from hardware.measured import HeldOutScore, Phase
from simulator.profiling.records.rows import Mask, Values

_MOST_CANDIDATES = 20_000
_PREFERENCE = 2.0
"""How much farther from its neighbours a preferred shape seems to be."""

Index = NDArray[np.intp]


def order_of(columns: Values) -> Index:
    """Rows in an order that looks random and depends on their numbers alone."""
    return np.argsort(_hashes(columns), kind="stable")


def _hashes(columns: Values) -> NDArray[np.int64]:
    whole = np.ascontiguousarray(columns, dtype=np.float64)
    return np.array([zlib.crc32(row.tobytes()) for row in whole], dtype=np.int64)


def halves(groups: Values) -> Mask:
    """Which rows to fit, about half of them: every group goes whole to one side or to the other.

    Parameters
    ----------
    groups
        Numbers that name the group of each row; shape (rows, any).
    """
    names, member, sizes = np.unique(groups, axis=0, return_inverse=True, return_counts=True)
    fitted = np.zeros(len(names), dtype=bool)
    balance = 0
    for group in order_of(names):
        fitted[group] = balance <= 0
        balance += int(sizes[group]) if fitted[group] else -int(sizes[group])
    return fitted[member.reshape(-1)]


def spread(sizes: Values, preferred: Mask, most: int) -> Index:
    """Pick rows of different sizes that cover all sizes: each next one is the farthest from those picked before.

    Parameters
    ----------
    sizes
        Shape (rows, sizes); distances are between logarithms.
    preferred
        Rows to have more of.
    most
        How many to pick.
    """
    _, first = np.unique(sizes, axis=0, return_index=True)
    if len(first) <= most:
        return np.sort(first)
    rows = first[order_of(sizes[first])[:_MOST_CANDIDATES]]
    points, weight = np.log2(sizes[rows] + 1.0), np.where(preferred[rows], _PREFERENCE, 1.0)
    next_one = int(np.argmax(points.sum(axis=1)))
    distance, picked = np.full(len(rows), np.inf), []
    for _ in range(most):
        picked.append(next_one)
        distance = np.minimum(distance, ((points - points[next_one]) ** 2).sum(axis=1))
        next_one = int(np.argmax(distance * weight**2))
    return np.sort(rows[picked])


def score(
    phase: Phase,
    what: str,
    measured: Values,
    *,
    fitted: int,
    predicted: Values,
    before: Values,
    corrected: Values | None = None,
) -> HeldOutScore:
    """How far off times were, of rows that no fit had seen.

    Parameters
    ----------
    phase
        What kind of kernel.
    what
        Which of them.
    measured
        Their times [s].
    fitted
        Rows that were fitted.
    predicted
        Times of the fitted form [s].
    before
        Times of the constants that the fit started from [s].
    corrected
        Times of the fitted form with the residuals of the nearest shapes, where it keeps them [s].
    """
    off = np.abs(predicted / measured - 1.0)
    return HeldOutScore(
        phase=phase,
        what=what,
        fitted=fitted,
        scored=len(measured),
        median=_figure(np.median(off)),
        p90=_figure(np.quantile(off, 0.9)),
        bias=_figure(predicted.sum() / measured.sum() - 1.0),
        with_residuals=None if corrected is None else _figure(np.median(np.abs(corrected / measured - 1.0))),
        before=_figure(np.median(np.abs(before / measured - 1.0))),
    )


def _figure(share: np.floating) -> float:
    """A share with the digits that mean something, and within what a profile holds."""
    return round(float(np.clip(share, -10.0, 1e3)), 4)
