"""The architecture of a published run: its family's structure with the run's sizes."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from simulator.corpus.notes import Notes
from simulator.corpus.runs import RefusedError, Run
from simulator.corpus.words import first_rule, match_rule, plain
from simulator.specs.loading import load_model, names
from simulator.specs.model import Model

_WITHOUT_DROPOUT = ("composer", "mosaic", "languini", "pax", "maxtext", "nemo", "megascale")
"""Frameworks whose published GPT runs drop nothing."""
_WIDTHS = (128, 96, 160, 64, 192, 80, 256)
"""Usual widths of a decoder's head, the likeliest first."""
_ENCODER_WIDTH = 64
_MOST_WORDS = 12
_LONGEST_USUAL = 4096
"""Tokens of a sequence that are assumed at most: longer ones are stages of their own, which sources tell."""
_UNSTATED_FAMILY = "gpt"
"""What the schema takes for a family where none is given; the name may know better."""


def model_of(run: Run, notes: Notes | None = None) -> Model:
    """The architecture of a run.

    Parameters
    ----------
    run
        The run.
    notes
        Receives how name and family were read, and what was assumed.

    Raises
    ------
    RefusedError
        Where the family is not known, or a size that no rule fills is missing, those of latent attention among them.
    """
    notes, said = notes if notes is not None else Notes(), run.model
    known = known_model(said.name)
    _refuse_unknown_latents(run, known)
    if known is not None:
        notes.read(
            "model.name", "a model of the catalogue", f"model as {known.id}, where nothing else is told", said.name
        )
    if has_experts(run):
        return _with_experts(run, known, notes)
    base = _shipped(_family(run, notes))
    changes = {**_structure(run, notes), **_windows(run, notes)}
    if said.layers is None or said.hidden is None:
        if known is None or known.experts > 1:
            raise RefusedError("sizes not published")
        notes.assume(f"sizes: those of {known.id}")
        return load_model({"base": known, **_changes_of_known(run), **changes})
    return load_model({"base": base, **_sizes(run, base, known, notes), **changes})


def _refuse_unknown_latents(run: Run, known: Model | None) -> None:
    """Refuse models whose keys and values are compressed, unless the catalogue has their latents and all layers run."""
    said = run.model
    if said.mla is None and not first_rule("latent", said.name):
        return
    if known is None or known.key_value_rank is None:
        raise RefusedError("latent attention of unknown sizes", plain(said.name)[:80])
    if said.first_dense is None and known.dense_layers_first and (said.layers or known.layers) != known.layers:
        raise RefusedError("experts not published", f"which of {said.layers:g} layers have them")


def _windows(run: Run, notes: Notes) -> dict[str, Any]:
    """The window of attention, as told or as known by the name of the model."""
    if run.model.sliding_window is not None:
        return {"sliding_window": int(run.model.sliding_window)}
    match = match_rule("windows", run.model.name)
    if match is None:
        return {}
    notes.read("model.name", match, f"model.window_pattern = {match.rule['pattern']}")
    return {"window_pattern": match.rule["pattern"]}


def has_experts(run: Run) -> bool:
    """Whether a run's model has experts, by its family, sizes or name."""
    said = run.model
    named = first_rule("experts", said.name) or first_rule("experts", said.family)
    return bool(named) or (said.experts or 1) > 1


@cache
def known_model(name: str) -> Model | None:
    """The model of the catalogue that a name contains, as whole words of any spelling.

    >>> known_model("meta-llama/Meta-Llama-3.1-8B-Instruct").id, known_model("gpt2-xl").id
    ('llama-3.1-8b', 'gpt2-1.5b')
    """
    rule = first_rule("models", name)
    if rule:
        return _shipped(rule["model"])
    words = [word for word in re.split(r"[-/\s()]+", plain(name)) if word][:_MOST_WORDS]
    spans = {
        _squeezed("-".join(words[start:end])) for end in range(1, len(words) + 1) for start in range(end)
    } & _catalogue().keys()
    return _shipped(_catalogue()[max(spans, key=len)]) if spans else None


@cache
def _shipped(name: str) -> Model:
    """A model of the catalogue."""
    return load_model(name)


@cache
def _catalogue() -> dict[str, str]:
    """The ids of known models by their squeezed form."""
    return {_squeezed(name): name for name in names("models")}


def _squeezed(name: str) -> str:
    """A name without hyphens, save those between digits: Llama 3 3B is not Llama 33B."""
    return re.sub(r"(?<!\d)-|-(?!\d)", "", name)


def _family(run: Run, notes: Notes) -> str:
    """The model of the catalogue that stands for the structure of a run's family."""
    said = run.model
    words, place = said.family, "model.family"
    if plain(words) == _UNSTATED_FAMILY:
        words = str(first_rule("named", said.name).get("family", words))
        place = "model.name" if words != said.family else place
    match = match_rule("families", words)
    if match is None:
        raise RefusedError("unknown family of models", plain(words)[:80])
    notes.read(place, match, f"model with the structure of {match.rule['model']}")
    return str(match.rule["model"])


def _with_experts(run: Run, known: Model | None, notes: Notes) -> Model:
    """A model with experts: that of its name in the catalogue, or a gated one with the experts that the run tells."""
    said = run.model
    if known is not None and known.experts > 1:
        layers = int(said.layers or known.layers)
        notes.assume(f"sizes: those of {known.id}, with {layers} layers")
        told = {} if said.first_dense is None else {"dense_layers_first": int(said.first_dense)}
        changes = {"layers": layers, **told, **_training(run, known), "published_parameters": None}
        return load_model({"base": known, **changes})
    if not (said.experts and said.experts_per_token and said.layers and said.hidden):
        raise RefusedError("experts not published")
    base = _shipped("mixtral-8x7b")
    notes.assume("structure: that of Mixtral, with the sizes that are told")
    changes = {**_sizes(run, base, None, notes), **_experts(run), **_windows(run, notes)}
    return load_model({"base": base, **changes, "id": "published", "name": _name(run)})


def _experts(run: Run) -> dict[str, Any]:
    """Experts as told: how many, how wide, in which layers, and those that every token passes."""
    said = run.model
    dense = said.dense_ffn or (said.ffn if said.moe_ffn else None)
    sizes = {
        "experts": said.experts,
        "experts_per_token": said.experts_per_token,
        "shared_experts": said.shared,
        "feed_forward_size": dense,
        "expert_feed_forward_size": said.moe_ffn or (said.ffn if said.dense_ffn else None),
        "expert_period": said.moe_every,
        "dense_layers_first": said.first_dense,
    }
    return {name: int(value) for name, value in sizes.items() if value is not None}


def _name(run: Run) -> str:
    """A name that a model may have."""
    return run.model.name[:200] or "unnamed"


def _training(run: Run, base: Model | None = None) -> dict[str, Any]:
    """A workload that stands where a model needs one; the family's length of sequences where none was published."""
    usual = min(base.training.sequence_length, _LONGEST_USUAL) if base is not None else 2048
    return {"training": {"sequence_length": int(run.model.seq_len or usual), "global_batch": 1}}


def _changes_of_known(run: Run) -> dict[str, Any]:
    """What a run says of a model whose sizes it leaves to the name."""
    sizes = run.model
    said = {
        "layers": sizes.layers,
        "hidden_size": sizes.hidden,
        "attention_heads": sizes.heads,
        "key_value_heads": sizes.kv_heads,
        "head_size": sizes.head_dim,
        "feed_forward_size": sizes.ffn,
        "vocabulary_size": sizes.vocab,
    }
    known = known_model(sizes.name)
    changes: dict[str, Any] = {name: int(value) for name, value in said.items() if value is not None}
    return {**changes, **_training(run, known), "published_parameters": None}


def _sizes(run: Run, base: Model, known: Model | None, notes: Notes) -> dict[str, Any]:
    """Sizes of the run; what was not published as in the known model of that name and width, or as usual."""
    said = run.model
    hidden = int(said.hidden or 0)
    same = known if known is not None and known.hidden_size == hidden else None
    heads, width = _heads(run, hidden, base, same)
    if said.heads is None and said.head_dim is None:
        notes.assume(f"heads: {heads} of {width}")
    if said.ffn is None:
        notes.assume("width of the feed-forward layer: as usual for the family")
    if not said.vocab:
        notes.assume("vocabulary: that of the family")
    gated = (same or base).feed_forward == "gated" if said.ffn_gated is None else said.ffn_gated
    usual_ffn = same.feed_forward_size if same is not None else 8 * hidden // 3 if gated else 4 * hidden
    sizes: dict[str, Any] = {
        "layers": int(said.layers or 0),
        "hidden_size": hidden,
        "attention_heads": heads,
        "key_value_heads": int(said.kv_heads or _grouped(heads, base, same)),
        "head_size": width,
        "feed_forward_size": int(said.ffn or usual_ffn),
        "feed_forward": "gated" if gated else "plain",
        **_training(run, base),
        "published_parameters": None,
    }
    if said.vocab or same is not None:
        sizes["vocabulary_size"] = int(said.vocab or (same.vocabulary_size if same is not None else 0))
    if base.decoder_layers is not None:
        sizes |= {
            "layers": int(said.encoder_layers or said.layers or 0),
            "decoder_layers": int(said.decoder_layers or said.layers or 0),
        }
    return sizes


def _heads(run: Run, hidden: int, base: Model, same: Model | None) -> tuple[int, int]:
    """Number and width of attention heads; where neither was published, a usual width that tensor ranks divide."""
    said = run.model
    if said.heads is None and said.head_dim is None and same is not None:
        return same.attention_heads, same.width_of_head
    if said.heads is not None:
        return int(said.heads), max(round(said.head_dim or hidden / said.heads), 1)
    if said.head_dim is not None:
        return max(round(hidden / said.head_dim), 1), max(round(said.head_dim), 1)
    usual = (_ENCODER_WIDTH,) if base.kind == "encoder" else _WIDTHS
    shared = int(run.plan.tp or 1) or 1
    fitting = (width for width in usual if hidden % width == 0 and hidden // width % shared == 0)
    width = next(fitting, usual[0])
    return max(round(hidden / width), 1), width


def _grouped(heads: int, base: Model, same: Model | None) -> int:
    """Key and value heads where they were not published: those of the known model, one if its family shares them."""
    if same is not None and heads == same.attention_heads:
        return same.kv_heads
    return 1 if base.kv_heads == 1 else heads


def _structure(run: Run, notes: Notes) -> dict[str, Any]:
    """What the run says, or its framework implies, about the rest."""
    said, framework = run.model, plain(run.plan.framework)
    changes: dict[str, Any] = {"id": "published", "name": _name(run)}
    if said.tied_embeddings is not None:
        changes["tied_head"] = said.tied_embeddings
    if _shipped(_family(run, Notes())).kind == "encoder":
        changes["objective"] = "span" if "finetun" in plain(run.task).replace("-", "") else "mlm"
        notes.read("task", "the objective of encoders", f"model.objective = {changes['objective']}", run.task)
    if said.family == "gpt" and any(word in framework for word in _WITHOUT_DROPOUT):
        changes["dropout"] = False
        notes.assume("dropout: none, as this software publishes its GPT runs")
    if said.family == "gpt" and ("composer" in framework or "languini" in framework):
        changes["biases"] = ["normalisation"]
    return changes
