from __future__ import annotations

from typing import Any

import pytest

from hardware.errors import InputError
from hardware.reading import build
from simulator.specs.loading import load_model
from simulator.specs.workload import Workload


def test_everything_comes_from_the_published_training() -> None:
    work = Workload().resolve(load_model("gpt3-175b"))
    assert (work.sequence_length, work.global_batch, work.tokens, work.steps) == (2048, 1536, 300e9, None)
    assert work.tokens_per_step == 2048 * 1536
    assert work.total_steps == 95_368  # 300e9 / 3145728 = 95367.4
    assert work.predictions is None
    assert work.target_length is None
    assert work.effective_tokens == 2048


def test_what_is_given_stays() -> None:
    sheet = Workload(sequence_length=128, global_batch=64, steps=10, effective_tokens=100.5)
    work = sheet.resolve(load_model("bert-large"))
    assert (work.sequence_length, work.global_batch, work.steps, work.tokens) == (128, 64, 10, None)
    assert work.effective_tokens == 100.5
    assert work.total_steps == 10
    assert work.resolve(load_model("bert-large")) == work


def test_tokens_replace_the_published_steps() -> None:
    work = Workload(tokens=1e9).resolve(load_model("bert-base"))
    assert (work.tokens, work.steps) == (1e9, None)
    assert work.total_steps == 7630  # 1e9 / (512 * 256) = 7629.4


@pytest.mark.parametrize(("sequence", "predictions"), [(512, 77), (128, 20), (100, 15), (20, 3), (1, 1)])
def test_masked_positions_round_up(sequence: int, predictions: int) -> None:
    assert Workload(sequence_length=sequence).resolve(load_model("bert-base")).predictions == predictions


def test_given_predictions_stay() -> None:
    assert Workload(predictions=76).resolve(load_model("bert-base")).predictions == 76


def test_targets_count_in_a_step() -> None:
    t5 = load_model("t5-small")
    work = Workload().resolve(t5)
    assert work.target_length == 114
    assert work.tokens_per_step == 2048 * (512 + 114)
    assert Workload(target_length=7).resolve(t5).target_length == 7
    untold = load_model({"base": "t5-small", "training": {"sequence_length": 64, "global_batch": 2}})
    assert Workload().resolve(untold).target_length == 64
    assert Workload().resolve(untold).total_steps == 1e9 / (2 * 128)  # of a billion tokens


def test_effective_tokens_do_not_exceed_the_sequence() -> None:
    assert Workload(effective_tokens=400).resolve(load_model("bert-base")).effective_tokens == 400
    short = load_model({"base": "bert-base", "training": {"sequence_length": 128, "global_batch": 1}})
    with pytest.raises(InputError, match="effective_tokens=400 exceeds sequence_length=128"):
        Workload(effective_tokens=400).resolve(short)


def test_columns_hold_zero_for_what_does_not_apply() -> None:
    columns = Workload().resolve(load_model("palm-540b")).columns()
    assert (columns.sequence_length, columns.target_length, columns.predictions) == (2048.0, 0.0, 0.0)
    assert columns.effective_tokens == 2048.0
    assert columns.global_batch == 2048.0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tokens": 1e9, "steps": 10}, ["tokens and steps"]),
        ({"effective_tokens": 513, "sequence_length": 512}, ["effective_tokens=513", "sequence_length=512"]),
        ({"sequence_length": 0}, ["sequence_length=0", "at least 1"]),
        ({"global_batch": -4}, ["global_batch=-4", "at least 1"]),
        ({"global_batch": 2.5}, ["global_batch=2.5"]),
        ({"tokens": float("inf")}, ["tokens=inf", "finite"]),
        ({"tokens": float("nan")}, ["tokens"]),
        ({"batch": 4}, ["unknown key 'batch'", "global_batch"]),
    ],
)
def test_wrong_workloads_get_one_sentence(fields: dict[str, object], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        build(Workload, fields)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_routing_belongs_to_experts() -> None:
    mixtral, dense = load_model("mixtral-8x7b"), load_model("bert-base")
    assert Workload().resolve(dense).expert_imbalance is None
    assert Workload().resolve(mixtral).expert_imbalance == 1.3  # as under an auxiliary loss
    assert Workload().resolve(load_model("qwen3-30b-a3b")).expert_imbalance == 1.59
    assert Workload().resolve(load_model("moonlight-16b-a3b")).expert_imbalance == 1.04  # a bias per expert
    assert Workload(expert_imbalance=1.0).resolve(mixtral).expert_imbalance == 1.0
    assert Workload().resolve(mixtral).columns().capacity_factor == -1.0  # the stack's
    assert Workload(capacity_factor=0.0).resolve(mixtral).columns().capacity_factor == 0.0
    assert Workload().resolve(dense).columns().expert_imbalance == 1.0
    for name in ("expert_imbalance", "capacity_factor"):
        with pytest.raises(InputError, match=f"{name}=2 belongs to a mixture of experts; bert-base is dense"):
            Workload(**{name: 2.0}).resolve(dense)
        with pytest.raises(InputError, match=f"{name}=4.5 exceeds 4, where every token goes to the same 2 of 8"):
            Workload(**{name: 4.5}).resolve(mixtral)
        assert getattr(Workload(**{name: 4.0}).resolve(mixtral), name) == 4.0


def test_documents_as_one_number_a_list_and_a_text() -> None:
    for told in (700, 700.0, "700", [700]):
        assert build(Workload, {"document_lengths": told}).document_lengths == (700.0,)
    assert build(Workload, {"document_lengths": "2k, 1024"}).document_lengths == (2000.0, 1024.0)
    assert Workload().resolve(load_model("gpt3-175b")).document_lengths is None
    assert Workload().resolve(load_model("gpt3-175b")).columns().documents == ()
    columns = Workload(document_lengths=(512, 512, 1024)).resolve(load_model("gpt3-175b")).columns()
    assert [(each.length, each.share) for each in columns.documents] == [(512.0, 0.5), (1024.0, 0.5)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"document_lengths": []}, ["0 lengths", "1 to 100"]),
        ({"document_lengths": [1] * 101}, ["101 lengths", "document_deviation"]),
        ({"document_lengths": "long"}, ["'long' are no lengths", "700"]),
        ({"document_lengths": [0.5]}, ["document_lengths.0=0.5", "at least 1"]),
        ({"document_lengths": True}, ["document_lengths"]),
        ({"document_lengths": float("nan")}, ["document_lengths"]),
        ({"document_lengths": 700, "document_deviation": -1}, ["document_deviation=-1", "greater than 0"]),
    ],
)
def test_wrong_documents_get_one_sentence(fields: dict[str, object], words: list[str]) -> None:
    test_wrong_workloads_get_one_sentence(fields, words)


@pytest.mark.parametrize(
    ("model", "fields", "words"),
    [
        ("gpt3-175b", {"document_deviation": 5}, "document_deviation=5 needs the mean length of documents"),
        (
            "gpt3-175b",
            {"document_lengths": (3, 4), "document_deviation": 5},
            "goes with one mean length, not with a list",
        ),
        ("t5-small", {"document_lengths": (3,)}, "t5-small, a model with an encoder and a decoder, cannot"),
        ("deberta-v3-base", {"document_lengths": (3, 4)}, "document_lengths=3,4: packed documents of deberta-v3-base"),
        ("gopher-280b", {"document_lengths": (3,)}, "a model with products of relative positions"),
    ],
)
def test_documents_that_nothing_can_be_said_of(model: str, fields: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Workload.model_validate(fields).resolve(load_model(model))


def test_a_reference_is_the_base_of_adapters_and_else_a_copy() -> None:
    llama = load_model("llama-3.2-1b")
    work = Workload(preference="dpo", global_batch=8).resolve(llama)
    assert work.reference == "copy"
    frozen = work.columns().frozen
    assert frozen is not None
    assert (frozen.held, frozen.teaches) == (1.0, 0.0)
    assert work.resolve(llama) == work
    adapted = Workload(preference="dpo", global_batch=8, lora_rank=8).resolve(llama)
    assert adapted.reference == "base"
    assert adapted.columns().frozen is not None
    precomputed = Workload(preference="dpo", global_batch=8, reference="precomputed").resolve(llama)
    assert precomputed.columns().frozen is None
    assert precomputed.columns().sequences == 2.0
    assert Workload().resolve(llama).columns().sequences == 1.0


def test_runs_on_preferences_and_teachers_are_not_as_long_as_pretraining() -> None:
    model = load_model("gpt3-175b")
    assert Workload().resolve(model).says_length
    assert not Workload(preference="dpo").resolve(model).says_length
    assert not Workload(teacher="gpt3-175b").resolve(model).says_length
    assert Workload(preference="dpo", steps=10).resolve(model).says_length


@pytest.mark.parametrize(
    ("model", "fields", "words"),
    [
        ("llama-3.2-1b", {"preference": "dpo", "global_batch": 7}, "global_batch=7 sequences hold half a pair"),
        ("bert-base", {"preference": "dpo"}, "bert-base has objective=mlm: take a causal model"),
        ("bert-base", {"preference": "reward"}, "trains one score a sequence; bert-base has objective=mlm"),
        ("llama-3.2-1b", {"reference": "copy"}, "reference=copy belongs to preference=dpo"),
        ("llama-3.2-1b", {"preference": "reward", "reference": "copy"}, "reference=copy belongs to preference=dpo"),
        ("llama-3.2-1b", {"preference": "dpo", "reference": "base"}, "there are none; train=lora"),
        ("llama-3.2-1b", {"preference": "dpo", "teacher": "llama-3.1-8b"}, "belongs to a run without preference"),
        ("llama-3.2-1b", {"keeps_teacher_logits": False}, "keeps_teacher_logits=no belongs to a teacher"),
        ("llama-3.2-1b", {"teacher": "mistral-7b"}, "mistral-7b has 32,000 words and llama-3.2-1b has 128,256"),
        ("llama-3.2-1b", {"teacher": "bert-base"}, "teacher=bert-base has objective=mlm"),
        ("llama-3.2-1b", {"teacher": "lama-3.1-8b"}, "unknown model 'lama-3.1-8b'; did you mean"),
        ("llama-3.2-1b", {"teacher": {"base": "llama-3.1-8b", "layers": 0}}, "layers=0"),
    ],
)
def test_preferences_and_teachers_that_cannot_be(model: str, fields: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Workload.model_validate(fields).resolve(load_model(model))


# Fine-tuning


@pytest.mark.parametrize(
    ("model", "work", "length", "batch"),
    [
        ("llama-3.1-8b", {"lora_rank": 16}, 2048, 64),
        ("llama-3.1-8b", {"preference": "dpo"}, 2048, 128),  # two sequences a pair
        ("bert-large", {"lora_rank": 8}, 512, 64),  # no longer than it was trained for
        ("llama-3.1-8b", {"lora_rank": 16, "sequence_length": 8192, "global_batch": 16}, 8192, 16),
        ("llama-3.1-8b", {}, 8192, 2048),
    ],
)
def test_fine_tuning_has_the_batch_of_recipes(model: str, work: dict[str, Any], length: int, batch: int) -> None:
    resolved = Workload(**work).resolve(load_model(model))
    assert (resolved.sequence_length, resolved.global_batch) == (length, batch)
