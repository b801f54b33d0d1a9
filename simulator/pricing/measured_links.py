"""Collectives inside a node by constants that were fitted to measured times of each kind and number of ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware.measured import CollectiveName, LinkConstants
from simulator.formulas import collectives
from simulator.formulas.typing import Num

COSTS = ("latency", "medium_cost", "large_cost")
SCALES = ("medium_size", "large_size", "rate")


def volume(kind: str, message_bytes: Num, degree: Num) -> Num:
    """Bytes that one rank sends in a collective over one level of wiring [B].

    >>> [float(volume(kind, 8e6, 8)) for kind in ("all_reduce", "all_gather", "all_to_all", "send")]
    [14000000.0, 7000000.0, 7000000.0, 8000000.0]
    """
    if kind == "send":
        return message_bytes * np.ones_like(degree, dtype=np.float64)
    if kind == "all_to_all":
        return collectives.exchanged_volume(message_bytes, degree, inner_ranks=1.0, degree=degree)
    passes = 2.0 if kind == "all_reduce" else 1.0
    return collectives.reduced_volume(message_bytes, degree, inner_ranks=1.0, passes=passes)


@dataclass(frozen=True)
class _ByRanks:
    """Constants of one kind of collective, by rising number of ranks."""

    ranks: NDArray[np.float64]
    constants: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, by_ranks: Mapping[int, LinkConstants]) -> _ByRanks:
        """The constants as arrays."""
        counts = sorted(by_ranks)
        constants = {
            name: np.array([getattr(by_ranks[count], name) for count in counts], dtype=np.float64)
            for name in (*COSTS, *SCALES)
        }
        return cls(np.array(counts, dtype=np.float64), constants)

    def at(self, ranks: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The constants between the numbers of ranks that were measured.

        Each rank adds its step to the costs; the rate is that of many ranks less a loss over their number.
        """
        constants = {name: np.interp(ranks, self.ranks, column) for name, column in self.constants.items()}
        inverse = -1.0 / np.maximum(ranks, 1.0)
        return {**constants, "rate": np.interp(inverse, -1.0 / self.ranks, self.constants["rate"])}


class MeasuredLinks:
    """Times of collectives whose kind was measured.

    Parameters
    ----------
    constants
        By kind and number of ranks.
    """

    def __init__(self, constants: Mapping[CollectiveName, Mapping[int, LinkConstants]]) -> None:
        self._kinds: dict[str, _ByRanks] = {
            kind: _ByRanks.of(by_ranks) for kind, by_ranks in constants.items() if by_ranks
        }

    def time(self, kind: str, message_bytes: Num, degree: Num) -> tuple[Num, Num]:
        """Time of a collective, and whether it is known.

        Between two numbers of ranks that were measured, constants are interpolated; beyond them, and for a kind that
        was not measured, nothing is known.

        Parameters
        ----------
        kind
            As a profile names it.
        message_bytes
            Whole message [B].
        degree
            Ranks in the group [1]; both broadcast.

        Returns
        -------
        tuple
            Time [s], and whether it may be used; a time that is not known is finite and means nothing.
        """
        message, ranks = np.asarray(message_bytes, dtype=np.float64), np.asarray(degree, dtype=np.float64)
        if kind not in self._kinds:
            shape = np.broadcast_shapes(message.shape, ranks.shape)
            return np.zeros(shape), np.zeros(shape, dtype=np.bool_)
        by_ranks = self._kinds[kind]
        time = collectives.measured_link_time(message, volume(kind, message, ranks), **by_ranks.at(ranks))
        known = (ranks >= by_ranks.ranks[0]) & (ranks <= by_ranks.ranks[-1])
        return time, np.broadcast_to(known, np.shape(time))
