"""Claims and rankings as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hardware import units
from simulator.answers.claims import ComparedClaim, Ranking, load, rank
from simulator.answers.costs import mixed
from simulator.answers.estimate import Estimate

_SHOWN = {
    "parameters": lambda value: f"{value / 1e9:.2f}B",
    "model_flops_per_token": lambda value: f"{value / 1e12:.4f} TFLOP",
    "mfu": units.percent,
    "hfu": units.percent,
    "tokens_per_s": lambda value: f"{value / 1e3:.1f}k/s",
    "step_time_s": units.duration,
    "run_minutes": lambda value: units.duration(60.0 * value),
    "memory_share": units.percent,
    "kept_bytes_per_layer": units.size,
    "tpot_s": units.duration,
    "ttft_s": units.duration,
    "prefill_mfu": units.percent,
    "decode_mfu": units.percent,
    "largest_context": lambda value: f"{value:,.0f} tokens",
}
_RELATION = {"equal": "", "at least": ">= ", "at most": "<= "}


def _table(*columns: str, first_width: int | None = None) -> Table:
    """A table without lines."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        first = column == columns[0]
        table.add_column(
            column, justify="left" if first or not column else "right", min_width=first_width if first else None
        )
    return table


def _ratio(value: float) -> str:
    """Write a ratio of two scenarios."""
    return f"{value:.3f}x"


def claims_table(rows: list[ComparedClaim]) -> Table:
    """Claimed beside predicted."""
    table = _table("claim", "claimed", "predicted", "error", "", first_width=32)
    for row in rows:
        show = _ratio if row.is_ratio else _SHOWN[row.quantity]
        mark = "ok" if row.reproduced else f"outside {units.percent(row.tolerance)}"
        table.add_row(
            row.claim,
            f"{_RELATION[row.relation]}{show(row.claimed)}",
            show(row.predicted),
            f"{100 * row.error:+.1f} %",
            Text(mark, style="green" if row.reproduced else "yellow"),
        )
    return table


def ranking_table(ranking: Ranking, answers: list[Estimate]) -> Table:
    """Systems by time, with what they cost and whether the model fits."""
    table = _table("system", "step", "run", "cost", "energy", "memory", "")
    table.title, table.title_justify, table.title_style = ranking.title, "left", "bold"
    cheapest = min(
        (estimate.run.cost_usd for estimate in answers if estimate.run.cost_usd and estimate.fits), default=None
    )
    for estimate in answers:
        share = estimate.memory_bytes["total"] / estimate.memory_bytes["capacity"]
        cost = estimate.run.cost_usd
        table.add_row(
            estimate.system,
            units.duration(estimate.step_time_s),
            units.duration(estimate.run.time_s),
            units.money(cost) if cost is not None else "no price",
            units.energy(estimate.run.energy_kwh),
            units.percent(share),
            "does not fit" if not estimate.fits else "cheapest" if cost == cheapest else "",
        )
    return table


def show(rows: list[ComparedClaim]) -> None:
    """Print claims and rankings as tables."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(claims_table(rows))
    reproduced = sum(row.reproduced for row in rows)
    console.print(
        f"{reproduced} of {len(rows)} within the stated tolerance; constants were fitted without their sources.\n"
    )
    for ranking in load().rankings:
        answers = rank(ranking)
        words = mixed(answers)
        console.print(ranking_table(ranking, answers), *([f"Note: {words}"] if words else []), "")
