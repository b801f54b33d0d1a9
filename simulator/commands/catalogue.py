"""What can be named: `capsim catalogue`."""

from __future__ import annotations

from typing import Annotated

import typer

from simulator.commands.shared.app import app
from simulator.commands.shared.options import Json, print_json


@app.command()
def catalogue(
    kind: Annotated[str | None, typer.Argument(help="devices, systems, models, stacks, prices, ...")] = None,
    name: Annotated[str | None, typer.Argument(help="One entry, with the source of each figure.")] = None,
    json: Json = False,
) -> None:
    """Devices, systems, models, stacks, prices, with sources."""
    from simulator.terminal import catalogue as browse

    if json:
        print_json(browse.data(kind, name))
    else:
        browse.show(kind, name)
