"""Tables of measured operators as other projects publish them: CSV, one row a call, times in microseconds.

The kind of a table is known by its columns. Lines that begin with # say where a table comes from.
"""

from __future__ import annotations

import csv
import gzip
import stat
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np

from hardware.classes import Precision
from hardware.errors import InputError, shown, unknown
from hardware.measured import CollectiveName
from simulator.profiling.records.rows import (
    Attentions,
    Collectives,
    Measurements,
    Products,
    Streams,
    TimedCalls,
    Values,
    Words,
)

SHIPPED = Path(__file__).parent
"""Tables that come with the product; README.md beside them says from where."""
MOST_BYTES = 64_000_000
"""The largest table that is read, unpacked."""
_LARGEST = 1e12
_DTYPES: tuple[str, ...] = get_args(Precision)
_COLLECTIVES: tuple[str, ...] = get_args(CollectiveName)
_PASSES = ("fwd", "bwd", "dgrad", "wgrad")
_OPERATIONS = {
    "ln": "layer_norm",
    "layernorm": "layer_norm",
    "input_layernorm": "rms_norm",
    "post_attention_layernorm": "rms_norm",
}
"""Names of memory-bound operations that differ from those of a record."""
_GATED_PASSES = 2.5
"""An activation that moves more than so many elements for each of its output has a gate."""


def shipped() -> tuple[str, ...]:
    """Names of the tables that come with the product, as `read` takes them."""
    return tuple(sorted(path.name for path in SHIPPED.glob("*.csv.gz")))


@dataclass(frozen=True)
class _Table:
    """Some rows of a table, as text."""

    place: str
    names: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def words(self, name: str) -> list[str]:
        at = self.names.index(name)
        return [row[at] for row in self.rows]

    def among(self, name: str, valid: Sequence[str]) -> Words:
        """A column of which only some words are valid."""
        words = self.words(name)
        for line, word in zip(self.lines, words, strict=True):
            if word not in valid:
                raise InputError(f"{self.place}:{line}: {name}={shown(word)}; valid: {', '.join(valid)}")
        return np.array(words, dtype=np.str_)

    def numbers(self, name: str, usual: float | None = None, least: float = 1.0) -> Values:
        """A column of numbers; where the table does not have it, the usual number."""
        if usual is not None and name not in self.names:
            return np.full(len(self.rows), usual)
        words = self.words(name)
        try:
            numbers = np.array(words, dtype=np.float64) if words else np.zeros(0)
        except ValueError:
            numbers = np.array([_number(word) for word in words])
        wrong = ~((numbers >= least) & (numbers <= _LARGEST))
        if np.any(wrong):
            at = int(np.argmax(wrong))
            raise InputError(
                f"{self.place}:{self.lines[at]}: {name}={shown(words[at])} is no number from {least:g} to {_LARGEST:g};"
                " correct it or leave the line out"
            )
        return numbers

    def seconds(self) -> Values:
        return self.numbers("us", least=1e-3) / 1e6

    def having(self, name: str, word: str) -> _Table:
        """The rows with one word in a column."""
        if name not in self.names:
            raise unknown(f"column in {self.place}", name, self.names)
        at = self.names.index(name)
        kept = [index for index, row in enumerate(self.rows) if row[at] == word]
        if not kept:
            raise unknown(f"{name} in {self.place}", word, sorted(set(self.words(name))))
        return _Table(self.place, self.names, [self.rows[i] for i in kept], [self.lines[i] for i in kept])


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return float("nan")


def devices(path: str | Path) -> tuple[str, ...]:
    """The devices of a table, by the table's own names.

    Raises
    ------
    InputError
        Where the file cannot be read, or is no table.
    """
    table = _open(path)[0]
    return tuple(sorted(set(table.words("device"))))


def read(
    path: str | Path, device: str | None = None, *, where: Mapping[str, str] | None = None, shortest: float = 0.0
) -> Measurements:
    """Read what a table says of one device.

    Parameters
    ----------
    path
        A CSV file, packed by gzip or not; or the name of a table that comes with the product.
    device
        The device by the table's own name; needed where it has several.
    where
        Words that further columns must have, such as ``{"collector": "trtllm-1.0.0"}``.
    shortest
        Calls that take less are left out [s], for tables whose times hold what the host needs to start a call.

    Raises
    ------
    InputError
        One sentence with file and line.
    """
    table, kind = _open(path)
    known = sorted(set(table.words("device")))
    if device is None and len(known) > 1:
        raise InputError(f"{table.place}: has {len(known)} devices; name one of {', '.join(known)}")
    for name, word in {"device": device or known[0], **(where or {})}.items():
        table = table.having(name, word)
    return _KINDS[kind].read(table).lasting(shortest)


def _open(path: str | Path) -> tuple[_Table, str]:
    """A table as text, and its kind."""
    named = SHIPPED / str(path)
    place = named if str(path) in shipped() else Path(path)
    table = _parsed(_text(place), str(path))
    missing = {kind: [name for name in each.needed if name not in table.names] for kind, each in _KINDS.items()}
    kind = min(missing, key=lambda each: len(missing[each]))
    if missing[kind]:
        raise InputError(
            f"{table.place}: column {missing[kind][0]} is missing; a table of {kind} has"
            f" {', '.join(_KINDS[kind].needed)}"
        )
    return table, kind


def _text(path: Path) -> str:
    """A file of bounded size as text, unpacked where it is packed."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path}: is not a regular file; give a CSV file")
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(raw) > MOST_BYTES:
        raise InputError(f"{path}: has more than {MOST_BYTES:,} bytes, the most that is read; split the table")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from None


def _parsed(text: str, place: str) -> _Table:
    """Header and rows; comments and empty lines are left out."""
    numbered = [
        (number, line)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.startswith("#")
    ]
    lines = [number for number, _ in numbered]
    reader = csv.reader((line for _, line in numbered), strict=True)
    rows: list[list[str]] = []
    try:
        rows.extend([word.strip() for word in row] for row in reader)
    except csv.Error as error:
        raise InputError(f"{place}:{lines[max(reader.line_num, 1) - 1]}: is not valid CSV: {error}") from None
    if len(rows) < 2:
        raise InputError(f"{place}: has no rows; give a header and one row a call")
    names = tuple(rows[0])
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{place}:{lines[0]}: has the column {shown(twice)} twice; leave one out")
    for number, row in zip(lines, rows, strict=False):
        if len(row) != len(names):
            raise InputError(f"{place}:{number}: has {len(row)} values for {len(names)} columns; give one for each")
    return _Table(place, names, rows[1:], lines[1:])


def _dtypes(table: _Table) -> Words:
    return table.among("dtype", _DTYPES)


def _products(table: _Table) -> Measurements:
    passes = table.among("pass", _PASSES) if "pass" in table.names else np.full(len(table.rows), "fwd")
    products = Products(
        seconds=table.seconds(),
        dtype=_dtypes(table),
        m=table.numbers("m"),
        n=table.numbers("n"),
        k=table.numbers("k"),
        batch=table.numbers("b", usual=1.0),
        weight_gradient=(passes == "wgrad").astype(np.float64),
        sustained=table.numbers("sustained", usual=0.0, least=0.0),
    )
    return _only(products)


def _attentions(table: _Table) -> Measurements:
    width = table.numbers("head_dim")
    kernels = table.words("kernel") if "kernel" in table.names else ["unnamed"] * len(table.rows)
    attentions = Attentions(
        seconds=table.seconds(),
        dtype=_dtypes(table),
        kernel=np.array(kernels, dtype=np.str_),
        queries=table.numbers("seq_q"),
        keys=table.numbers("seq_k"),
        batch=table.numbers("batch"),
        heads=table.numbers("heads"),
        key_value_heads=table.numbers("kv_heads"),
        head_size=(width + table.numbers("v_head_dim")) / 2.0 if "v_head_dim" in table.names else width,
        causal=(table.among("causal", ("0", "1")) == "1").astype(np.float64),
        backward=(table.among("pass", _PASSES[:2]) == "bwd").astype(np.float64),
    )
    return _only(attentions)


def _streams(table: _Table) -> Measurements:
    rows, columns, moved = (table.numbers(name) for name in ("rows", "cols", "bytes"))
    dtype = _dtypes(table)
    wide = np.array([{"fp32": 4.0, "tf32": 4.0, "fp8": 1.0}.get(word, 2.0) for word in dtype])
    activation = np.where(moved > _GATED_PASSES * rows * columns * wide, "silu_gate", "gelu").tolist()
    names = [
        word if name == "act" else _OPERATIONS.get(name, name)
        for name, word in zip(table.words("op"), activation, strict=True)
    ]
    streams = Streams(
        seconds=table.seconds(),
        operation=np.array(names, dtype=np.str_),
        dtype=dtype,
        rows=rows,
        columns=columns,
        moved_bytes=moved,
    )
    return _only(streams)


def _collectives(table: _Table) -> Measurements:
    kinds = table.among("op", (*_COLLECTIVES, "send_recv"))
    collectives = Collectives(
        seconds=table.seconds(),
        kind=np.where(kinds == "send_recv", "send", kinds),
        degree=table.numbers("n_devices", least=2.0),
        nodes=table.numbers("nodes", usual=1.0),
        message_bytes=table.numbers("bytes"),
    )
    return _only(collectives)


_EMPTY: tuple[type[TimedCalls], ...] = (Products, Attentions, Streams, Collectives)


def _only(rows: TimedCalls) -> Measurements:
    """Measurements of one kind."""

    def part(kind: type[TimedCalls]) -> TimedCalls:
        return rows if isinstance(rows, kind) else _empty(kind)

    names = [each.name for each in fields(Measurements)]
    return Measurements(**{name: part(kind) for name, kind in zip(names, _EMPTY, strict=True)})  # type: ignore[arg-type]


def _empty(kind: type[TimedCalls]) -> TimedCalls:
    columns: dict[str, Any] = {
        each.name: np.zeros(0, np.str_ if each.type == "Words" else np.float64) for each in fields(kind)
    }
    return kind(**columns)


@dataclass(frozen=True)
class _TableKind:
    needed: tuple[str, ...]
    read: Callable[[_Table], Measurements]


_KINDS = {
    "products": _TableKind(("device", "dtype", "m", "n", "k", "us"), _products),
    "attention": _TableKind(
        ("device", "dtype", "batch", "heads", "kv_heads", "head_dim", "seq_q", "seq_k", "causal", "pass", "us"),
        _attentions,
    ),
    "memory-bound kernels": _TableKind(("device", "dtype", "op", "rows", "cols", "bytes", "us"), _streams),
    "collectives": _TableKind(("device", "op", "n_devices", "bytes", "us"), _collectives),
}
