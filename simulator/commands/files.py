"""Files of one's own: `capsim schema` and `capsim new`."""

from __future__ import annotations

from typing import Annotated

import typer

from simulator.commands.shared.app import app
from simulator.commands.shared.options import print_json

_KINDS = "device, system, model, stack, workload, plan, scenario, runs, prices, class or profile"
_BEGUN = "device, system, model, stack, scenario, runs or prices"


@app.command()
def schema(
    kind: Annotated[str, typer.Argument(help=f"{_KINDS}.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON Schema.")] = False,
) -> None:
    """The fields of a file: types, units, defaults and meaning.

    capsim schema system
    """
    from simulator.terminal.files import kinds

    file_kind = kinds.kind_of(kind)
    if json:
        print_json(kinds.json_schema(file_kind))
    else:
        from simulator.terminal.files.tables import show

        show(file_kind)


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help=f"{_BEGUN}.")],
    name: Annotated[str, typer.Argument(help="The word that names what the file describes.")],
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write it; NAME.yaml unless given.")
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="ENTRY", help="Whose values it has; a usual entry unless given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """A commented file to begin with: every field, with real values.

    capsim new system my-cluster --like dgx-h100
    """
    from pathlib import Path

    from hardware.errors import InputError
    from hardware.writing import check_output, write_text
    from simulator.terminal.files.kinds import kind_of
    from simulator.terminal.files.templates import template

    file_kind = kind_of(kind)
    file = output or f"{name}.yaml"
    begun = template(file_kind, name, like=like, file=file)
    check_output(Path(file))
    if Path(file).exists() and not force:
        raise InputError(f"{file}: exists already; name another file by -o, or replace it by --force")
    write_text(Path(file), begun.text)
    typer.echo(f"{file}: written; use it with {begun.use}")
