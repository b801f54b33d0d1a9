"""From what was measured to better estimates: `capsim calibrate`."""

from __future__ import annotations

from typing import Annotated

import typer

from simulator.commands.shared.app import app
from simulator.commands.shared.options import Json, print_json

Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILE]...", help="Records of capsim measure, or operator tables (CSV)."),
]
Output = Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write the profile.")]
Device = Annotated[
    str | None, typer.Option("--device", help="The device's name or data sheet; a record of a known one says it.")
]
Rows = Annotated[str | None, typer.Option("--rows-of", metavar="NAME", help="The device as a table names it.")]
Check = Annotated[
    str | None, typer.Option("--check", metavar="FILE", help="A record whose training steps are predicted, not fitted.")
]
Profile = Annotated[
    str | None, typer.Option("--profile", help="Fit nothing: show this profile, and check it against --check.")
]


@app.command()
def calibrate(
    files: Files = None,
    output: Output = None,
    device: Device = None,
    rows_of: Rows = None,
    profile: Profile = None,
    check: Check = None,
    json: Json = False,
) -> None:
    """Fit a device's constants to measurements, and score them.

    Errors are those on held-out measurements.

    Ten minutes of measurements make a profile, which estimates, searches and plans then use:
    capsim calibrate record.jsonl -o mine.yaml
    capsim estimate bert-large --system rtx-3090 --profile mine.yaml
    """
    from pathlib import Path

    from hardware.catalogue import load_profile
    from hardware.errors import InputError
    from hardware.writing import check_output
    from simulator.pricing.measured import device_of
    from simulator.profiling import calibrate as fitting
    from simulator.profiling.fit.steps import compare
    from simulator.profiling.writing import write
    from simulator.terminal.profile import show

    if bool(files) == (profile is not None):
        raise InputError("give records or tables to fit, or --profile to show one, and not both")
    if output is not None:
        check_output(Path(output))
    if profile is not None:
        if device is not None or rows_of is not None:
            raise InputError(
                "--device and --rows-of say what is fitted, and --profile is shown as it is; leave them out"
            )
        profile_made = load_profile(profile)
    else:
        profile_made = fitting.calibrate(files or [], device=device, rows_of=rows_of, name=output)
    measured = device_of(profile_made)
    compared = compare(fitting.steps_in(check, measured), profile_made, measured) if check is not None else []
    if output is not None:
        write(Path(output), profile_made)
    if json:
        steps = [each.to_dict() for each in compared]
        print_json(
            {"profile": profile_made.model_dump(mode="json", exclude={"products", "attentions"}), "steps": steps}
        )
    else:
        show(profile_made, file=output, compared=compared)
