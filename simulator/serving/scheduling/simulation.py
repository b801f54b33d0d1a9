"""Requests through one engine, replicas of it, or pools that prefill and decode apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from hardware.errors import InputError
from simulator.serving.scheduling.engine import Engine, Left
from simulator.serving.scheduling.lengths import MOST_REQUESTS, Counts, Lengths, Trace
from simulator.serving.scheduling.outcome import Served
from simulator.serving.scheduling.policy import Policy
from simulator.serving.scheduling.times import IterationTable, Values

_MOST_REPLICAS = 10_000


@dataclass(frozen=True)
class Demand:
    """What is asked for: requests with their lengths, and when they come.

    Either all arrival times are known, or so many clients send a request each as soon as their last one was answered.
    """

    inputs: Counts
    outputs: Counts
    arrivals: Values | None = None
    """In order [s]."""
    concurrency: int | None = None
    """Requests that are under way all the time, where arrivals are not given."""

    @classmethod
    def at_concurrency(
        cls, concurrency: int, inputs: Lengths, outputs: Lengths, *, requests: int, seed: int = 0
    ) -> Demand:
        """Clients that wait for their answer and ask again.

        Raises
        ------
        InputError
            Where a number is not from 1 on.
        """
        _check(concurrency, requests)
        random = np.random.default_rng(seed)
        return cls(inputs.draw(requests, random), outputs.draw(requests, random), concurrency=concurrency)

    @classmethod
    def at_rate(
        cls,
        rate: float,
        inputs: Lengths,
        outputs: Lengths,
        *,
        requests: int,
        evenly: bool = False,
        seed: int = 0,
    ) -> Demand:
        """Requests that come at a rate, whatever becomes of the others.

        Parameters
        ----------
        rate
            In the mean [request/s].
        inputs, outputs
            Their lengths.
        requests
            How many.
        evenly
            Whether all intervals are the same; else they are those of a Poisson process.
        seed
            Of chance.

        Raises
        ------
        InputError
            Where the rate is not positive.
        """
        _check(1, requests)
        if not 0.0 < rate < math.inf:
            raise InputError(f"request rate {rate:g} must be a positive number of requests a second")
        random = np.random.default_rng(seed)
        lengths = inputs.draw(requests, random), outputs.draw(requests, random)
        between = np.full(requests, 1.0 / rate) if evenly else random.exponential(1.0 / rate, size=requests)
        return cls(*lengths, arrivals=np.cumsum(between) - between[0])

    @classmethod
    def of_trace(cls, trace: Trace, *, concurrency: int | None = None, rate: float | None = None) -> Demand:
        """Requests of a trace: at its own times, or at a concurrency or an even rate.

        Raises
        ------
        InputError
            Where the trace has no times and neither of the others is given.
        """
        if concurrency is not None:
            _check(concurrency, len(trace.inputs))
            return cls(trace.inputs, trace.outputs, concurrency=concurrency)
        if rate is not None:
            times = trace.arrivals
            span = float(times[-1]) if times is not None else 0.0
            if times is not None and span > 0.0:
                return cls(trace.inputs, trace.outputs, times * ((len(times) - 1) / rate / span))
            return cls(trace.inputs, trace.outputs, np.arange(len(trace.inputs)) / rate)
        if trace.arrivals is None:
            raise InputError("the trace has no arrival_s; give a rate or a concurrency")
        return cls(trace.inputs, trace.outputs, trace.arrivals)


def _check(concurrency: int, requests: int) -> None:
    """Refuse numbers of requests that are none."""
    for name, value in (("concurrency", concurrency), ("number of requests", requests)):
        if not 1 <= value <= MOST_REQUESTS:
            raise InputError(f"{name} {value} must be from 1 to {MOST_REQUESTS:,}")


@dataclass(frozen=True)
class Pools:
    """Engines that prefill, engines that decode, and what is between them.

    Parameters
    ----------
    prefill, decode
        Engines of each kind.
    transfer_time
        Time to hand over the keys and values of a token [s/token].
    transfer_latency
        Time of a hand-over whatever its size [s].
    table, policy
        Of the engines that prefill, where they are not as those that decode.
    """

    prefill: int
    decode: int
    transfer_time: float = 0.0
    transfer_latency: float = 0.0
    table: IterationTable | None = None
    policy: Policy | None = None

    def __post_init__(self) -> None:
        for name in ("prefill", "decode"):
            if not 1 <= getattr(self, name) <= _MOST_REPLICAS:
                raise InputError(f"{name} engines {getattr(self, name)} must be from 1 to {_MOST_REPLICAS:,}")


def simulate(
    demand: Demand, table: IterationTable, policy: Policy, *, replicas: int = 1, pools: Pools | None = None
) -> Served:
    """Answer requests, iteration by iteration.

    Parameters
    ----------
    demand
        The requests.
    table
        Times of iterations of one engine.
    policy
        How each engine schedules, and what it has.
    replicas
        Engines of the same kind, which requests go to in turn; a client stays with its engine.
    pools
        Engines that prefill and decode apart, in place of replicas.

    Raises
    ------
    InputError
        Where a request is longer than the cache of one engine, or the number of engines is none.
    """
    if not 1 <= replicas <= _MOST_REPLICAS:
        raise InputError(f"replicas {replicas} must be from 1 to {_MOST_REPLICAS:,}")
    _check_lengths(demand, policy)
    if pools is not None and pools.policy is not None:
        _check_lengths(Demand(demand.inputs, np.ones_like(demand.outputs)), pools.policy)
    return _Run(demand, table, policy, replicas, pools).served()


def _check_lengths(demand: Demand, policy: Policy) -> None:
    """Refuse requests that no engine can hold."""
    whole = demand.inputs + demand.outputs
    longest = int(np.argmax(whole))
    if policy.held(float(whole[longest]) + 2.0 * policy.tokens_a_step, 1) > policy.kv_tokens:
        raise InputError(
            f"a request of {demand.inputs[longest]:,} + {demand.outputs[longest]:,} tokens does not fit the "
            f"{policy.kv_tokens:,.0f} tokens of the cache; shorten it, or give the cache more memory"
        )


class _Run:
    """One simulation under way."""

    def __init__(
        self, demand: Demand, table: IterationTable, policy: Policy, replicas: int, pools: Pools | None
    ) -> None:
        self.demand, self.pools = demand, pools
        self.policy = policy
        inputs, outputs = demand.inputs.tolist(), demand.outputs.tolist()
        size = len(inputs)
        self.arrivals, self.finishes, firsts = [math.nan] * size, [math.nan] * size, [math.nan] * size
        self.firsts = firsts

        def engines(number: int, role: str, of: IterationTable, by: Policy) -> list[Engine]:
            return [Engine(of, by, inputs, outputs, firsts, role) for _ in range(number)]

        if pools is None:
            self.first = self.second = engines(replicas, "both", table, policy)
            self.every = self.first
        else:
            self.first = engines(pools.prefill, "prefill", pools.table or table, pools.policy or policy)
            self.second = engines(pools.decode, "decode", table, policy)
            self.every = [*self.first, *self.second]
        self.pending: list[tuple[float, int, int, int]] = []
        """When, in which order, which request comes, and to which stage."""
        self.sent = 0
        self.home: dict[int, int] = {}
        """Engine that a request's client stays with."""

    def served(self) -> Served:
        """Run until every request is answered."""
        self._open()
        while True:
            engine = min((each for each in self.every if each.busy), key=lambda each: each.clock, default=None)
            if self.pending and (engine is None or self.pending[0][0] <= engine.clock):
                self._deliver()
                continue
            if engine is None:
                break
            for left in engine.advance(self._horizon(engine)):
                self._leave(left, engine)
        return self._outcome()

    def _open(self) -> None:
        """Send the first requests, or all where it is known when they come."""
        arrivals = self.demand.arrivals
        if arrivals is not None:
            self.pending = [(time, place, place, 0) for place, time in enumerate(arrivals.tolist())]
            self.sent = len(self.pending)
            return
        for client in range(min(self.demand.concurrency or 1, len(self.arrivals))):
            self.home[client] = client % len(self.first)
            self._send(0.0)

    def _send(self, time: float) -> None:
        """Send the next request."""
        heappush(self.pending, (time, self.sent, self.sent, 0))
        self.sent += 1

    def _deliver(self) -> None:
        """Hand the request that comes next to an engine."""
        time, _, request, stage = heappop(self.pending)
        if stage == 0:
            self.arrivals[request] = time
            place = self.home.get(request, request % len(self.first))
            engine = self.first[place] if self.pools is None else min(self.first, key=lambda each: each.load)
        else:
            engine = min(self.second, key=lambda each: each.load)
        engine.submit(request, time)

    def _horizon(self, engine: Engine) -> float:
        """When something may come to an engine that it does not know of [s]."""
        known = self.pending[0][0] if self.pending else math.inf
        if self.pools is None:
            return known
        others = min((each.clock for each in self.every if each.busy and each is not engine), default=math.inf)
        return min(known, others if others > engine.clock else engine.clock)

    def _leave(self, left: Left, engine: Engine) -> None:
        """A request leaves an engine: to be decoded elsewhere, or for good."""
        request, time = left
        if self.pools is not None and engine.role == "prefill" and self.demand.outputs[request] > 1:
            tokens = float(self.demand.inputs[request])
            later = time + self.pools.transfer_latency + self.pools.transfer_time * tokens
            heappush(self.pending, (later, request, request, 1))
            return
        self.finishes[request] = time
        if self.demand.arrivals is None and self.sent < len(self.arrivals):
            if self.pools is None:
                self.home[self.sent] = self.home[request]
            self._send(time)

    def _outcome(self) -> Served:
        """What came of it."""
        every = self.every
        end = max(self.finishes)
        return Served(
            arrivals=np.array(self.arrivals),
            firsts=np.array(self.firsts),
            finishes=np.array(self.finishes),
            inputs=self.demand.inputs,
            outputs=self.demand.outputs,
            gaps=np.array([gap for each in every for gap in each.gaps.times]),
            gap_tokens=np.array([tokens for each in every for tokens in each.gaps.tokens]),
            busy=_share(every, end),
            mean_batch=sum(each.sequence_time for each in every)
            / max(sum(each.busy_time for each in self.second), 1e-300),
            most_held=max(each.most_held for each in every),
            preemptions=sum(each.preemptions for each in every),
            admitted=tuple(tuple(each.admitted) for each in every),
        )


def _share(engines: Sequence[Engine], end: float) -> float:
    """Share of the time in which engines work [1]."""
    return sum(each.busy_time for each in engines) / max(len(engines) * end, 1e-300)
