"""What the words on the pages mean: one explanation for each, shown as a tooltip wherever the word stands."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml


@cache
def terms() -> dict[str, str]:
    """Every explanation by its word."""
    text = (Path(__file__).parent / "glossary.yaml").read_text(encoding="utf-8")
    return {str(name): str(words) for name, words in yaml.safe_load(text).items()}


def explain(term: str) -> str:
    """What a word means.

    Raises
    ------
    KeyError
        Where the glossary lacks it; a test looks for words without an explanation.
    """
    return terms()[term]


def words(name: str) -> str:
    """The name of a part as words, for labels."""
    return name.replace("_", " ")
