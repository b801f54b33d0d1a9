"""The architecture of a published run: its family's structure with the run's sizes."""

from __future__ import annotations

import re
from typing import Any

from simulator.evidence.runs import RefusedError, Run
from simulator.specs.loading import load_model
from simulator.specs.model import Model

_LIKE = {
    "bert": "bert-large",
    "gpt": "megatron-22b",
    "llama": "llama-2-7b",
    "palm": "palm-8b",
    "t5": "t5-large",
}
"""The model of the catalogue that stands for the structure of each family."""
_WITHOUT_DROPOUT = ("composer", "mosaic", "languini", "pax", "maxtext", "nemo", "megascale")
"""Frameworks whose published GPT runs drop nothing."""


def model_of(run: Run) -> Model:
    """The architecture of a run.

    Raises
    ------
    RefusedError
        Where the family is not known, or a size that no rule fills is missing.
    """
    given = run.model
    if given.family == "moe":
        return _with_experts(run)
    if given.family not in _LIKE:
        raise RefusedError("unknown family of models", given.family)
    if given.layers is None or given.hidden is None:
        raise RefusedError("sizes not published")
    return load_model({"base": _LIKE[given.family], **_sizes(run), **_structure(run)})


_EXPERTS = (
    ("grok-?1", "grok-1"),
    ("qwen3-235b", "qwen3-235b-a22b"),
    ("qwen3-30b", "qwen3-30b-a3b"),
    ("gpt-oss-120b", "gpt-oss-120b"),
    ("mixtral-8x7b", "mixtral-8x7b"),
    ("mixtral-8x22b", "mixtral-8x22b"),
)
"""Models of the catalogue for names of models with experts: runs seldom publish the experts themselves."""


def _with_experts(run: Run) -> Model:
    """A model with experts: that of its name in the catalogue, or a gated one with the experts that the run tells."""
    given, name = run.model, run.model.name.lower().replace("_", "-")
    base = next((known for pattern, known in _EXPERTS if re.search(pattern, name)), None)
    if base is not None:
        layers = int(given.layers or load_model(base).layers)
        return load_model({"base": base, "layers": layers, **_training(run), "published_parameters": None})
    if not (given.experts and given.experts_per_token and given.layers and given.hidden):
        raise RefusedError("experts not published")
    if re.search("deepseek-v[23]|kimi", name):
        raise RefusedError("latent attention")
    experts = {"experts": int(given.experts), "experts_per_token": int(given.experts_per_token)}
    return load_model({"base": "mixtral-8x7b", **_sizes(run), **experts, "id": "published", "name": given.name[:200]})


def _training(run: Run) -> dict[str, Any]:
    """A workload that stands where a model needs one."""
    return {"training": {"sequence_length": int(run.model.seq_len or 2048), "global_batch": 1}}


def _sizes(run: Run) -> dict[str, Any]:
    """Sizes of the run; heads as wide as usual where they were not published."""
    given = run.model
    hidden = int(given.hidden or 0)
    width = given.head_dim or (hidden / given.heads if given.heads else 128.0)
    heads = int(given.heads or max(round(hidden / width), 1))
    gated = bool(given.ffn_gated)
    sizes: dict[str, Any] = {
        "layers": int(given.layers or 0),
        "hidden_size": hidden,
        "attention_heads": heads,
        "key_value_heads": int(given.kv_heads or heads),
        "head_size": max(round(width), 1),
        "feed_forward_size": int(given.ffn or (8 * hidden // 3 if gated else 4 * hidden)),
        "feed_forward": "gated" if gated else "plain",
        **_training(run),
        "published_parameters": None,
    }
    if given.vocab:
        sizes["vocabulary_size"] = int(given.vocab)
    if given.decoder_layers:
        sizes |= {"layers": int(given.encoder_layers or given.layers or 0), "decoder_layers": int(given.decoder_layers)}
    return sizes


def _structure(run: Run) -> dict[str, Any]:
    """What the run says, or its framework implies, about the rest."""
    given, framework = run.model, (run.plan.framework or "").lower()
    changes: dict[str, Any] = {"id": "published", "name": given.name[:200]}
    if given.tied_embeddings is not None:
        changes["tied_head"] = given.tied_embeddings
    if given.family == "bert":
        changes["objective"] = "span" if run.task == "finetune" else "mlm"
    if given.family == "gpt" and any(word in framework for word in _WITHOUT_DROPOUT):
        changes["dropout"] = False
    if given.family == "gpt" and ("composer" in framework or "languini" in framework):
        changes["biases"] = ["normalisation"]
    return changes
