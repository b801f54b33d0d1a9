"""A validation of serving as tables for a terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hardware import units
from hardware.errors import one_line
from simulator.evidence.serving.validation import REPORTED, FigureScore, ServingValidation, by, score

NAMES = {
    "ttft_s": "time to first token",
    "tpot_s": "time for each token",
    "total_latency_s": "latency",
    "output_tokens_per_s": "output tokens/s",
    "sequences_per_s": "sequences/s",
    "memory_gb": "memory",
}
_SCHEMES = ("new source", "known stack", "nothing fitted")
TITLES = ("Serving", "figures", "median", "90th", "macro", "bias", "inside")
_FEWEST_SHOWN = 10
"""Groups with fewer figures than this stand in the JSON only."""


def show_serving(validation: ServingValidation) -> None:
    """Print a validation to the terminal."""
    Console(highlight=False, markup=False, emoji=False).print(render_serving(validation))


def render_serving(validation: ServingValidation) -> RenderableType:
    """Lay a validation out: how many runs, errors by kind of figure, order of settings, then the groups."""
    runs = units.plural(validation.rows, "run")
    lines = [f"Serving: {runs}, {len(validation.outcomes):,} figures priced in {validation.seconds:.1f} s"]
    if validation.refused:
        lines[0] += "; runs that were not, and why:"
    lines += [f"  {number:>5,}  {one_line(reason)}" for reason, number in validation.refused.items()]
    if validation.unknown_keys:
        keys = ", ".join(f"{one_line(key)} ({number})" for key, number in list(validation.unknown_keys.items())[:8])
        lines.append(f"keys that the schema does not know, and that were ignored: {keys}")
    parts: list[RenderableType] = [Text("\n".join(lines))]
    if validation.outcomes:
        for scheme in _SCHEMES:
            parts.append(Padding(_table((scheme, *TITLES[1:]), merit_rows(validation, scheme)), (1, 0, 0, 0)))
        parts.append(Padding(Text("\n".join(order_lines(validation))), (1, 0, 0, 0)))
        for name in ("source", "device", "stack", "task"):
            rows = _group_rows(validation, name)
            titles = (f"By {name}", "figure", *TITLES[1:4], *TITLES[5:])
            parts += [Padding(_table(titles, rows), (1, 0, 0, 0))] if rows else []
    return Group(*parts, "")


def merit_rows(validation: ServingValidation, scheme: str) -> list[tuple[str, ...]]:
    """Errors of each kind of figure."""
    rows = []
    for metric in REPORTED:
        part = [each for each in validation.outcomes if each.metric == metric]
        if part:
            found = score(part, scheme)
            rows.append(
                (NAMES[metric], *_figures(found)[:3], units.percent(found.macro_median_abs_error), *_figures(found)[3:])
            )
    return rows


def order_lines(validation: ServingValidation) -> list[str]:
    """How often the better of two settings is named."""
    return [
        f"Better of two settings of one source that differ by 5 %, {scheme}: named in {units.percent(pairs.right)} of "
        f"{pairs.pairs:,} pairs, {units.percent(pairs.right_by_group)} with groups weighted"
        for scheme, pairs in validation.pairs.items()
        if pairs.pairs
    ]


def _figures(found: FigureScore) -> tuple[str, ...]:
    """A score as words."""
    sure = found.interval_coverage_90
    return (
        f"{found.rows:,}",
        units.percent(found.median_abs_error),
        units.percent(found.p90_abs_error),
        f"{100 * found.bias:+.1f} %",
        "" if sure is None else units.percent(sure),
    )


def _group_rows(validation: ServingValidation, name: str) -> list[tuple[str, ...]]:
    """Errors of each group, and each kind of figure that it tells."""
    rows = []
    for metric in REPORTED:
        part = [each for each in validation.outcomes if each.metric == metric]
        for key, found in by(part, name).items():
            if found.rows >= min(_FEWEST_SHOWN, len(part)):
                rows.append((one_line(key), NAMES[metric], *_figures(found)))
    return sorted(rows, key=lambda row: row[0])


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    """A table without lines, numbers to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        words = index == 0 or column == "figure"
        table.add_column(column, justify="left" if words else "right", no_wrap=not words)
    for row in rows:
        table.add_row(*row)
    return table


def serving_markdown(validation: ServingValidation) -> str:
    """Errors of each kind of figure as a table of Markdown: both ways of leaving out, and nothing fitted."""
    lines = ["| " + " | ".join(TITLES) + " |", "|" + " --- |" + " --: |" * (len(TITLES) - 1)]
    for scheme in _SCHEMES:
        for name, *figures in merit_rows(validation, scheme):
            lines.append("| " + " | ".join((f"{name}, {scheme}", *figures)) + " |")
    lines += [
        "",
        "| Better of two settings | groups | pairs | in order | groups weighted |",
        "| --- | --: | --: | --: | --: |",
    ]
    for scheme, pairs in validation.pairs.items():
        shares = (units.percent(pairs.right), units.percent(pairs.right_by_group))
        lines.append("| " + " | ".join((scheme, f"{pairs.groups:,}", f"{pairs.pairs:,}", *shares)) + " |")
    return "\n".join(lines) + "\n"
