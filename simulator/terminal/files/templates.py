"""Files to begin with: every field with its meaning and unit, filled with what an entry of the catalogue has."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from hardware import schema
from hardware.errors import InputError, shown, unknown
from hardware.quantity import EXAMPLES
from hardware.sheet import NAME
from hardware.writing import yaml_value
from simulator.terminal.files.examples import Document, Examples, examples_of
from simulator.terminal.files.kinds import FileKind, form_of, kinds_inside, names_sources, quantities, refs_of, sections
from simulator.terminal.files.tables import SOURCED, with_article

_WIDTH, _LONGEST = 98, 80
"""Characters of the words of a comment, and of a name."""
_OWN = ("note", "published_parameters", "published_parameters_tolerance", "price", "timed_as", "collection")
"""Fields that tell of an entry itself, and would be wrong of another."""
_LEFT_OUT = ("id", "collection")
"""Fields that the place of an entry tells where it does not itself."""
_SAID: dict[str, Any] = {
    "note": "what a reader should know",
    "expert_feed_forward_size": 1408,
    "refuses": [
        {"when": "pp > 1 and sharding == 'zero3'", "sentence": "sharding=zero3 needs pp=1", "source": "its code"}
    ],
}
"""Examples where those of other entries would be out of place, or there are none."""


@dataclass(frozen=True)
class Template:
    """A file to begin with."""

    text: str
    use: str
    """The command that uses it."""


def template(kind: FileKind, name: str, *, like: str | None = None, file: str | None = None) -> Template:
    """A file of a kind, commented, that can be read as it is.

    Parameters
    ----------
    kind
        One of those in `simulator.terminal.files.examples.WORDS`.
    name
        The word that names what it describes.
    like
        The entry of the catalogue whose values it has; a usual one unless given.
    file
        Name of the file, for the command that uses it.

    Raises
    ------
    InputError
        Where there is no such file to begin with, no such entry, or the name is no word.

    Examples
    --------
    >>> from simulator.terminal.files.kinds import kind_of
    >>> begun = template(kind_of("device"), "mine")
    >>> begun.use, [line for line in begun.text.splitlines() if line.startswith("processors")]
    ('capsim estimate bert-large --system mine.yaml', ['processors: 108'])
    """
    examples = examples_of(kind)
    _check_name(name)
    entry = _entry(kind, examples, like)
    example, whole = examples.load(entry), schema.of(kind.sheet, sourced=False)
    use = examples.use(example).format(file=file or f"{name}.yaml")
    writer = _Writer(kind, whole.get("$defs", {}), ({"timed_as": entry}, *examples.documents()))
    body = list(writer.fields(whole, _renamed(kind, name, entry, example)))
    if kind.form != "sheet":
        body = ["-" if kind.form == "list" else f"{yaml_value(name)}:", *_indented(body)]
    return Template("\n".join([*_head(kind, entry, use), *body, ""]), use)


def _entry(kind: FileKind, examples: Examples, like: str | None) -> str:
    """The entry whose values a file has."""
    if like is None:
        return examples.usual()
    known = examples.names()
    known_name = next((name for name in (like, like.lower()) if name in known), None)
    if known_name is None:
        raise unknown(f"entry of {kind.word}", like, known)
    return known_name


def _check_name(name: str) -> None:
    """Refuse what cannot name an entry."""
    if re.fullmatch(NAME, name) is None or len(name) > _LONGEST or name.endswith((".yaml", ".yml", ".json")):
        raise InputError(
            f"name={shown(name)}: must be a word of lower-case letters, digits and . + -, a letter or digit first, "
            f"of at most {_LONGEST} characters and without the ending of a file; -o says where the file is written"
        )


def _renamed(kind: FileKind, name: str, entry: str, document: Document) -> Document:
    """What an entry says, under another name and without what it says of itself."""
    kept = _without_own(document)
    if kind.form == "offers":
        return {field: value for field, value in kept.items() if field != "id"}
    if kind.word in ("model", "stack"):
        kept["source"] = f"as {entry} of the catalogue"
    named = {"title": name} if kind.word == "scenario" else {"id": name}
    return {**kept, **named, **({"name": name} if kind.named else {})}


def _without_own(document: Document) -> Document:
    """A document without what it says of itself."""
    kept = {field: value for field, value in document.items() if field not in _OWN}
    return {field: _without_own(value) if isinstance(value, dict) else value for field, value in kept.items()}


def _head(kind: FileKind, entry: str, use: str) -> Iterator[str]:
    """What a file begins with."""
    yield from _comment(f"{kind.word}: {kind.title}. Use it with")
    yield f"#   {use}"
    yield from _comment(f"The values are those of {entry} in capsim's catalogue, as an example: put in your own.")
    yield from _comment(
        "A field behind # may be left out, and then what its sentence or its value says holds; take the # away to "
        f"give it. All fields: capsim schema {kind.word}"
    )
    for dimension, (example, units) in quantities(sections(kind)).items():
        yield from _comment(f"{with_article(dimension)} is written like {example}; units: {', '.join(units)}.")
    if names_sources(kind):
        yield from _comment(f"{SOURCED}.")


@dataclass(frozen=True)
class _Writer:
    """Writes sheets field by field."""

    kind: FileKind
    sheets: dict[str, Any]
    """JSON Schema of the sheets inside the file, by name."""
    others: Sequence[Document]
    """Where values come from that the example does not have."""

    def fields(self, sheet: Document, document: Document, place: tuple[str, ...] = ()) -> Iterator[str]:
        """Every field of a sheet: those of a document, and the others behind #."""
        for field, part in sheet["properties"].items():
            if field not in document and field in _LEFT_OUT:
                continue
            yield from [] if place else [""]
            yield from _comment(self.said(part), depth=len(place))
            here = (*place, field)
            if field in document:
                yield from self.field(part, document[field], here)
            else:
                yield from (f"#{line}" for line in self.field(part, self.example(here, part), here))

    def field(self, part: Document, value: Any, place: tuple[str, ...]) -> Iterator[str]:
        """One field with its value, and the fields of a sheet inside it."""
        inner = next((self.sheets[name] for name in refs_of(part)), None)
        if inner is not None and value and isinstance(value, list) and all(isinstance(each, dict) for each in value):
            yield f"{place[-1]}:"
            for each in value:
                yield from _indented(["-", *_indented(self.fields(inner, each, place))])
        elif inner is None or not isinstance(value, dict):
            yield f"{place[-1]}: {yaml_value(value)}"
        else:
            yield f"{place[-1]}:"
            yield from _indented(self.fields(inner, value, place))

    def said(self, part: Document) -> str:
        """The comment above a field: meaning, type and unit."""
        form, unit = form_of(part, kinds_inside(self.kind)), part.get(schema.UNIT)
        told = "" if form in ("text", "fields below") else form
        if unit is not None and schema.DIMENSION not in part and "with unit" not in form:
            told += ", without dimension" if unit == "1" else f", unit: {unit}"
        return f"{part['description']} [{told}]" if told else str(part["description"])

    def example(self, place: tuple[str, ...], part: Document) -> Any:
        """A value for a field: what holds by default, what another entry has, or anything that is valid."""
        default = part.get("default")
        if default not in (None, [], "") and not isinstance(default, dict):
            return default
        if place[-1] in _SAID:
            return _SAID[place[-1]]
        there = (_at(document, place) for document in self.others)
        elsewhere = (value for document in self.others for value in _anywhere(document, place[-1]))
        values = (value for value in chain(there, elsewhere) if value not in (None, [], {}, ""))
        return next(values, _any(part))


def _anywhere(document: Any, field: str) -> Iterator[Any]:
    """What the sheets inside a document have in a field."""
    for inner in document.values():
        if isinstance(inner, dict):
            yield inner.get(field)
            yield from _anywhere(inner, field)


def _at(document: Any, place: Sequence[str]) -> Any:
    """What a document has at a place; nothing where it has no such place."""
    for part in place:
        document = document.get(part) if isinstance(document, dict) else None
    return document


def _any(part: Document) -> Any:
    """A value that is valid, where no entry has one."""
    if "anyOf" in part:
        return _any(part["anyOf"][0])
    if "items" in part:
        return [_any(part["items"])]
    if "enum" in part:
        return part["enum"][0]
    if schema.DIMENSION in part:
        return EXAMPLES[part[schema.DIMENSION]]
    if part.get("type") in ("integer", "number"):
        return max(part.get("minimum", 1), 1)
    return True if part.get("type") == "boolean" else "..."


def _comment(words: str, *, depth: int = 0) -> list[str]:
    """A sentence behind #, shorter where it stands inside of so many sheets."""
    width = _WIDTH - 2 * max(depth - 1, 0)
    return [f"# {line}" for line in textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)]


def _indented(lines: Iterable[str]) -> Iterator[str]:
    """Lines one level further in."""
    return (f"  {line}" if line else "" for line in lines)
