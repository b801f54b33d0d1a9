"""The parts of README.md that commands print: `python -m tests.published.readme` writes them anew."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from simulator.evidence.report import markdown
from simulator.evidence.validation import validate

README = Path(__file__).parents[2] / "README.md"
_BLOCK = r"(?P<head><!-- example: {name} -->\n```\n).*?(?P<tail>```\n<!-- end -->)"
_COMMANDS = {
    "cli": ["estimate", "bert-large", "--system", "dgx-a100-640gb", "--seq-len", "128", "--global-batch", "512"],
    "claims": ["claims"],
}


def _printed(arguments: list[str]) -> str:
    """What a command prints at a hundred columns, without the rankings that follow the claims."""
    out = subprocess.run(
        [sys.executable, "-m", "simulator.cli", *arguments],
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = [line.rstrip() for line in out.strip("\n").splitlines()]
    end = next((i for i, line in enumerate(lines) if "within the stated tolerance" in line), len(lines) - 1)
    return "\n".join(lines[: end + 1]) + "\n"


_TABLE = r"(?P<head><!-- table: evidence -->\n).*?(?P<tail><!-- end -->)"


def rewritten(text: str) -> str:
    """The page with what the commands print now, and the table of errors."""
    match = re.search(_TABLE, text, re.S)
    assert match is not None
    text = text[: match.end("head")] + markdown(validate()) + "\n" + text[match.start("tail") :]
    for name, arguments in _COMMANDS.items():
        match = re.search(_BLOCK.format(name=name), text, re.S)
        assert match is not None, name
        text = text[: match.end("head")] + _printed(arguments) + text[match.start("tail") :]
    return text


def python_example() -> str:
    """The first Python block of the page."""
    match = re.search(r"```python\n(.*?)```", README.read_text(), re.S)
    assert match is not None
    return match[1]


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text()))
