"""The same run on more and more devices: `capsim scale`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from simulator.commands.shared.app import app
from simulator.commands.shared.options import Given, Json, number, print_json, scenario_options
from simulator.commands.shared.progress import INTERRUPTED, progress_line

Weak = Annotated[bool, typer.Option("--weak", help="Let the batch grow with the devices instead of keeping it.")]
Counts = Annotated[
    str | None, typer.Option("--counts", metavar="N,N,...", help="Numbers of devices; powers of two if none.")
]
Most = Annotated[str, number("--max-devices", "Devices at most.")]
Where = Annotated[str | None, typer.Option("--where", metavar="CONDITIONS", help='On plans, such as "tp<=8".')]
EveryPlan = Annotated[
    bool, typer.Option("--every-plan", help="Try every plan for each number, not first those that most runs use.")
]
Csv = Annotated[str | None, typer.Option("--csv", metavar="FILE", help="Write a table for spreadsheets as well.")]


@app.command()
@scenario_options()
def scale(
    options: Given,
    weak: Weak = False,
    counts: Counts = None,
    max_devices: Most = "4096",
    where: Where = None,
    every_plan: EveryPlan = False,
    csv: Csv = None,
    json: Json = False,
) -> None:
    """One run on more and more devices: speed and efficiency.

    Says from how many devices on each one brings less than half of its best throughput.

    capsim scale bert-large --system dgx-a100-640gb --global-batch 512 --max-devices 1024
    """
    from pathlib import Path

    from hardware.writing import check_output, write_table
    from simulator.renting import scaling
    from simulator.renting.cases import counts_from
    from simulator.terminal import scaling as scaling_report

    if csv is not None:
        check_output(Path(csv))
    file = options.file()
    said: dict[str, Any] = {name: value for name, value in file if value is not None and name != "title"}
    with options.placed(), progress_line(shown=not json) as tell:
        curve = scaling.scale(
            kind="weak" if weak else "strong",
            counts=counts_from(counts),
            max_devices=max_devices,  # type: ignore[arg-type]
            where=where,
            every_plan=every_plan,
            progress=None if tell is None else lambda done, of: tell(f"{done} of {of} numbers of devices"),
            **said,
        )
    if csv is not None:
        write_table(Path(csv), scaling_report.rows(curve))
    if json:
        print_json(curve.to_dict())
    else:
        scaling_report.show(curve)
    if not curve.whole:
        raise typer.Exit(INTERRUPTED)
