"""The main job: `capsim estimate`."""

from __future__ import annotations

from typing import Annotated

import typer

from simulator.commands.shared.app import app
from simulator.commands.shared.options import Given, Json, print_json, scenario_options

Explain = Annotated[bool, typer.Option("--explain", help="Say how much of the step rests on measurements.")]
Sources = Annotated[bool, typer.Option("--sources", help="List the source of every figure.")]


@app.command()
@scenario_options()
def estimate(given: Given, json: Json = False, explain: Explain = False, sources: Sources = False) -> None:
    """Time, memory, utilisation and money of one training run.

    What is left open is chosen, and the answer says so:
    capsim estimate bert-large --system dgx-a100-640gb
    """
    from simulator.answers.estimate import answer
    from simulator.scenario.scenario import complete

    file = given.file()
    with given.placed():
        result = answer(complete(file))
    if json:
        print_json(result.to_dict())
    else:
        from simulator.terminal.estimate import print_estimate

        print_estimate(result, title=file.title, sources=sources, explain=explain)
