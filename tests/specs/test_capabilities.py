"""Stacks state what their software can run: every file says so, and what it lacks is refused in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import simulator
from hardware.errors import InputError
from hardware.reading import build
from simulator.specs.capabilities.checking import is_offered, refuse_lacking
from simulator.specs.capabilities.refusals import Refusal
from simulator.specs.capabilities.sheet import Capabilities
from simulator.specs.loading import load_model, load_stack, names
from simulator.specs.plan import Plan
from simulator.specs.workload import Workload

_NOT_READ = {
    *("hai-llm", "megascale", "mlperf-nvidia", "mlperf-nvidia-v0.7", "paddle", "composer-0.11"),
    *("tensorflow-1", "tensorflow-1-2019", "tensorflow-2"),
    *("deepspeed-2022", "huggingface-2022", "pytorch-ddp-2022", "pytorch-eager-2022"),
}
"""Stacks whose code nobody has read, at that release at least."""
_DENSE = {"base": "gpt3-175b"}
_GROUPED = {"base": "llama-3-8b"}
_EXPERTS = {"base": "mixtral-8x7b"}


def _plan(stack: str, **fields: Any) -> Plan:
    """A complete plan of a stack."""
    kind = load_stack(stack)
    filled = build(Plan, {"micro_batch": 1, **fields}).with_defaults(kind)
    devices = (fields.get("dp") or 1) * (filled.tp or 1) * (filled.pp or 1) * (filled.cp or 1)
    return filled.with_degrees(devices, usual=kind.offers.schedules[0])


def _refused(stack: str, model: dict[str, Any], batch: int = 64, **fields: Any) -> str:
    """What is said of a plan, or nothing."""
    the_model = load_model(model)
    workload = Workload(sequence_length=2048, global_batch=batch).resolve(the_model)
    try:
        refuse_lacking(_plan(stack, **fields), the_model, workload, load_stack(stack))
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("stack", names("stacks"))
def test_every_stack_states_what_it_can_run_and_who_says_so(stack: str) -> None:
    offers = load_stack(stack).offers
    assert offers != Capabilities()
    assert offers.source is not None
    assert offers.seen == ("recalled" if stack in _NOT_READ else "primary")
    assert offers.release is not None or stack in _NOT_READ
    assert all(refusal.source for refusal in offers.refuses)


@pytest.mark.parametrize("stack", names("stacks"))
def test_what_a_stack_does_by_default_is_something_that_it_can(stack: str) -> None:
    model = load_model("bert-large")
    workload = Workload(sequence_length=512, global_batch=64).resolve(model)
    refuse_lacking(_plan(stack, dp=2, tp=1, pp=1), model, workload, load_stack(stack))


_REFUSALS: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
    ("megatron-lm", _DENSE, {"cp": 3}, {"cp": 4}, "2 x cp (cp=3) has to divide sequence_length=2048"),
    ("megatron-bridge", _DENSE, {"cp": 3}, {"cp": 2}, "2 x cp"),
    ("nemo", _DENSE, {"cp": 3}, {"cp": 2}, "2 x cp"),
    ("megatron-lm", _DENSE, {"pp": 5}, {"pp": 5, "first_stage_layers": 20}, "pp=5 divides neither 96 layers nor"),
    ("megatron-lm", _DENSE, {"pp": 2, "schedule": "zero-bubble"}, {"pp": 2}, "has no schedule=zero-bubble"),
    ("megatron-lm", _DENSE, {"pp": 2, "schedule": "gpipe"}, {"pp": 2}, "has no schedule=gpipe"),
    ("megatron-lm", _DENSE, {"optimizer": "lamb"}, {"optimizer": "sgd"}, "has no optimizer=lamb"),
    ("torchtitan", _DENSE, {"activation_inputs_in_fp8": True}, {}, "has no activation_inputs_in_fp8"),
    (
        "megatron-lm",
        _DENSE,
        {"offload_optimizer": True, "optimizer": "sgd"},
        {"offload_optimizer": True},
        "only Adam's states can be offloaded",
    ),
    (
        "megatron-lm",
        _DENSE,
        {"offload_optimizer": True, "optimizer": "adam-bf16"},
        {"optimizer": "adam-bf16"},
        "offloaded states need optimizer=adamw, not adam-bf16",
    ),
    (
        "megatron-lm",
        _DENSE,
        {"dp": 2, "optimizer": "muon", "sharding": "zero3"},
        {"dp": 2, "optimizer": "muon", "sharding": "zero1"},
        "optimizer=muon goes without Megatron-FSDP",
    ),
    (
        "megatron-bridge",
        _DENSE,
        {"optimizer": "lion", "precision": "fp16"},
        {"optimizer": "lion", "precision": "bf16"},
        "precision=fp16 has to be bf16, fp8 or fp32",
    ),
    (
        "nemo",
        _DENSE,
        {"optimizer": "adam-fp8", "sharding": "none"},
        {"optimizer": "adam-fp8", "sharding": "zero1"},
        "optimizer=adam-fp8 needs zero1 or more",
    ),
    ("nemo", _DENSE, {"optimizer": "muon"}, {"optimizer": "adam-bf16"}, "has no optimizer=muon"),
    (
        "torch-compile",
        _DENSE,
        {"dp": 2, "optimizer": "adafactor", "sharding": "zero3"},
        {"dp": 2, "optimizer": "adafactor", "sharding": "zero1"},
        "cannot update parameters that fully_shard has cut",
    ),
    (
        "torchtitan",
        _GROUPED,
        {"pp": 4, "micro_batch": 32},
        {"pp": 4, "micro_batch": 16},
        "its 1F1B needs at least as many micro-batches (2) as pp=4 stages",
    ),
    (
        "torchtitan",
        _GROUPED,
        {"pp": 3, "virtual_stages": 2, "schedule": "interleaved", "micro_batch": 4},
        {"pp": 8, "virtual_stages": 2, "schedule": "interleaved", "micro_batch": 4},
        "in equal rounds of pp=3 micro-batches or some more, which 16 are not",
    ),
    ("deepspeed", _DENSE, {"optimizer": "adam-fp8"}, {"optimizer": "muon"}, "has no optimizer=adam-fp8"),
    ("megatron-lm", _DENSE, {"dp": 2, "cp": 2, "placement": "dp-tp-cp-pp"}, {"dp": 2, "cp": 2}, "has no placement"),
    (
        "megatron-lm",
        _DENSE,
        {"dp": 2, "cp": 2, "pp": 2, "placement": "tp-cp-pp-dp"},
        {"dp": 2, "pp": 2, "placement": "tp-cp-pp-dp"},
        "experts have to lie as dense layers do: ep=1 x etp=1 has to be tp=1 x cp=2",
    ),
    (
        "megatron-lm",
        _EXPERTS,
        {"tp": 2, "sequence_parallel": False},
        {"tp": 2, "sequence_parallel": True},
        "experts with tensor parallelism need sequence_parallel",
    ),
    (
        "megatron-bridge",
        _DENSE,
        {"dp": 2, "pp": 2, "sharding": "zero3", "placement": "tp-cp-pp-dp"},
        {"dp": 2, "pp": 2, "sharding": "zero1", "placement": "tp-cp-pp-dp"},
        "Megatron-FSDP (sharding=zero3)",
    ),
    ("nemo", _GROUPED, {"tp": 16}, {"tp": 8}, "tp=16 has to divide the 8 key-value heads"),
    ("megatron-lm-2021", _DENSE, {"cp": 2}, {"tp": 2}, "has no cp=2"),
    ("megatron-lm-2021", _DENSE, {"dp": 2, "sharding": "zero1"}, {"dp": 2}, "has no sharding=zero1"),
    ("megatron-lm-2021", _DENSE, {"recompute": "selective"}, {"recompute": "full"}, "has no recompute=selective"),
    ("megatron-lm-2021", _DENSE, {"pp": 2, "virtual_stages": 2}, {"pp": 4, "virtual_stages": 2}, "more than two"),
    ("megatron-lm-2022", _DENSE, {"pp": 5}, {"pp": 6}, "pp=5 x virtual_stages=1 has to divide 96 layers"),
    ("deepspeed", _DENSE, {"pp": 2, "sharding": "zero3"}, {"pp": 2, "sharding": "zero1"}, "sharding=zero3 needs pp=1"),
    ("deepspeed", _DENSE, {"pp": 2, "sharding": "zero2"}, {"pp": 1, "sharding": "zero2"}, "or pp=2 needs zero1"),
    ("deepspeed", _DENSE, {"pp": 2, "virtual_stages": 2}, {"pp": 2}, "has no schedule=interleaved"),
    ("deepspeed", _DENSE, {"pp": 2, "schedule": "gpipe"}, {"pp": 2}, "has no schedule=gpipe"),
    ("deepspeed", _DENSE, {"cp": 2}, {"tp": 2}, "has no cp=2"),
    ("deepspeed", _DENSE, {"precision": "fp8"}, {"precision": "fp16"}, "has no precision=fp8"),
    ("deepspeed", _DENSE, {"optimizer": "lamb"}, {"optimizer": "lamb", "sharding": "none"}, "not tested with"),
    (
        "deepspeed",
        _EXPERTS,
        {"dp": 2, "ep": 2, "tp": 2, "sharding": "zero3"},
        {"dp": 2, "ep": 2, "tp": 2, "sharding": "zero2"},
        "experts under ZeRO-3 have no tensor parallelism",
    ),
    (
        "deepspeed",
        _EXPERTS,
        {"dp": 4, "ep": 2, "sharding": "hybrid", "sharding_group": 2},
        {"dp": 4, "ep": 2, "sharding": "zero3"},
        "experts under ZeRO-3 are not sharded in groups",
    ),
    (
        "deepspeed",
        _DENSE,
        {"offload_optimizer": True, "sharding": "none"},
        {"offload_optimizer": True, "sharding": "zero1"},
        "offloading is a setting of ZeRO",
    ),
    (
        "megatron-deepspeed",
        _DENSE,
        {"tp": 2, "pp": 2, "schedule": "zero-bubble", "sequence_parallel": True},
        {"tp": 2, "pp": 2, "schedule": "zero-bubble"},
        "not for sequence_parallel",
    ),
    ("megatron-deepspeed", _DENSE, {"pp": 2, "sharding": "zero2"}, {"pp": 2, "sharding": "zero1"}, "zero2 needs pp=1"),
    (
        "megatron-deepspeed",
        _DENSE,
        {"pp": 2, "virtual_stages": 2, "sharding": "none"},
        {"pp": 4, "virtual_stages": 2, "sharding": "none"},
        "more than two stages",
    ),
    ("nanotron", _GROUPED, {"tp": 16}, {"tp": 8}, "tp=16 has to divide the 8 key-value heads"),
    ("nanotron", _DENSE, {"pp": 2, "virtual_stages": 2}, {"pp": 2}, "has no schedule=interleaved"),
    ("nanotron", _DENSE, {"dp": 2, "sharding": "zero2"}, {"dp": 2, "sharding": "zero1"}, "has no sharding=zero2"),
    ("nanotron", _DENSE, {"offload_optimizer": True}, {}, "has no offload_optimizer"),
    ("nanotron", _DENSE, {"recompute": "selective"}, {"recompute": "full"}, "has no recompute=selective"),
    ("huggingface", _DENSE, {"dp": 2, "cp": 2, "sharding": "zero2"}, {"dp": 2, "cp": 2, "sharding": "zero3"}, "FSDP2"),
    ("huggingface", _DENSE, {"dp": 2, "tp": 2}, {"dp": 2, "tp": 2, "sharding": "zero3"}, "sharding=none needs dp=1"),
    ("composer", _DENSE, {"offload_optimizer": True}, {}, "has no offload_optimizer"),
    (
        "pytorch-ddp",
        _DENSE,
        {"tp": 4, "pp": 2, "cp": 2, "sharding": "zero3"},
        {"dp": 2, "sharding": "zero1"},
        "has no tp=4, pp=2, cp=2, sharding=zero3; it has dp and sharding none, zero1",
    ),
    ("internevo", _EXPERTS, {"dp": 2, "sharding": "zero3"}, {"dp": 2, "sharding": "zero1"}, "experts go without FSDP"),
    ("jax-xla-gpu", _DENSE, {"pp": 5}, {"pp": 4}, "stages, repeats and layers of a stage have to multiply"),
    ("jax-xla-gpu", _DENSE, {"pp": 4, "micro_batch": 2, "dp": 16}, {"pp": 4, "dp": 16}, "a multiple of pp=4"),
    (
        "xla-tpu",
        _DENSE,
        {"precision": "fp8", "micro_batch": 1},
        {"precision": "fp8", "micro_batch": 64},
        "fp8 goes without accumulation",
    ),
    ("jax-xla-gpu", _DENSE, {"pp": 2, "schedule": "1f1b"}, {"pp": 2}, "has no schedule=1f1b"),
    ("paxml", _DENSE, {"pp": 5}, {"pp": 4}, "stages and circular repeats have to divide the layers"),
    ("pathways", _DENSE, {"cp": 2}, {"pp": 2}, "has no cp=2"),
    ("nvidia-bert", {"base": "bert-large"}, {"precision": "fp8"}, {}, "has no precision=fp8"),
    ("nvidia-bert", {"base": "bert-large"}, {"dp": 2, "sharding": "zero1"}, {"dp": 2}, "has no sharding=zero1"),
    ("languini", {"base": "gpt2-124m"}, {"optimizer": "lamb"}, {}, "has no optimizer=lamb"),
    ("torchtitan", _GROUPED, {"dp": 2, "tp": 2, "sharding": "none"}, {"dp": 2, "sharding": "none"}, "no other axis"),
    ("torchtitan", _GROUPED, {"tp": 3}, {"tp": 4}, "2 x tp=3 x cp=1 has to divide sequence_length=2048"),
    ("torchtitan", _GROUPED, {"cp": 3}, {"cp": 4}, "2 x tp=1 x cp=3 has to divide sequence_length=2048"),
    ("torchtitan", _GROUPED, {"tp": 2, "sequence_parallel": False}, {"tp": 2}, "tp=2 needs sequence_parallel"),
    (
        "torchtitan",
        _GROUPED,
        {"dp": 4, "cp": 4, "sharding": "hybrid", "sharding_group": 2},
        {"dp": 4, "cp": 4, "sharding": "hybrid", "sharding_group": 8},
        "sharding_group=2 has to be a multiple of cp=4",
    ),
    (
        "torchtitan",
        _EXPERTS,
        {"dp": 8, "ep": 8, "etp": 1, "sharding": "hybrid", "sharding_group": 4},
        {"dp": 8, "ep": 4, "etp": 1, "sharding": "hybrid", "sharding_group": 4},
        "ep=8 x etp=1 has to divide sharding_group=4 x tp=1",
    ),
    (
        "torchtitan",
        _EXPERTS,
        {"dp": 8, "tp": 4, "ep": 8, "etp": 2},
        {"dp": 8, "tp": 4, "ep": 8, "etp": 4},
        "etp=2 has to be 1 or tp=4",
    ),
    (
        "torchtitan",
        _GROUPED,
        {"pp": 2, "schedule": "zero-bubble"},
        {"pp": 2, "schedule": "zero-bubble", "virtual_stages": 2},
        "two chunks of layers a device or more, not virtual_stages=1",
    ),
    (
        "torchtitan",
        _GROUPED,
        {"pp": 2, "optimizer_in_backward": True},
        {"dp": 2, "optimizer_in_backward": True},
        "go with neither expert nor pipeline parallelism: ep=1 and pp=2 have to be 1",
    ),
    ("torchtitan", _GROUPED, {"precision": "fp16"}, {"precision": "fp8"}, "has no precision=fp16"),
    ("torchtitan", _GROUPED, {"optimizer": "muon"}, {"optimizer": "adamw"}, "has no optimizer=muon"),
    ("torchtitan", _GROUPED, {"recompute": "selective"}, {"recompute": "operators"}, "has no recompute=selective"),
    ("torchtune", _GROUPED, {"dp": 2, "sharding": "none"}, {"sharding": "none"}, "sharding=none needs one device"),
    ("torchtune", _GROUPED, {"cp": 2, "precision": "fp8"}, {"cp": 2}, "context parallelism goes without fp8"),
    ("torchtune", _GROUPED, {"precision": "fp16"}, {"precision": "bf16"}, "has no precision=fp16"),
    ("torchtune", _GROUPED, {"pp": 2}, {"tp": 2}, "has no pp=2"),
    (
        "torchtune",
        _GROUPED,
        {"tp": 2, "offload_optimizer": True},
        {"dp": 2, "tp": 2, "offload_optimizer": True},
        "tensor parallelism with offloading needs data parallelism too",
    ),
    ("litgpt", _GROUPED, {"tp": 2}, {"dp": 2}, "has no tp=2"),
    ("litgpt", _GROUPED, {"dp": 2, "sharding": "none"}, {"dp": 2}, "several devices always share parameters"),
    ("litgpt", _GROUPED, {"offload_optimizer": True}, {}, "has no offload_optimizer"),
    ("colossalai", _DENSE, {"pp": 2, "sharding": "zero2"}, {"pp": 2, "sharding": "zero1"}, "or pp=2 needs zero1"),
    ("colossalai", _DENSE, {"cp": 2, "sharding": "zero3"}, {"cp": 2, "sharding": "zero2"}, "that of GeminiPlugin"),
    (
        "colossalai",
        _DENSE,
        {"pp": 2, "schedule": "zero-bubble"},
        {"pp": 2, "schedule": "zero-bubble-v"},
        "has no schedule=zero-bubble",
    ),
    ("colossalai", _DENSE, {"precision": "fp32"}, {"precision": "fp32", "sharding": "none"}, "ZeRO is for 16-bit"),
    (
        "colossalai",
        _DENSE,
        {"dp": 2, "sharding": "zero3", "optimizer": "lamb"},
        {"dp": 2, "sharding": "zero2", "optimizer": "lamb"},
        "which updates by Adam only, not by optimizer=lamb",
    ),
    ("primus", _DENSE, {"pp": 2, "schedule": "gpipe"}, {"pp": 2, "schedule": "zero-bubble"}, "has no schedule=gpipe"),
    (
        "primus",
        _DENSE,
        {"pp": 2, "schedule": "zero-bubble", "precision": "fp8"},
        {"pp": 2, "precision": "fp8"},
        "zero-bubble schedules do not go with fp8 yet",
    ),
    ("primus", _DENSE, {"cp": 3}, {"cp": 4}, "2 x cp (cp=3) has to divide sequence_length=2048"),
    ("maxtext-gpu", _DENSE, {"optimizer": "adafactor"}, {"optimizer": "muon"}, "has no optimizer=adafactor"),
    ("maxtext-tpu", _DENSE, {"optimizer": "lamb"}, {"optimizer": "sgd"}, "has no optimizer=lamb"),
    ("maxtext-gpu", _DENSE, {"pp": 5}, {"pp": 4}, "stages, repeats and layers of a stage have to multiply"),
]
"""A stack, a model, a plan that its code refuses and one beside it that it takes, and what is said: the refusals read
from the frameworks' code as far as they are about fields of a plan."""


@pytest.mark.parametrize(("stack", "model", "broken", "fine", "words"), _REFUSALS, ids=lambda part: str(part)[:50])
def test_what_the_code_refuses_is_refused_and_its_neighbour_is_not(
    stack: str, model: dict[str, Any], broken: dict[str, Any], fine: dict[str, Any], words: str
) -> None:
    said = _refused(stack, model, **broken)
    assert words in said
    assert said.startswith(f"stack={stack}")
    assert _refused(stack, model, **fine) == ""


def test_old_and_new_megatron_differ_in_the_micro_batches_of_interleaved_pipelines() -> None:
    """Ten micro-batches on four stages: since core_v0.10.0 they run in groups of five."""
    plan = {"pp": 4, "virtual_stages": 2}
    assert "multiple of pp=4" in _refused("megatron-lm-2022", _DENSE, 10, **plan)
    assert _refused("megatron-lm", _DENSE, 10, **plan) == ""
    assert _refused("megatron-lm-2022", _DENSE, 12, **plan) == ""


@pytest.mark.parametrize(
    ("devices", "layers", "experts", "degrees"),
    [
        (256, 94, 128, {"tp": 2, "pp": 8, "ep": 32}),  # Qwen3 235B-A22B on H100
        (1024, 62, 384, {"tp": 8, "pp": 16, "ep": 64}),  # Kimi K2 on H100, which lays 61 layers out by hand
        (64, 88, 512, {"tp": 2, "pp": 1, "ep": 64}),  # Nemotron 3 Super on GB200
        (512, 92, 160, {"tp": 1, "pp": 4, "cp": 32, "ep": 32}),  # GLM 5, experts over context-parallel ranks
    ],
    ids=["qwen3", "kimi", "nemotron", "glm"],
)
def test_recipes_with_experts_over_ranks_of_other_axes_are_taken(
    devices: int, layers: int, experts: int, degrees: dict[str, int]
) -> None:
    model = {
        "base": "qwen3-30b-a3b",
        "layers": layers,
        "experts": experts,
        "hidden_size": 4096,
        "attention_heads": 64,
        "key_value_heads": 8,
    }
    answer = simulator.estimate(
        model,
        "superpod-h100",
        devices=devices,
        stack="megatron-bridge",
        plan={**degrees, "etp": 1, "micro_batch": 1},
        workload={"sequence_length": 4096, "global_batch": 1024},
    )
    assert answer.plan["ep"] == degrees["ep"]
    assert answer.step_time_s > 0


def test_the_experts_of_one_axis_are_as_before() -> None:
    shared: dict[str, Any] = {
        "devices": 32,
        "stack": "megatron-lm",
        "workload": {"sequence_length": 4096, "global_batch": 64},
    }
    plan = {"tp": 2, "pp": 1, "ep": 8, "micro_batch": 1}
    one = simulator.estimate("mixtral-8x7b", "dgx-h100", plan=plan, **shared)
    same = simulator.estimate("mixtral-8x7b", "dgx-h100", plan={**plan, "etp": 2}, **shared)
    assert (one.step_time_s, one.memory_bytes) == (same.step_time_s, same.memory_bytes)


def test_the_stack_is_the_likeliest_that_has_what_is_asked() -> None:
    def stack(**plan: Any) -> str:
        return simulator.resolve("bert-large", "dgx-h100", plan=plan).stack.id

    assert stack() == "pytorch-ddp"
    assert stack(sharding="zero3") == "pytorch-fsdp"
    assert stack(tp=2) == "megatron-lm"
    assert stack(tp=2, optimizer="lamb", sharding="none") == "deepspeed"
    assert not simulator.resolve("bert-large", "dgx-h100", stack="hai-llm").stack.public  # which nobody else has
    bubbles = {"pp": 8, "schedule": "zero-bubble"}
    large = simulator.resolve("gpt3-175b", "superpod-a100", devices=1024, plan=bubbles)
    assert large.stack.id == "megatron-deepspeed"


def test_fields_that_are_open_refuse_nothing_yet() -> None:
    model = load_model("gpt3-175b")
    workload = Workload(sequence_length=2048, global_batch=64).resolve(model)
    stack = load_stack("deepspeed")
    assert is_offered(Plan(sharding="zero3"), model, workload, stack)
    assert is_offered(Plan(pp=2), model, workload, stack)
    assert not is_offered(Plan(pp=2, sharding="zero3"), model, workload, stack)


def test_gradients_are_summed_in_fp32_for_bf16_only() -> None:
    """Megatron-LM keeps those of fp16 in fp16 unless told (`--accumulate-allreduce-grads-in-fp32`)."""
    for stack in ("megatron-lm", "megatron-lm-2021", "megatron-lm-2022"):
        kind = load_stack(stack)
        assert Plan(precision="bf16").with_defaults(kind).gradients_in_fp32
        assert not Plan(precision="fp16").with_defaults(kind).gradients_in_fp32
        assert Plan(precision="fp16", gradients_in_fp32=True).with_defaults(kind).gradients_in_fp32


def test_conditions_hold_for_arrays_as_for_numbers() -> None:
    rule = Refusal(when="pp > 1 and layers % (pp * 2 + 1 - 1) != 0 or not sequence_parallel", sentence="x", source="y")
    terms = {"pp": np.array([1.0, 2.0, 3.0]), "layers": np.array(12.0), "sequence_parallel": np.array([[1.0], [0.0]])}
    assert rule.names == {"pp", "layers", "sequence_parallel"}
    assert rule.holds(terms).tolist() == [[False, False, False], [True, True, True]]
    words = Refusal(when="sharding in ('zero2', 'zero3') and 1 < pp <= 2", sentence="x", source="y")
    both = {"sharding": np.array(["none", "zero3", "zero3"]), "pp": np.array([2.0, 2.0, 3.0])}
    assert words.holds(both).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ("pp >", "cannot be read"),
        ("ppp > 1", "'ppp' is no field of a plan, did you mean pp"),
        ("sharding == 'zero4'", "'zero4' is no value of what it is compared with"),
        ("sharding in ('zero1', 2)", "'2' is no value"),
        ("pp == 'two'", "'two' is no value"),
        ("pp > 1.5", "neither a whole number"),
        ("pp > True", "neither a whole number"),
        ("pp > 99999999999", "neither a whole number"),
        ("pp ** 2 > 1", "holds what no condition may"),
        ("__import__('os').system('ls')", "holds what no condition may"),
        ("pp.real > 1", "holds what no condition may"),
        ("pp + 1", "nothing is compared"),
        ("(" * 250 + "pp > 1", "cannot be read"),
    ],
    ids=lambda part: str(part)[:30],
)
def test_conditions_that_make_no_sense_are_refused(when: str, words: str) -> None:
    with pytest.raises(InputError) as raised:
        build(Capabilities, {"refuses": [{"when": when, "sentence": "no", "source": "nowhere"}]})
    assert words in str(raised.value)


def test_a_sentence_names_fields_only() -> None:
    for sentence in ("{ppp}", "{pp.real}", "{pp!r}", "{pp:>9999}"):
        with pytest.raises(InputError, match="no field that a sentence can name"):
            build(Capabilities, {"refuses": [{"when": "pp > 1", "sentence": sentence, "source": "nowhere"}]})
