"""How a launch file is written - as a script, JSON, TOML or YAML - by the ending of its name or by what it holds."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from hardware.reading import read_text

FileKind = Literal["script", "json", "toml", "yaml"]
_ENDINGS: dict[str, FileKind] = {
    **dict.fromkeys((".sh", ".bash", ".sbatch", ".slurm", ".args"), "script"),
    ".json": "json",
    ".toml": "toml",
    **dict.fromkeys((".yaml", ".yml"), "yaml"),
}
"""What files are by their endings; those of others, .txt among them, by what they hold."""
_OPTION = re.compile(r"^\s*(?:[^#\n]*\s)?--[a-z][a-z0-9_-]+(?:[=\s\\]|$)", re.MULTILINE)
_TABLE = re.compile(r"^\s*\[[\w.\s-]+\]\s*(?:#.*)?$", re.MULTILINE)
_ENTRY = re.compile(r"^\s*[\w.-]+\s*=\s*\S", re.MULTILINE)
_KEY = re.compile(r"^[\w./-]+:(?:\s|$)", re.MULTILINE)


def may_be_launched(name: str) -> bool:
    """Whether a name is that of a file that may be a launch file: by its ending, or because it is there."""
    return Path(name).suffix.lower() in _ENDINGS or os.path.isfile(name)  # noqa: PTH113 - false of names too long


def kind_of(path: Path) -> FileKind | None:
    """How a file is written; none where it is nothing that launch files are written as.

    Raises
    ------
    InputError
        Where it has to be read and cannot be.
    """
    known = _ENDINGS.get(path.suffix.lower())
    if known is not None or not path.is_file():
        return known
    return kind_of_text(read_text(path))


def kind_of_text(text: str) -> FileKind | None:
    r"""How a text is written.

    >>> kind_of_text("--num-layers 24"), kind_of_text("{}"), kind_of_text("[model]\nname = 1"), kind_of_text("a: 1")
    ('script', 'json', 'toml', 'yaml')
    """
    start = text.lstrip("\ufeff \t\r\n")
    if start.startswith("#!"):
        return "script"
    if start.startswith("{"):
        return "json"
    if _TABLE.search(text) and _ENTRY.search(text):
        return "toml"
    if _KEY.search(text):
        return "yaml"
    return "script" if _OPTION.search(text) else None
