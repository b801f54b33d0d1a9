"""``capsim search``: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import simulator
from simulator.commands import searching
from tests.commands.conftest import Capsim, Outcome, assert_one_sentence

ROOT = Path(__file__).parents[2]
OPEN = ("search", "bert-large", "--system", "dgx-1-v100", "--seq-len", 512, "--global-batch", 8)
BERT = (*OPEN, "--stack", "megatron-lm")
GPT = ("search", "gpt3-175b", "--system", "dgx-1-v100", "--seq-len", 512, "--global-batch", 8)
SCENARIO = """\
title: two lines of it
model: bert-large
system: dgx-1-v100
plan:
  tp: 2
  sharding: none
workload: {sequence_length: 512, global_batch: 8}
"""
_OF_SEARCH = ["model", "system", "devices", "stack", "objective", "candidates", "feasible", "priced", "rejected"]
_OF_PLAN = ["plan", "step_time_s", "interval", "memory_bytes", "capacity_bytes", "fits", "mfu", "cost_usd", "time_s"]


def _text(outcome: Outcome) -> str:
    assert (outcome.status, outcome.err) == (0, "")
    return outcome.out


def _plans(answer: dict[str, Any], name: str = "best") -> list[dict[str, Any]]:
    return [one["plan"] for one in answer[name]]


# answers


def test_the_table(capsim: Capsim) -> None:
    text = _text(capsim(*BERT, "--top", 3))
    assert text.startswith("bert-large on dgx-1-v100, 8 devices\n")
    assert "\nbatch 8 x 512 tokens, fp16, adamw, stack megatron-lm\n" in text
    assert re.search(r"^[\d,]+ plans, [\d,]+ of them fit and are priced, in \d+\.\d s$", text, re.M)
    assert "Best by time" in text
    assert re.search(r"^ +70 % *$", text, re.M)
    assert re.search(r"step +below +90 % interval +MFU +memory +fits +run +cost", text)
    assert len(re.findall(r"^\d [\d.]+ m?s +[\d.]+ m?s +[\d.]+ (m?s )?to [\d.]+ m?s ", text, re.M)) == 3
    expected = _text(capsim(*BERT, "--top", 3, "--rank", "expected"))
    assert re.search(r"step +90 % interval +MFU +memory +fits +run +cost", expected)
    assert "Left out" in text
    assert re.search(r"^1 dp=.* mb=\d+", text, re.M)  # below the figures, for which 80 columns are just enough
    assert "fewer micro-batches than stages" in text
    assert "\x1b" not in text


def test_json_holds_what_was_found(capsim: Capsim) -> None:
    answer = capsim(*BERT, "--json", "--top", 4).json
    assert set(_OF_SEARCH) | {"seconds", "whole", "best"} <= set(answer)
    assert "pareto" not in answer
    assert answer["candidates"] >= answer["feasible"] == answer["priced"] > 100
    assert answer["whole"] is True
    assert answer["seconds"] > 0
    assert all(number > 0 for number in answer["rejected"].values())
    assert len(answer["best"]) == 4
    for one in answer["best"]:
        assert set(_OF_PLAN) <= set(one)
        assert one["fits"] is True
        assert one["memory_bytes"] <= one["capacity_bytes"]
        assert one["interval"]["low_s"] < one["step_time_s"] < one["interval"]["high_s"]
    times = [one["step_time_s"] for one in answer["best"]]
    assert times == sorted(times)


def test_limits_and_a_table(capsim: Capsim) -> None:
    wishes = ("--headroom", "20%", "--deadline", "30d", "--budget", "5k", "--by", "tp,pp")
    search = simulator.search(
        "bert-large",
        "dgx-1-v100",
        stack="megatron-lm",
        workload={"sequence_length": 512, "global_batch": 8},
        headroom=0.2,
        deadline="30d",
        budget=5e3,
        by="tp,pp",
    )
    answer = capsim(*BERT, *wishes, "--json").json
    assert {**answer, "seconds": 0.0} == {**search.to_dict(), "seconds": 0.0}
    text = _text(capsim(*BERT, *wishes))
    assert "Fastest step by tp and pp" in text
    assert re.search(r"^ *tp +pp=1 +pp=2 +pp=4 +pp=8 *$", text, re.M)
    assert "slower or dearer than asked" in _text(capsim(*BERT, "--deadline", "1d"))


def test_each_listed_plan_is_what_the_estimate_says(capsim: Capsim) -> None:
    for one in capsim(*BERT, "--json", "--top", 3).json["best"]:
        work = {"sequence_length": 512, "global_batch": 8}
        alone = simulator.estimate("bert-large", "dgx-1-v100", plan=one["plan"], stack="megatron-lm", workload=work)
        assert alone.step_time_s == pytest.approx(one["step_time_s"], rel=1e-12)
        assert (alone.memory_bytes["total"], alone.mfu) == (one["memory_bytes"], one["mfu"])
        assert alone.run.cost_usd == one["cost_usd"]


def test_plan_options_hold_for_every_plan(capsim: Capsim) -> None:
    answer = capsim(*BERT, "--tp", 2, "--recompute", "full", "--no-offload-optimizer", "--json").json
    assert len(answer["best"]) == 10
    for plan in _plans(answer):
        assert (plan["tp"], plan["recompute"], plan["offload_optimizer"]) == (2, "full", False)


def test_where_holds_for_every_plan(capsim: Capsim) -> None:
    answer = capsim(*BERT, "--where", "tp>=2,sharding=zero1|zero3,micro_batches>=2", "--json").json
    assert answer["best"]
    for plan in _plans(answer):
        assert plan["tp"] >= 2
        assert plan["sharding"] in ("zero1", "zero3")
        assert 8 / (plan["dp"] * plan["micro_batch"]) >= 2


def test_top_is_how_many_are_listed(capsim: Capsim) -> None:
    many = capsim(*BERT, "--json", "--top", "2e1").json["best"]
    assert len(many) == 20
    assert capsim(*BERT, "--json", "--top", 1).json["best"] == many[:1]
    assert len(capsim(*BERT, "--json").json["best"]) == 10


def test_objectives(capsim: Capsim) -> None:
    answers = {name: capsim(*BERT, "--objective", name, "--json").json for name in ("time", "cost", "energy", "memory")}
    assert [answers[name]["objective"] for name in answers] == list(answers)
    assert _plans(answers["time"]) == _plans(answers["cost"]) == _plans(answers["energy"])
    sizes = [one["memory_bytes"] for one in answers["memory"]["best"]]
    assert sizes == sorted(sizes)
    assert sizes[0] < min(one["memory_bytes"] for one in answers["time"]["best"])
    assert "Best by memory" in _text(capsim(*BERT, "--objective", "memory"))


def test_a_pareto_front_is_listed_as_well(capsim: Capsim) -> None:
    answer = capsim(*BERT, "--pareto", "time, memory", "--json").json
    pairs = [(one["step_time_s"], one["memory_bytes"]) for one in answer["pareto"]]
    assert pairs == sorted(pairs)
    assert [memory for _, memory in pairs] == sorted((memory for _, memory in pairs), reverse=True)
    assert pairs[0][0] == answer["best"][0]["step_time_s"]
    assert "Not beaten in both respects" in _text(capsim(*BERT, "--pareto", "time,memory"))


def test_a_scenario_file_says_what_holds(capsim: Capsim, tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO)
    answer = capsim("search", path, "--json").json
    assert answer["best"]
    assert {(plan["tp"], plan["sharding"]) for plan in _plans(answer)} == {(2, "none")}
    changed = capsim("search", path, "--tp", 4, "--json").json
    assert {(plan["tp"], plan["sharding"]) for plan in _plans(changed)} == {(4, "none")}


def test_only_what_the_stack_can_run_is_tried(capsim: Capsim) -> None:
    named = capsim(*OPEN, "--stack", "pytorch-ddp", "--json").json
    assert {(plan["tp"], plan["pp"], plan["cp"], plan["dp"]) for plan in _plans(named)} == {(1, 1, 1, 8)}
    left_open = capsim(*OPEN, "--json").json
    assert (left_open["stack"], left_open["candidates"]) == ("pytorch-ddp", named["candidates"])
    asked = capsim(*OPEN, "--tp", 2, "--json").json
    assert asked["stack"] == "megatron-lm"


def test_conditions_that_are_given_apart_all_hold(capsim: Capsim) -> None:
    both = capsim(*BERT, "--where", "tp<=2", "--where", "pp=1", "--json").json
    together = capsim(*BERT, "--where", "tp<=2,pp=1", "--json").json
    assert _plans(both) == _plans(together)
    assert all(plan["tp"] <= 2 and plan["pp"] == 1 for plan in _plans(both))


@pytest.mark.parametrize(
    "options",
    [
        ("--tp", 2, "--tp", 4),
        ("--top", 3, "--top", 5),
        ("--objective", "time", "--objective", "memory"),
        ("--pareto", "time,memory", "--pareto", "cost,time"),
        ("--sequence-parallel", "--no-sequence-parallel"),
        ("--system", "dgx-h100"),
    ],
    ids=str,
)
def test_an_option_with_one_value_is_taken_once(capsim: Capsim, options: tuple[Any, ...]) -> None:
    assert_one_sentence(capsim(*BERT, *options), options[0], "is given 2 times, and takes one value")


def test_a_flag_may_be_repeated(capsim: Capsim) -> None:
    assert capsim(*BERT, "--json", "--json").status == 0


# tables


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_holds_the_listed_plans(capsim: Capsim, tmp_path: Path) -> None:
    path = tmp_path / "plans.csv"
    answer = capsim(*BERT, "--pareto", "time,memory", "--csv", path, "--json").json
    rows = _rows(path)
    listed = [*answer["best"], *answer["pareto"]]
    assert [row["list"] for row in rows] == ["best"] * len(answer["best"]) + ["pareto"] * len(answer["pareto"])
    assert [float(row["step_time_s"]) for row in rows] == [one["step_time_s"] for one in listed]
    assert [float(row["memory_bytes"]) for row in rows] == [one["memory_bytes"] for one in listed]
    for row, one in zip(rows, listed, strict=True):
        assert {name: int(row[name]) for name in ("dp", "tp", "pp", "cp", "ep", "micro_batch")} == {
            name: one["plan"][name] for name in ("dp", "tp", "pp", "cp", "ep", "micro_batch")
        }
        assert row["placement"] == "-".join(one["plan"]["placement"])
        assert row["schedule"] == one["plan"]["schedule"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["plans.csv"]


def test_csv_and_the_table_go_together_and_a_file_is_replaced(capsim: Capsim, tmp_path: Path) -> None:
    path = tmp_path / "plans.csv"
    path.write_text("something old")
    assert "Best by time" in _text(capsim(*BERT, "--csv", path))
    assert len(_rows(path)) == 10


def test_csv_of_nothing(capsim: Capsim, tmp_path: Path) -> None:
    path = tmp_path / "plans.csv"
    _text(capsim(*BERT, "--where", "tp=7", "--csv", path))
    assert _rows(path) == []
    _text(capsim(*GPT, "--csv", path))
    assert [(row["list"], row["fits"]) for row in _rows(path)] == [("nearest", "False")]


# nothing is left


def test_nothing_fits_is_an_answer(capsim: Capsim) -> None:
    text = " ".join(_text(capsim(*GPT)).split())
    assert "no plan is left: too much memory in" in text
    assert re.search(r"nearest: .*=.*, [\d.]+ GiB, fits with a chance of .+ %, [\d.]+ GiB too much", text)
    answer = capsim(*GPT, "--json").json
    assert (answer["best"], answer["feasible"]) == ([], 0)
    assert answer["nearest"]["fits"] is False
    assert answer["nearest"]["memory_bytes"] > answer["nearest"]["capacity_bytes"]


def test_a_batch_that_nothing_divides(capsim: Capsim) -> None:
    prime = ("search", "bert-large", "--system", "dgx-1-v100", "--global-batch", 7, "--stack", "pytorch-ddp")
    assert "no plan is left: dp x micro-batch does not divide the batch" in _text(capsim(*prime)).replace("\n", " ")
    assert_one_sentence(capsim(*prime, "--dp", 8), "dp=8 x micro_batch=1 does not divide global_batch=7; valid")


def test_a_prime_number_of_devices(capsim: Capsim) -> None:
    answer = capsim("search", "bert-large", "--system", "dgx-1-v100", "--devices", 7, "--json").json
    assert {plan["pp"] for plan in _plans(answer)} == {7}
    assert answer["stack"] == "deepspeed"  # whose stages are cut by parameters
    assert {"heads", "batch"} <= set(answer["rejected"])


# refusals


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (["--top", "0"], ["top=0: list 1 to 1000 plans"]),
        (["--top", "-1"], ["top=-1: list 1 to 1000 plans"]),
        (["--top", "1e9"], ["top=1000000000: list 1 to 1000 plans"]),
        (["--top", "1.5"], ["--top='1.5': write a whole number"]),
        (["--top", "many"], ["--top='many': write a whole number"]),
        (["--pareto", "time"], ["pareto='time': name two of time, cost, energy, memory, such as time,memory"]),
        (["--pareto", "time,time"], ["name two of"]),
        (["--pareto", "time,speed"], ["name two of"]),
        (["--pareto="], ["name two of"]),
        (["--objective", "causal"], ["objective='causal': choose one of time, cost, energy, memory"]),
        (["--objective="], ["choose one of time"]),
        (["--where", "tp<=x"], ["where='tp<=x': tp is compared with a number"]),
        (["--where", "tp"], ["write a field, a comparison and a value, such as tp<=8"]),
        (["--where", "heads=2"], ["unknown field of a plan in where 'heads'"]),
        (["--where", "shrading=none"], ["did you mean sharding"]),
        (["--where", "sharding>none"], ["sharding has no order"]),
        (["--where", "placement=dp"], ["name tp, cp, dp and pp once each"]),
        (["--stack", "megatrom"], ["unknown stack 'megatrom'; did you mean megatron"]),
        (["--stack", "xla-tpu"], ["stack=xla-tpu runs on a tpu and v100-sxm2-16gb is a gpu"]),
        (["--devices", "0"], ["devices=0: dgx-1-v100 has 1 to 4096 devices"]),
        (["--tp", "3"], ["tp=3 does not divide devices=8; valid: 1, 2, 4, 8"]),
        (["--tp", "32", "--devices", "32"], ["tp=32 does not divide 16 attention heads; valid: 1, 2, 4, 8, 16"]),
        (["--dp", "4", "--pp", "4"], ["dp=4 x pp=4 = 16 does not divide devices=8; valid products: 1, 2, 4, 8"]),
        (["--micro-batch", "3"], ["micro_batch=3 does not divide global_batch=8; valid products: 1, 2, 4, 8"]),
        (["--ep", "2"], ["ep=2 does not divide 1 experts"]),
        (["--pp", "2", "--virtual-stages", "5"], ["pp=2 x virtual_stages=5 does not divide 24 layers"]),
        (["--sharding", "zero2", "--sharding-group", "2"], ["belongs to sharding=hybrid or zero1"]),
        (["--sharding", "zero4"], ["sharding='zero4': valid: 'none', 'zero1'"]),
        (["--precision", "fp8"], ["precision=fp8: v100-sxm2-16gb has no units for it"]),
        (["--rank", "quick"], ["unknown rank 'quick'"]),
        (["--chance", "seldom"], ["chance='seldom': give a probability above 0 and below 1"]),
        (["--rank", "expected", "--chance", "70%"], ["chance='70%': belongs to rank=safe"]),
        (["--price", "lamda"], ["price='lamda': no such offer"]),
        (["--constants", "none.yaml"], ["none.yaml"]),
        (["--nonsense"], ["--nonsense", "see capsim search --help"]),
        (["extra"], ["extra"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_is_one_sentence_and_nothing_is_written(
    capsim: Capsim, tmp_path: Path, options: list[str], fragments: list[str]
) -> None:
    assert_one_sentence(capsim(*OPEN, "--csv", tmp_path / "plans.csv", *options), *fragments)
    assert list(tmp_path.iterdir()) == []


def test_a_price_that_nobody_knows(capsim: Capsim) -> None:
    words = ("search", "bert-large", "--system", "dgx-2", "--objective", "cost")
    assert_one_sentence(capsim(*words), "objective=cost: no price of v100-sxm3-32gb is known; give one")
    assert capsim(*words, "--price", "2.5", "--json", "--stack", "pytorch-ddp").json["best"][0]["cost_usd"] > 0


def test_places_that_cannot_be_written(capsim: Capsim, tmp_path: Path) -> None:
    assert_one_sentence(capsim(*BERT, "--csv", tmp_path / "none" / "plans.csv"), "cannot be written", "plans.csv")
    assert_one_sentence(capsim(*BERT, "--csv", tmp_path), "cannot be written (it is a directory)")
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_line_of_a_scenario_file(capsim: Capsim, tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO.replace("tp: 2", "tp: 3"))
    assert_one_sentence(capsim("search", path), f"{path}:5: ", "tp=3 does not divide devices=8")
    path.write_text(SCENARIO.replace("sharding: none", "shard: none"))
    assert_one_sentence(capsim("search", path), f"{path}:6: ", "unknown key 'plan.shard'")
    path.write_text(SCENARIO.replace("tp: 2", "micro_batch: 3"))
    assert_one_sentence(capsim("search", path), f"{path}:5: ", "micro_batch=3")


# the terminal


def test_a_long_search_says_how_far_it_is_and_cleans_up(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1_000_000, 2))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    outcome = capsim(*BERT, "--tp", 2)
    assert outcome.status == 0
    assert re.search(r"\r\x1b\[K[\d,]+ plans, best [\d.]+ m?s", outcome.err)
    assert outcome.err.endswith("\r\x1b[K")
    assert "Best by time" in outcome.out
    assert capsim(*BERT, "--tp", 2, "--json").err == ""


def test_an_interrupted_search_shows_what_it_has(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    @contextmanager
    def interrupting(**_: object) -> Any:
        seen: list[str] = []

        def tell(words: str) -> None:
            seen.append(words)
            if len(seen) > 5:
                raise KeyboardInterrupt

        yield tell

    monkeypatch.setattr(searching, "progress_line", interrupting)
    outcome = capsim(*BERT)
    assert (outcome.status, outcome.err) == (130, "capsim: interrupted\n")
    assert "interrupted: the best found so far" in outcome.out
    assert "Best by time" in outcome.out


def test_nothing_heavy_is_loaded() -> None:
    program = (
        "import sys\nfrom simulator import cli\n"
        f"try:\n    cli.main({[*map(str, BERT), '--json']!r})\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "sys.stderr.write(' '.join(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    assert not set(ended.stderr.split()) & {"torch", "scipy", "pandas", "streamlit", "plotly", "rich"}
