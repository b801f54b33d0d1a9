"""Lengths of requests: numbers, distributions, or a file of them."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.errors import InputError, shown
from hardware.reading import read_text

Counts = NDArray[np.int64]
MOST_TOKENS = 10_000_000
MOST_TRACE_BYTES = 20_000_000
"""The largest file of lengths that is read."""
MOST_REQUESTS = 1_000_000
_SPOKEN = re.compile(r"(uniform|lognormal):([^-,:]+)[-,:]([^-,:]+)")
_FORMS = "a number, uniform:LEAST-MOST, or lognormal:MEAN,DEVIATION"
_NAMES = {
    "input_tokens": ("input_tokens", "input_length", "num_prefill_tokens", "contexttokens", "prompt_tokens"),
    "output_tokens": ("output_tokens", "output_length", "num_decode_tokens", "generatedtokens", "completion_tokens"),
    "arrival_s": ("arrival_s", "arrived_at"),
}
"""Columns by the names that published traces give them (Azure's LLM traces, Vidur, Mooncake). Their timestamps are
dates in one and milliseconds in another, and are not read."""


@dataclass(frozen=True)
class Lengths:
    """How many tokens a request has: one number, an even spread, or a lognormal distribution.

    Parameters
    ----------
    mean
        Of all requests [token].
    deviation
        Standard deviation of a lognormal distribution [token]; 0 for one number.
    least, most
        Ends of an even spread [token], where it is one.
    """

    mean: float
    deviation: float = 0.0
    least: float | None = None
    most: float | None = None

    @classmethod
    def read(cls, words: str, option: str = "length") -> Lengths:
        """Read lengths as people write them.

        Parameters
        ----------
        words
            A number of tokens, uniform:LEAST-MOST, or lognormal:MEAN,DEVIATION.
        option
            What it was given for, for the error.

        Raises
        ------
        InputError
            Where it is none of these, or no possible number of tokens.

        Examples
        --------
        >>> Lengths.read("512").mean, Lengths.read("uniform:100-300").mean, Lengths.read("lognormal:500,200").deviation
        (512.0, 200.0, 200.0)
        """
        spoken = _SPOKEN.fullmatch(words.strip().lower())
        if spoken is None:
            return cls(_tokens(words, option))
        if spoken[1] == "uniform":
            least, most = (_tokens(spoken[place], option) for place in (2, 3))
            if least > most:
                raise InputError(f"{option}={shown(words)}: the least length must not be above the most")
            return cls((least + most) / 2.0, 0.0, least, most)
        return cls(_tokens(spoken[2], option), _tokens(spoken[3], option))

    def draw(self, number: int, random: np.random.Generator) -> Counts:
        """Lengths of some requests [token].

        Parameters
        ----------
        number
            Requests.
        random
            Where chance comes from.
        """
        if self.least is not None and self.most is not None:
            return random.integers(math.ceil(self.least), math.floor(self.most) + 1, size=number)
        if self.deviation == 0.0:
            return np.full(number, max(round(self.mean), 1), dtype=np.int64)
        spread = math.log1p((self.deviation / self.mean) ** 2)
        drawn = random.lognormal(math.log(self.mean) - spread / 2.0, math.sqrt(spread), size=number)
        return np.clip(np.rint(drawn), 1, MOST_TOKENS).astype(np.int64)


@dataclass(frozen=True)
class Trace:
    """Requests of a file: lengths, and when each came where that is known."""

    inputs: Counts
    outputs: Counts
    arrivals: NDArray[np.float64] | None
    """From the first one on, in order [s]."""


def read_trace(path: str | Path) -> Trace:
    """Read lengths of requests from a table (CSV with a header) or lines of JSON.

    Columns are input_tokens and output_tokens, and arrival_s [s] where it is known; names of published traces are
    known too.

    Parameters
    ----------
    path
        The file, ending in .csv or .jsonl.

    Raises
    ------
    InputError
        With the file and the line, where a column is missing or a value is no number of tokens.
    """
    file = Path(path)
    text = read_text(file, most_bytes=MOST_TRACE_BYTES)
    rows = list(_json_rows(text, file) if file.suffix.lower() in (".jsonl", ".json") else _table_rows(text, file))
    if not rows:
        raise InputError(f"{file}: holds no requests")
    if len(rows) > MOST_REQUESTS:
        raise InputError(f"{file}: holds {len(rows):,} requests; at most {MOST_REQUESTS:,} are read")
    timed = [arrival for *_, arrival in rows if arrival is not None]
    if timed and len(timed) < len(rows):
        raise InputError(f"{file}: arrival_s is given for some requests only; give it for all or none")
    inputs, outputs = (np.array([row[place] for row in rows], dtype=np.int64) for place in (0, 1))
    if not timed:
        return Trace(inputs, outputs, None)
    order = np.argsort(np.array(timed), kind="stable")
    return Trace(inputs[order], outputs[order], np.array(timed)[order] - min(timed))


Row = tuple[int, int, float | None]


def _table_rows(text: str, file: Path) -> Iterator[Row]:
    """Requests of a table."""
    try:
        reader = csv.DictReader(io.StringIO(text), strict=True)
        for place, row in enumerate(reader):
            yield _row({str(name).strip(): value for name, value in row.items()}, file, place + 2)
    except csv.Error as error:
        raise InputError(f"{file}: is no table: {error}") from None


def _json_rows(text: str, file: Path) -> Iterator[Row]:
    """Requests of lines of JSON."""
    for place, line in enumerate(text.splitlines()):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError(f"{file}:{place + 1}: is no line of JSON") from None
        if not isinstance(row, dict):
            raise InputError(f"{file}:{place + 1}: must be an object with input_tokens and output_tokens")
        yield _row(row, file, place + 1)


def _row(row: dict[str, Any], file: Path, line: int) -> Row:
    """One request."""
    known = {name.lower(): value for name, value in row.items()}
    found: dict[str, Any] = {}
    for field, names in _NAMES.items():
        name = next((name for name in names if name in known), None)
        if name is None and field != "arrival_s":
            raise InputError(f"{file}:{line}: has no column {field}; a trace has input_tokens and output_tokens")
        found[field] = None if name is None else known[name]
    inputs, outputs = (
        round(_tokens(found[field], f"{file}:{line}: {field}")) for field in ("input_tokens", "output_tokens")
    )
    return inputs, outputs, _seconds(found["arrival_s"], f"{file}:{line}: arrival_s")


def _seconds(value: Any, place: str) -> float | None:
    """A time of arrival, where there is one [s]."""
    if value in (None, ""):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if isinstance(value, bool) or not abs(seconds) <= 1e12:
        raise InputError(f"{place}={shown(value)}: must be a number of seconds")
    return seconds


def _tokens(value: Any, place: str) -> float:
    """A number of tokens."""
    try:
        tokens = float(value)
    except (TypeError, ValueError, OverflowError):
        tokens = math.nan
    if isinstance(value, bool) or not 1.0 <= tokens <= MOST_TOKENS:
        raise InputError(f"{place}={shown(value)}: must be {_FORMS}, each from 1 to {MOST_TOKENS:,} tokens")
    return tokens
