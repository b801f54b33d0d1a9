"""Reading published runs: what the schema takes, what it keeps, and what it refuses in one sentence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from hardware.errors import InputError
from simulator.corpus.runs import SHIPPED, Run, load, named, pack, shipped, source_of, unknown_keys

_RUN = """
- id: {name}
  model: {{name: gpt, layers: 24, hidden: 2304, heads: 24}}
  hardware: {{device: a100-sxm4-80gb, devices: 32}}
  plan: {{framework: megatron-lm, precision: fp16, global_batch: 512, {plan}}}
  measured: {{step_time_s: 1.5}}
"""


def _write(folder: Path, text: str, name: str = "source.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def _run(folder: Path, plan: str = "tp: 1", name: str = "one") -> Run:
    return load([_write(folder, _RUN.format(name=name, plan=plan))])[0]


def test_a_file_of_runs_is_read(tmp_path: Path) -> None:
    run = _run(tmp_path)
    assert (run.id, run.collection, run.model.layers, run.measured.step_time_s) == ("one", "source", 24.0, 1.5)
    assert source_of(run) == {"id": "one", "title": "", "where": ""}


def test_a_folder_is_read_whole(tmp_path: Path) -> None:
    for name in ("b", "a"):
        _write(tmp_path, _RUN.format(name=name, plan="tp: 1"), f"{name}.yaml")
    _write(tmp_path, "not a run", "notes.txt")
    assert [(run.id, run.collection) for run in load([tmp_path])] == [("a", "a"), ("b", "b")]


def test_unknown_keys_are_kept_and_counted(tmp_path: Path) -> None:
    run = _run(tmp_path, "tp: 1, colour: blue")
    assert run.plan.model_extra == {"colour": "blue"}
    assert unknown_keys([run, run]) == {"plan.colour": 2}


@pytest.mark.parametrize("word", ["null", "~", "n/a", "unknown", "not stated", "not published (see note)", "0", "'-'"])
def test_what_was_not_published_is_nothing(tmp_path: Path, word: str) -> None:
    plan = _run(tmp_path, f"tp: {word}, dp: {word}").plan
    assert plan.tp is None
    assert plan.dp is None


@pytest.mark.parametrize(
    ("word", "meant"), [("true", True), ("no", False), ("'on'", True), ("0", False), ("n/a", None)]
)
def test_flags_are_read_in_words(tmp_path: Path, word: str, meant: bool | None) -> None:
    assert _run(tmp_path, f"flash_attention: {word}").plan.flash_attention is meant


def test_numbers_and_words_stand_for_each_other(tmp_path: Path) -> None:
    run = _run(tmp_path, "dp: '32', peft: false, sharding: 3, quantization: 4")
    assert (run.plan.dp, run.plan.peft, run.plan.sharding, run.plan.quantization) == (32.0, "False", "3", "4")
    extra = {"effective_tokens_per_seq": "254.4", "mlm_head_positions_per_seq": "all"}
    other = Run.model_validate({**run.model_dump(), "id": 7, "extra": extra})
    assert (other.id, other.extra.effective_tokens_per_seq) == ("7", 254.4)
    assert other.extra.mlm_head_positions_per_seq == "all"


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        ("tp: many", "plan.tp='many': must be a number"),
        ("tp: -1", "plan.tp=-1: must be greater than 0"),
        ("tp: .nan", "plan.tp=nan: must be a finite number"),
        ("tp: true", "plan.tp: must be a number"),
        ("tp: [1]", "plan.tp=[1]: must be a number"),
        ("flash_attention: perhaps", "plan.flash_attention='perhaps': must be true or false"),
        ("sharding: [a, b]", "plan.sharding=['a', 'b']: must be text"),
    ],
)
def test_wrong_types_are_one_sentence_with_file_and_run(tmp_path: Path, plan: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        _run(tmp_path, plan)
    assert str(caught.value) == f"{tmp_path / 'source.yaml'}: run 'one': {sentence}"


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path, "- {id: lonely, model: {name: gpt}}")
    with pytest.raises(InputError, match=r"source\.yaml: run 'lonely': 'hardware' is missing"):
        load([path])


def test_a_row_that_is_no_mapping_is_named_by_its_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run 1: must be a mapping"):
        load([_write(tmp_path, _RUN.format(name="one", plan="tp: 1") + "- 5\n")])


def test_a_number_beyond_floats_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run 'one'"):
        _run(tmp_path, f"tp: 1{'0' * 400}")
    row = {"id": "x", "model": {}, "hardware": {}, "extra": {"effective_tokens_per_seq": 10**400}}
    with pytest.raises(ValueError, match="fewer digits"):
        Run.model_validate(row)


@pytest.mark.parametrize("text", ["{id: one}", "7", "", "a: [1]"])
def test_a_file_must_hold_a_list(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="must hold a list of runs"):
        load([_write(tmp_path, text)])


def test_aliases_are_refused_before_they_grow(tmp_path: Path) -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(InputError, match="anchors and aliases are not accepted"):
        load([_write(tmp_path, "\n".join(lines))])


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(50_000_001)
    with pytest.raises(InputError, match="more than 50,000,000 bytes"):
        load([path])


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nested too deeply"):
        load([_write(tmp_path, "- " + "[" * 5000 + "]" * 5000)])


def test_ids_are_unique_over_all_files(tmp_path: Path) -> None:
    first = _write(tmp_path, _RUN.format(name="same", plan="tp: 1"), "a.yaml")
    second = _write(tmp_path, _RUN.format(name="same", plan="tp: 2"), "b.yaml")
    with pytest.raises(InputError, match=r"b\.yaml: run 'same': another run has this id"):
        load([first, second])


def test_missing_files_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.yaml: cannot be read"):
        load([tmp_path / "gone.yaml"])
    with pytest.raises(InputError, match="holds no YAML files"):
        load([tmp_path])


def test_packing_loses_nothing() -> None:
    runs = shipped()
    lines = gzip.decompress(pack(runs)).splitlines()
    assert tuple(Run.model_validate(json.loads(line)) for line in lines) == runs
    assert pack(runs) == pack(runs)


def test_the_shipped_runs_are_small_and_unique() -> None:
    runs = shipped()
    assert SHIPPED.stat().st_size < 500_000
    assert len({run.id for run in runs}) == len(runs) > 4_000
    assert sum(run.measured.step_time_s is not None for run in runs) > 3_600
    assert len({run.collection for run in runs}) == 49


def test_runs_are_found_by_id() -> None:
    first, *_, last = shipped()
    assert named([last.id, "none of ours", first.id]) == (last, first)
    assert named([]) == ()


# Step times that follow


@pytest.mark.parametrize(
    ("plan", "measured", "seconds"),
    [
        ({"global_batch": 64}, {"samples_per_s": 16.0}, 4.0),
        ({"global_batch": 64}, {"tokens_per_s": 16.0 * 512}, 4.0),
        ({"micro_batch": 2, "grad_accum": 4, "dp": 8}, {"samples_per_s": 16.0}, 4.0),
        ({"micro_batch": 2, "grad_accum": 4, "tp": 2}, {"samples_per_s": 16.0}, 4.0),  # of 16 devices
        ({"global_batch": 64}, {"samples_per_s": 16.0, "step_time_s": 3.9}, 3.9),
        ({"micro_batch": 2, "dp": 8}, {"samples_per_s": 16.0}, None),  # accumulation may be any
        ({"global_batch": 64}, {"samples_per_s": 16.0, "oom": True}, None),
        ({"global_batch": 64}, {"tflops_per_device": 100.0}, None),  # by a convention of its own
    ],
)
def test_the_time_of_a_step_follows_from_rate_and_batch(
    plan: dict[str, float], measured: dict[str, float], seconds: float | None
) -> None:
    parts = {"model": {"seq_len": 512}, "hardware": {"devices": 16}, "plan": plan, "measured": measured}
    run = Run.model_validate({"id": "made", **parts})
    assert run.measured.step_time_s == (None if seconds is None else pytest.approx(seconds))
    assert (run.measured.step_time_from is None) == (seconds is None or "step_time_s" in measured)


def test_a_rate_and_a_time_that_are_both_published_agree() -> None:
    both = [
        run.plan.global_batch / run.measured.samples_per_s / run.measured.step_time_s
        for run in shipped()
        if run.plan.global_batch and run.measured.samples_per_s and run.measured.step_time_s
    ]
    assert len(both) > 2000
    assert all(0.95 < each < 1.05 for each in both)
