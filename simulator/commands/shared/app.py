"""The command line that commands add themselves to."""

from __future__ import annotations

import os

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for plugins costs a tenth of the start
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here multiplies matrices, and threads cost as much

import typer

app = typer.Typer(
    name="capsim",
    help="Capacity planning for transformer training: time, memory and money of a run before it is paid for.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root() -> None:
    """Capacity planning for transformer training: time, memory and money of a run before it is paid for."""
