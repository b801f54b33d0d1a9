"""Which stack stands for a framework, of those that there are, and what frameworks call models."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from hardware.reading import read_mapping
from simulator.specs.loading import names

_STACKS = {
    "megatron-lm": ("megatron-lm",),
    "megatron-bridge": ("megatron-bridge", "nemo"),
    "deepspeed": ("deepspeed",),
    "torchtitan": ("torchtitan",),
    "torchtitan-0.3": ("torchtitan",),
    "accelerate": ("huggingface",),
    "axolotl": ("axolotl", "huggingface"),
    "llama-factory": ("llama-factory", "huggingface"),
    "nanotron": ("nanotron",),
    "maxtext": ("maxtext-gpu",),
    "litgpt": ("litgpt",),
    "nemo": ("nemo",),
    "meta": ("pytorch-fsdp",),
}
"""The likeliest first."""


def stack_of(framework: str) -> str:
    """The stack that stands for a framework.

    >>> stack_of("deepspeed")
    'deepspeed'
    """
    known = set(names("stacks"))
    return next(name for name in _STACKS[framework] if name in known)


@cache
def names_of(framework: str) -> dict[str, tuple[str, ...]]:
    """Names of models in a framework, or at the Hugging Face hub, by those of the catalogue; the usual one first.

    >>> names_of("hub")["llama-2-7b"][0]
    'meta-llama/Llama-2-7b-hf'
    """
    document = read_mapping(Path(__file__).parent / "names" / f"{framework}.yaml")
    return {model: tuple(words) for model, words in document.items()}


def model_named(framework: str, word: str) -> str | None:
    """A model of the catalogue by its name in a framework, in whatever case; none where it has none.

    >>> model_named("hub", "NousResearch/Llama-2-7b-hf"), model_named("hub", "mine")
    ('llama-2-7b', None)
    """
    asked = word.lower()
    every = ((model, name) for model, names_ in names_of(framework).items() for name in names_)
    return next((model for model, name in every if name.lower() == asked), None)
