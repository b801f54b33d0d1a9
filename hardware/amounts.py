"""Numbers as people write them: 780e9, 780B, 1,000,000 or 2.5 million; one reader for options, files and pages."""

from __future__ import annotations

import math
import re
from typing import Any, TypeGuard

LONGEST = 80
"""Characters of the longest amount, with its unit."""
UNSIGNED = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
"""A written number as a regular expression, with thousands apart or not."""
SCALES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
SCALES |= {"thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
"""What follows a number to make it larger, in upper or lower case."""
_NUMBER = re.compile(rf"\s*([-+]?{UNSIGNED})\s*([A-Za-z]*|%)\s*\Z", re.ASCII)
_WHOLE = re.compile(r"[-+]?[\d,_]+", re.ASCII)
_VALUE = re.compile(
    r"(?:\s*[-+]?\$\s*\d{1,3}(?:,\d{3})+(?:[^\d,][^,]*)?|\s*[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?\s*[A-Za-z/$%][^,]*"
    r"|\s*[-+]?\d{1,3}(?:,0\d\d)+(?:[^\d,][^,]*)?|[^,]*)(?=,|\Z)",
    re.ASCII,
)
_SCALE_OF = {**SCALES, "": 1.0, "%": 0.01}


def read_number(text: str) -> int | float | None:
    """Read a number; nothing where the text is no finite number.

    Parameters
    ----------
    text
        Digits, with thousands apart or an exponent, and with k, M, B (or G), T, a word such as billion, or % behind.

    Examples
    --------
    >>> read_number("780B"), read_number("2.5e6"), read_number("1,024"), read_number("300 billion"), read_number("10%")
    (780000000000, 2500000, 1024, 300000000000, 0.1)
    >>> read_number("many"), read_number("1e400"), read_number("--5"), read_number("80 GB")
    (None, None, None, None)
    """
    match = _NUMBER.match(text) if len(text) <= LONGEST else None
    scale = _SCALE_OF.get(match[2].lower()) if match is not None else None
    if match is None or scale is None:
        return None
    digits = strip_thousands(match[1])
    if _WHOLE.fullmatch(digits) and scale >= 1.0:  # exact, however many digits
        return int(digits) * int(scale)
    value = float(digits) if scale == 1.0 else times(digits, scale)
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def strip_thousands(digits: str) -> str:
    """A written number without what sets its thousands apart."""
    return digits.replace(",", "").replace("_", "")


def times(digits: str, scale: float) -> float:
    """A written number of units; 66.9 tera is 6.69e13, not 66900000000000.01."""
    return float(f"{float(strip_thousands(digits)) * scale:.15g}")


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number, which truth is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def split_values(text: str) -> list[str]:
    """The values of a list that commas separate, of which some may be amounts with their thousands apart.

    Digits that a comma precedes belong to the number before it where they begin with 0, as no value does, or where the
    whole has a unit or a dollar sign: 1,000 and 2,039 GB/s are one value, and 8,128 are two.

    Examples
    --------
    >>> split_values("8, 64,512"), split_values("1,000,000,2,000,000"), split_values("0.5x,2,039 GB/s,$1,500")
    (['8', '64', '512'], ['1,000,000', '2,000,000'], ['0.5x', '2,039 GB/s', '$1,500'])
    """
    values, at = [], 0
    while at <= len(text):
        match = _VALUE.match(text, at)
        end = match.end() if match is not None else len(text)
        values.append(text[at:end].strip())
        at = end + 1
    return values
