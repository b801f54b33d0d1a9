"""Prices that somebody was offered: USD an hour of one device, with the unit or without."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from hardware.quantity import parse, show

_OFFER = re.compile(r"[a-z0-9][a-z0-9.+-]{0,79}", re.ASCII)


def is_rate(text: str) -> bool:
    """Whether text that says a price is an amount, and not the name of an offer."""
    return text[:1].isdecimal() or text[:1] in ("+", "-", ".")


def dollars_an_hour(value: float | str) -> float:
    """A price of one device [USD/s] that is written in USD an hour, with its unit or without.

    Raises
    ------
    ValueError
        Where it is none.

    Examples
    --------
    >>> dollars_an_hour(2.1) == dollars_an_hour("2.10 USD/h")
    True
    """
    text = str(value).strip()
    return parse(text if text[-1:].isalpha() else f"{text} USD/h", "price")


def _read(value: Any) -> float | str:
    """A negotiated price in SI, or the id of an offer."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return dollars_an_hour(value)
    if isinstance(value, str) and is_rate(value.strip()):
        return dollars_an_hour(value)
    if isinstance(value, str) and _OFFER.fullmatch(value):
        return value
    raise ValueError("give USD an hour of one device, such as 2.10, or the id of an offer")


def _written(value: float | str) -> str:
    """What `_read` reads as the same."""
    return value if isinstance(value, str) else show(value, "price")


OwnPrice = Annotated[float | str, BeforeValidator(_read), PlainSerializer(_written, when_used="json")]
"""A negotiated price of one device [USD/s], or the id of an offer."""
