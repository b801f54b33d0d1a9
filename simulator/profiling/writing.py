"""Measured profiles as files: plain YAML, a line a shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hardware.measured import MeasuredProfile, Shapes
from hardware.spec import Device
from hardware.writing import write_text, yaml_text


def text_of(profile: MeasuredProfile) -> str:
    """A profile as YAML that `hardware.catalogue.load_profile` reads.

    Examples
    --------
    >>> from hardware.catalogue import load_profile, names
    >>> all(text_of(load_profile(name)).startswith("format: capsim-profile") for name in names("profiles"))
    True
    """
    plain = profile.model_dump(mode="json", exclude_none=True, exclude={"products", "attentions"})
    if isinstance(profile.device, Device):
        plain["device"] = profile.device.written(stated_only=True)
    plain = {name: value for name, value in plain.items() if value not in ({}, [], ())}
    return yaml_text(plain) + _tables("products", profile.products) + _tables("attentions", profile.attentions)


def write(path: Path, profile: MeasuredProfile) -> None:
    """Write a profile, whole or not at all.

    Raises
    ------
    InputError
        Where the file cannot be written.
    """
    write_text(path, text_of(profile))


def _tables(name: str, tables: Any) -> str:
    """Shapes and residuals of each number format."""
    lines = [f"{name}:"] if tables else []
    for precision, shapes in tables.items():
        lines.append(f"  {precision}:")
        lines.append("    sizes:" if shapes.sizes else "    sizes: []")
        lines += [f"    - [{', '.join(map(_short, sizes))}]" for sizes in shapes.sizes]
        lines += _residuals(shapes)
    return "\n".join([*lines, ""]) if lines else ""


def _residuals(shapes: Shapes) -> list[str]:
    """The residuals, twelve in a line."""
    if not shapes.residuals:
        return ["    residuals: []"]
    rows = [shapes.residuals[at : at + 12] for at in range(0, len(shapes.residuals), 12)]
    written = [", ".join(map(_short, row)) for row in rows]
    return ["    residuals:", "      [" + ",\n       ".join(written) + "]"]


def _short(value: float) -> str:
    """A number without a needless point."""
    return str(int(value)) if value == int(value) else repr(value)
