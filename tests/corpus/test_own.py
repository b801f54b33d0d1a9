"""Own runs: scenarios with what was measured, tables, and step times of logs as software writes them."""

from __future__ import annotations

import json
from base64 import b64decode
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import simulator
from hardware.errors import InputError
from simulator.corpus.own.events import scalars
from simulator.corpus.own.files import load
from simulator.corpus.own.logs import read_log, with_measured
from simulator.evidence import refit

_EVENTS = b64decode(
    "SAAAAAAAAAD+kkidCeeZkg5kw9pBGg1icmFpbi5FdmVudDoyUi4KLHRlbnNvcmJvYXJkLnN1bW1hcnkud3JpdGVyLmV2ZW50X2ZpbGVfd3Jp"
    "dGVyMT8xqE8AAAAAAAAAbEdPkwkAAKBA/FTZQRABKkIKDgoHbG0gbG9zcxUAAEBAChUKDml0ZXJhdGlvbi10aW1lFQAAEEEKGQoNdGVuc29y"
    "LXNjYWxhckIICAEqBAAAwD+kg7sTTwAAAAAAAABsR0+TCQAAQEH8VNlBEAIqQgoOCgdsbSBsb3NzFQAAwD8KFQoOaXRlcmF0aW9uLXRpbWUV"
    "AAAQQQoZCg10ZW5zb3Itc2NhbGFyQggIASoEAABAQLYjtYpPAAAAAAAAAGxHT5MJAADgQfxU2UEQAypCCg4KB2xtIGxvc3MVAACAPwoVCg5p"
    "dGVyYXRpb24tdGltZRUAABBBChkKDXRlbnNvci1zY2FsYXJCCAgBKgQAAJBAPFb2BU8AAAAAAAAAbEdPkwkAAIBC/FTZQRAEKkIKDgoHbG0g"
    "bG9zcxUAAEA/ChUKDml0ZXJhdGlvbi10aW1lFQAAEEEKGQoNdGVuc29yLXNjYWxhckIICAEqBAAAwEAOZ/7dTwAAAAAAAABsR0+TCQAAIEP8"
    "VNlBEAUqQgoOCgdsbSBsb3NzFZqZGT8KFQoOaXRlcmF0aW9uLXRpbWUVrkchQAoZCg10ZW5zb3Itc2NhbGFyQggIASoEAADwQDi+/NNPAAAA"
    "AAAAAGxHT5MJAADAQ/xU2UEQBipCCg4KB2xtIGxvc3MVAAAAPwoVCg5pdGVyYXRpb24tdGltZRUAACBAChkKDXRlbnNvci1zY2FsYXJCCAgB"
    "KgQAABBBZlzsUg=="
)
"""Six steps that TensorBoard 2.21 wrote (EventFileWriter): "lm loss", "iteration-time" and a scalar as a tensor."""
_LINE = (
    " [2024-05-02 11:00] iteration {:8d}/     100 | consumed samples: {:12d} | elapsed time per iteration (ms): {:.1f}"
    " | throughput per GPU (TFLOP/s/GPU): 401.2 | learning rate: 1.0E-04 | lm loss: 9.1"
)
_TIMES = (9000.5, 2010.0, 2000.0, 2020.0)
_MEGATRON = "\n".join(
    [
        "using world size: 16, data-parallel size: 4",
        *(_LINE.format(step, 64 * step, time) for step, time in enumerate(_TIMES, start=1)),
        " validation loss at iteration 4 | lm loss value: 7.0",
    ]
)
"""As Megatron-LM's training_log prints (megatron/training/training.py)."""
_SCENARIO = {
    "model": "llama-3-8b",
    "system": "dgx-h100",
    "devices": 8,
    "stack": "megatron-lm",
    "plan": {"tp": 4, "micro_batch": 1},
    "workload": {"global_batch": 64, "sequence_length": 8192},
}


def _written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _row(**changes: object) -> str:
    """A run as a file has it."""
    return json.dumps({**_SCENARIO, "measured": {"step_time_s": 1.0}, **changes})


# Runs


def test_a_scenario_with_its_time_is_a_run(tmp_path: Path) -> None:
    path = _written(tmp_path / "mine.yaml", json.dumps([{**_SCENARIO, "measured": {"step_time_s": 14.5}}]))
    own = load([path])
    (case,) = own.cases
    assert own.published == ()
    answer = simulator.estimate(**_SCENARIO)  # type: ignore[arg-type]
    assert (case.run.id, case.run.measured.step_time_s, case.devices) == ("mine-1", 14.5, 8)
    assert answer.scenario is not None
    assert (case.plan, case.model, case.stack) == (
        answer.scenario.plan,
        answer.scenario.model,
        answer.scenario.stack,
    )


def test_paths_in_a_run_are_relative_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    shipped = Path(simulator.__file__).parent / "specs" / "models" / "llama-3-8b.yaml"
    _written(tmp_path / "folder" / "other.yaml", shipped.read_text().replace("layers: 32", "layers: 16"))
    row = {**_SCENARIO, "model": "./other.yaml", "measured": {"step_time_s": 7.0}}
    path = _written(tmp_path / "folder" / "mine.yaml", json.dumps(row))
    (case,) = load([path]).cases
    assert case.model.layers == 16


def test_rows_of_both_kinds_and_tables_are_read_together(tmp_path: Path) -> None:
    corpus = {
        "id": "published",
        "model": {"name": "llama-3-8b", "family": "llama", "layers": 32, "hidden": 4096, "heads": 32, "seq_len": 4096},
        "hardware": {"device": "h100-sxm5-80gb", "devices": 8},
        "plan": {"framework": "megatron-lm", "global_batch": 64},
        "measured": {"step_time_s": 6.0},
    }
    rows = [corpus, {**_SCENARIO, "id": "ours", "measured": {"step_time_s": 14.5}}]
    _written(tmp_path / "a.yaml", json.dumps(rows))
    table = "model,system,devices,stack,micro_batch,workload.global_batch,sequence_length,plan.tp,step_time_s,note\n"
    table += "llama-3-8b,dgx-h100,8,megatron-lm,1,64,8192,4,14.5,\n\nbert-large,dgx-h100,8,,,512,128,,0.1,x\n"
    _written(tmp_path / "b.csv", table)
    own = load([tmp_path])
    assert [run.id for run in own.published] == ["published"]
    assert [case.run.id for case in own.cases] == ["ours", "b-1", "b-3"]
    assert own.cases[0].plan == own.cases[1].plan
    assert own.cases[0].workload == own.cases[1].workload
    assert own.cases[2].workload.global_batch == 512


def test_constants_are_fitted_to_them(tmp_path: Path) -> None:
    answer = simulator.estimate(**_SCENARIO)  # type: ignore[arg-type]
    rows = [
        {**_SCENARIO, "plan": {"tp": tp, "micro_batch": 1}, "id": f"tp {tp}", "measured": {"step_time_s": 1.2 * time}}
        for tp, time in (
            (tp, simulator.estimate(**{**_SCENARIO, "plan": {"tp": tp, "micro_batch": 1}}).step_time_s)  # type: ignore[arg-type]
            for tp in (2, 4, 8)
        )
    ]
    own = load([_written(tmp_path / "mine.yaml", json.dumps(rows))])
    fitted = refit.own(own.published, cases=own.cases)
    assert fitted.before == pytest.approx(1.0 - 1.0 / 1.2, abs=0.01)
    assert fitted.after < 0.6 * fitted.before
    assert fitted.moved
    again = simulator.estimate(**_SCENARIO, constants=fitted.constants)  # type: ignore[arg-type]
    assert again.step_time_s == pytest.approx(1.2 * answer.step_time_s, rel=0.08)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "- 3\n", r"a.yaml: run 0: must be a mapping"),
        ("a.yaml", _row(measured=None), r"a.yaml: run 'a-1': measured.step_time_s is missing"),
        ("a.yaml", _row(measured={"step_time_s": -1}), r"run 'a-1': measured.step_time_s"),
        (
            "a.yaml",
            _row(measured={"step_time_s": 1, "sped": 2}),
            "unknown key 'measured.sped'",
        ),
        (
            "a.yaml",
            _row(system="dgx"),
            "run 'a-1': .*'dgx'",
        ),
        (
            "a.yaml",
            _row(tp=2),
            "run 'a-1': unknown key 'tp'",
        ),
        (
            "a.yaml",
            f"[{_row(id=1)}, {_row(id=1)}]",
            "another run has this id",
        ),
        ("a.yaml", "runs: []", "a.yaml: must hold a list of runs"),
        ("a.csv", "", "a.csv:1: must name each column once"),
        ("a.csv", "tp,tp,model\n", "a.csv:1: must name each column once"),
        ("a.csv", "model,system\nbert-large\n", "a.csv:2: has 1 cells; the header names 2 columns"),
        ("a.csv", "model,system,step_time_s\nbert-large,dgx-h100,soon\n", "measured.step_time_s='soon'"),
    ],
)
def test_what_is_no_run_is_one_sentence(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load([_written(tmp_path / name, text)])


def test_a_folder_without_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no YAML files, nor tables"):
        load([tmp_path])


# Logs


def test_megatrons_lines_are_read(tmp_path: Path) -> None:
    log = read_log(_written(tmp_path / "train.log", _MEGATRON))
    assert (log.kind, log.times, log.warm_up) == ("Megatron", pytest.approx((9.0005, 2.01, 2.0, 2.02)), 1)
    assert log.step_time_s == pytest.approx(2.01)
    assert read_log(tmp_path / "train.log", warm_up=3).step_time_s == pytest.approx(2.02)


def test_event_files_are_read_as_tensorboard_writes_them(tmp_path: Path) -> None:
    path = _written(tmp_path / "events.out.tfevents.17.host", _EVENTS)
    every = list(scalars(_EVENTS, "events"))
    assert len(every) == 18
    assert every[0][:3] == ("lm loss", 1, 1.7e9 + 2.5)
    assert [each.value for each in every if each.tag == "tensor-scalar"] == [1.5 * step for step in range(1, 7)]
    log = read_log(path)
    assert (log.kind, log.name) == ("TensorBoard", "iteration-time")
    assert log.times == pytest.approx((9.0, 9.0, 9.0, 9.0, 2.52, 2.5))
    assert read_log(path, name="tensor-scalar", warm_up=0).step_time_s == pytest.approx(5.25)


def test_an_event_file_of_a_running_job_ends_anywhere(tmp_path: Path) -> None:
    path = _written(tmp_path / "events.out.tfevents.17.host", _EVENTS[:-20])
    assert len(read_log(path).times) == 5


@pytest.mark.parametrize("seed", range(30))
def test_broken_event_files_are_refused_or_read(tmp_path: Path, seed: int) -> None:
    random, content = np.random.default_rng(seed), bytearray(_EVENTS)
    for at in random.integers(0, len(content), 6).tolist():
        content[at] = int(random.integers(0, 256))
    path = _written(tmp_path / "events.out.tfevents.17.host", bytes(content))
    with suppress(InputError):
        assert read_log(path, warm_up=0).step_time_s > 0.0


def test_histories_of_wandb_are_read(tmp_path: Path) -> None:
    records = [{"_step": step, "_runtime": 3.0 * step, "loss": 1.0} for step in range(10)]
    lines = _written(tmp_path / "history.jsonl", "\n".join(json.dumps(each) for each in records))
    log = read_log(lines)
    assert (log.kind, log.name, log.step_time_s) == ("W&B history", "_runtime", pytest.approx(3.0))
    table = "Step,run - perf/step_time_ms,run - perf/step_time_ms__MIN\n" + "".join(
        f"{i},{250 + i},1\n" for i in range(10)
    )
    log = read_log(_written(tmp_path / "export.csv", table))
    assert log.name == "run - perf/step_time_ms"
    assert log.step_time_s == pytest.approx(np.median([0.250 + i / 1000 for i in range(2, 10)]))
    sparse = [{"_step": 10 * step, "_timestamp": 25.0 * step} for step in range(6)]
    assert read_log(_written(tmp_path / "list.json", json.dumps(sparse))).step_time_s == pytest.approx(2.5)


def test_a_log_becomes_a_run_that_reads_back(tmp_path: Path) -> None:
    scenario = _written(tmp_path / "mine.yaml", json.dumps(_SCENARIO))
    row = with_measured(scenario, read_log(_written(tmp_path / "train.log", _MEGATRON)))
    (case,) = load([_written(tmp_path / "run.yaml", json.dumps([row]))]).cases
    assert (case.run.id, case.run.measured.step_time_s) == ("mine", pytest.approx(2.01))
    assert case.plan.tp == 4


@pytest.mark.parametrize(
    ("name", "text", "options", "words"),
    [
        ("a.log", "nothing here", {}, "no line of Megatron"),
        ("a.jsonl", "{", {}, "is no JSON"),
        ("a.jsonl", "3\n", {}, "must hold a record"),
        ("a.jsonl", '{"loss": 1}\n', {}, "nothing tells the time of a step"),
        (
            "a.jsonl",
            '{"step_time": 1}\n{"step_time": "x"}\n',
            {"name": "time"},
            "no column 'time'; there are step_time",
        ),
        ("a.csv", "step_time\nfast\n", {}, "holds no times"),
        ("a.csv", "step_time\n1\n", {}, "1 records, of which 1 are warm-up"),
        ("a.csv", "step_time\n1\n2\n", {"warm_up": -1}, "of which -1 are warm-up"),
        ("a.tfevents", "text that is no event file", {}, "is no event file of TensorBoard"),
    ],
)
def test_what_is_no_log_is_one_sentence(
    tmp_path: Path, name: str, text: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read_log(_written(tmp_path / name, text), **options)  # type: ignore[arg-type]
