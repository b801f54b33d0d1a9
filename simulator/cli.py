"""The command line. Everything heavy is imported inside its command, so that help and errors are immediate."""

from __future__ import annotations

import gc
import os
import sys
from io import TextIOWrapper
from typing import NoReturn

import typer

from hardware.errors import InputError, one_line
from simulator.commands import (
    app,
    calibrating,
    catalogue,
    dashboard,
    estimating,
    evidence,
    files,
    launching,
    measuring,
    renting,
    scaling,
    searching,
    timeline,
    verifying,
    whatif,
)
from simulator.commands.serving import serve

_INTERRUPTED = 130
"""The status that a shell expects of what Ctrl-C ended."""
_COMMANDS = (
    estimating,
    serve,
    timeline,
    searching,
    launching,
    renting,
    scaling,
    whatif,
    dashboard,
    measuring,
    calibrating,
    evidence,
    verifying,
    catalogue,
    files,
)
"""Modules whose import adds their commands, in the order of the help."""
app.registered_commands.sort(key=lambda each: [m.__name__ for m in _COMMANDS].index(each.callback.__module__))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and status 2."""
    words = sys.argv[1:] if arguments is None else arguments
    gc.set_threshold(100_000)  # looking for garbage again and again during imports costs a tenth of the start
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal has the characters of bars
    try:
        status = app(args=words or ["--help"], prog_name="capsim", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read the answer has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("CAPSIM_TRACEBACK"):
            raise
        _fail(*_told(error))
    if status == _INTERRUPTED:
        _fail("interrupted", _INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _told(error: BaseException) -> tuple[str, int]:
    """What to say of an error, and the status to end with."""
    if isinstance(error, InputError):
        return str(error), 2
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "capsim"
        return f"{error.format_message().rstrip('.')}; see {command} --help", error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted", _INTERRUPTED
    if isinstance(error, OSError):
        return f"cannot write the answer ({error.strerror or error})", 1
    return f"failed with {type(error).__name__}: {error}; CAPSIM_TRACEBACK=1 shows where, please report it", 1


def _fail(sentence: str, status: int) -> NoReturn:
    """End with one sentence."""
    if sys.stderr is not None:
        sys.stderr.write(f"capsim: {one_line(sentence)}\n")
    sys.exit(status)


if __name__ == "__main__":
    main()
