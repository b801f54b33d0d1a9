"""How launch files are written - as scripts, JSON, YAML or TOML - and those of data as settings with their lines."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml

from hardware.errors import InputError
from hardware.reading import parse_json, parse_yaml, read_text
from simulator.launch.settings import LaunchSettings, flattened
from simulator.launch.tables import OptionTable

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


_MOST_LINES = 20_000


def document_of(path: Path) -> dict[str, Any] | None:
    """What a file of data holds; none where that is no mapping.

    Raises
    ------
    InputError
        With file and line, where it is not valid.
    """
    text, kind = read_text(path), kind_of(path)
    parse = {"json": parse_json, "toml": _toml}.get(kind or "", partial(parse_yaml, repeats=True))
    document = parse(text, str(path))
    return document if isinstance(document, dict) else None


def _toml(text: str, place: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r" \(at line (\d+), column \d+\)", str(error))
        line = f":{match[1]}" if match else ""
        words = str(error) if match is None else str(error).replace(match[0], "")
        raise InputError(f"{place}{line}: not valid TOML: {words}") from None
    except RecursionError:
        raise InputError(f"{place}: is nested too deeply") from None


def settings_from(document: Mapping[str, Any], path: str, table: OptionTable | None = None) -> LaunchSettings:
    """The settings of a document, with the lines where they stand.

    Parameters
    ----------
    document
        What the file holds.
    path
        The file; where it cannot be read again settings have no lines.
    table
        The options of the framework.
    """
    lines = _lines(Path(path))

    def place(keys: tuple[str, ...]) -> str:
        line = lines.get(keys)
        return f"{path}:{line}" if line else path

    return LaunchSettings({entry.name: entry for entry in flattened(document, place)}, path, table)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with dotted names as a document.

    >>> nested({"steps": 3, "optimizer.name": "sgd", "optimizer.args.lr": 0.1})
    {'steps': 3, 'optimizer': {'name': 'sgd', 'args': {'lr': 0.1}}}
    """
    document: dict[str, Any] = {}
    for name, value in settings.items():
        *sections, last = name.split(".")
        section = document
        for key in sections:
            section = section.setdefault(key, {})
        section[last] = value
    return document


def toml_text(settings: Mapping[str, Any]) -> str:
    """Settings with dotted names as TOML, each group of names in a table.

    >>> print(toml_text({"job.folder": "out", "compile.enable": True}), end="")
    [job]
    folder = "out"
    <BLANKLINE>
    [compile]
    enable = true
    """
    tables: dict[str, list[str]] = {}
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        tables.setdefault(section, []).append(f"{key} = {_toml_value(value)}\n")
    return "\n".join(f"[{section}]\n{''.join(lines)}" for section, lines in tables.items())


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _lines(path: Path) -> dict[tuple[str, ...], int]:
    """The line of each path of keys."""
    try:
        text = read_text(path)
    except InputError:
        return {}
    if kind_of(path) == "toml":
        return _toml_lines(text)
    try:
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return {}
    lines: dict[tuple[str, ...], int] = {}
    _walk(node, (), lambda keys, line: lines.__setitem__(keys, line))
    return lines


def _walk(node: Any, under: tuple[str, ...], note: Callable[[tuple[str, ...], int], None]) -> None:
    """Visit all keys of a YAML or JSON document."""
    if isinstance(node, yaml.MappingNode):
        for key, value in sorted(node.value, key=lambda pair: bool(pair[0].value != "<<")):
            if key.value == "<<":
                for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    _walk(part, under, note)
                continue
            keys = (*under, str(key.value))
            note(keys, key.start_mark.line + 1)
            _walk(value, keys, note)


def _toml_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line of each key of a TOML document whose tables have plain names."""
    lines: dict[tuple[str, ...], int] = {}
    section: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines()[:_MOST_LINES], start=1):
        table = re.match(r"\s*\[([\w.\s-]+)\]", line)
        entry = re.match(r"\s*([\w.-]+)\s*=", line)
        if table is not None:
            section = tuple(part.strip() for part in table[1].split("."))
        elif entry is not None:
            lines[(*section, *entry[1].split("."))] = number
    return lines
