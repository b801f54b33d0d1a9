"""What a family of Hugging Face models is, and what the readers of all kin share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hardware.errors import InputError, shown
from simulator.specs.huggingface.keys import Keys

Fields = dict[str, Any]
LINEAR = ("qkv", "attention_output", "feed_forward")
_GELU = ("gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_pytorch_tanh", "quick_gelu")
ACTIVATIONS = {"relu": "relu", "relu2": "relu2", "silu": "silu", "swish": "silu"} | dict.fromkeys(_GELU, "gelu")
"""Names of activation functions, and ours."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Where a family keeps its sizes, and what else follows from its keys."""

    details: Callable[[Keys], Fields]
    kind: Literal["encoder", "decoder", "encoder-decoder"] = "decoder"
    hidden: str = "hidden_size"
    layers: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    feed_forward: tuple[str, int | None] = ("intermediate_size", None)
    """Key and default; without a default it is four times the hidden size."""
    length: tuple[str, int] = ("max_position_embeddings", 2048)
    """Key and default of the longest sequence or of the rows of the position table."""
    activation: tuple[str, str] = ("hidden_act", "gelu")
    dropouts: Mapping[str, float] = field(default_factory=lambda: {"hidden_dropout": 0.0, "attention_dropout": 0.0})
    """Keys and defaults."""
    tied: bool = True
    pools: Literal["never", "encodings", "pretraining"] = "never"
    """Whether encodings pass a pooler, and whether pretraining tells classes apart behind it too."""
    labels: int = 2
    """Classes where a file does not say how many."""
    counted_by: str = ""
    """The model type whose class of the transformers library has the same parameters, where this one has no class."""


def biases(*, attention: bool, feed_forward: bool, norm: bool) -> tuple[str, ...]:
    """The names of the places that have a bias."""
    return ("qkv", "attention_output") * attention + ("feed_forward",) * feed_forward + ("normalisation",) * norm


def key_value_heads(config: Keys, absent: int | None = None) -> int:
    """Key and value heads: as many as query heads where the key is null, the family's number where it is absent."""
    usual = None if config.has("num_key_value_heads") else absent
    return config.size("num_key_value_heads", default=usual or config.size("num_attention_heads"))


def head_size(config: Keys, absent: int | None = None) -> int | None:
    """Width of a head; None where hidden size and heads say it."""
    if config.value("head_dim") is not None:
        return config.size("head_dim")
    return None if config.has("head_dim") else absent


def rotary_share(config: Keys, usual: float = 1.0) -> float:
    """Share of a head that rotary positions turn, wherever a release of the library keeps it."""
    scaling = config.value("rope_scaling")
    tables = [config.value("rope_parameters"), scaling]
    inner = [table.get("partial_rotary_factor") for table in tables if isinstance(table, Mapping)]
    share = config.number("partial_rotary_factor") or next((each for each in inner if each is not None), usual)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise InputError(
            f"{config.path}: partial_rotary_factor must be a number above 0, at most 1, not {shown(share)}"
        )
    return float(share)


def windows(types: Sequence[str], config: Keys, window: int | None, *, chunk: int | None = None) -> Fields:
    """Windows of successive layers from the words of `layer_types`: one for all, or the shortest pattern of them."""
    known = {"full_attention": None, "sliding_attention": window, "chunked_attention": chunk}
    for word in types:
        if word not in known:
            raise config.wrong("layer_types", f"{shown(word)} is no attention that can be counted")
    keys = [known[word] for word in types]
    if len(set(keys)) <= 1:
        return {"sliding_window": keys[0] if keys else None}
    return {"window_pattern": tuple(shortest(keys))}


def layer_types(config: Keys, layers: int, usual: Callable[[int], bool]) -> list[str]:
    """The words of `layer_types`; where the file has none, `usual` says which layers have a window, counted from 0."""
    words = config.words("layer_types")
    if words is None:
        return ["sliding_attention" if usual(index) else "full_attention" for index in range(layers)]
    if len(words) != layers:
        raise config.wrong("layer_types", f"must have a word for each of the {layers} layers")
    return words


def shortest(pattern: Sequence[Any]) -> list[Any]:
    """The shortest beginning that, repeated, makes the whole.

    >>> shortest([1, 2, 1, 2, 1])
    [1, 2]
    """
    whole = list(pattern)
    for length in range(1, len(whole)):
        if all(value == whole[index % length] for index, value in enumerate(whole)):
            return whole[:length]
    return whole
