"""A measured profile in words: how far off each phase is on what it had not seen, and what it could not determine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hardware import units
from hardware.measured import HeldOutScore, MeasuredProfile
from simulator.pricing.measured import device_of
from simulator.profiling.constants import in_words
from simulator.profiling.fit.keeping import error_of, is_worse
from simulator.profiling.fit.steps import ComparedStep
from simulator.profiling.in_words import PHASES


def show(profile: MeasuredProfile, *, file: str | None = None, compared: Sequence[ComparedStep] = ()) -> None:
    """Print a profile to the terminal."""
    Console(highlight=False, markup=False, emoji=False).print(render(profile, file=file, compared=compared))


def render(
    profile: MeasuredProfile, *, file: str | None = None, compared: Sequence[ComparedStep] = ()
) -> RenderableType:
    """Lay a profile out: how good it is first, then what it says, then what it could not say."""
    device = device_of(profile)
    parts: list[RenderableType] = [Text(f"{profile.title}: {device.name}", style="bold"), Text(profile.source, "dim")]
    parts.append(Padding(_scores(profile.held_out), (1, 0, 0, 0)))
    parts += [Padding(Text(line), (1, 0, 0, 0)) for line in _warnings(profile)]
    parts.append(Padding(_constants(profile), (1, 0, 0, 0)))
    if profile.borrowed:
        parts.append(Padding(_borrowed(profile), (1, 0, 0, 0)))
    if compared:
        parts.append(Padding(_steps(compared), (1, 0, 0, 0)))
    if file is not None:
        parts.append(Text(f"\n{file}: written; use it with capsim estimate ... --profile {file}"))
    return Group(*parts, "")


def markdown(profiles: Sequence[MeasuredProfile]) -> str:
    """A table of how far off profiles are on what they had not seen, for a page of documentation.

    Of each phase the rows that tell most: large products, all attention, all collectives, steps.
    """
    lines = [
        "| profile | held out | scored | median | 9 of 10 below | of the sum | near shapes | catalogue |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for profile in profiles:
        for each in _telling(profile.held_out):
            figures = (_percent(each.median), _percent(each.p90), f"{100.0 * each.bias:+.1f} %")
            more = (_percent(each.with_residuals), _percent(each.before))
            words = f"{PHASES[each.phase]}: {each.what}"
            lines.append(f"| {' | '.join([profile.id, words, f'{each.scored:,}', *figures, *more])} |")
    return "\n".join(lines) + "\n"


def _telling(scores: Sequence[HeldOutScore]) -> list[HeldOutScore]:
    """One row of each phase, or of each number format where large products of it were held out."""
    large = [each for each in scores if each.phase == "gemm" and each.what.startswith("large ")]
    first_scores: dict[str, HeldOutScore] = {}
    for each in scores:
        if each.phase != "gemm" or not large:
            first_scores.setdefault(each.phase, each)
    return [*large, *first_scores.values()]


def _table(*columns: str, apart: int = 2) -> Table:
    """A table of figures, the first column words."""
    table = Table(box=None, pad_edge=False, padding=(0, apart, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=number > 0, vertical="bottom")
    return table


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100.0 * share:.1f} %"


def _scores(scores: Sequence[HeldOutScore]) -> RenderableType:
    """Errors on rows that the fit had not seen."""
    if not scores:
        return Text("Too little was measured to hold any of it out, so that no error is known.")
    wide = ("9 of 10\nbelow", "of the\nsum", "near\nshapes", "catalogue")
    table = _table("Held out", "fitted", "scored", "median", *wide, apart=1)
    for phase in dict.fromkeys(each.phase for each in scores):
        table.add_row(PHASES[phase])
        for words, each in _nested([each for each in scores if each.phase == phase]):
            table.add_row(
                f" {words}",
                f"{each.fitted:,}",
                f"{each.scored:,}",
                _percent(each.median),
                _percent(each.p90),
                f"{100.0 * each.bias:+.1f} %",
                _percent(each.with_residuals),
                f"{_percent(each.before)}{' kept' if each.constants == 'catalogue' else ''}",
            )
    return table


def _warnings(profile: MeasuredProfile) -> list[str]:
    """Where the fit was worse than the catalogue, and what became of it."""
    lines = []
    if profile.kept:
        names = ", ".join(in_words(name) for name in profile.kept)
        reasons = "; ".join(dict.fromkeys(profile.kept.values()))
        lines.append(
            f"The catalogue's constants are kept of {names}, since a fit is worse on what was held out: {reasons}."
        )
    worse = [each for each in profile.held_out if each.constants == "fitted" and is_worse(each)]
    if worse:
        told = ", ".join(f"{each.what} ({_percent(error_of(each))}, {_percent(each.before)})" for each in worse)
        lines.append(f"Worse than by the catalogue, whose constants they share with others: {told}.")
    return lines


def _nested(scores: Sequence[HeldOutScore]) -> Iterator[tuple[str, HeldOutScore]]:
    """The scores of a phase, parts of another ("all-reduce over 8 ranks") below it and without its name."""
    order = {each.what: number for number, each in enumerate(scores)}
    wholes = {each.what: each.what.partition(" over ")[0] for each in scores}
    for each in sorted(scores, key=lambda one: order.get(wholes[one.what], order[one.what])):
        whole = wholes[each.what]
        is_part = whole != each.what and whole in order
        yield (f"  {each.what.removeprefix(whole).strip()}" if is_part else each.what), each


def _constants(profile: MeasuredProfile) -> RenderableType:
    """What was fitted."""
    table = _table("Constants", "of peak", "of bandwidth", "launch", "under load")
    for precision in profile.fitted:
        gemm = profile.constants.gemm[precision]
        table.add_row(
            f"matrix products, {precision}",
            _percent(gemm.efficiency),
            _percent(gemm.bandwidth_efficiency),
            units.duration(gemm.launch),
            _percent(gemm.sustained),
        )
    for precision in profile.attentions:
        fused = profile.constants.attention[precision]
        both = f"{100 * fused.efficiency:.1f} / {100 * fused.backward_efficiency:.1f} %"
        table.add_row(f"fused attention, {precision}", both, _percent(fused.bandwidth_efficiency), "", "")
    memory = profile.constants.memory
    table.add_row("element-wise kernels", "", _percent(memory.efficiency), units.duration(memory.launch), "")
    table.add_row("normalisation, softmax", "", _percent(memory.normalisation_efficiency), "", "")
    for kind, by_ranks in profile.links.items():
        most = max(by_ranks)
        name = f"{kind.replace('_', '-')} over {units.plural(most, 'rank')}"
        rate = f"{by_ranks[most].rate / 1e9:.1f} GB/s"
        table.add_row(name, "", rate, units.duration(by_ranks[most].latency), "")
    return table


def _borrowed(profile: MeasuredProfile) -> RenderableType:
    """What the measurements could not determine; where that is a whole, its parts are not named."""
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(ratio=1)
    for name, why in profile.borrowed.items():
        if not any(name.startswith(f"{whole}.") for whole in profile.borrowed):
            table.add_row(in_words(name), why)
    return Group(Text("Not measured", style="bold"), Padding(table, (0, 0, 0, 2)))


def _steps(compared: Sequence[ComparedStep]) -> RenderableType:
    """Steps of another record beside what the profile and the catalogue say."""
    table = _table("Step", "measured", "predicted", "off", "catalogue\noff")
    for each in compared:
        sizes = each.step.case.dimensions
        words = (
            f"{each.step.case.variant}, {units.plural(sizes['layers'], 'layer')}, "
            f"{sizes['micro_batch']} x {sizes['sequence_length']}"
        )
        table.add_row(
            words,
            units.duration(each.step.seconds),
            units.duration(each.predicted_s),
            f"{100.0 * each.error:+.1f} %",
            f"{100.0 * (each.before_s / each.step.seconds - 1.0):+.1f} %",
        )
    return table
