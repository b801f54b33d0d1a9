"""The free words of published runs, and the rules that read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hardware.reading import read_mapping
from simulator.corpus.schema import NOT_GIVEN

_RULES = Path(__file__).with_name("rules.yaml")


@cache
def _rules() -> dict[str, list[dict[str, Any]]]:
    return {name: list(rules) for name, rules in read_mapping(_RULES).items()}


def plain(words: str | None) -> str:
    """Words in lower case, with single blanks, and a hyphen for each underscore.

    >>> plain("TPU_v5  Lite")
    'tpu-v5 lite'
    """
    return " ".join((words or "").lower().replace("_", "-").split())


def stated(words: str | None) -> str | None:
    """Words, unless they say that nothing was published.

    >>> stated("not stated (see note)"), stated("zero1")
    (None, 'zero1')
    """
    return None if words is None or NOT_GIVEN.fullmatch(words.lower()) else words


@dataclass(frozen=True)
class RuleMatch:
    """A rule, and what it was chosen by."""

    kind: str
    """The list of rules.yaml."""
    rule: dict[str, Any]
    word: str
    """What of the words its pattern matched; nothing for a rule of last resort."""


def match_rule(kind: str, words: str | None, *, title: str = "", platform: str = "gpu") -> RuleMatch | None:
    """The first rule of a kind whose pattern occurs in some words, and where; nothing where none does.

    Parameters
    ----------
    kind
        The list of rules.yaml to try.
    words
        What the source says.
    title
        The title of the source, for rules that go by it.
    platform
        Kind of the devices, for rules of one kind only.

    Examples
    --------
    >>> match_rule("precisions", "BF16 (mixed)").word
    'bf16'
    """
    said, name = plain(words), plain(title)
    for rule in _rules()[kind]:
        where = re.search(rule["match"], said)
        if where and re.search(rule.get("title", ""), name) and rule.get("platform", platform) == platform:
            return RuleMatch(kind, rule, where[0])
    return None


def first_rule(kind: str, words: str | None, *, title: str = "", platform: str = "gpu") -> dict[str, Any]:
    """The first rule of a kind whose pattern occurs in some words; empty where none does.

    Examples
    --------
    >>> first_rule("devices", "h100-80gb-hbm3")["device"]
    'h100-sxm5-80gb'
    """
    match = match_rule(kind, words, title=title, platform=platform)
    return match.rule if match else {}


def meaning(kind: str, words: str | None) -> str | None:
    """What words mean by the rules of a kind; nothing where there are no words or no rule knows them.

    >>> meaning("precisions", "bf16-mixed"), meaning("shardings", "FULL_SHARD"), meaning("optimizers", None)
    ('bf16', 'zero3', None)
    """
    means = first_rule(kind, words).get("means") if words else None
    return None if means is None else str(means)
