"""Hugging Face ``config.json`` files as models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardware.errors import InputError, unknown
from hardware.reading import build
from simulator.specs.huggingface_families import ACTIVATIONS, FAMILIES, Family, Fields
from simulator.specs.keys import Keys
from simulator.specs.model import Model

_OBJECTIVES = {
    "ForPreTraining": "mlm",
    "ForMaskedLM": "mlm",
    "ForQuestionAnswering": "span",
    "ForSequenceClassification": "classification",
    "ForCausalLM": "causal",
    "LMHeadModel": "causal",
    "ForConditionalGeneration": "seq2seq",
}
"""What the end of an architecture's name says of its head."""
_ELSEWHERE = ("span", "classification", "causal")
"""What a model of any kind can be made to do besides the objective of its pretraining."""
_TRAINING: dict[str, tuple[str, int, Fields]] = {
    "encoder": ("mlm", 512, {"global_batch": 256}),
    "decoder": ("causal", 2048, {"global_batch": 512}),
    "encoder-decoder": ("seq2seq", 512, {"global_batch": 128, "target_length": 114}),
}
"""Objective of pretraining, longest sequence and the rest of the workload, assumed where the file does not say."""
_ASSUMED = "Sequence length and batch are customary ones: a config file says nothing of training."


def from_config(config: Mapping[str, Any], path: Path) -> Model:
    """Make a model of a Hugging Face configuration.

    Parameters
    ----------
    config
        The keys of a ``config.json``.
    path
        Where they stand; errors name it, and its folder names the model.

    Returns
    -------
    Model
        The architecture, with a customary workload, which the note says.

    Raises
    ------
    InputError
        One sentence with the file, the key, its value and what would be valid.
    """
    keys = Keys(config, path)
    model_type = keys.word("model_type")
    if not model_type:
        raise InputError(f"{path}: model_type is missing; valid: {', '.join(FAMILIES)}")
    if model_type not in FAMILIES:
        raise InputError(f"{path}: {unknown('model_type', model_type[:80], list(FAMILIES))}")
    family = FAMILIES[model_type]
    details = family.details(keys)
    learned = details.get("positions", "learned") == "learned"
    fields = {**_common(keys, family, learned), **details, **_head(keys, family, model_type)}
    try:
        return build(Model, {**_identity(keys, model_type), **fields})
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _common(keys: Keys, family: Family, learned: bool) -> Fields:
    """What all families have."""
    hidden = keys.size(family.hidden, "hidden_size")
    width_key, width = family.feed_forward
    length = keys.size(family.length[0], default=family.length[1])
    _, longest, workload = _TRAINING[family.kind]
    return {
        "kind": family.kind,
        "layers": keys.size(family.layers, "num_hidden_layers"),
        "hidden_size": hidden,
        "attention_heads": keys.size(family.heads, "num_attention_heads"),
        "feed_forward_size": keys.size(width_key, default=width or 4 * hidden),
        "activation": keys.choice(*family.activation, ACTIVATIONS),
        "vocabulary_size": keys.size("vocab_size"),
        "position_rows": length if learned else 0,
        "tied_head": keys.flag("tie_word_embeddings", default=family.tied),
        "dropout": any(keys.positive(key, default) for key, default in family.dropouts.items()),
        "training": {"sequence_length": min(length, longest), "customary": True, **workload},
        "note": _ASSUMED,
    }


def _head(keys: Keys, family: Family, model_type: str) -> Fields:
    """What the model predicts; a file that names no architecture, or a bare one, means pretraining."""
    architectures = keys.values.get("architectures") or [""]
    if not isinstance(architectures, list) or not isinstance(architectures[0], str):
        raise keys.wrong("architectures", "must be a list of names")
    pretraining = _TRAINING[family.kind][0]
    possible = {end: what for end, what in _OBJECTIVES.items() if what in (pretraining, *_ELSEWHERE)}
    endings = [end for end in possible if architectures[0].endswith(end)]
    bare = architectures[0].removesuffix("Model").lower() in ("", re.sub("[_-]", "", model_type))
    if not endings and not bare:
        raise keys.wrong("architectures", f"valid endings: {', '.join(possible)}")
    objective = pretraining if bare else possible[endings[0]]
    labels = len(keys.table("id2label").values) or keys.size("num_labels", default=2)
    fields: Fields = {"objective": objective}
    if family.pooler and (bare or endings == ["ForPreTraining"]):
        # BERT always tells two classes apart, ALBERT as many as the file has labels.
        return {**fields, "pooler": True, "classes": labels if model_type == "albert" else 2}
    if objective == "causal" and family.kind == "encoder":
        fields["kind"] = "decoder"
    if objective == "causal" and family.kind == "encoder-decoder":
        fields["objective"] = "seq2seq"
    return {**fields, "classes": labels}


def _identity(keys: Keys, model_type: str) -> Fields:
    """Call the model after its folder, or else after what it was loaded from."""
    origin = keys.word("_name_or_path").rstrip("/").rpartition("/")[2]
    name = keys.path.parent.name or origin or model_type
    plain = re.sub(r"[^a-z0-9.+-]+", "-", name.lower()).strip("-.+")[:80]
    family = model_type.replace("_", "-")
    return {"id": plain or family, "name": name[:600], "family": family}
