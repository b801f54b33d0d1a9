"""Predicted memory against published runs: what is compared with what, and how it is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulator.corpus.mapping import MappedRun, case_of
from simulator.corpus.runs import Run
from simulator.evidence.memory import compare, figure_of, fitted, is_suspect, measured_bytes, predicted_bytes
from simulator.step.memory import Memory, peak
from simulator.work.program import program_of

_GIB = 2.0**30


def _run(name: str = "run", **changes: Any) -> Run:
    """A run of BERT on one A100, with changes of its parts."""
    row: dict[str, Any] = {
        "id": name,
        "task": "pretrain",
        "collection": "here",
        "model": {"name": "bert-base", "family": "bert", "layers": 12, "hidden": 768, "heads": 12, "vocab": 30522},
        "hardware": {"device": "a100-sxm4-40gb", "devices": 1},
        "plan": {"framework": "pytorch", "precision": "fp16", "global_batch": 8, "micro_batch": 8, "dp": 1},
        "measured": {},
    }
    row["model"]["seq_len"] = 128
    for part, values in changes.items():
        row[part] = {**row[part], **values} if isinstance(values, dict) else values
    return Run.model_validate(row)


def _memory(*totals: float, reserved: float = 0.0) -> Memory:
    """Memory whose parts are the parameters and what is reserved [GiB]."""
    nothing = np.zeros(len(totals))
    kept = (np.array(totals) - reserved) * _GIB
    return Memory(kept, nothing, nothing, nothing, nothing, nothing + reserved * _GIB)


def _cases(*runs: Run) -> list[MappedRun]:
    return [case_of(run) for run in runs]


@pytest.mark.parametrize(
    ("note", "framework", "figure"),
    [
        ("memory 14949 MiB from nvidia-smi", "pytorch", "device"),
        ("", "pytorch", "device"),
        ("peak reserved memory published as 16.3 GiB (worst rank)", "deepspeed", "reserved"),
        ("torch.cuda.max_memory_allocated", "pytorch", "allocated"),
        ("", "nanotron", "reserved"),
    ],
)
def test_the_figure_that_a_source_tells(note: str, framework: str, figure: str) -> None:
    assert figure_of(_run(note=note, plan={"framework": framework})) == figure


def test_each_figure_leaves_out_what_it_does_not_count() -> None:
    notes = ("memory allocated", "memory reserved", "nvidia-smi")
    cases, memory = _cases(*(_run(note=note) for note in notes)), _memory(10.0, reserved=4.0)
    allocated, reserved, device = (float(np.asarray(predicted_bytes(case, memory)).item()) for case in cases)
    assert allocated == pytest.approx(6 * _GIB)
    assert reserved == pytest.approx(10 * _GIB - cases[1].stack.runtime_memory)
    assert device == 10 * _GIB


def test_gigabytes_of_tools_have_2_to_the_30_bytes_unless_the_note_knows_better() -> None:
    assert measured_bytes(_run(measured={"memory_gb": 14.6})) == pytest.approx(14.6 * _GIB)
    told = _run(measured={"memory_gb": 17.5}, note="peak reserved memory published as 16.3 GiB")
    assert measured_bytes(told) == pytest.approx(16.3 * _GIB)
    assert measured_bytes(_run()) is None


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ({"oom": True}, False),
        ({"oom": False}, True),
        ({"step_time_s": 0.5}, True),
        ({"tokens_per_s": 100.0}, True),
        ({"memory_gb": 3.0}, None),
        ({}, None),
    ],
)
def test_a_run_fitted_as_it_says_or_as_its_rate_shows(measured: dict[str, Any], expected: bool | None) -> None:
    assert fitted(_run(measured=measured)) is expected


def test_more_memory_than_the_device_has_is_no_measurement() -> None:
    sound, beyond, odd = _cases(
        _run(measured={"memory_gb": 39.0}), _run(measured={"memory_gb": 400.0}), _run(suspect="odd")
    )
    assert not is_suspect(sound)
    assert is_suspect(beyond)
    assert is_suspect(odd)


def test_errors_of_bytes_by_source() -> None:
    cases = _cases(
        _run("a", measured={"memory_gb": 10.0}),
        _run("b", measured={"memory_gb": 10.0}, collection="there"),
        _run("c", measured={"memory_gb": 10.0}, collection="there"),
        _run("d", measured={"memory_gb": 10.0}, suspect="contradicts itself"),
        _run("e"),
    )
    score = compare(cases, _memory(11.0, 9.0, 10.0, 20.0, 99.0))
    assert score.bytes is not None
    assert score.bytes.rows == 3
    assert score.bytes.median_abs_error == pytest.approx(0.1)
    assert score.bytes.mean_abs_error == pytest.approx(0.2 / 3)
    assert score.bytes.p90_abs_error == pytest.approx(0.1)
    assert score.bytes.bias == pytest.approx(0.0, abs=1e-12)
    assert {name: errors.rows for name, errors in score.bytes_by_source.items()} == {"here": 1, "there": 2}
    assert score.bytes_by_source["there"].bias == pytest.approx(-0.05)
    assert score.suspect_bytes is not None
    assert score.suspect_bytes.bias == pytest.approx(1.0)


def test_fits_are_counted_as_said_and_as_found() -> None:
    cases = _cases(
        _run("fits", measured={"oom": False}),
        _run("fits, but said not to", measured={"oom": False}),
        _run("does not", measured={"oom": True}),
        _run("does not, but said to", measured={"oom": True}),
        _run("evidently fits", measured={"step_time_s": 1.0}),
        _run("tells nothing"),
        _run("suspect", measured={"step_time_s": 1.0}, suspect="odd"),
    )
    score = compare(cases, _memory(10.0, 100.0, 100.0, 10.0, 10.0, 10.0, 100.0))
    assert score.pairs is not None
    assert (score.pairs.rows, score.pairs.right) == (4, 0.5)
    assert (score.pairs.said_fits_and_did_not, score.pairs.said_does_not_fit_and_did) == (1, 1)
    assert score.all_fits is not None
    assert (score.all_fits.rows, score.all_fits.right) == (5, 0.6)
    assert (score.all_fits.fitted_as_said, score.all_fits.failed_as_said) == (2, 1)
    assert score.suspect_fits is not None
    assert score.suspect_fits.said_does_not_fit_and_did == 1


def test_nothing_measured_has_no_score() -> None:
    score = compare(_cases(_run()), _memory(10.0))
    assert (score.bytes, score.bytes_by_source, score.pairs, score.all_fits) == (None, {}, None, None)
    assert score.to_dict()["suspect"] == {"bytes": {}, "all_fits": {}}


def test_scores_become_plain_numbers() -> None:
    told = compare(_cases(_run(measured={"memory_gb": 10.0, "oom": False})), _memory(11.0)).to_dict()
    assert told["bytes"]["bias"] == pytest.approx(0.1)
    assert told["bytes_by_source"]["here"]["rows"] == 1
    assert told["pairs"]["right"] == told["all_fits"]["right"] == 1.0


def test_a_prediction_of_one_run_is_a_batch_of_one() -> None:
    (case,) = _cases(_run(measured={"memory_gb": 5.0, "step_time_s": 0.1}))
    columns = case.columns()
    score = compare([case], peak(program_of(columns)))
    assert score.bytes is not None
    assert abs(score.bytes.bias) < 1.0
    assert score.all_fits is not None
    assert score.all_fits.right == 1.0
