"""Iterations of a serving engine: prompts, or chunks of them, and sequences that get one more token, in one batch."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.formulas.typing import Num
from simulator.specs.columns import Columns


@dataclass(frozen=True)
class Iterations(Columns):
    """One forward pass of a model that generates, as numbers.

    Attention is told apart, prompts from single tokens; everything else runs over all tokens at once. Behind an encoder
    prompts are the encoder's input, and every sequence of the decoder gets one token, the first one too.
    """

    prompts: Num
    """Sequences of whose prompt a part is read [sequence]."""
    prompt_tokens: Num
    """New tokens of each of them [token]."""
    cached: Num
    """Tokens of each that are in the cache already [token]."""
    decodes: Num
    """Sequences that get one more token [sequence]."""
    context: Num
    """Tokens that each of these attends to in the mean, its own among them [token]."""
    encoded: Num
    """Tokens of the encoder's output that each of them attends to, of a decoder behind one [token]."""
    sampled: Num
    """Sequences of which a token is chosen in the end [sequence]."""
    cache_bytes: Num
    """Of an element of the cache, with its share of a scale [B]."""
    shares_sequences: Num = 0.0
    """1 where ranks with the same key head hold the cache of some sequences each, 0 where each holds that of all."""
