"""The names that people type for training software: which stack each means, and what to say of one that means none."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hardware.errors import InputError, nearest, shown
from hardware.reading import build, read_mapping
from hardware.sheet import Name, Seen, Sheet, Words
from simulator.specs.choices import Sharding
from simulator.specs.naming import squeezed

_STACKS = Path(__file__).parents[1] / "stacks"
_MOST = 3
"""Stacks that are proposed."""
_LIST = "capsim catalogue stacks lists all, with their other names"


class SoftwareName(Sheet):
    """A further name of a stack."""

    stack: Name | dict[str, Name]
    """The stack that prices it; by kind of device where that decides."""
    because: Words
    """Why that stack does."""
    sharding: Sharding | None = None
    """What replicas share, where the name says so."""
    launch: Name | None = None
    """The framework whose launch file starts it, of those that capsim writes."""
    source: Words
    """Repository and file, or release, that say so."""
    seen: Seen
    """How that was seen."""

    @property
    def stacks(self) -> dict[str, str]:
        """The stack by kind of device; one that is for any stands under an empty word."""
        return {"": self.stack} if isinstance(self.stack, str) else dict(self.stack)

    def on(self, platform: str | None) -> str:
        """The stack on a kind of device; the first where no kind is given, or where it has none for it."""
        return self.stacks.get(platform or "", next(iter(self.stacks.values())))


class _Unpriced(Sheet):
    """Software that no stack prices."""

    says: Words
    """What it does instead, as a clause after its name, with what to name."""
    software: tuple[str, ...]
    """Its names."""


class _Names(Sheet):
    """All names."""

    names: dict[str, SoftwareName]
    """Further names of stacks."""
    several: dict[str, tuple[Name, ...]]
    """Words that mean several stacks, the likeliest first."""
    unpriced: dict[str, _Unpriced]
    """Software that no stack prices, by kind."""


@cache
def _read() -> _Names:
    path = Path(__file__).with_name("names.yaml")
    return build(_Names, read_mapping(path), path=path)


def further_names() -> Mapping[str, SoftwareName]:
    """What people type beside the names of stacks, and the stack that each means.

    >>> further_names()["trl"].on("gpu")
    'huggingface'
    """
    return _read().names


@cache
def _by_squeezed() -> dict[str, str]:
    """Names as they are written in the list, by what remains of them."""
    return {squeezed(name): name for name in further_names()}


@cache
def _own() -> dict[str, str]:
    """Stacks by what remains of their names."""
    return {squeezed(path.stem): path.stem for path in sorted(_STACKS.glob("*.yaml"))}


def software_named(name: Any) -> tuple[str, SoftwareName] | None:
    """A further name of a stack as the list writes it, and what it says; None for a stack's own name and for no stack.

    >>> software_named("LLaMA Factory")[0], software_named("megatron-lm")
    ('llama-factory', None)
    """
    word = squeezed(name) if isinstance(name, str) else ""
    known = _by_squeezed().get(word) if word not in _own() else None
    return None if known is None else (known, further_names()[known])


def stack_meant(name: str, platform: str | None = None) -> str | None:
    """The stack that a name means, however it is written; None for no stack.

    Parameters
    ----------
    name
        What somebody typed.
    platform
        The kind of device that it is for, where a name means one stack on GPUs and another on TPUs.

    >>> stack_meant("Megatron_LM"), stack_meant("FSDP2"), stack_meant("maxtext", "tpu"), stack_meant("vllm")
    ('megatron-lm', 'pytorch-fsdp', 'maxtext-tpu', None)
    """
    own = _own().get(squeezed(name))
    software = software_named(name)
    return own if software is None else software[1].on(platform)


def further_names_of(stack: str) -> dict[str, SoftwareName]:
    """Further names of a stack, in the order of the list.

    >>> list(further_names_of("pytorch-ddp"))[0]
    'ddp'
    """
    return {name: software for name, software in further_names().items() if stack in software.stacks.values()}


def no_stack(name: str) -> InputError:
    """The error for a name that means no stack: what it is where that is known, else what is named or written alike."""
    word = squeezed(name)
    for kind in _read().unpriced.values():
        if word in map(squeezed, kind.software):
            return InputError(f"stack={shown(name)}: {name} {kind.says}; {_LIST}")
    meant = next((stacks for several, stacks in _read().several.items() if squeezed(several) == word), ())
    if meant:
        return InputError(f"stack={shown(name)} may mean {' or '.join(meant)}; name one of them")
    close = _alike(name)
    if close:
        return InputError(f"unknown stack {shown(name)}; did you mean {' or '.join(close)}? {_LIST}")
    return InputError(f"unknown stack {shown(name)}; {_LIST}")


def _alike(name: str) -> list[str]:
    """Stacks and other names that share a word with a name, those that share most first, or else are written alike."""
    every = [*_own().values(), *further_names()]
    words = _words(name)
    shared = [other for other in every if words & _words(other)]
    if shared:
        return sorted(shared, key=lambda other: -_likeness(name, other))[:_MOST]
    return [other for other in nearest(name, every, most=_MOST) if _likeness(name, other) >= _ALIKE]


def _words(name: str) -> frozenset[str]:
    """The words of a name, without numbers and without what many names share."""
    parts = (part.strip(".") for part in name.lower().replace("_", "-").replace(" ", "-").split("-"))
    return frozenset(part for part in parts if part and not part.replace(".", "").isdigit()) - _COMMON


_COMMON = {"lm", "gpu", "tpu", "ai", "llm", "train", "training", "framework", "core"}


def _likeness(name: str, other: str) -> float:
    """How alike two names are written, 1 where one holds the other."""
    from difflib import SequenceMatcher  # only errors need it

    one, two = squeezed(name), squeezed(other)
    return 1.0 if one and one in two else SequenceMatcher(None, one, two).ratio()


_ALIKE = 0.72
"""Of names that are worth a suggestion: torchtitan and torch-compile, which share letters alone, are less so."""
