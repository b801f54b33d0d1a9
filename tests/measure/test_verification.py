"""Verification of whole scenarios: equal where torch counts, and a reason where it does not."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from measure.count.activations import saved_activations
from measure.count.autocast import Autocast
from measure.count.flops import flops
from measure.models import Setting, build, parameters_of, random_batch
from measure.verification import Row, Verification, verify
from measure.verification.kinds import by_kind, kinds, shallow
from measure.verification.rows import Reason, attempt, row
from simulator.formulas import activations, pipeline
from simulator.scenario.scenario import resolve
from simulator.specs.model import Model
from tests.against_torch.cases import BERT, EVERY, GPT, LLAMA, SOME_EXPERTS, T5, name_of, predictions_of, setting_of
from tests.stacks import unrestricted


def verified(model: Any, system: str = "superpod-a100", devices: int = 8, **fields: Any) -> Verification:
    batch = fields.pop("global_batch", 64)
    workload = {"global_batch": batch, **fields.pop("workload", {})}
    return verify(resolve(model, system, devices=devices, workload=workload, **fields))


def differing(verification: Verification) -> list[Row]:
    return [one for one in verification.rows if one.verdict == "differs"]


def reasons(verification: Verification) -> set[str | None]:
    return {one.reason for one in verification.rows if one.verdict == "not counted"}


def quantities(verification: Verification, group: str) -> list[str]:
    return [one.quantity for one in verification.rows if one.group.startswith(group)]


TIED = "torch's pipelines do not add up the gradients of a table that stages share"
PARTS = "each tensor-parallel rank sends its part, as Megatron-LM does; torch has no such thing"
MEGATRON = "megatron-lm-2022"
CASES: list[tuple[Any, str, dict[str, Any]]] = [
    ("bert-base", MEGATRON, {"micro_batch": 4, "sharding": "zero1", "recompute": "none"}),
    ("bert-large", MEGATRON, {"tp": 2, "micro_batch": 2, "sequence_parallel": True, "recompute": "full"}),
    ("bert-large", "pytorch-fsdp", {"micro_batch": 2, "sharding": "zero3", "recompute": "full"}),
    ("bert-large", "pytorch-fsdp", {"micro_batch": 2, "sharding": "zero2"}),
    ("gpt2-355m", MEGATRON, {"tp": 2, "pp": 2, "micro_batch": 1, "sequence_parallel": False}),
    ("gpt2-355m", MEGATRON, {"pp": 4, "virtual_stages": 2, "micro_batch": 1, "sharding": "zero1"}),
    (LLAMA, "megatron-lm", {"tp": 4, "micro_batch": 2, "recompute": "selective"}),
    (LLAMA, "pytorch-fsdp", {"sharding": "hybrid", "sharding_group": 4, "micro_batch": 4, "recompute": "full"}),
    ("llama-3-8b", "megatron-lm", {"tp": 2, "pp": 2, "micro_batch": 1, "schedule": "zero-bubble"}),
    ("palm-8b", "megatron-lm", {"tp": 8, "micro_batch": 1, "recompute": "selective"}),
    ("palm-8b", "jax-xla-gpu", {"tp": 2, "micro_batch": 1, "recompute": "full", "sequence_parallel": True}),
    (GPT, "jax-xla-gpu", {"tp": 2, "micro_batch": 1, "recompute": "full", "sequence_parallel": True}),
    (T5, MEGATRON, {"tp": 2, "micro_batch": 4, "optimizer": "sgd", "schedule": "gpipe"}),
]


@pytest.mark.parametrize(("model", "stack", "plan"), CASES, ids=lambda value: getattr(value, "id", None))
def test_all_that_is_counted_is_equal(model: Any, stack: str, plan: dict[str, Any]) -> None:
    verification = verified(model, stack=unrestricted(stack), plan=plan)
    assert not differing(verification)
    assert reasons(verification) <= {TIED, PARTS}
    assert verification.equal
    assert verification.number("equal") >= 11


@pytest.mark.parametrize("model", EVERY, ids=name_of)
def test_every_kind_of_model_on_one_device(model: Model) -> None:
    verification = verified(model, devices=1, global_batch=8, stack=MEGATRON, plan={"micro_batch": 4})
    assert not differing(verification)
    # Layers whose kinds a shallow module does not tell apart are said not to be counted.
    untold = {"llama-4": "alone normalise heads", "umt5": "tables of positions"}
    assert all(untold.get(model.id, "nothing") in str(reason) for reason in reasons(verification))


@pytest.mark.parametrize("lengths", [[32, 20, 12], 16, [64]], ids=str)
@pytest.mark.parametrize("model", [LLAMA, GPT], ids=name_of)
def test_packed_documents_are_equal(model: Model, lengths: Any) -> None:
    for attention in ("fused", "unfused"):
        plan = {"micro_batch": 4, "attention": attention, "tp": 2}
        packed = verified(
            model, devices=2, global_batch=8, stack="megatron-lm", plan=plan, workload={"document_lengths": lengths}
        )
        whole = verified(model, devices=2, global_batch=8, stack="megatron-lm", plan=plan)
        assert not differing(packed)
        assert packed.number("not counted") == whole.number("not counted")


@pytest.mark.parametrize(
    "workload", [{"document_lengths": [32, 20]}, {"document_lengths": 20, "document_deviation": 5}], ids=str
)
def test_documents_that_do_not_fill_a_sequence_are_not_counted(workload: dict[str, Any]) -> None:
    verification = verified(
        LLAMA, devices=1, global_batch=8, stack="megatron-lm", plan={"micro_batch": 4}, workload=workload
    )
    assert not differing(verification)
    assert any("lengths that make up 64 tokens" in (reason or "") for reason in reasons(verification))


def test_large_models_take_seconds() -> None:
    gpt = verified(
        "gpt3-175b", devices=1024, global_batch=1536, stack=MEGATRON, plan={"tp": 8, "pp": 8, "micro_batch": 1}
    )
    palm = verified("palm-540b", "palm-2pod", 4096, global_batch=2048, plan={"tp": 8, "optimizer": "adamw"})
    assert not differing(gpt) + differing(palm)
    assert gpt.number("not counted") == 1
    assert palm.number("not counted") == 0
    assert max(gpt.time_s, palm.time_s) < 30.0


def test_groups_follow_the_plan() -> None:
    alone = verified("bert-base", devices=1, stack=MEGATRON, plan={"micro_batch": 4})
    assert not [one for one in alone.rows if one.group.startswith(("tensor", "replicas", "pipeline", "sent"))]
    split = verified("bert-base", stack=MEGATRON, plan={"tp": 2, "pp": 2, "micro_batch": 4, "sequence_parallel": True})
    assert quantities(split, "tensor parallelism") == [
        f"{kind}{unit}" for kind in ("all-reduce", "all-gather", "reduce-scatter") for unit in (" messages", "")
    ]
    assert quantities(split, "replicas") == ["gradients, reduced"]
    assert {"held by the first stage", "held by the last stage"} <= {one.group for one in split.rows}
    assert "in flight, stage 2 of 2" in quantities(split, "pipeline")


@pytest.mark.parametrize("model", [*EVERY[:4], T5, SOME_EXPERTS], ids=name_of)
def test_layers_times_their_number_are_the_whole_model(model: Model) -> None:
    deeper = model.model_copy(update={"layers": 6} | ({"decoder_layers": 3} if model.decoder_layers else {}))
    setting = setting_of(model)

    def counted(one: Model) -> Counter[str]:
        module = build(one, setting)
        batch = random_batch(one, setting, 4, predictions=predictions_of(one, setting))
        kept = saved_activations(lambda: module.loss(batch), module).bytes
        return Counter(kept=kept, flops=flops(lambda: module.loss(batch)).total, held=parameters_of([module]))

    parts = by_kind(deeper, counted)
    assert parts.together() == counted(deeper)
    assert sum(kind.number for kind in kinds(deeper)) == deeper.all_layers
    assert parts.together(tuple(1 for _ in parts.numbers)) == counted(shallow(deeper))


def test_a_wrong_formula_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    right = activations.attention_matrix

    def wrong(*args: Any, **keywords: Any) -> Any:
        return 2.0 * np.asarray(right(*args, **keywords))

    monkeypatch.setattr(activations, "attention_matrix", wrong)
    verification = verified("bert-base", stack=MEGATRON, plan={"micro_batch": 4, "recompute": "none"})
    assert [one.quantity for one in differing(verification)] == ["saved by a layer"]
    assert differing(verification)[0].error == pytest.approx(0.45, abs=0.1)
    assert not verification.equal


def test_a_wrong_schedule_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "idle_share", lambda virtual_stages, **_: 2 / virtual_stages)
    verification = verified("bert-base", stack=MEGATRON, plan={"pp": 4, "micro_batch": 1})
    assert [one.quantity for one in differing(verification)] == ["idle passes, 1F1B"]


def test_experts_on_one_device_and_on_several() -> None:
    alone = {"micro_batch": 1, "offload_optimizer": False}
    one = verified("mixtral-8x7b", stack="pytorch-fsdp", plan=alone, workload={"sequence_length": 512})
    assert not differing(one)
    assert not reasons(one)
    several = verified(
        "mixtral-8x7b", stack="megatron-lm", plan={"ep": 8, "micro_batch": 1}, workload={"sequence_length": 512}
    )
    assert not differing(several)
    assert reasons(several) == {"experts on several devices are not built"}
    counted = [each for each in several.rows if each.group.startswith("one micro-batch")]
    assert all(each.verdict == "equal" and "evenly used" in (each.note or "") for each in counted)
    assert "all-to-all of experts" in quantities(several, "sent in a step")


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"plan": {"tp": 2, "micro_batch": 1}, "model": "mixtral-8x7b"}, "experts are built only without tensor"),
        ({"plan": {"cp": 2, "micro_batch": 1}}, "context parallelism is not built"),
        ({"stack": "mlperf-nvidia", "workload": {"effective_tokens": 300}}, "the stack takes padding out"),
        ({"stack": "mlperf-nvidia"}, "torch has no lamb"),
        ({"plan": {"offload_optimizer": True}}, "they are on the host"),
        ({"stack": "nvidia-bert"}, "writes its activation function out in single operations"),
        ({"stack": "deepspeed-liger"}, "computes its loss piece by piece"),
        ({"plan": {"pp": 2, "micro_batch": 1}, "stack": "nanotron"}, "cuts stages by arithmetic"),
        ({"plan": {"pp": 5, "dp": 2, "micro_batch": 1}, "devices": 10}, "gives the stage 4.5 layers"),
        (
            {
                "plan": {"tp": 12, "micro_batch": 1},
                "model": "palm-540b",
                "devices": 12,
                "system": "palm-2pod",
                "stack": "pathways",
            },
            "torch cuts 2,048 tokens among 12 ranks into equal parts only",
        ),
    ],
)
def test_what_is_not_counted_says_why(changes: dict[str, Any], fragment: str) -> None:
    arguments: dict[str, Any] = {"model": "bert-large", "stack": None, "plan": {"micro_batch": 1}, **changes}
    arguments["stack"] = arguments["stack"] or "megatron-lm"
    verification = verified(arguments.pop("model"), **arguments)
    assert any(fragment in (reason or "") for reason in reasons(verification)), reasons(verification)
    assert verification.number("equal") >= 2


def test_uneven_shards_are_told() -> None:
    verification = verified("bert-base", stack="pytorch-fsdp", plan={"micro_batch": 1, "sharding": "zero3"})
    (gathered,) = [one for one in verification.rows if (one.quantity, one.unit) == ("all-gather", "B")]
    assert gathered.verdict == "equal"
    assert "more, to cut tensors equally" in (gathered.note or "")


def test_plain_data() -> None:
    verification = verified("bert-base", devices=1, stack="mlperf-nvidia", plan={"micro_batch": 4})
    data = verification.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == json.loads(json.dumps(data))
    assert data["numbers"] == {"equal": verification.number("equal"), "differs": 0, "not counted": 1}
    assert data["equal"] is True
    first = data["rows"][0]
    assert (first["quantity"], first["unit"], first["verdict"], first["error"]) == (
        "of the model",
        "parameter",
        "equal",
        0.0,
    )
    assert first["formula"] == first["torch"]
    assert isinstance(first["torch"], int)
    assert data["plan"]["micro_batch"] == 4


def test_verdicts() -> None:
    assert Row("", "", "B", 1e15, 1e15 + 1).verdict == "equal"
    assert Row("", "", "B", 1e9, 1e9 + 1).verdict == "differs"
    assert Row("", "", "B", 0.0, 0.0).verdict == "equal"
    assert Row("", "", "B", 1.0, 0.0).error is None
    assert Row("", "", "B", 1.0, 0.0).verdict == "differs"
    assert Row("", "", "B", 1.0, None, reason="why").verdict == "not counted"


def test_attempts() -> None:
    def refuse() -> int:
        raise ValueError("cannot be built")

    assert attempt(lambda: 3) == 3
    assert attempt(refuse) == Reason("cannot be built")
    assert attempt(refuse, None, "known", "later") == Reason("known")
    assert row("", "", "B", 3.0, attempt(lambda: 3), float).verdict == "equal"
    assert row("", "", "B", 3.0, Reason("known"), float).reason == "known"


def test_threads_are_left_as_they_were() -> None:
    before = torch.get_num_threads()
    verified("bert-base", devices=1, stack=MEGATRON, plan={"micro_batch": 1})
    assert torch.get_num_threads() == before


# automatic casts


def test_casts_of_products_and_normalisations() -> None:
    linear, norm = torch.nn.Linear(8, 8, device="meta"), torch.nn.LayerNorm(8, device="meta")
    with Autocast(torch.bfloat16) as casts:
        hidden = norm(torch.empty(2, 8, device="meta"))
        assert hidden.dtype == torch.float32
        first, second = linear(hidden), linear(hidden)
        assert first.dtype == second.dtype == torch.bfloat16
        assert (first + hidden).dtype == torch.float32
        assert torch.softmax(first, -1).dtype == torch.float32
        assert norm(first).dtype == torch.float32
        assert torch.bmm(hidden[None], hidden.t()[None]).dtype == torch.bfloat16
        assert len(casts.copies) == 2
    assert linear(hidden).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("model", [BERT, GPT, LLAMA], ids=name_of)
def test_casts_keep_what_those_of_a_gpu_keep(model: Model) -> None:
    def kept(setting: Setting, casts: Any) -> int:
        module = build(model, setting)
        batch = random_batch(model, setting, 2, predictions=predictions_of(model, setting))

        def run() -> torch.Tensor:
            with casts:
                return module.loss(batch)

        return saved_activations(run, module, getattr(casts, "copies", None)).bytes

    meta, real = (setting_of(model, device=device, dtype=torch.float32) for device in ("meta", "cuda"))
    casts = Autocast(torch.bfloat16)
    pretended = kept(meta, casts)
    weights = sum(copy.untyped_storage().nbytes() for copy in casts.copies.values())
    assert 0 <= kept(real, torch.autocast("cuda", torch.bfloat16)) - pretended <= weights


def test_a_layer_of_casts_is_equal() -> None:
    verification = verified("bert-base", devices=8, stack="pytorch-ddp", plan={"micro_batch": 4})
    (layer,) = [one for one in verification.rows if one.quantity == "saved by a layer"]
    assert layer.verdict == "equal"
    assert layer.note == "cast as torch.autocast does on a GPU"
