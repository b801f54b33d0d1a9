"""Scalars of a TensorBoard event file, read without TensorBoard.

The file is a list of records - length (uint64), its checksum, the message, its checksum - each of which is a protocol
buffer ``Event`` (tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto and
tensorflow/core/framework/summary.proto). Of these messages the few fields that hold scalars are read; checksums are not
compared, and a last record that a running job has not finished is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from hardware.errors import InputError

_HEAD, _CHECKSUM = 12, 4
"""Bytes before a message, its length with a checksum, and after it."""
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
"""Kinds of fields on the wire."""
_FLOAT, _DOUBLE = 1, 2
"""Types of a tensor's elements."""


class Scalar(NamedTuple):
    """One number that was logged."""

    tag: str
    step: int
    wall_time: float
    """[s]"""
    value: float


def scalars(content: bytes, place: str) -> Iterator[Scalar]:
    """Every scalar of an event file, in its order.

    Raises
    ------
    InputError
        Where it is none.
    """
    at = 0
    while at + _HEAD <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        end = at + _HEAD + length
        if end + _CHECKSUM > len(content):
            if at == 0:
                raise InputError(f"{place}: is no event file of TensorBoard; give one named events.out.tfevents...")
            return
        try:
            yield from _of_event(content[at + _HEAD : end])
        except (struct.error, IndexError, UnicodeDecodeError):
            raise InputError(f"{place}: byte {at}: a record that is no event; is it a file of TensorBoard?") from None
        at = end + _CHECKSUM


def _of_event(message: bytes) -> Iterator[Scalar]:
    """The scalars of an ``Event``: wall_time = 1, step = 2, summary = 5."""
    wall_time, step, summaries = 0.0, 0, list[bytes]()
    for number, value in _fields(message):
        if number == 1 and isinstance(value, bytes):
            (wall_time,) = struct.unpack("<d", value)
        elif number == 2 and isinstance(value, int):
            step = value
        elif number == 5 and isinstance(value, bytes):
            summaries.append(value)
    for summary in summaries:
        for number, value in _fields(summary):  # of a Summary: value = 1
            if number == 1 and isinstance(value, bytes):
                tag, scalar = _of_value(value)
                if scalar is not None:
                    yield Scalar(tag, step, wall_time, scalar)


def _of_value(message: bytes) -> tuple[str, float | None]:
    """Name and number of a ``Summary.Value``: tag = 1, simple_value = 2, tensor = 8."""
    tag, scalar = "", None
    for number, value in _fields(message):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            tag = value.decode()
        elif number == 2:
            (scalar,) = struct.unpack("<f", value)
        elif number == 8:
            scalar = _of_tensor(value)
    return tag, scalar


def _of_tensor(message: bytes) -> float | None:
    """The number of a ``TensorProto`` that holds one: dtype = 1, tensor_content = 4, float_val = 5, double_val = 6."""
    kind = 0
    for number, value in _fields(message):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number in (4, 5, 6) and isinstance(value, bytes):
            if len(value) == 4 and kind == _FLOAT:
                return float(struct.unpack("<f", value)[0])
            if len(value) == 8 and kind == _DOUBLE:
                return float(struct.unpack("<d", value)[0])
    return None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Fields of a protocol buffer: their numbers, and a whole number or the bytes of each."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        value: int | bytes
        if kind == _VARINT:
            value, at = _varint(message, at)
        else:
            length = {_EIGHT: 8, _FOUR: 4}.get(kind)
            if kind == _BYTES:
                length, at = _varint(message, at)
            if length is None or at + length > len(message):
                raise IndexError(at)
            value, at = message[at : at + length], at + length
        yield key >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A whole number of as many bytes as it needs, and where it ends."""
    value, shift = 0, 0
    while True:
        value |= (message[at] & 0x7F) << shift
        shift += 7
        at += 1
        if message[at - 1] < 0x80:
            return value, at
        if shift > 63:
            raise IndexError(at)
