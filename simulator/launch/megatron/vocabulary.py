"""Rows of the table of words, which Megatron Core makes of the words of a tokenizer.

Its NullTokenizer has one word more than ``--vocab-size`` in releases before core_v0.18.0, where that one ends
documents, and none more since (megatron/core/tokenizers/text/libraries/null_tokenizer.py of both). The
table is padded to a multiple of 128 for each tensor-parallel rank unless its rows are said
(``vocab_size_with_padding`` in megatron/core/tokenizers/utils/build_tokenizer.py of core_v0.19.0), and its rows are
divided among the ranks.
"""

from __future__ import annotations

from simulator.specs.model import Model
from simulator.specs.plan import Plan

USUAL_MULTIPLE = 128
"""``--make-vocab-size-divisible-by`` unless told."""


def written_words(model: Model) -> int:
    """Words of NullTokenizer with which every release has room for its own one in the table."""
    return model.vocabulary_size - 1


def written_rows(model: Model, plan: Plan) -> int:
    """Rows of the table: the model's, as many for each tensor-parallel rank."""
    return _multiple_above(model.vocabulary_size, plan.tp or 1)


def rows_read(words: int | None, rows: int | None, ranks: int) -> int | None:
    """The vocabulary where a file says the rows of the table; none where it does not.

    Parameters
    ----------
    words
        Of the tokenizer, where they are said.
    rows
        Of the table, where they are said.
    ranks
        Tensor-parallel ranks, for which capsim rounds up by itself.

    >>> rows_read(50256, 50264, 8), rows_read(131072, 131072, 8), rows_read(None, 50304, 1)
    (50257, 131072, 50304)
    """
    if words is not None and _multiple_above(words + 1, ranks) == rows:
        return words + 1
    return rows


def padded(words: int, ranks: int, multiple: int | None = None) -> int:
    """Rows of a table that Megatron Core pads.

    >>> padded(50257, 1), padded(50257, 8), padded(128256, 8)
    (50304, 51200, 129024)
    """
    return _multiple_above(words, (multiple or USUAL_MULTIPLE) * ranks)


def _multiple_above(number: int, multiple: int) -> int:
    """The smallest multiple that is no less."""
    return -(-number // multiple) * multiple
