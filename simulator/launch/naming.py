"""Which stack stands for a framework, of those that there are."""

from __future__ import annotations

from simulator.specs.loading import names

_STACKS = {
    "megatron-lm": ("megatron-lm",),
    "deepspeed": ("deepspeed",),
    "torchtitan": ("torchtitan", "pytorch-fsdp-compiled", "pytorch-fsdp"),
    "accelerate": ("huggingface",),
    "axolotl": ("axolotl", "huggingface"),
    "llama-factory": ("llama-factory", "huggingface"),
    "nanotron": ("nanotron",),
    "maxtext": ("maxtext", "jax-xla-gpu"),
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
