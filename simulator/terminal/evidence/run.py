"""How one published run was read, as a table for a terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from hardware import units
from hardware.errors import one_line
from simulator.corpus.explaining import ExplainedField, Explanation
from simulator.evidence.scores import Outcome
from simulator.evidence.stories import RunStory

_LONGEST = 40
"""Characters of a published field that are shown; JSON has all."""


def show(explained: Explanation, outcome: Outcome | None, story: RunStory | None = None) -> None:
    """Print how a run was read, and its prediction where it is priced."""
    Console(highlight=False, markup=False, emoji=False).print(render(explained, outcome, story))


def render(explained: Explanation, outcome: Outcome | None, story: RunStory | None = None) -> RenderableType:
    """Lay it out: what came of the run and why, its fields, what was assumed, and the patterns that decided."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in ("Field", "Published", "Read by", "Result"):
        table.add_column(column, overflow="fold")
    for row in explained.fields:
        published = "" if row.published is None else _short(row.published)
        table.add_row(row.field, published, _read_by(row), one_line(row.result))
    lines = [f"assumed: {one_line(each)}" for each in explained.assumed]
    lines += [f"rule {one_line(row.rule)}" for row in explained.fields if _is_pattern(row)]
    told = [Text("\n".join(_told(explained, outcome))), "", *(_prediction(story) if story is not None else ())]
    return Group(*told, table, "", Text("\n".join(lines)))


def _prediction(story: RunStory) -> tuple[RenderableType, ...]:
    """A prediction in parts, its interval, and the runs that these rest on."""
    limits = units.span(story.low_s, story.high_s)
    whole = f"predicted {units.duration(story.predicted_s)}, 90 % interval {limits}, by constants without its source"
    rests = f"errors on {units.plural(story.runs, 'run')} of {units.plural(story.sources, 'source')}, the nearest:"
    parts, near = (Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold") for _ in range(2))
    for table, columns in ((parts, ("Part of the step", "time", "share")), (near, _NEAR)):
        for index, column in enumerate(columns):
            table.add_column(column, justify="right" if index else "left", overflow="fold")
    for name, seconds in story.breakdown_s.items():
        parts.add_row(name.replace("_", " "), units.duration(seconds), units.percent(seconds / story.predicted_s))
    for each in story.neighbours:
        error = f"{100 * each.error:+.1f} %"
        near.add_row(one_line(each.id), f"{each.distance:.2f}", units.duration(each.measured_s), error)
    return Text(whole), "", parts, "", Text(rests), near, ""


_NEAR = ("Run of another source", "distance", "measured", "error")


def _is_pattern(row: ExplainedField) -> bool:
    """Whether a pattern of rules.yaml decided."""
    return ": " in row.rule and bool(row.word)


def _read_by(row: ExplainedField) -> str:
    """The list of rules with the word that one of them matched, or how the field was treated."""
    return f'{row.rule.partition(": ")[0]}: "{_short(row.word)}"' if _is_pattern(row) else one_line(row.rule)


def _told(explained: Explanation, outcome: Outcome | None) -> list[str]:
    """What came of the run."""
    if explained.refused is not None:
        return [f"{explained.id}: not priced: {one_line(explained.refused)}"]
    if outcome is None:
        return [f"{explained.id}: read, but it tells no step time of training to compare with"]
    error = f"{100 * outcome.error:+.1f} %"
    measured, predicted = units.duration(outcome.measured_s), units.duration(outcome.predicted_s)
    lines = [f"{explained.id}: measured {measured}, predicted {predicted} ({error})"]
    return [*lines, "it contradicts itself or its neighbours, and is scored apart"] if outcome.suspect else lines


def _short(words: str) -> str:
    """Words in one line, cut where they are long."""
    line = one_line(words)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
