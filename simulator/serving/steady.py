"""What requests meet at steady load, in closed form: static batches, and a fixed number of requests in work.

Requests are of one length, the mean of all. Where they arrive at random, or lengths differ, they queue: what is said
here of a rate is that of requests which arrive evenly. Many numbers of requests in work are priced in one call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hardware.errors import InputError
from simulator.formulas.typing import Num
from simulator.serving.memory import largest_batch
from simulator.serving.passes import Array, PassCost, ServingPasses
from simulator.serving.served import ServingScenario
from simulator.specs.serving.plan import ServingLoad

_NODES = (0.5 - math.sqrt(15.0) / 10.0, 0.5, 0.5 + math.sqrt(15.0) / 10.0)
_WEIGHTS = np.array([5.0, 8.0, 5.0]) / 18.0
"""Places in an answer at which its tokens are priced, and how much each counts (Gauss-Legendre of three points)."""
_TRIED = 33
"""Numbers of requests in work, from 1 to the most, between which a rate is looked for."""


@dataclass(frozen=True)
class SteadyLoad:
    """Means of what requests meet, of all replicas together; an entry for each number of requests in work."""

    ttft: Num
    """From a request to its first token [s]."""
    tpot: Num
    """Between two of its tokens [s]."""
    latency: Num
    """From a request to its last token [s]."""
    requests_per_s: Num
    sequences: Num
    """Requests in a running batch of one replica [sequence]."""
    waiting: Num
    """Requests that wait for room, of all replicas [sequence]."""
    prefill: PassCost
    """A pass that reads prompts."""
    decode: PassCost
    """A pass that makes one token of each sequence, in the mean of an answer."""
    prefill_share: Num
    """Share of the time of devices that prompts take [1]."""
    overloaded: bool = False
    """Whether more requests arrive than are answered."""

    def take(self, index: int) -> SteadyLoad:
        """The entry of one number of requests."""

        def of(value: Num) -> float:
            return float(np.asarray(value).reshape(-1)[index] if np.ndim(value) else value)

        names = ("ttft", "tpot", "latency", "requests_per_s", "sequences", "waiting", "prefill_share")
        plain: dict[str, Any] = {name: of(getattr(self, name)) for name in names}
        return replace(self, prefill=self.prefill.take(index), decode=self.decode.take(index), **plain)

    @property
    def limited_by(self) -> str:
        """What most of the time goes into."""
        shares = (self.prefill, self.prefill_share), (self.decode, 1.0 - np.asarray(self.prefill_share))
        together: dict[str, float] = {}
        for cost, share in shares:
            for name, value in cost.limits.items():
                together[name] = together.get(name, 0.0) + float(share * value / np.asarray(cost.time))
        return max(together, key=lambda name: together[name])


def steady(served: ServingScenario, times: ServingPasses) -> SteadyLoad:
    """What requests meet at the load of a scenario that generates.

    Parameters
    ----------
    served
        With a load; without batch, concurrency and rate the replicas hold as many requests as fit.
    times
        Of its passes.

    Raises
    ------
    InputError
        Where the load does not say what is generated.
    """
    load = served.load
    if load is None or load.output_tokens is None:
        raise InputError(
            "output_tokens is missing: say how many tokens a request generates, such as --output-tokens 256",
            fields=["load.output_tokens"],
        )
    if load.rate is not None:
        return _at_rate(served, times, load.rate)
    number = load.batch or load.concurrency or served.replicas * most_sequences(served)
    return at_numbers(served, times, np.array([float(number)])).take(0)


def most_sequences(served: ServingScenario) -> float:
    """Requests of the load's lengths that one replica holds, at least one [sequence]."""
    load = served.load
    assert load is not None
    fitting = largest_batch(served, load.input_tokens + (load.output_tokens or 0.0))
    return float(max(min(fitting, served.stack.most_sequences), 1))


def at_numbers(served: ServingScenario, times: ServingPasses, numbers: Array) -> SteadyLoad:
    """What requests meet where so many are in work at any time, or run in batches of so many.

    Parameters
    ----------
    served, times
        With a load of lengths.
    numbers
        Requests of all replicas together, one-dimensional [sequence].
    """
    load = served.load
    assert load is not None
    batches = load.batch is not None or not served.stack.continuous
    own = np.ceil(numbers / served.replicas) if batches else numbers / served.replicas
    if batches:
        return _static(times, load, numbers, own)
    running = np.minimum(own, most_sequences(served))
    chunked = served.stack.chunked and served.model.kind != "encoder-decoder"
    life = _chunked(served, times, load, running) if chunked else _interrupted(times, load, running)
    waits = (own / running - 1.0) * life.latency
    return replace(
        life,
        ttft=life.ttft + waits,
        latency=life.latency + waits,
        requests_per_s=served.replicas * running / life.latency,
        waiting=(own - running) * served.replicas,
    )


def _lengths(load: ServingLoad) -> tuple[float, float, float]:
    """New and cached tokens of a prompt, and tokens of an answer after the first."""
    cached = min(load.cached * load.input_tokens, load.input_tokens - 1.0)
    return load.input_tokens - cached, cached, max((load.output_tokens or 1.0) - 1.0, 0.0)


def _passes(
    times: ServingPasses, load: ServingLoad, running: Array, reading: tuple[Num, Num, Num, Num]
) -> tuple[PassCost, PassCost]:
    """Passes that read prompts (their number, tokens, cached tokens, sequences beside), and those that read none.

    Both are priced in one call; the latter at places of an answer, over which they are then meaned.
    """
    prompts, tokens, cached, beside = (np.broadcast_to(np.asarray(value, float), running.shape) for value in reading)
    *_, steps = _lengths(load)
    contexts = np.array([load.input_tokens + 1.0 + place * steps for place in _NODES])
    middle, rows = float(contexts @ _WEIGHTS), (len(_NODES), running.size)
    both = [
        np.vstack([first, np.broadcast_to(others, rows)])
        for first, others in (
            (prompts, 0.0),
            (tokens, 1.0),
            (cached, 0.0),
            (beside, running),
            (np.full(running.shape, middle), contexts[:, None]),
        )
    ]
    cost = times.cost(*both)
    return cost.take(0), _meaned(cost)


def _meaned(cost: PassCost) -> PassCost:
    """The mean over places of an answer, which stand in the rows after the first."""

    def mean(value: Num) -> Num:
        meaned: Num = _WEIGHTS @ np.broadcast_to(np.asarray(value), np.shape(cost.time))[1:]
        return meaned

    parts, limits = ({name: mean(value) for name, value in each.items()} for each in (cost.parts, cost.limits))
    return PassCost(mean(cost.time), parts, limits)


def _static(times: ServingPasses, load: ServingLoad, numbers: Array, own: Array) -> SteadyLoad:
    """Batches that begin and end together, one after the other; the fullest replica paces."""
    new, cached, steps = _lengths(load)
    read, made = _passes(times, load, own, (own, new, cached, 0.0))
    latency = read.time + steps * made.time
    return SteadyLoad(read.time, made.time, latency, numbers / latency, own, 0.0, read, made, read.time / latency)


def _interrupted(times: ServingPasses, load: ServingLoad, running: Array) -> SteadyLoad:
    """Requests in a batch of others each somewhere in its life, where everybody waits while a prompt is read."""
    new, cached, steps = _lengths(load)
    read, made = _passes(times, load, running, (1.0, new, cached, 0.0))
    latency = running * read.time + steps * made.time
    beside = np.minimum(running - 1.0, 1.0)
    ttft = np.minimum(read.time * (1.0 + 0.5 * beside) + made.time / 2.0 * beside, latency)
    tpot = (latency - ttft) / steps if steps else made.time
    share = running * read.time / latency
    return SteadyLoad(ttft, tpot, latency, 0.0, running, 0.0, read, made, share)


def _chunked(served: ServingScenario, times: ServingPasses, load: ServingLoad, running: Array) -> SteadyLoad:
    """Requests in a batch of others each somewhere in its life, where prompts are read beside tokens that are made.

    While a request lives the prompts of as many others are read as run beside it: an iteration reads up to the budget
    of tokens, several prompts where there are more of them than iterations.
    """
    new, cached, steps = _lengths(load)
    budget = np.maximum(float(served.plan.chunk or new) - running, 1.0)
    pieces = np.ceil(new / budget)
    beside, whole = np.maximum(running - 1.0, 0.0), running * new
    reading = np.maximum(np.minimum(running * pieces, pieces + steps), whole / budget)
    life = np.maximum(pieces + steps, reading)
    tokens = whole / reading
    before = cached + (new - np.minimum(tokens, new)) / 2.0
    read, made = _passes(times, load, running, (1.0, np.maximum(tokens, 1.0), before, beside))
    latency = reading * read.time + (life - reading) * made.time
    mean = latency / life
    waits = (life - pieces - steps) * mean + mean / 2.0 * np.minimum(beside, 1.0)
    ttft = np.minimum(pieces * read.time + waits, latency)
    tpot = (latency - ttft) / steps if steps else made.time
    share = np.clip(reading * np.maximum(read.time - made.time, 0.0) / latency, 0.0, 1.0) if steps else 1.0
    return SteadyLoad(ttft, tpot, latency, 0.0, running, 0.0, read, made, share)


def _at_rate(served: ServingScenario, times: ServingPasses, rate: float) -> SteadyLoad:
    """Requests that arrive evenly: as many are in work as leave as fast as others come.

    Where fewer than one is in work in the mean, each meets what one alone does.
    """
    most = served.replicas * most_sequences(served)
    numbers = np.unique(np.geomspace(1.0, max(most, 1.0), _TRIED))
    done = np.maximum.accumulate(np.asarray(at_numbers(served, times, numbers).requests_per_s))
    if done[-1] <= rate:
        return replace(at_numbers(served, times, numbers[-1:]).take(0), overloaded=True)
    number = float(np.exp(np.interp(math.log(rate), np.log(done), np.log(numbers))))
    return replace(at_numbers(served, times, np.array([number])).take(0), requests_per_s=rate)
