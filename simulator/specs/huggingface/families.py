"""All families by `model_type`, those that are refused, and the keys that change nothing that is counted."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from hardware.reading import read_mapping
from simulator.specs.huggingface.early import EARLY_DECODERS
from simulator.specs.huggingface.encoder_decoders import ENCODER_DECODERS
from simulator.specs.huggingface.encoders import ENCODERS
from simulator.specs.huggingface.experts import EXPERT_KIN
from simulator.specs.huggingface.family import Family
from simulator.specs.huggingface.llama import LLAMA_KIN

FAMILIES: dict[str, Family] = {**ENCODERS, **EARLY_DECODERS, **LLAMA_KIN, **EXPERT_KIN, **ENCODER_DECODERS}
SAME = {"qwen3_vl_text": "qwen3", "qwen3_vl_moe_text": "qwen3_moe", "ministral3": "mistral"}
"""Names of families that have the keys and the form of another."""
TEXT_MODELS = {
    "gemma3": "gemma3_text",
    "llama4": "llama4_text",
    "mistral3": "mistral",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
    "kimi_k25": "kimi_k2",
}
"""Models of several towers, and what the one that reads text is unless its keys, in `text_config`, say so."""
TEXT_DEFAULTS: dict[str, dict[str, int]] = {"gemma3": {"vocab_size": 262_208, "num_attention_heads": 8}}
"""Sizes that files of these leave to the library's class of their text (`Gemma3TextConfig` of transformers)."""
_ROOT = Path(__file__).parent


@cache
def refused() -> dict[str, str]:
    """What is missing, by the `model_type` of families that cannot be counted."""
    return {str(name): str(missing) for name, missing in read_mapping(_ROOT / "refused.yaml").items()}


@cache
def harmless(model_type: str) -> frozenset[str]:
    """Keys that change neither sizes nor arithmetic: those of all families, and those of one."""
    listed = read_mapping(_ROOT / "harmless.yaml")
    return frozenset([*listed["every"], *listed.get(model_type, [])])


@cache
def examples() -> dict[str, list[dict[str, Any]]]:
    """Keys of each family at two sizes: those of a release, and odd ones."""
    return read_mapping(_ROOT / "examples.yaml")
