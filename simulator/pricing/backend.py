"""What every backend answers."""

from __future__ import annotations

from typing import Protocol

from simulator.formulas.typing import Num
from simulator.pricing.requests import Collective, Request


class Backend(Protocol):
    """Times of requests."""

    @property
    def name(self) -> str:
        """`analytic` or `measured`."""

    def time(self, request: Request) -> Num:
        """Time of one call [s]; it broadcasts over the request's sizes and the backend's own columns.

        Raises
        ------
        TypeError
            For something that is no request.
        """

    def leaves_node(self, request: Collective) -> Num:
        """Whether the ranks of a group do not share a node: 1 or 0."""
