"""Times of the iterations of an engine, tabulated once so that a simulation looks them up in microseconds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
_STEPS = 2
"""Entries for each doubling of prompt tokens or sequences."""
_FEWEST_PROMPT = 16.0


class MixedTimes(Protocol):
    """Time of one iteration that takes prompts in and decodes."""

    def __call__(self, prompt_tokens: Any, prompt_context: Any, sequences: Any, context: Any) -> Any:
        """Seconds, as the arguments broadcast.

        Parameters
        ----------
        prompt_tokens
            Tokens of prompts that are computed [token].
        prompt_context
            Tokens that stand in the cache ahead of them, the mean over prompts [token].
        sequences
            Sequences that get one token each [sequence].
        context
            Tokens that one of these attends to, the mean [token].
        """


@dataclass(frozen=True)
class IterationTable:
    """Times over prompt tokens and decoding sequences, linear in both contexts.

    Between entries times are linear in tokens and in sequences. Attention streams the cache, so that times are close to
    linear in contexts; the line runs through the two contexts that the table was made for.
    """

    prompts: tuple[float, ...]
    sequences: tuple[float, ...]
    base: tuple[tuple[float, ...], ...]
    """At no context, rows for prompts [s]."""
    by_prompt_context: tuple[tuple[float, ...], ...]
    """Growth with each token ahead of the prompts [s/token]."""
    by_context: tuple[tuple[float, ...], ...]
    """Growth with each token that decoding sequences attend to [s/token]."""

    @classmethod
    def of(
        cls,
        mixed: MixedTimes,
        *,
        most_prompt_tokens: float,
        most_sequences: float,
        contexts: tuple[float, float],
    ) -> IterationTable:
        """Tabulate times of iterations.

        Parameters
        ----------
        mixed
            Time of one iteration; called once with arrays.
        most_prompt_tokens, most_sequences
            The largest of either that may occur [token], [sequence].
        contexts
            A short and a long context of decoding sequences [token].
        """
        prompts = _grid(_FEWEST_PROMPT, max(most_prompt_tokens, _FEWEST_PROMPT), least=0.0)
        sequences = _grid(1.0, max(most_sequences, 1.0), least=0.0)
        short, long = contexts[0], max(contexts[1], contexts[0] + 1.0)
        tokens, count = np.array(prompts)[:, None], np.array(sequences)[None, :]
        ahead = np.array([0.0, 0.0, long])[:, None, None]
        context = np.array([short, long, short])[:, None, None]
        times = np.array(np.broadcast_to(mixed(tokens, ahead, count, context), (3, len(prompts), len(sequences))))
        times[:, 0, 0] = 0.0
        slope = np.maximum((times[1] - times[0]) / (long - short), 0.0)
        return cls(
            prompts,
            sequences,
            base=_rows(times[0] - slope * short),
            by_prompt_context=_rows(np.maximum((times[2] - times[0]) / long, 0.0)),
            by_context=_rows(slope),
        )

    def time(self, prompt_tokens: float, prompt_context: float, sequences: float, context: float) -> float:
        """Time of one iteration [s]."""
        base, ahead, line = self.line(prompt_tokens, sequences)
        return base + ahead * prompt_context + line * context

    def line(self, prompt_tokens: float, sequences: float) -> tuple[float, float, float]:
        """Time at no context [s], and its growth with either context [s/token]."""
        row, across = _place(self.prompts, prompt_tokens)
        column, along = _place(self.sequences, sequences)
        weights = ((1.0 - across) * (1.0 - along), (1.0 - across) * along, across * (1.0 - along), across * along)

        def at(table: tuple[tuple[float, ...], ...]) -> float:
            upper, lower = table[row], table[row + 1]
            return (
                weights[0] * upper[column]
                + weights[1] * upper[column + 1]
                + weights[2] * lower[column]
                + weights[3] * lower[column + 1]
            )

        return at(self.base), at(self.by_prompt_context), at(self.by_context)


def _grid(first: float, last: float, *, least: float) -> tuple[float, ...]:
    """Entries from the least, then geometrically from the first to the last one."""
    number = int(np.ceil(_STEPS * np.log2(last / first))) + 1 if last > first else 1
    inner = np.unique(np.round(np.geomspace(first, last, number)))
    values = [least, *inner.tolist()]
    return tuple(values if values[-1] >= last else [*values, float(last)])


def _rows(table: Values) -> tuple[tuple[float, ...], ...]:
    """A table as numbers of Python, which are read faster one by one."""
    return tuple(tuple(row) for row in table.tolist())


def _place(entries: Sequence[float], value: float) -> tuple[int, float]:
    """The entry below a value, and how far the value is on the way to the next; beyond the last it goes on so."""
    below = min(max(bisect_right(entries, value) - 1, 0), len(entries) - 2)
    return below, (value - entries[below]) / (entries[below + 1] - entries[below])
