"""Show me: `capsim dashboard` starts the pages, which are a floor above this one."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing, suppress
from typing import Annotated

import typer

from hardware.errors import InputError
from simulator.commands.shared.app import app
from simulator.commands.shared.options import number

_FIRST_PORT = 8501
_MOST_PORTS = 100

Port = Annotated[str | None, number("--port", "Port of the pages; the first free one from 8501 unless given.")]
Host = Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 lets other machines in.")]
Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")]
Headless = Annotated[bool, typer.Option("--headless", help="The same as --no-browser.")]


@app.command()
def dashboard(port: Port = None, host: Host = "127.0.0.1", browser: Browser = True, headless: Headless = False) -> None:
    """The pages in a browser: plan, compare, search, rent.

    Only this machine can reach them unless --host says otherwise.

    Ends with Ctrl-C.
    """
    _check_installed()
    free = _free_port(host, port)  # type: ignore[arg-type]
    quiet = ["--headless"] if headless or not browser else []
    _run([sys.executable, "-m", "dashboard", "--host", host, "--port", str(free), *quiet])


def _check_installed() -> None:
    """Refuse where what shows the pages is not installed; this floor looks for those above it, but imports none."""
    from importlib.util import find_spec

    missing = [name for name in ("streamlit", "plotly", "dashboard") if find_spec(name) is None]
    if missing:
        raise InputError(f"the dashboard needs {missing[0]}, which is not installed; pip install 'capsim[dashboard]'")


def _free_port(host: str, port: int | None) -> int:
    """The port that was given, or the first that is free."""
    if port is not None and not 1 <= port <= 65535:
        raise InputError(f"--port={port}: give a port from 1 to 65535, or leave it out")
    tried = range(_FIRST_PORT, _FIRST_PORT + _MOST_PORTS) if port is None else (port,)
    for each in tried:
        if _is_free(host, each):
            return each
    raise InputError(f"--port={tried[0]}: something else listens there on {host}; give another port, or leave it out")


def _is_free(host: str, port: int) -> bool:
    """Whether one can listen on a port."""
    import socket

    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        raise InputError(f"--host={host}: this machine has no such address; 127.0.0.1 is itself") from None
    with closing(socket.socket(family, kind, protocol)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except PermissionError:
            raise InputError(f"--port={port}: only the administrator may listen there; give one above 1023") from None
        except OSError as error:
            import errno

            if error.errno != errno.EADDRINUSE:
                raise InputError(f"--host={host}: cannot be listened on ({error.strerror})") from None
            return False
    return True


def _run(command: list[str]) -> None:
    """Become the pages' process, so that whoever ends this one ends them; on Windows wait for it."""
    if os.name == "posix":
        os.execv(command[0], command)
    with suppress(KeyboardInterrupt):
        raise typer.Exit(subprocess.run(command, check=False).returncode)
