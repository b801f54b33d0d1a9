"""Hugging Face ``config.json`` files as models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardware.errors import InputError, unknown
from hardware.reading import build
from simulator.specs.huggingface.families import FAMILIES, SAME, TEXT_DEFAULTS, TEXT_MODELS, harmless, refused
from simulator.specs.huggingface.family import ACTIVATIONS, Family, Fields
from simulator.specs.huggingface.heads import head
from simulator.specs.huggingface.keys import Keys
from simulator.specs.model import Model

_TRAINING: dict[str, tuple[int, Fields]] = {
    "encoder": (512, {"global_batch": 256}),
    "decoder": (2048, {"global_batch": 512}),
    "encoder-decoder": (512, {"global_batch": 128, "target_length": 114}),
}
"""Longest sequence and the rest of the workload, assumed where the file does not say."""
_LONGEST = 1_000_000_000
"""Positions that a model can be said to read at most; tables of positions are far shorter."""
_ASSUMED = "Sequence length and batch are customary ones: a config file says nothing of training."
_ONE_TOWER = "Only the tower that reads text is counted."
_NO_NAME = ("config", "configuration", "model", "snapshots", ".", "")
"""Names of files and folders that say nothing of what they hold."""


def from_config(config: Mapping[str, Any], path: Path, *, name: str = "") -> Model:
    """Make a model of a Hugging Face configuration.

    Parameters
    ----------
    config
        The keys of a ``config.json``.
    path
        Where they stand; errors name it.
    name
        What to call the model; unless given, its file, its folder, or what the file says of its origin.

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
    model_type, keys, note = _text_model(keys, _model_type(keys))
    family = FAMILIES[model_type]
    details = family.details(keys)
    learned = details.get("positions", "learned") == "learned"
    fields = {**_common(keys, family, learned), **details, **head(keys, family, model_type)}
    if fields.get("decoder_layers") is None and family.kind == "encoder-decoder":
        fields["training"].pop("target_length")
    keys.only("pruned_heads", {})
    keys.only("tie_encoder_decoder", False)
    _refuse_unread(keys, model_type)
    try:
        return build(Model, {**_identity(config, path, name, model_type), **fields, "note": note})
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _model_type(keys: Keys) -> str:
    """The family that the file names."""
    model_type = keys.word("model_type")
    if not model_type:
        raise InputError(
            f"{keys.path}: model_type is missing; it names the family, such as bert, llama or qwen3; capsim catalogue "
            "families lists all"
        )
    if model_type in refused():
        raise InputError(f"{keys.path}: model_type={model_type} cannot be counted: {refused()[model_type]}")
    model_type = SAME.get(model_type, model_type)
    if model_type not in FAMILIES and model_type not in TEXT_MODELS:
        raise InputError(f"{keys.path}: {unknown('model_type', model_type[:80], list(FAMILIES))}")
    return model_type


def _text_model(keys: Keys, model_type: str) -> tuple[str, Keys, str]:
    """The family, the keys and the note of the tower that reads text, which is most often the only one."""
    if model_type not in TEXT_MODELS:
        return model_type, keys, _ASSUMED
    inner = keys.table("text_config")
    # What stands beside the text's own keys is of the whole, and its head too.
    beside = {key: keys.values[key] for key in ("tie_word_embeddings",) if key in keys.values}
    usual = {"model_type": TEXT_MODELS[model_type], **TEXT_DEFAULTS.get(model_type, {})}
    said = {**usual, **beside, **inner.values}
    inner = Keys(said, keys.path, inner.prefix)
    return _model_type(inner), inner, f"{_ONE_TOWER} {_ASSUMED}"


def _refuse_unread(keys: Keys, model_type: str) -> None:
    """Refuse what might change sizes and is not understood; a name that begins with _ is the library's own."""
    known = harmless(model_type)
    for key in keys.unread():
        last = key.rpartition(".")[2]
        if not {key.removeprefix(keys.prefix), last} & known and not last.startswith("_"):
            raise InputError(
                f"{keys.path}: {key} is not a key that capsim knows of model_type={model_type}, and might "
                "change its sizes; take it out if it does not"
            )


def _common(keys: Keys, family: Family, learned: bool) -> Fields:
    """What all families have."""
    hidden = keys.size(family.hidden, "hidden_size")
    width_key, width = family.feed_forward
    length = keys.size(family.length[0], default=family.length[1], most=_LONGEST)
    longest, workload = _TRAINING[family.kind]
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
        "dropout": _drops(keys, family),
        "training": {"sequence_length": min(length, longest), "customary": True, **workload},
    }


def _drops(keys: Keys, family: Family) -> bool:
    """Whether anything is dropped; all keys are read, whichever comes first."""
    drops = [keys.positive(key, default) for key, default in family.dropouts.items()]
    return any(drops)


def _identity(config: Mapping[str, Any], path: Path, name: str, model_type: str) -> Fields:
    """Call the model after its file, or else after what it was loaded from or its folder."""
    origin = config.get("_name_or_path")
    origin = origin.rstrip("/").rpartition("/")[2] if isinstance(origin, str) else ""
    said = next((word for word in (name, path.stem, origin, path.parent.name) if word.lower() not in _NO_NAME), "")
    said = said or model_type
    plain = re.sub(r"[^a-z0-9.+-]+", "-", said.lower()).strip("-.+")[:80]
    family = model_type.replace("_", "-")
    return {"id": plain or family, "name": said[:600], "family": family}
