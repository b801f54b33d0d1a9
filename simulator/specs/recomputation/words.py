"""What somebody may say of recomputation, and what of it contradicts itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hardware.errors import nearest, shown
from simulator.specs.choices import MODULES

COMPANIONS = ("recompute_modules", "recompute_layers", "recompute_method")
"""Fields of a plan that say more of `recompute`, and go where it changes."""


def read_modules(value: object) -> object:
    """Modules from a list, or from names with commas.

    Raises
    ------
    ValueError
        With a name that is none, or that stands there twice.
    """
    names: Any = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if names is None or not isinstance(names, list | tuple):
        return names
    for name in names:
        if str(name) not in MODULES:
            close = nearest(str(name), MODULES)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise ValueError(f"unknown module {shown(name)}; {hint}valid: {', '.join(MODULES)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{shown(','.join(map(str, names)))} must name modules once each, such as core_attn,mlp")
    return tuple(names)


def with_implied(value: Any) -> Any:
    """What somebody said of a plan: modules imply selective recomputation, numbers of layers full recomputation."""
    if not isinstance(value, Mapping) or value.get("recompute") is not None:
        return value
    modules, layers = (value.get(name) is not None for name in COMPANIONS[:2])
    return {**value, "recompute": "selective" if modules else "full"} if modules or layers else value


def contradiction(
    recompute: str | None, modules: Sequence[str] | None, layers: int | None, method: str | None
) -> str | None:
    """Why these do not go together, or nothing.

    >>> contradiction("none", None, 4, "block")
    'recompute_layers=4 belongs to recompute=full, not to recompute=none'
    """
    words = recompute or "left open"
    if modules is not None and recompute != "selective":
        return f"recompute_modules={','.join(modules)} belongs to recompute=selective, not to recompute={words}"
    if layers is not None and recompute != "full":
        return f"recompute_layers={layers} belongs to recompute=full, not to recompute={words}"
    if layers is not None and method is None:
        return f"recompute_layers={layers} needs recompute_method, what it counts: every, block or uniform"
    if method is not None and layers is None:
        return f"recompute_method={method} needs recompute_layers, how many layers"
    return None


def in_words(plan: Mapping[str, Any]) -> str:
    """What a plan recomputes, in a few words without blanks.

    >>> in_words({"recompute": "full", "recompute_method": "every", "recompute_layers": 2})
    'full/every-2'
    >>> in_words({"recompute": "selective", "recompute_modules": ["core_attn", "mlp"]}), in_words({"recompute": "none"})
    ('selective/core_attn+mlp', 'none')
    """
    modules, method = plan.get("recompute_modules"), plan.get("recompute_method")
    more = "+".join(modules) if modules else f"{method}-{plan.get('recompute_layers')}" if method else ""
    return f"{plan['recompute']}/{more}" if more else str(plan["recompute"])
