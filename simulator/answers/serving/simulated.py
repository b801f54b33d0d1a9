"""Latencies of single requests: the scheduler of an engine, simulated at a load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.errors import InputError
from simulator.serving.memory import largest_batch
from simulator.serving.passes import pass_times
from simulator.serving.scenario import ServingScenario
from simulator.serving.scheduling.lengths import Lengths, read_trace
from simulator.serving.scheduling.outcome import Served
from simulator.serving.scheduling.policy import Policy, Speculation
from simulator.serving.scheduling.simulation import Demand, simulate
from simulator.serving.scheduling.times import IterationTable
from simulator.specs.serving.plan import ServingLoad

REQUESTS = 2000
"""Requests that are simulated unless told."""


@dataclass(frozen=True)
class Simulated:
    """What is simulated, and how lengths of requests differ.

    Parameters
    ----------
    requests
        How many [request].
    input_lengths, output_lengths
        As `simulator.serving.scheduling.lengths.Lengths.read` reads them; all alike unless given.
    trace
        A file of lengths, and of arrivals where it has them.
    draft_length, acceptance
        Tokens that a draft proposes for each iteration, and the probability that one is accepted.
    seed
        Of chance.
    """

    requests: int = REQUESTS
    input_lengths: str | None = None
    output_lengths: str | None = None
    trace: str | None = None
    draft_length: int | None = None
    acceptance: float | None = None
    seed: int = 0


def simulated(served: ServingScenario, asked: Simulated) -> Served:
    """Answer requests one by one at the load of a scenario.

    Parameters
    ----------
    served
        With a load that has a rate or a number of requests in work, or with a trace that has arrivals.
    asked
        What is simulated.

    Raises
    ------
    InputError
        Where the engine begins and ends requests together, the load tells no way in which they come, or a length is
        none.
    """
    load = served.load
    if load is None or not served.generates or not served.stack.continuous:
        raise InputError(
            f"{served.stack.id} on {served.model.id}: requests are simulated of an engine that generates with "
            "continuous batching; leave --simulate out",
            fields=["load"],
        )
    demand = _demand(load, asked)
    longest = int((demand.inputs + demand.outputs).max())
    mean = float((demand.inputs + demand.outputs).mean())
    held = largest_batch(served, mean)
    policy = Policy(
        kv_tokens=max(float(np.ceil(held * mean)), 1.0),
        most_sequences=served.stack.most_sequences,
        token_budget=served.plan.chunk or served.stack.chunk,
        chunked=served.stack.chunked,
        block=served.plan.block_size or 1,
        prefix_hits=min(load.cached, 0.999),
        speculation=_speculation(asked),
    )
    most_prompts = min(float(policy.token_budget), float(demand.inputs.max()) * policy.most_sequences)
    table = IterationTable.of(
        pass_times(served).mixed,
        most_prompt_tokens=max(most_prompts, 16.0),
        most_sequences=float(min(policy.most_sequences, max(held, 1)) * policy.slots_a_step),
        contexts=(max(float(demand.inputs.mean()) / policy.slots_a_step, 1.0), float(longest)),
    )
    return simulate(demand, table, policy, replicas=served.replicas)


def _speculation(asked: Simulated) -> Speculation | None:
    """Drafted tokens, where there are any."""
    if asked.draft_length is None and asked.acceptance is None:
        return None
    if asked.draft_length is None or asked.acceptance is None:
        raise InputError("--draft-length and --acceptance go together: tokens of a draft, and how likely one is taken")
    return Speculation(asked.draft_length, asked.acceptance)


def _demand(load: ServingLoad, asked: Simulated) -> Demand:
    """Requests, and when they come."""
    if asked.trace is not None:
        if asked.input_lengths is not None or asked.output_lengths is not None:
            raise InputError("--trace has the lengths of its requests; leave --input-lengths and --output-lengths out")
        return Demand.of_trace(read_trace(asked.trace), concurrency=load.concurrency, rate=load.rate)
    inputs, outputs = (
        Lengths(float(mean)) if words is None else Lengths.read(words, option)
        for mean, words, option in (
            (load.input_tokens, asked.input_lengths, "--input-lengths"),
            (load.output_tokens or 1.0, asked.output_lengths, "--output-lengths"),
        )
    )
    if load.rate is not None:
        return Demand.at_rate(load.rate, inputs, outputs, requests=asked.requests, seed=asked.seed)
    if load.concurrency is not None:
        return Demand.at_concurrency(load.concurrency, inputs, outputs, requests=asked.requests, seed=asked.seed)
    raise InputError(
        "requests are simulated at a rate or with a number of them in work; give --rate or --concurrency, or a --trace "
        "with arrivals",
        fields=["load.rate", "load.concurrency"],
    )


def told(served: Served, levels: dict[str, float]) -> dict[str, Any]:
    """What came of the requests: percentiles, rates, and the share that keeps service levels."""
    found = served.to_dict()
    limits = {name[:-2]: value for name, value in levels.items()}
    return {
        **found.pop("percentiles"),
        "simulated": {
            **found,
            "kept": served.kept(**limits),
            "goodput_per_s": served.goodput(**limits),
        },
    }
