"""The commands, in processes of their own: a whole small run, killed and gone on with, shown and merged."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from measure.__main__ import main
from measure.report import lines
from simulator import cli
from simulator.profiling.records.journal import read
from simulator.profiling.records.record import Record, Result
from tests.measure.fakes import environment, gemm, measured
from tests.measure.test_record import record_of, written

ROOT = Path(__file__).parents[2]
_RUN = [sys.executable, "-m", "measure", "--device", "cpu", "--tiny", "--models", "bert-large"]
_UNCOMPILED = {**os.environ, "TORCHDYNAMO_DISABLE": "1"}
"""Compilers take most of a minute; tests/measure/test_compiling.py has one at work."""


def run(*arguments: object, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "measure", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A record of a run that was killed four times, and what the last run said."""
    path, moments = tmp_path_factory.mktemp("measure") / "record.jsonl", random.Random(3)
    for _ in range(4):
        before = lines_in(path)
        command = [*_RUN, "-o", str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=_UNCOMPILED) as child:
            while child.poll() is None and lines_in(path) < before + 3:
                time.sleep(0.01)
            time.sleep(moments.uniform(0.0, 0.2))
            kept = path.read_bytes()
            child.send_signal(signal.SIGKILL)
        after = path.read_bytes()
        assert after.startswith(kept[: kept.rfind(b"\n") + 1])
        finished = [result.case.key for result in read(path).results]
        assert len(finished) == len(set(finished))
    command = [*_RUN, "-o", str(path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=_UNCOMPILED)
    assert ended.returncode == 0, ended.stderr
    return path, ended.stdout


def test_a_killed_run_goes_on_until_nothing_is_left(killed: tuple[Path, str]) -> None:
    path, said = killed
    record = read(path)
    keys = [result.case.key for result in record.results]
    assert len(keys) == len(set(keys)) > 50  # nothing twice
    assert len(record.sessions) == 5
    assert "nothing is left to measure" in said
    from_before = re.search(r"(\d+) from before", said)
    assert from_before is not None
    assert int(from_before[1]) == sum(len(session.results) for session in record.sessions[:-1])
    assert {result.case.phase for result in record.results} == {
        "launch", "copy", "gemm", "attention", "pointwise", "normalisation", "optimizer", "step"
    }  # fmt: skip


def test_it_ran_in_a_tuned_process_of_one_thread(killed: tuple[Path, str]) -> None:
    environment = read(killed[0]).environment
    assert environment.device.kind == "cpu"
    assert environment.device.threads == 1
    assert environment.settings["MALLOC_MMAP_MAX_"] == "0"
    assert environment.settings["OMP_NUM_THREADS"] == "1"
    assert environment.software.torch


def test_it_is_shown(killed: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(killed[0]), "--all"]) == 0
    out = capsys.readouterr().out
    for words in (
        "Device",
        "Launch       add_one",
        "matrix products, fp32",
        "Step",
        "bert-large-tiny/unfused",
        "Drift",
        "1 step unsupported: torch.compile is switched off by TORCHDYNAMO_DISABLE=1",
    ):
        assert words in out
    assert out.count("\n") > len(read(killed[0]).results)


def test_it_merges_with_itself(killed: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "both.jsonl"
    assert main(["merge", str(killed[0]), str(killed[0]), "-o", str(out)]) == 0
    assert sorted(read(out).best) == sorted(read(killed[0]).best)
    number = len(read(out).results)
    assert f"{number} and {number} results, {number} together" in capsys.readouterr().out


def test_an_interrupt_ends_cleanly(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    command = [*_RUN, "-o", str(path)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job of a shell may ignore it
    ) as child:
        while child.poll() is None and lines_in(path) < 5:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "interrupted, and started again with the same record it goes on" in out
    assert err == ""
    assert not read(path).dropped


def test_a_plan_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--device", "cpu", "--plan-only"]) == 0
    out = capsys.readouterr().out
    assert "probes that calibrate      13 cases" in out
    assert list(tmp_path.iterdir()) == []


def capsim(*arguments: object) -> int:
    """The status of a command in this process."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["measure", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--budget", "soon"], "--budget='soon': write a time such as 90s, 10m or 2h"),
        (["--budget", "0s"], "must be 1 s to 7 days"),
        (["--budget", "1e400m"], "must be 1 s to 7 days"),
        (["--budget", "90"], "--budget='90': write a time such as 90s, 10m or 2h"),
        (["--device", "tpu"], "--device='tpu': write cpu, cuda or cuda:N"),
        (["--device", "cuda:-1"], "write cpu, cuda or cuda:N"),
        (["--device", "cuda:99"], "torch sees no such device here; valid: cpu"),
        (["--models", "bert-lrge"], "unknown model 'bert-lrge'; did you mean bert-large"),
        (["--resume", "-o", "missing.jsonl"], "missing.jsonl: is not there to go on with"),
        (["-o", "no/such/folder.jsonl"], "name a file in a folder that exists"),
        (["--resume", "--plan-only"], "not allowed with argument"),
        (["--nonsense"], "unrecognized arguments: --nonsense; see capsim measure --help"),
        (["nonsense"], "unknown command 'nonsense'; valid: run, show, merge, collectives"),
        (["show"], "the following arguments are required: record; see capsim measure show --help"),
        (["show", "missing.jsonl"], "missing.jsonl: cannot be read"),
        (["show", str(ROOT / "README.md")], "is no record of capsim measure"),
        (["merge", "a.jsonl", "b.jsonl"], "-o/--output"),
        (["collectives"], "collectives need several processes: torchrun"),
        (["collectives", "--models", "bert-lrge"], "unknown model 'bert-lrge'; did you mean bert-large"),
        (["collectives", "--phases", "gemm"], "--phases='gemm': is no phase; valid: collective, step"),
        (["collectives", "--largest", "huge"], "--largest='huge': write a memory size such as 64MB"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert capsim(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err
    assert captured.err.count("\n") == 1


def test_a_foreign_record_is_refused_before_torch_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "record.jsonl"
    path.write_text("not a record\n")
    assert capsim("--device", "cpu", "-o", path) == 2
    assert "is no record of capsim measure" in capsys.readouterr().err
    assert path.read_text() == "not a record\n"


def test_without_torch_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert capsim() == 2
    assert "measuring needs torch, which is not installed" in capsys.readouterr().err


def test_records_are_shown_and_merged_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    written(path)
    blocked = "import sys; sys.modules['torch'] = None; from measure.__main__ import main; "
    for arguments in (["show", str(path)], ["merge", str(path), str(path), "-o", str(tmp_path / "both.jsonl")]):
        program = f"{blocked}raise SystemExit(main({arguments!r}))"
        ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout


def test_the_command_line_helps_without_torch(capsys: pytest.CaptureFixture[str]) -> None:
    assert capsim("--help") == 0
    assert "usage: capsim measure" in capsys.readouterr().out
    program = "from simulator import cli\ntry:\n    cli.main(['measure', '--help'])\nexcept SystemExit:\n    pass\n"
    ending = "import sys; assert not {'torch', 'numpy', 'scipy'} & set(sys.modules), 'heavy'"
    ended = subprocess.run(
        [sys.executable, "-c", program + ending], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr


def test_collectives_of_two_processes(tmp_path: Path) -> None:
    """A demonstration: that it runs and what it writes, not how fast."""
    path = tmp_path / "collectives.jsonl"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "measure", "collectives", "--tiny", "--largest", "8KB", "--models", "bert-large", "-o", str(path)]
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=own)
    assert ended.returncode == 0, ended.stderr
    assert "nothing is left to measure" in ended.stdout
    record: Record = read(path)
    assert record.environment.world is not None
    assert (record.environment.world.ranks, record.environment.world.backend) == (2, "gloo")
    assert all(result.outcome == "measured" for result in record.results)
    operations = {(result.case.phase, result.case.operation) for result in record.results}
    exchanges = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "send_recv")
    assert operations == {("collective", name) for name in exchanges} | {("step", "ddp"), ("step", "fsdp")}
    assert all(result.case.dimensions["ranks"] == 2 for result in record.results)


def test_a_record_shows_what_went_wrong() -> None:
    case = gemm(9)
    failed = Result(case=case, outcome="out_of_memory", reason="needs 99 GiB and 1 GiB are free")
    slow = measured(gemm(8)).model_copy(update={"flops": 1e9})
    text = "\n".join(lines(record_of(failed, slow), everything=True))
    assert "1 gemm out of memory: needs 99 GiB" in text
    assert "1.00 TFLOP/s" in text
    assert environment().device.name in text
