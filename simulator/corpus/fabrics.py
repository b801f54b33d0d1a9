"""Which of the networks that a source names joins the nodes in computing, and how fast it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from simulator.corpus.notes import Notes
from simulator.corpus.rates import node_rate, states_rate
from simulator.corpus.runs import RefusedError
from simulator.corpus.words import RuleMatch, match_rule, plain

_FASTEST_CARD = 800.0
"""Of the network cards there are [Gb/s]."""
_BYTES = re.compile(r"(\d+(?:\.\d+)?) ?([GT])B(?:/s(?:ec)?|ps)", re.ASCII)
_WHOLE = re.compile(r"\s*(?:per|/|a) ?(?:node|host|server|machine)|\s*(?:in )?total|\s*aggregate", re.IGNORECASE)
_COMPUTE = re.compile(r"comput\w*:(.*?)(?:storage:|management:|$)")
_ASIDE = re.compile(
    r"storage|management|mgmt|in-?band|out-of-band|\boob\b|\bbmc\b|north-?south|\bns\b|front-?end|host network|"
    r"gpu-pci|pci-?e?-nic|data bandwidth|nvlink|nvswitch"
)
"""Words about networks that carry no gradients: to storage and management, and the bus inside the host."""
_PART = re.compile(r"[,;+]|\band\b")
_OR = re.compile(r"\bor\b")
_KINDS = (
    ("infiniband", r"infiniband|\bib\b|\b[qfehnx]dr-?\d*\b|quantum"),
    ("slingshot", r"slingshot"),
    ("roce", r"roce|spectrum-?x|rdma nics"),
    ("efa", r"\befa\b"),
    ("omni-path", r"omni-?path|\bopa\b"),
    ("ethernet", r"ethernet|\d ?gbe\b|gige\b"),
)
"""Kinds of network by what names them, that which computes first where several are named."""
_REMOTE_ACCESS = 100.0
"""Rate of a device's share of an Ethernet from which it is read as RDMA (RoCE) [Gb/s]: nobody builds so many fast cards
for TCP, whose host processors could not feed them."""


@dataclass(frozen=True)
class Fabric:
    """The network between nodes."""

    kind: str
    gigabits: float
    """Of a node, or of a whole NVLink domain, in one direction [Gb/s]."""


def fabric_of(words: str | None, *, device: str, per_node: int, hosts: float, notes: Notes) -> Fabric:
    """The network between nodes, as words say or as the device's reference host has it.

    Parameters
    ----------
    words
        What the source says.
    device
        The id of the device.
    per_node
        Devices that the inner links join.
    hosts
        How many hosts those devices stand in.
    notes
        Receives how the words were read, and what was assumed.

    Raises
    ------
    RefusedError
        Where words leave open which of several kinds of network it was.

    Examples
    --------
    >>> fabric_of("Infiniband, Ethernet", device="h200-sxm-141gb", per_node=8, hosts=1.0, notes=Notes())
    Fabric(kind='infiniband', gigabits=3200.0)
    >>> fabric_of("8x BF3 ConnectX-7 400Gb/s per node", device="h100-sxm5-80gb", per_node=8, hosts=1.0, notes=Notes())
    Fabric(kind='infiniband', gigabits=3200.0)
    """
    said = _of_compute(plain(in_bits(words or "")), notes)
    said = _one_kind(said, device, per_node, notes)
    match = match_rule("fabrics", f"{said} {device}")
    assert match is not None  # the last rule takes all
    kind = str(match.rule["kind"])
    usual = float(match.rule.get("node", 0.0))
    gigabits = node_rate(said, kind, device=device, per_node=per_node, hosts=hosts, usual=usual)
    if "fast" in match.rule and gigabits / per_node >= _REMOTE_ACCESS:
        kind = str(match.rule["fast"])
        notes.assume("network: Ethernet of 100 Gb/s and more a device is RDMA (RoCE)")
    _note(words, match, Fabric(kind, gigabits), said, notes)
    return Fabric(kind, gigabits)


def _note(words: str | None, match: RuleMatch, fabric: Fabric, said: str, notes: Notes) -> None:
    """Note how it was read, and what no word said."""
    result = f"system.inter_node = {fabric.kind}, {fabric.gigabits:,.0f} Gb/s a node"
    if not any(re.search(pattern, said) for _, pattern in _KINDS) and not match.word:
        notes.assume("network: InfiniBand between nodes, as the kind is not told")
    if not states_rate(said):
        notes.assume(f"network: {fabric.gigabits:,.0f} Gb/s a node, as hosts of the device usually have")
    if words:
        notes.read("hardware.inter", f"fabrics: {match.rule['match'] or 'no word of a kind'}", result, word=said)


def in_bits(words: str) -> str:
    """Words with rates in bytes turned into bits.

    A rate of "400 GB/s" that no card has, though one of 400 Gb/s is usual, is read as bits: sources mix them up.

    >>> in_bits("50 GB/s per GPU"), in_bits("8x NDR 400GB/s"), in_bits("400 GB/s per node")
    ('400 Gb/s per GPU', '8x NDR 400 Gb/s', '3200 Gb/s per node')
    """

    def bits(match: re.Match[str]) -> str:
        rate, unit = float(match[1]), match[2]
        whole = _WHOLE.match(words, match.end())
        mistaken = unit == "G" and not whole and 8.0 * rate > _FASTEST_CARD
        return f"{rate if mistaken else 8.0 * rate:g} {unit}b/s"

    return _BYTES.sub(bits, words)


def _of_compute(words: str, notes: Notes) -> str:
    """The part about the network of computation, where networks of storage and management are told beside it."""
    labelled = _COMPUTE.search(words)
    if labelled:
        return labelled[1].strip(" ,;+")
    parts = _parts(words)
    kept = [part for part in parts if not _ASIDE.search(re.sub(r"\([^)]*\)", "", part))]
    if not kept or len(kept) == len(parts):
        return words
    notes.assume("network: " + "; ".join(part for part in parts if part not in kept)[:80] + " does not compute")
    return ", ".join(kept)


def _parts(words: str) -> list[str]:
    """What is told one after the other."""
    return [part for part in (each.strip() for each in _PART.split(words)) if part]


def _kind(words: str) -> str | None:
    """The kind of network that words name."""
    return next((kind for kind, pattern in _KINDS if re.search(pattern, words)), None)


def _one_kind(words: str, device: str, per_node: int, notes: Notes) -> str:
    """The part about one kind of network, where words name several: the fastest, or else the one that computes.

    Raises
    ------
    RefusedError
        Where it was one "or" another, of different rates.
    """
    choices = [part for part in _OR.split(words) if _kind(part)]
    if len({_kind(choice) for choice in choices}) > 1:
        rates = {node_rate(each, _kind(each) or "", device=device, per_node=per_node) for each in choices}
        if len(rates) > 1:
            raise RefusedError("ambiguous network between nodes", words[:80])
        notes.assume(f"network: the first of {words[:80]}")
        return choices[0]
    groups: list[str] = []
    for part in _parts(words):
        if groups and _kind(part) in (None, _kind(groups[-1])):
            groups[-1] = f"{groups[-1]}, {part}"
        else:
            groups.append(part)
    named = [group for group in groups if _kind(group)]
    if len({_kind(group) for group in named}) < 2:
        return words
    order = [kind for kind, _ in _KINDS]

    def rank(group: str) -> tuple[float, int]:
        kind = _kind(group) or ""
        told = node_rate(group, kind, device=device, per_node=per_node) if states_rate(group) else 0.0
        return (-told if kind == "ethernet" or told else 0.0, order.index(kind))

    unknown = [group for group in named if not states_rate(group)]
    chosen = min(named, key=(lambda group: order.index(_kind(group) or "")) if unknown else rank)
    notes.assume(f"network: {chosen[:60]}, of {words[:80]}")
    return chosen
