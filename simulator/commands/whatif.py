"""What if something were different: `capsim whatif`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hardware.errors import InputError
from simulator.commands.shared.app import app
from simulator.commands.shared.options import Given, Json, number, print_json, read_real, scenario_options

if TYPE_CHECKING:
    from simulator.specs.loading import ScenarioFile
    from simulator.variations.sensitivity import Sensitivity
    from simulator.variations.whatif import WhatIf

_Vary = Annotated[
    list[str] | None,
    typer.Option(
        "--vary",
        metavar="PATH=VALUE,...",
        help="A place and its values: multiples (0.5x), differences (-20%), quantities (3 TB/s) or names. "
        "Several make every combination.",
    ),
]
_Tornado = Annotated[
    bool, typer.Option("--tornado", help="Move each lever by itself and sort them by how much they matter.")
]
_Factor = Annotated[
    str | None, number("--factor", "By how much a tornado moves its levers, both ways; 2 unless given.", read_real)
]
_Replan = Annotated[
    bool, typer.Option("--replan/--keep-plan", help="Choose what was left open of the plan anew, or keep it.")
]
_Csv = Annotated[str | None, typer.Option("--csv", metavar="FILE", help="Write a table for spreadsheets as well.")]


@app.command()
@scenario_options()
def whatif(
    options: Given,
    vary: _Vary = None,
    tornado: _Tornado = False,
    factor: _Factor = None,
    replan: _Replan = False,
    csv: _Csv = None,
    json: Json = False,
) -> None:
    """The same run with something changed: links, batch, price.

    Memory, plan and software can be changed as well.

    Half and twice the bandwidth between nodes:
    capsim whatif bert-large --system dgx-a100-640gb --devices 32 --vary system.inter_node.bandwidth=0.5x,2x

    What matters most:
    capsim whatif bert-large --system dgx-a100-640gb --devices 32 --tornado
    """
    from pathlib import Path

    from hardware import writing as output

    if not vary and not tornado:
        raise InputError("nothing is varied; give --vary, such as system.inter_node.bandwidth=0.5x,2x, or --tornado")
    if factor is not None and (vary or not tornado):
        raise InputError("--factor moves the levers of --tornado; with --vary values are given one by one")
    if csv is not None:
        output.check_output(Path(csv))
    file = options.file()
    with options.placed():
        compared = _compared(file, vary or [], factor, tornado=tornado, replan=replan)
    if csv is not None:
        from simulator.terminal.whatif_rows import rows_of

        output.write_table(Path(csv), list(rows_of(compared)))
    if json:
        print_json(compared.to_dict())
    else:
        from simulator.terminal.whatif import show

        show(compared, title=file.title)


def _compared(
    file: ScenarioFile, vary: list[str], factor: str | float | None, *, tornado: bool, replan: bool
) -> WhatIf | Sensitivity:
    """The variations, or the levers of a tornado."""
    from simulator.variations import sensitivity, whatif
    from simulator.variations.changes import baseline

    base = baseline(**{name: value for name, value in file if value is not None and name != "title"})
    if not tornado:
        return whatif.of_baseline(base, vary, replan=replan)
    by = sensitivity.FACTOR if factor is None else float(factor)
    return sensitivity.of_baseline(base, vary, factor=by, replan=replan)
