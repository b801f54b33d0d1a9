"""Figures of the Calibrate page, and what a step rests on, hold the values of the API."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import simulator
from dashboard.figures import calibrate as figures
from dashboard.figures.basis import basis
from hardware import units
from simulator.answers.basis import WORDS as TIERS
from simulator.profiling.comparison import WORDS, Comparison, PhaseRows
from tests.dashboard import records

_SIDES = {"catalogue": "before_s", "profile": "after_s"}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A record beside the profile that was fitted to it."""
    file: Path = tmp_path_factory.mktemp("records") / "record.jsonl"
    file.write_bytes(records.of_graphics())
    return simulator.compare_profile(simulator.calibrate([file]), [file])


@pytest.fixture(params=WORDS)
def part(request: pytest.FixtureRequest, comparison: Comparison) -> PhaseRows:
    """Each kind of work."""
    return comparison.parts[request.param]


def test_points_are_the_rows(part: PhaseRows) -> None:
    line, *sides = figures.agreement(part, "after_s").data
    assert list(line.x) == list(line.y)
    rows = figures.drawn(part)
    for trace in sides:
        assert list(trace.x) == list(part.measured_s[rows])
        assert list(trace.y) == list(getattr(part, _SIDES[trace.name])[rows])
        assert len(trace.hovertext) == len(rows)
    assert [trace.name for trace in sides] == list(_SIDES)
    assert sides[0].marker.color != sides[1].marker.color
    assert sides[0].marker.symbol != sides[1].marker.symbol


def test_the_axes_hold_all_of_them(part: PhaseRows) -> None:
    figure = figures.agreement(part, "after_s")
    low, high = (10.0**end for end in figure.layout.xaxis.range)
    assert low < part.measured_s.min()
    assert part.measured_s.max() < high
    assert figure.layout.xaxis.range == figure.layout.yaxis.range
    assert 2 <= len(figure.layout.xaxis.tickvals) <= 8


def test_the_form_alone_is_another_column(comparison: Comparison) -> None:
    part = comparison.parts["gemm"]
    rows = figures.drawn(part)
    assert list(figures.agreement(part, "form_s").data[2].y) == list(part.form_s[rows])
    assert list(figures.by_size(part, "form_s").data[1].y) != list(figures.by_size(part, "after_s").data[1].y)


def test_errors_stand_over_sizes(part: PhaseRows) -> None:
    figure = figures.by_size(part, "after_s")
    rows = figures.drawn(part)
    reach = 10.0 ** figure.layout.yaxis.range[1]
    for trace in figure.data:
        ratio = getattr(part, _SIDES[trace.name])[rows] / part.measured_s[rows]
        assert list(trace.x) == list(part.size[rows])
        assert list(trace.y) == pytest.approx(list(np.clip(ratio, 1.0 / reach, reach)))
    assert 1.0 in figure.layout.yaxis.tickvals
    assert figure.layout.yaxis.range == (-figure.layout.yaxis.range[1], figure.layout.yaxis.range[1])


def test_errors_far_off_are_drawn_at_the_edge(comparison: Comparison) -> None:
    part = comparison.parts["step"]
    odd = part.after_s.copy()
    odd[0] *= 1000.0
    figure = figures.by_size(replace(part, after_s=odd), "after_s")
    assert max(figure.data[1].y) == pytest.approx(10.0)
    assert any("(+9" in text for text in figure.data[1].hovertext)


def test_a_histogram_counts_every_row(part: PhaseRows) -> None:
    figure = figures.histogram(part, "after_s")
    for trace in figure.data:
        assert sum(trace.y) == pytest.approx(100.0)
        off = getattr(part, _SIDES[trace.name]) / part.measured_s - 1.0
        near = 100.0 * np.mean(np.abs(off) < 0.05)
        middle = [y for x, y in zip(trace.x, trace.y, strict=True) if abs(x) < 5.0]
        assert sum(middle) == pytest.approx(near, abs=1e-6)
    assert figure.data[0].marker.pattern.shape == "/"
    assert figure.data[1].hovertext[0].startswith("<b>below -55 %</b><br>profile: ")
    assert figure.data[1].hovertext[-1].startswith("<b>above +55 %</b>")


def test_many_rows_are_thinned_evenly() -> None:
    part = simulator.compare_profile("a100-sxm").parts["gemm"]
    rows = figures.drawn(part)
    assert len(rows) == len(set(rows.tolist())) == figures.MOST
    assert list(part.size[rows]) == sorted(part.size[rows])
    assert {part.size.min(), part.size.max()} <= set(part.size[rows])
    assert np.median(part.size[rows]) == pytest.approx(np.median(part.size), rel=0.05)
    assert len(figures.agreement(part, "after_s").data[1].x) == figures.MOST


def test_words_of_files_become_no_marks(comparison: Comparison) -> None:
    part = comparison.parts["step"]
    odd = replace(part, words=("<a href='http://elsewhere.example'>x</a>", *part.words[1:]))
    for figure in (figures.agreement(odd, "after_s"), figures.by_size(odd, "after_s")):
        texts = [text for trace in figure.data if trace.hovertext is not None for text in trace.hovertext]
        assert not any("<a " in text for text in texts)


def test_figures_are_told(part: PhaseRows) -> None:
    text = figures.alt(part, "after_s")
    assert text.startswith(WORDS[part.phase])
    assert units.percent(part.errors(part.before_s).median) in text


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_what_a_step_rests_on(precision: str) -> None:
    estimate = simulator.estimate("bert-large", "dgx-a100-640gb", plan={"precision": precision}, profile="a100-sxm")
    (bars,) = basis(estimate).data
    shown = dict(zip((text.replace("<br>", " ") for text in bars.y), bars.x, strict=True))
    shares = {TIERS[tier]: 100.0 * share for tier, share in (estimate.basis or {}).items() if share >= 0.0005}
    assert shown == pytest.approx(shares)
    assert sum(bars.x) == pytest.approx(100.0, abs=0.3)
    assert len(set(bars.marker.color)) == len(bars.x)
    assert basis(simulator.estimate("bert-large", "rtx-3090")).data[0].x == ()
