"""A search as tables for a terminal, and as rows for a spreadsheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hardware import units
from simulator.answers.costs import rate_words
from simulator.answers.estimate import Estimate
from simulator.plan_search.ranking import spread
from simulator.plan_search.searching import Search, listed
from simulator.plan_search.table import Fastest
from simulator.specs.recomputation import in_words as recomputed
from simulator.terminal.estimate import of_run

FRONT = 20
"""Plans of a front that a terminal shows; files and JSON have all of them."""

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
    "stack": "the software cannot run it",
    "conditions": "the conditions leave nothing",
    "memory": "too much memory",
    "limits": "slower or dearer than asked",
}
"""Why plans cannot be, in words."""


def show(result: Search) -> None:
    """Print a search to the terminal."""
    Console(highlight=False, markup=False, emoji=False).print(render(result))


def render(result: Search) -> RenderableType:
    """Lay a search out: the best plans, then what was left out, or what would come nearest where nothing fits."""
    head = f"{result.model} on {result.system}, {units.plural(result.devices, 'device')}"
    counted = (
        f"{units.plural(result.candidates, 'plan')}, {result.priced:,} of them fit "
        f"and are priced, in {result.seconds:.1f} s; stack {result.stack}"
    )
    sure = f"a plan counts as one that fits where it does with a chance of {100 * result.fits:g} %"
    parts: list[RenderableType] = [Text(head, style="bold"), Text(counted, style="dim"), Text(sure, style="dim")]
    if result.best:
        parts.append(Text(f"costs at {rate_words(result.best[0].run.price)}", style="dim"))
    if not result.whole:
        parts.append(Text("interrupted: the best found so far", style="bold yellow"))
    if result.best:
        parts.append(Padding(_table(f"Best by {result.objective}", result.best), (1, 0, 0, 0)))
    elif result.whole:
        parts.append(Padding(_nothing(result), (1, 0, 0, 0)))
    if result.pareto:
        few = spread(result.pareto, FRONT)
        title = "Not beaten in both respects" + (f" ({FRONT} of {len(result.pareto)})" if few != result.pareto else "")
        parts.append(Padding(_table(title, few), (1, 0, 0, 0)))
    if result.fastest is not None and result.fastest.cells:
        parts.append(Padding(_fastest(result.fastest), (1, 0, 0, 0)))
    if result.rejected:
        parts.append(Padding(_rejected(result), (1, 0, 0, 0)))
    return Group(*parts, "")


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
    """Which rule killed most plans."""
    if not result.rejected:
        return "no plan is left by the conditions"
    if result.priced:
        return f"no plan is left: {result.priced:,} fit, and all of them are {reason_words('limits')}"
    name, number = max(result.rejected.items(), key=lambda item: item[1])
    return f"no plan is left: {reason_words(name)} in {units.plural(number, 'plan')}, more than for any other reason"


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
    if plan["schedule"] in ("gpipe", "zero-bubble"):
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


def _table(title: str, estimates: Sequence[Estimate]) -> Table:
    """Plans with their answers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    of = "per 1B tokens" if any(one.run.of != "run" for one in estimates) else "run"
    for name in ("step", "90 % interval", "MFU", "memory", "fits", of, "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("plan", overflow="fold", min_width=20)
    for one in estimates:
        low, high = one.step_time_low_s, one.step_time_high_s
        table.add_row(
            Text(units.duration(one.step_time_s), style="cyan"),
            units.span(low, high) if low is not None and high is not None else "",
            units.percent(one.mfu),
            units.size(one.memory_bytes["total"]),
            units.chance(one.fits_probability),
            units.duration(one.run.time_s),
            units.money(one.run.cost_usd) if one.run.cost_usd is not None else "",
            plan_words(one),
        )
    return table


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
            values = listed(one)
            plan, interval = values.pop("plan"), values.pop("interval")
            plan = {"sharding_group": None, **plan, "placement": "-".join(plan["placement"])}
            values["warnings"] = "; ".join(values["warnings"])
            limits = {"step_time_low_s": interval["low_s"], "step_time_high_s": interval["high_s"]}
            listing.append({"list": kind, "rank": rank, **dict(sorted(plan.items())), **limits, **values})
    return listing


def _nearest(result: Search) -> tuple[Estimate, ...]:
    """The plan that comes nearest, where none fits."""
    return (result.nearest,) if result.nearest is not None else ()
