"""`capsim dashboard`: starts a server that only this machine reaches, or says in one sentence why not."""

from __future__ import annotations

import importlib.util
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from dashboard.__main__ import settings
from tests.commands.conftest import Capsim, assert_one_sentence, capsim

__all__ = ["capsim"]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (["--port", "0"], "--port=0: give a port from 1 to 65535"),
        (["--port", "70000"], "--port=70000: give a port from 1 to 65535"),
        (["--port", "web"], "--port='web': write a whole number"),
        (["--host", "nowhere.invalid"], "--host=nowhere.invalid: this machine has no such address"),
        (["--host", "192.0.2.1"], "--host=192.0.2.1: cannot be listened on"),
    ],
)
def test_wrong_addresses_are_one_sentence(capsim: Capsim, options: list[str], fragment: str) -> None:
    assert_one_sentence(capsim("dashboard", "--headless", *options), fragment)


def test_a_port_that_is_taken_is_one_sentence(capsim: Capsim, taken: int) -> None:
    assert_one_sentence(capsim("dashboard", "--headless", "--port", taken), f"--port={taken}: something else listens")


@pytest.mark.parametrize("missing", ["streamlit", "plotly"])
def test_what_is_not_installed_is_one_sentence(capsim: Capsim, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    find = importlib.util.find_spec

    def lacks(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == missing else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", lacks)
    assert_one_sentence(
        capsim("dashboard"), f"the dashboard needs {missing}, which is not installed; pip install 'capsim[dashboard]'"
    )


def test_help_loads_nothing_of_the_pages() -> None:
    program = (
        "import sys\nfrom simulator import cli\n"
        "try:\n    cli.main(['dashboard', '--help'])\nexcept SystemExit:\n    pass\n"
        "loaded = {'streamlit', 'plotly', 'pandas', 'dashboard', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "--port" in ended.stdout


def test_pages_are_for_this_machine_and_tell_nobody() -> None:
    words = settings("127.0.0.1", 8501, headless=True)
    assert "--server.address=127.0.0.1" in words
    assert "--browser.gatherUsageStats=false" in words
    assert "--client.showErrorDetails=none" in words
    assert "--server.maxUploadSize=20" in words
    assert "--server.fileWatcherType=none" in words
    assert [word for word in words if "allowedHosts" in word]
    open_to_all = settings("0.0.0.0", 8501, headless=False)
    assert not [word for word in open_to_all if "allowedHosts" in word]
    assert "--server.headless=false" in open_to_all


def test_it_serves_until_it_is_told_to_end() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "simulator.cli", "dashboard", "--headless", "--port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert _answer(server, f"http://127.0.0.1:{port}/_stcore/health") == "ok"
        others = {str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None)} - {"127.0.0.1", "::1"}
        for address in others:  # not reachable by this machine's other addresses
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as other:
                other.settimeout(1.0)
                assert other.connect_ex((address, port)) != 0
    finally:
        server.send_signal(signal.SIGINT)
        said, _ = server.communicate(timeout=30)
    assert "Traceback" not in said
    assert f"http://127.0.0.1:{port}" in said


def _answer(server: subprocess.Popen[str], url: str) -> str:
    """What a server says once it answers."""
    for _ in range(600):
        assert server.poll() is None, server.stdout.read() if server.stdout else ""
        try:
            with urllib.request.urlopen(url, timeout=1) as reply:
                return str(reply.read().decode())
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} did not answer")
