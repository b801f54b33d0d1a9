"""Attention of the kinds that families have, worked out by hand: what it multiplies, moves, keeps and owns."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.pricing.requests import FusedAttention
from simulator.work.operators import Operator
from tests.work.asking import plain
from tests.work.small import moved, named, sizes, small

_ALONE = {"tp": 1, "dp": 8, "sequence_parallel": False}
"""On one rank: 60 tokens of 6 heads, 8 wide, and 48 wide themselves."""
_LATENT: dict[str, Any] = {
    "head_size": 12,
    "rotary_head_size": 4,
    "value_head_size": 10,
    "key_value_rank": 16,
    "query_rank": 20,
    "key_value_heads": None,
}


def _layer(base: str = "llama-2-7b", plan: dict[str, Any] | None = None, **changes: Any) -> Any:
    return small(base, {**_ALONE, **(plan or {})}, sizes=changes, eager=0.0).groups[0]


def _names(block: Any) -> list[str]:
    return [operator.name for operator in block.operators]


def _owned(operator: Operator) -> float:
    return plain(operator.kept.parameters)


def test_latent_attention_passes_through_latents() -> None:
    layer = _layer(**_LATENT)
    assert sizes(named(layer, "latent of queries")) == (60, 20, 48, 1, 1)
    assert sizes(named(layer, "query projection out of the latent")) == (60, 6 * 12, 20, 1, 1)
    assert sizes(named(layer, "latent of keys and values")) == (60, 16 + 4, 48, 1, 1)
    # Of each head the part of the key without positions, and the value.
    assert sizes(named(layer, "key and value projection out of the latent")) == (60, 6 * (8 + 10), 16, 1, 1)
    assert sizes(named(layer, "attention output")) == (60, 48, 6 * 10, 1, 1)
    assert _owned(named(layer, "latent of queries")) == 48 * 20
    assert _owned(named(layer, "normalisation of the latent of queries")) == 20
    assert _owned(named(layer, "latent of keys and values")) == 48 * 20
    assert _owned(named(layer, "normalisation of the latent of keys and values")) == 16
    assert "query projection" not in _names(layer)


def test_latent_attention_keeps_its_input_once_and_both_latents() -> None:
    layer = _layer(**_LATENT)
    kept = {name: plain(named(layer, name).kept.saved) for name in dict.fromkeys(_names(layer))}
    assert kept["latent of queries"] == 60 * 48 * 2
    assert kept["latent of keys and values"] == 0
    assert kept["normalisation of the latent of queries"] == 60 * (20 * 2 + 4)
    # The latent is a part of a tensor, all of which stays.
    assert kept["normalisation of the latent of keys and values"] == 60 * (20 * 2 + 4)
    assert kept["query projection out of the latent"] == 60 * 20 * 2
    assert kept["key and value projection out of the latent"] == 60 * 16 * 2
    assert kept["layout of heads"] == 60 * 6 * (12 + 12 + 10) * 2


def test_queries_without_a_latent_are_projected_directly() -> None:
    layer = _layer(**{**_LATENT, "query_rank": None})
    assert sizes(named(layer, "query projection")) == (60, 72, 48, 1, 1)
    assert plain(named(layer, "query projection").kept.saved) == 60 * 48 * 2
    assert "latent of queries" not in _names(layer)


def test_ranks_make_latents_of_their_own_tokens_and_heads_of_all() -> None:
    layer = small("llama-2-7b", sizes=_LATENT).groups[0]
    assert sizes(named(layer, "latent of keys and values")) == (30, 20, 48, 1, 1)
    assert sizes(named(layer, "key and value projection out of the latent")) == (60, 3 * 18, 16, 1, 1)
    latent = named(layer, "latent of keys and values").kept
    assert plain(latent.partial_parameters) == plain(latent.parameters) == 48 * 20


def test_a_fused_kernel_of_two_widths_multiplies_both() -> None:
    asked: dict[str, Any] = {"queries": 20.0, "keys": 20.0, "batch": 3.0, "heads": 6.0, "key_value_heads": 6.0}
    asked |= {"head_size": 12.0, "value_head_size": 10.0, "causal": 1.0}
    pairs = 2 * 20 * 20 * 3 * 6
    forward, backward = (FusedAttention(**asked, backward=back) for back in (False, True))
    assert plain(forward.flops) == pairs * (12 + 10)
    assert plain(backward.flops) == pairs * (3 * 12 + 2 * 10)
    assert plain(backward.recomputed_flops) == pairs * 12
    assert plain(forward.mean_head_size) == 11
    alike = FusedAttention(**{**asked, "value_head_size": None})
    assert plain(alike.flops) == plain(FusedAttention(**{**asked, "value_head_size": 12.0}).flops) == pairs * 24
    fused = next(
        call.request
        for call in named(_layer(**_LATENT), "fused attention").forward
        if isinstance(call.request, FusedAttention)
    )
    assert (plain(fused.head_size), plain(fused.value_head_size or 0.0)) == (12, 10)


@pytest.mark.parametrize(
    ("form", "weights", "vectors"),
    [
        ("shared", 2 * 8, 60 * (6 + 2)),
        ("per-head", (6 + 2) * 8, 60 * (6 + 2)),
        ("joint", (6 + 2) * 8, 60 * 2),
        ("unweighted", 0, 60 * (6 + 2)),
    ],
)
def test_normalised_queries_and_keys(form: str, weights: int, vectors: int) -> None:
    layer = _layer(query_key_norm=form, key_value_heads=2)
    norm = named(layer, "normalisation of queries and keys")
    elements = 60 * (6 + 2) * 8
    assert _owned(norm) == weights
    assert plain(norm.kept.saved) == elements * 2 + vectors * 4
    assert moved(norm) == (elements * 2 * 2, elements * 2 * 3)


def test_heads_that_are_normalised_together_are_summed_over_ranks() -> None:
    joint, shared = (
        small("llama-2-7b", sizes={"query_key_norm": form, "key_value_heads": 2}).groups[0]
        for form in ("joint", "shared")
    )
    name = "all-reduce of normalised queries and keys"
    assert plain(named(joint, name).forward[0].count) == plain(named(joint, name).backward[0].count) == 1
    assert plain(named(joint, name).forward[0].request.message_bytes) == 60 * 2 * 4  # type: ignore[union-attr]
    assert plain(named(shared, name).forward[0].count) == 0
    assert "normalisation of queries and keys" not in _names(_layer())


def test_layers_without_rotary_positions_turn_nothing_and_normalise_nothing_without_weights() -> None:
    model = {"query_key_norm": "unweighted", "rotary_pattern": (True, False)}
    turned, plainly = small("llama-2-7b", _ALONE, sizes=model, eager=0.0).groups
    assert moved(named(turned, "rotary positions"))[0] == 2 * 60 * 96 * 2
    assert moved(named(plainly, "rotary positions")) == (0, 0)
    assert "normalisation of queries and keys" in _names(turned)
    assert "normalisation of queries and keys" not in _names(plainly)
    part = _layer(rotary_share=0.25)
    assert moved(named(part, "rotary positions"))[0] == 2 * 60 * 96 * 2 / 4


def test_a_soft_cap_of_scores_keeps_them_once_more_unless_a_kernel_fuses_it() -> None:
    scores = 3 * 6 * 20 * 20 * 2
    unfused = small("llama-2-7b", _ALONE, sizes={"score_cap": 50.0}, fused_attention=0.0).groups[0]
    cap = named(unfused, "soft cap of scores")
    assert plain(cap.kept.saved) == scores
    assert cap.kept.in_attention
    assert moved(cap) == (6 * scores, 7 * scores)
    assert plain(named(_layer(score_cap=50.0), "soft cap of scores").kept.saved) == 0
    assert "soft cap of scores" not in _names(_layer())


def test_a_soft_cap_of_logits_keeps_them() -> None:
    block = small("llama-2-7b", _ALONE, sizes={"logit_cap": 30.0}).head
    assert plain(named(block, "soft cap of logits").kept.saved) == 60 * 101 * 2


def test_sinks_are_a_number_a_head() -> None:
    assert _owned(named(_layer(attention_sinks=True), "attention sinks")) == 6
    assert "attention sinks" not in _names(_layer())


def test_products_with_positions_of_queries_and_keys() -> None:
    model = {"relative_rows": 32, "position_products": ("content-to-position", "position-to-content")}
    layer = small("bert-base", _ALONE, sizes={**model, "positions": "none"}).groups[0]
    # Projected once for all sequences, and both ways.
    assert sizes(named(layer, "projection of positions")) == (32, 48, 48, 1, 2)
    assert sizes(named(layer, "content to position")) == (20, 32, 8, 18, 1)
    assert sizes(named(layer, "position to content")) == (20, 32, 8, 18, 1)
    assert _owned(named(layer, "projection of positions")) == 0
    own = small("bert-base", _ALONE, sizes={**model, "positions": "none", "position_projections": True}).groups[0]
    assert _owned(named(own, "projection of positions")) == 2 * (48 * 48 + 48)
    assert plain(named(own, "content to position").kept.saved) == 18 * 20 * 32 * 2


def test_a_gate_scales_what_shared_experts_return() -> None:
    model: dict[str, Any] = {"experts": 4, "experts_per_token": 2, "shared_experts": 1}
    model["shared_expert_feed_forward_size"] = 72
    gated = _layer(**model, shared_expert_gate=True)
    gate = named(gated, "gate of shared experts")
    assert sizes(gate) == (60, 1, 48, 1, 1)
    assert (_owned(gate), plain(gate.kept.saved)) == (48, 60 * (48 + 1) * 2)
    assert sizes(named(gated, "feed-forward input", at=1)) == (60, 2 * 72, 48, 1, 1)
    assert "gate of shared experts" not in _names(_layer(**model))
    assert _owned(named(_layer(**model, biases=("router",)), "router")) == 48 * 4 + 4


@pytest.mark.parametrize(("position", "norms", "unused"), [("pre", 2, 1), ("output", 2, 0), ("sandwich", 4, 0)])
def test_where_a_layer_normalises(position: str, norms: int, unused: int) -> None:
    layer = _layer(norm_position=position)
    assert _owned(named(layer, "normalisation")) == norms * 48
    # What is normalised before it is added, a backward pass needs.
    assert plain(named(layer, "feed-forward output").kept.output_unused) == unused
    assert _owned(named(_layer(norm_weights=False), "normalisation")) == 0
