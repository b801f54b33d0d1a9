"""What the nearest measured shapes say of a time that a fitted form gives, in the space of logarithms of sizes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.measured import ATTENTION_SIZES, PRODUCT_SIZES
from simulator.formulas.typing import Num

NEAR = 1.0
"""Distance, in doublings of one size, up to which a measured shape speaks for another."""

_KINDS = frozenset({"weight_gradient", "causal", "backward", "head_size"})
"""Sizes that must match: each has kernels of its own."""
_FAR = 1e3
"""Distance of shapes of different kinds, at least."""
_CALLS = frozenset({"m", "queries", "keys", "batch", "weight_gradient", "causal", "backward"})
"""Sizes that differ from call to call of one layer; by the others a shape belongs to a layer."""
_NEIGHBOURS = 8
_REACH = 3.0
"""Distance beyond which no shape speaks for another."""
_WIDTHS = (0.02, 0.125, 0.25, 0.5, 1.0, 2.0)
_POWERS = (2.0, 4.0)
_USUAL = (0.5, 2.0)
_ENOUGH = 24
"""Fewer shapes do not tell which width and power suit them."""
_LARGEST_CODE = 2**50

Values = NDArray[np.float64]
Index = NDArray[np.intp]


class Nearest:
    """Residuals of measured shapes, and a factor for shapes near them.

    A residual at distance d weighs ``(width / d)^power``, against a weight of 1 of the form: at no distance the factor
    is what was measured, far from all shapes it is 1. Width and power are those by which one half of the layers
    predicts the other best.

    Parameters
    ----------
    sizes
        One row a shape; a shape that was measured repeatedly may have several.
    residuals
        Logarithm of measured over fitted time of each.
    names
        Of the sizes; those of products or of attention unless given.
    """

    def __init__(self, sizes: Values, residuals: Values, names: Sequence[str] | None = None) -> None:
        from scipy.spatial import cKDTree  # estimates without measured profiles start without it

        width = sizes.shape[1]
        self._names = tuple(names or {len(PRODUCT_SIZES): PRODUCT_SIZES, len(ATTENTION_SIZES): ATTENTION_SIZES}[width])
        points, shape = np.unique(self._points([sizes[:, at] for at in range(width)]), axis=0, return_inverse=True)
        shape = shape.reshape(-1)
        self._residuals: Values = np.bincount(shape, residuals) / np.bincount(shape)
        self.width, self.power = _chosen(points, self._residuals, self._layers(points))
        self._tree = cKDTree(points)

    def correction(self, *sizes: Num) -> tuple[Values, Values]:
        """What to multiply fitted times by, and how far the nearest measured shape is.

        Parameters
        ----------
        sizes
            In the order of the names; they broadcast.

        Returns
        -------
        tuple of array
            The factor [1], and the distance in doublings of one size [1].
        """
        shape = np.broadcast_shapes(*(np.shape(size) for size in sizes))
        first, same = _different(sizes, shape)
        columns = [np.broadcast_to(np.asarray(size, dtype=np.float64), shape).reshape(-1)[first] for size in sizes]
        distance, index = _neighbours(self._tree, self._points(columns))
        logarithm = _weighed(distance, self._residuals[index], self.width, self.power)
        return np.exp(logarithm)[same].reshape(shape), distance[:, 0][same].reshape(shape)

    def _points(self, columns: Sequence[Values]) -> Values:
        """Coordinates in which a doubling is 1, and shapes of different kinds are far from each other."""
        return np.stack(
            [
                column * _FAR if name in _KINDS else np.log2(np.maximum(column, 1.0))
                for name, column in zip(self._names, columns, strict=True)
            ],
            axis=1,
        )

    def _layers(self, points: Values) -> Index:
        """The number of the layer that each shape belongs to."""
        own = [at for at, name in enumerate(self._names) if name not in _CALLS]
        _, layer = np.unique(points[:, own], axis=0, return_inverse=True)
        return layer.reshape(-1)


def _different(sizes: Sequence[Num], shape: tuple[int, ...]) -> tuple[Index, Index]:
    """The first of equal shapes, and which of them each shape equals."""

    def joined(codes: Index, size: Num) -> Index:
        values, code = np.unique(np.asarray(size, dtype=np.float64), return_inverse=True)
        if codes.size and (int(codes.max()) + 1) * len(values) > _LARGEST_CODE:
            codes = np.unique(codes, return_inverse=True)[1].reshape(shape)
        return np.asarray(codes * len(values) + np.broadcast_to(code.reshape(np.shape(size)), shape))

    codes = reduce(joined, sizes, np.zeros(shape, dtype=np.intp))
    _, first, same = np.unique(codes, return_index=True, return_inverse=True)
    return first, same.reshape(-1)


def _neighbours(tree: Any, points: Values) -> tuple[Values, Index]:
    """Distances and indices of the nearest shapes, the nearest first; a row for each point."""
    most = min(_NEIGHBOURS, tree.n)
    distance, index = tree.query(points, k=list(range(1, most + 1)))
    return distance, index


def _weighed(distance: Values, residuals: Values, width: float, power: float) -> Values:
    """The mean of residuals by their weights, with the form's 0 among them."""
    weight = (width / np.maximum(distance, 1e-9)) ** power * np.exp(-0.5 * (distance / _REACH) ** 2)
    mean: Values = (weight * residuals).sum(axis=1) / (weight.sum(axis=1) + 1.0)
    return mean


def _chosen(points: Values, residuals: Values, layers: Index) -> tuple[float, float]:
    """Width and power by which each half of the layers predicts the other half best."""
    from scipy.spatial import cKDTree

    side = (layers if layers.max(initial=0) >= 3 else np.arange(len(points))) % 2 == 0
    if len(points) < _ENOUGH:
        return _USUAL
    known_errors = []
    for known, asked in ((side, ~side), (~side, side)):
        distance, index = _neighbours(cKDTree(points[known]), points[asked])
        known_errors.append((distance, residuals[known][index], residuals[asked]))

    def error(choice: tuple[float, float]) -> float:
        return float(np.mean([np.mean(np.abs(_weighed(d, r, *choice) - truth)) for d, r, truth in known_errors]))

    return min(product(_WIDTHS, _POWERS), key=error)
