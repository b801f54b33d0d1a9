"""The closed forms of Korthikanti et al., arXiv 2205.05198, against our parts and against what autograd keeps.

The paper leaves out the statistics of normalisations: 4 bytes for each of two numbers a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import pytest

from measure.count.activations import saved_activations
from measure.count.collectives import fake_ranks
from measure.models import Setting, Split, build, random_batch
from simulator.specs.choices import Recompute
from simulator.work.program import program_of
from tests.against_torch.cases import GPT, GPT_22B, scenarios_of, setting_of

BATCH = 4
SMALL = GPT.model_copy(update={"feed_forward_size": 4 * GPT.hidden_size})
"""The paper's feed-forward layer is four times as wide as the model."""
STATISTICS = 2 * 2 * 4
"""Bytes a token of the two normalisations of a layer."""
Form = Callable[[Fraction, int], Fraction]
FORMS: dict[str, tuple[Recompute, bool, Form, Form]] = {
    # Name: recomputation, sequence parallelism, (a s / h, t) to the paper's factor of s b h, and to ours of s b.
    "tensor": ("none", False, lambda ash, t: 10 + 24 / Fraction(t) + 5 * ash / t, lambda ash, t: Fraction(STATISTICS)),
    "sequence": ("none", True, lambda ash, t: (34 + 5 * ash) / t, lambda ash, t: Fraction(STATISTICS, t)),
    "selective": ("selective", True, lambda ash, t: Fraction(34, t), lambda ash, t: Fraction(STATISTICS, t)),
    "full": ("full", False, lambda ash, t: Fraction(2), lambda ash, t: Fraction(0)),
}
"""Equations 1 and 2 with t = 1 and t > 1, 4, 6, and section 5's 2 s b h."""


@pytest.fixture(params=[1, 2, 4, 8])
def degree(request: pytest.FixtureRequest) -> Iterator[int]:
    with fake_ranks(request.param):
        yield request.param


def of_torch(layers: int, setting: Setting) -> int:
    model = SMALL.model_copy(update={"layers": layers})
    module, batch = build(model, setting), random_batch(model, setting, BATCH)
    return saved_activations(lambda: module.loss(batch), module).bytes


def closed_form(form: Form, statistics: Form, ratio: Fraction, degree: int, tokens: int, width: int) -> Fraction:
    return tokens * width * form(ratio, degree) + tokens * statistics(ratio, degree)


@pytest.mark.parametrize(("recompute", "shares", "form", "statistics"), FORMS.values(), ids=FORMS)
def test_layer_of_autograd(degree: int, recompute: Recompute, shares: bool, form: Form, statistics: Form) -> None:
    split = Split(degree, sequence_parallel=shares and degree > 1, regathers_inputs=True)
    setting = setting_of(SMALL, recompute=recompute, split=split)
    ratio = Fraction(SMALL.attention_heads * setting.sequence_length, SMALL.hidden_size)
    tokens = BATCH * setting.sequence_length
    layer_bytes = of_torch(3, setting) - of_torch(2, setting)
    assert layer_bytes == closed_form(form, statistics, ratio, degree, tokens, SMALL.hidden_size)


@pytest.mark.parametrize(("recompute", "shares", "form", "statistics"), FORMS.values(), ids=FORMS)
def test_sum_of_our_parts(degree: int, recompute: Recompute, shares: bool, form: Form, statistics: Form) -> None:
    split = Split(degree, sequence_parallel=shares and degree > 1, regathers_inputs=True)
    setting = setting_of(GPT_22B, 2048, recompute=recompute, split=split)
    ratio = Fraction(GPT_22B.attention_heads * 2048, GPT_22B.hidden_size)
    layers = program_of(scenarios_of(GPT_22B, setting, micro_batch=BATCH)).layers
    one = closed_form(form, statistics, ratio, degree, BATCH * 2048, GPT_22B.hidden_size)
    assert layers.saved_bytes == GPT_22B.layers * one


def test_ends(degree: int) -> None:
    """Section 4.3: dropout of the embedding s b h / t, and at the end 4 s b h / t (1 + v / h)."""
    split = Split(degree, sequence_parallel=degree > 1, regathers_inputs=True)
    program = program_of(scenarios_of(GPT_22B, setting_of(GPT_22B, 2048, split=split), micro_batch=BATCH))
    tokens, width, words = BATCH * 2048, GPT_22B.hidden_size, GPT_22B.vocabulary_size
    assert program.embedding.tally.saved_bytes == Fraction(tokens * width, degree)
    statistics = Fraction(2 * 4 * tokens, degree)
    assert program.head.tally.saved_bytes == Fraction(4 * tokens * (width + words), degree) + statistics
