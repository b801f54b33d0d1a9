"""How an engine schedules: what it lets in, what it does first, and what it has for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hardware.errors import InputError

MOST_DRAFTED = 64


@dataclass(frozen=True)
class Speculation:
    """Speculative decoding: a draft proposes tokens, the model takes the first ones that it would have written.

    Parameters
    ----------
    length
        Tokens that the draft proposes for each iteration [token].
    acceptance
        Probability that one of them is accepted, if those before it were [1].
    draft_time
        Time that the draft takes for each of its tokens [s].

    Raises
    ------
    InputError
        Where the length is not 1 to 64, or the acceptance no probability.
    """

    length: int
    acceptance: float
    draft_time: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.length <= MOST_DRAFTED:
            raise InputError(f"draft length {self.length} must be 1 to {MOST_DRAFTED} tokens")
        if not 0.0 <= self.acceptance <= 1.0:
            raise InputError(f"acceptance rate {self.acceptance:g} must be from 0 to 1")
        if not 0.0 <= self.draft_time < np.inf:
            raise InputError(f"time of the draft {self.draft_time:g} must be a number of seconds")

    @property
    def tokens(self) -> float:
        """Tokens that one iteration yields, in the mean [token].

        (1 - a^(n + 1)) / (1 - a) for n drafted tokens and the acceptance a (Leviathan, Kalman and Matias, Fast
        inference from transformers via speculative decoding, 2023, equation 1).

        >>> round(Speculation(4, 0.8).tokens, 3), Speculation(3, 1.0).tokens
        (3.362, 4.0)
        """
        return float(sum(self.acceptance**place for place in range(self.length + 1)))


@dataclass(frozen=True)
class Policy:
    """A scheduler and what it has.

    Parameters
    ----------
    kv_tokens
        Tokens whose keys and values fit, in whole blocks [token].
    most_sequences
        Sequences at most that are worked on at a time [sequence].
    token_budget
        Tokens of an iteration at most, of prompts and of decoding sequences together [token].
    chunked
        Whether prompts are cut to the budget and share iterations with decoding; else prompts go first, on their own.
    block
        Tokens of a block of the cache [token].
    reserves_all
        Whether a request is let in only where its whole output fits too, and is never put out again.
    prefix_hits
        Share of each prompt whose keys and values are there already [1]; they are counted as held, since requests that
        share one may come at other times.
    speculation
        Drafted tokens, where there are any.

    Raises
    ------
    InputError
        Where a limit is not positive or the share of hits is not from 0 to 1.
    """

    kv_tokens: float
    most_sequences: int = 256
    token_budget: int = 8192
    chunked: bool = True
    block: int = 16
    reserves_all: bool = False
    prefix_hits: float = 0.0
    speculation: Speculation | None = None

    def __post_init__(self) -> None:
        for name in ("kv_tokens", "most_sequences", "token_budget", "block"):
            if not 1 <= getattr(self, name) < np.inf:
                raise InputError(f"{name} {getattr(self, name):g} must be a number of 1 and more")
        if not 0.0 <= self.prefix_hits < 1.0:
            raise InputError(f"prefix-cache hit rate {self.prefix_hits:g} must be from 0 to less than 1")

    @property
    def tokens_a_step(self) -> float:
        """Tokens that a decoding sequence gets in an iteration, in the mean [token]."""
        return 1.0 if self.speculation is None else self.speculation.tokens

    @property
    def slots_a_step(self) -> int:
        """Tokens that a decoding sequence computes in an iteration [token]."""
        return 1 if self.speculation is None else 1 + self.speculation.length

    def held(self, tokens: float, sequences: float) -> float:
        """Tokens of the cache that sequences hold at most: all but one token of a block may be empty [token].

        >>> Policy(kv_tokens=1e6, block=16).held(1000.0, 10.0)
        1150.0
        """
        return tokens + (self.block - 1) * sequences
