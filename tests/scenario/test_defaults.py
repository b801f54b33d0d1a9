"""What is chosen where the user leaves it open."""

from __future__ import annotations

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
