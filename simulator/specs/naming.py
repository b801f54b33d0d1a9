"""The names that people type for the models of the catalogue, and what they may mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from hardware.errors import nearest
from hardware.reading import read_mapping

_ROOT = Path(__file__).parent


@cache
def aliases() -> dict[str, tuple[str, ...]]:
    """Further names of models by the name of their file: those of the hub, and short ones.

    >>> "meta-llama/Llama-3.1-8B" in aliases()["llama-3.1-8b"]
    True
    """
    return {str(known): tuple(more) for known, more in read_mapping(_ROOT / "aliases.yaml").items()}


@cache
def _ids() -> dict[str, str]:
    """The model that a name means, by what remains of it; a model's own name comes before the alias of another."""
    known = sorted(path.stem for path in (_ROOT / "models").glob("*.yaml"))
    named = [(alias, name) for name in known for alias in aliases().get(name, ())]
    return {squeezed(alias): name for alias, name in (*reversed(named), *((name, name) for name in known))}


def squeezed(name: str) -> str:
    """Letters, digits, dots and the slash after an owner: what remains of a name however people write it.

    >>> squeezed("Llama 3.1-8B") == squeezed("llama3.1_8b") != squeezed("llama-31-8b")
    True
    """
    return re.sub(r"[^a-z0-9./]+", "", name.lower())


def model_named(name: str) -> str | None:
    """The model of the catalogue that a name or an alias means, however it is written; None for no model.

    >>> model_named("Meta-Llama-3.1-8B"), model_named("llama3.1-8b"), model_named("no-such-model")
    ('llama-3.1-8b', 'llama-3.1-8b', None)
    """
    return _ids().get(squeezed(name))


def names_of(model: str) -> tuple[str, ...]:
    """A model's own name and its aliases."""
    return (model, *aliases().get(model, ()))


def best_first(text: str, models: Sequence[str]) -> list[str]:
    """Models that a text may mean, best match first: a name in full, one that begins so, one that holds all words.

    Parameters
    ----------
    text
        What somebody typed.
    models
        To choose from.

    >>> best_first("llama-3.1-8b", ["llama-3.1-405b", "llama-3.1-8b", "bert-base"])
    ['llama-3.1-8b']
    """
    words = [word for word in map(squeezed, text.split()) if word]
    if not words:
        return []
    ranked = {model: _rank(text, words, model) for model in models}
    meant = [model for model in models if ranked[model] is not None]
    return sorted(meant, key=lambda model: (ranked[model] or (), model))


def _rank(text: str, words: Sequence[str], model: str) -> tuple[int, int] | None:
    """How well a text fits a model's names, the lower the better; None where it does not."""
    written = [form for name in names_of(model) for form in dict.fromkeys((name, name.rpartition("/")[2]))]
    whole, names, parts = squeezed(text), [squeezed(name) for name in written], _parts(text)
    fits = (
        [name for name in names if name == whole],
        [name for name, form in zip(names, written, strict=True) if _parts(form)[: len(parts)] == parts],
        [name for name in names if name.startswith(whole)],
        [name for name in names if all(word in name for word in words)],
    )
    return next(((place, min(map(len, some))) for place, some in enumerate(fits) if some), None)


def _parts(name: str) -> list[str]:
    """What hyphens, underscores and blanks part: "gemma-2" begins "gemma-2-9b", and not "gemma-2b"."""
    return [part for part in re.split(r"[-_\s]+", name.lower()) if part]


def suggestions(name: str, models: Sequence[str]) -> list[str]:
    """What to propose for a name that means no model: what it may mean, or else what is written alike."""
    meant = best_first(name, models)
    return meant[:3] if meant else nearest(name, models)
