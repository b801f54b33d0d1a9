"""Reading YAML and JSON as data: bounded in size, nothing executed, every error with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from hardware.errors import InputError, sentence

MOST_BYTES = 1_000_000
"""The largest document that is read; the largest of the catalogue has a few kilobytes."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE_SCHEMA = [
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9][0-9_]*", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
    ("tag:yaml.org,2002:float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
]


class _CoreLoader(_Loader):  # type: ignore[misc, valid-type]
    """The safe loader with YAML 1.2 scalars ("no" is a word, 1e9 a number) and without repeated keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            if isinstance(key.value, str):
                seen.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return mapping


for _tag, _pattern, _first in _CORE_SCHEMA:
    _CoreLoader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))


def read_text(path: Path) -> str:
    """Read a small text file.

    Raises
    ------
    InputError
        Where it is missing, a directory, too large, not readable or not UTF-8.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a directory; give a file")
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: has {path.stat().st_size:,} bytes; at most {MOST_BYTES:,} are read")
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)  # a pipe or device has no size to ask for
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if len(raw) > MOST_BYTES:
        raise InputError(f"{path}: has more than {MOST_BYTES:,} bytes, the most that is read")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start})") from None


def parse_yaml(text: str, place: str) -> Any:
    """Parse YAML text; anchors and aliases are refused, since a few lines of them expand to gigabytes.

    Raises
    ------
    InputError
        With file and line.
    """
    try:
        if "&" in text or "*" in text:
            for event in yaml.parse(text, Loader=_CoreLoader):
                if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                    line = event.start_mark.line + 1
                    raise InputError(f"{place}:{line}: YAML anchors and aliases are not accepted; write the value out")
        return yaml.load(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark if error.problem_mark is not None else error.context_mark
        line = f":{getattr(mark, 'line', 0) + 1}"
        raise InputError(f"{place}{line}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{place}: not valid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise InputError(f"{place}: is nested too deeply") from None


def parse_json(text: str, place: str) -> Any:
    """Parse JSON text without NaN, infinities or endless nesting.

    Raises
    ------
    InputError
        With file and line.
    """

    def refuse(name: str) -> None:
        raise InputError(f"{place}: {name} is not a number that can be used")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}:{error.lineno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise InputError(f"{place}: is nested too deeply") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file whose top level is a mapping with names as keys."""
    text = read_text(path)
    document = parse_json(text, str(path)) if path.suffix == ".json" else parse_yaml(text, str(path))
    if not isinstance(document, Mapping) or not all(isinstance(key, str) for key in document):
        raise InputError(f"{path}: must hold a mapping of names to values at the top level")
    return dict(document)


def _line(text: str, location: tuple[int | str, ...]) -> int | None:
    """Find the line of a place inside a YAML document, as far as the place exists."""
    try:
        node = yaml.compose(text, Loader=_CoreLoader)
    except yaml.YAMLError:
        return None
    line: int | None = None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


Spec = TypeVar("Spec", bound=BaseModel)


def field_names(kind: type[BaseModel]) -> list[str]:
    """The keys that a specification accepts."""
    return [field.alias or name for name, field in kind.model_fields.items() if field.init is not False]


def build(kind: type[Spec], document: Any, *, path: Path | None = None) -> Spec:
    """Validate a document as a specification.

    Parameters
    ----------
    kind
        The pydantic class.
    document
        Parsed YAML or JSON, or keyword arguments.
    path
        The file it came from, for the place in an error.

    Raises
    ------
    InputError
        One sentence with the place, the value and what would be valid.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        text, location = sentence(error, fields=field_names(kind))
        if path is None:
            raise InputError(text) from None
        line = _line(read_text(path), location)
        raise InputError(f"{path}{f':{line}' if line else ''}: {text}") from None
    except RecursionError:
        raise InputError(f"{path or kind.__name__}: is nested too deeply") from None
