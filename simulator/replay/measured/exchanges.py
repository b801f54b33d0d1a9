"""Collectives of a trace by kind and size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.replay.measured.kinds import KindNames
from simulator.replay.measured.reading import TraceEvent

_GATHERED = "all_gather"


@dataclass(frozen=True)
class Exchange:
    """Collectives of one kind and size in a step."""

    kind: str
    message_bytes: float | None
    """The whole message: the reduced, scattered or gathered tensor, or what one rank sends; none where it is not said
    [B]."""
    ranks: float | None
    """Of the group, where it is said [1]."""
    calls: float
    """In a step [1]."""
    seconds: float
    """Of all of them, whether or not the device waits; waiting for other ranks is part of it [s]."""


def exchanges_of(events: Iterable[tuple[TraceEvent, str]], ranks: int, names: KindNames) -> tuple[Exchange, ...]:
    """Collectives of a step, those that take longest first.

    Parameters
    ----------
    events
        Kernels of collectives, or the annotations of gloo, each with its kind.
    ranks
        Ranks that run together, where an event does not say how many are in its group [1].
    names
        Sizes of number formats.
    """
    sums: dict[tuple[str, float | None, float | None], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for event, kind in events:
        among = _number(event.arguments.get("Group size")) or (float(ranks) if ranks > 1 else None)
        both = sums[kind, _message(event.arguments, kind, among, names), among]
        both[0] += 1.0
        both[1] += event.end - event.start
    rows = (Exchange(*key, calls, seconds) for key, (calls, seconds) in sums.items())
    return tuple(sorted(rows, key=lambda row: -row.seconds))


def _message(arguments: Mapping[str, Any], kind: str, ranks: float | None, names: KindNames) -> float | None:
    """Size of the whole message [B]."""
    width = names.elements.get(str(arguments.get("dtype")))
    elements = [_number(arguments.get(key)) for key in ("In msg nelems", "Out msg nelems")]
    if width is not None and any(elements):
        sent, received = (number or 0.0 for number in elements)
        return width * (received if kind == _GATHERED or not sent else sent)
    whole = _of_tensors(arguments, names)
    if whole is None or kind != _GATHERED:
        return whole
    return whole * ranks if ranks is not None else None


def _of_tensors(arguments: Mapping[str, Any], names: KindNames) -> float | None:
    """Size of the tensors that an annotation was recorded with [B]."""
    shapes, formats = arguments.get("Input Dims"), arguments.get("Input type")
    if not isinstance(shapes, list) or not isinstance(formats, list):
        return None
    whole = 0.0
    for shape, name in zip(shapes, formats, strict=False):
        width = names.elements.get(str(name))
        if width is None or not isinstance(shape, list):
            return None
        size = float(width)
        for side in shape:
            size *= _number(side) or 0.0
        whole += size
    return whole or None


def _number(value: Any) -> float | None:
    """A count that a trace says."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
