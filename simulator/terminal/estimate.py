"""An estimate as tables for a terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hardware import units
from simulator.answers.basis import WORDS
from simulator.answers.costs import price_words
from simulator.answers.estimate import Estimate, TrainingRun
from simulator.answers.long_run import matters
from simulator.specs.recomputation import in_words as recomputed
from simulator.step.chances import LEVEL as MEMORY_LEVEL
from simulator.terminal.shared.layout import bars, grid, sentences

_DEGREES = ("dp", "tp", "pp", "virtual_stages", "cp", "ep")


def print_estimate(answer: Estimate, *, title: str | None = None, sources: bool = False, explain: bool = False) -> None:
    """Print an estimate to the terminal."""
    rendered = render(answer, title=title, sources=sources, explain=explain)
    Console(highlight=False, markup=False, emoji=False).print(rendered)


def render(
    answer: Estimate, *, title: str | None = None, sources: bool = False, explain: bool = False
) -> RenderableType:
    """Lay an estimate out: answer first, then where the time and the memory go, then the basis of the estimate."""
    head = Text(title or f"{answer.model} on {answer.system}, {_devices(answer)}", style="bold")
    if not answer.fits:
        head.append(": does not fit", style="bold red")
    parts: list[RenderableType] = [
        head,
        Text(plan_in_words(answer), style="dim"),
        Padding(_answer(answer), (1, 0, 0, 0)),
    ]
    parts += [Padding(_step(answer), (1, 0, 0, 0)), Padding(_memory(answer), (1, 0, 0, 0))]
    if explain:
        parts.append(Padding(_served(answer), (1, 0, 0, 0)))
    for name, lines in (("Warning", answer.warnings), ("Assumed", answer.assumed)):
        parts += [Padding(sentences(name, lines), (1, 0, 0, 0))] if lines else []
    if sources:
        parts.append(Padding(sentences("Source", answer.sources), (1, 0, 0, 0)))
    return Group(*parts, "")


def _devices(answer: Estimate) -> str:
    """How many devices, in words."""
    return units.plural(answer.devices, "device")


def plan_in_words(answer: Estimate) -> str:
    """Plan, stack and batch of an estimate in one line."""
    plan, work = answer.plan, answer.workload
    degrees = " ".join(f"{name}={plan[name]}" for name in _DEGREES if plan[name] > 1) or "dp=1"
    scores = "unfused attention, " if plan["attention"] == "unfused" else ""
    sharding = plan["sharding"] + (f" over {plan['sharding_group']}" if "sharding_group" in plan else "")
    target = f" + {work['target_length']}" if "target_length" in work else ""
    return (
        f"{degrees}, micro-batch {plan['micro_batch']}, sharding {sharding}, recompute {recomputed(plan)}, "
        f"{scores}{plan['precision']}, {plan['optimizer']}, stack {answer.stack}; "
        f"batch {work['global_batch']:,} x {work['sequence_length']:,}{target} tokens"
    )


def _answer(answer: Estimate) -> Table:
    """The answer itself."""
    table, run, memory = grid(), answer.run, answer.memory_bytes
    fits = f"{fits_words(answer)}; {100 * MEMORY_LEVEL:g} %: {_likely_memory(answer)}"
    interval = "interval not known yet"
    if answer.step_time_low_s is not None and answer.step_time_high_s is not None:
        level = f"{100 * (answer.interval_level or 0):.0f} %"
        interval = f"{level}: {units.span(answer.step_time_low_s, answer.step_time_high_s)}"
    rows = [
        ("Model", f"{units.count(answer.parameters)} parameters{_of_them(answer)}", f"{answer.parameters:,.0f}"),
        ("Step time", units.duration(answer.step_time_s), interval),
        (
            "Throughput",
            f"{units.count(answer.tokens_per_s)} tokens/s",
            f"{units.digits(answer.samples_per_s)} sequences/s",
        ),
        (
            "Utilisation",
            f"{units.percent(answer.mfu)} MFU ({answer.mfu_convention})",
            f"{units.percent(answer.hfu)} HFU, {units.digits(answer.model_tflops_per_device)} TFLOP/s per device",
        ),
        ("Limited by", answer.limited_by, ", ".join(_shares(answer))),
        ("Memory", f"{units.size(memory['total'])} of {units.size(memory['capacity'])}", fits),
        _length(run),
        *_expected(run),
    ]
    if answer.evidence is not None:
        runs, sources = answer.evidence["runs"], answer.evidence["sources"]
        basis = f"{units.plural(runs, 'run')}, {units.plural(sources, 'source')}"
        rows.insert(2, ("Evidence", basis, f"nearest: {answer.evidence['nearest'][0]}"))
    if run.cost_usd is not None:
        rate = run.cost_usd / run.device_hours
        hours = f"{units.count(run.device_hours)} device-hours at ${rate:.2f} per device-hour, {price_words(run.price)}"
        rows.append(("Cost", of_run(run, units.money(run.cost_usd)), hours))
        if run.expected_cost_usd is not None and matters(run.time_s, run.expected_time_s):
            rows.append(("  expected", units.money(run.expected_cost_usd), "including failures and checkpoints"))
    rows.append(("Energy", of_run(run, units.energy(run.energy_kwh)), f"{units.mass(run.co2_kg)} CO2e, at rated power"))
    for name, value, detail in rows:
        table.add_row(Text(name, style="bold"), Text(value, style="cyan"), Text(detail, style="dim"))
    return table


def _length(run: TrainingRun) -> tuple[str, str, str]:
    """How long the run is, or a billion tokens of it."""
    if run.of == "run":
        return "Run", units.duration(run.time_s), f"{units.plural(run.steps, 'step')}, {units.count(run.tokens)} tokens"
    return "Run", of_run(run, units.duration(run.time_s)), "its length is not known: give --tokens or --steps"


def of_run(run: TrainingRun, words: str) -> str:
    """An amount of a run in words, or that it is of a billion tokens."""
    return words if run.of == "run" else f"{words} per 1B tokens"


def fits_words(answer: Estimate) -> str:
    """Whether it fits and how surely, in words."""
    free, chance = answer.memory_bytes["capacity"] - answer.memory_bytes["total"], units.chance(answer.fits_probability)
    if answer.fits:
        return f"fits with a chance of {chance}, {units.size(free)} free"
    if free >= 0.0:
        return "DOES NOT FIT into the host's memory"
    return f"DOES NOT FIT, {units.size(-free)} too much (chance {chance})"


def fits_briefly(answer: Estimate) -> str:
    """Whether it fits and how surely, where there is room for a few words."""
    return f"{'fits' if answer.fits else 'does not fit'}: {units.chance(answer.fits_probability)}"


def memory_words(answer: Estimate) -> str:
    """Whether it fits and how surely, with the memory and its interval."""
    memory = f"{units.size(answer.memory_bytes['total'])} of {units.size(answer.memory_bytes['capacity'])}"
    return f"{fits_words(answer)}: memory {memory}, {100 * MEMORY_LEVEL:g} % interval {_likely_memory(answer)}"


def _likely_memory(answer: Estimate) -> str:
    """Between which limits memory lies."""
    return units.sizes(answer.memory_low_bytes, answer.memory_high_bytes)


def _expected(run: TrainingRun) -> list[tuple[str, str, str]]:
    """What becomes of the run with failures and checkpoints, where that makes a difference."""
    if not matters(run.time_s, run.expected_time_s):
        return []
    once = run.of == "run" and run.checkpoint_interval_s >= run.time_s
    every = "at its end" if once else _every(run.checkpoint_interval_s)
    written = f"{units.size(run.checkpoint_bytes)} saved {every} in {units.duration(run.checkpoint_write_s)}"
    if run.expected_time_s is None:
        return [("  expected", "never ends", written)]
    events = [f"{units.digits(run.failures or 0.0)} failures"]
    events += [f"{units.digits(run.preemptions)} preemptions"] if run.preemptions else []
    events += [f"{units.duration(run.absent_time_s)} without capacity"] if run.absent_time_s else []
    lost = f"{units.percent(run.goodput)} goodput, {', '.join(events)}, {written}"
    return [("  expected", units.duration(run.expected_time_s), lost)]


def _every(seconds: float) -> str:
    """How often something is done."""
    return f"every {units.duration(seconds)}"


def _of_them(answer: Estimate) -> str:
    """How many of the parameters a token meets, and how many are trained, where not all."""
    active = f", {units.count(answer.active_parameters)} of them active" if _sparse(answer) else ""
    frozen = answer.trained_parameters < answer.parameters
    trained = f", {units.count(answer.trained_parameters)} of them trained" if frozen else ""
    further = f"; {units.count(answer.further_parameters)} predict further tokens" if answer.further_parameters else ""
    return active + trained + further


def _sparse(answer: Estimate) -> bool:
    """Whether a token meets fewer parameters than there are."""
    return answer.active_parameters < answer.parameters


def _shares(answer: Estimate) -> list[str]:
    """What kinds of work share the step."""
    return [f"{name} {units.percent(share)}" for name, share in answer.limits.items() if share >= 0.005]


def _words(name: str) -> str:
    """The name of a part as words."""
    return name.replace("_", " ")


def _step(answer: Estimate) -> Table:
    """Where the time of a step goes."""
    return bars("Where a step goes", answer.breakdown_s, answer.step_time_s, units.duration)


def _served(answer: Estimate) -> RenderableType:
    """The basis of the step time: seconds of each tier of a measured profile, or one sentence without one."""
    if answer.basis is None:
        return Text("Basis: data sheets and constants fitted to published runs; see --profile.")
    seconds = {WORDS[name]: share * answer.step_time_s for name, share in answer.basis.items()}
    return bars("Basis of the step time", seconds, answer.step_time_s, units.duration)


def _memory(answer: Estimate) -> Table:
    """Where the memory of the peak-memory stage goes."""
    parts = {name: value for name, value in answer.memory_bytes.items() if name not in ("total", "capacity")}
    return bars("Memory of the peak-memory stage", parts, answer.memory_bytes["total"], units.size)
