"""One step, replayed: `capsim timeline`."""

from __future__ import annotations

from typing import Annotated

import typer

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


@app.command()
@scenario_options()
def timeline(options: Given, output: Trace = None, all_tasks: Whole = False, json: Json = False) -> None:
    """One step on every pipeline stage: what runs when, what waits, what is held.

    A picture in the terminal, and a trace for https://ui.perfetto.dev:
    capsim timeline gpt3-175b --system dgx-a100-640gb --devices 1024 --tp 8 --pp 8 -o trace.json.gz
    """
    from pathlib import Path

    from hardware.writing import check_output
    from simulator.answers.estimate import answer
    from simulator.replay.summary import to_dict
    from simulator.replay.timeline import timeline as replayed
    from simulator.replay.trace import trace_of, write_trace
    from simulator.scenario.scenario import complete

    if output is not None:
        check_output(Path(output))
    file = options.file()
    with options.placed():
        scenario = complete(file)
        step = replayed(scenario)
    if output is not None:
        trace = trace_of(step, detail="tasks" if all_tasks else None)
        write_trace(trace, Path(output))
    if json:
        print_json(to_dict(step) | ({} if output is None else {"trace": output}))
        return
    from simulator.terminal.timeline import print_timeline

    print_timeline(answer(scenario), step, title=file.title)
    if output is not None:
        typer.echo(f"\nwrote {output}: {len(trace['traceEvents']):,} events; open it in https://ui.perfetto.dev")
