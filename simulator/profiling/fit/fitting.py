"""Fits of a form to measured kernels: its constants, what the nearest shapes add, and how far off both are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from hardware.measured import HeldOutScore, Phase, Shapes
from simulator.pricing.nearest import Nearest
from simulator.profiling.fit.held_out import halves, order_of, score, spread
from simulator.profiling.fit.robust import Constant, solve
from simulator.profiling.records.rows import Mask, TimedCalls, Values, Words

MOST_SHAPES = 2000
_MOST_ROWS = 4000
"""Rows that a fit works on; more do not make it better."""
_LEAST_ROWS = 8
"""Fewer rows are not divided: all of them are fitted, and none is scored."""
_TOO_FAST = 1.02
"""Share of the peak rate above which a time is not believed."""
_ODD = 5.0
"""Factor between measured and fitted time, either way, beyond which a row is not believed."""
_SMALLEST_RESIDUAL = 5e-5

Rows = TypeVar("Rows", bound=TimedCalls)


@dataclass(frozen=True)
class Form(Generic[Rows]):
    """A form that prices rows of one kind with named constants."""

    phase: Phase
    constants: tuple[Constant, ...]
    seconds: Callable[[Rows, Mapping[str, float]], Values]
    """Times of the rows [s]."""
    fastest: Callable[[Rows], Values]
    """Time of each row at the peak rate [s]."""
    sizes: Callable[[Rows], Values]
    """Of each row, in the order in which a profile keeps them."""
    layers: Callable[[Rows], Values]
    """Numbers that name the layer of each row; rows of one layer are held out together."""
    weights: Callable[[Rows], Values]
    parts: Mapping[str, Callable[[Rows], Mask]]
    """What is scored."""
    preferred: Callable[[Rows], Mask]
    """Shapes of which a profile keeps more."""
    withheld: Callable[[Rows], Mapping[str, str]]
    """Constants that too few rows speak of, and why."""


@dataclass(frozen=True)
class FormFit:
    """Constants that were fitted to some rows."""

    values: dict[str, float]
    borrowed: dict[str, str]
    """Constants that are as they were before, and why the rows do not determine them."""
    used: int
    dropped: int
    """Rows whose time cannot be believed."""


@dataclass(frozen=True)
class LearnedForm:
    """All that some rows say of a form."""

    fit: FormFit
    shapes: Shapes
    scores: tuple[HeldOutScore, ...]


def format_of(dtypes: Words) -> str:
    """The one number format of some rows.

    Raises
    ------
    ValueError
        Where there are several.
    """
    formats = sorted(set(dtypes.tolist()))
    if len(formats) > 1:
        raise ValueError(f"rows of one number format are fitted together, not of {', '.join(formats)}")
    return formats[0] if formats else "no"


def holding(form: Form[Rows], held: Mapping[str, str]) -> Form[Rows]:
    """A form some of whose constants stay as they are, each with the reason."""
    return replace(form, withheld=lambda rows: {**form.withheld(rows), **held})


def fit(form: Form[Rows], rows: Rows) -> FormFit:
    """Fit the constants of a form; with no rows they are as they were."""
    believed, values, borrowed = _fit(form, rows)
    return FormFit(values, borrowed, used=int(believed.sum()), dropped=len(rows) - int(believed.sum()))


def is_possible(seconds: Values, fastest: Values) -> Mask:
    """Which times [s] are not below what a data sheet allows [s], but for what rounding takes."""
    return np.asarray(np.isfinite(seconds) & (seconds > 0.0) & (seconds * _TOO_FAST >= fastest), dtype=np.bool_)


def _fit(form: Form[Rows], rows: Rows) -> tuple[Mask, dict[str, float], dict[str, str]]:
    """The rows that are believed, the constants, and why some are as they were."""
    believed = is_possible(rows.seconds, form.fastest(rows))
    values, borrowed = _constants(form, rows.where(believed))
    odd = believed.copy()
    odd[believed] = np.abs(_residuals(form, rows.where(believed), values)) > np.log(_ODD)
    if np.any(odd):
        believed &= ~odd
        values, borrowed = _constants(form, rows.where(believed))
    return believed, values, borrowed


def _constants(form: Form[Rows], rows: Rows) -> tuple[dict[str, float], dict[str, str]]:
    withheld = dict(form.withheld(rows))
    free = [each for each in form.constants if each.name not in withheld]
    fixed = {each.name: each.start for each in form.constants}
    sample = rows.where(_sample(form, rows))

    def logs(values: Mapping[str, float]) -> Values:
        return np.log(form.seconds(sample, {**fixed, **values}))

    solution = solve(free, logs, np.log(sample.seconds), form.weights(sample))
    why = "the rows hardly depend on it" if len(rows) else "no rows"
    flat = {each.name: why for each in free if each.name not in solution.determined}
    return {**fixed, **solution.values}, {**withheld, **flat}


def _sample(form: Form[Rows], rows: Rows) -> Mask:
    """The rows that a fit works on: all, or those that come first in an order that looks random."""
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[order_of(form.sizes(rows))[:_MOST_ROWS]] = True
    return chosen


def _residuals(form: Form[Rows], rows: Rows, values: Mapping[str, float]) -> Values:
    return np.log(rows.seconds / form.seconds(rows, values))


def learn(form: Form[Rows], rows: Rows, *, most_shapes: int = MOST_SHAPES) -> LearnedForm:
    """Fit a form to all rows, keep a spread of residuals, and score it on rows that a fit to the others did not see.

    Parameters
    ----------
    form
        The form, with the constants to start from.
    rows
        What was measured.
    most_shapes
        Shapes to keep.
    """
    believed, values, borrowed = _fit(form, rows)
    kept = rows.where(believed)
    return LearnedForm(
        fit=FormFit(values, borrowed, used=len(kept), dropped=len(rows) - len(kept)),
        shapes=_shapes(form, kept, values, most_shapes),
        scores=_scores(form, rows, most_shapes),
    )


def _shapes(form: Form[Rows], rows: Rows, values: Mapping[str, float], most: int) -> Shapes:
    """The shapes to keep, and what the form leaves of each; of one that was measured repeatedly, the mean."""
    if not len(rows):
        return Shapes(sizes=(), residuals=())
    sizes, first, same = np.unique(form.sizes(rows), axis=0, return_index=True, return_inverse=True)
    residuals = np.bincount(same.reshape(-1), _residuals(form, rows, values)) / np.bincount(same.reshape(-1))
    picked = spread(sizes, form.preferred(rows)[first], most)
    return Shapes(
        sizes=tuple(tuple(float(size) for size in sizes[at]) for at in picked),
        residuals=tuple(_rounded(residuals[at]) for at in picked),
    )


def _rounded(residual: float) -> float:
    """A residual with the digits that a profile keeps."""
    return 0.0 if abs(residual) < _SMALLEST_RESIDUAL else round(float(residual), 4)


def _scores(form: Form[Rows], rows: Rows, most_shapes: int) -> tuple[HeldOutScore, ...]:
    """Fit one half of the layers and score the other; rows that were fitted and scored never mix."""
    if len(rows) < _LEAST_ROWS:
        return ()
    fitted = _divided(form, rows)
    believed, values, _ = _fit(form, rows.where(fitted))
    some = rows.where(fitted).where(believed)
    shapes = _shapes(form, some, values, most_shapes)
    asked = rows.where(~fitted)
    asked = asked.where(is_possible(asked.seconds, form.fastest(asked)))
    if not len(some) or not len(asked):
        return ()
    predicted = form.seconds(asked, values)
    nearest = Nearest(np.array(shapes.sizes), np.array(shapes.residuals))
    corrected = predicted * nearest.correction(*form.sizes(asked).T)[0]
    before = form.seconds(asked, {each.name: each.start for each in form.constants})
    scored = [(what, part(asked)) for what, part in form.parts.items()]
    return tuple(
        score(
            form.phase,
            what,
            asked.seconds[part],
            fitted=len(some),
            predicted=predicted[part],
            corrected=corrected[part],
            before=before[part],
        )
        for what, part in scored
        if np.any(part)
    )


def _divided(form: Form[Rows], rows: Rows) -> Mask:
    """Which rows to fit: half of the layers, or half of the shapes where all rows are of one layer or two."""
    by_layer = halves(form.layers(rows))
    if 0.25 <= by_layer.mean() <= 0.75:
        return by_layer
    return halves(form.sizes(rows))
