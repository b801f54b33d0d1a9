"""Packed documents: what fused attention is asked for, worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import simulator
from simulator.formulas import flops
from simulator.pricing.requests import FusedAttention
from simulator.work.program import Program, program_of
from tests.work.asking import plain, program
from tests.work.small import named, small

_ALONE = {"tp": 1, "dp": 8, "sequence_parallel": False, "attention": "fused"}
_LENGTH = 20


def _asked(
    work: dict[str, Any], base: str = "llama-2-7b", plan: dict[str, Any] | None = None, **how: Any
) -> tuple[float, float, float]:
    """Queries, keys and batch of the fused attention of the first layer, 20 tokens and 3 sequences unless told."""
    whole = small(base, {**_ALONE, **(plan or {})}, workload=work, **how)
    request = named(whole.groups[0], "fused attention").forward[0].request
    assert isinstance(request, FusedAttention)
    return plain(request.queries), plain(request.keys), plain(request.batch)


def _pairs(work: dict[str, Any], **how: Any) -> float:
    """Pairs of a query and a key in a sequence, as if no mask were there."""
    queries, keys, batch = _asked(work, **how)
    return queries * keys * batch / 3


def test_documents_are_a_batch_of_shorter_sequences() -> None:
    assert _asked({}) == (20, 20, 3)
    assert _asked({"document_lengths": 5}) == (5, 5, 12)
    assert _asked({"document_lengths": 20}) == (20, 20, 3)


def test_pairs_are_the_sum_of_squares() -> None:
    assert _pairs({"document_lengths": [10, 6, 4]}) == pytest.approx(100 + 36 + 16)
    queries, _, batch = _asked({"document_lengths": [10, 6, 4]})
    assert (queries, batch) == pytest.approx((20 / 3, 9))


def test_a_list_is_a_sample_in_whose_proportions_documents_come() -> None:
    assert _asked({"document_lengths": [5, 5, 5, 2, 2]}) == pytest.approx(_asked({"document_lengths": [2, 5, 5, 2, 5]}))
    # 19 tokens of five documents make 20 of 20 / 19 as many.
    assert _pairs({"document_lengths": [5, 5, 5, 2, 2]}) == pytest.approx(83 * 20 / 19)


def test_longer_documents_are_cut_where_a_sequence_ends() -> None:
    # Of 50 tokens two sequences and 10 in a third.
    assert _pairs({"document_lengths": 50}) == pytest.approx((2 * 400 + 100) * 20 / 50)
    assert _asked({"document_lengths": 40}) == (20, 20, 3)


def test_a_window_ends_at_the_document() -> None:
    window = {"sizes": {"sliding_window": 4}}
    # As if no causal mask were there, twice what is seen: 2 w l - w^2 of a longer document, l^2 of a shorter.
    assert _pairs({"document_lengths": [10, 7, 3]}, **window) == pytest.approx(64 + 40 + 9)
    assert _pairs({"document_lengths": [20]}, **window) == pytest.approx(_pairs({}, **window)) == 2 * 4 * 20 - 16


def test_without_a_causal_mask_documents_see_all_of_themselves() -> None:
    assert _asked({"document_lengths": 5}, "bert-large") == (5, 5, 12)


def test_ranks_of_a_sequence_share_each_document() -> None:
    queries, keys, batch = _asked({"document_lengths": 10}, plan={"cp": 2, "dp": 4})
    assert (queries, keys, batch) == (5, 10, 6)
    whole, ring = (
        small("llama-2-7b", {**_ALONE, "cp": 2, "dp": 4}, workload=work).groups[0]
        for work in ({}, {"document_lengths": 10})
    )
    sent = [named(layer, "ring of keys and values").forward[0].request.message_bytes for layer in (whole, ring)]  # type: ignore[union-attr]
    assert sent[0] == sent[1]


def test_padding_that_stays_is_a_document_more() -> None:
    work = {"document_lengths": 5, "effective_tokens": 15}
    assert _pairs(work) == pytest.approx(3 * 25 + 25)
    assert _pairs({**work, "effective_tokens": 10}) == pytest.approx(2 * 25 + 100)
    # Where it is taken out the sequence is as long as its documents.
    assert _asked(work, unpads=1.0) == (5, 5, 9)


@pytest.mark.parametrize("how", [{"skips_documents": 0.0}, {"plan": {"attention": "unfused"}}])
def test_other_kernels_compute_the_whole_square(how: dict[str, Any]) -> None:
    whole, packed = (
        small(
            "llama-2-7b",
            {**_ALONE, **how.get("plan", {})},
            workload=work,
            **{k: v for k, v in how.items() if k != "plan"},
        )
        for work in ({}, {"document_lengths": 5})
    )
    assert packed.model_flops == whole.model_flops
    assert packed.together == whole.together


def test_a_deviation_is_a_log_normal_distribution() -> None:
    """Against a million documents drawn from it, cut and windowed one by one."""
    drawn = np.random.default_rng(0).lognormal(np.log(8**2 / np.hypot(8, 6)), np.sqrt(np.log1p((6 / 8) ** 2)), 10**6)
    for window in (None, 4):
        pieces = np.concatenate([np.full(int(np.sum(drawn // 20)), 20.0), drawn % 20])
        seen = flops.seen_keys(pieces, np.inf if window is None else window, causal=1.0)
        pairs = np.sum(pieces * seen) / np.sum(pieces) * 20
        sizes = {"sizes": {"sliding_window": window}}
        assert _pairs({"document_lengths": 8, "document_deviation": 6}, **sizes) == pytest.approx(pairs, rel=0.01)


def test_kept_bytes_are_those_of_whole_sequences() -> None:
    whole, packed = (small("llama-2-7b", _ALONE, workload=work) for work in ({}, {"document_lengths": [9, 11]}))
    assert packed.together == whole.together
    assert float(packed.model_flops) < float(whole.model_flops)


def _of_lengths(lengths: Any) -> Program:
    return program("llama-2-7b", workload={"sequence_length": 4096, "document_lengths": lengths}, system="dgx-h100")


def test_shorter_documents_cost_less() -> None:
    arithmetic = [float(_of_lengths(length).model_flops) for length in (4096, 2048, 1024, 256)]
    assert arithmetic == sorted(arithmetic, reverse=True)
    # Of the same mean those that differ have more pairs.
    assert float(_of_lengths([256, 1792]).model_flops) > float(_of_lengths(1024).model_flops)


def test_a_column_of_workloads_is_each_of_them() -> None:
    scenarios = [
        simulator.resolve(
            "llama-2-7b",
            "dgx-h100",
            plan={"dp": 8, "micro_batch": 1},
            workload={"sequence_length": 4096, "global_batch": 64, "document_lengths": lengths},
        ).columns()
        for lengths in ([2048, 1024], [700, 900], [512, 8000])
    ]
    alike = [each for each in scenarios if each.structure == scenarios[0].structure]
    stacked = program_of(type(alike[0]).stack(alike)).model_flops
    assert np.asarray(stacked).tolist() == [float(program_of(each).model_flops) for each in alike]
    assert len(alike) == 2
