"""What did happen: `capsim measure` hands over to the package that measures."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer

from simulator.commands.shared.app import app

_AS_IT_IS: dict[str, Any] = {
    "allow_extra_args": True,
    "allow_interspersed_args": False,
    "ignore_unknown_options": True,
    "help_option_names": [],
}
"""The package that measures reads its own options; it also runs where this command line is not installed."""


@app.command(context_settings=_AS_IT_IS)
def measure(context: typer.Context) -> None:
    """Time kernels and training steps on this machine's device.

    See capsim measure --help.

    Ten minutes on a rented GPU give a record: capsim measure --budget 10m -o record.jsonl
    """
    # At run time only: this floor knows nothing of the one above it, which needs torch.
    status = import_module("measure.__main__").main(context.args, program="capsim measure")
    if status:
        raise typer.Exit(status)
