"""``capsim serve --simulate`` and ``capsim validate`` with runs of serving: what they tell, and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import simulator
from tests.commands.conftest import Capsim, assert_one_sentence

LLAMA = (
    "serve",
    "llama-3-8b",
    "--system",
    "dgx-h100",
    "--devices",
    "1",
    "--input-tokens",
    "1024",
    "--output-tokens",
    "128",
)
RUN = """
- id: mine
  task: generate
  model: {name: llama-3-8b, family: llama, layers: 32, hidden: 4096, heads: 32, kv_heads: 8, ffn: 14336,
          ffn_gated: true, vocab: 128256}
  hardware: {device: h100-sxm5-80gb, devices: 1}
  plan: {framework: vLLM, weight_precision: fp8, tp: 1, pp: 1, dp: 1}
  load: {input_tokens: 1024, output_tokens: 256, concurrency: 32}
  measured: {ttft_s: 0.21, tpot_s: 0.0117}
"""


@pytest.mark.parametrize("load", [("--concurrency", "16"), ("--rate", "4/s")])
def test_percentiles_are_those_of_simulated_requests(capsim: Capsim, load: tuple[str, ...]) -> None:
    spread = ("--input-lengths", "uniform:512-1536", "--output-lengths", "uniform:64-192")
    answer = capsim(*LLAMA, *load, *spread, "--simulate", "400", "--ttft", "100ms", "--json").json
    told = answer["percentiles"]
    for name in ("ttft_s", "tpot_s", "latency_s", "itl_s"):
        assert 0.0 < told[name]["p50"] <= told[name]["p90"] <= told[name]["p99"]
    assert told["simulated"]["requests"] == 400
    assert 0.0 <= told["simulated"]["kept"] <= 1.0
    assert told["simulated"]["goodput_per_s"] == pytest.approx(
        told["simulated"]["kept"] * told["simulated"]["requests_per_s"]
    )
    # As in closed form, where requests of different lengths are out of step.
    assert told["tpot_s"]["mean"] == pytest.approx(answer["tpot_s"], rel=0.15)


def test_lengths_may_differ_and_drafts_be_taken(capsim: Capsim, tmp_path: Path) -> None:
    load = ("--concurrency", "8", "--simulate", "200", "--json")
    plain = capsim(*LLAMA, *load).json["percentiles"]
    spread = capsim(*LLAMA, *load, "--input-lengths", "lognormal:1024,800").json["percentiles"]
    drafted = capsim(*LLAMA, *load, "--draft-length", "3", "--acceptance", "0.9").json["percentiles"]
    assert spread["ttft_s"]["p99"] / spread["ttft_s"]["p50"] > plain["ttft_s"]["p99"] / plain["ttft_s"]["p50"] * 0.5
    assert drafted["tpot_s"]["mean"] < plain["tpot_s"]["mean"]
    trace = tmp_path / "trace.csv"
    trace.write_text("input_tokens,output_tokens,arrival_s\n" + "\n".join(f"{100 + i},20,{i / 10}" for i in range(50)))
    told = capsim(*LLAMA, "--trace", trace, "--json").json["percentiles"]
    assert told["simulated"]["requests"] == 50


def test_a_page_has_the_percentiles(capsim: Capsim) -> None:
    page = capsim(*LLAMA, "--rate", "4/s", "--simulate", "300", "--ttft", "1s").out
    assert "Simulated requests" in page
    assert "keep the service levels" in " ".join(page.split())


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--batch", "4", "--simulate", "10"), "--rate or --concurrency"),
        (("--rate", "4", "--simulate", "0"), "number of requests 0"),
        (("--rate", "4", "--simulate", "many"), "--simulate"),
        (("--rate", "4", "--input-lengths", "uniform:9-3"), "--input-lengths"),
        (("--rate", "4", "--output-lengths", "0"), "--output-lengths"),
        (("--rate", "4", "--draft-length", "3"), "--draft-length and --acceptance go together"),
        (("--rate", "4", "--draft-length", "3", "--acceptance", "2"), "acceptance rate 2"),
        (("--rate", "4", "--trace", "none.csv"), "none.csv"),
        (("--rate", "4", "--trace", "none.csv", "--input-lengths", "3"), "--trace has the lengths"),
        (("--stack", "hf-transformers", "--rate", "4", "--simulate", "5"), "continuous batching"),
    ],
)
def test_what_cannot_be_simulated_is_told(capsim: Capsim, arguments: tuple[str, ...], what: str) -> None:
    outcome = capsim(*LLAMA, *arguments)
    assert_one_sentence(outcome, what)


def test_simulated_requests_from_python() -> None:
    from simulator.answers.serving.simulated import Simulated

    answer = simulator.serve(
        "llama-3-8b", "dgx-h100", devices=1, input_tokens=256, output_tokens=64, concurrency=4,
        simulate=Simulated(requests=60),
    )  # fmt: skip
    assert answer.percentiles["ttft_s"]["p50"] > 0.0


def test_limits_are_those_of_runs_alike(capsim: Capsim) -> None:
    def width(**changes: str) -> float:
        answer: dict[str, Any] = capsim(*LLAMA, "--batch", "8", *[w for o in changes.items() for w in o], "--json").json
        return float(answer["tpot_s_high"] / answer["tpot_s_low"])

    assert width() > 1.05
    answer = capsim(*LLAMA, "--batch", "8", "--stack", "lmdeploy", "--json").json
    assert any("no run of lmdeploy" in each for each in answer["warnings"])


def test_files_of_serving_runs_are_validated(capsim: Capsim, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(RUN)
    told = capsim("validate", file, "--json").json
    assert set(told["inference"]) == {"ttft_s", "tpot_s"}
    assert told["inference"]["tpot_s"]["rows"] == 1
    row = told["inference_runs"][0]
    assert {"id", "metric", "measured", "predicted", "low", "high"} <= set(row)
    assert row["low"] <= row["predicted"] <= row["high"]
    assert told["rows"] == 0
    assert "time to first token" in capsim("validate", file).out


def test_a_serving_run_that_is_none_is_told(capsim: Capsim, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(RUN.replace("concurrency: 32", "concurrency: 32, batch: 4"))
    assert_one_sentence(capsim("validate", file), "give one of them")
    file.write_text(RUN.replace("input_tokens: 1024", "input_tokens: -1"))
    assert_one_sentence(capsim("validate", file), "load.input_tokens")
