"""How many cases a test tries: some in every run, many more in a thorough one (`make thorough`)."""

from __future__ import annotations

import os


def cases(*, usual: int, thorough: int) -> int:
    """Cases of a test: `usual`, or `thorough` where the environment says CAPSIM_THOROUGH=1."""
    return thorough if os.environ.get("CAPSIM_THOROUGH") == "1" else usual
