"""One step, replayed: `capsim timeline`."""

from __future__ import annotations

from typing import Annotated

import typer

from hardware.errors import InputError
from hardware.units import plural
from simulator.commands.shared.app import app
from simulator.commands.shared.options import Given, Json, print_json, scenario_options

Trace = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", metavar="FILE", help="Write a trace for Perfetto: trace.json, or compressed trace.json.gz."
    ),
]
Whole = Annotated[
    bool, typer.Option("--all-tasks", help="Write every task of every micro-batch, however large the trace becomes.")
]
Measured = Annotated[
    str | None,
    typer.Option(
        "--measured",
        metavar="FILE",
        help="Lay a trace of torch's profiler beside the step: time by kind, largest differences first.",
    ),
]
MeasuredStage = Annotated[
    int | None,
    typer.Option("--measured-stage", metavar="N", help="Pipeline stage that this trace is of, from 1 (the busiest)."),
]


@app.command()
@scenario_options()
def timeline(
    options: Given,
    output: Trace = None,
    all_tasks: Whole = False,
    measured: Measured = None,
    measured_stage: MeasuredStage = None,
    json: Json = False,
) -> None:
    """One step on every pipeline stage: what runs when, what waits, what is held.

    A picture in the terminal, and a trace for https://ui.perfetto.dev:
    capsim timeline gpt3-175b --system dgx-a100-640gb --devices 1024 --tp 8 --pp 8 -o trace.json.gz

    Or beside a step that was measured, as capsim measure --trace records one:
    capsim timeline bert-base --profile mine.yaml --seq-len 128 --measured step.json.gz
    """
    from pathlib import Path

    from hardware.writing import check_output
    from simulator.answers.estimate import answer
    from simulator.replay.measured.comparison import compare_step
    from simulator.replay.measured.steps import measured_step
    from simulator.replay.summary import to_dict
    from simulator.replay.timeline import timeline as replayed
    from simulator.replay.trace import trace_of, write_trace
    from simulator.scenario.scenario import complete

    if output is not None:
        check_output(Path(output))
    if measured is None and measured_stage is not None:
        raise InputError(f"--measured-stage={measured_stage}: says what a trace is of; give the trace with --measured")
    file = options.file()
    real = None if measured is None else measured_step(measured)
    with options.placed():
        scenario = complete(file)
        step = replayed(scenario)
    comparison = None if real is None else compare_step(step, real, stage=_stage(measured_stage, len(step.stages)))
    if output is not None:
        trace = trace_of(step, detail="tasks" if all_tasks else None)
        write_trace(trace, Path(output))
    if json:
        beside = {} if comparison is None else {"measured": comparison.to_dict()}
        print_json(to_dict(step) | beside | ({} if output is None else {"trace": output}))
        return
    if comparison is None:
        from simulator.terminal.timeline import print_timeline

        print_timeline(answer(scenario), step, title=file.title)
    else:
        from simulator.terminal.measured import print_comparison

        print_comparison(comparison, title=file.title)
    if output is not None:
        typer.echo(f"\nwrote {output}: {len(trace['traceEvents']):,} events; open it in https://ui.perfetto.dev")


def _stage(number: int | None, stages: int) -> int | None:
    """The index of a stage, from 0."""
    if number is not None and not 1 <= number <= stages:
        valid = f"1 to {stages}" if stages > 1 else "1"
        raise InputError(f"--measured-stage={number}: the plan has {plural(stages, 'stage')}; valid: {valid}")
    return None if number is None else number - 1
