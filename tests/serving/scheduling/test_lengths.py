"""Lengths of requests: as people write them, and as files have them."""

from pathlib import Path

import numpy as np
import pytest

from hardware.errors import InputError
from simulator.serving.scheduling.lengths import Lengths, read_trace

RANDOM = np.random.default_rng(1)


def test_lengths_have_the_mean_and_the_spread_that_was_asked_for() -> None:
    drawn = Lengths.read("lognormal:800,400").draw(200_000, RANDOM)
    assert drawn.mean() == pytest.approx(800.0, rel=0.01)
    assert drawn.std() == pytest.approx(400.0, rel=0.02)
    even = Lengths.read("uniform:10-20").draw(20_000, RANDOM)
    assert (even.min(), even.max()) == (10, 20)
    assert even.mean() == pytest.approx(15.0, rel=0.01)
    assert set(Lengths.read("77").draw(5, RANDOM)) == {77}


@pytest.mark.parametrize(
    "words", ["0", "-3", "many", "", "uniform:20-10", "uniform:5", "lognormal:10", "1e9", "nan", "uniform:a-b", "inf"]
)
def test_lengths_that_are_none_are_refused(words: str) -> None:
    with pytest.raises(InputError, match="--input-tokens="):
        Lengths.read(words, "--input-tokens")


def test_traces_are_read_from_tables_and_lines(tmp_path: Path) -> None:
    table, lines = tmp_path / "a.csv", tmp_path / "b.jsonl"
    table.write_text("arrival_s,input_tokens,output_tokens\n3,10,4\n1,20,5\n")
    lines.write_text('{"num_prefill_tokens": 7, "num_decode_tokens": 9}\n\n{"input_tokens": 8, "output_tokens": 2}\n')
    trace = read_trace(table)
    assert trace.inputs.tolist() == [20, 10]
    assert trace.arrivals is not None
    assert trace.arrivals.tolist() == [0.0, 2.0]
    assert read_trace(lines).outputs.tolist() == [9, 2]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("a.csv", "", "holds no requests"),
        ("a.csv", "input_tokens\n3\n", "a.csv:2: has no column output_tokens"),
        ("a.csv", "input_tokens,output_tokens\n3,x\n", "a.csv:2: output_tokens='x'"),
        ("a.csv", "input_tokens,output_tokens\n3\n", "a.csv:2: output_tokens=null"),
        ("a.csv", "input_tokens,output_tokens,arrival_s\n3,4,soon\n", "arrival_s='soon': must be a number of seconds"),
        ("a.csv", "input_tokens,output_tokens,arrival_s\n3,4,1\n3,4,\n", "for some requests only"),
        ("a.csv", 'input_tokens,output_tokens\n"3,4\n', "is no table"),
        ("a.jsonl", "{", "a.jsonl:1: is no line of JSON"),
        ("a.jsonl", "[1]", "a.jsonl:1: must be an object"),
        ("a.jsonl", '{"input_tokens": true, "output_tokens": 1}', "input_tokens=true"),
        ("a.jsonl", '{"input_tokens": 1e400, "output_tokens": 1}', "input_tokens=inf"),
    ],
)
def test_traces_that_are_none_are_refused(tmp_path: Path, name: str, text: str, what: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=what.replace("[", r"\[")):
        read_trace(tmp_path / name)


def test_a_trace_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(tmp_path / "none.csv")
