"""The command line that commands add themselves to."""

from __future__ import annotations

import os

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for plugins costs a tenth of the start
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here multiplies matrices, and threads cost as much

from collections import Counter
from collections.abc import Callable
from copy import copy
from functools import cache
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_command, get_command_name

from hardware.errors import InputError


class OnceCommand(TyperCommand):
    """A command that refuses an option which is given twice, unless it takes several values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read arguments; of two values of one option the last would silently win."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        given_once = [param for param in order if param.param_type_name == "option" and not _may_repeat(param)]
        for param, times in Counter(given_once).items():
            if times > 1:
                raise InputError(f"{param.opts[0]} is given {times} times, and takes one value; leave one of them")
        return super().parse_args(ctx, args)


def _may_repeat(param: Any) -> bool:
    """Whether an option takes several values, or is a flag that says the same each time."""
    return bool(param.multiple or param.count or (param.is_flag and not param.secondary_opts))


class _App(typer.Typer):
    """A command line whose commands take each option once."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Register a command."""
        return super().command(name, **{"cls": OnceCommand, **settings})


app = _App(
    name="capsim",
    help="Capacity planning for transformer training: time, memory and money of a run before it is paid for.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root() -> None:
    """Capacity planning for transformer training: time, memory and money of a run before it is paid for."""


@cache
def command_line(first: str) -> Any:
    """The command line as far as a call needs it, by its first word: to build all of it takes longer than most answers.

    Parameters
    ----------
    first
        The first word of a call; what names no command gets the whole.
    """
    part = copy(app)
    named = [each for each in app.registered_commands if _name_of(each) == first]
    part.registered_commands = named or app.registered_commands
    return get_command(part)


def _name_of(command: Any) -> str:
    """What a command is called."""
    return str(command.name or get_command_name(command.callback.__name__))
