"""Launch files: `capsim launch` writes them, `capsim import` turns them into scenario files."""

from __future__ import annotations

from typing import Annotated

import typer

from simulator.commands.shared.app import app
from simulator.commands.shared.options import Given, Json, number, print_json, scenario_options

To = Annotated[str, typer.Option("--to", metavar="FRAMEWORK", help="Whose launch file: megatron-lm, deepspeed ...")]
Output = Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write it.")]
Devices = Annotated[str | None, number("--devices", "Number of devices, where the file does not say.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]


@app.command()
@scenario_options()
def launch(
    options: Given,
    to: To,
    output: Output = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """A launch file for a plan: what starts the run, with capsim's estimate as a comment.

    capsim launch llama-3-8b --system dgx-h100 --devices 64 --to megatron-lm -o run.sh
    """
    from pathlib import Path

    from hardware.writing import check_output, write_text
    from simulator.launch.frameworks import launchable, written

    if output is not None:
        check_output(Path(output))
        _refuse_existing(output, force=force)
    file = options.file()
    with options.placed():
        made = written(launchable(file, to), to)
    made = made if output is None else made.named(output)
    if output is not None:
        write_text(Path(output), made.text)
    if json:
        print_json({**vars(made), "unsaid": list(made.unsaid), "output": output})
    elif output is None:
        typer.echo(made.text, nl=False)
    else:
        from simulator.terminal.launching import print_written

        print_written(made, output)


@app.command(name="import")
def import_(
    name: Annotated[str, typer.Argument(metavar="FILE", help="A launch file of training software.")],
    output: Output = None,
    system: Annotated[str | None, typer.Option("--system", help="What it runs on, for the scenario.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="What it trains, where the file does not say.")] = None,
    devices: Devices = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """A scenario file from a launch file of Megatron-LM, DeepSpeed and others; nothing in it is executed.

    capsim import pretrain.sh --system dgx-h100 -o scenario.yaml
    """
    from pathlib import Path

    from hardware.writing import check_output, write_text
    from simulator.launch.recognition import imported
    from simulator.terminal.launching import print_read, scenario_text

    if output is not None:
        check_output(Path(output))
        _refuse_existing(output, force=force)
    count = int(devices) if devices is not None else None
    launched = imported(name, model=model, devices=count)
    text = scenario_text(launched, system, count)
    if output is not None:
        write_text(Path(output), text)
    if json:
        document = {**launched.document(count), **({"system": system} if system else {})}
        print_json({"scenario": document, **launched.to_dict(), "output": output})
    elif output is None:
        typer.echo(text, nl=False)
    else:
        print_read(launched)
        typer.echo(f"{output}: written; use it with capsim estimate {output}{'' if system else ' --system SYSTEM'}")


def _refuse_existing(output: str, *, force: bool) -> None:
    """Refuse to replace a file unless asked to."""
    from pathlib import Path

    from hardware.errors import InputError

    if Path(output).is_file() and not force:
        raise InputError(f"{output}: exists already; name another file by -o, or replace it by --force")
