"""How a published run was read: every field of its row, the rule and word that decided, and what follows of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.corpus.mapping import MappedRun, case_of
from simulator.corpus.notes import FieldReading, Notes
from simulator.corpus.runs import RefusedError, Run

_PARTS = ("model", "hardware", "plan", "extra", "measured", "source")
_FIGURES: Mapping[str, tuple[str, Callable[[MappedRun], Any]]] = {
    "task": ("task", lambda case: case.run.task),
    "model.layers": ("model.layers", lambda case: case.model.layers),
    "model.encoder_layers": ("model.layers", lambda case: case.model.layers),
    "model.decoder_layers": ("model.decoder_layers", lambda case: case.model.decoder_layers),
    "model.hidden": ("model.hidden_size", lambda case: case.model.hidden_size),
    "model.heads": ("model.attention_heads", lambda case: case.model.attention_heads),
    "model.kv_heads": ("model.key_value_heads", lambda case: case.model.kv_heads),
    "model.head_dim": ("model.head_size", lambda case: case.model.width_of_head),
    "model.ffn": ("model.feed_forward_size", lambda case: case.model.feed_forward_size),
    "model.ffn_gated": ("model.feed_forward", lambda case: case.model.feed_forward),
    "model.vocab": ("model.vocabulary_size", lambda case: case.model.vocabulary_size),
    "model.tied_embeddings": ("model.tied_head", lambda case: case.model.tied_head),
    "model.experts": ("model.experts", lambda case: case.model.experts),
    "model.experts_per_token": ("model.experts_per_token", lambda case: case.model.experts_per_token),
    "model.shared": ("model.shared_experts", lambda case: case.model.shared_experts),
    "model.moe_ffn": ("model.expert_feed_forward_size", lambda case: case.model.expert_feed_forward_size),
    "model.dense_ffn": ("model.feed_forward_size", lambda case: case.model.feed_forward_size),
    "model.moe_every": ("model.expert_period", lambda case: case.model.expert_period),
    "model.first_dense": ("model.dense_layers_first", lambda case: case.model.dense_layers_first),
    "model.sliding_window": ("model.sliding_window", lambda case: case.model.sliding_window),
    "model.seq_len": ("workload.sequence_length", lambda case: case.workload.sequence_length),
    "model.target_len": ("workload.target_length", lambda case: case.workload.target_length),
    "hardware.devices": ("devices", lambda case: case.devices),
    "hardware.devices_per_node": ("system.devices_per_node", lambda case: case.system.devices_per_node),
    "hardware.slices": ("system.devices_per_pod", lambda case: case.system.devices_per_pod),
    "hardware.chips_per_slice": ("system.devices_per_pod", lambda case: case.system.devices_per_pod),
    "plan.precision": ("plan.precision", lambda case: case.plan.precision),
    "plan.global_batch": ("workload.global_batch", lambda case: case.workload.global_batch),
    "plan.micro_batch": ("plan.micro_batch", lambda case: case.plan.micro_batch),
    "plan.dp": ("plan.dp", lambda case: case.plan.dp),
    "plan.tp": ("plan.tp", lambda case: case.plan.tp),
    "plan.pp": ("plan.pp", lambda case: case.plan.pp),
    "plan.vpp": ("plan.virtual_stages", lambda case: case.plan.virtual_stages),
    "plan.cp": ("plan.cp", lambda case: case.plan.cp),
    "plan.ep": ("plan.ep", lambda case: case.plan.ep),
    "plan.sequence_parallel": ("plan.sequence_parallel", lambda case: case.plan.sequence_parallel),
    "plan.sharding": ("plan.sharding", lambda case: case.plan.sharding),
    "plan.zero1_group": ("plan.sharding_group", lambda case: case.plan.sharding_group),
    "plan.recompute": ("plan.recompute", lambda case: case.plan.recompute),
    "plan.optimizer": ("plan.optimizer", lambda case: case.plan.optimizer),
    "plan.grad_accum": ("plan.micro_batch", lambda case: case.plan.micro_batch),
    "extra.effective_tokens_per_seq": ("workload.effective_tokens", lambda case: case.workload.effective_tokens),
    "extra.mlm_head_positions_per_seq": ("workload.predictions", lambda case: case.workload.predictions),
}
"""What of the scenario follows from a field that is taken as it is."""
_COMPARED = {
    "measured.step_time_s": "compared with the predicted step",
    "measured.memory_gb": "compared with the predicted memory",
    "measured.oom": "compared with whether it is predicted to fit",
}
_OF_SOFTWARE = ("plan.compiler", "plan.torch_compile", "extra.container")
_ALWAYS = (
    tuple(
        f"plan.{name}"
        for name in (
            *("precision", "dp", "tp", "pp", "vpp", "cp", "ep", "micro_batch", "sequence_parallel", "sharding"),
            *("recompute", "optimizer", "global_batch"),
        )
    )
    + tuple(f"model.{name}" for name in ("seq_len", "layers", "hidden", "heads", "kv_heads", "ffn", "vocab"))
    + ("hardware.devices", "hardware.devices_per_node")
)
"""Fields that every scenario has, whether or not they were published."""


@dataclass(frozen=True)
class ExplainedField:
    """One field of a row, and what became of it."""

    field: str
    published: str | None
    """As the source has it; nothing where it was not published."""
    rule: str
    """The rule that decided, or how the field was treated."""
    word: str
    """What of it the rule matched."""
    result: str
    """What follows for the scenario; nothing where it is not used."""


@dataclass(frozen=True)
class Explanation:
    """How a run was read."""

    id: str
    fields: tuple[ExplainedField, ...]
    assumed: tuple[str, ...]
    """What was filled because it was not published."""
    refused: str | None
    """Why it is not priced; nothing where it is."""

    def to_dict(self) -> dict[str, Any]:
        """As plain strings, lists and dictionaries."""
        rows = [dict(vars(row)) for row in self.fields]
        return {"id": self.id, "fields": rows, "assumed": list(self.assumed), "refused": self.refused}


def explain(run: Run) -> Explanation:
    """How a run is read, or why it is not priced.

    Parameters
    ----------
    run
        A published run.
    """
    notes, refused, case = Notes(), None, None
    try:
        case = case_of(run, notes)
    except RefusedError as error:
        refused = str(error)
    published = dict(_published(run))
    rows = [row for place, value in published.items() for row in _rows(place, value, notes, case)]
    if case is not None:
        rows += [_assumed(place, case) for place in _ALWAYS if place not in published]
    return Explanation(run.id, tuple(rows), tuple(notes.assumed), refused)


def _published(run: Run) -> Iterator[tuple[str, Any]]:
    """Every field that a row tells, with its place."""
    whole = run.model_dump(exclude_unset=True)
    for name, value in whole.items():
        if name in _PARTS:
            yield from ((f"{name}.{key}", inner) for key, inner in value.items() if inner is not None)
        elif value is not None:
            yield name, value


def _rows(place: str, value: Any, notes: Notes, case: MappedRun | None) -> Iterator[ExplainedField]:
    """What became of one published field: what readers noted of it, or how it was taken."""
    noted = [reading for reading in notes.readings if _concerns(reading, place)]
    for reading in noted:
        yield ExplainedField(place, _plain(value), reading.rule, reading.word, reading.result)
    if noted:
        return
    if place in _FIGURES and case is not None:
        name, figure = _FIGURES[place]
        yield ExplainedField(place, _plain(value), "taken as it is", "", f"{name} = {_plain(figure(case))}")
    else:
        yield ExplainedField(place, _plain(value), _otherwise(place, case), "", "")


def _otherwise(place: str, case: MappedRun | None) -> str:
    """What became of a field that no reader noted and that is no figure of the scenario."""
    if place in _COMPARED and case is not None:
        return _COMPARED[place]
    if place.startswith("source.") or place in ("id", "note", "suspect", "collection"):
        return "tells of the source"
    if place in _OF_SOFTWARE and case is not None:
        return f"one of the words of the software: {case.stack.id}"
    if place == "hardware.inter" and case is not None:
        return "not needed by devices that one node holds"
    return "not used" if case is not None else "not read, since the run is refused"


def _concerns(reading: FieldReading, place: str) -> bool:
    """Whether a note is of a field."""
    return reading.field == place


def _assumed(place: str, case: MappedRun) -> ExplainedField:
    """A field that was not published, and what stands for it."""
    name, figure = _FIGURES[place]
    return ExplainedField(place, None, "not published, assumed", "", f"{name} = {_plain(figure(case))}")


def _plain(value: Any) -> str:
    """A figure as words."""
    return f"{value:g}" if isinstance(value, float) else str(value)
