"""A transformer's architecture, as a specification."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self, get_args

from pydantic import Field, model_validator

from hardware.fields import Unit
from hardware.sheet import NO_FLAG, Name, Sheet, Words
from simulator.specs.architectures import Models, columns_of

Size = Annotated[int, Field(ge=1, le=10_000_000), NO_FLAG]
Few = Annotated[int, Field(ge=0, le=100_000), NO_FLAG]
Tokens = Annotated[Size, Unit("token")]
Width = Annotated[Size, Unit("element")]
Heads = Annotated[Size, Unit("head")]
Experts = Annotated[Size, Unit("expert")]
Bias = Literal["qkv", "latent", "query_key_norm", "attention_output", "feed_forward", "router", "normalisation", "head"]
FeedForward = Literal["plain", "gated"]
Objective = Literal[
    "causal",
    "mlm",
    "seq2seq",
    "classification",
    "token-classification",
    "span",
    "multiple-choice",
    "next-sentence",
    "encoding",
]
PositionProduct = Literal["content-to-position", "position-to-content"]
TransformPart = Literal["bias", "normalisation", "normalisation_bias"]


class Training(Sheet):
    """The workload that the model was published with; the default where a user gives none."""

    sequence_length: Tokens
    """Tokens of a sequence."""
    target_length: Tokens | None = None
    """Tokens of a target sequence, of encoder-decoder models."""
    global_batch: Annotated[Size, Unit("sequence")]
    """Sequences of one optimizer step."""
    tokens: Annotated[float, Field(gt=0, le=1e18), NO_FLAG, Unit("token")] | None = None
    """Tokens of the whole run, padding included."""
    steps: Annotated[Size, Unit("step")] | None = None
    """Optimizer steps of the whole run, where tokens are not given."""
    customary: bool = False
    """Whether nobody published it: lengths and batches that are usual for such a model."""


class LayerKind(NamedTuple):
    """What layers of one tower differ in."""

    has_experts: bool
    window: int | None
    """Keys that a query sees at most."""
    rotary: bool = False
    """Whether rotary positions turn queries and keys."""
    norms: int = 2
    """Normalisations, besides that of attention to an encoder."""


class Model(Sheet):
    """A transformer architecture."""

    id: Name
    """The word that names the model."""
    name: Words
    """Name in full."""
    family: Name
    """Models of one family share their form, such as bert, gpt or llama."""
    kind: Literal["encoder", "decoder", "encoder-decoder"]
    """Which towers it has; a decoder's attention is causal."""
    objective: Objective
    """What the head does: predict masked tokens, the next token, a target sequence, a class of each sequence or token,
    a span, the right one of several sequences, whether a sentence follows; or nothing, where encodings are trained."""
    layers: Annotated[Size, Unit("layer")]
    """Transformer layers; of the encoder where there are two towers."""
    decoder_layers: Annotated[Size, Unit("layer")] | None = None
    """Layers of the decoder of an encoder-decoder, which needs it."""
    hidden_size: Width
    """Width of the residual stream."""
    attention_heads: Heads
    """Query heads of a layer."""
    key_value_heads: Heads | None = None
    """Key and value heads of a layer (grouped-query attention); as many as query heads unless given."""
    head_size: Width | None = None
    """Width of one attention head; hidden_size / attention_heads unless given. Of queries and keys, where values have a
    width of their own."""
    value_head_size: Width | None = None
    """Width of a value; head_size unless given. Only latent attention has one of its own."""
    key_value_rank: Width | None = None
    """Width of the latent that keys and values come from (latent attention, DeepSeek); none unless given."""
    query_rank: Width | None = None
    """Width of the latent that queries come from; they are projected directly unless given."""
    rotary_head_size: Width | None = None
    """Of head_size the part with rotary positions, which keys of all heads share; latent attention needs it."""
    query_key_norm: Literal["none", "shared", "per-head", "joint", "unweighted"] = "none"
    """Normalisation of queries and keys: of each head with one set of weights for all (Qwen3), with weights of its own
    (Cohere) or without any (Llama 4, in layers with rotary positions), or of all heads of a token together (OLMo 2)."""
    attention_sinks: bool = False
    """Whether each head has a learned score in its softmax that no value belongs to (gpt-oss)."""
    score_cap: Annotated[float, Field(gt=0, le=1e6), NO_FLAG, Unit("1")] | None = None
    """Soft cap of attention scores, cap tanh(score / cap) (Gemma 2); none unless given."""
    logit_cap: Annotated[float, Field(gt=0, le=1e6), NO_FLAG, Unit("1")] | None = None
    """Soft cap of the vocabulary head's logits; none unless given."""
    feed_forward_size: Width
    """Width of the feed-forward layer."""
    feed_forward: FeedForward = "plain"
    """Whether the feed-forward layer has one projection into it, or a second one that gates the first (SwiGLU)."""
    activation: Literal["gelu", "relu", "relu2", "silu"] = "gelu"
    """Activation function of the feed-forward layer; relu2 is the square of ReLU."""
    block: Literal["serial", "parallel"] = "serial"
    """Whether attention and feed-forward layer follow each other or read the same normalised input."""
    normalisation: Literal["layernorm", "rmsnorm"] = "layernorm"
    """Kind of normalisation."""
    norm_weights: bool = True
    """Whether normalisations scale by learned weights (OLMo's do not)."""
    norm_position: Literal["pre", "post", "output", "sandwich"] = "pre"
    """Whether attention and feed-forward layer normalise their input, the sum after them (BERT), what they return
    before it is added (OLMo 2), or both their input and what they return (Gemma 2)."""
    norms_per_layer: Annotated[int, Field(ge=1, le=4), NO_FLAG, Unit("norm")] | None = None
    """Normalisations of a layer; one in a parallel block, four with norm_position sandwich, else two, unless given."""
    first_layer_norms: Annotated[int, Field(ge=1, le=4), NO_FLAG, Unit("norm")] | None = None
    """Normalisations of the first layer, where it has fewer since the embedding is normalised (ModernBERT)."""
    biases: tuple[Bias, ...] = ()
    """Which parts have biases."""
    dropout: bool = False
    """Whether training drops activations and attention probabilities."""
    positions: Literal["learned", "rotary", "alibi", "relative-buckets", "transformer-xl", "none"] = "learned"
    """How positions are encoded."""
    position_rows: Annotated[Few, Unit("row")] = 0
    """Rows of a learned position table, or buckets of relative positions; of an encoder-decoder in each tower."""
    relative_rows: Annotated[Few, Unit("row")] = 0
    """Rows of a table of relative positions besides: buckets that add to scores (MPNet), or, with position_products,
    embeddings that queries and keys are multiplied with (DeBERTa)."""
    relative_norm: bool = False
    """Whether embeddings of relative positions are normalised."""
    position_products: tuple[PositionProduct, ...] = ()
    """Products with embeddings of relative positions that scores add (DeBERTa)."""
    position_projections: bool = False
    """Whether those embeddings have projections of their own instead of those of queries and keys."""
    buckets_in_every_layer: bool = False
    """Whether every layer has a table of buckets instead of every tower (UMT5)."""
    rotary_share: Annotated[float, Field(gt=0, le=1), NO_FLAG, Unit("1")] = 1.0
    """Share of a head's width that rotary positions turn."""
    rotary_pattern: tuple[bool, ...] = ()
    """Which of successive layers have rotary positions, repeated to the last layer, where not all have them."""
    sliding_window: Annotated[Size, Unit("position")] | None = None
    """Keys that a query sees at most; all unless given."""
    window_pattern: tuple[Annotated[Size, Unit("position")] | None, ...] = ()
    """Windows of successive layers, repeated to the last layer, where they differ: null for one that sees all keys."""
    token_types: Annotated[Few, Unit("row")] = 0
    """Rows of the token-type table (BERT has two)."""
    vocabulary_size: Annotated[Size, Unit("row")]
    """Rows of the embedding table."""
    embedding_size: Width | None = None
    """Width of the embedding table, where a linear map leads from it to the hidden size (ALBERT)."""
    maps_words: bool = False
    """Whether only words have that width: their map has no bias, and a second one leads back before the head (OPT)."""
    embedding_norm: bool = False
    """Whether the embedding is normalised (BERT, BLOOM)."""
    tied_head: bool = True
    """Whether the vocabulary head uses the embedding table instead of one of its own."""
    head_transform: bool = False
    """Whether a linear map, an activation and a normalisation stand before the vocabulary head (BERT)."""
    head_transform_parts: tuple[TransformPart, ...] | None = None
    """What of them there is: a bias of the map, the normalisation, a bias of that; all three unless given."""
    transforms_classes: bool = False
    """Whether they stand before classes too, in the place of a pooler (ModernBERT)."""
    pooler: bool = False
    """Whether pretraining also classifies the pooled first token (next sentence, sentence order); where encodings are
    trained, whether they pass the pooler."""
    classes: Annotated[Size, Unit("label")] = 2
    """Classes that a classification tells apart."""
    mask_rate: Annotated[float, Field(gt=0, le=1), NO_FLAG, Unit("1")] = 0.15
    """Share of tokens that masked-language modelling predicts."""
    shared_layers: bool = False
    """Whether all layers use one set of parameters (ALBERT)."""
    experts: Experts = 1
    """Experts of a layer that has them; 1 means none."""
    experts_per_token: Experts = 1
    """Experts that a token is routed to."""
    expert_groups: Annotated[Size, Unit("1")] = 1
    """Groups of neighbouring experts, of which a token uses some only (DeepSeek-V3); 1 where all are one."""
    groups_per_token: Annotated[Size, Unit("1")] = 1
    """Groups whose experts a token may use."""
    router_balance: Literal["loss", "bias"] = "loss"
    """What evens out the load of experts: an auxiliary loss, or a bias of each without one (DeepSeek-V3)."""
    shared_experts: Annotated[Few, Unit("expert")] = 0
    """Experts that every token passes besides."""
    expert_feed_forward_size: Width | None = None
    """Width of an expert; feed_forward_size unless given."""
    shared_expert_feed_forward_size: Width | None = None
    """Width of an expert that every token passes; that of the others unless given."""
    shared_expert_gate: bool = False
    """Whether a gate of one number a token scales what shared experts return (Qwen2-MoE)."""
    expert_feed_forward: FeedForward | None = None
    """Whether experts are plain or gated; as feed_forward unless given."""
    expert_period: Annotated[Size, Unit("layer")] = 1
    """Every how many layers one has experts."""
    dense_layers_first: Annotated[Few, Unit("layer")] = 0
    """Layers at the beginning that have no experts, whatever the period."""
    dense_layers: tuple[Annotated[Few, Unit("layer")], ...] = ()
    """Further layers that have none, counted from 0."""
    multi_token_modules: Annotated[Few, Unit("layer")] = 0
    """Modules behind the last layer that predict one token further each (multi-token prediction, DeepSeek-V3): a
    projection, a layer and a loss, with the words and the head of the model. Its parameters are those without them."""
    training: Training
    """The workload that the model was published with; the default where a user gives none."""
    published_parameters: Annotated[float, Field(gt=0, le=1e16), NO_FLAG, Unit("parameter")] | None = None
    """Parameters as published; a test compares those that capsim counts."""
    published_parameters_tolerance: Annotated[float, Field(gt=0, le=0.2), NO_FLAG, Unit("1")] = 0.01
    """Relative tolerance of that comparison; wide where a source rounds or counts without embeddings."""
    source: Words | None = None
    """Where the sizes come from, in words."""
    note: Words | None = None
    """Anything a reader should know of the model."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.head_size is None and self.hidden_size % self.attention_heads:
            raise ValueError(
                f"attention_heads={self.attention_heads} does not divide hidden_size={self.hidden_size}; "
                "change one or give head_size"
            )
        if self.attention_heads % self.kv_heads:
            raise ValueError(f"key_value_heads={self.kv_heads} does not divide attention_heads={self.attention_heads}")
        if self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token={self.experts_per_token} exceeds experts={self.experts}")
        self._check_groups()
        if (self.kind == "encoder-decoder") != (self.decoder_layers is not None):
            raise ValueError("decoder_layers belongs to an encoder-decoder, and one needs it")
        if self.objective == "seq2seq" and self.kind != "encoder-decoder":
            raise ValueError(f"objective=seq2seq needs an encoder-decoder, not an {self.kind}")
        return self

    def _check_groups(self) -> None:
        """Refuse groups that do not divide the experts, or hold too few of them for a token."""
        groups, used = self.expert_groups, self.groups_per_token
        if self.experts % groups:
            raise ValueError(f"expert_groups={groups} does not divide experts={self.experts}")
        if used > groups:
            raise ValueError(f"groups_per_token={used} exceeds expert_groups={groups}")
        if self.experts_per_token > self.experts // groups * used:
            raise ValueError(
                f"groups_per_token={used} of expert_groups={groups} have fewer experts than experts_per_token="
                f"{self.experts_per_token}"
            )

    @model_validator(mode="after")
    def _predicts_further(self) -> Self:
        words = self.embedding_size is None and not self.shared_layers and self.norm_position != "post"
        if self.multi_token_modules and not (self.kind == "decoder" and words):
            raise ValueError(
                f"multi_token_modules={self.multi_token_modules} belongs to a decoder whose words are as wide as its "
                "layers, and whose layers have parameters of their own and normalise what they read"
            )
        return self

    @model_validator(mode="after")
    def _consistent_layers(self) -> Self:
        if self.expert_period > self.layers:
            raise ValueError(f"expert_period={self.expert_period} exceeds layers={self.layers}")
        if self.dense_layers_first > (self.layers if self.experts > 1 else 0):
            raise ValueError(
                f"dense_layers_first={self.dense_layers_first} exceeds the {self.layers} layers"
                if self.experts > 1
                else f"dense_layers_first={self.dense_layers_first} belongs to a model with experts"
            )
        if self.dense_layers and max(self.dense_layers) >= self.layers:
            raise ValueError(f"dense_layers has layer {max(self.dense_layers)}, and {self.layers} layers count from 0")
        if self.window_pattern and self.sliding_window is not None:
            raise ValueError("sliding_window and window_pattern say the same; give one of them")
        if len(self.window_pattern) > self.layers:
            raise ValueError(f"window_pattern has {len(self.window_pattern)} entries for {self.layers} layers")
        if len(self.rotary_pattern) > self.layers:
            raise ValueError(f"rotary_pattern has {len(self.rotary_pattern)} entries for {self.layers} layers")
        return self

    @model_validator(mode="after")
    def _consistent_attention(self) -> Self:
        latent = {"query_rank": self.query_rank, "rotary_head_size": self.rotary_head_size}
        beside = latent | {"value_head_size": self.value_head_size}
        if self.key_value_rank is None and any(size is not None for size in beside.values()):
            first = next(name for name, size in beside.items() if size is not None)
            raise ValueError(f"{first} belongs to latent attention, which needs key_value_rank")
        if self.key_value_rank is not None:
            if self.rotary_head_size is None or self.rotary_head_size >= self.width_of_head:
                raise ValueError(
                    f"rotary_head_size={self.rotary_head_size} must be a part of head_size={self.width_of_head}"
                )
            if self.kv_heads != self.attention_heads or self.decoder_layers is not None:
                raise ValueError("latent attention makes keys and values of all heads of a single tower")
        if self.position_products and not self.relative_rows:
            raise ValueError("position_products need the number of relative_rows")
        if self.maps_words and self.embedding_size is None:
            raise ValueError("maps_words needs embedding_size, the width of the words")
        return self

    @property
    def kv_heads(self) -> int:
        """Key and value heads: as many as query heads unless grouped."""
        return self.key_value_heads or self.attention_heads

    @property
    def width_of_head(self) -> int:
        """Width of one attention head."""
        return self.head_size or self.hidden_size // self.attention_heads

    def kind_of_layer(self, index: int) -> LayerKind:
        """What a layer of the first tower has that others may lack; `index` counts from 0."""
        after = index - self.dense_layers_first
        sparse = self.experts > 1 and after >= 0 and (index + 1) % self.expert_period == 0
        window = self.window_pattern[index % len(self.window_pattern)] if self.window_pattern else self.sliding_window
        turned = self.rotary_pattern[index % len(self.rotary_pattern)] if self.rotary_pattern else True
        norms = self.first_layer_norms if index == 0 and self.first_layer_norms else self._norms
        return LayerKind(sparse and index not in self.dense_layers, window, self._rotary and turned, norms)

    @property
    def kind_of_decoder_layer(self) -> LayerKind:
        """What each layer of the second tower has."""
        return LayerKind(False, self.sliding_window, self._rotary, self._norms)

    @property
    def transform_parts(self) -> tuple[TransformPart, ...]:
        """What stands before the head beside the weights of the map."""
        return get_args(TransformPart) if self.head_transform_parts is None else self.head_transform_parts

    @property
    def _rotary(self) -> bool:
        return self.positions == "rotary"

    @property
    def _norms(self) -> int:
        """Normalisations of a layer."""
        usual = 4 if self.norm_position == "sandwich" else 1 if self.block == "parallel" else 2
        return self.norms_per_layer or usual

    @property
    def all_layers(self) -> int:
        """Layers of all towers."""
        return self.layers + (self.decoder_layers or 0)

    def columns(self) -> Models:
        """The architecture as numbers."""
        return columns_of(self)
