"""JSON Schema (2020-12) of sheets: types and ranges, with the unit and the meaning of every field.

Meanings are the docstrings below the fields. They are read from the source when somebody asks for a schema, not when a
sheet is defined: to read them there (``use_attribute_docstrings`` of pydantic) takes a tenth of the start of a command.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from hardware.fields import Also, marks_of, unit_of
from hardware.quantity import Quantity, show
from hardware.sheet import Provenance, Sheet

DIALECT = "https://json-schema.org/draft/2020-12/schema"
UNIT, DIMENSION, UNITS = "x-unit", "x-dimension", "x-units"
"""Keys of a field's unit, of the dimension of a quantity and of the units that it may be written with."""
_SOURCE, _FIGURE = "Source", "x-figure"
_SPELLED = {str: "string", float: "number"}


class _Fields(GenerateJsonSchema):
    """Describes each field by the docstring below it and by its unit, and marks figures, which may name a source."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """Leave out titles, which would repeat the names."""
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Add to the schema of a sheet what its fields say of themselves."""
        sheet_schema, kind = super().model_schema(schema), schema["cls"]
        sheet_schema["description"] = summary(kind)
        words = meanings(kind)
        for name, field in kind.model_fields.items():
            plain = sheet_schema["properties"][name]
            if "default" in plain:
                plain["default"] = _spelled(field, plain["default"])
            for other in [mark for mark in marks_of(field) if isinstance(mark, Also)]:
                plain = _either(plain, {"type": _SPELLED[other.kind], "description": other.words})
            if issubclass(kind, Sheet) and "$ref" not in str(plain):
                plain[_FIGURE] = True
            unit = unit_of(field)
            sheet_schema["properties"][name] = plain | {"description": words.get(name)} | ({UNIT: unit} if unit else {})
        return sheet_schema


def _spelled(field: FieldInfo, default: Any) -> Any:
    """A default as a file would spell it: a quantity with its unit."""
    dimension = next((mark.dimension for mark in marks_of(field) if isinstance(mark, Quantity)), None)
    return show(default, dimension) if dimension and isinstance(default, float) else default


def _either(plain: JsonSchemaValue, *others: JsonSchemaValue) -> JsonSchemaValue:
    """One of several ways to write a field; what is said of the field itself stays outside."""
    outside = {name: plain[name] for name in ("default", "description", UNIT) if name in plain}
    inside = {name: part for name, part in plain.items() if name not in outside}
    ways = inside["anyOf"] if list(inside) == ["anyOf"] else [inside]
    return {"anyOf": [*ways, *others], **outside}


def _with_sources(part: Any, *, sourced: bool) -> Any:
    """A schema whose figures may name their source, or may not."""
    if isinstance(part, list):
        return [_with_sources(each, sourced=sourced) for each in part]
    if not isinstance(part, dict):
        return part
    plain = {name: _with_sources(each, sourced=sourced) for name, each in part.items() if name != _FIGURE}
    if not sourced or _FIGURE not in part:
        return plain
    value = {name: each for name, each in plain.items() if name not in ("default", "description", UNIT)}
    figure = {
        "type": "object",
        "$ref": f"#/$defs/{_SOURCE}",
        "properties": {"value": value},
        "required": ["value"],
        "unevaluatedProperties": False,
    }
    return _either(plain, figure)


def of(kind: type[BaseModel], *, sourced: bool = True) -> JsonSchemaValue:
    """The JSON Schema of a sheet, as files spell it.

    Parameters
    ----------
    kind
        The class of the sheet.
    sourced
        Whether figures may name their source, ``{value: 80 GB, source: [...], seen: primary}``, as files may; without
        it the schema is shorter and says the same of values.

    Returns
    -------
    dict
        Every field has a description, and a unit under ``x-unit`` where it is a number or a quantity.

    Examples
    --------
    >>> from hardware.spec import DeviceMemory
    >>> field = of(DeviceMemory, sourced=False)["properties"]["capacity"]
    >>> field["x-unit"], field["description"], field["examples"]
    ('B', 'What the label says.', ['80 GB'])
    """
    document: JsonSchemaValue = _with_sources(kind.model_json_schema(schema_generator=_Fields), sourced=sourced)
    if sourced and f"#/$defs/{_SOURCE}" in str(document):
        source = Provenance.model_json_schema(schema_generator=_Fields)
        del source["additionalProperties"], source["title"]
        document["$defs"] = document.get("$defs", {}) | {_SOURCE: source}
    return document


def meanings(kind: type[BaseModel]) -> dict[str, str]:
    """What each field of a sheet means: the docstring below it, in one paragraph.

    >>> from hardware.spec import Device
    >>> meanings(Device)["clock"]
    'Boost clock.'
    """
    all_words: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if isinstance(base, type) and issubclass(base, BaseModel) and base is not BaseModel:
            all_words |= _docstrings(base.__module__).get(base.__qualname__, {})
    return {name: words for name, words in all_words.items() if name in kind.model_fields}


def summary(kind: type[BaseModel]) -> str:
    """What a sheet is: the first paragraph of its docstring, in one line."""
    return _one_line((inspect.cleandoc(kind.__doc__ or "")).split("\n\n")[0])


@cache
def _docstrings(module: str) -> dict[str, dict[str, str]]:
    """The words below the fields of every class of a module, by class and field."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: dict(_below(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _below(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """The fields of a class that have words below them, with these words."""
    for field, words in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(words, ast.Expr)
            and isinstance(words.value, ast.Constant)
            and isinstance(words.value.value, str)
        ):
            yield field.target.id, _one_line(words.value.value)


def _one_line(words: str) -> str:
    """Words without their line breaks."""
    return " ".join(words.split())
