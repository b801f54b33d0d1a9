"""Options for a run as tables for a terminal, and as rows for a spreadsheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hardware import catalogue, units
from simulator.answers.costs import flat, mixed
from simulator.plan_search.ranking import spread
from simulator.renting.sweeping import Option, Refused, Swept
from simulator.renting.wishes import Outlook, Relaxed
from simulator.terminal.search import FRONT, plan_words, reason_words, shared_fields, shared_words, software_words

_WIDE = 130
"""Columns from which a line has room for a plan."""
_REASONS = 8
"""Of what was left out that a terminal shows."""
_INTERRUPTED = "interrupted: the best found so far"


def show(outlook: Outlook) -> None:
    """Print options to the terminal."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(render(outlook, wide=console.width >= _WIDE))


def show_sweep(swept: Swept) -> None:
    """Print the best plans of a sweep to the terminal."""
    console = Console(highlight=False, markup=False, emoji=False)
    page = _Page(None, swept.options, wide=console.width >= _WIDE)
    parts: list[RenderableType] = [*_length(swept.options), *_hosts(swept.options)]
    for model in dict.fromkeys(option.model for option in swept.options):
        of_model = [option for option in swept.options if option.model == model]
        parts.append(Text(f"{model}: {shared_words([option.estimate for option in of_model])}", style="dim"))
        page.add_table(model, [("", option) for option in of_model])
    if not swept.whole:
        parts.append(Text(_INTERRUPTED, style="bold yellow"))
    console.print(Group(*parts, *page.parts, *_prices(swept.options), *_left_out(swept.refused), ""))


def render(outlook: Outlook, *, wide: bool = True) -> RenderableType:
    """Lay options out: what to take, what relaxing the limits buys, the front, and what was left out.

    Parameters
    ----------
    found
        What there is.
    wide
        Whether each line has room for a plan; else plans are listed below.
    """
    limits = [f"within {units.duration(outlook.deadline_s)}"] if outlook.deadline_s is not None else []
    limits += [f"for {units.money(outlook.budget_usd)}"] if outlook.budget_usd is not None else []
    head = f"{outlook.model}: {units.plural(len(outlook.options), 'option')}" + (
        f"; {', '.join(limits)}" if limits else ""
    )
    sure = f"; limits count as kept from a chance of {100 * outlook.confidence:g} %" if limits else ""
    said = f"priced in {outlook.seconds:.1f} s; expected times and costs include failures and checkpoints{sure}"
    work = shared_words([option.estimate for option in outlook.options]) if outlook.options else ""
    lines = [Text(line, style="dim") for line in (work, said) if line]
    parts: list[RenderableType] = [
        Text(head, style="bold"),
        *lines,
        *_length(outlook.options),
        *_hosts(outlook.options),
    ]
    if not outlook.whole:
        parts.append(Text(_INTERRUPTED, style="bold yellow"))
    page = _Page(outlook, outlook.options, wide=wide)
    if outlook.deadline_s is not None:
        page.add_answer("Cheapest in time", outlook.cheapest, outlook.later)
    if outlook.budget_usd is not None:
        page.add_answer("Fastest within the budget", outlook.fastest, outlook.dearer)
    if outlook.nearest is not None and outlook.nearest.option is not None:
        words = " and ".join(f"the {name}" for name, limit in _limits(outlook) if limit is not None)
        page.add_table(f"Nearest: needs {outlook.nearest.factor:.2f} times {words}", [("", outlook.nearest.option)])
    page.add_front()
    return Group(*parts, *page.parts, *_prices(outlook.options), *_left_out(outlook.refused), "")


def _length(options: Sequence[Option]) -> list[RenderableType]:
    """That times and costs are of a billion tokens, where nothing says how long a run is."""
    names = dict.fromkeys(option.model for option in options if option.estimate.run.of != "run")
    words = f"per 1B tokens of {', '.join(names)}: nothing says how long the run is, give --tokens or --steps"
    return [Text(words, style="yellow")] if names else []


def _hosts(options: Sequence[Option]) -> list[RenderableType]:
    """That a device's name means one plain host of it, where systems were named so."""
    names = [name for name in dict.fromkeys(option.system for option in options) if name in catalogue.names("devices")]
    words = f"{', '.join(names)}: a device, which stands for one plain host of it; name a system for more devices"
    return [Text(words, style="yellow")] if names else []


def _limits(outlook: Outlook | Relaxed) -> list[tuple[str, float | None]]:
    """The limits by their names."""
    return [("deadline", outlook.deadline_s), ("budget", outlook.budget_usd)]


class _Page:
    """Tables one below the other, and where they have no room for plans a list of them at the end."""

    def __init__(self, outlook: Outlook | None, options: Sequence[Option], *, wide: bool) -> None:
        self._outlook = outlook
        self._wide = wide
        self._tables: list[RenderableType] = []
        self._plans: dict[tuple[str, str, str], str] = {}
        self._shared = {
            model: shared_fields([option.estimate for option in options if option.model == model])
            for model in dict.fromkeys(option.model for option in options)
        }

    @property
    def parts(self) -> list[RenderableType]:
        """Everything, with space between."""
        listed = [self._listed()] if self._plans and not self._wide else []
        return [Padding(each, (1, 0, 0, 0)) for each in (*self._tables, *listed)]

    def add_answer(self, title: str, taken: Option | None, relaxed: Sequence[Relaxed]) -> None:
        """One answer, and what relaxing its limit would change."""
        rows: list[tuple[str, Option | None]] = [("as asked", taken)]
        known = taken
        for each in relaxed:
            if each.option is not None and each.option is not known:
                rows.append((f"x {each.factor:g}", each.option))
            known = each.option
        most = f"x {relaxed[-1].factor:g}" if relaxed else ""
        self.add_table(title, rows, words_at_end=("", f"nothing up to {most} either") if known is None else None)

    def add_front(self) -> None:
        """What no other option beats, or where no price is known the fastest."""
        if self._outlook is None or not self._outlook.options:
            return
        front, title = self._outlook.front, "Not beaten in both time and money"
        if not front:
            front, title = self._outlook.options, "Fastest (no price is known)"
        if len(front) > FRONT:
            title += f" ({FRONT} of {len(front)})"
        self.add_table(title, [("", option) for option in spread(front, FRONT)])

    def add_table(
        self,
        title: str,
        rows: Sequence[tuple[str, Option | None]],
        words_at_end: tuple[str, str] | None = None,
    ) -> None:
        """Options one below the other; nothing where there is none."""
        table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        named = any(words for words, _ in rows)
        limits = [name for name, limit in _limits(self._outlook) if limit is not None] if self._outlook else []
        names = ["devices", "time", "cost", *(["CO2e", "MFU", "fits"] if self._wide else []), *limits]
        for name in [*([""] if named else []), "system"]:
            table.add_column(name, no_wrap=True)
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
        if self._wide:
            table.add_column("plan", overflow="fold")
        for words, option in rows:
            cells = ["nothing"] if option is None else self._cells(option)
            table.add_row(*([words] if named else []), *cells)
        if words_at_end is not None:
            table.add_row(*words_at_end)
        self._tables.append(table)

    def _cells(self, option: Option) -> list[str | Text]:
        """One option."""
        chances = self._outlook.chances(option).values() if self._outlook is not None else ()
        answer = option.estimate
        words = self._plan_words(option)
        self._plans[option.model, option.system, f"{option.devices:,}"] = words
        chance = _chance(answer.fits_probability)
        more = [_or(option.co2_kg, units.mass, "?"), units.percent(answer.mfu), chance] if self._wide else []
        return [
            option.system,
            f"{option.devices:,}",
            Text(_or(option.time_s, units.duration, "never"), style="cyan"),
            _or(option.cost_usd, units.money, "?"),
            *more,
            *map(_chance, chances),
            *([words] if self._wide else []),
        ]

    def _plan_words(self, option: Option) -> str:
        """The plan of an option, with number format, optimizer and software where others have other ones."""
        apart = software_words(option.estimate, without=self._shared[option.model])
        return f"{plan_words(option.estimate)}{', ' if apart else ''}{apart}"

    def _listed(self) -> Table:
        """The plans of all options that were shown."""
        table = Table(title="Plans", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        table.show_header = False
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="fold")
        several = len({model for model, _, _ in self._plans}) > 1
        for (model, system, devices), words in self._plans.items():
            table.add_row(f"{model}, {system}" if several else system, devices, words)
        return table


def _prices(options: Sequence[Option]) -> list[RenderableType]:
    """That costs rest on different kinds of prices, where they do."""
    words = mixed(option.estimate for option in options)
    return [] if words is None else [Padding(Text(f"Note: {words}", style="yellow"), (1, 0, 0, 0))]


def _or(value: float, words: Callable[[float], str], nothing: str) -> str:
    """A value in words, or that there is none."""
    return words(value) if value < float("inf") else nothing


def _chance(chance: float | None) -> str:
    """A probability, where it is known."""
    return "?" if chance is None else units.chance(chance)


def _left_out(refused: Sequence[Refused]) -> list[RenderableType]:
    """Cases without a plan, by reason."""
    if not refused:
        return []
    table = Table.grid(padding=(0, 2))
    table.add_row(Text("Left out", style="bold"))
    for number, words in left_out(refused)[:_REASONS]:
        table.add_row(Text(f"  {number:,}", justify="right"), words)
    return [Padding(table, (1, 0, 0, 0))]


def left_out(refused: Sequence[Refused]) -> list[tuple[int, str]]:
    """How many cases have no plan and why, with one of them, the most frequent reason first."""
    told = []
    for reason, number in Counter(each.reason for each in refused).most_common():
        example = next(each for each in refused if each.reason == reason)
        words = reason if example.rule is None else reason_words(example.rule)
        told.append((number, f"{words}, as {example.devices:,} x {example.system}"))
    return told


def rows(options: Sequence[Option], outlook: Outlook | None = None) -> list[dict[str, Any]]:
    """Options as rows of a table."""
    listing = []
    for option in options:
        values = option.to_dict()
        plan, interval, price = values.pop("plan"), values.pop("interval"), values.pop("price")
        names = ("dp", "tp", "pp", "cp", "ep", "virtual_stages", "schedule", "micro_batch", "sharding", "recompute")
        chances = outlook.chances(option) if outlook is not None else {}
        in_front = {"in_front": option in outlook.front} if outlook is not None else {}
        limits = {"step_time_low_s": interval["low_s"], "step_time_high_s": interval["high_s"]}
        listing.append(
            {**values, **flat(price), **limits, **{name: plan.get(name) for name in names}, **chances, **in_front}
        )
    return listing
