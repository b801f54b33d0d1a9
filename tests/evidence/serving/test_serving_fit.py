"""The fit of engines' factors: what it finds in runs that were made with known ones, and what it must not do."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from simulator.corpus.serving.mapping import serving_case_of
from simulator.corpus.serving.schema import ServingRun
from simulator.evidence.serving.fitting import ServingFit
from simulator.evidence.serving.order import pairs_in_order
from simulator.evidence.serving.predictions import Observations, Predictor, predictions
from simulator.evidence.serving.pricing import PricedCase, ServedBatch, priced_case_of
from simulator.serving.constants import KINDS, ServingConstants, ServingFactors, levels_of
from simulator.serving.passes import pass_times
from simulator.serving.scenario import resolve_serving
from tests.corpus.serving.test_serving_runs import row

GENERATED = {"input_tokens": 512, "output_tokens": 128}


def case(the_id: str = "one", **changes: Any) -> PricedCase:
    made = ServingRun.model_validate({**row(**changes), "id": the_id, "collection": changes.get("collection", "own")})
    return priced_case_of(serving_case_of(made))


def passes_of(cases: list[PricedCase], **factors: float) -> Any:
    table = np.zeros((len(cases), len(KINDS)))
    for kind, value in factors.items():
        table[:, list(KINDS).index(kind)] = value
    return ServedBatch(cases).passes(table)


def figures_of(cases: list[PricedCase], **factors: float) -> dict[str, Any]:
    passes = passes_of(cases, **factors)
    return Predictor(cases).figures(passes.prompt, passes.decode, passes.added)


def test_a_static_batch_is_its_prefill_and_its_iterations() -> None:
    figures = figures_of([case()])
    engine = resolve_serving("llama-3-8b", "dgx-h100", devices=2, tp=2, stack="vllm", weights="fp8")
    times = pass_times(_plain(engine))
    prompt, decode = float(times.prefill(8, 512)), float(times.decode(8, 512 + 64))
    assert figures["total_latency_s"][0] == pytest.approx(prompt + 127 * decode, rel=0.02)
    assert figures["ttft_s"][0] == pytest.approx(prompt, rel=0.02)
    assert figures["output_tokens_per_s"][0] == pytest.approx(8 * 128 / figures["total_latency_s"][0])
    assert figures["total_tokens_per_s"][0] == pytest.approx(8 * 640 / figures["total_latency_s"][0])


def _plain(engine: Any) -> Any:
    from dataclasses import replace

    return replace(engine, factors=ServingFactors())


def test_faster_kernels_never_make_a_figure_worse() -> None:
    cases = [
        case(),
        case(load={**GENERATED, "batch": None, "concurrency": 16}, measured={"ttft_s": 0.1, "tpot_s": 0.01}),
        case(load={**GENERATED, "batch": None, "saturated": True}),
    ]
    plain = figures_of(cases)
    little = 5e-3  # what a prompt adds to others is a difference of two passes, whose corners are soft
    for kind in ("products", "streaming", "attention", "decode_attention", "kernels", "links"):
        faster = figures_of(cases, **{kind: 0.1})
        for name in ("ttft_s", "tpot_s", "total_latency_s"):
            assert (faster[name] <= plain[name] * (1.0 + little)).all()
        assert (faster["output_tokens_per_s"] >= plain["output_tokens_per_s"] * (1.0 - little)).all()
    for kind in ("gaps", "launches", "iterations", "prompts"):
        slower = figures_of(cases, **{kind: 0.1})
        assert (slower["total_latency_s"] >= plain["total_latency_s"] * (1.0 - little)).all()


def test_no_rate_is_beyond_what_the_device_can_do() -> None:
    assert figures_of([case()], streaming=2.0)["tpot_s"][0] == figures_of([case()], streaming=5.0)["tpot_s"][0]
    assert figures_of([case()], products=2.0)["ttft_s"][0] == figures_of([case()], products=5.0)["ttft_s"][0]


def test_derivatives_tell_what_a_factor_does() -> None:
    cases = [case(), case(load={**GENERATED, "batch": None, "concurrency": 64}, measured={"ttft_s": 1.0})]
    seen, predictor, passes = Observations.of(cases), Predictor(cases), passes_of(cases)
    at = np.zeros((2, len(KINDS)))
    here, slopes = predictions(predictor, seen, passes, at)
    for place, kind in enumerate(KINDS):
        moved = at.copy()
        moved[:, place] = 1e-3
        there, _ = predictions(predictor, seen, passes, moved)
        assert np.allclose((there - here) / 1e-3, slopes[:, place], atol=5e-3), kind


@cache
def made_with(streaming: float, iterations: float) -> ServingFit:
    """A fit to runs as an engine with known factors would measure them."""
    loads = [
        {"input_tokens": inputs, "output_tokens": 128, "batch": batch}
        for inputs in (128, 2048)
        for batch in (1, 16, 64)
    ]
    models = [
        {"name": "llama3-8b"},
        {"name": "llama2-13b", "layers": 40, "hidden": 5120, "heads": 40, "kv_heads": 40, "ffn": 13824, "vocab": 32000},
    ]
    cases = [
        case(f"{place} {number}", model=model, load=load, collection=f"source {place}")
        for place, model in enumerate(models)
        for number, load in enumerate(loads)
    ]
    truth = figures_of(cases, streaming=streaming, iterations=iterations)["total_latency_s"]
    for place, each in enumerate(cases):
        measured = each.case.run.measured.model_copy(update={"total_latency_s": float(truth[place])})
        object.__setattr__(each.case.run, "measured", measured)
    return ServingFit(cases)


def test_a_fit_finds_the_factors_that_runs_were_made_with() -> None:
    fit = made_with(-0.3, 0.6)
    every = np.ones(len(fit.cases), dtype=bool)
    before = np.median(np.abs(fit.residuals(np.zeros(len(fit.places.names)))[0]))
    vector = fit.solve(every)
    after = np.median(np.abs(fit.residuals(vector)[0]))
    factors = dict(zip(KINDS, fit.places.factors(vector)[0], strict=True))
    assert after < 0.1 * before
    assert -0.4 < factors["streaming"] < -0.1  # held by its prior; attention over the cache takes the rest
    assert factors["iterations"] > 0.2
    assert np.array_equal(vector, fit.solve(every))


def test_what_is_left_out_is_not_seen() -> None:
    fit = made_with(-0.3, 0.6)
    first = np.array([each.case.run.collection == "source 0" for each in fit.cases])
    told = fit.solve(~first)
    for each in (each for each, own in zip(fit.cases, first, strict=True) if own):
        measured = each.case.run.measured
        object.__setattr__(measured, "total_latency_s", 100.0)
    assert np.array_equal(told, ServingFit(fit.cases).solve(~first))
    made_with.cache_clear()


def test_constants_add_up_over_levels() -> None:
    names = list(levels_of("vllm", "h100-sxm", "fp8").values())
    constants = ServingConstants({"streaming": dict.fromkeys(names, 0.1), "gaps": {"all": -0.2, "sglang": 9.0}})
    factors = constants.of("vllm", "h100-sxm", "fp8")
    assert factors.streaming == pytest.approx(0.5)
    assert factors.gaps == pytest.approx(-0.2)
    assert constants.of("vllm", "h100-sxm", "bf16").streaming == pytest.approx(0.4)
    assert constants.of("vllm", "h100-sxm", "fp8", generates=False).streaming == pytest.approx(0.1)


def test_pairs_that_hardly_differ_do_not_count() -> None:
    close = pairs_in_order(["a", "a"], ["tpot_s"] * 2, np.array([1.0, 1.04]), np.array([1.0, 0.5]))
    assert close.pairs == 0
    assert close.to_dict()["right"] is None
    apart = pairs_in_order(["a", "b"], ["tpot_s"] * 2, np.array([1.0, 2.0]), np.array([1.0, 3.0]))
    assert apart.pairs == 0
