"""A model from options of Megatron-LM."""

from __future__ import annotations

import ast
from typing import Any

from hardware.errors import InputError
from simulator.launch.megatron.vocabulary import padded, rows_read
from simulator.launch.settings import LaunchSettings

TOKENIZERS = {
    "gpt2bpetokenizer": 50257,
    "bertwordpiecelowercase": 30522,
    "bertwordpiececase": 28996,
    "llama2tokenizer": 32000,
}
"""Words of tokenizers that are a fixed list: OpenAI's GPT-2, Google's BERT and Meta's Llama 2."""
_MOST_LAYERS = 10_000


def model_of(settings: LaunchSettings, program: str | None, assumed: list[str]) -> dict[str, Any]:
    """The sizes and the form of a model.

    Parameters
    ----------
    settings
        Options of Megatron-LM.
    program
        The program that is started, where it is known.
    assumed
        Takes what is open and was chosen.
    """
    encoder = program is not None and "bert" in program
    refuse_other_program(program, settings.path)
    hidden, heads = settings.needed("--hidden-size"), settings.needed("--num-attention-heads")
    gated = settings.flag("--swiglu"), settings.flag("--quick-geglu")
    usual = int(4 * hidden * 2 / 3) // 64 * 64 if gated[0] else 4 * hidden
    model: dict[str, Any] = {
        "id": "megatron-model",
        "name": "model of a Megatron-LM launch file",
        "family": "bert" if encoder else "megatron",
        "kind": "encoder" if encoder else "decoder",
        "objective": "mlm" if encoder else "causal",
        "layers": settings.needed("--num-layers", "--encoder-num-layers"),
        "hidden_size": hidden,
        "attention_heads": heads,
        "feed_forward_size": settings.whole("--ffn-hidden-size") or usual,
        "feed_forward": "gated" if any(gated) else "plain",
        "activation": "silu" if gated[0] else "gelu",
        "normalisation": settings.word("--normalization", {"layernorm": "layernorm", "rmsnorm": "rmsnorm"})
        or "layernorm",
        "tied_head": not settings.flag("--untie-embeddings-and-output-weights"),
        "vocabulary_size": _vocabulary(settings, assumed),
        "dropout": _dropout(settings),
        **_attention(settings, hidden, heads),
        **_positions(settings),
        **_windows(settings),
        **_experts(settings),
        "multi_token_modules": settings.whole("--mtp-num-layers", least=0) or 0,
    }
    model["biases"] = _biases(settings, model["normalisation"], encoder=encoder)
    if "query_key_norm" in model and model["normalisation"] == "layernorm":
        model["biases"].append("query_key_norm")
    if encoder:
        model |= {"token_types": 2, "head_transform": True, "pooler": not settings.flag("--bert-no-binary-head")}
    model["training"] = {
        "sequence_length": settings.needed("--seq-length", "--encoder-seq-length"),
        "global_batch": settings.whole("--global-batch-size") or 1,
    }
    return model


def refuse_other_program(program: str | None, path: str) -> None:
    """Refuse a program whose model is neither GPT nor BERT."""
    name = (program or "").rpartition("/")[2]
    if any(word in name for word in ("t5", "vision", "vlm", "ict", "mamba", "hybrid", "retro", "mimo")):
        raise InputError(
            f"{path}: starts {name}, whose model is not read; capsim reads pretrain_gpt.py and pretrain_bert.py"
        )


def _attention(settings: LaunchSettings, hidden: int, heads: int) -> dict[str, Any]:
    """Groups of keys and values, and the width of a head."""
    grouped = settings.flag("--group-query-attention")
    groups = settings.whole("--num-query-groups")
    width = settings.whole("--kv-channels")
    norms = {"query_key_norm": "shared"} if settings.flag("--qk-layernorm") else {}
    sizes = {"head_size": width} if width is not None and width * heads != hidden else {}
    return {**sizes, **norms, **({"key_value_heads": groups or 1} if grouped else {})}


def _positions(settings: LaunchSettings) -> dict[str, Any]:
    """How positions are encoded, with the rows of a table."""
    kinds = {"learned_absolute": "learned", "rope": "rotary", "none": "none"}
    rotary = settings.flag("--use-rotary-position-embeddings")
    kind = settings.word("--position-embedding-type", kinds)
    if settings.flag("--no-position-embedding") and not rotary and kind in (None, "learned"):
        kind = "rotary" if settings.value("--rotary-percent") is not None else "none"
    kind = "rotary" if rotary else kind or "learned"
    rows = (
        settings.needed("--max-position-embeddings")
        if kind == "learned"
        else settings.whole("--max-position-embeddings")
    )
    return {"positions": kind, **({"position_rows": rows} if kind == "learned" else {})}


def _windows(settings: LaunchSettings) -> dict[str, Any]:
    """Windows of attention."""
    value = settings.value("--window-size")
    every = settings.value("--window-attn-skip-freq")
    if value is None:
        return {}
    before = "".join(value).strip("()[] ").split(",")[0]
    if not before.isdigit():
        raise settings.wrong("--window-size", "must be two numbers such as 127,0")
    width = int(before) + 1
    if every is None:
        return {"sliding_window": width}
    number = settings.whole("--window-attn-skip-freq")
    return {"window_pattern": [width] * ((number or 1) - 1) + [None]}


def _dropout(settings: LaunchSettings) -> bool:
    """Whether activations or attention probabilities are dropped; a tenth unless told."""
    shares = [settings.real("--hidden-dropout"), settings.real("--attention-dropout")]
    return any(share is None or share > 0.0 for share in shares)


def _biases(settings: LaunchSettings, normalisation: str, *, encoder: bool) -> list[str]:
    linear = ["qkv", "attention_output", "feed_forward"]
    added = settings.flag("--add-qkv-bias")
    if settings.flag("--disable-bias-linear"):
        linear = ["qkv"] if added else []
    return [*linear, *(["normalisation"] if normalisation == "layernorm" else []), *(["head"] if encoder else [])]


def _vocabulary(settings: LaunchSettings, assumed: list[str]) -> int:
    """Rows of the table of words, as told, or padded from the words that are told or that the tokenizer has."""
    said, ranks = settings.whole("--vocab-size"), settings.whole("--tensor-model-parallel-size") or 1
    rows = rows_read(said, settings.whole("--padded-vocab-size"), ranks)
    if rows is not None:
        return rows
    words = said or _words_of_tokenizer(settings)
    multiple = settings.whole("--make-vocab-size-divisible-by")
    unpadded = settings.flag("--no-pad-vocab-size") or settings.flag("--disable-pad-vocab-size")
    rows = words if unpadded else padded(words, ranks, multiple)
    if rows != words:
        assumed.append(f"vocabulary_size={rows}: Megatron-LM pads {words} words to as many rows")
    elif said is None:
        assumed.append(f"vocabulary_size={words}: that of the tokenizer")
    return rows


def _words_of_tokenizer(settings: LaunchSettings) -> int:
    """Words of a tokenizer that is a fixed list."""
    entry = settings.value("--tokenizer-type")
    merged = "gpt2bpetokenizer" if "--merge-file" in settings else "bertwordpiecelowercase"
    kind = "".join(entry).lower() if entry else merged
    if kind not in TOKENIZERS or (entry is None and "--vocab-file" not in settings):
        raise InputError(
            f"{settings.place('--tokenizer-type')}: the size of the vocabulary is not known; add --vocab-size, such as "
            "--vocab-size 128256"
        )
    return TOKENIZERS[kind]


def _experts(settings: LaunchSettings) -> dict[str, Any]:
    """A mixture of experts."""
    experts = settings.whole("--num-experts")
    if experts is None or experts == 1:
        return {}
    size = settings.whole("--moe-ffn-hidden-size")
    shared = settings.whole("--moe-shared-expert-intermediate-size", least=0) or 0
    chosen = size or settings.whole("--ffn-hidden-size") or 0
    if shared and (not chosen or shared % chosen):
        raise settings.wrong(
            "--moe-shared-expert-intermediate-size", f"must be a multiple of the {chosen} of an expert"
        )
    return {
        "experts": experts,
        "experts_per_token": settings.whole("--moe-router-topk") or 2,
        **({"expert_feed_forward_size": size} if size is not None else {}),
        **({"shared_experts": shared // chosen} if shared else {}),
        **_frequency(settings),
    }


def _frequency(settings: LaunchSettings) -> dict[str, int]:
    """Which layers have experts, as ``--moe-layer-freq`` says."""
    value = settings.value("--moe-layer-freq")
    if value is None:
        return {}
    text = "".join(value)
    layers = settings.needed("--num-layers")
    kinds = [int(index % int(text) == 0) for index in range(layers)] if text.isdigit() and int(text) else listed(text)
    return layers_with_experts(settings, "--moe-layer-freq", kinds, layers)


def layers_with_experts(settings: LaunchSettings, option: str, kinds: list[int], layers: int) -> dict[str, int]:
    """Which layers have experts: after some dense ones, every so many.

    Parameters
    ----------
    settings
        Options or keys of Megatron Core.
    option
        The one that says it.
    kinds
        One for each layer with experts, zero for each without.
    layers
        How many there are.

    Raises
    ------
    InputError
        For another pattern.
    """
    dense = next((index for index, has in enumerate(kinds) if has), len(kinds))
    for period in range(1, len(kinds) + 1):
        for first in {max(dense - period + 1, 0), dense}:
            if kinds == _kinds(layers, first, period):
                return {"dense_layers_first": first, "expert_period": period}
    raise settings.wrong(option, "must have experts in every n-th layer after some without")


def refuse_groups(settings: LaunchSettings, option: str, sharding: str) -> None:
    """Refuse several instances of the distributed optimizer where nothing is shared in groups.

    Raises
    ------
    InputError
        With the option.
    """
    if sharding in ("none", "zero2"):
        raise settings.wrong(option, f"is not understood with sharding={sharding}")


def group_of_states(settings: LaunchSettings, option: str, instances: int, ranks: int) -> int:
    """Ranks that share states, of so many instances of the distributed optimizer.

    Parameters
    ----------
    settings
        Options or keys of Megatron Core.
    option
        The one that says the instances.
    instances
        More than one.
    ranks
        Data-parallel ranks, those of context parallelism among them; 0 where they are not known.

    Raises
    ------
    InputError
        Where they do not come out even.
    """
    if not ranks or ranks % instances:
        raise settings.wrong(option, f"does not divide the {ranks} data-parallel ranks")
    return ranks // instances


def _kinds(layers: int, first: int, period: int) -> list[int]:
    """Which layers have experts, as models count them."""
    return [int(index >= first and (index + 1) % period == 0) for index in range(layers)]


def listed(text: str) -> list[int]:
    """A list of 0 and 1 written with + and *, as Megatron-LM takes it; nothing is evaluated but that.

    >>> listed("([0]*2+[1]*3)"), listed("[0,1]*2"), listed("open('x')")
    ([0, 0, 1, 1, 1], [0, 1, 0, 1], [])
    """

    def value(node: ast.expr) -> list[int] | int:
        if isinstance(node, ast.Constant) and type(node.value) is int and 0 <= node.value <= _MOST_LAYERS:
            return node.value
        if isinstance(node, ast.List):
            return [number for part in node.elts for number in [value(part)] if isinstance(number, int)]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
            left, right = value(node.left), value(node.right)
            if isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list):
                return left + right
            if isinstance(node.op, ast.Mult) and isinstance(left, list) and isinstance(right, int):
                return left * right if len(left) * right <= _MOST_LAYERS else []
        raise ValueError

    try:
        result = value(ast.parse(text.strip(), mode="eval").body) if len(text) < 50_000 else []
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return result if isinstance(result, list) else []
