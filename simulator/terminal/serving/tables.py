"""What serving a model takes, as tables for a terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hardware import units
from simulator.answers.serving.estimate import ServingEstimate
from simulator.terminal.shared.layout import bars, grid, sentences

_LOADS = ("batch", "concurrency", "rate")


def print_serving(answer: ServingEstimate, *, sources: bool = False) -> None:
    """Print what serving a model takes.

    Parameters
    ----------
    answer
        What `simulator.serve` says.
    sources
        Whether the source of every figure is listed.
    """
    Console(highlight=False, markup=False, emoji=False).print(render(answer, sources=sources))


def render(answer: ServingEstimate, *, sources: bool = False) -> RenderableType:
    """Lay the answer out: first what requests meet, then where time and memory go, then the basis.

    Parameters
    ----------
    answer, sources
        As of `print_serving`.
    """
    head = Text(f"{answer.model} on {answer.system}, {units.plural(answer.devices, 'device')}", style="bold")
    if not answer.fits:
        head.append(": does not fit", style="bold red")
    parts: list[RenderableType] = [head, Text(_in_words(answer), style="dim"), Padding(_met(answer), (1, 0, 0, 0))]
    if answer.percentiles:
        parts.append(Padding(_percentiles(answer), (1, 0, 0, 0)))
        parts.append(Text(_simulated(answer), style="dim"))
    for phase, values in answer.breakdown_s.items():
        if values:
            name = {"prefill": "Where an iteration that reads prompts goes", "decode": "Where one token goes"}[phase]
            name = name if answer.breakdown_s["decode"] else "Where a batch goes"
            parts.append(Padding(bars(name, values, sum(values.values()), units.duration), (1, 0, 0, 0)))
    memory = {name: value for name, value in answer.memory_bytes.items() if name not in ("total", "capacity")}
    whole = answer.memory_bytes["total"]
    parts.append(Padding(bars("Memory of the fullest device", memory, whole, units.size), (1, 0, 0, 0)))
    told = [("Warning", answer.warnings), ("Assumed", answer.assumed)]
    told += [("Source", answer.sources)] if sources else []
    parts += [Padding(sentences(name, lines), (1, 0, 0, 0)) for name, lines in told if lines]
    return Group(*parts)


def _in_words(answer: ServingEstimate) -> str:
    """Split, formats and load in one line."""
    plan, load = answer.plan, answer.load
    degrees = ", ".join(f"{name}={plan[name]}" for name in ("tp", "pp", "ep", "replicas") if plan.get(name, 1) > 1)
    kind = next((f"{name} {load[name]:g}" for name in _LOADS if name in load), "as many as fit")
    lengths = f"{load['input_tokens']:,.0f} tokens in"
    if "output_tokens" in load:
        lengths += f", {load['output_tokens']:,.0f} out"
    formats = f"{plan['weights']} weights, products in {plan['precision']}"
    if "output_tokens" in load:
        formats += f", {plan['kv_cache']} cache"
    return f"{degrees or 'one device'}, {formats}, stack {answer.stack}; {kind}, {lengths}"


def _met(answer: ServingEstimate) -> Table:
    """The answer itself."""
    table = grid()
    for name, value, detail in _rows(answer):
        table.add_row(Text(name, style="bold"), Text(value, style="cyan"), Text(detail, style="dim"))
    return table


_LATENCIES = {
    "ttft_s": "First token",
    "tpot_s": "Each further token",
    "itl_s": "Between two tokens",
    "latency_s": "Latency",
}


def _percentiles(answer: ServingEstimate) -> Table:
    """Latencies of requests that were simulated one by one."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, title in enumerate(("Simulated requests", "mean", "50 %", "90 %", "99 %")):
        table.add_column(title, justify="right" if index else "left")
    for name, label in _LATENCIES.items():
        if name in answer.percentiles:
            figures = answer.percentiles[name]
            table.add_row(label, *(units.duration(figures[share]) for share in ("mean", "p50", "p90", "p99")))
    return table


def _simulated(answer: ServingEstimate) -> str:
    """What else came of simulated requests."""
    found = answer.percentiles["simulated"]
    told = f"{found['requests']:,.0f} requests, {units.digits(found['requests_per_s'])} a second, "
    told += f"{units.count(found['output_tokens_per_s'])} output tokens/s, {found['mean_batch']:.1f} in a batch"
    if {"ttft_s", "tpot_s"} & set(answer.load):
        told += (
            f"; {units.percent(found['kept'])} keep the service levels, {units.digits(found['goodput_per_s'])} a second"
        )
    return told


def _rows(answer: ServingEstimate) -> list[tuple[str, str, str]]:
    """Name, value and detail of each line of the answer."""
    figures, memory, cost = answer.figures, answer.memory_bytes, answer.bill.cost
    times = [("First token", "ttft_s"), ("Each further token", "tpot_s"), ("Latency", "latency_s")]
    rows = [
        (label, units.duration(figures[name]), units.span(figures[f"{name}_low"], figures[f"{name}_high"]))
        for label, name in times
        if name in figures
    ]
    if "requests_per_s" in figures:
        whole = f"{units.count(figures['total_tokens_per_s'])} with prompts, "
        whole += f"{units.digits(figures['requests_per_s'])} requests/s"
        rows.append(("Throughput", f"{units.count(figures['output_tokens_per_s'])} tokens/s", whole))
    else:
        each = f"{units.count(figures['tokens_per_s'])} tokens/s"
        rows.append(("Throughput", f"{units.digits(figures['sequences_per_s'])} sequences/s", each))
    rows.append(("Limited by", answer.limited_by, ""))
    used = f"{units.size(memory['total'])} of {units.size(memory['capacity'])}"
    rows.append(("Memory", used, f"a replica holds {units.plural(answer.largest_batch, 'sequence')} at a time"))
    if cost["per_hour_usd"] is not None:
        millions = [
            f"${cost[name]:.3g} a million tokens {words}"
            for name, words in (("per_million_input_tokens_usd", "in"), ("per_million_output_tokens_usd", "out"))
            if cost[name] is not None
        ]
        rows.append(("Cost", f"${cost['per_hour_usd']:,.2f} an hour", ", ".join(millions)))
    energy = answer.bill.energy
    rows.append(
        (
            "Energy",
            f"{units.digits(energy['power_w'])} W",
            f"{units.energy(energy['kwh_per_million_tokens'])} a million",
        )
    )
    return rows
