"""Traces are read as data, and what is none is refused in a sentence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from hardware.errors import InputError
from simulator.replay.measured.reading import KERNELS, read_trace
from tests.replay.measured.made_up import GEMM, document, kernel, launch, operator, write


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_trace(path, **options)
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    assert "\n" not in sentence
    return sentence


def test_activities_are_kept_and_nothing_else(tmp_path: Path) -> None:
    path = write(
        tmp_path / "trace.json",
        operator("aten::mm", 5e15, 10.0),
        launch(3, 5e15 + 2.0),
        kernel(GEMM, 3, 5e15 + 4.0, 6.5),
        distributedInfo={"backend": "nccl", "world_size": 8},
    )
    trace = read_trace(path)
    assert [event.category for event in trace.events] == ["cpu_op", "cuda_runtime", "kernel"]
    (last,) = trace.of(KERNELS)
    assert (last.start, last.end) == pytest.approx((4e-6, 10.5e-6), abs=1e-18)
    assert last.place == ("0", "7")
    assert trace.ranks == 8


def test_compressed_whatever_it_is_called(tmp_path: Path) -> None:
    plain = write(tmp_path / "trace.json", operator("aten::mm", 0.0, 1.0))
    packed = tmp_path / "trace.pt.trace.json"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_trace(packed).events == read_trace(plain).events


def test_a_plain_list_of_events(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps([operator("aten::mm", 0.0, 1.0)]))
    assert len(read_trace(path).events) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("step time: 3 s", "is not JSON"),
        ("[1, 2, 3]", "event 0: is no mapping"),
        ("{}", "has no list of traceEvents"),
        ('{"traceEvents": {}}', "has no list of traceEvents"),
        ('"traceEvents"', "has no list of traceEvents"),
        ("17", "has no list of traceEvents"),
        ('{"traceEvents": []}', "no operators and no kernels among its 0 events"),
        (
            '{"traceEvents": [{"ph": "X", "cat": "python_function", "name": "f", "ts": 0, "dur": 1}]}',
            "among its 1 events",
        ),
        ('{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "f", "ts": "0", "dur": 1}]}', "event 0: ts='0'"),
        ('{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "f", "ts": NaN, "dur": 1}]}', "event 0: ts='nan'"),
        ('{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "f", "ts": 0}]}', "event 0: dur='None'"),
        ('{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "f", "ts": 0, "dur": -2}]}', "dur=-2"),
        ("[" * 200_000, "nested too deeply"),
        ('{"traceEvents": ' + "9" * 5000 + "}", "thousands of digits"),
        (
            '{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "f", "dur": 1, "ts": 1' + "0" * 400 + "}]}",
            "event 0: ts=",
        ),
    ],
)
def test_what_is_no_trace(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "trace.json"
    path.write_text(text)
    assert words in refused(path)


def test_a_trace_that_was_cut_off(tmp_path: Path) -> None:
    whole = json.dumps(document(operator("aten::mm", 0.0, 1.0), operator("aten::add", 2.0, 1.0)))
    path = tmp_path / "cut.json"
    for length in (len(whole) // 2, len(whole) - 1):
        path.write_text(whole[:length])
        assert "ends before its JSON does" in refused(path)


def test_a_compressed_trace_that_was_cut_off_or_damaged(tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps(document(operator("aten::mm", 0.0, 1.0))).encode())
    path = tmp_path / "cut.json.gz"
    path.write_bytes(packed[:-20])
    assert "middle of its compressed data" in refused(path)
    path.write_bytes(packed[:20] + b"????" + packed[24:])
    assert "is damaged" in refused(path)


def test_no_more_is_unpacked_than_is_allowed(tmp_path: Path) -> None:
    """Ten kilobytes that unpack to ten megabytes."""
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b" " * 10_000_000))
    assert path.stat().st_size < 20_000
    assert "has more than 1 MiB unpacked" in refused(path, most_bytes=2**20)
    plain = tmp_path / "large.json"
    plain.write_bytes(b" " * (2**20 + 1))
    assert "has more than 1 MiB unpacked" in refused(plain, most_bytes=2**20)


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "is a directory" in refused(tmp_path)
    assert "cannot be read" in refused(tmp_path / "none.json")
    binary = tmp_path / "binary.json"
    binary.write_bytes(b'{"a": "\xff"}')
    assert "is not UTF-8 text" in refused(binary)
