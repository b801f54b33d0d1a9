"""The constants of fused attention, fitted to measured kernels of one number format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hardware.classes import AttentionConstants
from hardware.measured import HeldOutScore, Shapes
from hardware.sheet import Seen
from simulator.formulas import kernels
from simulator.profiling.fit import fitting
from simulator.profiling.fit.robust import Constant
from simulator.profiling.fit.sheet import DataSheet
from simulator.profiling.records.rows import Attentions, Mask, Values

_FORWARD, _BACKWARD = 2.0, 5.0
"""Products of a pass."""
_ELEMENT_BYTES = 2.0
"""As the analytic backend prices attention in every number format [B]."""
_LEAST_SHAPES = 12
"""Fewer shapes do not tell fill and bandwidth from efficiency and launch."""
_LEAST_OF_A_PASS = 2
_LARGE_FLOPS = 1e10
"""Arithmetic of a kernel that a training step notices [FLOP]."""
_SMALL_WEIGHT = 0.3
MOST_SHAPES = 1000


@dataclass(frozen=True)
class FittedAttention:
    """Constants of fused attention."""

    constants: AttentionConstants
    borrowed: dict[str, str]
    """Constants that are as they were before the fit, and why; `backward_efficiency` then keeps its ratio to the
    forward pass."""
    used: int
    dropped: int
    """Rows whose time cannot be believed."""


@dataclass(frozen=True)
class LearnedAttention:
    """All that the attention kernels of one number format say."""

    fitted: FittedAttention
    shapes: Shapes
    scores: tuple[HeldOutScore, ...]


def seconds(rows: Attentions, sheet: DataSheet, constants: AttentionConstants | Mapping[str, float]) -> Values:
    """Times that the form gives [s].

    Parameters
    ----------
    rows
        The kernels.
    sheet
        Limits of the device.
    constants
        Of the form.
    """
    values = dict(constants) if isinstance(constants, Mapping) else constants.model_dump()
    backward = rows.backward > 0
    return np.asarray(
        kernels.attention_time(
            rows.queries,
            rows.keys,
            batch=rows.batch,
            heads=rows.heads,
            key_value_heads=rows.key_value_heads,
            head_size=rows.head_size,
            causal=rows.causal,
            matmuls=np.where(backward, _BACKWARD, _FORWARD),
            element_bytes=_ELEMENT_BYTES,
            peak=sheet.peak,
            bandwidth=sheet.bandwidth,
            processors=sheet.processors,
            efficiency=np.where(backward, values["backward_efficiency"], values["efficiency"]),
            bandwidth_efficiency=values["bandwidth_efficiency"],
            launch=values["launch"],
            fill=values["fill"],
            causal_block=sheet.causal_block,
        )
    )


def sizes(rows: Attentions) -> Values:
    """Sizes of each row, in the order in which profiles keep them."""
    columns = (rows.queries, rows.keys, rows.batch, rows.heads, rows.key_value_heads, rows.head_size)
    return np.stack([*columns, rows.causal, rows.backward], axis=1)


def fit(
    rows: Attentions,
    sheet: DataSheet,
    start: AttentionConstants,
    *,
    source: str = "measured attention",
    seen: Seen = "primary",
) -> FittedAttention:
    """Fit the constants to fused attention of one number format.

    Parameters
    ----------
    rows
        The kernels; none are enough for the constants to stay as they are.
    sheet
        Limits of the device at this number format.
    start
        Constants to start from, to which the result is weakly drawn; what the rows do not determine stays as there,
        the backward pass in proportion to the forward pass.
    source
        Where the rows come from.
    seen
        How they were seen.

    Raises
    ------
    ValueError
        Where the rows have several number formats.
    """
    return _fitted(fitting.fit(_form(rows, sheet, start), rows), source, seen)


def learn(
    rows: Attentions,
    sheet: DataSheet,
    start: AttentionConstants,
    *,
    source: str = "measured attention",
    seen: Seen = "primary",
    most_shapes: int = MOST_SHAPES,
) -> LearnedAttention:
    """Fit the constants to all rows, keep a spread of residuals, and score both on heads that were held out.

    Parameters are those of `fit`, and

    Parameters
    ----------
    most_shapes
        Shapes to keep.
    """
    learned = fitting.learn(_form(rows, sheet, start), rows, most_shapes=most_shapes)
    return LearnedAttention(_fitted(learned.fit, source, seen), learned.shapes, learned.scores)


def fastest_kernel(rows: Attentions) -> str:
    """The name of the kernel to fit where several were measured: the fastest of those that ran at least half as often.

    Kernels are compared on shapes that several ran; where there are none, the one that ran most often is taken.

    Raises
    ------
    ValueError
        Where there are no rows.
    """
    names, kernel, counts = np.unique(rows.kernel, return_inverse=True, return_counts=True)
    if not len(names):
        raise ValueError("no attention was measured")
    shape = np.unique(sizes(rows), axis=0, return_inverse=True)[1].reshape(-1)
    ran = np.zeros((shape.max() + 1, len(names)), dtype=bool)
    ran[shape, kernel] = True
    best = np.full(len(ran), np.inf)
    np.minimum.at(best, shape, rows.seconds)
    lost, shared = np.log(rows.seconds / best[shape]), ran.sum(axis=1)[shape] > 1

    def place(at: int) -> tuple[float, int]:
        mine = (kernel == at) & shared
        slow = float(np.mean(lost[mine])) if np.any(mine) and 2 * counts[at] >= counts.max() else np.inf
        return slow, -int(counts[at])

    return str(names[min(range(len(names)), key=place)])


def _fitted(form_fit: fitting.FormFit, source: str, seen: Seen) -> FittedAttention:
    values = _named(form_fit.values)
    borrowed = {_PROFILE_NAMES.get(name, name): why for name, why in form_fit.borrowed.items()}
    launch = f"{values.pop('launch')} s"
    constants = AttentionConstants.model_validate({**values, "launch": launch, "source": source, "seen": seen})
    return FittedAttention(constants, borrowed, form_fit.used, form_fit.dropped)


_PROFILE_NAMES = {"ratio": "backward_efficiency"}


def _named(values: Mapping[str, float]) -> dict[str, float]:
    """The constants of a profile: a fit moves the ratio of backward to forward efficiency."""
    others = {name: value for name, value in values.items() if name != "ratio"}
    return {**others, "backward_efficiency": round(values["efficiency"] * values["ratio"], 6)}


def _form(rows: Attentions, sheet: DataSheet, start: AttentionConstants) -> fitting.Form[Attentions]:
    dtype = fitting.format_of(rows.dtype)
    return fitting.Form(
        phase="attention",
        constants=_constants(start),
        seconds=lambda some, values: seconds(some, sheet, _named(values)),
        fastest=lambda some: flops(some) / sheet.peak,
        sizes=sizes,
        layers=lambda some: np.stack([some.heads, some.key_value_heads, some.head_size], axis=1),
        weights=lambda some: np.where(_large(some), 1.0, _SMALL_WEIGHT),
        parts={f"all {dtype} attention": _all, f"large {dtype} attention": _large},
        preferred=_large,
        withheld=_withheld,
    )


def _constants(start: AttentionConstants) -> tuple[Constant, ...]:
    """What may move, by how much it is expected to, and between which bounds."""
    return (
        Constant("efficiency", start.efficiency, 0.01, 1.2, 0.3, relative=True),
        Constant("ratio", start.backward_efficiency / start.efficiency, 0.2, 2.0, 0.3, relative=True),
        Constant("bandwidth_efficiency", start.bandwidth_efficiency, 0.02, 1.3, 0.6, relative=True),
        Constant("launch", start.launch, 0.0, 1e-3, 5e-6),
        Constant("fill", start.fill, 0.0, 2000.0, 100.0),
    )


def _withheld(rows: Attentions) -> dict[str, str]:
    """Constants that the kind and the number of rows cannot determine, whatever their times."""
    reasons: dict[str, str] = {}
    shapes = len(np.unique(sizes(rows), axis=0))
    if shapes < _LEAST_SHAPES:
        why = f"{shapes} shapes, {_LEAST_SHAPES} needed" if shapes else "no rows"
        reasons |= dict.fromkeys(("bandwidth_efficiency", "fill"), why)
    backward = int((rows.backward > 0).sum())
    if backward < _LEAST_OF_A_PASS:
        reasons["ratio"] = f"{backward} backward passes, {_LEAST_OF_A_PASS} needed"
    return reasons


def flops(rows: Attentions) -> Values:
    """Arithmetic that a kernel must do [FLOP]; of a causal one that of the lower triangle."""
    products = np.where(rows.backward > 0, _BACKWARD, _FORWARD)
    seen = rows.keys - np.where(rows.causal > 0, 0.5 * (np.minimum(rows.queries, rows.keys) - 1.0), 0.0)
    return 2.0 * products * rows.batch * rows.heads * rows.queries * seen * rows.head_size


def _all(rows: Attentions) -> Mask:
    return np.ones(len(rows), dtype=bool)


def _large(rows: Attentions) -> Mask:
    return flops(rows) >= _LARGE_FLOPS
