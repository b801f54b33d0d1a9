"""Predictions of serving beside runs: what is shipped, what files are compared with, and what is told of both."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from simulator.corpus.serving import runs
from simulator.evidence.serving import held_out
from simulator.evidence.serving.errors import ServingErrors
from simulator.evidence.serving.refit import priced
from simulator.evidence.serving.validation import REPORTED, ServingValidation, validate_serving
from simulator.terminal.evidence.serving import render_serving


@pytest.fixture(scope="module")
def shipped() -> ServingValidation:
    return validate_serving()


def words(validation: ServingValidation) -> str:
    output = StringIO()
    Console(file=output, width=80, highlight=False, markup=False, emoji=False).print(render_serving(validation))
    return output.getvalue()


def test_every_metric_is_reported_with_errors_and_coverage(shipped: ServingValidation) -> None:
    document = json.loads(json.dumps(shipped.to_dict(), allow_nan=False))
    for metric in REPORTED:
        told = document["inference"][metric]
        assert {"rows", "median_abs_error", "p90_abs_error", "macro_median_abs_error"} <= set(told)
        assert 0.86 <= told["interval_coverage_90"] <= 0.94
        assert 0.86 <= told["known_stack"]["interval_coverage_90"] <= 0.94
        assert told["rows"] == sum(each["rows"] for each in told["by_source"].values())
    rows = document["inference_runs"]
    assert len(rows) == sum(each["rows"] for each in document["inference"].values())
    assert {"id", "metric", "measured", "predicted", "low", "high"} <= set(rows[0])
    assert all(each["low"] <= each["predicted"] <= each["high"] for each in rows)


def test_runs_help_with_what_they_are_about(shipped: ServingValidation) -> None:
    for metric in ("total_latency_s", "output_tokens_per_s", "sequences_per_s"):
        told = shipped.to_dict()["inference"][metric]
        assert told["known_stack"]["median_abs_error"] < told["unfitted"]["median_abs_error"]


def test_a_report_fits_a_terminal(shipped: ServingValidation) -> None:
    text = words(shipped)
    assert max(map(len, text.splitlines())) <= 80
    assert "new source" in text
    assert "time to first token" in text
    assert "By stack" in text


def test_stored_predictions_are_those_of_the_formulas() -> None:
    figures = held_out.shipped_figures()
    some = [run for place, run in enumerate(runs.shipped()) if place % 400 == 0]
    fresh = validate_serving(some).outcomes
    stored = {
        (str(the_id), str(metric)): float(value)
        for the_id, metric, value in zip(
            figures.columns["id"], figures.columns["metric"], figures.predicted["nothing fitted"], strict=True
        )
    }
    assert len(fresh) > 15
    off = [each.unfitted / stored[each.id, each.metric] - 1.0 for each in fresh]
    assert np.abs(off).max() < 0.01, "run python -m simulator.evidence.serving.refit"


def test_every_shipped_run_that_is_priced_is_stored() -> None:
    figures = held_out.shipped_figures()
    some = [run for place, run in enumerate(runs.shipped()) if place % 100 == 0]
    assert {each.case.run.id for each in priced(some).cases} <= set(figures.columns["id"].tolist())
    assert set(figures.columns["source"].tolist()) <= set(runs.licences())


def test_files_are_compared_too(tmp_path: Path) -> None:
    some = [run for run in runs.shipped() if run.collection == "tensorrt-llm-static"][:6]
    lines = [f"- {run.model_dump_json(exclude_defaults=True, exclude={'collection'})}" for run in some]
    file = tmp_path / "mine.yaml"
    file.write_text("\n".join(lines) + '\n- {"id": "x", "task": "encode", "model": {}, "hardware": {}}\n')
    validation = validate_serving(runs.load([file])[1])
    assert validation.rows == len(some) + 1
    assert sum(validation.refused.values()) == 1
    assert {each.source for each in validation.outcomes} == {"mine"}
    assert all(each.low <= each.predicted <= each.high for each in validation.outcomes)
    assert "runs that were not" in words(validation)


def test_of_no_runs_nothing_is_said() -> None:
    document = validate_serving([]).to_dict()
    assert document["inference"] == {}
    assert document["inference_runs"] == []


def test_intervals_cover_what_they_say() -> None:
    random = np.random.default_rng(3)
    size = 600
    kinds = np.where(np.arange(size) % 2 == 0, "narrow", "wide")
    scores = random.normal(0.0, np.where(kinds == "wide", 0.4, 0.05))
    alike = {name: np.full(size, "a") for name in ("class", "kind", "format", "experts")}
    sizes = {name: np.zeros(size) for name in ("sequences", "input_tokens", "output_tokens", "devices", "hidden_size")}
    groups = np.array([str(place % 20) for place in range(size)])
    errors = ServingErrors(groups, groups, {"stack": kinds, **alike, **sizes}, scores).calibrated()
    low, high = errors.around(errors.traits, errors.groups)
    assert 0.88 <= np.mean((low <= scores) & (scores <= high)) <= 0.92
    width = high - low
    assert width[kinds == "wide"].mean() > 3.0 * width[kinds == "narrow"].mean()
