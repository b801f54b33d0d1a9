"""The rate of a node's network cards, read from free words [Gb/s]."""

from __future__ import annotations

import re

_RATE = re.compile(r"(?<![\d./-])(?P<rate>\d+(?:\.\d+)?) ?-?(?P<unit>[gt])(?:b|bit|be|bps|bits)?\b")
_TOTAL = re.compile(r"[^,;(]{0,24}?(?:per[ -](?:node|host|server|machine|instance|vm)|/ ?node|nominal|total|aggregate)")
_PER_DEVICE = re.compile(r"(?:per|/|each|a) ?-?(?:gpu|device|accelerator|rank)\b")
_NAMED = re.compile(r"\b(?P<name>qdr|fdr|edr|hdr|ndr|xdr)-?(?P<rate>\d{2,3})?\b")
_NAMES = {"qdr": 40.0, "fdr": 56.0, "edr": 100.0, "hdr": 200.0, "ndr": 400.0, "xdr": 800.0}
_BEFORE = re.compile(
    r"(?<![\d.a-z])(?P<cards>\d{1,2})(?: ?[x×*] ?(?!(?:16|8)\b)(?=[a-z(\[\d])"
    r"| (?:compute |ib |infiniband |roce )?(?:hcas?|nics?|rails?|cards|adapters|ports|links|compute)\b)"
)
"""A number of cards, whatever words for a card follow: makers, models and generations are many."""
_SHARE = re.compile(r"\b(?:gig(?:a(?:bit)?)? ?-?ethernet|gige|1000base)")
"""Ethernet of 1 Gb/s, whose rate is its name."""
_AFTER = re.compile(r"\d ?g(?:b|bit|be|bps)?(?:/s(?:ec)?)? ?[x×*] ?(?P<cards>\d+)\b")
_RAILS = (("dual[ -](?:rail|nic)|two (?:rail|nic|hca)", 2.0), ("quad[ -](?:rail|nic)|four (?:rail|nic|hca)", 4.0))
_CHOICE = re.compile(r"\d+ or \d+|\b(\d+) ?/ ?(?!\1\b)\d+ ?g")
"""Words that leave a number open; HDR100/100GbE says the same twice."""
_GENERATIONS = (
    ("b300", 8, 800.0),
    ("b200", 8, 400.0),
    ("h100|h200|h800|h20|mi3", 8, 400.0),
    ("a100|a800|a30", 8, 200.0),
    ("mi250", 8, 200.0),
    ("rtx|gtx|titan|^t4|^l4$|^a10g?$", 1, 100.0),
    ("", 4, 100.0),
)
"""Network cards of the reference host of each generation of devices, and the rate of one [Gb/s]."""
_FEWEST = 4
"""Devices of a node from which it has the cards of a reference host."""
_MOST_CARDS = 64
"""Network cards of a node at most."""
_MANY_CARDS = ("infiniband", "roce", "slingshot", "omni-path")
"""Kinds of network of which a rate without a number means that of one card of several."""


def node_rate(words: str, kind: str, *, device: str, per_node: int, hosts: float = 1.0, usual: float = 0.0) -> float:
    """The rate of the network of a node, or of a whole NVLink domain [Gb/s].

    Parameters
    ----------
    words
        What the source says, in lower case.
    kind
        The kind of network.
    device
        The id of the device.
    per_node
        Devices that the inner links join.
    hosts
        How many hosts those devices stand in.
    usual
        The rate of a node of the cloud that the words name [Gb/s]; that of the device's reference host if zero.

    Examples
    --------
    >>> node_rate("8x hdr", "infiniband", device="a100-sxm4-80gb", per_node=8)
    1600.0
    >>> node_rate("1.6 tb/s", "infiniband", device="a100-sxm4-80gb", per_node=8)
    1600.0
    >>> node_rate("25 gbe", "ethernet", device="v100-sxm2-16gb", per_node=8)
    25.0
    """
    reference, of_card = next((c, r) for pattern, c, r in _GENERATIONS if re.search(pattern, device))
    stated, in_all = _stated(words)
    if _PER_DEVICE.search(words) or re.search(r"nvl\d", words):
        return (stated or of_card) * per_node
    cards = _cards(words)
    if in_all and stated:
        return stated * hosts
    if cards is not None:
        return cards * (stated or of_card) * hosts
    if _SHARE.search(words) and not stated:
        return hosts
    # A reference host has so many cards for eight devices; a larger domain has as many for every eight.
    several = reference * max(per_node, 8) / 8.0 if per_node >= _FEWEST else min(reference, per_node)
    if stated:
        return stated * (several if kind in _MANY_CARDS else hosts)
    if usual:
        return usual * hosts
    return several * of_card


def states_rate(words: str) -> bool:
    """Whether words tell a rate, in figures, by the name of a generation, or as Gigabit Ethernet.

    >>> states_rate("8x HDR InfiniBand"), states_rate("Gig Ethernet"), states_rate("Infiniband, Ethernet")
    (True, True, False)
    """
    return _stated(words)[0] is not None or bool(_SHARE.search(words))


def _stated(words: str) -> tuple[float | None, bool]:
    """The rate that words tell [Gb/s], and whether it is that of a whole node."""
    open_rate = _CHOICE.search(words)
    rates = [] if open_rate else [match for match in _RATE.finditer(words) if float(match["rate"]) > 0.0]
    counted = _counted(words)
    if rates:
        at = counted.end() if counted else 0
        match = next((match for match in rates if match.start() >= at), rates[0])
        whole = not counted and bool(_TOTAL.match(words, match.end()))
        if match["unit"] == "t":
            return 1000.0 * float(match["rate"]), whole or not counted
        return float(match["rate"]), whole
    named = _NAMED.search(words)
    if named:
        return float(named["rate"] or _NAMES[named["name"]]), False
    return None, False


def _counted(words: str) -> re.Match[str] | None:
    """Where words tell a number of cards."""
    return next((match for match in _BEFORE.finditer(words) if 0 < int(match["cards"]) <= _MOST_CARDS), None)


def _cards(words: str) -> float | None:
    """How many network cards of a node words tell of."""
    if _CHOICE.search(words):
        return None
    counted = _counted(words) or _AFTER.search(words)
    if counted and 0 < int(counted["cards"]) <= _MOST_CARDS:
        return float(counted["cards"])
    return next((number for pattern, number in _RAILS if re.search(pattern, words)), None)
