"""The typed parts of a transformer layer as columns of numbers: what kind each is, and how large.

A part's class says its kind; its operators, parameters and kept tensors are in the module of
`simulator.work.transformer` that registers for the class. Layers whose parts are of the same kinds can be stacked row
by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.formulas.typing import Num
from simulator.specs.columns import Columns


@dataclass(frozen=True)
class Part(Columns):
    """A part of a layer."""


@dataclass(frozen=True)
class Normalisation(Part):
    """All normalisations of a layer."""

    count: Num
    """How many [1]."""
    weight: Num
    """1 where they scale what they have normalised by weights, else 0."""
    bias: Num
    """1 where they have a bias, else 0."""
    statistics: Num
    """Numbers that one keeps a token: 2 for LayerNorm, 1 for RMSNorm [1]."""
    outputs: Num
    """How many of them normalise what attention or feed-forward layer return before it is added [1]."""


@dataclass(frozen=True)
class HeadNormalisation(Part):
    """Normalisation of queries and keys before their product."""

    joint: Num
    """1 where all heads of a token are normalised together, 0 where each is by itself."""
    weights: Num
    """Times that the width of a head is the number of weights: 0 none, 1 shared by all heads, 2 own of each."""
    bias: Num
    """1 where it has a bias for each weight, else 0."""
    statistics: Num
    """Numbers that one keeps: 2 for LayerNorm, 1 for RMSNorm [1]."""


@dataclass(frozen=True)
class AttentionPart(Part):
    """What all kinds of attention have: heads of one width, and an output projection."""

    heads: Num
    key_value_heads: Num
    head_size: Num
    """Width of a query and of a key."""
    value_head_size: Num
    """Width of a value."""
    qkv_bias: Num
    """1 where the projections of queries, keys and values have a bias, else 0."""
    output_bias: Num
    dropout: Num
    """1 where probabilities are dropped, else 0."""
    capped: Num
    """1 where scores pass a soft cap, cap tanh(score / cap), else 0."""


@dataclass(frozen=True)
class MultiHeadAttention(AttentionPart):
    """Attention of tokens to each other: multi-head, grouped-query or multi-query by its number of key-value heads."""

    window: Num
    """Keys that a query sees at most."""
    causal: Num
    rotary: Num
    """Share of a query's and a key's width that rotary positions turn."""
    sinks: Num
    """1 where each head has a learned score that takes part in its softmax and in nothing else, else 0."""
    normalisation: HeadNormalisation | None
    """Of queries and keys."""


@dataclass(frozen=True)
class RelativeAttention(MultiHeadAttention):
    """Multi-head attention with Transformer-XL's scores by relative position, which need a projection of their own."""


@dataclass(frozen=True)
class DisentangledAttention(MultiHeadAttention):
    """Multi-head attention whose scores add products with embeddings of relative positions (DeBERTa)."""

    position_rows: Num
    """Embeddings of relative positions."""
    content_to_position: Num
    """1 where queries are multiplied with projected positions, else 0."""
    position_to_content: Num
    """1 where keys are multiplied with projected positions, else 0."""
    own_projections: Num
    """1 where positions have projections of their own, 0 where they pass those of queries and keys."""


@dataclass(frozen=True)
class LatentAttention(MultiHeadAttention):
    """Multi-head attention whose queries, keys and values pass through narrow latents (DeepSeek).

    A key is made of a part that comes from the latent and of one with rotary positions, which all heads share.
    """

    query_rank: Num
    """Width of the latent of queries; 0 where they are projected directly."""
    key_value_rank: Num
    """Width of the latent of keys and values."""
    rotary_size: Num
    """Width of the part of queries and keys that carries rotary positions."""
    latent_bias: Num
    """1 where projections into the latents have a bias, else 0."""


@dataclass(frozen=True)
class CrossAttention(AttentionPart):
    """Attention of a decoder's tokens to the encoder's output."""


@dataclass(frozen=True)
class DenseFeedForward(Part):
    """Two products with an activation function between them."""

    size: Num
    inputs: Num
    """Projections into it: 1 plain, 2 gated [1]."""
    bias: Num
    rectified: Num
    """1 where the activation function is ReLU, whose backward pass needs no more than its output, else 0."""


@dataclass(frozen=True)
class ExpertFeedForward(DenseFeedForward):
    """Several of them, of which a router chooses some for each token; `size` is that of one expert."""

    experts: Num
    experts_per_token: Num
    expert_groups: Num
    """Groups of neighbouring experts [1]."""
    groups_per_token: Num
    """Of these the ones whose experts a token may use [1]."""
    router_bias: Num
    """1 where the router has a bias, else 0."""
    shared_experts: Num
    """Experts that every token meets, beside the chosen ones [1]."""
    shared_size: Num
    """Width of one of those."""
    shared_gate: Num
    """1 where a gate of one number a token scales what they return, else 0."""


@dataclass(frozen=True)
class BlockForm(Part):
    """How attention and feed-forward layer are joined."""

    shares_input: ClassVar[bool]
    """Whether both read one input and their outputs are added up before they are exchanged."""


@dataclass(frozen=True)
class SerialBlock(BlockForm):
    """The feed-forward layer reads what attention has added to."""

    shares_input: ClassVar[bool] = False


@dataclass(frozen=True)
class ParallelBlock(BlockForm):
    """Both read the same input."""

    shares_input: ClassVar[bool] = True


@dataclass(frozen=True)
class Layers(Columns):
    """A number of equal layers."""

    count: Num
    hidden_size: Num
    dropout: Num
    """1 where what is added to the residual stream is dropped, else 0."""
    block: BlockForm
    norms: Normalisation
    attention: MultiHeadAttention
    cross_attention: CrossAttention | None
    """Of a decoder behind an encoder; its layers run over target tokens."""
    feed_forward: DenseFeedForward

    @property
    def parts(self) -> tuple[Part, ...]:
        """In the order of the forward pass."""
        cross = () if self.cross_attention is None else (self.cross_attention,)
        return (self.norms, self.attention, *cross, self.feed_forward, self.block)

    @property
    def experts(self) -> Num:
        """Experts of its feed-forward layer: 1 of a dense one [1]."""
        return self.feed_forward.experts if isinstance(self.feed_forward, ExpertFeedForward) else 1.0
