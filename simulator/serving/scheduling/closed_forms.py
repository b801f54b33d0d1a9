"""What a scheduler comes to where it can be said without simulating: static batches, fixed concurrency, saturation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.serving.scheduling.engine import timed
from simulator.serving.scheduling.policy import Policy
from simulator.serving.scheduling.times import IterationTable

_ITERATIONS = 60
_DAMPING = 0.5


@dataclass(frozen=True)
class Steady:
    """A steady state."""

    ttft: float
    """Time to the first token, in the mean [s]."""
    tpot: float
    """Time for each further token [s]."""
    requests_per_s: float
    decoding: float
    """Sequences that decode, in the mean [sequence]."""

    def latency(self, outputs: float) -> float:
        """Time of a request [s]."""
        return self.ttft + (outputs - 1.0) * self.tpot


def static_latency(prefill_time: Any, first_time: Any, last_time: Any, output_tokens: Any) -> Any:
    """Time of a batch whose requests begin and end together [s], as the arguments broadcast.

    One prefill, which yields the first token, then an iteration for each further token, whose times grow evenly with
    the context: t = p + (n - 1) (d_first + d_last) / 2.

    Parameters
    ----------
    prefill_time
        Of the whole batch [s].
    first_time, last_time
        Of the first and of the last decoding iteration [s].
    output_tokens
        Tokens that each request gets [token].

    Examples
    --------
    >>> static_latency(1.0, 0.1, 0.2, 101)
    16.0
    """
    return prefill_time + (output_tokens - 1.0) * 0.5 * (first_time + last_time)


def steady_rate(prompt_time: Any, iteration_time: Any, output_tokens: Any, sequences: Any) -> Any:
    """Requests a second that an engine answers while so many sequences decode [1/s], as the arguments broadcast.

    The engine is busy all the time: with the prompts of each request, and with iterations that give every sequence a
    token, 1 = x (p + (n - 1) d / s).

    Parameters
    ----------
    prompt_time
        Time that the prompt of a request adds [s].
    iteration_time
        Of an iteration without prompts [s].
    output_tokens
        Tokens of each request, or iterations that it takes, of which the prompt yields the first [token].
    sequences
        That decode [sequence].

    Examples
    --------
    >>> steady_rate(0.1, 0.02, 101, 20)
    5.0
    """
    return 1.0 / (prompt_time + (output_tokens - 1.0) * iteration_time / sequences)


def at_concurrency(
    table: IterationTable, policy: Policy, *, concurrency: float, input_tokens: float, output_tokens: float
) -> Steady:
    """The steady state of clients that ask again as soon as they are answered, all with the same lengths.

    Requests are out of step with each other, so that prompts come one by one. Those that wait while another prompt is
    computed are counted as in a closed queue with one server (mean value analysis, with the rest of a service that is
    always the same). Valid where the cache holds all requests.

    Parameters
    ----------
    table
        Times of iterations.
    policy
        How the engine schedules.
    concurrency
        Requests under way, at most as many as the policy lets in [request].
    input_tokens, output_tokens
        Of each request [token].
    """
    steps = 1.0 + (output_tokens - 1.0) / policy.tokens_a_step
    clients = min(concurrency, float(policy.most_sequences))
    queued = max(concurrency - clients, 0.0)
    decoding, first = clients, 0.0
    for _ in range(_ITERATIONS):
        work = _prompt(table, policy, decoding, input_tokens, output_tokens)
        iteration = _iteration(table, policy, decoding, input_tokens, output_tokens)
        rate = float(steady_rate(work.added, iteration, steps, max(decoding, 1e-9)))
        # Whoever comes finds what the other clients have before the server, of which one prompt is half done.
        others = max(clients - 1.0, 0.0) / clients
        ahead = max(rate * first - min(rate * work.time, 1.0) / 2.0, 0.0) * others
        wait = work.time * ahead + (iteration / 2.0 if decoding > 1.0 else 0.0)
        first += _DAMPING * (min(wait + work.time, clients / rate) - first)
        target = max(clients - rate * first, min(1.0, clients))
        decoding += _DAMPING * (target - decoding)
    between = (clients / rate - first) / max(output_tokens - 1.0, 1.0) if output_tokens > 1 else 0.0
    return Steady(first + queued / rate, max(between, 0.0), rate, decoding)


def saturated(table: IterationTable, policy: Policy, *, input_tokens: float, output_tokens: float) -> Steady:
    """The steady state where requests always wait: as many decode as the cache and the policy let in.

    Where the cache is not reserved, requests are put out and computed again, which costs up to a tenth and is not here.

    Parameters
    ----------
    table, policy, input_tokens, output_tokens
        As at a fixed concurrency.
    """
    full = largest_batch(policy, input_tokens, output_tokens)
    return at_concurrency(table, policy, concurrency=full, input_tokens=input_tokens, output_tokens=output_tokens)


def largest_batch(policy: Policy, input_tokens: float, output_tokens: float) -> float:
    """Sequences that an engine works on when requests always wait [sequence].

    Each holds its prompt and half of its output in the mean, or all of both where the cache is reserved.

    Examples
    --------
    >>> largest_batch(Policy(kv_tokens=100_000, block=1, reserves_all=True), 500, 500)
    100.0
    """
    held = policy.held(input_tokens + (1.0 if policy.reserves_all else 0.5) * output_tokens, 1.0)
    return min(float(policy.most_sequences), max(float(policy.kv_tokens // held), 1.0))


@dataclass(frozen=True)
class _PromptWork:
    """What a prompt takes."""

    time: float
    """From its first iteration to the end of its last [s]."""
    added: float
    """By which it makes the engine's work longer [s]."""


def _prompt(table: IterationTable, policy: Policy, decoding: float, inputs: float, outputs: float) -> _PromptWork:
    """What a prompt takes while others decode."""
    computed = max(math.ceil(inputs * (1.0 - policy.prefix_hits)), 1.0)
    cached = inputs - computed
    running = decoding if policy.chunked else 0.0
    budget = max(policy.token_budget - running * policy.slots_a_step, 1.0)
    chunks = max(math.ceil(computed / budget - 1e-9), 1)
    tokens = np.minimum(budget, computed - budget * np.arange(chunks)) if chunks < 1000 else np.full(chunks, budget)
    ahead = cached + np.concatenate(([0.0], np.cumsum(tokens)[:-1]))
    context = inputs + outputs / 2.0
    times = [
        timed(table, policy, float(part), float(before), running, context)
        for part, before in zip(tokens, ahead, strict=True)
    ]
    whole = float(sum(times))
    return _PromptWork(whole, whole - (chunks * timed(table, policy, 0.0, 0.0, running, context) if running else 0.0))


def _iteration(table: IterationTable, policy: Policy, decoding: float, inputs: float, outputs: float) -> float:
    """Time of an iteration that only decodes [s]."""
    return timed(table, policy, 0.0, 0.0, decoding, inputs + outputs / 2.0)
