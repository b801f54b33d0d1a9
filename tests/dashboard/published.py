"""A part of the published runs, which is priced in a moment."""

from __future__ import annotations

from functools import cache

import simulator
from simulator import Validation
from simulator.corpus import runs

_EACH = 25
"""One of so many runs is taken."""


@cache
def small_validation() -> Validation:
    """Some runs of every large source beside their predictions."""
    return simulator.validate(runs.shipped()[::_EACH])
