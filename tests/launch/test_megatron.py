"""Megatron-LM's scripts: what is written is read back as the same plan, workload and model."""

from __future__ import annotations

import dataclasses

import pytest

from hardware.errors import InputError
from simulator.launch import saying
from simulator.launch.megatron import reading, writing
from simulator.launch.megatron.model_options import model_options
from simulator.launch.shell.options import training_of
from simulator.launch.tables import options_of
from simulator.scenario.scenario import parameters_of, resolve
from simulator.specs.loading import load_model
from simulator.specs.plan import Plan
from tests.launch.drawing import compared, read_back, scenarios
from tests.thorough import cases

_MODELS = ("gpt3-175b", "llama-3-8b", "mixtral-8x7b", "gpt2-124m", "qwen3-30b-a3b", "bert-large", "mistral-7b")


@pytest.mark.parametrize("seed", range(5))
def test_what_is_written_is_read_back(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saying, "notes_of", _without_estimate)
    for scenario in scenarios("megatron-lm", _MODELS, cases(usual=25, thorough=100), seed=seed):
        text = writing.write(scenario).text
        again = read_back(reading.read(text, "run.sh"), scenario)
        assert compared(again.plan) == compared(scenario.plan), text
        assert again.devices == scenario.devices
        assert again.workload.model_dump() == scenario.workload.model_dump()


def _without_estimate(scenario: object, framework: str, release: str, unsaid: list[str]) -> object:
    from simulator.launch.saying import LaunchNotes

    return LaunchNotes((), tuple(unsaid))


@pytest.mark.parametrize(
    "name", ["gpt3-175b", "llama-3-8b", "llama-3-70b", "mixtral-8x7b", "gpt2-355m", "mistral-7b", "qwen3-8b"]
)
def test_the_model_is_read_back_whole(name: str) -> None:
    scenario = resolve(name, "dgx-h100", devices=64, stack="megatron-lm", plan={"tp": 8, "pp": 2, "micro_batch": 1})
    again = read_back(reading.read(writing.write(scenario).text, "run.sh"), scenario)
    assert again.model.columns() == scenario.model.columns()
    assert parameters_of(again.model, again.workload) == parameters_of(scenario.model, scenario.workload)


@pytest.mark.parametrize("name", ["bert-large", "gpt3-175b", "mixtral-8x7b", "llama-3-8b"])
def test_every_option_is_one_of_megatron(name: str) -> None:
    scenario = resolve(
        name, "dgx-h100", devices=64, stack="megatron-lm", plan={"recompute": "full", "precision": "fp8"}
    )
    started = training_of(writing.write(scenario).text, "run.sh", reading.MARKS)
    options = {word.text for word in started.options if word.text.startswith("--")}
    assert len(options) > 20
    assert options <= set(options_of("megatron-lm").known)


def test_modules_that_predict_further_tokens_are_written_and_read() -> None:
    scenario = resolve(
        {"base": "llama-3-8b", "multi_token_modules": 2},
        "dgx-h100",
        devices=64,
        stack="megatron-lm",
        plan={"tp": 8, "pp": 2, "micro_batch": 1},
    )
    assert scenario.workload.multi_token
    text = writing.write(scenario).text
    assert "--mtp-num-layers 2" in text
    again = read_back(reading.read(text, "run.sh"), scenario)
    assert again.model.multi_token_modules == 2
    assert again.workload.multi_token
    plain = scenario.workload.model_copy(update={"multi_token": False})
    assert "--mtp" not in writing.write(dataclasses.replace(scenario, workload=plain)).text


def test_an_option_that_matters_is_refused_with_its_line() -> None:
    text = _SMALL + "    --mtp-standalone\n"
    with pytest.raises(InputError, match=r"run\.args:12: --mtp-standalone: may change time or memory"):
        reading.read(text, "run.args")
    with pytest.raises(
        InputError, match=r"--tensor-model-parallel-sise='2': the framework has no such setting; did you"
    ):
        reading.read(_SMALL + "--tensor-model-parallel-sise 2", "run.args")


_SMALL = """--num-layers 24
--hidden-size 1024 # as BERT
--num-attention-heads 16
--seq-length 1024
--max-position-embeddings 1024
--micro-batch-size 4
--global-batch-size 32
--vocab-size 50257
--tensor-model-parallel-size 2
--lr 1e-4 --clip-grad 1.0
--bf16
"""


def test_a_list_of_arguments_is_read() -> None:
    launched = reading.read(_SMALL, "run.args")
    assert launched.devices is None
    assert launched.plan["tp"] == 2
    assert launched.plan["precision"] == "bf16"
    assert launched.plan["sharding"] == "none"
    assert launched.ignored == ("--lr=1e-4 (line 10)", "--clip-grad=1.0 (line 10)")
    assert "--hidden-size=1024 (line 2)" in launched.read


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ("", {"gradients_in_fp32": True}),
        ("--grad-reduce-in-bf16", {"gradients_in_fp32": False}),
        ("--use-distributed-optimizer", {"sharding": "zero1"}),
        ("--use-megatron-fsdp --data-parallel-sharding-strategy optim_grads", {"sharding": "zero2"}),
        ("--use-torch-fsdp2", {"sharding": "zero3"}),
        ("--recompute-activations", {"recompute": "selective"}),
        ("--recompute-granularity full --recompute-method uniform --recompute-num-layers 1", {"recompute": "full"}),
        (
            "--recompute-granularity full --recompute-method block --recompute-num-layers 3",
            {"recompute": "full", "recompute_method": "block", "recompute_layers": 3},
        ),
        (
            "--recompute-granularity full --recompute-method uniform --recompute-num-layers 4",
            {"recompute": "full", "recompute_method": "uniform", "recompute_layers": 4},
        ),
        (
            "--recompute-granularity selective --recompute-modules mlp core_attn",
            {"recompute": "selective", "recompute_modules": ("mlp", "core_attn")},
        ),
        ("--recompute-granularity selective --recompute-modules core_attn", {"recompute": "selective"}),
        ("--pipeline-model-parallel-size 4 --num-layers-per-virtual-pipeline-stage 2", {"virtual_stages": 3}),
        ("--attention-backend unfused", {"attention": "unfused"}),
        ("--sequence-parallel", {"sequence_parallel": True}),
        ("--fp8-format hybrid --first-last-layers-bf16", {"precision": "fp8", "layers_in_16_bits": 2}),
        ("--optimizer sgd", {"optimizer": "sgd"}),
        ("--optimizer sgd --sgd-momentum 0", {"optimizer": "sgd-without-momentum"}),
        ("--optimizer lion --lion-beta1 0.9", {"optimizer": "lion"}),
        (
            "--optimizer muon --use-distributed-optimizer --muon-momentum 0.95 --muon-num-ns-steps 5",
            {"optimizer": "muon", "sharding": "zero1"},
        ),
        ("--exp-avg-dtype bf16 --exp-avg-sq-dtype bf16", {"optimizer": "adam-bf16"}),
        ("--use-precision-aware-optimizer --exp-avg-dtype fp8 --exp-avg-sq-dtype fp8", {"optimizer": "adam-fp8"}),
    ],
)
def test_options_become_fields(options: str, fields: dict[str, object]) -> None:
    plan = reading.read(_SMALL + options, "run.args").plan
    assert {name: plan[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--recompute-modules mlp mhc --recompute-granularity selective", "names mhc, which is not understood"),
        ("--recompute-granularity full --recompute-method each", "--recompute-method='each': is not understood"),
        ("--fp16", "excludes --bf16"),
        ("--hidden-size many", "--hidden-size='many': must be a whole number"),
        ("--multi-latent-attention", "--multi-latent-attention: may change time or memory"),
        ("--optimizer soap", "--optimizer='soap': is not understood; capsim reads adam, sgd, lion, muon"),
        ("--optimizer muon --muon-tp-mode blockwise", "--muon-tp-mode='blockwise': is not understood"),
        ("--optimizer muon --muon-num-ns-steps 6", "--muon-num-ns-steps='6': is not understood"),
        ("--exp-avg-dtype bf16", "--exp-avg-dtype='bf16': is understood of both moments alike only"),
        ("--exp-avg-dtype bf16 --exp-avg-sq-dtype fp8", "--exp-avg-sq-dtype='fp8': is understood of both moments"),
    ],
)
def test_what_is_not_understood_is_refused(options: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        reading.read(_SMALL + options, "run.args")
    assert message in str(refused.value)
    assert str(refused.value).startswith("run.args:1")


def test_models_that_megatron_lacks_are_refused() -> None:
    lacking = {
        "palm-62b": "block=parallel",
        "t5-base": "encoder-decoder",
        "bloom-7b1": "alibi",
        "deepseek-v3": "latent",
    }
    for name, message in lacking.items():
        scenario = resolve(name, "dgx-h100", devices=8, stack="megatron-lm")
        with pytest.raises(InputError, match=message):
            writing.write(scenario)


def test_the_layers_that_have_experts_are_read_back() -> None:
    scenario = resolve("mixtral-8x7b", "dgx-h100", devices=64, stack="megatron-lm", plan={"ep": 8, "tp": 1, "pp": 1})
    for changes in (
        {"expert_period": 2},
        {"dense_layers_first": 3},
        {"shared_experts": 2, "expert_feed_forward_size": 2048},
    ):
        model = scenario.model.model_copy(update=changes)
        changed = dataclasses.replace(scenario, model=model)
        again = read_back(reading.read(writing.write(changed).text, "run.sh"), changed)
        assert again.model.columns() == model.columns()


def test_what_options_cannot_say_of_a_model_is_listed() -> None:
    scenario = resolve("gemma-2-9b", "dgx-h100", devices=8, stack="megatron-lm", workload={"sequence_length": 4096})
    unsaid = writing.write(scenario).unsaid
    assert {"score_cap=50.0", "logit_cap=30.0"} <= set(unsaid)


@pytest.mark.parametrize(("name", "tensor"), [("gpt2-124m", 8), ("gpt2-124m", 1), ("llama-3-8b", 8), ("bert-large", 4)])
def test_the_table_of_words_is_the_models_in_every_release(name: str, tensor: int) -> None:
    """As NullTokenizer and the padding of core_v0.17.1, which adds a word, and of core_v0.18.0 have it."""
    model = load_model(name)
    options = dict(option for option in model_options(model, Plan(tp=tensor), 128) if len(option) == 2)
    words, rows = int(options["--vocab-size"]), int(options["--padded-vocab-size"])
    assert rows % tensor == 0
    assert model.vocabulary_size <= rows < model.vocabulary_size + tensor
    for more in (0, 1):
        end_of_document = words + more - 1
        assert end_of_document < rows, "an index beyond the table"
    assert words + 1 == model.vocabulary_size


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ("", 50432),  # the next multiple of 128 x 2 after 50257
        ("--make-vocab-size-divisible-by 64", 50304),
        ("--no-pad-vocab-size", 50257),
        ("--padded-vocab-size 51200", 51200),
    ],
)
def test_a_vocabulary_is_padded_as_megatron_pads_it(options: str, rows: int) -> None:
    launched = reading.read(_SMALL + options, "run.args")
    assert isinstance(launched.model, dict)
    assert launched.model["vocabulary_size"] == rows
    assert any(text.startswith(f"vocabulary_size={rows}: ") for text in launched.assumed) == (rows in (50432, 50304))
