"""Operators of small layers: sizes, bytes, launches and parameters, worked out by hand.

Half of the avoidable memory traffic is done (`eager` is 0.5), so that fused and eager passes are told apart.
"""

from __future__ import annotations

from typing import Any

import pytest

from simulator.pricing.requests import FusedAttention, Stream, StreamKind
from simulator.specs.loading import load_stack
from simulator.work.program import Block
from tests.work.asking import plain
from tests.work.small import (
    SHARED,
    WHOLE,
    counts,
    drawn,
    group,
    heads,
    launches,
    moved,
    named,
    owned,
    saved,
    sizes,
    small,
)


def _gpt(**how: Any) -> Block:
    return small("gpt2-355m", **{"eager": 0.5, "fused_attention": 0.0, "fused_qkv": 0.0, **how}).groups[0]


def test_products_of_a_layer_of_gpt() -> None:
    layer = _gpt()
    assert sizes(named(layer, "query projection")) == (60, 24, 48, 1, 1)
    assert sizes(named(layer, "key and value projection")) == (60, 24, 48, 1, 2)
    assert sizes(named(layer, "scores")) == (20, 20, 8, 9, 1)
    assert sizes(named(layer, "context")) == (20, 8, 20, 9, 1)
    assert sizes(named(layer, "attention output")) == (60, 48, 24, 1, 1)
    assert sizes(named(layer, "feed-forward input")) == (60, 40, 48, 1, 1)
    assert sizes(named(layer, "feed-forward output")) == (60, 48, 40, 1, 1)


def test_fused_projections_are_one_product() -> None:
    layer = _gpt(fused_qkv=1.0)
    assert sizes(named(layer, "query projection")) == (60, 3 * 24, 48, 1, 1)
    assert counts(named(layer, "key and value projection")) == (0, 0)
    assert launches(named(layer, "key and value projection")) == (0, 0)
    assert owned(named(layer, "query projection")) == owned(named(_gpt(), "query projection"))


def test_launches_of_a_layer_of_gpt() -> None:
    layer = _gpt()
    expected = {
        "normalisation": (2, 3),  # two of them; an eager backward pass sums up gradients of weights by itself
        "query projection": (1, 1),
        "key and value projection": (2, 2),
        "rotary positions": (0, 0),
        "layout of heads": (2, 2),
        "fused attention": (0, 0),
        "scores": (1, 2),
        "softmax and dropout": (3, 3),
        "context": (1, 2),
        "activation function": (1, 1.5),
        "dropout and residual": (3, 3),
    }
    assert {name: launches(named(layer, name)) for name in expected} == expected


def test_parameters_of_a_layer_of_gpt() -> None:
    layer = _gpt()
    expected = {
        "normalisation": (2 * 2 * 48, 2 * 2 * 48),
        "query projection": (3 * (48 * 24 + 24), 0),
        "key and value projection": (0, 0),
        "attention output": (24 * 48 + 48, 48),
        "feed-forward input": (48 * 40 + 40, 0),
        "feed-forward output": (40 * 48 + 48, 48),
    }
    assert {name: owned(named(layer, name)) for name in expected} == expected
    assert plain(layer.tally.parameters) == sum(own for own, _ in expected.values())
    assert plain(layer.tally.partial_parameters) == sum(partial for _, partial in expected.values())
    # Casts are of weights of products, so that normalisations have none.
    assert plain(layer.tally.cast_parameters) == plain(layer.tally.parameters) - 2 * 2 * 48


def test_bytes_that_a_layer_of_gpt_moves() -> None:
    """In units of the activation: what is read and written, and half of what eager kernels do besides."""
    layer, scores = _gpt(), 3 * 3 * 20 * 20 * 2
    assert moved(named(layer, "normalisation")) == (2 * 2.5 * SHARED, 2 * 3.5 * SHARED)
    assert moved(named(layer, "layout of heads")) == (60 * 4 * 24 * 2 * 2 * 0.5,) * 2
    assert moved(named(layer, "softmax and dropout")) == pytest.approx((6.5 * scores, 6.5 * scores))
    assert moved(named(layer, "activation function")) == (2.5 * 60 * 40 * 2, 3.5 * 60 * 40 * 2)
    assert moved(named(layer, "dropout and residual")) == (2 * 4.5 * SHARED, 2 * 3.0 * SHARED)
    fused = _gpt(fused_softmax=1.0)
    assert moved(named(fused, "softmax and dropout")) == (4.5 * scores, 5.5 * scores)
    assert launches(named(fused, "softmax and dropout")) == (2, 2)


def test_random_numbers_that_dropout_draws() -> None:
    layer = _gpt()
    assert drawn(named(layer, "softmax and dropout")) == (3 * 3 * 20 * 20, 0)
    assert drawn(named(layer, "dropout and residual")) == (2 * 30 * 48, 0)
    assert drawn(named(_gpt(fused_attention=1.0), "softmax and dropout")) == (0, 0)
    assert drawn(named(small("gpt2-355m", sizes={"dropout": False}).groups[0], "dropout and residual")) == (0, 0)


def test_bytes_that_a_layer_of_gpt_keeps() -> None:
    """Korthikanti et al., section 4: inputs of products and normalisations, masks of a byte, 5 a s^2 b of attention."""
    layer = _gpt()
    expected = {
        "normalisation": 2 * (SHARED + 30 * 2 * 4),
        "query projection": SHARED,
        "layout of heads": 3 * 60 * 24 * 2,
        "fused attention": 0,
        "softmax and dropout": 5 * 3 * 3 * 20 * 20,
        "attention output": 60 * 24 * 2,
        "feed-forward input": SHARED,
        "activation function": 60 * 40 * 2,
        "feed-forward output": 60 * 40 * 2,
        "dropout and residual": 2 * 30 * 48,
    }
    assert {name: saved(named(layer, name)) for name in expected} == expected
    assert plain(layer.tally.saved_bytes) == plain(layer.tally.all_saved_bytes) == sum(expected.values())
    assert plain(layer.tally.widest_bytes) == 3 * 3 * 20 * 20 * 2


def test_what_a_stack_keeps_besides() -> None:
    whole = _gpt(regathers_inputs=0.0)
    assert saved(named(whole, "query projection")) == saved(named(whole, "feed-forward input")) == WHOLE
    copies = _gpt(activation_copies=0.25, norm_copies=0.5)
    assert saved(named(copies, "activation function")) == 1.25 * 60 * 40 * 2
    assert saved(named(copies, "normalisation")) == 2 * (1.5 * SHARED + 30 * 2 * 4)
    masks = _gpt(wide_masks=1.0)
    assert saved(named(masks, "softmax and dropout")) == 6 * 3 * 3 * 20 * 20
    assert saved(named(masks, "dropout and residual")) == 2 * SHARED
    fused = _gpt(fused_attention=1.0)
    assert saved(named(fused, "fused attention")) == 4 * 3 * 3 * 20
    assert saved(named(fused, "softmax and dropout")) == 0


def test_exchanges_of_a_layer_with_shared_tokens() -> None:
    """Two gathers and two scatters forward, as many backward, and the gathers again where inputs are not kept."""
    layer = _gpt()
    assert counts(named(layer, "all-reduce of a layer")) == (0, 0)
    assert counts(named(layer, "all-gather of a layer")) == (2, 4)
    assert counts(named(layer, "reduce-scatter of a layer")) == (2, 2)
    assert counts(named(_gpt(regathers_inputs=0.0), "all-gather of a layer")) == (2, 2)
    for kind in ("all-reduce", "all-gather", "reduce-scatter"):
        assert group(named(layer, f"{kind} of a layer")) == (WHOLE, 2, 1)
        assert launches(named(layer, f"{kind} of a layer")) == counts(named(layer, f"{kind} of a layer"))


def test_exchanges_of_a_layer_with_whole_tokens() -> None:
    layer = small("gpt2-355m", {"sequence_parallel": False}, eager=1.0).groups[0]
    assert counts(named(layer, "all-reduce of a layer")) == (2, 2)
    assert counts(named(layer, "all-gather of a layer")) == counts(named(layer, "reduce-scatter of a layer")) == (0, 0)
    assert moved(named(layer, "normalisation"))[0] == 2 * 3.0 * WHOLE


@pytest.mark.parametrize(("norms", "inputs"), [(1, 1), (2, 2)])
def test_a_parallel_block_adds_up_before_it_exchanges(norms: int, inputs: int) -> None:
    """One sum forward; backward one for each input that is normalised by itself."""
    form = {"block": "parallel", "norms_per_layer": norms}
    layer = small("gpt2-355m", {"sequence_parallel": False}, sizes=form).groups[0]
    assert counts(named(layer, "all-reduce of a layer")) == (1, inputs)
    assert saved(named(layer, "normalisation")) == WHOLE + norms * 60 * 2 * 4
    # Both halves read one input, which the feed-forward layer keeps.
    assert saved(named(layer, "query projection")) == (norms - 1) * WHOLE
    assert saved(named(layer, "feed-forward input")) == WHOLE
    assert plain(named(layer, "attention output").kept.output_unused) == 1


def test_heads_of_keys_and_values_fewer_than_ranks_are_copied() -> None:
    """8 heads of 6, of keys and values 2, on 4 ranks: each has 2 heads and a copy of one of keys and values."""
    shape = {"attention_heads": 8, "key_value_heads": 2, "head_size": 6}
    plan = {"tp": 4, "dp": 2, "sequence_parallel": False}
    layer = small("llama-2-7b", plan, sizes=shape, eager=0.5).groups[0]
    assert sizes(named(layer, "query projection")) == (60, 12 + 2 * 6, 48, 1, 1)
    assert owned(named(layer, "query projection")) == (48 * 24, 0)
    assert heads(named(layer, "fused attention")) == (20, 20, 3, 2, 1, 6)
    assert sizes(named(layer, "attention output")) == (60, 48, 12, 1, 1)
    assert saved(named(layer, "layout of heads")) == 60 * (12 + 2 * 6) * 2
    assert moved(named(layer, "layout of heads")) == (60 * (2 * 12 + 2 * 6) * 2 * 2 * 0.5,) * 2


def test_rotary_positions_turn_queries_and_keys() -> None:
    layer = small("llama-2-7b", eager=0.5).groups[0]
    assert moved(named(layer, "rotary positions")) == (60 * (24 + 24) * 2 * (2 + 6 * 0.5),) * 2
    assert launches(named(layer, "rotary positions")) == (3.5, 3.5)


def test_a_gated_feed_forward_layer() -> None:
    """Llama: two projections into it, gate and product, and no biases."""
    layer = small("llama-2-7b", eager=0.5, activation_copies=0.25, fused_gate=1.0).groups[0]
    size = 60 * 40 * 2
    assert sizes(named(layer, "feed-forward input")) == (60, 80, 48, 1, 1)
    assert owned(named(layer, "feed-forward input")) == (48 * 80, 0)
    assert owned(named(layer, "feed-forward output")) == (40 * 48, 0)
    gate = named(layer, "activation function")
    assert moved(gate) == ((2 + 1 + 2 * 0.5) * size, (3 + 2 + 4 * 0.5) * size)
    assert launches(gate) == (1.5, 2)
    assert saved(gate) == (3 + 0.25 - 1) * size
    assert plain(gate.kept.widest) == 2 * size
    assert {gate.forward[0].request.kind, gate.backward[0].request.kind} == {  # type: ignore[union-attr]
        StreamKind.GATED_ACTIVATION
    }
    assert named(_gpt(), "activation function").forward[0].request.kind is StreamKind.ACTIVATION  # type: ignore[union-attr]


def test_root_mean_squares_keep_one_statistic_and_have_no_bias() -> None:
    layer = small("llama-2-7b").groups[0]
    assert saved(named(layer, "normalisation")) == 2 * (SHARED + 30 * 4)
    assert owned(named(layer, "normalisation")) == (2 * 48, 2 * 48)


def test_the_last_product_of_a_layer_that_normalises_its_inputs_is_needed_by_nobody() -> None:
    def unused(base: str, name: str, **shape: Any) -> float:
        return plain(named(small(base, sizes=shape).groups[0], name).kept.output_unused)

    assert unused("gpt2-355m", "feed-forward output") == 1
    assert unused("gpt2-355m", "attention output") == 0
    assert unused("gpt2-355m", "reduce-scatter of a layer") == 0.5
    assert unused("gpt2-355m", "all-gather of a layer") == 0
    assert unused("bert-large", "feed-forward output", position_rows=40) == 0
    assert unused("gpt2-355m", "feed-forward output", norms_per_layer=4) == 0


def test_automatic_casts_keep_inputs_once_for_each_product() -> None:
    """Parameters in fp32: the stream is as wide, and of three projections each keeps its own cast of the input."""
    plan = {"parameters_in_fp32": True, "sequence_parallel": False}
    cast, pure = (
        small("gpt2-355m", plan, fused_attention=0.0, fused_qkv=0.0, autocast=flag).groups[0] for flag in (1.0, 0.0)
    )
    assert saved(named(cast, "query projection")) == 3 * WHOLE
    assert saved(named(pure, "query projection")) == WHOLE
    assert saved(named(cast, "normalisation")) == 2 * (60 * 48 * 4 + 60 * 2 * 4)
    elements = 3 * 3 * 20 * 20
    assert saved(named(cast, "softmax and dropout")) - saved(named(pure, "softmax and dropout")) == 2 * elements
    dry = {"dropout": False}
    cast, pure = (
        small("gpt2-355m", plan, sizes=dry, fused_attention=0.0, autocast=flag).groups[0] for flag in (1.0, 0.0)
    )
    assert saved(named(cast, "softmax and dropout")) - saved(named(pure, "softmax and dropout")) == 4 * elements
    assert saved(named(cast, "query projection")) == WHOLE


def test_scores_of_transformer_xl_are_two_products() -> None:
    """One of contents and one of positions, whose sinusoids all sequences of a batch share."""
    layer = small("gpt2-355m", sizes={"positions": "transformer-xl", "position_rows": 0}, fused_attention=0.0).groups[0]
    assert counts(named(layer, "scores")) == (2, 4)
    assert counts(named(layer, "context")) == (1, 2)
    projection = named(layer, "relative position projection")
    assert sizes(projection) == (20, 24, 48, 1, 1)
    assert counts(projection) == (1, 1)  # tables of sinusoids have no gradient
    assert saved(projection) == 20 * 24 * 2
    assert owned(projection)[0] == 48 * 24


def test_padding_is_left_out_where_a_stack_takes_it_out() -> None:
    """16 of 20 tokens are real; unfused attention puts the padding in again."""
    work: dict[str, Any] = {"workload": {"effective_tokens": 16}, "unpads": 1.0}
    fused, unfused = (small("gpt2-355m", fused_attention=flag, **work).groups[0] for flag in (1.0, 0.0))
    assert sizes(named(fused, "feed-forward input"))[0] == sizes(named(unfused, "feed-forward input"))[0] == 48
    assert heads(named(fused, "fused attention"))[:2] == (16, 16)
    assert sizes(named(unfused, "scores"))[:2] == (20, 20)
    padded = small("gpt2-355m", workload={"effective_tokens": 16}).groups[0]
    assert sizes(named(padded, "feed-forward input"))[0] == 60


def test_a_ring_passes_keys_and_values_of_the_own_tokens() -> None:
    plan = {"tp": 1, "cp": 4, "dp": 2, "sequence_parallel": False}
    layer = small("llama-2-7b", plan, context_overlap=0.5).groups[0]
    ring = named(layer, "ring of keys and values")
    assert group(ring) == (2 * 15 * 48 * 2, 4, 1)
    assert (counts(ring), launches(ring)) == ((3, 6), (3, 3))
    assert (plain(ring.hiding.reach), plain(ring.hiding.occasions), ring.hiding.parts) == (0.125, 3, {"attention"})
    assert heads(named(layer, "fused attention"))[:2] == (5, 20)
    assert saved(named(layer, "layout of heads")) == 3 * 15 * 48 * 2  # those of others are sent again


def test_ulysses_deals_heads_out_and_takes_them_back() -> None:
    """Queries, keys, values and output of 15 tokens in both passes; less with 2 heads of keys and values."""
    plan = {"tp": 1, "cp": 4, "dp": 2, "sequence_parallel": False}
    layer = small("llama-2-7b", plan, deals_heads=1.0).groups[0]
    across = named(layer, "all-to-all of heads")
    assert group(across) == (15 * 48 * 2, 4, 1)
    assert (counts(across), launches(across)) == ((4, 4), (4, 4))
    assert {each.part for each in layer.operators if each.hiding.line == "ring"} == set()
    grouped = small("llama-2-7b", plan, sizes={"key_value_heads": 2}, deals_heads=1.0).groups[0]
    assert group(named(grouped, "all-to-all of heads"))[0] == 15 * (2 * 48 + 2 * 16) * 2 / 4
    ring = {each.name for each in small("llama-2-7b", plan).groups[0].operators}
    assert "all-to-all of heads" not in ring


def test_ulysses_is_what_a_stack_says_first() -> None:
    told = {name: load_stack(name).columns().deals_heads for name in ("deepspeed", "megatron-lm", "jax-xla-gpu")}
    assert told == {"deepspeed": 1.0, "megatron-lm": 0.0, "jax-xla-gpu": 0.0}


def test_experts_take_the_tokens_that_were_sent_to_them() -> None:
    """8 experts, 2 for each token, on 4 ranks: 2 experts with 60 rows each, and one that every token meets."""
    how = {"eager": 0.5, "sends_once": 1.0, "weighs_activations": 0.0}
    program = small("mixtral-8x7b", {"ep": 4}, sizes={"shared_experts": 1, "key_value_heads": 6}, **how)
    layer, sent = program.groups[0], 30 * 2 * 48 * 2
    router = named(layer, "router")
    assert sizes(router) == (30, 8, 48, 1, 1)  # each of the two that share tokens routes its own
    assert owned(router) == (8 * 48, 8 * 48)
    assert saved(router) == SHARED + 30 * (8 * 4 + 2 * 2)
    dispatch = named(layer, "dispatch and combination of tokens")
    assert (moved(dispatch), launches(dispatch), saved(dispatch)) == ((8 * sent, 8 * sent), (4, 4), sent)
    across = named(layer, "all-to-all of experts")
    assert group(across) == (sent, 4, 2)
    assert (counts(across), launches(across)) == ((2, 2), (1, 1))
    assert plain(across.forward[0].request.copies) == 2  # type: ignore[union-attr]
    assert sizes(named(layer, "feed-forward input")) == (60, 80, 48, 2, 1)
    assert sizes(named(layer, "feed-forward output")) == (60, 48, 40, 2, 1)
    assert plain(named(layer, "feed-forward input").kept.expert_parameters) == 2 * 48 * 80
    assert plain(named(layer, "feed-forward output").kept.expert_parameters) == 2 * 40 * 48
    assert owned(named(layer, "feed-forward output")) == (0, 0)
    assert plain(named(layer, "feed-forward output").kept.output_unused) == 0
    # Both ranks gather what experts read, and keep it in full.
    assert saved(named(layer, "feed-forward input")) == 2 * sent
    assert sizes(named(layer, "feed-forward input", 1)) == (60, 80, 48, 1, 1)
    assert owned(named(layer, "feed-forward input", 1)) == (48 * 80, 0)
    assert saved(named(layer, "feed-forward input", 1)) == 0
    assert launches(named(layer, "activation function", 1)) == (1.5, 2)


def test_experts_on_their_own_rank_send_nothing() -> None:
    layer = small("mixtral-8x7b", {"ep": 1}, sizes={"key_value_heads": 6}).groups[0]
    assert counts(named(layer, "all-to-all of experts")) == (0, 0)
    assert sizes(named(layer, "feed-forward input")) == (15, 80, 48, 8, 1)
    assert plain(named(layer, "all-to-all of experts").forward[0].request.copies) == 1  # type: ignore[union-attr]
    assert len([each for each in layer.operators if each.name == "feed-forward input"]) == 1


def test_layers_of_a_decoder_behind_an_encoder() -> None:
    """36 target tokens, of which each looks at the 60 of the input."""
    targets, work = 36 * 48 * 2, {"workload": {"target_length": 12}}
    program = small("t5-large", sizes={"decoder_layers": 3}, eager=0.5, **work)
    layer = program.groups[1]
    assert plain(layer.number) == 3
    assert sizes(named(layer, "query projection to the encoder")) == (36, 24, 48, 1, 1)
    assert owned(named(layer, "query projection to the encoder")) == (48 * 24, 0)
    assert saved(named(layer, "query projection to the encoder")) == targets / 2
    memory = named(layer, "key and value projection of the encoder")
    assert sizes(memory) == (60, 24, 48, 1, 2)
    assert (launches(memory), owned(memory), saved(memory)) == ((2, 2), (2 * 48 * 24, 0), 0)
    assert heads(named(layer, "fused attention", 1)) == (12, 20, 3, 3, 3, 8)
    assert saved(named(layer, "layout of heads", 1)) == (36 + 2 * 60) * 24 * 2
    assert moved(named(layer, "dropout and residual")) == (3 * 4.5 * targets / 2, 3 * 3.0 * targets / 2)
    assert launches(named(layer, "dropout and residual")) == (4.5, 4.5)
    assert counts(named(layer, "all-gather of a layer")) == (3, 6)
    assert counts(named(layer, "reduce-scatter of a layer")) == (3, 3)
    assert group(named(layer, "all-gather of a layer")) == (targets, 2, 1)
    assert counts(named(layer, "all-gather of the encoder's output")) == (1, 1)
    assert counts(named(layer, "reduce-scatter of the encoder's output")) == (0, 1)
    assert group(named(layer, "all-gather of the encoder's output")) == (WHOLE, 2, 1)
    assert plain(named(layer, "reduce-scatter of a layer").kept.output_unused) == pytest.approx(1 / 3)
    assert plain(named(layer, "feed-forward output").kept.output_unused) == 1
    kept = small("t5-large", sizes={"decoder_layers": 3}, regathers_inputs=0.0, **work)
    assert counts(named(kept.groups[1], "all-gather of the encoder's output")) == (0, 0)
    cast = small("t5-large", {"parameters_in_fp32": True}, sizes={"decoder_layers": 3}, autocast=1.0, **work)
    assert saved(named(cast.groups[1], "key and value projection of the encoder")) == 2 * SHARED


def test_a_rectified_activation_keeps_no_input() -> None:
    layer = small("t5-large", workload={"target_length": 12}).groups[0]
    assert saved(named(layer, "activation function")) == 0


def test_attention_of_a_decoder_is_masked_and_that_to_an_encoder_is_not() -> None:
    def causal(base: str, group: int = 0, at: int = 0, **how: Any) -> float:
        asked = named(small(base, **how).groups[group], "fused attention", at).forward[0].request
        assert isinstance(asked, FusedAttention)
        return plain(asked.causal)

    t5: dict[str, Any] = {"sizes": {"decoder_layers": 3}, "workload": {"target_length": 12}}
    assert causal("gpt2-355m") == causal("t5-large", 1, 0, **t5) == 1
    assert (
        causal("bert-large", sizes={"position_rows": 40})
        == causal("t5-large", **t5)
        == causal("t5-large", 1, 1, **t5)
        == 0
    )


def test_kernels_of_attention_are_those_of_the_stack() -> None:
    layer = small("gpt2-355m", attention_efficiency=0.5, portable_attention=1.0).groups[0]
    slower = {each.name for each in layer.operators if plain(each.efficiency) == 0.5}
    assert slower == {"fused attention", "scores", "softmax and dropout", "context"}
    for call in (*named(layer, "fused attention").forward, *named(layer, "fused attention").backward):
        assert isinstance(call.request, FusedAttention)
        assert plain(call.request.portable) == 1


def test_kernels_that_reduce_over_rows() -> None:
    program = small("gpt2-355m")
    reducing = {
        each.name
        for block in program.blocks
        for each in block.operators
        for call in (*each.forward, *each.backward)
        if isinstance(call.request, Stream) and call.request.reduces
    }
    assert reducing == {"normalisation", "softmax and dropout", "final normalisation", "cross-entropy"}


def test_what_hides_what_a_layer_exchanges() -> None:
    shape = {"key_value_heads": 6}
    layer = small("mixtral-8x7b", {"ep": 4}, sizes=shape, tensor_overlap=0.25, expert_overlap=0.75).groups[0]
    sums, across = named(layer, "all-gather of a layer").hiding, named(layer, "all-to-all of experts").hiding
    assert (plain(sums.share), sums.line) == (0.25, "tensor")
    assert sums.parts == {"attention_projections", "feed_forward", "head"}
    assert (plain(across.share), across.line, across.parts) == (0.75, "experts", None)
    assert (sums.behind, plain(sums.reach), plain(sums.occasions)) == (None, 1, 1)


def test_biases_of_a_decoder_behind_an_encoder() -> None:
    shape = {"decoder_layers": 3, "biases": ["qkv", "attention_output", "feed_forward", "normalisation"]}
    layer = small("t5-large", sizes=shape, workload={"target_length": 12}).groups[1]
    assert owned(named(layer, "query projection to the encoder"))[0] == 48 * 24 + 24
    assert owned(named(layer, "key and value projection of the encoder"))[0] == 2 * (48 * 24 + 24)
    assert owned(named(layer, "output of attention to the encoder")) == (24 * 48 + 48, 48)


def test_casts_are_of_experts_too() -> None:
    layer = small("mixtral-8x7b", {"ep": 4}, sizes={"key_value_heads": 6}).groups[0].tally
    assert plain(layer.cast_parameters) == plain(layer.parameters) - 2 * 48 + 2 * 3 * 48 * 40
