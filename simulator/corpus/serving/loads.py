"""What was asked of a served model, completed: lengths and how requests came."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from simulator.corpus.notes import Notes
from simulator.corpus.runs import RefusedError
from simulator.corpus.serving.schema import ServingRun
from simulator.corpus.words import first_rule

Kind = Literal["static", "concurrency", "rate", "saturated"]
MOST_LENGTH = 10_000_000.0
_FEW = 10.0
"""Tokens of a prompt "of a few tokens"."""


@dataclass(frozen=True)
class ServedDemand:
    """What was asked of it."""

    kind: Kind
    input_tokens: float
    """Tokens of a prompt, or of a sequence as it was computed, in the mean [token]."""
    output_tokens: float
    """Tokens of an answer, in the mean; 1 where it only reads [token]."""
    sequences: float
    """Of a batch, or requests under way; 1 where requests always wait or come at a rate [sequence]."""
    rate: float = 0.0
    """Requests that come in a second [1/s]."""
    cached_tokens: float = 0.0
    """Tokens that are in the cache before [token]."""
    chunk: float | None = None
    """Tokens of a prompt that one pass takes, where that was told [token]."""
    rounds: float = math.inf
    """Requests of the whole run over those under way, which all begin at once [1]."""


def demand_of(run: ServingRun, *, unpadded: bool, notes: Notes) -> ServedDemand:
    """What was asked of a run.

    Parameters
    ----------
    run
        The run.
    unpadded
        Whether its software takes padding out.
    notes
        Receives what was assumed.

    Raises
    ------
    RefusedError
        Where lengths or the batch were not published, or cannot be.
    """
    load = run.load
    inputs, outputs = _lengths(run, unpadded=unpadded, notes=notes)
    if load.saturated and load.concurrency is None:
        return ServedDemand("saturated", inputs, outputs, 1.0)
    if load.request_rate is not None:
        return ServedDemand("rate", inputs, outputs, 1.0, rate=load.request_rate)
    if load.concurrency is not None:
        number = _counted("concurrency", load.concurrency)
        drawn = first_rule("samplings", run.source.title)
        rounds = load.num_prompts / number if load.num_prompts is not None else float(drawn.get("rounds", math.inf))
        return ServedDemand("concurrency", inputs, outputs, number, rounds=max(rounds, 1.0))
    if load.batch is None:
        raise RefusedError("no batch")
    cached = load.cached_tokens or 0.0
    if run.task == "decode" and load.context_tokens is not None:
        cached = load.context_tokens
    return ServedDemand(
        "static", inputs, outputs, _counted("batch", load.batch), cached_tokens=cached, chunk=run.plan.prompt_batch
    )


def _lengths(run: ServingRun, *, unpadded: bool, notes: Notes) -> tuple[float, float]:
    """Tokens of a prompt and of an answer."""
    load = run.load
    known = first_rule("datasets", load.dataset)
    inputs = load.input_tokens
    if run.task == "encode" and load.mean_input_tokens is not None and unpadded:
        inputs = load.mean_input_tokens
    if inputs is None and load.padded_to is not None and not unpadded:
        inputs = load.padded_to
    if inputs is None:
        inputs = load.mean_input_tokens or load.padded_to
    if inputs is None and "input_tokens" in known:
        inputs = float(known["input_tokens"])
        notes.assume(f"lengths: a mean of {inputs:g} tokens, as the data set has")
    outputs = load.output_tokens
    if outputs is None and run.task in ("generate", "decode") and "output_tokens" in known:
        outputs = float(known["output_tokens"])
    if run.task in ("encode", "prefill"):
        outputs = 1.0
    if inputs is None and run.task in ("generate", "decode") and load.output_tokens is not None:
        inputs = _FEW
        notes.assume(f"lengths: prompts of {_FEW:g} tokens")
    if inputs is None or outputs is None:
        raise RefusedError("lengths not published")
    drawn = float(first_rule("samplings", run.source.title).get("lengths", 1.0))
    inputs, outputs = max(drawn * inputs, 1.0), max(drawn * outputs, 1.0)
    if not (1.0 <= inputs <= MOST_LENGTH and 1.0 <= outputs <= MOST_LENGTH):
        raise RefusedError("lengths that cannot be", f"{inputs:g} and {outputs:g} tokens")
    return inputs, outputs


def _counted(name: str, value: float) -> float:
    """A published number of sequences.

    Raises
    ------
    RefusedError
        Where it is none.
    """
    if not 1.0 <= value <= 1e6:
        raise RefusedError("a count that cannot be", f"{name}={value:g}")
    return value
