"""Variations as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hardware import units
from simulator.answers.costs import mixed
from simulator.answers.estimate import Estimate
from simulator.specs.recomputation import in_words as recomputed
from simulator.terminal.estimate import of_run
from simulator.variations.sensitivity import Lever, Sensitivity
from simulator.variations.whatif import Variation, WhatIf

_DEGREES = ("dp", "tp", "pp", "virtual_stages", "cp", "ep")
_BAR = (10, 40)
"""Characters of the shortest and of the longest pair of bars."""
_NOTHING = 0.0005
"""A change by less than this is shown as none."""
_MOST_NAMES = 4
"""Variations named beside a sentence about them."""
_OBVIOUS = ("system", "workload", "plan", "ownership", "reliability")
"""Parts of a scenario whose figures need no other name."""
_RISKS = ("price_kind", "ownership.", "reliability.")
"""Places that change what is to be expected of a run rather than its steps."""
_OPTIONAL = ("limited by", "run", "MFU")
"""Columns that are left out where the terminal is too narrow, the first to go first."""


def show(varied: WhatIf | Sensitivity, *, title: str | None = None) -> None:
    """Print variations to the terminal."""
    console = Console(highlight=False, markup=False, emoji=False)
    render = _whatif if isinstance(varied, WhatIf) else _tornado
    body = render(varied, console)  # type: ignore[arg-type]
    notes = [*_prices(varied), *_notes(_all_notes(varied))]
    console.print(Group(*_head(varied, title), Padding(body, (1, 0, 0, 0)), *notes, ""))


def _prices(varied: WhatIf | Sensitivity) -> list[RenderableType]:
    """That costs rest on different kinds of prices, where they do."""
    if not isinstance(varied, WhatIf):
        return []
    words = mixed([varied.base, *(each.estimate for each in varied.variations if each.estimate is not None)])
    return [] if words is None else [Padding(Text(f"Note: {words}", style="yellow"), (1, 0, 0, 0))]


def _head(varied: WhatIf | Sensitivity, title: str | None) -> list[RenderableType]:
    """What is varied, and how."""
    base = varied.base
    devices = units.plural(base.devices, "device")
    name = title or f"{base.model} on {base.system}, {devices}"
    kept = "chosen anew where it was left open" if varied.replan else "kept"
    lines = [f"{plan_words(base.plan)}, stack {base.stack}; plan {kept}"]
    if isinstance(varied, Sensitivity):
        moved = f"divided and multiplied by {varied.factor:g}" if varied.factor else "at the values given"
        lines.append(
            f"as it is {units.duration(base.step_time_s)} per step, {units.count(base.tokens_per_s)} tokens/s; "
            f"change of the time of a token with each lever alone {moved}"
        )
    return [Text(name, style="bold"), *(Text(line, style="dim") for line in lines)]


def plan_words(plan: dict[str, Any]) -> str:
    """The degrees of a plan and what else decides it, in a line."""
    degrees = " ".join(f"{name}={plan[name]}" for name in _DEGREES if plan[name] > 1) or "dp=1"
    return (
        f"{degrees}, micro-batch {plan['micro_batch']}, sharding {plan['sharding']}, "
        f"recompute {recomputed(plan)}, {plan['precision']}"
    )


def _whatif(varied: WhatIf, console: Console) -> Table:
    """One row for the scenario as it is and for each variation, as wide as the terminal allows."""
    left_out: list[str] = []
    table = _rows(varied, left_out)
    for name in _OPTIONAL:
        if Measurement.get(console, console.options.update(max_width=10_000), table).maximum <= console.width:
            break
        left_out.append(name)
        table = _rows(varied, left_out)
    return table


def _rows(varied: WhatIf, left_out: Sequence[str]) -> Table:
    """The table without some of its columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("#", justify="right")
    for path in varied.paths:
        table.add_column(_words(path), style="cyan")
    answers = [_cells(varied.base, 1.0), *(_cells(each.estimate, each.time_ratio) for each in varied.variations)]
    if any(path.startswith(_RISKS) for path in varied.paths):
        of = [varied.base, *(each.estimate for each in varied.variations)]
        answers = [_risky(cells, estimate) for cells, estimate in zip(answers, of, strict=True)]
    names = [name for name in answers[0] if name not in left_out]
    for name in names:
        table.add_column(name, justify="left" if name == "limited by" else "right")
    texts = [["as it is", *([""] * (len(varied.paths) - 1))]]
    texts += [[edit.text for edit in each.changes] for each in varied.variations]
    for number, (values, cells) in enumerate(zip(texts, answers, strict=True)):
        style = "" if cells["memory"].endswith(" ") else "yellow"
        table.add_row(str(number or ""), *values, *(Text(cells[name], style=style) for name in names))
    return table


def _words(path: str) -> str:
    """A path as the heading of a column, which may break at its dots."""
    root, _, figure = path.partition(".")
    return (figure if figure and root in _OBVIOUS else path).replace(".", " ").replace("_", " ")


def _cells(answer: Estimate | None, ratio: float | None) -> dict[str, str]:
    """One answer; a mark behind its memory says that it does not fit."""
    if answer is None or ratio is None:
        return {"step": "-", "per token": "-", "MFU": "-", "memory": "-", "run": "-", "cost": "-", "limited by": ""}
    return {
        "step": units.duration(answer.step_time_s),
        "per token": _change(ratio),
        "MFU": units.percent(answer.mfu),
        "memory": units.size(answer.memory_bytes["total"]) + (" " if answer.fits else "!"),
        "run": of_run(answer.run, units.duration(answer.run.time_s)),
        "cost": "-" if answer.run.cost_usd is None else of_run(answer.run, units.money(answer.run.cost_usd)),
        "limited by": answer.limited_by,
    }


def _risky(cells: dict[str, str], answer: Estimate | None) -> dict[str, str]:
    """What a run becomes with failures and checkpoints, where those are varied."""
    time, cost = (answer.run.expected_time_s, answer.run.expected_cost_usd) if answer else (None, None)
    return {
        **{name: cells[name] for name in ("step", "per token", "memory")},
        "expected run": "-" if answer is None or time is None else of_run(answer.run, units.duration(time)),
        "expected cost": "-" if answer is None or cost is None else of_run(answer.run, units.money(cost)),
    }


def _change(ratio: float) -> str:
    """By how much a time differs."""
    return "same" if abs(ratio - 1.0) < _NOTHING else f"{100 * (ratio - 1):+.1f} %"


def _tornado(sensitivity: Sensitivity, console: Console) -> Table:
    """One row for each lever, the strongest first, with a bar from its fastest to its slowest answer."""
    heads = ("lever", "faster", "slower", "elasticity")
    rows = [(_words(lever.name), *_extremes(lever), _elasticity(lever)) for lever in sensitivity.levers]
    taken = sum(max(len(row[column]) for row in (heads, *rows)) + 2 for column in range(len(heads)))
    width = min(max(console.width - taken - 3, _BAR[0]), _BAR[1])
    whole = max(map(_faster, sensitivity.levers), default=0.0) + max(map(_slower, sensitivity.levers), default=0.0)
    bars = [[_bar(side(lever), width, whole) for side in (_faster, _slower)] for lever in sensitivity.levers]
    left = max((len(before) for before, _ in bars), default=0)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, style in zip(heads, ("", "green", "red", ""), strict=True):
        table.add_column(name, justify="left" if name == "lever" else "right", style=style, no_wrap=True)
    table.add_column("", no_wrap=True)
    for row, (before, after) in zip(rows, bars, strict=True):
        table.add_row(*row, f"{before:>{left}}│{after}")
    return table


def _elasticity(lever: Lever) -> str:
    """The elasticity of a lever, without the sign of a zero."""
    return "-" if lever.elasticity is None else f"{lever.elasticity:.2f}".replace("-0.00", "0.00")


def _faster(lever: Lever) -> float:
    """How much shorter a lever can make the time."""
    return 1.0 - lever.low


def _slower(lever: Lever) -> float:
    """How much longer it can."""
    return lever.high - 1.0


def _bar(change: float, width: int, whole: float) -> str:
    """One half of a bar; what is more than nothing has at least one character."""
    return "█" * max(round(width * change / whole), 1) if change >= _NOTHING else ""


def _extremes(lever: Lever) -> tuple[str, str]:
    """The fastest and the slowest answer of a lever, with the value that gives it."""
    if not lever.answers:
        return "no answer", ""
    texts = [(ratio, f"{_change(ratio)} at {variation.changes[0].text}") for ratio, variation in lever.answers]
    fast = texts[0][1] if texts[0][0] <= 1.0 - _NOTHING else ""
    slow = texts[-1][1] if texts[-1][0] >= 1.0 + _NOTHING else ""
    return fast, slow


def _all_notes(varied: WhatIf | Sensitivity) -> Iterable[tuple[str, str]]:
    """What there is to say of single variations, and where."""
    if isinstance(varied, WhatIf):
        rows = [(str(number), each) for number, each in enumerate(varied.variations, start=1)]
    else:
        rows = [
            (f"{_words(lever.name)} {each.changes[0].text}", each)
            for lever in varied.levers
            for each in lever.variations
        ]
    for name, each in rows:
        for text in _remarks(each, varied):
            yield name, text


def _remarks(variation: Variation, varied: WhatIf | Sensitivity) -> Iterable[str]:
    """What is wrong with a variation, and how its plan differs."""
    if variation.problem:
        yield variation.problem
    if variation.note:
        yield variation.note
    if varied.replan and variation.estimate is not None and variation.estimate.plan != varied.base.plan:
        words = plan_words(variation.estimate.plan)
        if words != plan_words(varied.base.plan):
            yield words


def _notes(notes: Iterable[tuple[str, str]]) -> list[RenderableType]:
    """Sentences below the table, each once with all that it is about."""
    about: dict[str, list[str]] = {}
    for name, text in notes:
        about.setdefault(text, []).append(name)
    table = Table.grid(padding=(0, 2))
    for text, names in about.items():
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        table.add_row(Text(", ".join(names[:_MOST_NAMES]) + more, style="bold"), Text(text))
    return [Padding(table, (1, 0, 0, 0))] if about else []
