"""The attention kernel: that of today's software unless the plan says, and what it saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import simulator
from simulator.specs.loading import load_stack, names

GIB = 2.0**30
FINE_TUNING: dict[str, Any] = {
    "model": "bert-large",
    "system": "rtx-3090",
    "devices": 1,
    "stack": "huggingface",
    "workload": {"sequence_length": 384, "global_batch": 16},
}
"""BERT-large at 384 tokens, 16 sequences at once."""
_PLAN = {"micro_batch": 16, "recompute": "none"}
_BEFORE = {name: f"{name}-2022" for name in ("huggingface", "pytorch-ddp", "pytorch-eager", "deepspeed")}
_TODAY = ("huggingface", "pytorch-ddp", "pytorch-eager", "deepspeed", "deepspeed-liger")


def _memory(**changes: Any) -> float:
    """Memory of fine-tuning BERT [B]."""
    plan = {**_PLAN, **changes.pop("plan", {})}
    return simulator.estimate(**{**FINE_TUNING, **changes}, plan=plan).memory_bytes["total"]


def test_fine_tuning_of_bert_takes_what_it_takes_today() -> None:
    """Of 24 GiB of an RTX 3090 some 14 are needed: scores are not written to memory."""
    assert _memory() / GIB == pytest.approx(14.4, abs=0.5)
    assert _memory(plan={"attention": "unfused"}) / GIB == pytest.approx(20.9, abs=0.5)
    assert _memory(plan={"attention": "fused"}) == _memory()


def test_unfused_attention_keeps_the_matrices_of_scores() -> None:
    """Of each layer the scores that softmax returned in fp32, those after dropout in 16 bits, and the mask of dropout,
    instead of one statistic a query; a tenth more is what this allocator reserves."""
    scores, queries, layers = 16 * 16 * 384**2, 16 * 16 * 384, 24
    kept = layers * (scores * (4 + 2 + 1) - 4 * queries)
    difference = _memory(plan={"attention": "unfused"}) - _memory()
    assert difference == pytest.approx(1.1 * kept, rel=0.03)


@pytest.mark.parametrize("stack", ["huggingface", "pytorch-ddp"])
def test_a_long_run_keeps_nothing_quadratic(stack: str) -> None:
    """16k tokens keep twice of what 8k keep. Where scores are written they keep 6 bytes of each besides, 1.5 TiB: what
    softmax returned in fp32 and its cast to 16 bits; a statistic of 4 bytes a query is not kept then."""

    def kept(tokens: int, attention: str | None) -> float:
        answer = simulator.estimate(
            "llama-3-8b",
            "dgx-h100",
            devices=8,
            stack=stack,
            plan={"dp": 8, "micro_batch": 1, "recompute": "none", **({"attention": attention} if attention else {})},
            workload={"sequence_length": tokens, "global_batch": 8},
        )
        return answer.memory_bytes["activations"]

    assert kept(16384, None) / kept(8192, None) == pytest.approx(2.0, rel=1e-6)
    queries = 32 * 32 * 16384
    assert kept(16384, "unfused") - kept(16384, None) == pytest.approx(queries * (6 * 16384 - 4), rel=1e-9)


@pytest.mark.parametrize("name", _TODAY)
def test_today_s_software_fuses_attention_and_computes_in_bf16_where_it_can(name: str) -> None:
    for system, precision in (("dgx-a100-640gb", "bf16"), ("rtx-3090", "bf16"), ("dgx-1-v100", "fp16"), ("t4", "fp16")):
        answer = simulator.estimate("bert-base", system, devices=1, stack=name)
        assert (answer.plan["attention"], answer.plan["precision"]) == ("fused", precision)


@pytest.mark.parametrize(("today", "before"), _BEFORE.items())
def test_the_software_of_2022_is_there_and_shares_what_was_fitted(today: str, before: str) -> None:
    new, old = load_stack(today), load_stack(before)
    assert (old.attention, old.defaults.precision) == ("unfused", "fp16")
    assert old.timed_as == today
    assert (old.family, old.platform, old.launch) == (new.family, new.platform, new.launch)
    answer = simulator.estimate("bert-base", "dgx-a100-640gb", stack=before)
    assert (answer.plan["attention"], answer.plan["precision"]) == ("unfused", "fp16")


def test_families_without_a_fused_kernel_stay_unfused() -> None:
    """transformers has no SDPA for BLOOM, MPT and gpt-oss."""
    for model, attention in (("bloom-7b1", "unfused"), ("mpt-7b", "unfused"), ("llama-2-7b", "fused")):
        for stack in ("huggingface", "deepspeed"):
            assert simulator.estimate(model, "dgx-h100", stack=stack).plan["attention"] == attention
    asked = simulator.estimate("bloom-7b1", "dgx-h100", stack="huggingface", plan={"attention": "fused"})
    assert asked.plan["attention"] == "fused"
    assert simulator.estimate("bloom-7b1", "dgx-h100", stack="pytorch-ddp").plan["attention"] == "fused"


def test_families_that_a_stack_names_are_some_that_there_are() -> None:
    families = {simulator.load_model(name).family for name in names("models")}
    for name in names("stacks"):
        assert set(load_stack(name).unfused_families) <= families, name


def test_the_kernel_is_said_and_kept_by_a_search(tmp_path: Path) -> None:
    answer = simulator.estimate(**FINE_TUNING)
    assert any("attention=fused" in line and "as huggingface does" in line for line in answer.assumed)
    file = tmp_path / "run.yaml"
    file.write_text("model: bert-base\nsystem: rtx-3090\nplan: {attention: unfused}\n")
    assert simulator.from_file(file).plan.attention == "unfused"
    asked: dict[str, Any] = {"plan": {"attention": "unfused"}, "stack": "pytorch-ddp", "devices": 2, "top": 3}
    search = simulator.search("bert-base", "workstation-rtx-3090", **asked)
    assert {one.plan["attention"] for one in search.best} == {"unfused"}
    fused = simulator.search("bert-base", "workstation-rtx-3090", **{**asked, "plan": None})
    assert fused.best[0].step_time_s < search.best[0].step_time_s


def test_it_can_be_varied_and_follows_stack_and_model() -> None:
    both = simulator.whatif(**FINE_TUNING, plan=_PLAN, vary=["plan.attention=fused,unfused"])
    fused, unfused = (each.estimate for each in both.variations)
    assert fused is not None
    assert unfused is not None
    assert fused.memory_bytes["total"] == _memory()
    assert unfused.memory_bytes["total"] == _memory(plan={"attention": "unfused"})
    changed = simulator.whatif(**FINE_TUNING, plan=_PLAN, vary=["stack=huggingface-2022"]).variations[0].estimate
    assert changed is not None
    assert changed.plan["attention"] == "unfused"
    kept = simulator.whatif(**FINE_TUNING, plan={**_PLAN, "attention": "fused"}, vary=["stack=huggingface-2022"])
    assert kept.variations[0].estimate is not None
    assert kept.variations[0].estimate.plan["attention"] == "fused"


def test_fusing_it_is_an_improvement_where_the_software_can() -> None:
    scenario = simulator.resolve(**FINE_TUNING, plan={**_PLAN, "attention": "unfused"})
    assert {"attention": "fused"} in [dict(each.changes) for each in simulator.improvements(scenario, top=20)]
    bloom = simulator.resolve("bloom-7b1", "dgx-h100", stack="huggingface")
    assert all("attention" not in each.changes for each in simulator.improvements(bloom, top=20))


def test_another_word_is_refused() -> None:
    with pytest.raises(simulator.InputError, match="attention='flash': valid: 'unfused' or 'fused'"):
        simulator.estimate("bert-base", "rtx-3090", plan={"attention": "flash"})
