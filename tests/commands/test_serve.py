"""``capsim serve``: every key, a page that people read, and bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest

import simulator
from tests.commands.conftest import Capsim, assert_one_sentence

LLAMA = ("serve", "llama-3-8b", "--system", "dgx-h100", "--devices", "1")
LENGTHS = ("--input-tokens", "1024", "--output-tokens", "128")
BERT = ("serve", "bert-large", "--system", "dgx-a100-640gb", "--devices", "1", "--input-tokens", "384")
_FIGURES = ("ttft_s", "tpot_s", "latency_s", "output_tokens_per_s", "total_tokens_per_s", "requests_per_s")
_OF_ENCODERS = ("latency_s", "sequences_per_s", "tokens_per_s")
_OTHERS = {
    "model", "system", "devices", "stack", "backend", "plan", "load", "percentiles", "largest_batch",
    "largest_context", "memory_bytes", "fits", "breakdown_s", "limited_by", "cost", "energy", "warnings", "sources",
    "assumed",
}  # fmt: skip


def keys(figures: tuple[str, ...]) -> set[str]:
    return _OTHERS | {f"{name}{end}" for name in figures for end in ("", "_low", "_high")}


@pytest.mark.parametrize("load", [("--batch", "16"), ("--concurrency", "64"), ("--rate", "5/s"), ()])
def test_every_key(capsim: Capsim, load: tuple[str, ...]) -> None:
    answer = capsim(*LLAMA, *LENGTHS, *load, "--json").json
    assert set(answer) == keys(_FIGURES)
    for name in _FIGURES:
        assert 0.0 < answer[f"{name}_low"] < answer[name] < answer[f"{name}_high"]
    assert list(answer["memory_bytes"]) == [
        "weights", "kv_cache", "activations", "buffers", "reserved", "total", "capacity"
    ]  # fmt: skip
    assert set(answer["breakdown_s"]) == {"prefill", "decode"}
    assert set(answer["plan"]) >= {"tp", "pp", "ep", "replicas", "weights", "kv_cache", "precision"}
    assert any("recalled" in each for each in answer["warnings"])
    assert ("arrive evenly" in " ".join(answer["warnings"])) == ("--rate" in load)


def test_both_prices_of_tokens_pay_all_of_it(capsim: Capsim) -> None:
    answer = capsim(*LLAMA, *LENGTHS, "--concurrency", "32", "--price", "2", "--json").json
    cost, each = answer["cost"], answer["requests_per_s"] * 3600 / 1e6
    assert cost["per_hour_usd"] == pytest.approx(2.0)
    paid = 1024 * each * cost["per_million_input_tokens_usd"] + 128 * each * cost["per_million_output_tokens_usd"]
    assert paid == pytest.approx(2.0)


def test_an_encoder_says_how_many_sequences(capsim: Capsim) -> None:
    answer = capsim(*BERT, "--batch", "32", "--json").json
    assert set(answer) == keys(_OF_ENCODERS)
    assert answer["sequences_per_s"] == pytest.approx(32 / answer["latency_s"])
    assert answer["tokens_per_s"] == pytest.approx(384 * answer["sequences_per_s"])


@pytest.mark.parametrize("arguments", [(*LLAMA, *LENGTHS, "--concurrency", "64"), (*BERT, "--batch", "8")])
def test_people_read_it_at_eighty_columns(
    capsim: Capsim, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = capsim(*arguments, "--sources").out
    assert max(map(len, page.splitlines())) <= 80
    for words in ("Latency", "Throughput", "Limited by", "Memory", "Cost", "Energy", "Warning", "Assumed", "Source"):
        assert words in page


def test_python_says_the_same(capsim: Capsim) -> None:
    answer = simulator.serve(
        "llama-3-8b", "dgx-h100", devices=1, input_tokens=1024, output_tokens=128, batch=16, weights="fp8"
    )
    said = capsim(*LLAMA, *LENGTHS, "--batch", "16", "--weights", "fp8", "--json").json
    assert said == answer.to_dict()
    assert answer.tpot_s == said["tpot_s"]
    assert answer.plan["precision"] == "fp8"


def test_service_levels_are_said_to_be_missed(capsim: Capsim) -> None:
    answer = capsim(*LLAMA, *LENGTHS, "--concurrency", "64", "--ttft", "1ms", "--tpot", "2s", "--json").json
    assert answer["load"] == {
        "input_tokens": 1024, "output_tokens": 128, "concurrency": 64, "cached": 0.0, "ttft_s": 0.001, "tpot_s": 2.0
    }  # fmt: skip
    missed = [each for each in answer["warnings"] if "misses" in each]
    assert len(missed) == 1
    assert "ttft=0.001 s" in missed[0]


def test_what_does_not_fit_is_an_answer(capsim: Capsim) -> None:
    outcome = capsim("serve", "llama-3-70b", "--system", "rtx-4090", "--devices", "1", *LENGTHS, "--json")
    assert outcome.status == 0
    assert not outcome.json["fits"]
    assert "too much" in outcome.json["warnings"][0]


_BAD: list[tuple[tuple[str, ...], str]] = [
    ((*LLAMA,), "input_tokens is missing"),
    ((*LLAMA, "--input-tokens", "9"), "output_tokens is missing"),
    ((*LLAMA[:2], *LENGTHS), "system is missing"),
    ((*LLAMA, *LENGTHS, "--stack", "vlm"), "stack='vlm' is no engine that serves models; valid: deepspeed-inference"),
    ((*LLAMA, *LENGTHS, "--stack", "tensorrt"), "stack=tensorrt does not generate, and llama-3-8b generates text"),
    ((*LLAMA, *LENGTHS, "--stack", "jetstream"), "stack=jetstream runs on tpu, and h100-sxm5-80gb is a gpu"),
    ((*LLAMA, *LENGTHS, "--tp", "3"), "tp=3 does not divide 32 attention heads; valid: 1, 2, 4"),
    ((*LLAMA, *LENGTHS, "--tp", "2"), "tp=2 x pp=1 = 2 does not divide devices=1"),
    ((*LLAMA, *LENGTHS, "--pp", "2", "--stack", "tgi"), "pp=2: tgi does not offer it; it has tp"),
    ((*LLAMA, *LENGTHS, "--ep", "2"), "ep=2 does not divide 1 experts"),
    ((*LLAMA, *LENGTHS, "--replicas", "2"), "replicas=2 = 2 is not devices=1"),
    ((*LLAMA, *LENGTHS, "--weights", "int3"), "unknown weights 'int3'; did you mean int8 or int4?"),
    ((*LLAMA, *LENGTHS, "--weights", "q4_0"), "weights=q4_0: vllm has no such format; valid: bf16, fp16"),
    ((*LLAMA, *LENGTHS, "--kv-cache", "int8"), "kv_cache=int8: vllm has no such format; valid: bf16"),
    ((*LLAMA, *LENGTHS, "--precision", "nvfp4"), "precision=nvfp4: h100-sxm5-80gb has no units for it"),
    ((*LLAMA, *LENGTHS, "--batch", "2", "--concurrency", "2"), "batch and concurrency are different loads"),
    ((*LLAMA, *LENGTHS, "--batch", "0"), "batch=0: must be at least 1"),
    ((*LLAMA, *LENGTHS, "--batch", "two"), "--batch='two': write a whole number"),
    ((*LLAMA, *LENGTHS, "--rate", "fast"), "rate='fast': write requests a second, such as 20/s"),
    ((*LLAMA, *LENGTHS, "--rate", "0"), "rate=0"),
    ((*LLAMA, *LENGTHS, "--rate", "nan"), "rate=nan"),
    ((*LLAMA, *LENGTHS, "--cached", "1.5"), "cached=1.5: must be at most 1"),
    ((*LLAMA, *LENGTHS, "--tpot", "50"), "tpot='50': '50' has no unit"),
    ((*LLAMA, *LENGTHS, "--ttft", "0s"), "ttft='0s'"),
    ((*LLAMA, *LENGTHS, "--input-tokens", "5"), "--input-tokens is given 2 times"),
    ((*LLAMA, *LENGTHS, "--memory-utilisation", "0"), "memory_utilisation=0"),
    ((*LLAMA, *LENGTHS, "--price-kind", "free"), "price_kind='free'"),
    ((*LLAMA, *LENGTHS, "--grid", "mars"), "unknown grid 'mars'"),
    ((*BERT, "--output-tokens", "5"), "output_tokens=5: bert-large encodes and generates nothing"),
    ((*BERT, "--tp", "2"), "tp=2: tensorrt does not offer it; it has no split inside a replica"),
    ((*BERT[:-1], "600"), "input_tokens=600 exceeds the 512 rows of bert-large's position table; shorten it"),
    (("serve", "lama-3-8b", "--system", "dgx-h100", *LENGTHS), "unknown model 'lama-3-8b'"),
]


@pytest.mark.parametrize(("arguments", "sentence"), _BAD, ids=[sentence[:40] for _, sentence in _BAD])
def test_bad_input_is_one_sentence(capsim: Capsim, arguments: tuple[str, ...], sentence: str) -> None:
    assert_one_sentence(capsim(*arguments), sentence)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, True, "x"])
@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "cached", "rate"])
def test_python_refuses_it_too(name: str, value: Any) -> None:
    said: dict[str, Any] = {"input_tokens": 100, "output_tokens": 10, name: value}
    with pytest.raises(simulator.InputError, match=name):
        simulator.serve("llama-3-8b", "dgx-h100", devices=1, **said)
