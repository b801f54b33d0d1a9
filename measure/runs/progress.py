"""A line on the terminal that says how far a run is; nothing where nobody looks."""

from __future__ import annotations

import shutil
import sys

from measure.runs.session import Progress

_BAR = 20


def clock_words(seconds: float) -> str:
    """Write a time left.

    >>> clock_words(7.2), clock_words(75), clock_words(3700)
    ('7 s', '1:15 min', '1:01 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def line(progress: Progress, width: int) -> str:
    """The line, no wider than the terminal."""
    full = round(_BAR * progress.number / max(progress.planned, 1))
    bar = "#" * full + "." * (_BAR - full)
    text = f"{bar} {progress.number} of {progress.planned}, {clock_words(progress.left_s)} left: {progress.case.words}"
    return text[: max(width - 1, 20)]


class Teller:
    """Writes the line over itself, on a terminal only."""

    def __init__(self) -> None:
        self.shown = sys.stderr is not None and sys.stderr.isatty()

    def __call__(self, progress: Progress) -> None:
        """Say how far it is."""
        if self.shown:
            sys.stderr.write(f"\r\033[K{line(progress, shutil.get_terminal_size().columns)}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Leave nothing of it."""
        if self.shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
