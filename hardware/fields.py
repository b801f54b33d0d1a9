"""What the fields of a sheet say of themselves besides their type: the unit of a number, and other spellings.

What a field means stands in the docstring below it, which `hardware.schema` reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo

from hardware.quantity import Quantity

PHYSICAL = {
    "1": "a ratio without dimension",
    "s": "seconds",
    "B": "bytes",
    "GiB": "2^30 bytes",
    "B/s": "bytes a second",
    "FLOP/s": "floating-point operations a second",
    "TFLOP/s": "10^12 floating-point operations a second",
    "OP/s": "integer operations a second",
    "W": "watts",
    "Hz": "cycles a second",
    "1/s": "events a second",
    "USD": "US dollars",
    "USD/s": "US dollars a second",
    "USD/h": "US dollars an hour",
    "USD/J": "US dollars a joule",
    "kgCO2e/J": "kilograms of CO2 equivalent a joule",
    "s/sqrt(B)": "seconds by the root of a number of bytes",
    "token/s": "tokens a second",
    "sequence/s": "sequences a second",
    "1e9 parameter": "billions of parameters",
}
"""Units of what is measured, and how each is read."""
COUNTED = (
    *("device", "slice", "link", "core", "processor", "rank", "stage", "kernel"),
    *("layer", "head", "element", "row", "norm", "label", "expert", "parameter", "copy", "pass"),
    *("token", "position", "sequence", "step", "micro-batch", "measurement", "version"),
)
"""What numbers of things count."""
BESIDE = "unit"
"""The unit of a number whose unit another field tells."""


class Unit(NamedTuple):
    """Annotation of a number with its unit: ``Annotated[float, Field(ge=0), Unit("s")]``.

    Parameters
    ----------
    name
        One of `PHYSICAL`, or one thing of those that are counted, out of `COUNTED`. The last of several units of one
        annotation counts.
    """

    name: str


class Also(NamedTuple):
    """Annotation of a field that a file may spell in another way than its type says.

    Parameters
    ----------
    kind
        The type of the other spelling.
    words
        What it means there.
    """

    kind: type[str] | type[float]
    words: str


def marks(annotation: Any) -> Iterator[Any]:
    """Every annotation of a type and of the types inside it, those that are nearest to the field last."""
    for part in get_args(annotation):
        if get_origin(annotation) is not Annotated or part is get_args(annotation)[0]:
            yield from marks(part)
    if get_origin(annotation) is Annotated:
        yield from annotation.__metadata__


def marks_of(field: FieldInfo) -> list[Any]:
    """Every annotation of a field, those of the field itself last."""
    return [*marks(field.annotation), *field.metadata]


def unit_of(field: FieldInfo) -> str | None:
    """The unit of a field's number, or that in which its quantity is held; nothing where it has none.

    >>> from hardware.spec import DeviceMemory, Link
    >>> unit_of(DeviceMemory.model_fields["bandwidth"]), unit_of(Link.model_fields["shared_by"])
    ('B/s', 'device')
    """
    units = [mark.name if isinstance(mark, Unit) else mark.unit for mark in marks_of(field) if _has_unit(mark)]
    return units[-1] if units else None


def _has_unit(mark: Any) -> bool:
    """Whether an annotation tells a unit."""
    return isinstance(mark, Unit | Quantity)
