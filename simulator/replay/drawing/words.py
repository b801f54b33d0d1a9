"""What the bars of a picture say when somebody points at them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardware import units
from simulator.replay.orders import PassKind, pass_in_words
from simulator.replay.spans import Piece, Span
from simulator.replay.timeline import StageRun

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_VISIBLE = 0.0005
"""Share of a pass below which a wait is not named."""


def told(stage: StageRun, name: str, start: float, seconds: float, more: str = "", where: str = "") -> str:
    """A bar in words."""
    lines = [f"<b>{name}</b>", f"stage {stage.index + 1}{where}"]
    lines.append(f"{units.duration(seconds)}, from {start:,.6g} s on")
    return "<br>".join([*lines, *([more] if more else [])])


def of_span(stage: StageRun, span: Span, start: float, micro_batch: int = -1, chunk: int = -1) -> str:
    """A task in words."""
    where = f", micro-batch {micro_batch + 1}" if micro_batch >= 0 else ""
    where += f", chunk {chunk + 1}" if chunk >= 0 and len(stage.held) > 1 else ""
    where += f", {span.place}" if span.place else ""
    if span.waits:
        return told(stage, "the device waits", start, span.duration, f"for {span.name}", where)
    handled = amount(span.size, span.unit, span.duration) if span.unit else ""
    return told(stage, f"{span.name}, {span.phase.value}", start, span.duration, handled, where)


def amount(size: float, unit: str, seconds: float) -> str:
    """A size and a rate in words."""
    scale, prefix = next(each for each in _PREFIXES if size >= each[0] or each[0] == 1.0)
    words = f"{units.digits(size / scale)} {prefix}{unit}"
    if seconds > 0.0:
        rate = size / seconds
        scale, prefix = next(each for each in _PREFIXES if rate >= each[0] or each[0] == 1.0)
        words += f" at {units.digits(rate / scale)} {prefix}{unit}/s"
    return words


def of_pass(stage: StageRun, key: tuple[int, PassKind], micro_batch: int, begin: float) -> str:
    """A pass in words, but for what it consists of."""
    where = f", chunk {key[0] + 1}" if len(stage.held) > 1 else ""
    seconds = stage.passes[key].piece.duration
    return told(stage, f"{pass_in_words(key[1])} of micro-batch {micro_batch + 1}", begin, seconds, where=where)


def content(stage: StageRun, chunk: int, kind: PassKind) -> str:
    """What the passes of a chunk consist of: arithmetic, and what the device waits for."""
    piece = stage.passes[chunk, kind].piece
    arithmetic = _arithmetic(piece)
    lines = [amount(arithmetic, "FLOP", piece.duration)] if arithmetic else []
    for (_, part), seconds in sorted(piece.busy(waits=True).items(), key=lambda each: -each[1]):
        if seconds > _VISIBLE * piece.duration:
            lines.append(f"of it waits for {part.replace('_', ' ')}: {units.duration(seconds)}")
    return "".join(f"<br>{line}" for line in lines)


def of_several(stage: StageRun, index: NDArray[np.int64], begin: float, seconds: float) -> str:
    """Passes that are one bar in words."""
    kinds, micro_batches = stage.order.kinds[index], stage.order.micro_batches[index]
    counts = [(kind, int(np.count_nonzero(kinds == int(kind)))) for kind in PassKind]
    passes = ", ".join(f"{number} x {pass_in_words(kind)}" for kind, number in counts if number)
    numbers = f"micro-batches {int(micro_batches.min()) + 1} to {int(micro_batches.max()) + 1}"
    return told(stage, f"{len(index):,} passes of {numbers}", begin, seconds, passes)


def _arithmetic(piece: Piece) -> float:
    """Floating-point operations of a piece."""
    own = sum(span.size for span in piece.spans if span.unit == "FLOP")
    return own + sum(_arithmetic(each) for _, _, each in piece.inner)
