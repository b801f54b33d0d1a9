"""What the end of an architecture's name says of its head."""

from __future__ import annotations

import re

from simulator.specs.huggingface.family import Family, Fields
from simulator.specs.huggingface.keys import Keys

_PRETRAINING = {"encoder": "mlm", "decoder": "causal", "encoder-decoder": "seq2seq"}
_ANY = {
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "span",
}
_ENDINGS: dict[str, dict[str, str]] = {
    "encoder": {
        "ForPreTraining": "mlm",
        "ForMaskedLM": "mlm",
        "ForCausalLM": "causal",
        "LMHeadModel": "causal",
        **_ANY,
        "ForMultipleChoice": "multiple-choice",
        "ForNextSentencePrediction": "next-sentence",
    },
    "decoder": {"ForCausalLM": "causal", "LMHeadModel": "causal", **_ANY},
    "encoder-decoder": {
        "ForPreTraining": "seq2seq",
        "ForConditionalGeneration": "seq2seq",
        "LMHeadModel": "seq2seq",
        **_ANY,
        "EncoderModel": "encoding",
    },
}
"""By the kind of the family, what the head with such a name does."""


def endings_of(kind: str) -> dict[str, str]:
    """What the head of an architecture does, by the end of its name, in families of a kind."""
    return _ENDINGS[kind]


def head(keys: Keys, family: Family, model_type: str) -> Fields:
    """The fields of a model that say what it predicts; a file that names no architecture means pretraining.

    Parameters
    ----------
    keys
        The configuration.
    family
        What it belongs to.
    model_type
        The name of the family.

    Raises
    ------
    InputError
        For an architecture that is not known.
    """
    named = keys.words("architectures") or [""]
    ending = _ending(keys, named[0], family, model_type)
    labels = len(keys.table("id2label", known=False).values) or keys.size("num_labels", default=family.labels)
    if ending == "ForPreTraining" and model_type == "electra":
        # Each token is told apart from one that was replaced, behind a map of its own without normalisation.
        transform: Fields = {"head_transform": True, "head_transform_parts": ("bias",), "transforms_classes": True}
        return {**transform, "objective": "token-classification", "classes": 1}
    objective = "encoding" if ending == "Model" else _ENDINGS[family.kind][ending]
    fields: Fields = {"objective": objective, "classes": labels}
    if ending == "ForPreTraining" and family.pools == "pretraining":
        # BERT always tells two classes apart, ALBERT as many as the file has labels.
        fields |= {"pooler": True, "classes": labels if model_type == "albert" else 2}
    if objective == "encoding" and family.pools != "never":
        fields["pooler"] = True
    if objective == "causal" and family.kind == "encoder":
        fields["kind"] = "decoder"
    if family.kind == "encoder-decoder" and (objective == "token-classification" or ending == "EncoderModel"):
        fields |= {"kind": "encoder", "decoder_layers": None}
    return fields


def _ending(keys: Keys, architecture: str, family: Family, model_type: str) -> str:
    """The ending of an architecture's name, "Model" for one without a head."""
    if not architecture:
        return {"encoder": "ForPreTraining", "decoder": "ForCausalLM"}.get(family.kind, "ForConditionalGeneration")
    endings = endings_of(family.kind)
    known = [ending for ending in endings if architecture.endswith(ending)]
    if known:
        return known[0]
    stem = re.sub("[_-]", "", architecture.removesuffix("Model").lower())
    # What a wrapper of several towers calls its text model ends in "text".
    if stem in {re.sub("[_-]", "", name) for name in (model_type, family.counted_by, f"{model_type}_text")}:
        return "Model"
    raise keys.wrong("architectures", f"valid endings: {', '.join((*endings, 'Model'))}")
