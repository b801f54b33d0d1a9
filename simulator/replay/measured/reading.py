"""Reading a trace of torch's profiler: its events as data, bounded in size, nothing executed."""

from __future__ import annotations

import json
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hardware.errors import InputError, shown

MOST_BYTES = 512 * 2**20
"""The largest trace that is read, once unpacked: some steps of a large model have a tenth of it."""
_GZIP = b"\x1f\x8b"
_CHUNK = 2**20
_MICRO = 1e-6
_LATEST = 1e18
"""Beyond it no clock comes [us]."""
HOST = frozenset({"cpu_op", "user_annotation"})
"""What threads of the host do."""
LAUNCHES = frozenset({"cuda_runtime", "cuda_driver", "xpu_runtime", "privateuse1_runtime"})
KERNELS = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
"""What a device does."""
_KEPT = HOST | LAUNCHES | KERNELS


class TraceEvent(NamedTuple):
    """One activity of a thread or of a stream."""

    name: str
    category: str
    place: tuple[str, str]
    """Process and thread; device and stream of what a device does."""
    start: float
    end: float
    """From the first activity of the trace [s]."""
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class ProfilerTrace:
    """What a trace holds of hosts and devices."""

    name: str
    """Of the file."""
    events: tuple[TraceEvent, ...]
    ranks: int
    """Ranks that ran together, as far as the trace says [1]."""
    recorded: Mapping[str, Any]
    """What `capsim measure --trace` noted of the step; empty of other traces."""

    def of(self, categories: frozenset[str]) -> list[TraceEvent]:
        """Events of some categories."""
        return [event for event in self.events if event.category in categories]


def read_trace(path: str | Path, *, most_bytes: int = MOST_BYTES) -> ProfilerTrace:
    """Read a trace of torch's profiler, compressed or not.

    Parameters
    ----------
    path
        What `torch.profiler` exported: JSON, or the same under gzip, whatever the file is called.
    most_bytes
        The most that is read, unpacked [B].

    Raises
    ------
    InputError
        With the file, what is wrong, and what would be right.
    """
    path = Path(path)
    document = _parsed(_unpacked(path, most_bytes), path)
    events = document.get("traceEvents") if isinstance(document, dict) else document
    if not isinstance(events, list):
        raise InputError(
            f"{path}: has no list of traceEvents, so it is no trace of torch's profiler; "
            "write one with capsim measure --trace, or with export_chrome_trace of torch.profiler"
        )
    kept = tuple(_events(events, path))
    if not kept:
        raise InputError(
            f"{path}: has no operators and no kernels among its {len(events):,} events; "
            "record it with torch.profiler, with ProfilerActivity.CPU or ProfilerActivity.CUDA"
        )
    beside = document if isinstance(document, dict) else {}
    recorded = beside.get("capsim")
    return ProfilerTrace(path.name, kept, _ranks(beside), recorded if isinstance(recorded, dict) else {})


def _unpacked(path: Path, most_bytes: int) -> bytes:
    """The bytes of the file, unpacked, and no more of them than are allowed."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise InputError(f"{path}: is {kind}; give the file of a trace")
        with path.open("rb") as file:
            raw = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if raw[:2] == _GZIP:
        raw = _gunzipped(raw, path, most_bytes)
    if len(raw) > most_bytes:
        raise InputError(
            f"{path}: has more than {most_bytes // 2**20:,} MiB unpacked, the most that is read; "
            "record fewer steps, without with_stack"
        )
    return raw


def _gunzipped(raw: bytes, path: Path, most_bytes: int) -> bytes:
    """What is packed, up to one byte more than is allowed."""
    unpacking = zlib.decompressobj(wbits=31)
    parts: list[bytes] = []
    left = most_bytes + 1
    try:
        while left > 0 and not unpacking.eof:
            part = unpacking.decompress(raw, min(left, _CHUNK))
            raw = unpacking.unconsumed_tail
            if not part and not raw:
                raise InputError(f"{path}: ends in the middle of its compressed data; copy the file once more")
            parts.append(part)
            left -= len(part)
    except zlib.error as error:
        raise InputError(f"{path}: is damaged ({error}); copy the file once more") from None
    return b"".join(parts)


def _parsed(raw: bytes, path: Path) -> Any:
    """The document as plain data."""
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start}); give a trace of torch's profiler") from None
    except json.JSONDecodeError as error:
        begun = raw.lstrip()[:1] in (b"{", b"[")
        cut = begun and (error.pos >= len(raw) - 2 or not raw.rstrip().endswith((b"}", b"]")))
        what = "ends before its JSON does; the run that wrote it may have been cut off" if cut else "is not JSON"
        raise InputError(
            f"{path}:{error.lineno}: {what} ({error.msg}); give a whole trace of torch's profiler"
        ) from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply; give a trace of torch's profiler") from None
    except ValueError:
        raise InputError(f"{path}: has a number of thousands of digits; give a trace of torch's profiler") from None


def _events(events: Sequence[Any], path: Path) -> Iterator[TraceEvent]:
    """Activities of hosts and devices, on a clock that begins with the first: that of traces begins long before."""
    origin: float | None = None
    for number, each in enumerate(events):
        place = f"{path}: event {number}"
        if not isinstance(each, dict):
            raise InputError(f"{place}: is no mapping; give a trace of torch's profiler")
        if each.get("ph") == "X" and str(each.get("cat")).lower() in _KEPT:
            origin = _number(each, "ts", place) if origin is None else origin
            yield _event(each, origin, place)


def _event(each: Mapping[str, Any], origin: float, place: str) -> TraceEvent:
    """One activity, on a clock that begins at an origin [us]."""
    start, duration = (_number(each, key, place) for key in ("ts", "dur"))
    if duration < 0.0:
        raise InputError(f"{place}: dur={duration:g}: lasts less than no time; give a trace as the profiler wrote it")
    arguments = each.get("args")
    return TraceEvent(
        str(each.get("name", "")),
        str(each["cat"]).lower(),
        (str(each.get("pid")), str(each.get("tid"))),
        (start - origin) * _MICRO,
        (start - origin + duration) * _MICRO,
        arguments if isinstance(arguments, dict) else {},
    )


def _number(each: Mapping[str, Any], key: str, place: str) -> float:
    """A time of an event [us]."""
    value = each.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LATEST:
        raise InputError(f"{place}: {key}={shown(str(value))}: write a number of microseconds")
    return float(value)


def _ranks(document: Mapping[str, Any]) -> int:
    """Ranks that ran together."""
    said = document.get("distributedInfo")
    number = said.get("world_size") if isinstance(said, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else 1
