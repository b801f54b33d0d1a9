"""Commands of the documentation with what they print: `python -m tests.published.readme` writes it anew.

Between `<!-- output -->` and `<!-- end -->` stand a block with a command and one with its output. `<!-- output: without
"Left out" -->` leaves out the sections, apart by empty lines, that begin with these words, `only` all others.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

PAGES = tuple(
    Path(__file__).parents[2] / "docs" / name
    for name in ("search.md", "what-if.md", "renting.md", "serving.md", "timeline.md")
)
DAY = "1795910400"
"""On which commands are run, 2026-11-29: an answer says how old a price is."""
_OUTPUT = re.compile(
    r"<!-- output(?P<cut>[^>]*) -->\n```\n\$ (?P<command>[^`]*)```\n```\n(?P<output>[^`]*)```\n<!-- end -->"
)
_ELAPSED = re.compile(r"\bin [\d.,]+ s\b")


def printed(arguments: list[str]) -> list[str]:
    """The lines that a command prints at a hundred columns on the day of the documentation."""
    out = subprocess.run(
        [sys.executable, "-m", "simulator.cli", *arguments],
        env={**os.environ, "COLUMNS": "100", "SOURCE_DATE_EPOCH": DAY},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return [line.rstrip() for line in out.strip("\n").splitlines()]


def _cut(lines: list[str], cut: str) -> str:
    """Some sections of an output."""
    words = tuple(re.findall(r'"([^"]+)"', cut))
    sections = "\n".join(lines).split("\n\n")
    if words:
        only = cut.lstrip(": ").startswith("only")
        assert only or "without" in cut, cut
        kept = [each for each in sections if each.startswith(words) == only]
        assert 0 < len(kept) < len(sections), cut
        sections = kept
    return "\n\n".join(sections) + "\n"


def with_outputs(text: str) -> str:
    """A page with the outputs of its commands as they are now."""

    def rewritten(match: re.Match[str]) -> str:
        command = shlex.split(match["command"].replace("\\\n", " "))
        assert command[0] == "capsim", command
        start, end = match.span("output")
        output = _cut(printed(command[1:]), match["cut"])
        return text[match.start() : start] + output + text[end : match.end()]

    return _OUTPUT.sub(rewritten, text)


def comparable(text: str) -> str:
    """A page without how long its commands took."""
    return _ELAPSED.sub("in some s", text)
