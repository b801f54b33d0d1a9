"""The free words of published runs, and the rules that read them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from hardware.reading import read_mapping

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


def first_rule(kind: str, words: str | None, *, title: str = "", platform: str = "gpu") -> dict[str, Any]:
    """The first rule of a kind whose pattern occurs in some words; empty where none does.

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
    >>> first_rule("devices", "h100-80gb-hbm3")["device"]
    'h100-sxm5-80gb'
    """
    text, name = plain(words), plain(title)
    return next(
        (
            rule
            for rule in _rules()[kind]
            if re.search(rule["match"], text)
            and re.search(rule.get("title", ""), name)
            and rule.get("platform", platform) == platform
        ),
        {},
    )


def meaning(kind: str, words: str | None) -> str | None:
    """What words mean by the rules of a kind; nothing where there are no words or no rule knows them.

    >>> meaning("precisions", "bf16-mixed"), meaning("shardings", "FULL_SHARD"), meaning("optimizers", None)
    ('bf16', 'zero3', None)
    """
    means = first_rule(kind, words).get("means") if words else None
    return None if means is None else str(means)
