"""Records on disk: nothing that was finished is lost, and nothing foreign is taken for one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hardware.errors import InputError
from simulator.profiling.records import journal
from simulator.profiling.records.journal import Journal, merge, read, write
from simulator.profiling.records.record import CallTimes, Case, Record, Result, Session, State, first_line
from tests.measure.fakes import environment, gemm, measured

ROOT = Path(__file__).parents[2]

_WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40)
_KEYS = st.from_regex(r"[a-z0-9][a-z0-9_]{0,20}", fullmatch=True)
_SECONDS = st.floats(1e-9, 1e5)
_AMOUNTS = st.floats(0, 1e20)


@st.composite
def times(draw: st.DrawFn) -> CallTimes:
    least, low, middle, high = sorted(draw(st.tuples(_SECONDS, _SECONDS, _SECONDS, _SECONDS)))
    return CallTimes(
        least=least,
        lower_quartile=low,
        median=middle,
        upper_quartile=high,
        samples=draw(st.integers(1, 100)),
        repeats=draw(st.integers(1, 1000)),
        dropped=draw(st.integers(0, 5)),
    )


_CASES = st.builds(
    Case,
    phase=st.sampled_from(["gemm", "attention", "step", "collective"]),
    operation=_KEYS,
    dimensions=st.dictionaries(_KEYS, st.integers(0, 10**12), max_size=8),
    dtype=st.sampled_from(["none", "fp32", "bf16"]),
    variant=_WORDS,
    warm=st.booleans(),
    sustained=st.booleans(),
)
_STATES = st.builds(State, clock_hz=st.none() | _AMOUNTS, throttled=st.lists(_KEYS, max_size=3).map(tuple))
_MEASURED = st.builds(
    Result,
    case=_CASES,
    outcome=st.just("measured"),
    method=st.sampled_from(["graph", "events", "process_time"]),
    times=times(),
    eager=st.none() | times(),
    host_s=st.none() | _SECONDS,
    parts=st.dictionaries(_KEYS, times(), max_size=3),
    flops=_AMOUNTS,
    bytes=_AMOUNTS,
    state=st.none() | _STATES,
    at=st.floats(0, 1e10),
)
_ABSENT = st.builds(
    Result,
    case=_CASES,
    outcome=st.sampled_from(["out_of_memory", "unsupported", "rejected"]),
    reason=_WORDS.filter(bool),
)
_RESULTS = st.lists(_MEASURED | _ABSENT, max_size=6).map(tuple)


def record_of(*results: Result, started: float = 1.0) -> Record:
    return Record((Session(environment(started=started), results),))


@given(results=_RESULTS, more=_RESULTS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(tmp_path: Path, results: tuple[Result, ...], more: tuple[Result, ...]) -> None:
    record = Record((Session(environment(), results), Session(environment(started=2.0), more)))
    write(tmp_path / "record.jsonl", record)
    assert read(tmp_path / "record.jsonl") == record


def written(path: Path, number: int = 4) -> list[Result]:
    results = [measured(gemm(m), median=1e-6 * m) for m in range(1, number)]
    results.append(Result(case=gemm(999), outcome="out_of_memory", reason="needs 99 GiB and 1 GiB is free"))
    with Journal(path, environment()) as kept:
        for result in results:
            kept.add(result)
    return results


def test_truncated_at_any_byte_it_keeps_every_finished_line(tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    results = written(whole)
    raw = whole.read_bytes()
    header = raw.index(b"\n")
    for length in range(len(raw) + 1):
        part.write_bytes(raw[:length])
        if length < header:
            with pytest.raises(InputError):
                read(part)
            continue
        record = read(part)
        finished = raw[: length + 1].count(b"\n") - 1  # a line whole but for its end counts
        assert list(record.results) == results[:finished]
        if length < len(raw) and raw[length - 1 : length] != b"\n" and raw[length : length + 1] != b"\n":
            assert "not finished" in record.dropped


def test_a_truncated_record_goes_on(tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    results = written(whole)
    raw = whole.read_bytes()
    header = raw.index(b"\n")
    for length in range(header, len(raw) + 1, 7):
        part.write_bytes(raw[:length])
        before = list(read(part).results)
        again = environment(started=5.0)
        with Journal(part, again) as kept:
            assert kept.record is not None
            assert list(kept.record.results) == before
            kept.add(results[-1])
        record = read(part)
        assert not record.dropped
        assert list(record.results) == [*before, results[-1]]
        assert record.sessions[-1].environment == again


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda raw: b"", "is empty"),
        (lambda raw: b"\n" + raw, "is no record"),
        (lambda raw: b"a: 1\nb: 2\n", "is no record"),
        (lambda raw: b'{"format": "something-else", "version": 1}\n', "is no record"),
        (lambda raw: b"[" * 100_000 + b"\n", "is no record"),
        (lambda raw: b"\x80\x04\x95pickled\n", "is not UTF-8"),
        (lambda raw: raw.replace(b'"version":1', b'"version":2'), "of version 2, and this capsim reads version 1"),
        (lambda raw: raw.replace(b'"version":1', b'"version":"x"'), "version='x'"),
        (lambda raw: raw.replace(b'"outcome":"measured"', b'"outcome":"invented"', 1), ":2: outcome="),
        (lambda raw: raw.replace(b'"median":', b'"median":-', 1), ":2: times.median="),
        (lambda raw: raw.replace(b'"median":', b'"median":1e999,"x":', 1), ":2:"),
        (lambda raw: raw.replace(b'"median":', b'"median":NaN,"x":', 1), ":2: is damaged"),
        (lambda raw: raw.replace(b'"samples"', b'"sampels"', 1), "did you mean 'samples'"),
        (lambda raw: raw.replace(b'{"case"', b'{"cas\x01', 1), ":2: is damaged"),
        (lambda raw: raw + b"{" * 30_000 + b"\n", "characters"),
        (lambda raw: raw + b'{"case": {"phase": "gemm"}}\n', "'case.operation' is missing"),
    ],
)
def test_what_is_no_record_is_refused_in_one_sentence(tmp_path: Path, change: Any, sentence: str) -> None:
    path = tmp_path / "record.jsonl"
    written(path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError) as refused:
        read(path)
    assert sentence in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_byte_never_crashes(tmp_path: Path, position: int, byte: int) -> None:
    path = tmp_path / f"{os.getpid()}.jsonl"
    if not path.exists():
        written(path)
    raw = bytearray(path.read_bytes())
    raw[position % len(raw)] = byte
    (tmp_path / "changed.jsonl").write_bytes(raw)
    with suppress(InputError):
        read(tmp_path / "changed.jsonl")


def test_a_huge_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.jsonl"
    written(path)
    monkeypatch.setattr(journal, "MOST_BYTES", 100)
    with pytest.raises(InputError, match="has more than 100 bytes"):
        read(path)


def test_other_devices_and_software_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    written(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"was measured on Some GPU .* and this is Another"):
        Journal(path, environment("Another"))
    with pytest.raises(InputError, match=r"was measured with torch 2\.13\.0, and this is 2\.14\.0"):
        Journal(path, environment(torch="2.14.0"))
    assert path.read_bytes() == before


def test_two_runs_do_not_write_one_record(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    with Journal(path, environment()), pytest.raises(InputError, match="another run is writing it"):
        Journal(path, environment())


def test_merge_takes_all_cases_and_of_each_the_better() -> None:
    few, many = measured(gemm(1), samples=3), measured(gemm(1), samples=9)
    failed = Result(case=gemm(2), outcome="out_of_memory", reason="too large")
    first = record_of(few, failed, measured(gemm(3)))
    second = record_of(many, measured(gemm(2)), measured(gemm(4)), started=2.0)
    both = merge(first, second)
    assert {key: result.weight for key, result in both.best.items()} == {
        gemm(1).key: (True, 9),
        gemm(2).key: (True, 9),
        gemm(3).key: (True, 9),
        gemm(4).key: (True, 9),
    }
    assert [session.environment.started for session in both.sessions] == [1.0, 2.0]
    assert len(both.results) == 4


@given(first=_RESULTS, second=_RESULTS)
@settings(max_examples=60, deadline=None)
def test_merge_loses_no_case_and_adds_none(first: tuple[Result, ...], second: tuple[Result, ...]) -> None:
    one, other = record_of(*first), record_of(*second, started=2.0)
    both = merge(one, other)
    assert set(both.best) == set(one.best) | set(other.best)
    assert len(both.results) == len(both.best)
    swapped = merge(other, one)
    assert {key: r.weight for key, r in both.best.items()} == {key: r.weight for key, r in swapped.best.items()}
    assert merge(both, both).results == both.results


def test_records_of_two_devices_do_not_merge() -> None:
    other = Record((Session(environment("Another")),))
    with pytest.raises(InputError, match=r"b.jsonl was measured on Another .* and a.jsonl on Some GPU"):
        merge(record_of(), other, names=("a.jsonl", "b.jsonl"))


_WRITER = """
import sys
from pathlib import Path
from simulator.profiling.records.journal import Journal
from tests.measure.fakes import environment, gemm, measured
with Journal(Path(sys.argv[1]), environment()) as kept:
    first = 0 if kept.record is None else len(kept.record.results)
    for number in range(first, first + 100_000):
        kept.add(measured(gemm(number)))
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
"""


def test_killed_ten_times_it_has_every_result_that_was_told(tmp_path: Path) -> None:
    """What the writer said was kept is there, in order, after every kill."""
    path, random_moments = tmp_path / "record.jsonl", random.Random(7)
    kept = -1
    for _ in range(10):
        command = [sys.executable, "-c", _WRITER, str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            said = [child.stdout.readline()]
            time.sleep(random_moments.uniform(0.0, 0.05))
            child.send_signal(signal.SIGKILL)
            said += child.stdout.readlines()
        kept = max([kept, *(int(line) for line in said if line.endswith("\n"))])
        sizes = [result.case.dimensions["m"] for result in read(path).results]
        assert sizes == list(range(len(sizes)))
        assert kept < len(sizes) <= kept + 2
        kept = len(sizes) - 1


def test_a_kill_while_a_record_is_made_leaves_nothing_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    with Journal(path, environment()):
        assert path.read_text() == first_line(environment())
    assert [each.name for each in tmp_path.iterdir()] == ["record.jsonl"]
    assert json.loads(path.read_text())["format"] == "capsim-record"
