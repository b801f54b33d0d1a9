"""A search as tables for a terminal, and as rows for a spreadsheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hardware import units
from simulator.answers.costs import rate_words
from simulator.answers.estimate import Estimate
from simulator.plan_search.ranking import spread
from simulator.plan_search.searching import Search, listed
from simulator.plan_search.table import Fastest
from simulator.scenario.choosing import CLOSE
from simulator.specs.recomputation import in_words as recomputed
from simulator.terminal.estimate import of_run

FRONT = 20
"""Plans of a front that a terminal shows; files and JSON have all of them."""

_WIDE = 120
"""Columns where nobody says how many there are."""
_ROOM = 24
"""Columns that a plan needs beside its figures."""
_SHARED = ("precision", "optimizer", "stack")
"""What all answers of a table may share."""
_LAYOUT = Console(width=10_000)
"""Measures tables."""

_REASONS = {
    "heads": "tp does not divide the attention heads",
    "kv-heads": "tp and the key-value heads do not divide each other",
    "layers": "more pipeline stages than layers",
    "chunks": "stages and virtual stages do not divide the layers",
    "sequence": "cp does not divide the sequence",
    "sequence-parallel": "tp does not divide a rank's tokens",
    "experts": "ep does not divide the experts",
    "expert-tensor": "etp does not divide tp",
    "frozen-heads": "tp does not divide the teacher's attention heads",
    "frozen-layers": "more pipeline stages than layers of the teacher",
    "pairs": "a micro-batch of half a pair",
    "adapters": "tp does not divide lora_rank",
    "expert-group": "ep x etp does not divide the ranks of a stage",
    "batch": "dp x micro-batch does not divide the batch",
    "interleaving": "fewer micro-batches than stages",
    "sharding-group": "the group does not divide the replicas",
    "adapted-again": "adapters beside recomputed operators",
    "operators": "recomputation by operator of parallel blocks",
    "stack": "the software cannot run it",
    "conditions": "the conditions leave nothing",
    "memory": "too much memory",
    "limits": "slower or dearer than asked",
}
"""Why plans cannot be, in words."""


def show(result: Search) -> None:
    """Print a search to the terminal."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(render(result, width=console.width))


def render(result: Search, *, width: int = _WIDE) -> RenderableType:
    """Lay a search out: the best plans, then what was left out, or what would come nearest where nothing fits.

    Parameters
    ----------
    result
        What a search found.
    width
        Columns that there are; where they leave no room for plans beside figures these are listed below them.
    """
    parts: list[RenderableType] = [*_head(result)]
    if result.best:
        parts += _table(f"Best by {result.objective}", result, result.best, width)
        parts += _quickest(result)
    elif result.whole:
        parts.append(Padding(_nothing(result), (1, 0, 0, 0)))
    if result.pareto:
        few = spread(result.pareto, FRONT)
        title = "Not beaten in both respects" + (f" ({FRONT} of {len(result.pareto)})" if few != result.pareto else "")
        parts += _table(title, result, few, width)
    if result.fastest is not None and result.fastest.cells:
        parts.append(Padding(_fastest(result.fastest), (1, 0, 0, 0)))
    if result.rejected:
        parts.append(Padding(_rejected(result), (1, 0, 0, 0)))
    return Group(*parts, "")


def _head(result: Search) -> list[Text]:
    """What was searched, with what every plan has."""
    lines = [f"{result.model} on {result.system}, {units.plural(result.devices, 'device')}"]
    lines.append(f"{batch_words(result.workload)}, {result.precision}, {result.optimizer}, stack {result.stack}")
    if result.why_stack is not None:
        lines.append(result.why_stack)
    counted = f"{units.plural(result.candidates, 'plan')}, {result.priced:,} of them fit and are priced"
    lines.append(f"{counted}, in {result.seconds:.1f} s")
    lines.append(f"a plan counts as one that fits where it does with a chance of {100 * result.fits:g} %")
    if result.best:
        lines.append(f"costs at {rate_words(result.best[0].run.price)}")
    texts = [Text(line, style="dim" if place else "bold") for place, line in enumerate(lines)]
    return texts if result.whole else [*texts, Text("interrupted: the best found so far", style="bold yellow")]


def _quickest(result: Search) -> list[Text]:
    """The plan of the shortest step, where another one comes first."""
    words = quickest_words(result)
    return [] if words is None else [Text(words, style="dim")]


def quickest_words(result: Search) -> str | None:
    """The plan of the shortest step in words, where a plainer one that is about as fast comes first."""
    if result.quickest is None:
        return None
    less = 1.0 - result.quickest.step_time_s / result.best[0].step_time_s
    times = [_within(one, result.chance) for one in (result.quickest, result.best[0])]
    if times[0] > CLOSE * times[1]:
        return (
            f"shortest step expected: {units.duration(result.quickest.step_time_s)}, {100 * less:.1f} % less, with "
            f"{plan_words(result.quickest)}; of plans like it less is known, so that with a chance of "
            f"{100 * (result.chance or 0.5):g} % it stays below {units.duration(times[0])} and the first one below "
            f"{units.duration(times[1])}"
        )
    return (
        f"shortest step: {units.duration(result.quickest.step_time_s)}, {100 * less:.1f} % less, with "
        f"{plan_words(result.quickest)}; steps within {100 * (CLOSE - 1):.0f} % of the shortest count as equal, and "
        "the plainest plan comes first"
    )


def _within(one: Estimate, chance: float | None) -> float:
    """What a plan was ranked by [s]."""
    within = one.step_time_within(chance) if chance is not None else None
    return one.step_time_s if within is None else within


def _nothing(result: Search) -> Text:
    """What to say where no plan is left."""
    words = [why_nothing(result)]
    if result.nearest is not None:
        words.append(f"nearest: {nearest_words(result, result.nearest)}")
    return Text("\n".join(words), style="bold")


def nearest_words(result: Search, nearest: Estimate) -> str:
    """The plan that comes nearest to what was asked, and what it lacks."""
    memory, lacking = nearest.memory_bytes["total"], nearest.memory_bytes["total"] - result.room_bytes
    if lacking > 0:
        chance = f"fits with a chance of {units.chance(nearest.fits_probability)}"
        return f"{plan_words(nearest)}, {units.size(memory)}, {chance}, {units.size(lacking)} too much"
    money = f", {units.money(nearest.run.cost_usd)}" if nearest.run.cost_usd is not None else ""
    return f"{plan_words(nearest)}, {of_run(nearest.run, f'{units.duration(nearest.run.time_s)}{money}')}"


def why_nothing(result: Search) -> str:
    """Which rules left no plan, that of most plans first."""
    if not result.rejected:
        return "no plan is left by the conditions"
    if result.priced:
        return f"no plan is left: {result.priced:,} fit, and all of them are {reason_words('limits')}"
    ordered = sorted(result.rejected.items(), key=lambda item: -item[1])
    reasons = [f"{reason_words(name)} in {units.plural(number, 'plan')}" for name, number in ordered]
    return f"no plan is left: {', '.join(reasons)}"


def reason_words(rule: str) -> str:
    """Why a plan that breaks a rule cannot be."""
    return _REASONS.get(rule, rule)


def plan_words(estimate: Estimate) -> str:
    """The plan of an answer in as few words as say it all."""
    return in_words(estimate.plan)


def in_words(plan: Mapping[str, Any]) -> str:
    """A plan in as few words as say it all."""
    names = {"dp": "dp", "tp": "tp", "pp": "pp", "cp": "cp", "ep": "ep", "virtual_stages": "v"}
    words = [f"{short}={plan[name]}" for name, short in names.items() if plan.get(name, 1) > 1] or ["dp=1"]
    words += [f"etp={plan['etp']}"] if plan.get("etp") is not None else []
    words.append(f"mb={plan['micro_batch']}")
    if plan["schedule"] not in ("1f1b", "interleaved"):
        words.append(plan["schedule"])
    if plan["sharding"] != "none":
        words.append(plan["sharding"] + (f"/{plan['sharding_group']}" if plan.get("sharding_group") else ""))
    if plan["recompute"] != "none":
        words.append(f"recompute={recomputed(plan)}")
    if plan.get("sequence_parallel"):
        words.append("sp")
    if plan.get("offload_optimizer"):
        words.append("offload")
    used = [axis for axis in plan["placement"] if plan.get(axis, 1) > 1]
    usual = [axis for axis in ("tp", "cp", "dp", "pp") if axis in used]
    return " ".join(words) + (f" {'-'.join(used)}" if used != usual else "")


def _table(title: str, result: Search, estimates: Sequence[Estimate], width: int) -> list[RenderableType]:
    """Plans with their answers; where these leave no room for the plans they are numbered, and listed below."""
    numbered = _figures(title, result, estimates, numbered=True)
    if Measurement.get(_LAYOUT, _LAYOUT.options, numbered).maximum + _ROOM <= width:
        return [Padding(_figures(title, result, estimates, numbered=False), (1, 0, 0, 0))]
    plans = Table.grid(padding=(0, 1))
    for number, one in enumerate(estimates, start=1):
        plans.add_row(Text(f"{number}", justify="right"), plan_words(one))
    return [Padding(numbered, (1, 0, 0, 0)), Padding(plans, (1, 0, 0, 0))]


def _figures(title: str, result: Search, estimates: Sequence[Estimate], *, numbered: bool) -> Table:
    """Answers one below the other, with a number each or with the plans."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    of = "per 1B\ntokens" if any(one.run.of != "run" for one in estimates) else "run"
    times = ("step", *_safe_title(result), "90 % interval")
    for name in (*(("",) if numbered else ()), *times, "MFU", "memory", "fits", of, "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    if not numbered:
        table.add_column("plan", overflow="fold")
    for number, one in enumerate(estimates, start=1):
        low, high = one.step_time_low_s, one.step_time_high_s
        table.add_row(
            *((str(number),) if numbered else ()),
            Text(units.duration(one.step_time_s), style="cyan"),
            *_safe_time(result, one),
            units.span(low, high) if low is not None and high is not None else "",
            units.percent(one.mfu),
            units.size(one.memory_bytes["total"]),
            units.chance(one.fits_probability),
            units.duration(one.run.time_s),
            units.money(one.run.cost_usd) if one.run.cost_usd is not None else "",
            *(() if numbered else (plan_words(one),)),
        )
    return table


def _safe_title(result: Search) -> tuple[str, ...]:
    """The column of what plans were ranked by, where that is not their expected time."""
    return () if result.chance is None else (f"{100 * result.chance:g} %\nbelow",)


def _safe_time(result: Search, one: Estimate) -> tuple[str, ...]:
    """What a plan was ranked by, where that is not its expected time."""
    within = one.step_time_within(result.chance) if result.chance is not None else None
    return () if result.chance is None else ("" if within is None else units.duration(within),)


def _fastest(fastest: Fastest) -> Table:
    """The fastest step for each pair of values; a dash where nothing fits."""
    down, across = fastest.by
    table = Table(title=f"Fastest step by {down} and {across}", title_justify="left", title_style="bold", box=None)
    table.add_column(down, justify="right", no_wrap=True)
    for second in fastest.values[1]:
        table.add_column(f"{across}={second}", justify="right", no_wrap=True)
    words = {
        each.values: "-" if each.step_time_s is None else units.duration(each.step_time_s) for each in fastest.cells
    }
    for first in fastest.values[0]:
        table.add_row(str(first), *(words.get((first, second), "") for second in fastest.values[1]))
    return table


def _rejected(result: Search) -> Table:
    """Plans that cannot be, by reason."""
    table = Table.grid(padding=(0, 2))
    table.add_row(Text("Left out", style="bold"))
    for name, number in result.rejected.items():
        table.add_row(f"  {reason_words(name)}", Text(f"{number:,}", justify="right"))
    return table


def rows(result: Search) -> list[dict[str, Any]]:
    """The listed plans as rows of a table."""
    listing: list[dict[str, Any]] = []
    for kind, plans in (("best", result.best), ("pareto", result.pareto or ()), ("nearest", _nearest(result))):
        for rank, one in enumerate(plans, start=1):
            values = listed(one, result.chance)
            plan, interval = values.pop("plan"), values.pop("interval")
            plan = {"sharding_group": None, **plan, "placement": "-".join(plan["placement"])}
            values["warnings"] = "; ".join(values["warnings"])
            limits = {"step_time_low_s": interval["low_s"], "step_time_high_s": interval["high_s"]}
            listing.append({"list": kind, "rank": rank, **dict(sorted(plan.items())), **limits, **values})
    return listing


def _nearest(result: Search) -> tuple[Estimate, ...]:
    """The plan that comes nearest, where none fits."""
    return (result.nearest,) if result.nearest is not None else ()


def batch_words(workload: Mapping[str, Any]) -> str:
    """The batch of a resolved workload in words.

    >>> batch_words({"global_batch": 2048, "sequence_length": 8192})
    'batch 2,048 x 8,192 tokens'
    >>> batch_words({"global_batch": 8, "sequence_length": 512, "target_length": 128})
    'batch 8 x 512 + 128 tokens'
    """
    target = f" + {workload['target_length']:,}" if workload.get("target_length") else ""
    return f"batch {workload['global_batch']:,} x {workload['sequence_length']:,}{target} tokens"


def lengths_words(answers: Sequence[Estimate]) -> str:
    """The batch of all answers, or where it grows with the devices the length of their sequences."""
    words = dict.fromkeys(batch_words(answer.workload) for answer in answers)
    if len(words) == 1:
        return next(iter(words))
    return ", ".join(dict.fromkeys(f"sequences of {answer.workload['sequence_length']:,} tokens" for answer in answers))


def software_words(answer: Estimate, *, without: Sequence[str] = ()) -> str:
    """Number format, optimizer and stack of an answer in words, as far as they are not said elsewhere."""
    values = _values(answer)
    return ", ".join(values[name] for name in _SHARED if name not in without)


def shared_fields(answers: Sequence[Estimate]) -> tuple[str, ...]:
    """Of number format, optimizer and stack those that all answers have alike."""
    every = [_values(answer) for answer in answers]
    return tuple(name for name in _SHARED if len({each[name] for each in every}) == 1)


def shared_words(answers: Sequence[Estimate]) -> str:
    """Batch, number format, optimizer and stack of all answers, as far as they are alike."""
    shared = shared_fields(answers)
    apart = [name for name in _SHARED if name not in shared]
    alike = software_words(answers[0], without=apart) if shared else ""
    return ", ".join(filter(None, (lengths_words(answers), alike)))


def _values(answer: Estimate) -> dict[str, str]:
    """What answers may share, in words."""
    return {
        "precision": str(answer.plan["precision"]),
        "optimizer": str(answer.plan["optimizer"]),
        "stack": f"stack {answer.stack}",
    }
