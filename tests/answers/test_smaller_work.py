"""What of a fine-tuning run may be smaller where no plan fits."""

from __future__ import annotations

from typing import Any

import simulator
from simulator.answers.smaller_work import smaller_work


def _work(model: str, system: str, devices: int = 1, **work: Any) -> Any:
    return smaller_work(simulator.resolve(model, system, devices=devices, workload=work))


def test_frozen_weights_in_a_few_bits_come_first() -> None:
    """70.6 billion weights take 141 GB in bf16 and 40 GB in 4.5 bits, of which a device has 80."""
    lighter = _work("llama-3.1-70b", "dgx-h100", lora_rank=16)
    assert lighter.changes == {"base_precision": "nf4"}
    assert lighter.fits_probability >= 0.8
    answer = simulator.estimate(
        "llama-3.1-70b", "dgx-h100", devices=1, workload={"lora_rank": 16, "base_precision": "nf4"}
    )
    assert answer.fits_as_wished
    assert lighter.memory_bytes < 80e9


def test_shorter_sequences_are_offered_too() -> None:
    lighter = _work("llama-3.1-8b", "rtx-3090", lora_rank=16, sequence_length=32768)
    assert lighter.changes["sequence_length"] < 32768
    again = {
        "lora_rank": 16,
        **{k: v for k, v in lighter.changes.items() if k in ("sequence_length", "base_precision")},
    }
    assert simulator.estimate("llama-3.1-8b", "rtx-3090", workload=again).fits_as_wished


def test_the_warning_says_so() -> None:
    answer = simulator.estimate("llama-3.1-70b", "dgx-h100", devices=1, workload={"lora_rank": 16})
    assert "no change of the plan alone helps; base_precision=nf4 would make it fit" in answer.warnings[0]


def test_the_data_of_pre_training_is_left_alone() -> None:
    assert _work("llama-3.1-70b", "dgx-h100") is None


def test_nothing_is_offered_where_nothing_helps() -> None:
    assert _work("llama-3.1-405b", "rtx-3090", lora_rank=16) is None
