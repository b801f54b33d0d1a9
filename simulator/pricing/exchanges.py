"""Time of collectives and transfers over the levels of wiring that a group of ranks spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.formulas import collectives, networks
from simulator.formulas.typing import Num
from simulator.pricing.requests import Collective, Send
from simulator.pricing.wiring import Level


def collective_time(levels: Sequence[Level], asked: Collective) -> Num:
    """Time of a collective: the slowest level paces it, and each adds its latency [s].

    Over a network between nodes, libraries pass the ranks of all nodes in one ring or tree, as NCCL does, so that a
    node sends ``(n - 1) / n`` of the message for each pass, not the least that it would have to; only an all-reduce of
    two nodes, whose trees cross once each way, needs no more. On tori and between pods each level runs its own part.
    """
    passes = 2.0 if asked.kind == "all_reduce" else 1.0
    spans, nodes = _spans(levels, asked)
    crossed = np.asarray(nodes) > 1.0
    many = bool(np.any(crossed))
    fixed: Num = 0.0
    hops: Num = 0.0
    ramps: Num = 0.0
    paced: Num = 0.0
    after: Num = 0.0
    for span in spans:
        level = span.level
        volume, transfer = span.transfer(asked, passes, nodes)
        steps = level.steps(span.fan_out, asked.degree, asked.stride)
        alone = collectives.link_latency(steps, passes, latency=level.latency, latency_per_rank=level.latency_per_rank)
        added_up = span.added_up(asked.kind)
        ramp = np.where(added_up, level.reduction_ramp, level.ramp)
        start = np.where(span.joined, alone, 0.0)
        if many:
            delay = np.where(span.joined, span.steps(asked.kind, passes, nodes) * level.latency_per_rank, 0.0)
            start = np.where(crossed, np.where(span.joined, level.latency, 0.0), start)
            hops = hops + np.where(crossed, delay, 0.0)
        fixed = fixed + start
        ramps = ramps + collectives.ramp_time(volume, ramp, added_up=added_up)
        follows = np.asarray(level.after_others) > 0
        paced = np.maximum(paced, np.where(follows, 0.0, transfer))
        after = after + np.where(follows, transfer, 0.0)
    lost = np.where(crossed, hops + networks.pipelining_time(hops, paced), ramps) if many else ramps
    return fixed + lost + paced + after


def send_time(levels: Sequence[Level], asked: Send) -> Num:
    """Time of a transfer between neighbours, over the outermost level that the group spans [s]."""
    time: Num = 0.0
    inside: Num = 1.0
    for level in levels:
        if level.absent:
            continue
        ranks = collectives.ranks_within(asked.degree, asked.stride, reach=level.reach)
        across = level.latency + level.latency_per_rank + asked.message_bytes / level.send_rate()
        time = np.where(ranks > inside, across, time)
        inside = ranks
    return time


@dataclass(frozen=True)
class _Span:
    """What of a group one level of wiring joins."""

    level: Level
    inner: Num
    """Ranks within one unit of the level inside [1]."""
    fan_out: Num
    """Units that it joins [1]."""
    ring: Num
    """Ranks of the ring that passes all of them, 0 where each level runs its own part [1]."""

    @property
    def joined(self) -> Num:
        """Whether there are several units to join."""
        return np.asarray(self.fan_out) > 1.0

    def added_up(self, kind: str) -> Num:
        """Whether the switches of the level add an all-reduce up."""
        level = self.level
        adds = (np.asarray(level.reduction_gain) > 1.0) & (kind == "all_reduce")
        return adds & (np.asarray(self.fan_out) >= level.reduction_ranks)

    def transfer(self, asked: Collective, passes: float, nodes: Num) -> tuple[Num, Num]:
        """Bytes that one device sends over the level, and the time that they take at its full rate [B, s]."""
        level, rate = self.level, self.level.rate(self.fan_out, asked.degree, asked.stride)
        if asked.kind == "all_to_all":
            volume = collectives.exchanged_volume(
                asked.message_bytes, self.fan_out, inner_ranks=self.inner, degree=asked.degree, copies=asked.copies
            )
            return volume, np.maximum(
                volume / rate, level.crossing_time(asked.message_bytes, asked.degree, asked.stride)
            )
        volume = self._reduced(asked.message_bytes, passes)
        gain = level.reduction_gain / (1.0 + level.reduction_loss * np.log2(nodes))
        rate = rate * np.where(self.added_up(asked.kind), gain, 1.0)
        return volume, volume / rate

    def _reduced(self, message_bytes: Num, passes: float) -> Num:
        """Bytes that one device sends over the level of a reduction or a gather [B]."""
        level = self.level
        parts = np.where(np.asarray(self.ring) > 1.0, self.ring, self.fan_out)
        if passes > 1.0:
            parts = np.where((np.asarray(level.network) > 0) & (np.asarray(self.fan_out) <= 2.0), self.fan_out, parts)
        senders = np.where(np.asarray(level.bus) > 0, 1.0, self.inner)
        volume = collectives.reduced_volume(message_bytes, parts, inner_ranks=senders, passes=passes)
        return np.where(self.joined, volume, 0.0)

    def steps(self, kind: str, passes: float, nodes: Num) -> Num:
        """Hops over the level of a collective that crosses a network [1]."""
        inside = networks.steps_inside(self.fan_out, passes, units=1.0 if kind == "all_to_all" else nodes)
        return np.where(np.asarray(self.level.network) > 0, networks.steps_between(self.fan_out, passes), inside)


def _spans(levels: Sequence[Level], asked: Collective) -> tuple[list[_Span], Num]:
    """The levels that a group may span, from the inside, and the nodes that a network joins."""
    present = [level for level in levels if not level.absent]
    ranks = [collectives.ranks_within(asked.degree, asked.stride, reach=level.reach) for level in present]
    spans: list[_Span] = []
    inner: Num = 1.0
    nodes: Num = 1.0
    ring: Num = 0.0
    for level, within in zip(present, ranks, strict=True):
        fan_out = np.maximum(within / inner, 1.0)
        nodes = np.where(np.asarray(level.network) > 0, fan_out, nodes)
        ring = np.where((np.asarray(level.network) > 0) | (np.asarray(level.bus) > 0), within, ring)
        spans.append(_Span(level, inner, fan_out, 0.0))
        inner = within
    own = [np.asarray(span.level.after_others) > 0 for span in spans]
    return [
        _Span(span.level, span.inner, span.fan_out, np.where(alone, 0.0, ring))
        for span, alone in zip(spans, own, strict=True)
    ], nodes


__all__ = ["collective_time", "send_time"]
