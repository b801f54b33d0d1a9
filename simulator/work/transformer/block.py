"""What joins attention and feed-forward layer: additions to the residual stream, and the exchanges around both."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.formulas import activations
from simulator.formulas.typing import Num
from simulator.pricing.requests import CollectiveKind, StreamKind
from simulator.specs.choices import RecomputeModule
from simulator.specs.parts import BlockForm, ExpertFeedForward, Layers
from simulator.work.operators import Holding, Operator, stream
from simulator.work.transformer.exchanges import mode, splits, tensor_exchange
from simulator.work.transformer.experts import routed
from simulator.work.transformer.part import operators_of
from simulator.work.transformer.tokens import Scenarios, Tokens, last_output_unused, mask_bytes


@operators_of.register
def block(part: BlockForm, layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Dropouts and additions, and with tensor parallelism the collectives of the layer."""
    del part
    return [_residuals(layers, scenarios, tokens), *_exchanges(layers, scenarios, tokens)]


def _crossings(layers: Layers) -> float:
    """Kinds of attention beside self-attention: one behind an encoder."""
    return 0.0 if layers.cross_attention is None else 1.0


def _residuals(layers: Layers, scenarios: Scenarios, tokens: Tokens) -> Operator:
    """Dropouts and additions to the residual stream, one after each attention and one after the feed-forward layer."""
    plans, eager, dropout = scenarios.plans, scenarios.stacks.eager, layers.dropout
    additions = 2.0 + _crossings(layers)
    size = additions * tokens.shared * layers.hidden_size * plans.element_bytes
    kernels = additions * (1.0 + dropout * eager)
    mask = activations.dropout_mask(tokens.shared, layers.hidden_size, mask_bytes=mask_bytes(scenarios))
    return stream(
        "dropout and residual",
        "elementwise",
        StreamKind.RESIDUAL,
        moved=(
            size * (3.0 + 0.5 * dropout + 2.0 * dropout * eager),
            size * (2.0 + 0.5 * dropout + eager),
        ),
        launches=(kernels, kernels),
        drawn=additions * dropout * tokens.shared * layers.hidden_size,
        kept=Holding(saved=additions * dropout * mask),
    )


def _exchanges(layers: Layers, scenarios: Scenarios, tokens: Tokens) -> list[Operator]:
    """Collectives around each pair of a column-parallel and a row-parallel product of the layer."""
    if not splits(scenarios):
        return []
    # A parallel block adds up both outputs first; it reads one input unless each half normalises its own.
    shares = layers.block.shares_input
    outputs: Num = (1.0 if shares else 2.0) + _crossings(layers)
    inputs = np.minimum(layers.norms.count, 2.0) if shares else outputs
    message = tokens.all * layers.hidden_size * scenarios.plans.element_bytes
    reduces, gathers = mode(scenarios)
    regathered = inputs * gathers * scenarios.stacks.regathers_inputs
    unused = last_output_unused(layers, scenarios) / outputs
    apart = _of_experts(layers, scenarios)
    outputs, inputs, regathered = outputs - apart, inputs - apart, regathered * (1.0 - apart / inputs)
    numbers: tuple[tuple[CollectiveKind, Num, Num, Num], ...] = (
        ("all_reduce", outputs * reduces, inputs * reduces, unused),
        ("all_gather", inputs * gathers, outputs * gathers + regathered, 0.0),
        ("reduce_scatter", outputs * gathers, inputs * gathers, unused),
    )
    of_experts = isinstance(layers.feed_forward, ExpertFeedForward)
    module: RecomputeModule = "moe" if of_experts else "mlp"
    inside, one = ((module, 0.0),), (1.0 - apart) / outputs  # one of the pairs is around the feed-forward layer
    return [
        *(
            tensor_exchange(
                kind,
                "of a layer",
                message,
                scenarios,
                counts=(forward, backward),
                unused=share,
                inside=inside,
                inside_share=one,
                half="one" if shares else "both",
            )
            for kind, forward, backward, share in numbers
        ),
        *_exchanges_of_experts(layers, scenarios, tokens, message, apart),
    ]


def _of_experts(layers: Layers, scenarios: Scenarios) -> Num:
    """1 where the feed-forward layer is of experts alone that exchange tokens in another way than dense layers, else 0.

    Those that fewer ranks split, and those whose ranks share tokens, which are gathered after they are dealt out.
    """
    experts, plans = layers.feed_forward, scenarios.plans
    if not isinstance(experts, ExpertFeedForward) or layers.block.shares_input or scenarios.iterations is not None:
        return 0.0
    other = (np.asarray(plans.etp) < plans.tp) | (np.asarray(plans.tokens_shared) > 1.0)
    return np.where(other & (np.asarray(experts.shared_experts) == 0.0), 1.0, 0.0)


def _exchanges_of_experts(
    layers: Layers, scenarios: Scenarios, tokens: Tokens, message: Num, apart: Num
) -> list[Operator]:
    """Gathers and scatters of tokens among the ranks that split an expert.

    Ranks that share tokens deal their own out, and gather afterwards what each of them was sent: as many copies as a
    token has experts. What they return is scattered before it goes back. Nothing is gathered again in the backward
    pass, for which experts keep what they read (Megatron core, `MoEAlltoAllTokenDispatcher`: permute, all-to-all,
    all-gather over tensor-parallel ranks, sort; and back).
    """
    plans, experts = scenarios.plans, layers.feed_forward
    if not isinstance(experts, ExpertFeedForward):
        return []
    several = np.where(np.asarray(plans.etp) > 1.0, 1.0, 0.0)
    shares = np.where(np.asarray(plans.tokens_shared) > 1.0, several, 0.0)
    split = np.where(shares > 0.0, 0.0 if layers.block.shares_input else 1.0, several * apart)
    if not np.any(split > 0.0):
        return []
    received = experts.experts_per_token * routed(experts, scenarios, tokens).load
    held = message * (plans.etp / np.asarray(plans.tp)) * np.where(shares > 0.0, received, 1.0)
    again = split * (1.0 + np.where(shares > 0.0, 0.0, scenarios.stacks.regathers_inputs))
    whole: Any = {"degree": plans.etp, "inside": (("moe", 0.0),), "half": "feed-forward"}
    return [
        tensor_exchange("all_gather", "of experts", held, scenarios, counts=(split, again), **whole),
        tensor_exchange("reduce_scatter", "of experts", held, scenarios, counts=(split, split), **whole),
    ]
