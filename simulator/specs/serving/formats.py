"""Formats of stored weights and of caches of keys and values."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hardware.classes import Precision
from hardware.errors import unknown
from hardware.fields import Unit
from hardware.reading import build, read_mapping
from hardware.sheet import NotNegative, Positive, Seen, Sheet, Words

_FILE = Path(__file__).with_name("formats.yaml")
ProductFormat = Precision | Literal["int8"]
"""Formats in which products run: those of training, and whole numbers of 8 bits."""
FormatKind = Literal["weights", "kv_cache"]
FormatName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=40)]


class StoredFormat(Sheet):
    """How numbers are stored for inference."""

    id: FormatName
    """The word that names the format."""
    bits: Annotated[Positive, Unit("1")]
    """Bits of an element, with its share of scales and zero points."""
    product: ProductFormat | None = None
    """Format in which products of such weights run where the device has units for it; 16 bits unless given."""
    unpacking: Annotated[NotNegative, Unit("1")] = 0.0
    """What the way of a weight to another format of products costs, as arithmetic at the rate of products."""
    covers: Literal["products", "all"] = "products"
    """Whether embedding, vocabulary head and router are stored so too, or only what else is multiplied."""
    source: Words
    """Where the figures come from."""
    seen: Seen = "unstated"
    """How they were seen."""

    @property
    def bytes(self) -> float:
        """Of an element [B]."""
        return self.bits / 8.0


@cache
def formats(kind: FormatKind) -> dict[str, StoredFormat]:
    """All formats of weights, or of caches, by name."""
    document = read_mapping(_FILE)
    return {name: build(StoredFormat, {"id": name, **fields}, path=_FILE) for name, fields in document[kind].items()}


def format_named(kind: FormatKind, name: str) -> StoredFormat:
    """A format by its name.

    Raises
    ------
    InputError
        For another word, with those that are known.

    Examples
    --------
    >>> format_named("weights", "int4").bytes, format_named("kv_cache", "fp8").bytes
    (0.53125, 1.0)
    """
    known = formats(kind).get(str(name).lower())
    if known is None:
        raise unknown(kind, str(name), list(formats(kind)), fields=[f"plan.{kind}"])
    return known
