"""Files of one's own: `capsim schema`."""

from __future__ import annotations

from typing import Annotated

import typer

from simulator.commands.app import app
from simulator.commands.options import print_json

_KINDS = "device, system, model, stack, workload, plan, scenario, runs, prices, class or profile"


@app.command()
def schema(
    kind: Annotated[str, typer.Argument(help=f"{_KINDS}.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON Schema.")] = False,
) -> None:
    """The fields of a file: types, units, defaults and meaning.

    capsim schema system
    """
    from simulator.terminal import files

    found = files.kind_of(kind)
    if json:
        print_json(files.json_schema(found))
    else:
        from simulator.terminal.schema import show

        show(found)
