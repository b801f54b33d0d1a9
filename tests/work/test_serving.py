"""Programs of inference: an iteration is what its prompts and its single tokens are, and a batch what its parts are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulator.serving.scenario import ServingScenario, resolve_serving
from simulator.serving.stored import served_program
from simulator.specs.serving.iterations import Iterations
from simulator.work.program import Program

CASES: dict[str, dict[str, Any]] = {
    "multi-head": {"model": "llama-2-7b", "system": "dgx-h100", "devices": 1},
    "grouped, split": {"model": "llama-3-70b", "system": "dgx-h100", "devices": 8, "tp": 8},
    "latent, experts": {"model": "deepseek-v2-lite", "system": "dgx-h200", "devices": 1, "tp": 1},
    "window": {"model": "gemma-2-9b", "system": "dgx-h100", "devices": 1},
}
EVERY = pytest.mark.parametrize("case", CASES)


def program(served: ServingScenario, **said: float) -> Program:
    none = dict.fromkeys(("prompts", "cached", "decodes", "encoded", "sampled"), 0.0)
    work = Iterations(**{**none, "prompt_tokens": 1.0, "context": 1.0, **said}, cache_bytes=2.0)
    return served_program(served, served.iteration(work))


def arithmetic(of: Program) -> float:
    return float(np.asarray(of.model_flops))


@EVERY
def test_an_iteration_does_what_its_prompt_and_its_single_tokens_do(case: str) -> None:
    served = resolve_serving(**CASES[case])
    prompt = {"prompts": 1.0, "prompt_tokens": 512.0, "cached": 256.0}
    single = {"decodes": 16.0, "context": 700.0}
    both = arithmetic(program(served, **prompt, **single, sampled=17.0))
    apart = arithmetic(program(served, **prompt, sampled=1.0)) + arithmetic(program(served, **single, sampled=16.0))
    assert both == pytest.approx(apart, rel=1e-9)


@EVERY
def test_a_prompt_in_chunks_does_what_it_does_at_once(case: str) -> None:
    """But for the mask, of which chunks leave out a part; latents of former chunks are expanded again."""
    served = resolve_serving(**CASES[case])
    whole = arithmetic(program(served, prompts=1.0, prompt_tokens=1024.0))
    first = arithmetic(program(served, prompts=1.0, prompt_tokens=512.0))
    second = arithmetic(program(served, prompts=1.0, prompt_tokens=512.0, cached=512.0))
    expanded = "latent" in case
    assert first + second == pytest.approx(whole, rel=0.15 if expanded else 0.05)


@EVERY
def test_nothing_runs_backward_or_is_kept(case: str) -> None:
    served = resolve_serving(**CASES[case])
    for block in program(served, prompts=1.0, prompt_tokens=64.0, decodes=4.0, context=64.0, sampled=5.0).blocks:
        assert all(not operator.backward for operator in block.operators)
        assert all(float(np.asarray(operator.kept.saved)) == 0.0 for operator in block.operators)


def test_ranks_split_the_arithmetic_of_a_token() -> None:
    one, eight = (
        arithmetic(
            program(
                resolve_serving("llama-2-7b", "dgx-h100", devices=tp, tp=tp), decodes=8.0, context=99.0, sampled=8.0
            )
        )
        for tp in (1, 8)
    )
    assert eight * 8 == pytest.approx(one, rel=1e-9)


def test_experts_do_the_arithmetic_of_their_tokens_however_few_are_touched() -> None:
    """Two of eight experts of three matrices for each token, at 1 and at 1,000 tokens."""
    served = resolve_serving("mixtral-8x7b", "dgx-h200", devices=1, tp=1, weights="fp8")
    for tokens in (1.0, 7.0, 1000.0):
        group = program(served, decodes=tokens, context=9.0, sampled=tokens).groups[0]
        router = 2 * tokens * 4096 * 8
        expected = 2 * tokens * 2 * 3 * 4096 * 14336 + router
        assert float(np.asarray(group.flops_of("feed_forward"))) == pytest.approx(expected, rel=1e-9)
