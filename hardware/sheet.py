"""Sheets of figures: frozen, no unknown fields, each figure with its source.

A figure in a file is written ``{value: 312 TFLOP/s, source: [nvidia-a100-blog], seen: primary, note: ...}``, or
plainly ``312 TFLOP/s`` where the writer names no source. In code it is a float in SI, and `Sheet.provenance` tells
where it came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticKnownError

from hardware.amounts import read_number
from hardware.fields import Unit

Seen = Literal["primary", "secondary", "derived", "recalled", "unstated"]
"""How a figure was seen: in the vendor's or author's own text, in a quotation of it, by arithmetic on such figures,
from memory only, or without any statement."""


def _not_a_flag(value: Any) -> Any:
    """Refuse true and false where a number is meant: Python would take them for 1 and 0. Text is read, as 780B is."""
    if isinstance(value, bool):
        raise PydanticKnownError("float_type")
    read = read_number(value) if isinstance(value, str) else None
    return value if read is None else read


NO_FLAG = BeforeValidator(_not_a_flag)
Count = Annotated[int, Field(ge=1, le=10_000_000), NO_FLAG]
Fraction = Annotated[float, Field(ge=1e-6, le=1, allow_inf_nan=False), NO_FLAG, Unit("1")]
Positive = Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False), NO_FLAG]
NotNegative = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False), NO_FLAG]
Ratio = Annotated[Positive, Unit("1")]
NAME = r"^[a-z0-9][a-z0-9.+-]*$"
Name = Annotated[str, Field(pattern=NAME, max_length=80)]
Words = Annotated[str, Field(min_length=1, max_length=600)]


class Provenance(BaseModel):
    """Where one figure comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: tuple[str, ...] = ()
    """Where the figure comes from: keys of sources.yaml, or citations in words."""
    seen: Seen = "unstated"
    """How the figure was seen: in the author's own text, in a quotation of it, by arithmetic on such figures, or from
    memory only."""
    note: Words | None = None
    """Anything a reader should know of the figure."""


def _provenance(name: str, fields: dict[str, Any]) -> Provenance:
    """Validate the source of a figure; an error names the figure."""
    try:
        return Provenance.model_validate(fields)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        inside = InitErrorDetails(
            type=problem["type"], loc=(name, *problem["loc"]), input=problem["input"], ctx=problem.get("ctx", {})
        )
        raise ValidationError.from_exception_data("Provenance", [inside]) from None


class Sheet(BaseModel):
    """A table of figures that remembers the source of each."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    _provenance: dict[str, Provenance] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _unwrap(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Take value and source of each figure apart."""
        if not isinstance(data, Mapping):
            return handler(data)
        plain: dict[str, Any] = {}
        provenance: dict[str, Provenance] = {}
        for name, figure in data.items():
            if isinstance(figure, Mapping) and "value" in figure:
                plain[name] = figure["value"]
                provenance[name] = _provenance(name, {key: figure[key] for key in figure if key != "value"})
            else:
                plain[name] = figure
        sheet = handler(plain)
        sheet._provenance.update(provenance)
        return sheet

    @property
    def provenance(self) -> Mapping[str, Provenance]:
        """The source of each figure that names one, by field."""
        return self._provenance

    def figures(self, prefix: str = "") -> Iterator[tuple[str, Any, Provenance | None]]:
        """Walk over every figure below this sheet: dotted name, value, source."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Sheet):
                yield from value.figures(f"{prefix}{name}.")
            elif isinstance(value, dict) and value and all(isinstance(part, Sheet) for part in value.values()):
                for key, part in value.items():
                    yield from part.figures(f"{prefix}{name}.{key}.")
            else:
                yield f"{prefix}{name}", value, self._provenance.get(name)

    def written(self, *, stated_only: bool = False) -> dict[str, Any]:
        """The sheet as a file holds it: quantities with their unit, and each figure with its source, if it names one.

        Parameters
        ----------
        given
            Whether to leave out what has its value by default.
        """
        plain = self.model_dump(mode="json", exclude_unset=stated_only)
        document = {
            name: _as_written(getattr(self, name), part, stated_only=stated_only) for name, part in plain.items()
        }
        for name in self._provenance.keys() & document.keys():
            source = self._provenance[name].model_dump(mode="json", exclude_defaults=True)
            document[name] = {"value": document[name], **source}
        return document

    def shown(self, prefix: str = "") -> dict[str, Any]:
        """The figures as `figures` names them, quantities with their unit."""
        written = self.model_dump(mode="json")
        return {name: _at(written, name.removeprefix(prefix)) for name, _, _ in self.figures(prefix)}


def _as_written(value: Any, plain: Any, *, stated_only: bool) -> Any:
    """A value as a file holds it, with the sources of the sheets inside it."""
    if isinstance(value, Sheet):
        return value.written(stated_only=stated_only)
    if isinstance(value, dict):
        parts = zip(plain.items(), value.values(), strict=True)
        return {key: _as_written(part, told, stated_only=stated_only) for (key, told), part in parts}
    if isinstance(value, tuple):
        return [_as_written(part, told, stated_only=stated_only) for part, told in zip(value, plain, strict=True)]
    return plain


def _at(written: Any, dotted: str) -> Any:
    """The value at a dotted name of nested dictionaries."""
    for part in dotted.split("."):
        written = written[part]
    return written
