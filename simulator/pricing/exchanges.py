"""Time of collectives and transfers over the levels of wiring that a group of ranks spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.formulas import collectives, decoding, networks
from simulator.formulas.typing import Num
from simulator.pricing.requests import Collective, Send
from simulator.pricing.wiring import Level

_MOST_DIRECT = 8.0 * 2.0**20
"""Largest message that serving software reduces in one kernel of its own (vLLM, custom_all_reduce.py) [B]."""


def collective_time(levels: Sequence[Level], asked: Collective, *, jitter: Num = 0.0) -> Num:
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
    paced: Num = 0.0
    after: Num = 0.0
    for span in spans:
        volume, transfer = span.transfer(asked, passes, nodes)
        start = span.start(asked, passes) + span.ramp_time(asked.kind, volume)
        if many:
            delay = np.where(crossed & span.joined, span.steps(asked.kind, passes, nodes), 0.0)
            hops = hops + delay * span.level.latency_per_rank
            start = np.where(crossed, np.where(span.joined, span.level.latency, 0.0), start)
        fixed = fixed + start
        paced = np.maximum(paced, _chosen(span.level.after_others, 0.0, transfer))
        after = after + _chosen(span.level.after_others, transfer, 0.0)
    if many:  # where no network is crossed there are no hops, and nothing is lost
        passed_on = hops + networks.pipelining_time(hops, paced, passes=passes)
        waited = networks.slowest_excess(nodes, deviation=jitter) * (passed_on + paced)
        fixed = fixed + passed_on + waited
    return _or_directly(fixed + paced + after, spans, asked)


def _or_directly(time: Num, spans: Sequence[_Span], asked: Collective) -> Num:
    """The shorter of a time and that of one kernel, where ranks may read each other's memory over one switch [s]."""
    if asked.kind != "all_reduce" or not np.any(np.asarray(asked.one_shot) > 0.0):
        return time
    for span in spans:
        level = span.level
        alone = (np.asarray(span.fan_out) >= asked.degree) & (np.asarray(level.network) == 0.0)
        switched = alone & (np.asarray(level.torus) == 0.0) & (np.asarray(asked.message_bytes) <= _MOST_DIRECT)
        used = switched & (np.asarray(asked.one_shot) > 0.0) & (np.asarray(asked.degree) > 1.0)
        directly = decoding.direct_all_reduce_time(
            asked.message_bytes,
            asked.degree,
            latency=level.latency,
            latency_per_rank=level.latency_per_rank,
            rate=level.rate(span.fan_out, asked.degree, asked.stride),
        )
        time = np.where(used, np.minimum(time, directly), time)
    return time


def _chosen(flag: Num, one: Num, other: Num) -> Num:
    """One of two by a flag; quick where the flag is a plain number, as it is for one system."""
    if isinstance(flag, float):
        return one if flag > 0.0 else other
    return np.where(flag > 0.0, one, other)


def send_time(levels: Sequence[Level], asked: Send) -> Num:
    """Time of a transfer between neighbours, over the outermost level that the group spans [s].

    Over a network it is started as any operation of the node is; the receiver says where to, the sender writes, and the
    receiver waits until all has arrived in memory: three hops.
    """
    present = [level for level in levels if not level.absent]
    time: Num = 0.0
    inside: Num = 1.0
    started: Num = 0.0
    for level in present:
        ranks = collectives.ranks_within(asked.degree, asked.stride, reach=level.reach)
        start = level.latency + _chosen(level.network, started + 3.0 * level.latency_per_rank, level.latency_per_rank)
        time = np.where(ranks > inside, start + asked.message_bytes / level.send_rate(), time)
        inside = ranks
        # Other systems of a batch may have a level inside the innermost of this one, which joins nobody here.
        innermost = (np.asarray(started) == 0.0) & (np.asarray(level.reach) > 1.0)
        started = np.where(innermost, level.latency, started)
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
    def joined(self) -> NDArray[np.bool_]:
        """Whether there are several units to join."""
        return np.asarray(self.fan_out) > 1.0

    def added_up(self, kind: str) -> Num:
        """1 where the switches of the level add an all-reduce up, else 0."""
        adds = np.where(np.asarray(self.level.reduction_gain) > 1.0, 1.0, 0.0)
        if kind != "all_reduce" or not np.any(adds):
            return 0.0
        return adds * (np.asarray(self.fan_out) >= self.level.reduction_ranks)

    def start(self, asked: Collective, passes: float) -> Num:
        """Fixed time of the level, of a collective that crosses no network [s]."""
        level = self.level
        steps = level.steps(self.fan_out, asked.degree, asked.stride)
        time = collectives.link_latency(steps, passes, latency=level.latency, latency_per_rank=level.latency_per_rank)
        return np.where(self.joined, time, 0.0)

    def ramp_time(self, kind: str, volume: Num) -> Num:
        """Time lost while the rate rises, of a collective that crosses no network [s]."""
        added_up = self.added_up(kind)
        ramp = _chosen(added_up, self.level.reduction_ramp, self.level.ramp)
        return collectives.ramp_time(volume, ramp, added_up=added_up)

    def transfer(self, asked: Collective, passes: float, nodes: Num) -> tuple[Num, Num]:
        """Bytes that one device sends over the level, and the time that they take at its full rate [B, s]."""
        level, rate = self.level, self.level.rate(self.fan_out, asked.degree, asked.stride)
        if asked.kind == "all_to_all":
            volume = collectives.exchanged_volume(
                asked.paced_bytes,
                self.fan_out,
                inner_ranks=self.inner,
                degree=asked.degree,
                copies=asked.copies,
                expert_groups=asked.expert_groups,
                groups_per_token=asked.groups_per_token,
            )
            return volume, np.maximum(volume / rate, level.crossing_time(asked.paced_bytes, asked.degree, asked.stride))
        volume = self._reduced(asked.paced_bytes, passes)
        added_up = self.added_up(asked.kind)
        if np.any(added_up):
            gain = level.reduction_gain / (1.0 + level.reduction_loss * np.log2(nodes))
            rate = rate * _chosen(added_up, gain, 1.0)
        return volume, volume / rate

    def _reduced(self, message_bytes: Num, passes: float) -> Num:
        """Bytes that one device sends over the level of a reduction or a gather [B]."""
        level = self.level
        parts: Num = np.where(np.asarray(self.ring) > 1.0, self.ring, self.fan_out)
        if passes > 1.0:
            parts = _chosen(level.network, np.where(np.asarray(self.fan_out) <= 2.0, self.fan_out, parts), parts)
        senders = _chosen(level.bus, 1.0, self.inner)
        volume = collectives.reduced_volume(message_bytes, parts, inner_ranks=senders, passes=passes)
        return np.where(self.joined, volume, 0.0)

    def steps(self, kind: str, passes: float, nodes: Num) -> Num:
        """Hops over the level of a collective that crosses a network [1]."""
        inside = networks.steps_inside(self.fan_out, passes, units=1.0 if kind == "all_to_all" else nodes)
        return _chosen(self.level.network, networks.steps_between(self.fan_out, passes), inside)


def _spans(levels: Sequence[Level], asked: Collective) -> tuple[list[_Span], Num]:
    """The levels that a group may span, from the inside, and the nodes that a network joins."""
    present = [level for level in levels if not level.absent]
    ranks = [collectives.ranks_within(asked.degree, asked.stride, reach=level.reach) for level in present]
    nodes: Num = 1.0
    ring: Num = 0.0
    fan_outs: list[Num] = []
    inners: list[Num] = []
    inner: Num = 1.0
    for level, within in zip(present, ranks, strict=True):
        fan_out = np.maximum(within / inner, 1.0)
        nodes = _chosen(level.network, fan_out, nodes)
        ring = _chosen(level.network, within, _chosen(level.bus, within, ring))
        fan_outs.append(fan_out)
        inners.append(inner)
        inner = within
    spans = [
        _Span(level, inner, fan_out, _chosen(level.after_others, 0.0, ring))
        for level, inner, fan_out in zip(present, inners, fan_outs, strict=True)
    ]
    return spans, nodes


__all__ = ["collective_time", "send_time"]
