"""A model as options of Megatron-LM."""

from __future__ import annotations

from collections.abc import Iterator

from hardware.errors import InputError
from simulator.launch.megatron.vocabulary import written_rows, written_words
from simulator.launch.saying import lacks, unsaid_form
from simulator.specs.model import Model
from simulator.specs.plan import Plan

Option = tuple[str, ...]
_FRAMEWORK = "Megatron-LM"
LINEAR = frozenset({"qkv", "attention_output", "feed_forward"})
_DROPOUT = 0.1
"""What the options take unless told."""


def refuse_model(model: Model, framework: str = _FRAMEWORK) -> None:
    """Refuse an architecture that Megatron Core does not build.

    Parameters
    ----------
    model
        The architecture.
    framework
        Whose models they are, for the sentence.

    Raises
    ------
    InputError
        With what is missing.
    """
    remedy = "choose another framework, or a model without it"
    if model.kind == "encoder-decoder" or model.objective in ("seq2seq", "span", "classification"):
        raise lacks(framework, f"program for a model of kind {model.kind} with objective={model.objective}", remedy)
    if model.block == "parallel":
        raise lacks(framework, "parallel attention and feed-forward layer (block=parallel)", remedy)
    if model.shared_layers or model.embedding_size is not None:
        raise lacks(framework, "layers that share parameters, or an embedding of another width", remedy)
    if model.positions not in ("learned", "rotary", "none"):
        raise lacks(framework, f"positions={model.positions}", remedy)
    if model.activation == "relu" or (model.activation == "silu" and model.feed_forward == "plain"):
        raise lacks(framework, f"{model.feed_forward} feed-forward layer with activation={model.activation}", remedy)
    if model.key_value_rank is not None:
        raise InputError(f"latent attention (of {model.id}) is not written for {framework} yet; {remedy}")
    if model.experts > 1 and model.expert_feed_forward not in (None, model.feed_forward):
        raise lacks(
            framework, f"experts that are {model.expert_feed_forward} beside {model.feed_forward} layers", remedy
        )
    window_of(model, framework)


def program_of_model(model: Model) -> str:
    """The program that trains it."""
    return "pretrain_gpt.py" if model.kind == "decoder" else "examples/bert/pretrain_bert.py"


def model_options(model: Model, plan: Plan, sequence_length: int) -> Iterator[Option]:
    """Options that give the sizes and the form of a model, whose table of words a plan divides."""
    yield ("--num-layers", str(model.layers))
    yield ("--hidden-size", str(model.hidden_size))
    yield ("--ffn-hidden-size", str(model.feed_forward_size))
    yield ("--num-attention-heads", str(model.attention_heads))
    if model.kv_heads != model.attention_heads:
        yield ("--group-query-attention",)
        yield ("--num-query-groups", str(model.kv_heads))
    yield ("--kv-channels", str(model.width_of_head))
    yield ("--seq-length", str(sequence_length))
    rows = model.position_rows if model.positions == "learned" else 0
    yield ("--max-position-embeddings", str(max(rows, sequence_length)))
    kinds = {"learned": "learned_absolute", "rotary": "rope", "none": "none"}
    yield ("--position-embedding-type", kinds[model.positions])
    yield from _form(model)
    if model.experts > 1:
        yield from _experts(model)
    yield ("--tokenizer-type", "NullTokenizer")
    yield ("--vocab-size", str(written_words(model)))
    yield ("--padded-vocab-size", str(written_rows(model, plan)))


def _form(model: Model) -> Iterator[Option]:
    """Activation, normalisation, biases, dropout, windows and head."""
    if model.feed_forward == "gated":
        yield ("--swiglu",) if model.activation == "silu" else ("--quick-geglu",)
    yield ("--normalization", "RMSNorm" if model.normalisation == "rmsnorm" else "LayerNorm")
    linear = LINEAR & set(model.biases)
    if linear != LINEAR:
        yield ("--disable-bias-linear",)
        if "qkv" in linear:
            yield ("--add-qkv-bias",)
    if model.query_key_norm == "shared":
        yield ("--qk-layernorm",)
    if not model.dropout:
        yield ("--attention-dropout", "0.0")
        yield ("--hidden-dropout", "0.0")
    if not model.tied_head:
        yield ("--untie-embeddings-and-output-weights",)
    if model.kind == "encoder" and not model.pooler:
        yield ("--bert-no-binary-head",)
    window, every = window_of(model)
    if window is not None:
        yield ("--window-size", f"{window - 1},0")
        if every > 1:
            yield ("--window-attn-skip-freq", str(every))


def window_of(model: Model, framework: str = _FRAMEWORK) -> tuple[int | None, int]:
    """The keys that a query sees in layers with a window, and every how many layers one sees all; 1 where none does.

    Raises
    ------
    InputError
        For patterns of windows that Megatron-LM cannot say.
    """
    pattern = model.window_pattern
    if not pattern:
        return model.sliding_window, 1
    windows, (*before, last) = {width for width in pattern if width is not None}, pattern
    if len(windows) != 1 or last is not None or None in before:
        raise lacks(framework, f"windows in the pattern {list(pattern)}", "write them as [width, ..., null]")
    return windows.pop(), len(pattern)


def _experts(model: Model) -> Iterator[Option]:
    """Options of a mixture of experts."""
    size = model.expert_feed_forward_size or model.feed_forward_size
    yield ("--num-experts", str(model.experts))
    yield ("--moe-router-topk", str(model.experts_per_token))
    yield ("--moe-ffn-hidden-size", str(size))
    yield ("--moe-token-dispatcher-type", "alltoall")
    yield ("--moe-grouped-gemm",)
    if model.shared_experts:
        yield ("--moe-shared-expert-intermediate-size", str(model.shared_experts * size))
    if model.expert_period > 1 or model.dense_layers_first:
        kinds = [int(model.kind_of_layer(index).has_experts) for index in range(model.layers)]
        yield ("--moe-layer-freq", "[" + ",".join(map(str, kinds)) + "]")


def unsaid_of_model(model: Model) -> Iterator[str]:
    """What options cannot say of a model that Megatron-LM can otherwise build."""
    linear = LINEAR & set(model.biases)
    if linear not in (LINEAR, frozenset(), frozenset({"qkv"})):
        yield f"biases: only those of {', '.join(sorted(linear))}; Megatron-LM has all, none, or those of qkv"
    if model.normalisation == "layernorm" and "normalisation" not in model.biases:
        yield "normalisations without a bias: LayerNorm of Megatron-LM has one"
    if model.norm_position == "post":
        yield "normalisations behind each sum (post): Megatron-LM normalises what goes into each part (pre)"
    if model.embedding_norm:
        yield "a normalisation of the embedding"
    if model.norms_per_layer not in (None, 2):
        yield f"{model.norms_per_layer} normalisations a layer"
    if model.feed_forward == "gated" and model.activation == "gelu":
        yield "GeLU as it is: --quick-geglu gates by its approximation"
    yield from unsaid_form(model, said={"query_key_norm": ("none", "shared")})
    if model.positions == "learned" and model.position_rows == 0:
        yield "a position table without rows"
