"""Communication that hides behind compute."""

from __future__ import annotations

import numpy as np

from simulator.formulas.typing import Num

_NORM = 4.0
"""Exponent of the norm that joins the two limits of what can hide."""


def exposed(transfer: Num, window: Num) -> Num:
    """Time of a transfer that compute beside it does not hide.

    Parameters
    ----------
    transfer
        Time of the transfer alone [s].
    window
        Time of compute that it may run beside [s].

    Returns
    -------
    Num
        All of it where nothing runs beside it, and next to nothing where the window is much longer. Near balance some
        of it is exposed, since neither of the two is even over a step. The norm is this project's own, with the
        exponent of smooth roofline models [s].

    Examples
    --------
    >>> [round(float(exposed(3.0, window)), 3) for window in (0.0, 3.0, 30.0)]
    [3.0, 0.477, 0.0]
    """
    taken, held = np.asarray(transfer), np.asarray(window)
    larger = np.maximum(np.maximum(taken, held), np.finfo(float).tiny)
    smaller = np.minimum(taken, held)
    short_of_all = -np.expm1(np.log1p((smaller / larger) ** _NORM) / -_NORM)
    return np.asarray(taken - smaller + smaller * short_of_all)
