"""``capsim estimate``: every key, every option, scenario files, and answers that people read."""

from __future__ import annotations

import math
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simulator import cli
from tests.commands.conftest import Capsim, assert_one_sentence
from tests.platforms import on_linux

ROOT = Path(__file__).parents[2]
BERT = ("estimate", "bert-large", "--system", "dgx-a100-640gb")
_KEYS = {
    "model",
    "system",
    "devices",
    "stack",
    "backend",
    "plan",
    "workload",
    "step_time_s",
    "step_time_low_s",
    "step_time_high_s",
    "interval_level",
    "tokens_per_s",
    "samples_per_s",
    "model_flops_per_step",
    "executed_flops_per_step",
    "mfu",
    "hfu",
    "model_tflops_per_device",
    "breakdown_s",
    "memory_bytes",
    "fits",
    "run",
    "warnings",
    "sources",
}
_MEMORY = {"parameters", "gradients", "optimizer", "activations", "buffers", "reserved", "total", "capacity"}
_RUN = {
    *("of", "steps", "tokens", "time_s", "device_hours", "cost_usd", "energy_kwh", "co2_kg", "price_kind"),
    *("checkpoint_bytes", "checkpoint_write_s", "checkpoint_interval_s", "checkpoint_time_s", "restart_time_s"),
    *("replay_time_s", "goodput", "failures", "preemptions", "absent_time_s", "capacity_share", "price"),
    *("expected_time_s", "expected_cost_usd", "expected_energy_kwh"),
}

_SCENARIOS = [
    (*BERT,),
    (*BERT, "--seq-len", "128", "--global-batch", "1024", "--devices", "64", "--stack", "nvidia-bert"),
    ("estimate", "bert-large", "--system", "rtx-3090", "--seq-len", "128", "--global-batch", "32"),
    ("estimate", "palm-540b", "--system", "palm-2pod"),
    ("estimate", "gpt3-175b", "--system", "superpod-a100", "--devices", "1024", "--tp", "8", "--pp", "8"),
    ("estimate", "mixtral-8x7b", "--system", "dgx-h100", "--devices", "64", "--stack", "megatron-lm", "--ep", "8"),
    ("estimate", "t5-small", "--system", "tpu-v3"),
    ("estimate", "simulator/specs/scenarios/bert-large.yaml"),
    ("estimate", "simulator/specs/scenarios/palm-540b.yaml"),
]


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for part in value.values() for number in _numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in _numbers(part)]
    return [float(value)] if isinstance(value, int | float) else []


@pytest.mark.parametrize("arguments", _SCENARIOS, ids=" ".join)
def test_the_answer_as_json(capsim: Capsim, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    monkeypatch.chdir(ROOT)
    outcome = capsim(*arguments, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    answer = outcome.json
    assert set(answer) >= _KEYS
    assert set(answer["memory_bytes"]) == _MEMORY
    assert set(answer["run"]) == _RUN
    assert all(math.isfinite(number) and number >= 0 for number in _numbers(answer))
    assert 0 < answer["step_time_low_s"] < answer["step_time_s"] < answer["step_time_high_s"]
    assert answer["interval_level"] == 0.9
    assert answer["evidence"]["runs"] > 20
    assert answer["backend"] == "analytic"


@pytest.mark.parametrize("arguments", _SCENARIOS, ids=" ".join)
def test_parts_add_up(capsim: Capsim, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    monkeypatch.chdir(ROOT)
    answer = capsim(*arguments, "--json").json
    step, run, memory = answer["step_time_s"], answer["run"], answer["memory_bytes"]
    assert sum(answer["breakdown_s"].values()) == pytest.approx(step, rel=1e-9)
    assert sum(answer["limits"].values()) == pytest.approx(1.0, rel=1e-9)
    parts = {name: size for name, size in memory.items() if name not in ("total", "capacity")}
    assert sum(parts.values()) == pytest.approx(memory["total"], rel=1e-9)
    assert answer["fits"] is (memory["total"] <= memory["capacity"])
    assert answer["hfu"] >= answer["mfu"] * (1 - 1e-12) > 0
    assert answer["tokens_per_s"] == pytest.approx(answer["workload"]["tokens_per_step"] / step)
    assert answer["samples_per_s"] == pytest.approx(answer["workload"]["global_batch"] / step)
    rate = answer["model_flops_per_step"] / step / answer["devices"]
    assert answer["model_tflops_per_device"] == pytest.approx(rate / 1e12)
    assert run["time_s"] == pytest.approx(run["steps"] * step)
    assert run["device_hours"] == pytest.approx(run["time_s"] * answer["devices"] / 3600)
    assert run["tokens"] == run["steps"] * answer["workload"]["tokens_per_step"]
    plan = answer["plan"]
    assert plan["dp"] * plan["tp"] * plan["pp"] * plan["cp"] == answer["devices"]


_IN_FP8 = "--model llama-3-8b --system dgx-h100 --stack megatron-lm --precision fp8"
_FURTHER = "--model glm-4.5-air --system dgx-h100 --stack megatron-lm --devices 64"
_EFFECTS: dict[str, tuple[str, str]] = {
    "--system": ("", "--system dgx-h100"),
    "--devices": ("", "--devices 16"),
    "--stack": ("", "--stack nvidia-bert"),
    "--objective": ("", "--objective span"),
    "--fits": ("--model llama-2-7b --stack megatron-lm", "--fits 0.99"),
    "--train": ("--objective classification", "--train head"),
    "--lora-rank": ("", "--lora-rank 16"),
    "--lora-targets": ("--lora-rank 16", "--lora-targets attention"),
    "--lora-dropout": ("--lora-rank 16", "--lora-dropout 0.1"),
    "--preference": ("--model gpt2-124m --global-batch 64", "--preference dpo"),
    "--reference": ("--model gpt2-124m --global-batch 64 --preference dpo", "--reference precomputed"),
    "--teacher": ("", "--teacher bert-base"),
    "--keeps-teacher-logits": ("--teacher bert-base --no-keeps-teacher-logits", "--keeps-teacher-logits"),
    "--no-keeps-teacher-logits": ("--teacher bert-base", "--no-keeps-teacher-logits"),
    "--document-lengths": ("--stack megatron-lm", "--document-lengths 200,120,64"),
    "--document-deviation": ("--stack megatron-lm --document-lengths 200", "--document-deviation 80"),
    "--dora": ("--lora-rank 16 --no-dora", "--dora"),
    "--no-dora": ("--lora-rank 16 --dora", "--no-dora"),
    "--virtual-tokens": ("--train prompt --seq-len 128 --virtual-tokens 8", "--virtual-tokens 32"),
    "--label-smoothing": ("", "--label-smoothing 0.1"),
    "--z-loss": ("", "--z-loss 0.0001"),
    "--base-precision": ("--lora-rank 16", "--base-precision nf4"),
    "--expert-imbalance": ("--model mixtral-8x7b --stack megatron-lm --ep 4", "--expert-imbalance 3"),
    "--capacity-factor": ("--model mixtral-8x7b --stack megatron-lm --ep 4", "--capacity-factor 2"),
    "--seq-len": ("", "--seq-len 128"),
    "--target-len": ("--model t5-small", "--target-len 64"),
    "--effective-tokens": ("--stack mlperf-nvidia", "--effective-tokens 300"),
    "--predictions": ("", "--predictions 40"),
    "--global-batch": ("", "--global-batch 512"),
    "--tokens": ("", "--tokens 1B"),
    "--steps": ("", "--steps 100"),
    "--micro-batch": ("", "--micro-batch 2"),
    "--dp": ("--stack megatron-lm", "--dp 4"),
    "--tp": ("--stack megatron-lm", "--tp 8"),
    "--pp": ("--stack megatron-lm", "--pp 4"),
    "--virtual-stages": ("--stack megatron-lm --pp 4 --micro-batch 4", "--virtual-stages 2"),
    "--cp": ("--stack megatron-lm", "--cp 2"),
    "--ep": ("--model mixtral-8x7b --devices 64 --stack megatron-lm --ep 2", "--ep 8"),
    "--etp": ("--model mixtral-8x7b --devices 64 --stack megatron-lm --tp 2 --pp 1 --ep 8", "--etp 1"),
    "--sequence-parallel": ("--stack megatron-lm-2022 --tp 2 --no-sequence-parallel", "--sequence-parallel"),
    "--no-sequence-parallel": ("--stack megatron-lm --tp 2", "--no-sequence-parallel"),
    "--sharding": ("", "--sharding zero3"),
    "--sharding-group": ("--sharding hybrid --sharding-group 4", "--sharding-group 2"),
    "--schedule": ("--stack nanotron --pp 4 --micro-batch 4", "--schedule gpipe"),
    "--recompute": ("", "--recompute full"),
    "--recompute-modules": ("--stack megatron-lm --recompute selective", "--recompute-modules mlp"),
    "--recompute-layers": (
        "--stack megatron-lm --recompute full",
        "--recompute-layers 4 --recompute-method block",
    ),
    "--recompute-method": (
        "--stack megatron-lm --recompute-layers 4 --recompute-method block",
        "--recompute-method uniform",
    ),
    "--attention": ("", "--attention unfused"),
    "--precision": ("", "--precision fp32"),
    "--optimizer": ("", "--optimizer lamb"),
    "--cross-entropy": ("--cross-entropy unfused", "--cross-entropy chunked"),
    "--fp8-scaling": (f"{_IN_FP8} --fp8-scaling delayed", "--fp8-scaling blockwise"),
    "--activation-inputs-in-fp8": (f"{_IN_FP8} --no-activation-inputs-in-fp8", "--activation-inputs-in-fp8"),
    "--no-activation-inputs-in-fp8": (f"{_IN_FP8} --activation-inputs-in-fp8", "--no-activation-inputs-in-fp8"),
    "--multi-token": (f"{_FURTHER} --no-multi-token", "--multi-token"),
    "--no-multi-token": (f"{_FURTHER} --multi-token", "--no-multi-token"),
    "--parameters-in-fp32": ("--no-parameters-in-fp32", "--parameters-in-fp32"),
    "--no-parameters-in-fp32": ("--parameters-in-fp32", "--no-parameters-in-fp32"),
    "--gradients-in-fp32": ("--no-gradients-in-fp32", "--gradients-in-fp32"),
    "--no-gradients-in-fp32": ("--gradients-in-fp32", "--no-gradients-in-fp32"),
    "--reduction-in-fp32": ("--no-reduction-in-fp32", "--reduction-in-fp32"),
    "--no-reduction-in-fp32": ("--reduction-in-fp32", "--no-reduction-in-fp32"),
    "--master-weights": ("--no-master-weights", "--master-weights"),
    "--no-master-weights": ("--master-weights", "--no-master-weights"),
    "--clip-gradients": ("--no-clip-gradients", "--clip-gradients"),
    "--no-clip-gradients": ("--clip-gradients", "--no-clip-gradients"),
    "--optimizer-in-backward": (
        "--devices 1 --stack torchtune --global-batch 4 --micro-batch 4 --no-optimizer-in-backward",
        "--optimizer-in-backward",
    ),
    "--no-optimizer-in-backward": (
        "--devices 1 --stack torchtune --global-batch 4 --micro-batch 4 --optimizer-in-backward",
        "--no-optimizer-in-backward",
    ),
    "--offload-optimizer": ("", "--offload-optimizer"),
    "--no-offload-optimizer": ("--offload-optimizer", "--no-offload-optimizer"),
    "--placement": ("--devices 16 --stack jax-xla-gpu --tp 4 --pp 2", "--placement pp-dp-cp-tp"),
    "--price": ("", "--price 2.5"),
    "--price-kind": ("", "--price-kind spot"),
    "--purchase-price": ("--purchase-price 15000", "--purchase-price 20000"),
    "--lifetime": ("--purchase-price 15000", "--lifetime '3 years'"),
    "--electricity": ("--purchase-price 15000", "--electricity '0.2 USD/kWh'"),
    "--failure-rate": ("", "--failure-rate '0.1 /d'"),
    "--preemption-rate": ("--price-kind spot", "--preemption-rate '0.1 /h'"),
    "--capacity-wait": ("--price-kind spot", "--capacity-wait '10 h'"),
    "--restart": ("", "--restart '2 h'"),
    "--checkpoint-every": ("", "--checkpoint-every '10 min'"),
    "--storage-bandwidth": ("", "--storage-bandwidth '100 MB/s'"),
    "--grid": ("", "--grid fr"),
    "--overhead": ("", "--overhead google"),
    "--constants": ("", "--constants none"),
    "--profile": ("--precision bf16", "--profile a100-sxm"),
}
"""Each option with what else the command says, and what changes the answer."""


def _answer(capsim: Capsim, options: str) -> Any:
    words = shlex.split(options)
    model = words[words.index("--model") + 1] if "--model" in words else "bert-large"
    rest = [word for word in words if word not in ("--model", model)]
    system = () if "--system" in rest else ("--system", "dgx-a100-640gb")
    outcome = capsim("estimate", model, *system, *rest, "--json")
    assert outcome.status == 0, outcome.err
    return outcome.json


@pytest.mark.parametrize("option", _EFFECTS)
def test_every_option_changes_the_answer(capsim: Capsim, option: str) -> None:
    base, change = _EFFECTS[option]
    said = change.split()[0].replace("--no-", "--")
    kept = " ".join(each for each in re.split(r" (?=--)", base) if each.split(" ")[0].replace("--no-", "--") != said)
    before, after = _answer(capsim, base), _answer(capsim, f"{kept} {change}")
    numbers = ("step_time_s", "memory_bytes", "run", "plan", "workload", "parameters")
    assert any(before[name] != after[name] for name in numbers)


def test_every_option_of_the_help_is_tried_above(capsim: Capsim) -> None:
    listed = set(re.findall(r"(?<![\w-])--[a-z0-9-]+", capsim("estimate", "--help").out.split("Options:")[1]))
    assert listed - {"--help", "--json", "--explain", "--sources", "--check", "--mfu", "--model"} == set(_EFFECTS)


@pytest.mark.parametrize("convention", ["exact", "palm", "torchtitan", "causal"])
def test_a_utilisation_says_which_convention_it_follows(capsim: Capsim, convention: str) -> None:
    answer = capsim("estimate", "gpt2-1.5b", "--system", "dgx-a100-640gb", "--mfu", convention, "--json").json
    assert answer["mfu_convention"] == convention
    assert answer["mfu"] == answer["mfu_by_convention"][convention]
    by = answer["mfu_by_convention"]
    assert by["causal"] < by["exact"] < by["palm"] * 1.05
    assert by["torchtitan"] < by["palm"]
    assert answer["hfu"] == pytest.approx(by["exact"]) or answer["plan"]["recompute"] != "none"
    assert_one_sentence(capsim("estimate", "gpt2-1.5b", "--system", "dgx-a100-640gb", "--mfu", "best"), "mfu", "palm")


def test_neither_of_two_equal_options_wins_silently(capsim: Capsim) -> None:
    outcome = capsim(*BERT, "--grid", "us", "--micro-batch", "2", "--micro-batch", "4", "--json")
    assert_one_sentence(outcome, "--micro-batch is given 2 times, and takes one value; leave one of them")


@pytest.mark.parametrize(
    ("text", "tokens"), [("780e9", 780e9), ("780B", 780e9), ("1.5T", 1.5e12), ("3M", 3e6), ("5000k", 5e6), ("2G", 2e9)]
)
def test_tokens_are_written_in_many_ways(capsim: Capsim, text: str, tokens: float) -> None:
    assert capsim(*BERT, "--tokens", text, "--json").json["workload"]["tokens"] == tokens


@pytest.mark.parametrize(("text", "steps"), [("100", 100), ("1e6", 1_000_000), ("1_000", 1000)])
def test_whole_numbers_are_written_in_many_ways(capsim: Capsim, text: str, steps: int) -> None:
    assert capsim(*BERT, "--steps", text, "--json").json["run"]["steps"] == steps


@pytest.mark.parametrize(
    ("price", "rate"),
    [
        ("2.5", 2.5),
        ("3 USD/h", 3.0),
        (".5", 0.5),
        ("lambda", 2.79),
        ("Lambda", 2.79),
        ("aws-p4de.24xlarge", 3.4309),
        ("gcp-a2-ultragpu-8g-spot", 2.7595),
        ("vast.ai", 1.7043),
        ("runpod", 1.79),
        ("dgx-a100-640gb=2.10", 2.1),
        ("a100-sxm4-80gb=2.10", 2.1),
    ],
)
def test_prices(capsim: Capsim, price: str, rate: float) -> None:
    run = capsim(*BERT, "--price", price, "--json").json["run"]
    assert run["cost_usd"] / run["device_hours"] == pytest.approx(rate)


def test_without_a_price_the_answer_has_no_cost(capsim: Capsim) -> None:
    outcome = capsim("estimate", "bert-large", "--system", "mi250x", "--json")
    assert outcome.status == 0
    assert outcome.json["run"]["cost_usd"] is None
    assert any("no price of mi250x is known; give one with --price" in line for line in outcome.json["warnings"])
    assert "Cost" not in capsim("estimate", "bert-large", "--system", "mi250x").out


def test_grid_and_overhead_scale_emissions_and_energy(capsim: Capsim) -> None:
    plain = capsim(*BERT, "--overhead", "none", "--grid", "world", "--json").json["run"]
    other = capsim(*BERT, "--overhead", "uptime-2024", "--grid", "FR", "--json").json["run"]
    assert other["energy_kwh"] == pytest.approx(1.56 * plain["energy_kwh"])
    assert other["co2_kg"] / other["energy_kwh"] == pytest.approx(0.056)
    assert plain["co2_kg"] / plain["energy_kwh"] == pytest.approx(0.475)


def test_a_plan_that_does_not_fit_is_an_answer(capsim: Capsim) -> None:
    arguments = ("estimate", "bert-large", "--system", "rtx-3090", "--micro-batch", "64", "--recompute", "none")
    outcome = capsim(*arguments, "--json")
    assert outcome.status == 0
    answer = outcome.json
    assert answer["fits"] is False
    warning = answer["warnings"][0]
    needed, capacity = answer["memory_bytes"]["total"] / 2**30, answer["memory_bytes"]["capacity"] / 2**30
    assert f"does not fit: needs {needed:.1f} GiB on a device with {capacity:.1f} GiB" in warning
    assert f"{needed - capacity:.1f} GiB too much" in warning
    change = re.search(r"; (\w+)=(\w+) would make it fit", warning)
    assert change is not None
    option = f"--{change[1].replace('_', '-')}"
    at = arguments.index(option) if option in arguments else len(arguments)
    better = capsim(*arguments[:at], *arguments[at + 2 :], option, change[2], "--json").json
    assert better["fits"] is True
    for status, checked in ((3, arguments), (0, (*arguments[:4], "--micro-batch", "1"))):
        assert capsim(*checked, "--check").status == status
    table = capsim(*arguments)
    assert table.status == 0
    assert table.out.splitlines()[0] == "bert-large on rtx-3090, 1 device: does not fit"
    assert "DOES NOT FIT" in table.out


def test_without_tokens_the_answer_is_per_billion_tokens_and_says_how_to_give_them(capsim: Capsim) -> None:
    arguments = ("estimate", "mistral-7b", "--system", "dgx-h100", "--price", "2")
    run = capsim(*arguments, "--json").json["run"]
    assert (run["of"], run["tokens"]) == ("billion tokens", pytest.approx(1e9))
    lines = capsim(*arguments).out.splitlines()
    told = next(line for line in lines if line.startswith("Run "))
    assert re.fullmatch(r"Run +\d+\.\d+ h per 1B tokens +its length is not known: give --tokens or *(--steps *)?", told)
    assert any(re.match(r"Cost +\$\d+\.\d+ per 1B tokens", line) for line in lines)
    known = capsim(*arguments, "--tokens", "2B", "--json").json["run"]
    assert known["of"] == "run"
    assert known["cost_usd"] == pytest.approx(2 * run["cost_usd"], rel=1e-2)


def test_what_cannot_fit_says_what_comes_nearest(capsim: Capsim) -> None:
    answer = capsim("estimate", "palm-540b", "--system", "rtx-3090", "--json").json
    assert "no one or two changes of the plan on 1 device make it fit" in answer["warnings"][0]
    assert "use more devices or devices with more memory" in answer["warnings"][0]


def test_figures_that_are_only_recalled_are_named(capsim: Capsim) -> None:
    warnings = capsim("estimate", "bert-large", "--system", "rtx-3090", "--json").json["warnings"]
    assert any("unverified" in line and "memory.usable" in line for line in warnings)


def test_the_table_is_readable(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    outcome = capsim(*BERT, "--stack", "nvidia-bert", "--seq-len", "128", "--global-batch", "512", "--price", "2")
    assert (outcome.status, outcome.err) == (0, "")
    lines = [line.rstrip() for line in outcome.out.splitlines()]
    assert lines[0] == "bert-large on dgx-a100-640gb, 8 devices"
    assert lines[1].startswith("dp=8, micro-batch ")
    assert "stack nvidia-bert; batch 512 x 128 tokens" in " ".join(lines[1:3])
    for start in (
        r"Model +336M parameters +336,226,108",
        r"Step time +\d+(\.\d+)? ms",
        r"Throughput +\d+k tokens/s +[\d,]+ sequences/s",
        r"Evidence +[\d,]+ runs, \d+ sources +nearest: [\w.-]+",
        r"Utilisation +\d+\.\d % MFU \(exact\) +\d+\.\d % HFU, \d+(\.\d+)? TFLOP/s per device",
        r"Limited by +matrix products +matrix products \d",
        r"Memory +[\d.]+ GiB of 79\.3 GiB +fits with a chance of >99 %, [\d.]+ GiB free; 90 %: [\d.]+ to [\d.]+ GiB",
        r"Run +[\d.]+ (h|days) +1,000,000 steps, 65\.5B tokens",
        r"Cost +\$[\d.,]+k? +\d+ device-hours at \$2\.00 per device-hour",
        r"Energy +\d+ kWh +\d+ kg CO2e, at rated power",
        r"Where a step goes",
        r"  feed forward +\d+(\.\d+)? ms +\d+\.\d % +█+",
        r"Memory of the peak-memory stage",
        r"  activations +\d+(\.\d+)? GiB +\d+\.\d % +█+",
        r"Assumed  devices=8, as dgx-a100-640gb usually has",
    ):
        assert any(re.match(start, line) for line in lines), start
    assert max(map(len, lines)) <= 120
    assert "Source" not in outcome.out


def test_the_table_lists_sources_on_demand(capsim: Capsim) -> None:
    out = " ".join(capsim(*BERT, "--sources").out.split())
    assert "Source a100-sxm4-80gb: NVIDIA Ampere Architecture In-Depth" in out
    assert "Source stack pytorch-ddp: " in out


def test_the_table_survives_a_narrow_terminal(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = capsim(*BERT).out.splitlines()
    assert max(map(len, lines)) <= 40


SCENARIO = """\
title: A scenario of one's own
model: bert-large
system: dgx-a100-640gb
devices: 16
stack: nvidia-bert
plan: {dp: 16, micro_batch: 4}
workload: {sequence_length: 128, global_batch: 1024, tokens: 1.0e+9}
price: 2.0
grid: us
overhead: aws
"""


def test_a_scenario_file_says_everything(tmp_path: Path, capsim: Capsim) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO)
    answer = capsim("estimate", path, "--json").json
    assert (answer["model"], answer["system"], answer["devices"]) == ("bert-large", "dgx-a100-640gb", 16)
    assert (answer["stack"], answer["plan"]["dp"], answer["plan"]["micro_batch"]) == ("nvidia-bert", 16, 4)
    assert answer["workload"]["tokens"] == 1e9
    run = answer["run"]
    assert run["cost_usd"] / run["device_hours"] == pytest.approx(2.0)
    assert run["co2_kg"] / run["energy_kwh"] == pytest.approx(0.369)
    assert capsim("estimate", path).out.startswith("A scenario of one's own")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--devices 8 --dp 8", {"devices": 8}),
        ("--system dgx-h100", {"system": "dgx-h100"}),
        ("--stack pytorch-ddp", {"stack": "pytorch-ddp"}),
        ("--micro-batch 8", {"plan.micro_batch": 8, "plan.dp": 16}),
        ("--seq-len 512", {"workload.sequence_length": 512, "workload.global_batch": 1024}),
        ("--steps 7", {"run.steps": 7}),
        ("--tokens 2e9", {"workload.tokens": 2e9}),
        ("--precision tf32", {"plan.precision": "tf32", "plan.micro_batch": 4}),
    ],
)
def test_options_replace_what_a_scenario_file_says(
    tmp_path: Path, capsim: Capsim, options: str, expected: dict[str, Any]
) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO)
    answer = capsim("estimate", path, *shlex.split(options), "--json").json
    for name, value in expected.items():
        field: Any = answer
        for part in name.split("."):
            field = field[part]
        assert field == value


def test_the_objective_replaces_that_of_a_scenario_file(tmp_path: Path, capsim: Capsim) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO)
    span = capsim("estimate", path, "--objective", "span", "--json").json
    assert "predictions" not in span["workload"]
    path.write_text(SCENARIO.replace("bert-large", "{base: bert-large, layers: 12}"))
    assert capsim("estimate", path, "--objective", "span", "--json").json["parameters"] < span["parameters"]


def test_paths_in_a_scenario_file_begin_where_it_lies(
    tmp_path: Path, capsim: Capsim, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (there / "parts").mkdir(parents=True)
    here.mkdir()
    specs = ROOT / "simulator" / "specs"
    (there / "parts" / "my-model.yaml").write_text((specs / "models" / "bert-large.yaml").read_text())
    (there / "parts" / "my-stack.yaml").write_text((specs / "stacks" / "nvidia-bert.yaml").read_text())
    (there / "my-device.yaml").write_text((ROOT / "hardware" / "devices" / "a100-sxm4-80gb.yaml").read_text())
    system = (ROOT / "hardware" / "systems" / "dgx-a100-640gb.yaml").read_text()
    (there / "parts" / "my-system.yaml").write_text(system.replace("a100-sxm4-80gb", "../my-device.yaml"))
    scenario = there / "scenario.yaml"
    parts = {"model": "my-model", "system": "my-system", "stack": "my-stack"}
    scenario.write_text("".join(f"{field}: ./parts/{name}.yaml\n" for field, name in parts.items()))
    monkeypatch.chdir(here)
    for path in (scenario, "../there/scenario.yaml"):
        answer = capsim("estimate", path, "--json").json
        assert (answer["model"], answer["system"], answer["stack"]) == ("my-model", "my-system", "my-stack")
    scenario.write_text(f"model: {{base: parts/my-model.yaml, layers: 12}}\nsystem: {there}/parts/my-system.yaml\n")
    assert capsim("estimate", scenario, "--json").json["model"] == "my-model"


def test_a_model_file_is_a_model(tmp_path: Path, capsim: Capsim) -> None:
    path = tmp_path / "Own Model_2.yaml"
    path.write_text((ROOT / "simulator" / "specs" / "models" / "bert-large.yaml").read_text())
    answer = capsim("estimate", path, "--system", "dgx-a100-640gb", "--json").json
    assert answer["model"] == "own-model-2"
    assert answer["step_time_s"] == capsim(*BERT, "--json").json["step_time_s"]


def test_a_device_is_a_system(capsim: Capsim) -> None:
    answer = capsim("estimate", "bert-large", "--system", "a100-sxm4-80gb", "--devices", "8", "--json").json
    assert (answer["system"], answer["devices"]) == ("a100-sxm4-80gb", 8)


def test_without_arguments_there_is_help(capsim: Capsim) -> None:
    outcome = capsim()
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == capsim("--help").out
    assert all(command in outcome.out for command in ("estimate", "catalogue", "claims"))


def test_control_c_is_one_line(capsim: Capsim, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simulator.specs.loading.scenario_of", interrupted)
    outcome = capsim(*BERT)
    assert (outcome.status, outcome.out, outcome.err) == (130, "", "capsim: interrupted\n")


def test_control_c_as_a_signal() -> None:
    program = "import os, signal, simulator.specs.loading as l; from simulator import cli\n"
    program += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job of a shell may ignore it
    program += "l.scenario_of = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)\n"
    program += f"cli.main({list(BERT)!r})"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (process.returncode, process.stdout, process.stderr) == (128 + signal.SIGINT, "", "capsim: interrupted\n")


@pytest.mark.parametrize(
    "arguments", [[*BERT], [*BERT, "--json"], ["catalogue", "measurements"], ["catalogue", "--json"], ["--help"]]
)
def test_a_closed_pipe_is_silent(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        process = subprocess.run(
            [sys.executable, "-m", "simulator.cli", *arguments],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            cwd=ROOT,
        )
    finally:
        os.close(write)
    assert process.stderr == ""


@on_linux
def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "simulator.cli", *BERT, "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            cwd=ROOT,
        )
    assert (process.returncode, process.stderr) == (1, "capsim: cannot write the answer (No space left on device)\n")


def test_a_terminal_without_bars_gets_question_marks() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = subprocess.run(
        [sys.executable, "-m", "simulator.cli", *BERT],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=environment,
    )
    assert process.returncode == 0
    assert "??????" in process.stdout


def test_the_command_is_installed_under_its_name() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["capsim"] == f"{cli.__name__}:{cli.main.__name__}"
