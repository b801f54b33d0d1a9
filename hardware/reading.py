"""Reading YAML and JSON as data: bounded in size, nothing executed, every error with its place."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from hardware.errors import InputError, Location, sentence

MOST_BYTES = 1_000_000
"""The largest document that is read; the largest of the catalogue has a few kilobytes."""
MOST_LEVELS = 30
"""The deepest nesting that is read; the deepest of the catalogue has four levels."""
MOST_REPEATED = 20_000
"""The most values of a document with YAML aliases, each counted as often as it stands for something."""

_FILE_LIKE = re.compile(r"[/\\]|\.ya?ml\Z|\.json\Z")
_DOCUMENTS = (".yaml", ".yml", ".json")
"""Endings of files that are read."""
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE_SCHEMA = [
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9][0-9_]*", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
    ("tag:yaml.org,2002:float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
]


_INDENTED = re.compile(r"^[ ?:-]{100}", re.MULTILINE)
"""A line that may lie below many levels of nesting."""


class _CoreLoader(_Loader):  # type: ignore[misc, valid-type]
    """The safe loader with YAML 1.2 scalars ("no" is a word, 1e9 and 010 are numbers) and without repeated keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return mapping

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        try:
            return int(node.value.replace("_", ""))
        except ValueError as error:  # thousands of digits
            raise yaml.constructor.ConstructorError(None, None, str(error).split(";")[0], node.start_mark) from None


_CoreLoader.add_constructor("tag:yaml.org,2002:int", _CoreLoader.construct_whole_number)
for _tag, _pattern, _first in _CORE_SCHEMA:
    _CoreLoader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))


class _RepeatingLoader(_CoreLoader):
    """The same, with mappings that are merged into others by the key ``<<``."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        own = [(key, value) for key, value in node.value if key.value != "<<"]
        merged = [value for key, value in node.value if key.value == "<<"]
        parts = [
            part for value in merged for part in (value.value if isinstance(value, yaml.SequenceNode) else [value])
        ]
        mapping = super().construct_mapping(yaml.MappingNode(node.tag, own, node.start_mark, node.end_mark), deep=deep)
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                raise yaml.constructor.ConstructorError(None, None, "<< must name a mapping", part.start_mark)
            mapping = {**self.construct_mapping(part, deep=True), **mapping}
        return mapping


def read_text(path: Path, *, most_bytes: int = MOST_BYTES) -> str:
    """Read a text file of bounded size.

    Raises
    ------
    InputError
        Where it is missing, not a regular file, too large, not readable or not UTF-8.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise InputError(f"{path}: is {kind}; give a file")
        with path.open("rb") as file:
            raw = file.read(most_bytes + 1)  # some files have more than the size that they report
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(raw) > most_bytes:
        raise InputError(f"{path}: has more than {most_bytes:,} bytes, the most that is read")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start})") from None


def parse_yaml(text: str, place: str, *, repeats: bool = False) -> Any:
    """Parse YAML text; anchors, aliases and tags are refused: a few lines of aliases expand to gigabytes.

    Parameters
    ----------
    text
        What the file holds.
    place
        Its name.
    repeats
        Whether anchors, aliases and merged mappings (``<<``) are read all the same, as files of others have them, up
        to `MOST_REPEATED` values.

    Raises
    ------
    InputError
        With file and line.
    """
    try:
        _refuse_machinery(text, place, repeats=repeats)
        if repeats:
            _refuse_many(yaml.compose(text, Loader=_CoreLoader), place, {}, set())
        return _shallow(yaml.load(text, Loader=_RepeatingLoader if repeats else _CoreLoader), place)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark if error.problem_mark is not None else error.context_mark
        line = f":{getattr(mark, 'line', 0) + 1}"
        if "nesting depth" in (error.problem or ""):  # libyaml 0.2.6 and later stop by themselves
            raise _too_deep(f"{place}{line}") from None
        raise InputError(f"{place}{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{place}: not valid YAML: {str(error).splitlines()[0]}") from None


def _refuse_many(node: yaml.Node | None, place: str, sizes: dict[int, int], inside: set[int]) -> int:
    """Refuse aliases that make a document too large, or a part of itself; returns the values of a node."""
    if id(node) in sizes or node is None:
        return sizes.get(id(node), 0)
    here = f"{place}:{node.start_mark.line + 1}"
    if id(node) in inside:
        raise InputError(f"{here}: the YAML anchor holds itself; write the value out")
    children: list[yaml.Node] = []
    if isinstance(node, yaml.CollectionNode):
        children = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    size = 1 + sum(_refuse_many(child, place, sizes, inside | {id(node)}) for child in children)
    if size > MOST_REPEATED:
        raise InputError(f"{here}: holds more than {MOST_REPEATED:,} values with its YAML aliases; write fewer")
    sizes[id(node)] = size
    return size


def _refuse_machinery(text: str, place: str, *, repeats: bool) -> None:
    """Refuse what makes YAML more than data, and nesting that would overflow the stack of the parser."""
    if not (any(mark in text for mark in "&*!") or sum(map(text.count, "[{")) > 200 or _INDENTED.search(text)):
        return
    level = 0
    for event in yaml.parse(text, Loader=_CoreLoader):
        place_here = f"{place}:{getattr(event.start_mark, 'line', 0) + 1}"
        if not repeats and (isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None)):
            raise InputError(f"{place_here}: YAML anchors and aliases are not accepted; write the value out")
        if tag := getattr(event, "tag", None):
            raise InputError(f"{place_here}: the YAML tag {tag!r} is not accepted; write a plain value")
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if level > MOST_LEVELS:
            raise _too_deep(place_here)


def _too_deep(place: str) -> InputError:
    """The refusal of a document that is nested more deeply than any input file needs."""
    return InputError(f"{place}: is nested too deeply; at most {MOST_LEVELS} levels are read")


def _shallow(document: Any, place: str, level: int = 0) -> Any:
    """Pass a document through, unless it is nested too deeply."""
    if level > MOST_LEVELS:
        raise _too_deep(place)
    if isinstance(document, list | dict):
        for part in document.values() if isinstance(document, dict) else document:
            _shallow(part, place, level + 1)
    return document


def parse_json(text: str, place: str) -> Any:
    """Parse JSON text without NaN, infinities, repeated keys or endless nesting.

    Raises
    ------
    InputError
        With file and line.
    """

    def refuse(name: str) -> None:
        raise InputError(f"{place}: {name} is not a number that can be used")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError(f"{place}: key {twice!r} is given twice")
        return mapping

    try:
        return _shallow(json.loads(text, parse_constant=refuse, object_pairs_hook=once), place)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}:{error.lineno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise _too_deep(place) from None
    except InputError:
        raise
    except ValueError as error:  # a whole number of thousands of digits
        raise InputError(f"{place}: not valid JSON: {str(error).split(';')[0]}") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file whose top level is a mapping."""
    text = read_text(path)
    document = parse_json(text, str(path)) if path.suffix == ".json" else parse_yaml(text, str(path))
    if not isinstance(document, dict):
        raise InputError(f"{path}: must hold a mapping of names to values at the top level")
    return document


def _line(path: Path, location: Location, *, whole: bool = False) -> int | None:
    """Find the line of a place inside a YAML file: as far as the place exists, or the `whole` of it or none."""
    try:
        text = read_text(path)
        _refuse_machinery(text, str(path), repeats=False)
        node = yaml.compose(text, Loader=_CoreLoader)
    except (yaml.YAMLError, InputError):
        return None
    line: int | None = None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            matching = [(key, value) for key, value in node.value if key.value == str(part)]
            if not matching:
                return None if whole else line
            line, node = matching[0][0].start_mark.line + 1, matching[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return None if whole else line
    return line


@contextmanager
def placed(path: Any, *, under: str = "", besides: Iterable[str] = ()) -> Iterator[None]:
    """Add file and line to errors about fields that a file gives.

    Parameters
    ----------
    path
        The file; anything that is not the name of a file changes nothing.
    under
        What the names of the fields that the file gives begin with, such as ``plan.``.
    besides
        Fields that something else than the file gave.
    """
    try:
        yield
    except InputError as error:
        fields = [field.removeprefix(under) for field in error.fields if field.startswith(under)]
        lines = (_line(Path(path), tuple(field.split(".")), whole=True) for field in fields) if is_path(path) else ()
        first = next((line for line in lines if line), None)
        if first is None or set(besides) & set(error.fields):
            raise
        raise InputError(f"{path}:{first}: {error}") from None


def is_path(name: Any) -> bool:
    """Whether a name means a file rather than an entry of the catalogue."""
    return isinstance(name, Path) or (isinstance(name, str) and bool(_FILE_LIKE.search(name)))


def is_document(name: Any) -> bool:
    """Whether a text ends like a file that is read; "2.79 USD/h", which has a slash, does not.

    >>> is_document("mine.yaml"), is_document("2.79 USD/h"), is_document(2.79)
    (True, False, False)
    """
    return isinstance(name, str | Path) and str(name).endswith(_DOCUMENTS)


Spec = TypeVar("Spec", bound=BaseModel)


def field_names(kind: type[BaseModel]) -> list[str]:
    """The keys that a specification accepts."""
    return [field.alias or name for name, field in kind.model_fields.items() if field.init is not False]


def _fields_beside(kind: type[BaseModel], location: Location) -> list[str]:
    """The keys that are valid beside a place inside a specification."""
    for part in location[:-1]:
        field = kind.model_fields.get(str(part))
        inner = [] if field is None else [kind_ for kind_ in _parts(field.annotation) if isinstance(kind_, type)]
        below = next((kind_ for kind_ in inner if issubclass(kind_, BaseModel)), None)
        if below is not None:
            kind = below
        elif field is not None:
            return ["value", "source", "seen", "note"]  # a figure that names its source
    return field_names(kind)


def _parts(annotation: Any) -> Iterator[Any]:
    """An annotation and all types inside it."""
    yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


def build(kind: type[Spec], document: Any, *, path: Path | None = None, under: Location = ()) -> Spec:
    """Validate a document as a specification.

    Parameters
    ----------
    kind
        The pydantic class.
    document
        Parsed YAML or JSON, or keyword arguments.
    path
        The file it came from, for the place in an error.
    under
        Where the document stands in the file, unless it is the whole of it.

    Raises
    ------
    InputError
        One sentence with the place, the value and what would be valid.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        text, location = sentence(error, partial(_fields_beside, kind))
        if path is None:
            raise InputError(text) from None
        line = _line(path, (*under, *location))
        place = "".join(f"{part}: " for part in under)
        raise InputError(f"{path}{f':{line}' if line else ''}: {place}{text}") from None
    except RecursionError:
        raise InputError(f"{path or kind.__name__}: is nested too deeply") from None
