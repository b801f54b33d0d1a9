"""The main job: `capsim estimate`."""

from __future__ import annotations

from typing import Annotated

import typer

from simulator.commands.shared.app import app
from simulator.commands.shared.options import Given, Json, print_json, scenario_options

Explain = Annotated[bool, typer.Option("--explain", help="Show the basis of the estimate: what was measured.")]
Sources = Annotated[bool, typer.Option("--sources", help="List the source of every figure.")]


DOES_NOT_FIT = 3
"""Exit status of ``--check`` where the plan does not fit."""
Check = Annotated[bool, typer.Option("--check", help="Exit with status 3 if the plan does not fit.")]
Mfu = Annotated[
    str,
    typer.Option("--mfu", metavar="CONVENTION", help="What counts for MFU: exact, palm, torchtitan or causal."),
]


@app.command()
@scenario_options()
def estimate(
    options: Given,
    json: Json = False,
    explain: Explain = False,
    sources: Sources = False,
    mfu: Mfu = "exact",
    check: Check = False,
) -> None:
    """Time, memory, utilisation and cost of one training run.

    What is left open is chosen, and the answer says so:
    capsim estimate bert-large --system dgx-a100-640gb
    """
    from simulator.answers.estimate import answer, convention
    from simulator.scenario.scenario import complete

    file = options.file()
    with options.placed():
        result = answer(complete(file), mfu=convention(mfu))
    launched = options.launched
    if json:
        print_json(result.to_dict() | ({} if launched is None else {"launch_file": launched.to_dict()}))
    else:
        from simulator.terminal.estimate import print_estimate

        print_estimate(result, title=file.title, sources=sources, explain=explain)
        if launched is not None:
            from simulator.terminal.launching import print_read

            print_read(launched)
    if check and not result.fits:
        raise typer.Exit(DOES_NOT_FIT)
