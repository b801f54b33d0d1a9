"""Colours of a picture of a step; readers with any kind of colour vision tell those apart that stand side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from simulator.replay.drawing.bars import BarKind

FORWARD = ("#9BBBD4", "#8DE0B1", "#F5E6A8")
WEIGHTS = ("#4295E6", "#35B08A", "#B8A664")
BACKWARD = ("#1B538A", "#00723D", "#5F5400")
"""By micro-batch, in turns: light ahead, dark back, and between them where weight gradients come by themselves."""
EXPOSED, IDLE, HOST = "#D55E00", "#CC79A7", "#E69F00"
CARRIED, ONCE, SEVERAL = "#F7B79A", "#6B6B6B", "#B8C1C4"
_LINES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8C8C8C")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

ORDER: tuple[BarKind, ...] = get_args(BarKind)
"""In the legend."""
NAMES: dict[BarKind, str] = {
    "forward": "forward",
    "backward": "backward",
    "weight gradients": "weight gradients",
    "several passes": "several passes",
    "recompute": "recomputation",
    "once a step": "optimizer",
    "communication": "communication",
    "exposed communication": "exposed<br>communication",
    "host": "host",
    "idle": "pipeline idle",
}
_OF_MICRO_BATCH: dict[BarKind, tuple[str, ...]] = {
    "forward": FORWARD,
    "recompute": FORWARD,
    "backward": BACKWARD,
    "weight gradients": WEIGHTS,
}
_PLAIN: dict[BarKind, str] = {
    "several passes": SEVERAL,
    "once a step": ONCE,
    "communication": CARRIED,
    "exposed communication": EXPOSED,
    "host": HOST,
    "idle": IDLE,
}
_HATCHED: dict[BarKind, dict[str, Any]] = {
    "recompute": {"shape": "x", "size": 6, "solidity": 0.25, "fillmode": "overlay", "fgcolor": "#6B6B6B"},
    "idle": {"shape": "/", "size": 5, "solidity": 0.3, "fillmode": "replace"},
}


def marker(kind: BarKind, micro_batches: Sequence[int], borders: Sequence[float]) -> dict[str, Any]:
    """How bars of one kind look; passes take turns by micro-batch.

    Parameters
    ----------
    kind
        Of the bars.
    micro_batches
        Of each, from 0.
    borders
        Width of the line around each [pixels].
    """
    shades = _OF_MICRO_BATCH.get(kind)
    colour: Any = _PLAIN[kind] if shades is None else [shades[number % len(shades)] for number in micro_batches]
    pattern = {"pattern": _HATCHED[kind]} if kind in _HATCHED else {}
    return {"color": colour, "line": {"width": borders, "color": "rgba(255, 255, 255, 0.7)"}, **pattern}


def line(number: int, of: int) -> dict[str, Any]:
    """How the memory of one of several stages looks."""
    return {
        "color": _LINES[number % len(_LINES)],
        "width": 2,
        "dash": _DASHES[number % len(_DASHES)] if of > 1 else "solid",
    }
