"""Searches of runs on pairs and beside a teacher: whole pairs in a micro-batch, and the times that estimates have."""

from __future__ import annotations

from typing import Any

import pytest

import simulator
from hardware.errors import InputError

_WORK = {"sequence_length": 1024, "global_batch": 32}


@pytest.mark.parametrize("work", [{"preference": "dpo"}, {"teacher": "llama-3.1-8b"}], ids=["dpo", "teacher"])
def test_plans_are_priced_as_estimates_price_them(work: dict[str, Any]) -> None:
    how: dict[str, Any] = {"stack": "pytorch-fsdp", "workload": {**_WORK, **work}}
    search = simulator.search("llama-3.2-1b", "dgx-h100", **how, top=5)
    assert ("pairs" in search.rejected) == ("preference" in work)
    for option in search.best:
        assert "preference" not in work or option.plan["micro_batch"] % 2 == 0
        estimate = simulator.estimate("llama-3.2-1b", "dgx-h100", plan=option.plan, **how)
        assert estimate.step_time_s == pytest.approx(option.step_time_s, rel=1e-12)


def test_half_a_pair_is_refused_before_the_search() -> None:
    with pytest.raises(InputError, match="micro_batch=1 holds half a pair of two sequences; valid: even numbers"):
        simulator.search(
            "llama-3.2-1b", "dgx-h100", plan={"micro_batch": 1}, workload={**_WORK, "preference": "reward"}
        )
