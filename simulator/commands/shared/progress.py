"""A line on the terminal that says how far something long is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PATIENCE = 1.0
"""What takes no longer says nothing [s]."""
_OFTEN = 0.1
"""Time between two lines [s]."""

INTERRUPTED = 130
"""The status that a shell expects of what Ctrl-C ended."""


@contextmanager
def progress_line(*, shown: bool) -> Iterator[Callable[[str], None] | None]:
    """Say how far it is, on a terminal only, and leave nothing of it.

    Parameters
    ----------
    shown
        Whether to say anything.
    """
    import sys
    import time

    if not shown or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    start, said = time.monotonic(), [0.0]

    def tell(words: str) -> None:
        now = time.monotonic()
        if now - start > _PATIENCE and now - said[0] > _OFTEN:
            said[0] = now
            sys.stderr.write(f"\r\033[K{words}")
            sys.stderr.flush()

    try:
        yield tell
    finally:
        if said[0]:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
