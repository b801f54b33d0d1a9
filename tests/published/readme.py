"""The parts of the documentation that commands print: `python -m tests.published.readme` writes them anew."""

from __future__ import annotations

import re
from pathlib import Path

from hardware.catalogue import load_profile, names
from simulator.evidence.serving.validation import validate_serving
from simulator.evidence.validation import validate
from simulator.terminal.evidence.serving import serving_markdown
from simulator.terminal.evidence.tables import chances_markdown, markdown, ranking_markdown
from simulator.terminal.files.tables import overview, page
from simulator.terminal.profile import markdown as of_profiles
from tests.launch.documented import table
from tests.published.outputs import PAGES, printed, with_outputs

README = Path(__file__).parents[2] / "README.md"
CALIBRATION = README.parent / "docs" / "calibration.md"
FILES = README.parent / "docs" / "files.md"
EVIDENCE = README.parent / "docs" / "evidence.md"
LAUNCHING = README.parent / "docs" / "launching.md"
FIELDS = README.parent / "docs" / "fields.md"
_BLOCK = r"(?P<head><!-- example: {name} -->\n```\n).*?(?P<tail>```\n<!-- end -->)"
_COMMANDS = {
    "cli": ["estimate", "bert-large", "--system", "dgx-a100-640gb", "--seq-len", "128", "--global-batch", "512"],
    "claims": ["claims"],
}


def _printed(arguments: list[str]) -> str:
    """What a command prints at a hundred columns, without the rankings that follow the claims."""
    lines = printed(arguments)
    end = next((i for i, line in enumerate(lines) if "within the stated tolerance" in line), len(lines) - 1)
    return "\n".join(lines[: end + 1]) + "\n"


_TABLE = r"(?P<head><!-- table: {name} -->\n).*?(?P<tail><!-- end -->)"


def _with_table(text: str, name: str, table: str) -> str:
    """A page with a table written anew."""
    match = re.search(_TABLE.format(name=name), text, re.S)
    assert match is not None, name
    return text[: match.end("head")] + table + text[match.start("tail") :]


def with_profiles(text: str) -> str:
    """The page on calibration with the errors of the profiles that come with capsim."""
    return _with_table(text, "profiles", of_profiles([load_profile(name) for name in names("profiles")]))


def with_kinds(text: str) -> str:
    """The page on files with the kinds that there are."""
    return _with_table(text, "kinds", overview())


def with_launch_files(text: str) -> str:
    """The page on launch files with one of each kind, and what is made of it."""
    return _with_table(text, "launch-files", table())


def with_evidence(text: str) -> str:
    """The page on evidence with the order of plans, and the probabilities of fitting beside what happened."""
    validation = validate()
    text = _with_table(text, "ranking", ranking_markdown(validation))
    text = _with_table(text, "chances", chances_markdown(validation))
    return _with_table(text, "serving", serving_markdown(validate_serving()))


def rewritten(text: str) -> str:
    """The page with what the commands print now, and the table of errors."""
    text = _with_table(text, "evidence", markdown(validate()) + "\n")
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
    CALIBRATION.write_text(with_profiles(CALIBRATION.read_text()))
    FILES.write_text(with_kinds(FILES.read_text()))
    EVIDENCE.write_text(with_evidence(EVIDENCE.read_text()))
    FIELDS.write_text(page())
    LAUNCHING.write_text(with_launch_files(LAUNCHING.read_text()))
    for path in PAGES:
        path.write_text(with_outputs(path.read_text()))
