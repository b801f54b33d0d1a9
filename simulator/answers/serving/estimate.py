"""The answer to what it takes to serve a model: latency, throughput, memory, money, and where the numbers come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardware.errors import InputError, shown
from hardware.measured import MeasuredProfile
from hardware.price import Price
from hardware.quantity import read_amount
from hardware.spec import System
from simulator.answers.serving import simulated
from simulator.answers.serving.costs import ServingBill, bill
from simulator.answers.serving.told import UNFITTED_SPREAD, Found, sources_of, warnings_of
from simulator.evidence.serving.limits import limits_of
from simulator.formulas.typing import Num
from simulator.pricing.constants import Constants
from simulator.scenario.prices import Prices
from simulator.scenario.scenario import Named
from simulator.serving.memory import largest_batch, largest_context, serving_memory
from simulator.serving.passes import ServingPasses, pass_times
from simulator.serving.scenario import ServingScenario, resolve_serving
from simulator.serving.steady import most_sequences, steady
from simulator.specs.model import Model
from simulator.specs.serving.plan import ServingPlan
from simulator.specs.serving.stack import ServingStack


@dataclass(frozen=True)
class ServingEstimate:
    """What requests to a model meet; times in seconds, sizes in bytes, rates of all replicas together."""

    model: str
    system: str
    devices: int
    stack: str
    backend: str
    plan: dict[str, Any]
    load: dict[str, Any]
    figures: dict[str, float]
    """Times and rates, each with limits named `_low` and `_high`."""
    percentiles: dict[str, dict[str, float]]
    """By what is measured and share of requests; known only where requests are simulated one by one."""
    largest_batch: int
    """Sequences of such lengths that one replica holds."""
    largest_context: int
    """Tokens of each of the sequences that are in work, up to which one replica holds them."""
    memory_bytes: dict[str, float]
    fits: bool
    breakdown_s: dict[str, dict[str, float]]
    limited_by: str
    bill: ServingBill
    warnings: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    scenario: ServingScenario | None = field(default=None, repr=False, compare=False)
    """What was served."""

    def __getattr__(self, name: str) -> float:
        """A time or a rate by its name, such as `tpot_s`."""
        figures = self.__dict__.get("figures", {})
        if name in figures:
            return float(figures[name])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dictionaries."""
        return {
            "model": self.model,
            "system": self.system,
            "devices": self.devices,
            "stack": self.stack,
            "backend": self.backend,
            "plan": self.plan,
            "load": self.load,
            **self.figures,
            "percentiles": self.percentiles,
            "largest_batch": self.largest_batch,
            "largest_context": self.largest_context,
            "memory_bytes": self.memory_bytes,
            "fits": self.fits,
            "breakdown_s": self.breakdown_s,
            "limited_by": self.limited_by,
            "cost": self.bill.cost,
            "energy": self.bill.energy,
            "warnings": list(self.warnings),
            "sources": list(self.sources),
            "assumed": list(self.assumed),
        }


def serve(
    model: Named | Model,
    system: str | Path | System,
    *,
    devices: int | None = None,
    stack: str | Path | ServingStack | None = None,
    input_tokens: float | None = None,
    output_tokens: float | None = None,
    batch: int | None = None,
    concurrency: int | None = None,
    rate: float | str | None = None,
    cached: float = 0.0,
    plan: Named | ServingPlan | None = None,
    tp: int | None = None,
    pp: int | None = None,
    ep: int | None = None,
    replicas: int | None = None,
    weights: str | None = None,
    kv_cache: str | None = None,
    precision: str | None = None,
    ttft: float | str | None = None,
    tpot: float | str | None = None,
    price: float | str | Price | None = None,
    price_kind: str | None = None,
    prices: Prices | None = None,
    grid: str = "world",
    overhead: str = "default",
    constants: str | Path | Constants | None = None,
    profile: str | Path | MeasuredProfile | None = None,
    simulate: simulated.Simulated | None = None,
) -> ServingEstimate:
    """Price what requests to a model meet on a system.

    Parameters
    ----------
    model, system, devices
        As of `simulator.estimate`; one replica's devices unless given.
    stack
        The engine, such as ``vllm``; what people would use unless given.
    input_tokens, output_tokens
        Lengths of prompt and answer, the means of all; of an encoder its input alone [token].
    batch, concurrency, rate
        One of: sequences that begin and end together, requests in work at any time, requests that arrive in a second
        (a number, or ``20/s``); as many as fit unless given.
    cached
        Share of a prompt that is in the prefix cache [1].
    plan, tp, pp, ep, replicas, weights, kv_cache, precision
        The split and the formats, as `simulator.specs.serving.plan.ServingPlan` has them.
    ttft, tpot
        Service levels: time to the first token, and between tokens, in seconds or as ``50ms``.
    price, price_kind, prices, grid, overhead, constants, profile
        As of `simulator.estimate`.
    simulate
        Requests to answer one by one for percentiles; none are, and there are no percentiles, unless given.

    Raises
    ------
    InputError
        One sentence with the place, the value and what would be valid.

    Examples
    --------
    >>> answer = serve("llama-3-8b", "dgx-h100", devices=1, input_tokens=1024, output_tokens=128, batch=16)
    >>> answer.fits, answer.stack, answer.limited_by
    (True, 'vllm', 'memory bandwidth')
    """
    if input_tokens is None:
        raise InputError(
            "input_tokens is missing: say how long a prompt or a sequence is, such as --input-tokens 512",
            fields=["load.input_tokens"],
        )
    load: dict[str, Any] = {"input_tokens": input_tokens, "output_tokens": output_tokens, "batch": batch}
    load |= {"concurrency": concurrency, "rate": _rate(rate), "cached": cached}
    served = resolve_serving(
        model,
        system,
        devices=devices,
        stack=stack,
        plan=plan,
        load={name: value for name, value in load.items() if value is not None},
        constants=constants,
        profile=profile,
        tp=tp,
        pp=pp,
        ep=ep,
        replicas=replicas,
        weights=weights,
        kv_cache=kv_cache,
        precision=precision,
    )
    levels = {name: _seconds(name, value) for name, value in (("ttft_s", ttft), ("tpot_s", tpot)) if value is not None}
    money = {"price": price, "price_kind": price_kind, "prices": prices, "grid": grid, "overhead": overhead}
    return answer(served, levels=levels, simulation=simulate, **money)


def answer(
    served: ServingScenario,
    *,
    levels: dict[str, float] | None = None,
    simulation: simulated.Simulated | None = None,
    **money: Any,
) -> ServingEstimate:
    """Answer a complete scenario; `levels` are service levels [s], `simulation` and `money` as of `serve`."""
    load = served.load
    if load is None:
        raise InputError("load is missing: say input_tokens, and of a model that generates output_tokens")
    times, assumed = pass_times(served), list(served.assumed)
    found = _generated(served, times) if served.generates else _encoded(served, times)
    memory = found.memory
    spent = bill(served, found.requests_per_s, found.prefill_share, assumed, **money)
    return ServingEstimate(
        model=served.model.id,
        system=served.system.id,
        devices=served.devices,
        stack=served.stack.id,
        backend=served.backend.name,
        plan=served.plan.model_dump(mode="json", exclude_none=True),
        load={**load.model_dump(mode="json", exclude_none=True), **(levels or {})},
        figures=_with_limits(served, found),
        percentiles={} if simulation is None else simulated.told(simulated.simulated(served, simulation), levels or {}),
        largest_batch=found.largest_batch,
        largest_context=found.largest_context,
        memory_bytes=memory.to_dict(),
        fits=memory.fits,
        breakdown_s=found.breakdown,
        limited_by=found.limited_by,
        bill=spent,
        warnings=tuple(warnings_of(served, found, levels or {})),
        sources=tuple(sources_of(served)),
        assumed=tuple(assumed),
        scenario=served,
    )


def _generated(served: ServingScenario, times: ServingPasses) -> Found:
    """What requests meet that get an answer."""
    load, found = served.load, steady(served, times)
    assert load is not None
    output = load.output_tokens or 1.0
    each = load.input_tokens + output
    done = float(found.requests_per_s)
    figures = {"ttft_s": float(found.ttft), "tpot_s": float(found.tpot), "latency_s": float(found.latency)}
    figures |= {"output_tokens_per_s": done * output, "total_tokens_per_s": done * each, "requests_per_s": done}
    return Found(
        figures=figures,
        memory=serving_memory(served, found.sequences, each),
        requests_per_s=done,
        prefill_share=float(found.prefill_share),
        breakdown={"prefill": _whole(found.prefill.parts), "decode": _whole(found.decode.parts)},
        limited_by=found.limited_by,
        largest_batch=largest_batch(served, each),
        largest_context=largest_context(served, found.sequences),
        load=found,
    )


def _encoded(served: ServingScenario, times: ServingPasses) -> Found:
    """What sequences meet that are encoded: batches one after the other on each replica."""
    load = served.load
    assert load is not None
    if load.output_tokens is not None:
        raise InputError(
            f"output_tokens={load.output_tokens:.15g}: {served.model.id} encodes and generates nothing; leave it out",
            fields=["load.output_tokens"],
        )
    together = load.batch or load.concurrency or (1 if load.rate is not None else served.replicas)
    own = -(-together // served.replicas)
    cost = times.encode_cost(float(own), load.input_tokens)
    latency = float(cost.time)
    most = together / latency
    done = most if load.rate is None else min(load.rate, most)
    figures = {"latency_s": latency, "sequences_per_s": done, "tokens_per_s": done * load.input_tokens}
    return Found(
        figures=figures,
        memory=serving_memory(served, own, load.input_tokens),
        requests_per_s=done,
        prefill_share=1.0,
        breakdown={"prefill": _whole(cost.parts), "decode": {}},
        limited_by=max(cost.limits, key=lambda name: float(cost.limits[name])),
        largest_batch=largest_batch(served, load.input_tokens),
        largest_context=int(load.input_tokens),
    )


def _whole(parts: dict[str, Num]) -> dict[str, float]:
    """Parts that take time [s]."""
    return {name: float(value) for name, value in parts.items() if float(value) != 0.0}


def _with_limits(served: ServingScenario, found: Found) -> dict[str, float]:
    """Times and rates, each with its limits: by errors on runs like it, or a stated factor where no run tells them."""
    told: dict[str, float] = {}
    load = served.load
    own = ((load.batch or load.concurrency or 1) if load is not None else 1) / served.replicas
    sequences = own if found.load is None else float(found.load.sequences)
    for name, value in found.figures.items():
        limits = limits_of(served, name, sequences) or (1.0 / UNFITTED_SPREAD, UNFITTED_SPREAD)
        told |= {name: value, f"{name}_low": value * limits[0], f"{name}_high": value * limits[1]}
    return told


def _seconds(name: str, value: float | str) -> float:
    """A service level in seconds."""
    try:
        seconds = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        seconds = read_amount(str(value), "time") if seconds is None else seconds
    except ValueError as error:
        raise InputError(f"{name[:-2]}={shown(value)}: {error}", fields=[name[:-2]]) from None
    if not 0.0 < seconds < float("inf"):
        raise InputError(f"{name[:-2]}={shown(value)}: give a time above 0, such as 50ms", fields=[name[:-2]])
    return seconds


def _rate(value: float | str | None) -> float | None:
    """Requests a second, written as a number, or as 20/s."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    text = str(value).strip().removesuffix("/s").strip()
    try:
        return float(text)
    except ValueError:
        raise InputError(f"rate={shown(value)}: write requests a second, such as 20/s", fields=["load.rate"]) from None


__all__ = ["ServingEstimate", "answer", "most_sequences", "serve"]
