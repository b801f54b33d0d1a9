"""A validation as one page of HTML that needs nothing else: figures of merit, predicted against measured, every run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from hardware import units
from hardware.writing import write_text
from simulator.evidence import scores
from simulator.evidence.scores import Outcome, Score
from simulator.evidence.validation import Validation
from simulator.terminal.evidence.tables import (
    BIN_TITLES,
    LIMIT_TITLES,
    RANKING_TITLES,
    chance_rows,
    merit_rows,
    ranking_rows,
)

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --point: #0072b2; --miss: #d55e00; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; max-width: 44rem; height: auto; }
circle { fill: var(--point); fill-opacity: .45; } circle.miss { fill: var(--miss); fill-opacity: .7; }
text { font-size: 11px; fill: currentColor; } line { stroke: currentColor; stroke-opacity: .25; }
"""
_SIZE, _MARGIN = 560.0, 50.0


def write(validation: Validation, path: str) -> None:
    """Write the page.

    Raises
    ------
    InputError
        Where the file cannot be written.
    """
    write_text(Path(path), page(validation))


def page(validation: Validation) -> str:
    """The page as text."""
    priced = len(validation.outcomes) + len(validation.suspect)
    runs = units.plural(validation.rows, "run")
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>capsim: predicted and measured</title><style>{_STYLE}</style><h1>Predicted and measured</h1>",
        f"<p>{runs}, {validation.timed:,} of them trained and tell the time of a step; {priced:,} priced.</p>",
    ]
    if validation.outcomes:
        parts += [_merit(validation), _table(RANKING_TITLES, ranking_rows(validation)), _plot(validation.outcomes)]
        parts += [_groups(validation.outcomes, name) for name in ("source", "device", "stack", "task")]
    for titles, rows in zip((BIN_TITLES, LIMIT_TITLES), chance_rows(validation), strict=True):
        parts += [_table(titles, rows)] if rows else []
    if validation.refused:
        parts.append(
            _table(["not priced", "runs"], [[why, f"{number:,}"] for why, number in validation.refused.items()])
        )
    parts.append(_runs([*validation.outcomes, *validation.suspect]))
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of words."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _merit(validation: Validation) -> str:
    """The figures of merit."""
    rows = [_row(name, score, has_interval=score.low != score.high) for name, score, _ in merit_rows(validation)]
    return _table(["error of the step time", "runs", "median", "90th percentile", "bias", "inside 90 %"], rows)


def _groups(outcomes: Sequence[Outcome], name: str) -> str:
    """Scores of groups."""
    rows = [_row(key, score) for key, score in scores.by(outcomes, name).items()]
    return f"<h2>By {name}</h2>" + _table([name, "runs", "median", "90th", "bias", "inside 90 %"], rows)


def _row(name: str, score: Score, *, has_interval: bool = True) -> list[str]:
    """A score as cells of a table."""
    return [
        name,
        f"{score.rows:,}",
        units.percent(score.median_abs_error),
        units.percent(score.p90_abs_error),
        f"{100 * score.bias:+.1f} %",
        units.percent(score.coverage_90) if has_interval else "",
    ]


def _plot(outcomes: Sequence[Outcome]) -> str:
    """Predicted against measured, both logarithmic; runs outside their interval stand out."""
    values = [value for each in outcomes for value in (each.measured_s, each.predicted_s)]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    span = max(high - low, 1)

    def at(value: float) -> float:
        return _MARGIN + (math.log10(value) - low) / span * (_SIZE - 2 * _MARGIN)

    marks = []
    for power in range(low, high + 1):
        place, label = at(10.0**power), units.duration(10.0**power)
        marks += [
            f"<line x1={place:.1f} y1={_MARGIN} x2={place:.1f} y2={_SIZE - _MARGIN} />",
            f"<line y1={_SIZE - place:.1f} x1={_MARGIN} y2={_SIZE - place:.1f} x2={_SIZE - _MARGIN} />",
            f"<text x={place:.1f} y={_SIZE - _MARGIN + 18} text-anchor=middle>{label}</text>",
            f"<text x={_MARGIN - 6} y={_SIZE - place + 4:.1f} text-anchor=end>{label}</text>",
        ]
    points = [_point(each, at(each.measured_s), _SIZE - at(each.predicted_s)) for each in outcomes]
    diagonal = f"<line x1={_MARGIN} y1={_SIZE - _MARGIN} x2={_SIZE - _MARGIN} y2={_MARGIN} />"
    axes = (
        f"<text x={_SIZE / 2} y={_SIZE - 8} text-anchor=middle>measured step time</text>"
        f"<text x=14 y={_SIZE / 2} text-anchor=middle transform='rotate(-90 14 {_SIZE / 2})'>predicted</text>"
    )
    drawn = "".join([*marks, diagonal, *points, axes])
    return f"<svg viewBox='0 0 {_SIZE:.0f} {_SIZE:.0f}' role=img aria-label='predicted against measured'>{drawn}</svg>"


def _point(outcome: Outcome, across: float, down: float) -> str:
    """One run, with its name and times when it is pointed at."""
    kind = "" if outcome.covered else " class=miss"
    times = f"measured {units.duration(outcome.measured_s)}, predicted {units.duration(outcome.predicted_s)}"
    return f"<circle cx={across:.1f} cy={down:.1f} r=3{kind}><title>{escape(outcome.id)}: {times}</title></circle>"


def _runs(outcomes: Sequence[Outcome]) -> str:
    """Every run."""
    rows = [
        [
            each.id,
            units.duration(each.measured_s),
            units.duration(each.predicted_s),
            f"{100 * each.error:+.1f} %",
            units.span(each.low_s, each.high_s),
            each.device,
            each.stack,
        ]
        for each in outcomes
    ]
    return "<h2>Runs</h2>" + _table(["run", "measured", "predicted", "error", "90 %", "device", "stack"], rows)
