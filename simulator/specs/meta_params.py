"""Models from the ``params.json`` that Meta and Mistral AI ship with weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardware.errors import InputError, shown
from hardware.reading import build
from simulator.specs.model import Model

_LLAMA_VOCABULARY = 32_000
"""Rows of Llama's and Llama 2's table, whose files say -1: meta-llama/llama, tokenizer.model."""
_SIZES = ("dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "multiple_of", "hidden_dim", "head_dim")
_OTHERS = (
    *("ffn_dim_multiplier", "norm_eps", "rope_theta", "use_scaled_rope", "moe", "sliding_window", "max_batch_size"),
    *("max_seq_len", "model_parallel_size"),
)


def is_params(document: Mapping[str, Any]) -> bool:
    """Whether a document is such a file.

    >>> is_params({"dim": 4096, "n_layers": 32, "n_heads": 32}), is_params({"hidden_size": 64})
    (True, False)
    """
    return {"dim", "n_layers", "n_heads"} <= document.keys() and "model_type" not in document  # DistilBERT's has both


def from_params(document: Mapping[str, Any], path: Path) -> Model:
    """A model of Llama's form.

    The width of the feed-forward layer is that of ``FeedForward`` in meta-llama/llama, ``llama/model.py``: two thirds
    of 4 x dim, times ``ffn_dim_multiplier``, rounded up to a multiple of ``multiple_of``; Mistral's files give it.

    Raises
    ------
    InputError
        Where a size is missing, or a key is not known.
    """
    unknown = next((key for key in document if key not in (*_SIZES, *_OTHERS)), None)
    if unknown is not None:
        value = shown(document[unknown])
        raise InputError(f"{path}: {unknown}={value}: is not understood; capsim reads {', '.join((*_SIZES, *_OTHERS))}")
    sizes = {name: _whole(document, name, path) for name in _SIZES if document.get(name) not in (None, -1)}
    model: dict[str, Any] = {
        "id": _word(path),
        "name": f"model of {path.name}",
        "family": "llama",
        "kind": "decoder",
        "objective": "causal",
        "layers": sizes["n_layers"],
        "hidden_size": sizes["dim"],
        "attention_heads": sizes["n_heads"],
        "key_value_heads": sizes.get("n_kv_heads", sizes["n_heads"]),
        "feed_forward_size": sizes.get("hidden_dim") or _width(document, sizes, path),
        "vocabulary_size": sizes.get("vocab_size", _LLAMA_VOCABULARY),
        "feed_forward": "gated",
        "activation": "silu",
        "normalisation": "rmsnorm",
        "positions": "rotary",
        "tied_head": False,
        "training": {"sequence_length": 4096, "global_batch": 1024, "customary": True},
        "source": f"{path.name} of a checkpoint; whether the head is tied is not said there, and untied is taken",
    }
    if "head_dim" in sizes and sizes["head_dim"] * sizes["n_heads"] != sizes["dim"]:
        model["head_size"] = sizes["head_dim"]
    window = document.get("sliding_window")
    if window is not None:
        model["sliding_window"] = _whole(document, "sliding_window", path)
    return build(Model, {**model, **_experts(document, path)})


def _experts(document: Mapping[str, Any], path: Path) -> dict[str, int]:
    """A mixture of experts, as Mistral's files say it."""
    experts = document.get("moe")
    if experts is None:
        return {}
    if not isinstance(experts, Mapping):
        raise InputError(f"{path}: moe={shown(experts)}: must hold num_experts and num_experts_per_tok")
    return {
        "experts": _whole(experts, "num_experts", path),
        "experts_per_token": _whole(experts, "num_experts_per_tok", path),
    }


def _whole(document: Mapping[str, Any], name: str, path: Path) -> int:
    """A positive whole number."""
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{path}: {name}={shown(value)}: must be a whole number of at least 1")
    return value


def _width(document: Mapping[str, Any], sizes: Mapping[str, int], path: Path) -> int:
    """Width of the feed-forward layer."""
    factor = document.get("ffn_dim_multiplier")
    if factor is not None and (isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < 100):
        raise InputError(f"{path}: ffn_dim_multiplier={shown(factor)}: must be a number such as 1.3")
    width, multiple = int(2 * (4 * sizes["dim"]) / 3), sizes.get("multiple_of", 256)
    width = width if factor is None else int(factor * width)
    return multiple * ((width + multiple - 1) // multiple)


def _word(path: Path) -> str:
    """A word after the file's folder, which is called as the model."""
    word = "".join(char if char.isascii() and char.isalnum() else "-" for char in path.resolve().parent.name.lower())
    return word.strip("-")[:60] or "meta-model"
