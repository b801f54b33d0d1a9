"""Start the pages: `capsim dashboard` does so by ``python -m dashboard``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_LOCAL = ("127.0.0.1", "localhost", "::1")
_SETTINGS = {
    "server.fileWatcherType": "none",
    "server.maxUploadSize": "20",
    "server.showEmailPrompt": "false",
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "minimal",
    "runner.magicEnabled": "false",
    "logger.level": "warning",
    "logger.hideWelcomeMessage": "true",
}
"""No statistics, no outside links, no tracebacks in the browser, uploads of 20 MB at most."""


def settings(host: str, port: int, *, headless: bool) -> list[str]:
    """Options of ``streamlit run``."""
    chosen = {
        **_SETTINGS,
        "server.address": host,
        "server.port": str(port),
        "server.headless": "true" if headless else "false",
    }
    words = [f"--{name}={value}" for name, value in chosen.items()]
    if host in _LOCAL:  # names of other sites must not lead here
        words += [f"--server.allowedHosts={name}" for name in _LOCAL]
    return words


def warm() -> None:
    """Import what the first page needs and compute its answer, so that whoever opens it does not wait for that."""
    from importlib import import_module

    from dashboard.views import views

    for view in views():
        prepare = getattr(import_module(view.module), "prepare", None)
        if prepare is not None:
            prepare()


def main() -> None:
    """Start the server, which ends with Ctrl-C."""
    reader = argparse.ArgumentParser(prog="python -m dashboard", description="The pages of capsim in a browser.")
    reader.add_argument("--host", default=_LOCAL[0])
    reader.add_argument("--port", type=int, default=8501)
    reader.add_argument("--headless", action="store_true", help="open no browser")
    options = reader.parse_args()
    from streamlit.web.cli import main as streamlit

    warm()
    shown = f"[{options.host}]" if ":" in options.host else options.host
    sys.stdout.write(f"capsim: http://{shown}:{options.port} shows the pages; Ctrl-C ends them\n")
    sys.stdout.flush()
    script = Path(__file__).with_name("app.py")
    sys.exit(streamlit(["run", str(script), *settings(options.host, options.port, headless=options.headless)]))


if __name__ == "__main__":
    main()
