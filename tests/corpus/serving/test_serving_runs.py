"""Reading published runs of serving: what the schema takes, what is shipped, and what is refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hardware.errors import InputError
from simulator.corpus.notes import Notes
from simulator.corpus.runs import RefusedError
from simulator.corpus.serving import runs
from simulator.corpus.serving.mapping import serving_case_of
from simulator.corpus.serving.schema import ServingRun

ROW: dict[str, Any] = {
    "id": "one",
    "task": "generate",
    "model": {"name": "llama3-8b", "family": "llama", "layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8,
              "ffn": 14336, "ffn_gated": True, "vocab": 128256},
    "hardware": {"device": "h100-sxm5-80gb", "devices": 2, "devices_per_node": 8},
    "plan": {"framework": "vLLM", "framework_version": "0.6.3", "weight_precision": "fp8", "tp": 2, "pp": 1, "dp": 1},
    "load": {"input_tokens": 512, "output_tokens": 128, "batch": 8},
    "measured": {"total_latency_s": 1.5, "output_tokens_per_s": 680.0},
}  # fmt: skip


def row(**changes: Any) -> dict[str, Any]:
    """The row with parts of it changed."""
    return {
        name: {**part, **changes[name]} if isinstance(part, dict) and name in changes else changes.get(name, part)
        for name, part in {**ROW, **{name: None for name in changes if name not in ROW}}.items()
    }


def case(**changes: Any) -> Any:
    notes = Notes()
    return serving_case_of(ServingRun.model_validate(row(**changes)), notes)


def test_a_row_is_read_and_made_a_scenario() -> None:
    read = case()
    assert (read.stack, read.version, read.weights, read.products, read.cache) == ("vllm", "0.6.3", "fp8", "fp8", "")
    assert (read.tp, read.pp, read.ep, read.replicas, read.devices) == (2, 1, 1, 1, 2)
    assert (read.demand.kind, read.demand.input_tokens, read.demand.output_tokens, read.demand.sequences) == (
        "static", 512.0, 128.0, 8.0,
    )  # fmt: skip
    assert (read.model.layers, read.model.kv_heads, read.device.id) == (32, 8, "h100-sxm5-80gb")
    assert read.run.told == {"total_latency_s": 1.5, "output_tokens_per_s": 680.0}


def test_loads_of_every_kind() -> None:
    lengths = {"input_tokens": 100, "output_tokens": 10, "batch": None}
    assert case(load={**lengths, "concurrency": 7}).demand.sequences == 7.0
    assert case(load={**lengths, "request_rate": 2.5}).demand.rate == 2.5
    assert case(load={**lengths, "saturated": True}).demand.kind == "saturated"
    squad = {"input_tokens": None, "output_tokens": None, "batch": None, "saturated": True, "dataset": "SQuAD v1.1"}
    read = case(task="encode", load=squad)
    assert (read.demand.input_tokens, read.demand.output_tokens) == (177.0, 1.0)
    assert any("as the data set has" in each for each in read.assumed)


def test_padding_counts_unless_software_takes_it_out() -> None:
    load = {"input_tokens": None, "output_tokens": None, "mean_input_tokens": 77, "padded_to": 128}
    padded = case(task="encode", load=load, plan={"framework": "PyTorch"})
    packed = case(task="encode", load=load, plan={"framework": "FasterTransformer with remove padding"})
    assert (padded.demand.input_tokens, packed.demand.input_tokens) == (128.0, 77.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hardware": {"device": "gaudi2"}}, "unknown device"),
        ({"hardware": {"devices": None}}, "number of devices not published"),
        ({"hardware": {"devices": 4}}, "degrees that do not give the devices"),
        ({"hardware": {"devices": 2.5}}, "a count that is not whole"),
        ({"plan": {"framework": "sambaflow"}}, "unknown software"),
        ({"plan": {"framework": "DeepSpeed ZeRO-Inference"}}, "weights stay in the host's memory"),
        ({"plan": {"weight_precision": "int8 2:4 sparse"}}, "sparse weights"),
        ({"plan": {"weight_precision": "int2"}}, "unknown format of weights"),
        ({"plan": {"weight_precision": None}}, "format of the weights not published"),
        ({"plan": {"disaggregated": True}}, "pools of unknown size"),
        ({"load": {"batch": None}}, "no batch"),
        ({"load": {"input_tokens": None, "output_tokens": None}}, "lengths not published"),
        ({"load": {"input_tokens": 1e12}}, "lengths that cannot be"),
        ({"model": {"name": "vit-b-16", "family": "vit"}}, "unknown family of models"),
        ({"measured": {"total_latency_s": None, "output_tokens_per_s": None, "mfu": 0.5}}, "nothing measured"),
        ({"suspect": True}, "suspect"),
    ],
)
def test_what_cannot_be_priced_is_refused_by_name(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        case(**changes)


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


TEXT = """
- id: served
  task: decode
  model: {{name: llama-3-8b}}
  hardware: {{device: h100, devices: 1}}
  load: {{{load}}}
  measured: {{{measured}}}
- id: trained
  model: {{name: gpt, layers: 24, hidden: 2304, heads: 24}}
  hardware: {{device: a100-sxm4-80gb, devices: 32}}
  measured: {{step_time_s: 1.5}}
"""


def test_files_may_hold_runs_of_both_kinds(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT.format(load="batch: 1, colour: blue", measured="tpot_s: 0.01"))
    trained, served = runs.load([path])
    assert ([run.id for run in trained], [run.id for run in served]) == (["trained"], ["served"])
    assert served[0].collection == "mine"
    assert runs.unknown_keys(served) == {"load.colour": 1}


@pytest.mark.parametrize(
    ("load", "measured", "what"),
    [
        ("batch: 1, concurrency: 2", "tpot_s: 0.1", "give one of them"),
        ("batch: -1", "tpot_s: 0.1", "load.batch"),
        ("batch: many", "tpot_s: 0.1", "load.batch"),
        ("batch: 1", "tpot_s: -3", "measured.tpot_s"),
        ("batch: 1", "tpot_s: .nan", "measured.tpot_s"),
        ("batch: 1", "tpot_s: [1]", "measured.tpot_s"),
    ],
)
def test_what_no_run_can_have_is_told_with_its_place(tmp_path: Path, load: str, measured: str, what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        runs.load([write(tmp_path, TEXT.format(load=load, measured=measured))])
    assert "served" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ids_are_unique_over_both_kinds(tmp_path: Path) -> None:
    text = TEXT.format(load="batch: 1", measured="tpot_s: 0.1").replace("trained", "served")
    with pytest.raises(InputError, match="another run has this id"):
        runs.load([write(tmp_path, text)])


def test_rows_of_json_are_read_as_yaml_reads_them(tmp_path: Path) -> None:
    lines = '- {"id": "a", "task": "encode", "model": {}, "hardware": {}}\n'
    assert [run.id for run in runs.load([write(tmp_path, "# words\n" + lines)])[1]] == ["a"]
    with pytest.raises(InputError, match="given twice"):
        runs.load([write(tmp_path, lines.replace('"task"', '"id": "b", "task"'), "twice.yaml")])


def test_shipped_runs_are_of_sources_whose_licence_allows_it() -> None:
    every = runs.shipped()
    assert len(every) > 10_000
    assert len({run.id for run in every}) == len(every)
    assert {run.collection for run in every} <= set(runs.licences())
    assert not any(run.is_suspect for run in every)
    assert "dai-llamacpp" not in runs.licences()
    assert runs.pack(every) == runs.SHIPPED.read_bytes()
    assert all(licence["licence"] for licence in runs.licences().values())
