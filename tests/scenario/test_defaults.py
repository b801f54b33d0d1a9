"""What is chosen where the user leaves it open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import simulator


def test_what_is_given_is_kept() -> None:
    plan = simulator.estimate("bert-large", "dgx-a100-640gb", plan={"tp": 2, "micro_batch": 4}).plan
    assert (plan["tp"], plan["micro_batch"], plan["dp"]) == (2, 4, 4)


def test_what_is_chosen_is_said() -> None:
    answer = simulator.estimate("bert-large", "dgx-a100-640gb")
    said = " ".join(answer.assumed)
    for name in ("devices=8", "stack=", "dp=8", "micro_batch=", "global_batch=256", "price"):
        assert name in said


def test_a_model_that_fits_without_splitting_is_not_split() -> None:
    plan = simulator.estimate("bert-large", "dgx-a100-640gb", stack="megatron-lm").plan
    assert (plan["dp"], plan["tp"], plan["pp"]) == (8, 1, 1)


def test_a_model_that_needs_splitting_is_split_until_it_fits() -> None:
    answer = simulator.estimate("palm-540b", "dgx-a100-640gb", devices=2048)
    assert answer.fits_as_wished
    assert answer.plan["tp"] * answer.plan["pp"] > 1


def test_a_model_that_cannot_fit_gets_an_answer_all_the_same() -> None:
    answer = simulator.estimate("palm-540b", "rtx-3090", workload={"global_batch": 8})
    assert not answer.fits
    assert "does not fit" in answer.warnings[0]
    assert "GiB too much" in answer.warnings[0]


def test_a_plan_that_does_not_fit_is_told_what_would() -> None:
    answer = simulator.estimate("bert-large", "rtx-3090", plan={"micro_batch": 64, "recompute": "none"})
    assert not answer.fits
    assert "would make it fit" in answer.warnings[0]


def test_a_precision_that_the_device_lacks_is_replaced_unless_it_was_asked_for() -> None:
    assert simulator.estimate("bert-large", "dgx-1-v100", stack="megatron-lm").plan["precision"] == "fp16"
    with pytest.raises(simulator.InputError, match="precision=bf16: v100-sxm2-16gb has no units for it"):
        simulator.estimate("bert-large", "dgx-1-v100", plan={"precision": "bf16"})


def test_the_cheapest_offer_is_named() -> None:
    answer = simulator.estimate("bert-large", "aws-p4d.24xlarge")
    assert answer.run.cost_usd == pytest.approx(answer.run.device_hours * 2.7447)
    assert simulator.estimate("bert-large", "aws-p4d.24xlarge", price=1).run.cost_usd == pytest.approx(
        answer.run.device_hours
    )


# Context parallelism


def test_long_sequences_are_shared_where_that_is_fastest() -> None:
    """131,072 tokens, of which a batch holds fewer sequences than there are devices."""
    asked: dict[str, Any] = {"devices": 64, "workload": {"sequence_length": 131072, "global_batch": 8}}
    chosen = simulator.estimate("llama-3-8b", "dgx-h100", **asked)
    whole = simulator.estimate("llama-3-8b", "dgx-h100", **asked, plan={"cp": 1})
    assert chosen.fits
    assert chosen.plan["cp"] > 1
    assert chosen.step_time_s < 0.9 * whole.step_time_s


def test_sequences_that_fit_only_where_they_are_shared_are() -> None:
    asked: dict[str, Any] = {"devices": 32, "workload": {"sequence_length": 524288, "global_batch": 1}}
    chosen = simulator.estimate("llama-3-8b", "dgx-h100", **asked)
    assert chosen.fits
    assert chosen.plan["cp"] > 1
    whole = simulator.estimate("llama-3-8b", "dgx-h100", **asked, plan={"cp": 1})
    assert whole.plan["tp"] > 8  # tensor parallelism across nodes, which nobody wants
    assert whole.step_time_s > 2.0 * chosen.step_time_s


@pytest.mark.parametrize("length", [2048, 4096, 8191])
def test_short_sequences_are_not_shared(length: int) -> None:
    work = {"sequence_length": length, "global_batch": 8}
    assert simulator.estimate("llama-3-8b", "dgx-h100", devices=64, workload=work).plan["cp"] == 1


def test_a_stack_without_context_parallelism_shares_no_sequences() -> None:
    work = {"sequence_length": 131072, "global_batch": 8}
    assert simulator.estimate("llama-3-8b", "dgx-h100", stack="pytorch-fsdp", workload=work).plan["cp"] == 1


# What nobody says


_CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "intermediate_size": 8192,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}


def test_a_config_says_nothing_of_its_training(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(_CONFIG))
    said = simulator.estimate(file, "dgx-h100").assumed
    line = next(line for line in said if line.startswith("sequence_length="))
    assert line.endswith("customary, the model says nothing of its training")
    assert "as published" not in line
    assert any(line.endswith("as published") for line in simulator.estimate("bert-large", "dgx-h100").assumed)


def test_without_tokens_a_billion_of_them_is_priced() -> None:
    answer = simulator.estimate("mistral-7b", "dgx-h100", price=2.0)
    run = answer.run
    assert (run.of, run.tokens) == ("billion tokens", pytest.approx(1e9))
    assert run.time_s == pytest.approx(1e9 / answer.tokens_per_s)
    assert run.cost_usd == pytest.approx(2.0 * answer.devices * run.time_s / 3600.0)
    assert any("--tokens 300e9" in line and "billion tokens" in line for line in answer.assumed)
    assert not any("storage" in line for line in answer.warnings)


def test_a_billion_tokens_cost_what_they_cost_in_a_long_run() -> None:
    asked: dict[str, Any] = {"price": 2.0, "devices": 64}
    part = simulator.estimate("mistral-7b", "dgx-h100", **asked).run
    whole = simulator.estimate("mistral-7b", "dgx-h100", **asked, workload={"tokens": 2e12}).run
    assert whole.of == "run"
    for name in ("time_s", "cost_usd", "energy_kwh", "expected_time_s", "expected_cost_usd", "failures"):
        assert 2000 * getattr(part, name) == pytest.approx(getattr(whole, name), rel=1e-3), name
    assert part.goodput == pytest.approx(whole.goodput, rel=1e-3)


@pytest.mark.parametrize("limit", ["deadline", "budget"])
def test_limits_need_the_length_of_the_run(limit: str) -> None:
    value = {"deadline": "30 days", "budget": "$10k"}[limit]
    for ask in (
        lambda **asked: simulator.search("mistral-7b", "dgx-h100", price=2.0, **asked),
        lambda **asked: simulator.rent("mistral-7b", systems="dgx-h100", max_devices=8, processes=1, **asked),
    ):
        with pytest.raises(simulator.InputError, match=f"{limit}: nothing says how long the run is; give tokens"):
            ask(**{limit: value})
    outlook = simulator.rent("mistral-7b", systems="dgx-h100", max_devices=8, processes=1)
    assert {option.to_dict()["of"] for option in outlook.options} == {"billion tokens"}


def test_what_does_not_fit_is_not_called_a_plan_that_fits() -> None:
    said = " ".join(simulator.estimate("palm-540b", "rtx-3090").assumed)
    assert "no plan fits with a chance of 80 %; this one needs least memory" in said
    assert "plans that fit" not in said
    assert "the simplest of the fastest plans that fit" in " ".join(simulator.estimate("bert-base", "rtx-3090").assumed)


@pytest.mark.parametrize(("model", "rows", "length"), [("bert-large", 512, 1024), ("gpt2-124m", 1024, 4096)])
def test_a_sequence_beyond_the_position_table_is_refused(model: str, rows: int, length: int) -> None:
    match = f"sequence_length={length} exceeds the {rows} rows of {model}'s position table; shorten it"
    with pytest.raises(simulator.InputError, match=match) as refused:
        simulator.estimate(model, "dgx-a100-640gb", workload={"sequence_length": length})
    assert f"{{base: {model}, position_rows: {length}}}" in str(refused.value)
    longer = {"base": model, "position_rows": length}
    assert simulator.estimate(longer, "dgx-a100-640gb", workload={"sequence_length": length}).step_time_s > 0.0


def test_options_of_unknown_length_are_judged_by_no_limit() -> None:
    outlook = simulator.rent("mistral-7b", systems="dgx-h100", max_devices=8, processes=1)
    assert not outlook.known_length
    assert outlook.within(confidence=0.9).options == outlook.options
    with pytest.raises(simulator.InputError, match="budget: nothing says how long the run is"):
        outlook.within(budget=1e6)
    with pytest.raises(simulator.InputError, match="deadline: nothing says how long the run is"):
        simulator.Outlook.of(outlook.options, deadline="7d")
