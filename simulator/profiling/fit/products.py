"""The constants of matrix products, fitted to measured ones of one number format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hardware.classes import GemmConstants
from hardware.measured import HeldOutScore, Shapes
from hardware.sheet import Seen
from simulator.formulas import matmul
from simulator.profiling.fit import fitting
from simulator.profiling.fit.robust import Constant
from simulator.profiling.fit.sheet import DataSheet
from simulator.profiling.records.rows import Mask, Products, Values

_BURST = 2e-3
"""Calls shorter than this say nothing of the clock under long load [s]."""
_STRUCTURE = ("fill", "small_tile")
BY_PART = {
    "large": ("efficiency", "bandwidth_efficiency", "sustained", "weight_gradient"),
    "small": ("launch", *_STRUCTURE),
}
"""The constants that pace large products and those that pace small ones."""
_LEAST_SHAPES = 60
"""Fewer shapes do not tell fill and small tiles from efficiency and launch."""
_LEAST_GRADIENTS = 3
_SMALL_WEIGHT = 0.3
"""Of a product with a side below 512, where there are enough larger ones: a training step is made of those."""
_LONG_WEIGHT = 4.0
"""Of a product that ran for seconds: its time is a mean over many calls."""


@dataclass(frozen=True)
class FittedProducts:
    """Constants of matrix products."""

    constants: GemmConstants
    weight_gradient: float
    """Efficiency of the gradient of a weight over that of other products."""
    borrowed: dict[str, str]
    """Constants that are as they were before the fit (`weight_gradient` may be among them), and why."""
    used: int
    dropped: int
    """Rows whose time cannot be believed."""


@dataclass(frozen=True)
class LearnedProducts:
    """All that the products of one number format say."""

    fitted: FittedProducts
    shapes: Shapes
    scores: tuple[HeldOutScore, ...]


def seconds(
    rows: Products, sheet: DataSheet, constants: GemmConstants | Mapping[str, float], *, weight_gradient: float = 1.0
) -> Values:
    """Times that the form gives, each row at its own clock [s].

    Parameters
    ----------
    rows
        The products.
    sheet
        Limits of the device.
    constants
        Of the form.
    weight_gradient
        Efficiency of the gradient of a weight over that of other products.
    """
    values = dict(constants) if isinstance(constants, Mapping) else constants.model_dump()
    efficiency, long = values["efficiency"], rows.sustained > 0
    efficiency = efficiency * np.where(rows.weight_gradient > 0, weight_gradient, 1.0)
    efficiency = efficiency * np.where(long, values["sustained"], 1.0)
    shared = {
        "k": rows.k,
        "batch": rows.batch,
        "element_bytes": sheet.element_bytes,
        "peak": sheet.peak,
        "bandwidth": sheet.bandwidth,
        "bandwidth_efficiency": values["bandwidth_efficiency"],
        "launch": values["launch"],
    }
    if sheet.matrix_unit == "systolic-array":
        return np.asarray(matmul.systolic_gemm_time(rows.m, rows.n, efficiency=efficiency, **shared))
    shared |= {name: values[name] for name in _STRUCTURE}
    shared["sustained"] = np.where(long, 1.0, values["sustained"])
    if sheet.matrix_unit == "vector":
        return np.asarray(matmul.vector_gemm_time(rows.m, rows.n, efficiency=efficiency, **shared))
    efficiency = efficiency * (_alignment(rows) if sheet.aligned else 1.0)
    return np.asarray(matmul.gemm_time(rows.m, rows.n, efficiency=efficiency, processors=sheet.processors, **shared))


def _alignment(rows: Products) -> Values:
    """Share of the rate that the widths of weights leave, as the simulator prices it; 1 for products of activations."""
    other = np.where(rows.weight_gradient > 0, rows.m, rows.k)
    return np.where(rows.batch > 1, 1.0, matmul.alignment_share(rows.n, other))


def sizes(rows: Products) -> Values:
    """Sizes of each row, in the order in which profiles keep them."""
    return np.stack([rows.m, rows.n, rows.k, rows.batch, rows.weight_gradient], axis=1)


def fit(
    rows: Products,
    sheet: DataSheet,
    start: GemmConstants,
    *,
    weight_gradient: float = 1.0,
    source: str = "measured products",
    seen: Seen = "primary",
) -> FittedProducts:
    """Fit the six constants, and that of weight gradients, to products of one number format.

    Parameters
    ----------
    rows
        The products; none are enough for the constants to stay as they are.
    sheet
        Limits of the device at this number format.
    start
        Constants to start from, to which the result is weakly drawn; what the rows do not determine stays as there.
    weight_gradient
        Efficiency of weight gradients to start from.
    source
        Where the rows come from.
    seen
        How they were seen.

    Raises
    ------
    ValueError
        Where the rows have several number formats.
    """
    return _fitted(fitting.fit(_form(rows, sheet, start, weight_gradient), rows), source, seen)


def learn(
    rows: Products,
    sheet: DataSheet,
    start: GemmConstants,
    *,
    weight_gradient: float = 1.0,
    source: str = "measured products",
    seen: Seen = "primary",
    most_shapes: int = fitting.MOST_SHAPES,
    held: Mapping[str, str] | None = None,
) -> LearnedProducts:
    """Fit the constants to all rows, keep a spread of residuals, and score both on weights that were held out.

    Parameters are those of `fit`, and

    Parameters
    ----------
    most_shapes
        Shapes to keep.
    held
        Constants that stay as they are, and why.
    """
    form = fitting.holding(_form(rows, sheet, start, weight_gradient), held or {})
    learned = fitting.learn(form, rows, most_shapes=most_shapes)
    return LearnedProducts(_fitted(learned.fit, source, seen), learned.shapes, learned.scores)


def _fitted(form_fit: fitting.FormFit, source: str, seen: Seen) -> FittedProducts:
    values = dict(form_fit.values)
    weight_gradient, launch = values.pop("weight_gradient"), values.pop("launch")
    constants = GemmConstants.model_validate({**values, "launch": f"{launch} s", "source": source, "seen": seen})
    return FittedProducts(constants, weight_gradient, form_fit.borrowed, form_fit.used, form_fit.dropped)


def _form(rows: Products, sheet: DataSheet, start: GemmConstants, weight_gradient: float) -> fitting.Form[Products]:
    dtype = fitting.format_of(rows.dtype)
    again = 1.0 + (rows.seconds > _BURST).sum() / max((rows.sustained > 0).sum(), 1)

    def priced(some: Products, values: Mapping[str, float]) -> Values:
        return seconds(some, sheet, values, weight_gradient=values["weight_gradient"])

    def weights(some: Products) -> Values:
        small = _SMALL_WEIGHT if some.large.sum() >= _LEAST_SHAPES else 1.0
        return np.where(some.large, 1.0, small) * np.where(some.sustained > 0, _LONG_WEIGHT * again, 1.0)

    return fitting.Form(
        phase="gemm",
        constants=_constants(start, weight_gradient),
        seconds=priced,
        fastest=lambda some: some.flops / sheet.peak,
        sizes=sizes,
        layers=_layers,
        weights=weights,
        parts={
            f"all {dtype} products": _all,
            f"large {dtype} products": lambda some: some.large,
            f"small {dtype} products": lambda some: ~some.large,
        },
        preferred=lambda some: some.large,
        withheld=_withheld,
    )


def _constants(start: GemmConstants, weight_gradient: float) -> tuple[Constant, ...]:
    """What may move, by how much it is expected to, and between which bounds."""
    return (
        Constant("efficiency", start.efficiency, 0.01, 1.3, 0.3, relative=True),
        Constant("bandwidth_efficiency", start.bandwidth_efficiency, 0.05, 1.3, 0.4, relative=True),
        Constant("launch", start.launch, 0.0, 1e-3, 5e-6),
        Constant("fill", start.fill, 0.0, 1000.0, 80.0),
        Constant("small_tile", start.small_tile, 0.0, 100.0, 8.0),
        Constant("sustained", start.sustained, 0.4, 1.0, 0.2),
        Constant("weight_gradient", weight_gradient, 0.4, 1.3, 0.15),
    )


def _withheld(rows: Products) -> dict[str, str]:
    """Constants that the kind and the number of rows cannot determine, whatever their times."""
    reasons: dict[str, str] = {}
    shapes = len(np.unique(sizes(rows), axis=0))
    if shapes < _LEAST_SHAPES:
        reasons |= dict.fromkeys(_STRUCTURE, f"{shapes} shapes, {_LEAST_SHAPES} needed" if shapes else "no rows")
    if not np.any((rows.sustained > 0) | (rows.seconds > _BURST)):
        reasons["sustained"] = "no call ran under long load"
    gradients = int((rows.weight_gradient > 0).sum())
    if gradients < _LEAST_GRADIENTS:
        reasons["weight_gradient"] = f"{gradients} weight gradients, {_LEAST_GRADIENTS} needed"
    return reasons


def _layers(rows: Products) -> Values:
    """The two sides of each row's weight, whichever way round a pass has them."""
    one, other = rows.n, np.where(rows.weight_gradient > 0, rows.m, rows.k)
    return np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1)


def _all(rows: Products) -> Mask:
    return np.ones(len(rows), dtype=bool)
