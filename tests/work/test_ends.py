"""Embedding, head and loss of small models: sizes, bytes, launches and parameters, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.pricing.requests import MatrixProduct
from simulator.work.program import Block, Program
from tests.work.asking import plain
from tests.work.small import (
    SHARED,
    WHOLE,
    counts,
    drawn,
    group,
    launches,
    moved,
    named,
    owned,
    saved,
    sizes,
    small,
)

_TABLE = 51 * 48
"""A rank's half of 101 words, 48 wide."""
_ROWS: dict[str, Any] = {"position_rows": 40}


def _bert(**how: Any) -> Program:
    return small("bert-large", sizes=_ROWS, eager=0.5, **how)


def _used(block: Block) -> set[str]:
    """Products and exchanges that a block makes at all."""
    return {each.name for each in block.operators if sum(counts(each)) > 0 and "and" not in each.name}


def test_an_embedding_of_words_and_positions() -> None:
    block = small("gpt2-355m", sizes=_ROWS, eager=0.5).embedding
    table = named(block, "embedding")
    assert moved(table) == (4 * SHARED, 3 * SHARED + 2 * 2 * _TABLE)  # forward; backward with the table's gradient
    assert launches(table) == (3.5, 4.5)
    assert drawn(table) == (30 * 48, 0)
    assert owned(table) == (_TABLE + 40 * 48, 40 * 48)
    assert saved(table) == 30 * 48  # a mask of a byte an element
    width = named(block, "embedding to hidden size")
    assert counts(width) == launches(width) == (0, 0)


def test_an_embedding_that_is_normalised() -> None:
    """BERT has two types of tokens besides."""
    block = _bert().embedding
    table = named(block, "embedding")
    assert moved(table) == (6 * SHARED, 6 * SHARED + 2 * 2 * _TABLE)
    assert owned(table) == (_TABLE + 42 * 48 + 2 * 48, 42 * 48 + 2 * 48)
    assert saved(table) == SHARED + 30 * 2 * 4 + 30 * 48


def test_an_embedding_narrower_than_the_model() -> None:
    """ALBERT: words 16 wide, and a linear map to 48."""
    program = small("albert-base", sizes={"embedding_size": 16, **_ROWS}, eager=0.5)
    width = named(program.embedding, "embedding to hidden size")
    assert sizes(width) == (30, 48, 16, 1, 1)
    assert owned(width) == (16 * 48 + 48,) * 2
    assert saved(width) == 30 * 16 * 2
    assert launches(width) == (1, 1)
    assert owned(named(program.embedding, "embedding")) == (51 * 16 + 42 * 16 + 2 * 16, 42 * 16 + 2 * 16)
    assert plain(program.embedding.tally.cast_parameters) == 16 * 48 + 48
    assert group(named(program.embedding, "reduce-scatter of the embedding")) == (60 * 16 * 2, 2, 1)
    assert sizes(named(program.head, "head transform")) == (9, 16, 48, 1, 1)
    assert sizes(named(program.head, "vocabulary head")) == (9, 51, 16, 1, 1)
    assert saved(named(program.head, "activation and normalisation of the head")) == 9 * 16 * 2 * 2 + 9 * 2 * 4
    assert group(named(program.head, "all-reduce of the head"))[0] == 9 * 16 * 2
    assert plain(program.layers.parameters) == plain(program.groups[0].tally.parameters)  # its layers share one set


@pytest.mark.parametrize(("shares", "kinds"), [(True, (0, 1, 1)), (False, (1, 0, 0))])
def test_exchanges_of_an_embedding_split_by_words(shares: bool, kinds: tuple[int, ...]) -> None:
    """Each rank looks up its own words: what the others found is added, whole or to each its tokens."""
    block = small("gpt2-355m", {"sequence_parallel": shares}, sizes=_ROWS).embedding
    sums, scatters, gathers = (
        named(block, f"{kind} of the embedding") for kind in ("all-reduce", "reduce-scatter", "all-gather")
    )
    assert counts(sums) == (kinds[0], 0)
    assert counts(scatters) == (kinds[1], 0)
    assert counts(gathers) == (0, kinds[2])
    assert group(sums) == group(scatters) == group(gathers) == (WHOLE, 2, 1)
    assert {plain(each.kept.output_unused) for each in (sums, scatters, gathers)} == {0}


def test_a_split_by_nothing_exchanges_nothing() -> None:
    program = small("gpt2-355m", {"tp": 1, "dp": 8, "sequence_parallel": False}, sizes=_ROWS)
    for block in program.blocks:
        assert not [each.name for each in block.operators if each.part == "tensor_parallel"]
    assert owned(named(program.embedding, "embedding"))[0] == 101 * 48 + 40 * 48


def test_ends_of_an_encoder_and_a_decoder() -> None:
    """60 tokens of the input and 36 of the target; both parts have tables of 32 buckets for their heads."""
    program = small("t5-large", sizes={"decoder_layers": 3}, workload={"target_length": 12}, eager=0.5)
    both = (60 + 36) * 48  # bytes of one half of the tokens
    table = named(program.embedding, "embedding")
    assert moved(table) == (4 * both, 3 * both + 2 * 2 * _TABLE)
    assert owned(table) == (_TABLE + 2 * 32 * 6 / 2, 0)
    assert saved(table) == both / 2
    for where, message in (("of the embedding", WHOLE), ("of the targets' embedding", 36 * 48 * 2)):
        assert counts(named(program.embedding, f"reduce-scatter {where}")) == (1, 0)
        assert counts(named(program.embedding, f"all-gather {where}")) == (0, 1)
        assert group(named(program.embedding, f"all-gather {where}")) == (message, 2, 1)
    norm = named(program.head, "final normalisation")
    assert moved(norm) == (2.5 * both, 3.5 * both)
    assert owned(norm) == (2 * 48, 2 * 48)
    assert saved(norm) == both + 48 * 4 + SHARED  # the encoder's output is kept once for all layers
    assert sizes(named(program.head, "vocabulary head")) == (36, 51, 48, 1, 1)
    assert group(named(program.head, "all-gather of the head"))[0] == 36 * 48 * 2
    assert _used(program.head) >= {"vocabulary head", "all-gather of the head", "all-reduce of softmax sums"}


def test_who_gathers_the_output_of_an_encoder() -> None:
    """Each layer of the decoder again, or once for all; a whole output only has its gradients added up."""

    def sent(shares: bool, regathers: float) -> dict[str, tuple[float, float]]:
        plan, work = {"sequence_parallel": shares}, {"target_length": 12}
        program = small("t5-large", plan, sizes={"decoder_layers": 3}, workload=work, regathers_inputs=regathers)
        where = "of the encoder's output"
        exchanges = [each for each in program.head.operators if each.name.endswith(where)]
        assert {group(each) for each in exchanges} == {(WHOLE, 2, 1)}
        return {each.name.removesuffix(f" {where}"): counts(each) for each in exchanges if sum(counts(each))}

    assert sent(False, 0.0) == {"all-reduce": (0, 1)}
    assert sent(True, 0.0) == {"all-gather": (1, 0), "reduce-scatter": (0, 1)}
    assert sent(True, 1.0) == {}


def test_casts_of_an_output_are_kept_by_each_layer_unless_all_is_recomputed() -> None:
    def kept(recompute: str, autocast: float) -> float:
        plan = {"parameters_in_fp32": True, "recompute": recompute}
        program = small(
            "t5-large", plan, sizes={"decoder_layers": 3}, workload={"target_length": 12}, autocast=autocast
        )
        wide = 4 if autocast else 2
        return saved(named(program.head, "final normalisation")) - 48 * (48 * wide + 4)

    assert kept("none", 0.0) == kept("full", 0.0) == SHARED
    assert kept("none", 1.0) == 0
    assert kept("full", 1.0) == 2 * SHARED


def test_a_head_on_every_token() -> None:
    head = small("gpt2-355m", sizes=_ROWS, eager=0.5, loss_passes=5.0).head
    norm = named(head, "final normalisation")
    assert moved(norm) == (2.5 * SHARED, 3.5 * SHARED)
    assert (launches(norm), owned(norm), saved(norm)) == ((1, 2), (2 * 48, 2 * 48), SHARED + 30 * 2 * 4)
    words = named(head, "vocabulary head")
    assert sizes(words) == (60, 51, 48, 1, 1)
    assert (launches(words), owned(words), saved(words)) == ((1, 2), (0, 0), SHARED)
    assert plain(words.kept.tied_parameters) == _TABLE
    assert plain(head.tally.cast_parameters) == _TABLE
    loss, logits = named(head, "cross-entropy"), 60 * 51
    assert moved(loss) == (logits * (2 + 2 * 5 + 4), logits * (2 + 2 * 5 + 4))
    assert launches(loss) == (3, 3)
    assert saved(loss) == plain(loss.kept.widest) == 4 * logits
    for name in ("head transform", "pooler", "sequence classes", "token classes"):
        assert counts(named(head, name)) == launches(named(head, name)) == (0, 0)
        assert saved(named(head, name)) == owned(named(head, name))[0] == 0
    assert _used(head) == {
        "final normalisation",
        "vocabulary head",
        "cross-entropy",
        "all-gather of the head",
        "reduce-scatter of the head",
        "all-reduce of softmax sums",
    }
    assert counts(named(head, "all-gather of the head")) == (1, 1)
    assert counts(named(head, "reduce-scatter of the head")) == (0, 1)
    assert group(named(head, "reduce-scatter of the head")) == (WHOLE, 2, 1)
    assert counts(named(head, "all-reduce of softmax sums")) == (3, 0)  # of maximum, sum, and the target's logit
    assert group(named(head, "all-reduce of softmax sums")) == (60 * 4, 2, 1)


def test_a_head_that_keeps_its_input_gathers_once() -> None:
    head = small("gpt2-355m", sizes=_ROWS, regathers_inputs=0.0).head
    assert counts(named(head, "all-gather of the head")) == (1, 0)
    assert saved(named(head, "vocabulary head")) == WHOLE
    whole = small("gpt2-355m", {"sequence_parallel": False}, sizes=_ROWS).head
    assert counts(named(whole, "all-reduce of the head")) == (0, 1)
    assert group(named(whole, "all-reduce of the head")) == (WHOLE, 2, 1)
    assert (
        counts(named(whole, "all-gather of the head")) == counts(named(whole, "reduce-scatter of the head")) == (0, 0)
    )
    assert saved(named(small("gpt2-355m", keeps_logits=0.0).head, "cross-entropy")) == 0


def test_a_head_of_its_own_owns_its_table() -> None:
    words = named(small("llama-2-7b").head, "vocabulary head")
    assert owned(words) == (_TABLE, 0)
    assert plain(words.kept.tied_parameters) == 0


def test_a_masked_head_predicts_a_few_tokens() -> None:
    """15 % of 20 tokens of 3 sequences: 9 rows."""
    head = _bert().head
    transform, between = named(head, "head transform"), named(head, "activation and normalisation of the head")
    assert sizes(transform) == (9, 48, 48, 1, 1)
    assert (launches(transform), owned(transform)[0], saved(transform)) == ((1, 1), 48 * 48 + 48, 9 * 48 * 2)
    assert moved(between) == (4 * 9 * 48 * 2, 6 * 9 * 48 * 2)
    assert launches(between) == (2, 3)
    assert owned(between)[0] == 2 * 48
    assert saved(between) == 2 * 9 * 48 * 2 + 9 * 2 * 4
    assert sizes(named(head, "vocabulary head")) == (9, 51, 48, 1, 1)
    assert owned(named(head, "vocabulary head"))[0] == 51
    assert saved(named(head, "vocabulary head")) == 9 * 48 * 2
    assert saved(named(head, "cross-entropy")) == 4 * 9 * 51
    # It picks its rows from all tokens, so that only the product with the words leaves a gradient to add up.
    assert counts(named(head, "all-reduce of the head")) == (0, 1)
    assert group(named(head, "all-reduce of the head")) == (9 * 48 * 2, 2, 1)
    assert counts(named(head, "all-gather of the head")) == (1, 0)
    assert counts(named(head, "reduce-scatter of the head")) == (0, 0)
    assert group(named(head, "all-reduce of softmax sums"))[0] == 9 * 4
    assert moved(named(head, "final normalisation")) == (0, 0)
    assert owned(named(head, "final normalisation")) == (0, 0)
    assert saved(named(head, "final normalisation")) == 0


def test_stacks_that_predict_every_position() -> None:
    assert sizes(named(_bert(all_positions=1.0).head, "vocabulary head"))[0] == 60


def test_context_parallel_ranks_share_what_is_predicted() -> None:
    program = small("bert-large", {"tp": 1, "cp": 2, "dp": 4, "sequence_parallel": False}, sizes=_ROWS)
    assert sizes(named(program.head, "vocabulary head"))[0] == 4.5


def test_a_next_sentence_is_told_from_the_pooled_first_token() -> None:
    head = _bert().head
    assert sizes(named(head, "pooler")) == (3, 48, 48, 1, 1)
    assert (owned(named(head, "pooler"))[0], saved(named(head, "pooler"))) == (48 * 48 + 48, 3 * 48 * 2)
    classes = named(head, "sequence classes")
    assert sizes(classes) == (3, 2, 48, 1, 1)
    assert (owned(classes)[0], saved(classes), launches(classes)) == (2 * 48 + 2, 3 * 48 * 2 + 3 * 2 * 4, (1, 2))
    assert counts(named(head, "token classes")) == (0, 0)


def test_classes_of_sequences_and_of_tokens() -> None:
    """A decoder has neither pooler nor bias; spans of SQuAD are two classes of every token."""
    head = small("gpt2-355m", sizes={"objective": "classification", "classes": 5, **_ROWS}).head
    classes = named(head, "sequence classes")
    assert sizes(classes) == (3, 5, 48, 1, 1)
    assert (owned(classes)[0], saved(classes)) == (5 * 48, 3 * 48 * 2 + 3 * 5 * 4)
    assert _used(head) - {"cross-entropy"} == {"final normalisation", "sequence classes", "all-gather of the head"}
    assert moved(named(head, "cross-entropy")) == (0, 0)
    spans = small("bert-large", sizes={"objective": "span", **_ROWS}).head
    tokens = named(spans, "token classes")
    assert sizes(tokens) == (60, 2, 48, 1, 1)
    assert (owned(tokens)[0], saved(tokens), launches(tokens)) == (2 * 48 + 2, WHOLE + 60 * 2 * 4, (1, 2))
    assert saved(named(spans, "cross-entropy")) == 0
    assert moved(named(spans, "cross-entropy")) == (0, 0)


def test_products_that_stay_in_16_bits_under_8() -> None:
    """Heads, routers and scores; of layers only those that a plan leaves wide."""
    program = small("gpt2-355m", sizes=_ROWS, fused_attention=0.0)
    wide = {
        each.name: each.forward[0].request.wide
        for block in program.blocks
        for each in block.operators
        if isinstance(each.forward[0].request, MatrixProduct)
    }
    assert {name for name, flag in wide.items() if not flag} == {
        "query projection",
        "key and value projection",
        "attention output",
        "feed-forward input",
        "feed-forward output",
    }
    padded = {each.name for each in program.head.operators if getattr(each.forward[0].request, "padded", False)}
    assert padded == {"vocabulary head"}


def test_nothing_of_an_end_is_recomputed() -> None:
    program = small("gpt2-355m", {"recompute": "full"}, sizes=_ROWS)
    for block in (program.embedding, program.head):
        assert set(block.repeated) == {0.0}
        assert (
            plain(block.tally.saved_bytes)
            == plain(block.tally.all_saved_bytes)
            == sum(saved(each) for each in block.operators)
        )
        assert plain(block.tally.parameters) == sum(owned(each)[0] for each in block.operators)
