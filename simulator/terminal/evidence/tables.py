"""A validation as tables for a terminal, for the README, and as a page."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hardware import units
from hardware.errors import one_line
from simulator.corpus.own.logs import StepLog
from simulator.evidence import scores
from simulator.evidence.plan_order import OrderScore
from simulator.evidence.refit import FittedConstants
from simulator.evidence.scores import Outcome, Score
from simulator.evidence.validation import Validation

_GROUPS = (("source", "By source"), ("device", "By device"), ("stack", "By stack"), ("task", "By task"))
_MOST_SHIFTS = 12
"""Constants listed after a fit, those that moved most."""
_FEWEST_SHOWN = 3
"""Groups with fewer runs than this stand in the JSON only."""


def show(validation: Validation) -> None:
    """Print a validation to the terminal."""
    Console(highlight=False, markup=False, emoji=False).print(render(validation))


def render(validation: Validation) -> RenderableType:
    """Lay a validation out: how many runs, the figures of merit, then the groups."""
    priced = len(validation.outcomes) + len(validation.suspect)
    share = units.percent(priced / validation.timed if validation.timed else 0.0)
    lines = [
        f"{units.plural(validation.rows, 'run')}, {validation.timed:,} of them trained and tell the time of a step;"
    ]
    lines.append(f"{priced:,} priced ({share}) in {validation.seconds:.1f} s, the others not because:")
    lines += [f"  {number:>5,}  {one_line(reason)}" for reason, number in validation.refused.items()]
    if validation.unknown_keys:
        keys = ", ".join(f"{one_line(key)} ({number})" for key, number in list(validation.unknown_keys.items())[:8])
        lines.append(f"keys that the schema does not know, and that were ignored: {keys}")
    parts: list[RenderableType] = [Text("\n".join(lines))]
    if validation.outcomes:
        parts.append(Padding(_merit(validation), (1, 0, 0, 0)))
        parts += [Padding(each, (1, 0, 0, 0)) for each in _ranking(validation)]
        parts += [Padding(Text(line), (1, 0, 0, 0)) for line in memory_lines(validation)]
        parts += [Padding(each, (1, 0, 0, 0)) for each in _chances(validation)]
        for name, title in _GROUPS:
            parts.append(Padding(_groups(validation.outcomes, name, title), (1, 0, 0, 0)))
    return Group(*parts, "")


def _table(*columns: str) -> Table:
    """A table without lines, numbers to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    return table


def merit_rows(validation: Validation) -> list[tuple[str, Score, float | None]]:
    """The figures of merit: what was scored, its score, and the macro-average over sources."""
    rows: list[tuple[str, Score, float | None]] = [
        (name, way(validation.outcomes), scores.macro(validation.outcomes, way))
        for name, way in scores.SCORINGS.items()
    ]
    return [*rows, ("suspect runs", scores.headline(validation.suspect), None)] if validation.suspect else rows


def _merit(validation: Validation) -> Table:
    """The figures of merit."""
    table = _table("Error of the step", "median", "mean", "90th", "bias", "macro", "inside", "90 % interval", "score")
    for name, score, macro in merit_rows(validation):
        table.add_row(name, *_figures(score, macro)[1:])
    return table


def _figures(score: Score, macro: float | None) -> list[str]:
    """A score as words."""
    sure = score.low != score.high
    return [
        f"{score.rows:,}",
        units.percent(score.median_abs_error),
        units.percent(score.mean_abs_error),
        units.percent(score.p90_abs_error),
        f"{100 * score.bias:+.1f} %",
        units.percent(macro) if macro is not None else "",
        units.percent(score.coverage_90) if sure else "",
        f"x{score.low:.2f} to {score.high:.2f}" if sure else "",
        f"{score.interval_score:.2f}" if sure else "",
    ]


RANKING_TITLES = ("Order of plans", "groups", "runs", "regret, mean", "median", "pairs", "in order")


def ranking_rows(validation: Validation) -> list[tuple[str, ...]]:
    """How well predictions order plans, of all sources and without the one that is explained least."""
    rows = []
    for scheme, order in validation.ranking.items():
        rows.append((scheme, *_order(order.whole)))
        if order.others is not None:
            rows.append((f"{scheme}, without {order.least_explained}", *_order(order.others)))
    return rows


def _order(score: OrderScore) -> tuple[str, ...]:
    """A score of order as words."""
    return (
        f"{score.groups:,}",
        f"{score.runs:,}",
        units.percent(score.regret_mean),
        units.percent(score.regret_median),
        f"{score.pairs:,}",
        units.percent(score.pairs_right),
    )


def _ranking(validation: Validation) -> list[Table]:
    """How well predictions order plans, where some runs differ in their plan only."""
    table = _table(*RANKING_TITLES)
    for row in ranking_rows(validation):
        table.add_row(*map(one_line, row))
    return [table] if validation.ranking else []


def memory_lines(validation: Validation) -> list[str]:
    """What was found of memory, in a sentence or two."""
    score = validation.memory
    lines = []
    if score is not None and score.bytes is not None:
        errors = score.bytes
        lines.append(
            f"Memory of {units.plural(errors.rows, 'run')}: median error {units.percent(errors.median_abs_error)}, "
            f"bias {100 * errors.bias:+.1f} %, 90th percentile {units.percent(errors.p90_abs_error)}"
        )
    if score is not None and score.pairs is not None:
        number = units.plural(score.pairs.rows, "run")
        lines.append(f"Fit or no fit, over {number}: right in {units.percent(score.pairs.right)}")
    chances = validation.chances
    if chances is not None and chances.coverage_90 is not None and chances.coverage_90_by_source is not None:
        lines.append(
            f"90 % interval of memory, by errors on other sources: holds {units.percent(chances.coverage_90)}, "
            f"{units.percent(chances.coverage_90_by_source)} with sources weighted"
        )
    return lines


def chance_rows(validation: Validation) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Probabilities of fitting beside what happened: by what runs say that fitted, and by measured memory."""
    if validation.chances is None:
        return [], []
    bins: list[tuple[str, ...]] = [
        (
            f"{100 * each.low:g} to {100 * each.high:g} %",
            f"{each.runs:,}",
            units.percent(each.predicted),
            units.percent(each.fitted),
        )
        for each in validation.chances.bins
    ]
    limits: list[tuple[str, ...]] = [
        (f"{100 * each.share:g} %", units.percent(each.below), units.percent(each.by_source))
        for each in validation.chances.quantiles
    ]
    return bins, limits


BIN_TITLES = ("Chance of fitting", "runs", "predicted", "did fit")
LIMIT_TITLES = ("Memory stays below its limit in", "it did in", "sources weighted")


def _chances(validation: Validation) -> list[Table]:
    """Probabilities of fitting beside what happened, by errors on other sources."""
    tables = []
    for titles, rows in zip((BIN_TITLES, LIMIT_TITLES), chance_rows(validation), strict=True):
        table = _table(*titles)
        for row in rows:
            table.add_row(*row)
        tables += [table] if rows else []
    return tables


def _groups(outcomes: Sequence[Outcome], name: str, title: str) -> Table:
    """Scores of groups: new source, and the median where the stack was known."""
    known = scores.by(outcomes, name, scores.known_stack)
    table = _table(title, "runs", "median", "90th", "bias", "inside 90 %", "known stack")
    for key, score in scores.by(outcomes, name).items():
        if score.rows >= _FEWEST_SHOWN:
            table.add_row(
                one_line(key),
                f"{score.rows:,}",
                units.percent(score.median_abs_error),
                units.percent(score.p90_abs_error),
                f"{100 * score.bias:+.1f} %",
                units.percent(score.coverage_90),
                units.percent(known[key].median_abs_error),
            )
    return table


def markdown(validation: Validation) -> str:
    """The table of the README."""
    titles = "runs, median, mean, 90th percentile, bias, macro, inside the 90 % interval, interval, interval score"
    head = ["scored on runs that were not fitted", *titles.split(", ")]
    lines = [f"| {' | '.join(head)} |", "|---|--:|--:|--:|--:|--:|--:|--:|---|--:|"]
    for name, score, macro in merit_rows(validation):
        lines.append(f"| {name} | " + " | ".join(_figures(score, macro)) + " |")
    return "\n".join(lines)


def chances_markdown(validation: Validation) -> str:
    """The tables of the page on evidence: probabilities of fitting beside what happened."""
    tables = zip((BIN_TITLES, LIMIT_TITLES), chance_rows(validation), strict=True)
    return "\n\n".join(_markdown(titles, rows) for titles, rows in tables) + "\n"


def ranking_markdown(validation: Validation) -> str:
    """The table of the page on evidence: how well predictions order plans."""
    return _markdown(RANKING_TITLES, ranking_rows(validation)) + "\n"


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of a page, numbers to the right."""
    lines = [f"| {' | '.join(titles)} |", "|---|" + "--:|" * (len(titles) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def show_fit(fitted: FittedConstants, file: str) -> None:
    """Print what a fit found, and where it was written."""
    lines = [
        f"{fitted.constants.origin}, written to {file}",
        f"median error before {units.percent(fitted.before)}, on runs left out in turn {units.percent(fitted.after)}",
        *(f"not used: {one_line(reason)} ({number})" for reason, number in fitted.refused.items()),
        f"use it with --constants {file}",
    ]
    table = _table("Constant", "shift")
    for name, shift in list(fitted.moved.items())[:_MOST_SHIFTS]:
        table.add_row(name, f"{shift:+.3f}")
    parts: list[RenderableType] = [Text("\n".join(lines))]
    if fitted.moved:
        parts.append(Padding(table, (1, 0, 0, 0)))
    Console(highlight=False, markup=False, emoji=False).print(Group(*parts))


def show_log(log: StepLog, output: str | None) -> None:
    """Print the time of a step that a log tells, and where it was written as a run."""
    low, high = log.spread
    records = f"{units.plural(len(log.steady), 'record')} of {one_line(log.name)} ({log.kind})"
    lines = [
        f"{units.duration(log.step_time_s)} a step: median of {records}, after {log.warm_up} of warm-up",
        f"eight of ten records: {units.span(low, high)}",
        f"written to {output}; capsim fit --runs {output} fits to it"
        if output is not None
        else f"as a row of capsim fit: measured: {{step_time_s: {log.step_time_s:.6g}}}",
    ]
    Console(highlight=False, markup=False, emoji=False).print(Text("\n".join(lines)))
