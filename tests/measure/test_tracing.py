"""`capsim measure --trace`: steps of a real model under torch's profiler."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hardware.errors import InputError
from hardware.writing import yaml_text
from measure.__main__ import main
from simulator.profiling.records.scenarios import cut, shrunk, written
from simulator.replay.measured.steps import measured_step
from simulator.specs.loading import load_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT as a file of one's own."""
    path = tmp_path_factory.mktemp("models") / "little.yaml"
    tiny = written(cut(shrunk(load_model("bert-base")), 2))
    path.write_text(yaml_text({**tiny, "id": "little", "source": "made up"}))
    return path


def test_two_steps_are_recorded_in_a_tuned_process(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "step.json.gz"
    sizes = ["--seq-len", "32", "--micro-batch", "2", "--device", "cpu"]
    command = [sys.executable, "-m", "measure", "--trace", str(path), "--model", str(model), *sizes]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"{path}: 2 steps, ")
    document = json.loads(gzip.decompress(path.read_bytes()))
    noted = document["capsim"]
    assert noted["layers"] == 2
    assert (noted["sequence_length"], noted["micro_batch"], noted["precision"]) == (32, 2, "fp32")
    assert noted["attention"] == "unfused"
    assert len(noted["processor_s"]) == 2
    assert document["traceName"] == path.name
    products = [each for each in document["traceEvents"] if each["name"] == "aten::addmm"]
    assert all(each["args"]["Input Dims"][1] for each in products)
    step = measured_step(path)
    assert len(step.steps) == 2
    assert step.recorded == noted
    assert {"matrix_products", "optimizer", "softmax"} <= set(step.kinds)
    assert step.kinds["matrix_products"].seconds > 0.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trace"], "expected one argument"),
        (["--trace", "a.json", "--seq-len", "0"], "--seq-len='0': write a whole number from 1 to"),
        (["--trace", "a.json", "--micro-batch", "two"], "--micro-batch='two': write a whole number"),
        (["--trace", "a.json", "--steps", "1000"], "--steps='1000': write a whole number from 1 to 20"),
        (["--trace", "a.json", "--layers", "-1"], "--layers"),
        (["--trace", "a.json", "--model", "bert-basse"], "bert-base"),
        (["--trace", "nowhere/a.json"], "nowhere/a.json"),
        (["--trace", "a.json", "--budget", "10m"], "unrecognized arguments: --budget 10m"),
        (["--trace", "a.json", "--device", "cuda:77"], "cuda:77"),
        (["--trace", "a.json", "--model", "bert-base,gpt2"], "a trace is of one"),
        (["--trace", "a.json", "--precision", "fp7"], "--precision='fp7': valid: fp32"),
        (["--trace", "a.json", "--attention", "flash"], "--attention='flash': valid: fused, unfused"),
        (["--trace", "a.json", "--model", "palm-540b"], "a smaller --micro-batch"),
        (["--trace", "a.json", "--attention", "fused"], "no fused attention with dropout on a CPU"),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAPSIM_MEASURE_TUNED", "1")
    with pytest.raises(InputError) as caught:
        main(words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
