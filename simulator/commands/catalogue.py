"""What can be named: `capsim catalogue`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hardware.errors import InputError
from simulator.commands.shared.app import app
from simulator.commands.shared.options import Json, print_json

_DIFFERS = 1
"""The status where a count of ours differs from the library's."""


@app.command()
def catalogue(
    kind: Annotated[str | None, typer.Argument(help="devices, systems, models, stacks, prices, families, ...")] = None,
    name: Annotated[str | None, typer.Argument(help="One entry, with the source of each figure.")] = None,
    search: Annotated[str | None, typer.Option("--search", help="Words of a name or an alias; best first.")] = None,
    json: Json = False,
) -> None:
    """Devices, systems, models, stacks, prices, with sources.

    families compares the parameters of each Hugging Face family with those of the transformers library.
    """
    from simulator.terminal import catalogue as browse

    if search is not None and (kind is None or name is not None or kind.lower() == "families"):
        raise InputError("--search looks in one part: capsim catalogue models --search 'llama 8b'")
    if kind is not None and kind.lower() == "families":
        _families(name, json=json)
    elif json:
        print_json(browse.data(kind, name, search))
    else:
        browse.show(kind, name, search)


def _families(only: str | None, *, json: bool) -> None:
    """Compare every family, or one; status 1 where a count differs."""
    from simulator.terminal import families

    families.known(only)
    rows = list(families.counted(_oracle(), only))
    if json:
        print_json([row.to_dict() for row in rows])
    else:
        families.show(rows, only)
    if any(row.difference for row in rows):
        raise typer.Exit(_DIFFERS)


def _oracle() -> Any:
    """What counts with the transformers library; a floor above this one, so it is looked up when it runs."""
    from importlib import import_module

    try:
        return import_module("measure.verification.families")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("torch", "transformers"):
            raise
        missing = error.name
    raise InputError(
        f"families compares with transformers on torch, and {missing} is not installed; pip install transformers torch"
    )
