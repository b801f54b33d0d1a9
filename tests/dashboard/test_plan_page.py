"""The Plan page: every control, every error, every button, without a browser."""

from __future__ import annotations

import random
from typing import Any
from unittest import mock

import pytest
from streamlit.testing.v1 import AppTest

import simulator
from dashboard.choices.scenario import BEST, field, fields
from dashboard.choices.state import Field
from dashboard.content import answers
from hardware import units
from tests.dashboard.conftest import OpenPage, link_of, plain, refuses, sentences
from tests.thorough import cases

_SAMPLES: dict[str, str] = {
    "model": "gpt2-1.5b", "system": "dgx-h100", "devices": "4", "stack": "deepspeed", "objective": "span",
    "fits": "95%",
    "sequence_length": "128", "global_batch": "512", "tokens": "780B", "steps": "1000", "effective_tokens": "400.5",
    "predictions": "20", "micro_batch": "4", "recompute": "full", "dp": "8", "tp": "2", "pp": "2", "cp": "2",
    "attention": "unfused", "cross_entropy": "chunked",
    "label_smoothing": "0.1", "z_loss": "0.0001", "parameters_in_fp32": "yes", "gradients_in_fp32": "yes",
    "reduction_in_fp32": "yes", "master_weights": "no", "activation_inputs_in_fp8": "yes", "fp8_scaling": "blockwise",
    "sharding": "zero1", "precision": "fp16", "optimizer": "lamb", "schedule": "gpipe", "placement": "dp-tp-cp-pp",
    "sequence_parallel": "no", "offload_optimizer": "yes", "price": "2.5", "price_kind": "spot", "grid": "fr",
    "overhead": "google", "constants": "none", "failure_rate": "5e-4 /d", "preemption_rate": "0.01 /h",
    "capacity_wait": "10 h", "restart": "10 min", "checkpoint_every": "30 min", "storage_bandwidth": "50 GB/s",
    "purchase_price": "25000 USD", "ep": "1", "etp": "1", "virtual_stages": "1", "lifetime": "5 years",
    "electricity": "0.08 USD/kWh", "sharding_group": "4",
    "recompute_modules": "core_attn,mlp", "recompute_layers": "4", "recompute_method": "uniform",
    "target_length": "128", "profile": "a100-sxm", "expert_imbalance": "2", "capacity_factor": "1.25",
    "multi_token": "yes",
    "train": "lora", "base_precision": "nf4", "lora_rank": "8", "lora_targets": "q_proj,v_proj", "lora_dropout": "0.1",
    "dora": "yes", "virtual_tokens": "30", "clip_gradients": "no", "optimizer_in_backward": "yes",
    "preference": "dpo", "reference": "precomputed", "teacher": "gpt2-355m", "keeps_teacher_logits": "no",
    "document_lengths": "200,120,64", "document_deviation": "80",
}  # fmt: skip
_NEEDED: dict[str, dict[str, str]] = {
    "lifetime": {"price_kind": "owned", "purchase_price": "25000 USD"},
    "electricity": {"price_kind": "owned", "purchase_price": "25000 USD"},
    "sharding_group": {"sharding": "zero1"},
    "recompute_modules": {"stack": "megatron-lm", "recompute": "selective"},
    **{
        name: {
            "stack": "megatron-lm",
            "recompute": "full",
            "recompute_layers": "3",
            "recompute_method": "block",
        }
        for name in ("recompute_layers", "recompute_method")
    },
    "target_length": {"model": "t5-large"},
    "expert_imbalance": {"model": "mixtral-8x7b"},
    "capacity_factor": {"model": "mixtral-8x7b"},
    "fp8_scaling": {"system": "dgx-h100", "precision": "fp8", "stack": "megatron-lm"},
    "activation_inputs_in_fp8": {"model": "mixtral-8x7b", "stack": "megatron-lm"},
    "multi_token": {"model": "deepseek-v3", "stack": "megatron-lm", "devices": "8"},
    "preference": {"model": "llama-3.2-1b"},
    "reference": {"model": "llama-3.2-1b", "preference": "dpo"},
    "teacher": {"model": "gpt2-124m"},
    "keeps_teacher_logits": {"model": "gpt2-124m", "teacher": "gpt2-355m"},
    "document_lengths": {"system": "dgx-h100", "stack": "megatron-lm"},
    "document_deviation": {"document_lengths": "200", "system": "dgx-h100", "stack": "megatron-lm"},
    "base_precision": {"train": "lora", "stack": "huggingface"},
    **{name: {"train": "lora"} for name in ("lora_rank", "lora_targets", "lora_dropout", "dora")},
    "virtual_tokens": {"train": "prompt", "model": "llama-3.2-1b"},
    "optimizer_in_backward": {"devices": "1", "global_batch": "16", "stack": "pytorch-eager"},
    "preemption_rate": {"price_kind": "spot"},
    "capacity_wait": {"price_kind": "spot"},
    "virtual_stages": {"pp": "2"},
    "sequence_parallel": {"tp": "2", "stack": "megatron-lm"},
}
"""What else a field needs to make sense."""


_SECTIONS = ("section.plan", "section.run", "section.tuning", "section.money", "section.failures")


def control_of(page: AppTest, each: Field) -> Any:
    """The control of a field, in whatever box it is."""
    for section in _SECTIONS:
        page.session_state[section] = True
    page.run()
    kind = {"choice": "selectbox", "flag": "toggle" if each.default is not None else "selectbox"}
    return getattr(page.sidebar, kind.get(each.kind, "text_input"))(key=f"control.{each.name}")


def _answers(page: AppTest) -> list[tuple[str, str, str]]:
    """The figures of the answer."""
    return [(metric.label, metric.value, metric.delta) for metric in page.metric]


def test_an_adapter_of_a_quantised_model(open_page: OpenPage) -> None:
    chosen = {"train": "lora", "lora_rank": "16", "lora_targets": "all-linear", "base_precision": "nf4"}
    run = {"model": "llama-3.1-8b", "system": "rtx-3090", "sequence_length": "2048", "global_batch": "16"}
    page = open_page(link={**run, **chosen})
    work = {"sequence_length": 2048, "global_batch": 16, **chosen, "lora_rank": 16}
    estimate = simulator.estimate("llama-3.1-8b", "rtx-3090", workload=work)
    assert estimate.trained_parameters == 41_943_040
    shown = {label: value for label, value, _ in _answers(page)}
    assert shown["Step time"] == units.duration(estimate.step_time_s)


def test_it_opens_on_an_answer(open_page: OpenPage) -> None:
    page = open_page()
    estimate = simulator.estimate("bert-large", "dgx-a100-640gb")
    shown = {label: value for label, value, _ in _answers(page)}
    assert list(shown) == ["Step time", "Time to train", "Cost", "Energy", "MFU", "Memory"]
    assert shown["Step time"] == units.duration(estimate.step_time_s)
    assert shown["MFU"] == units.percent(estimate.mfu)
    assert all(metric.help for metric in page.metric)
    assert link_of(page) == {}
    assert sentences(page) == []
    assert [plain(head.value) for head in page.subheader] == ["bert-large on dgx-a100-640gb, 8 devices"]


_CONTROLS = [each for each in fields() if each.name != BEST]
_TRIED = random.Random(5).sample(_CONTROLS, cases(usual=40, thorough=len(_CONTROLS)))


@pytest.mark.parametrize("each", _TRIED, ids=lambda each: each.name)
def test_every_control_changes_the_answer_and_the_link(open_page: OpenPage, each: Field) -> None:
    link = _NEEDED.get(each.name, {})
    page = open_page("plan", link)
    assert sentences(page) == []
    control = control_of(page, each)
    assert control.help
    control.set_value(_SAMPLES[each.name]).run()
    assert not page.exception
    assert sentences(page) == []
    value = each.read(_SAMPLES[each.name])
    assert link_of(page) == {**link, each.name: each.write(value)}
    again = open_page("plan", link_of(page))
    assert _answers(again) == _answers(page)
    assert link_of(again) == link_of(page)
    assert control_of(again, each).value == control_of(page, each).value


def test_attention_is_the_stack_s_unless_chosen(open_page: OpenPage) -> None:
    link = {"system": "rtx-3090", "stack": "huggingface", "sequence_length": "384", "global_batch": "16"}
    page = open_page("plan", {**link, "micro_batch": "16", "recompute": "none"})
    assert control_of(page, field("attention")).placeholder == "fused"
    fused = _answers(page)[-1]
    control_of(page, field("attention")).set_value("unfused").run()
    label, memory, free = _answers(page)[-1]
    assert label == fused[0] == "Memory"
    assert (fused[1], memory) == ("14.4 GiB", "20.9 GiB")
    assert free != fused[2]


def test_without_tokens_amounts_are_per_billion_of_them(open_page: OpenPage) -> None:
    link = {"model": "mistral-7b", "system": "dgx-h100", "price": "2"}
    page = open_page("plan", link)
    run = simulator.estimate("mistral-7b", "dgx-h100", price=2.0).run
    assert run.cost_usd is not None
    shown = {label: (value, detail) for label, value, detail in _answers(page)}
    assert shown["Time"] == (units.duration(run.time_s), "per 1B tokens")
    assert shown["Cost"] == (units.money(run.cost_usd), "per 1B tokens, $2.00/h per device")
    assert "Give tokens or steps" in page.info[0].value
    known = open_page("plan", {**link, "tokens": "300B"})
    assert not known.info
    assert "Time to train" in {label for label, _, _ in _answers(known)}


def test_a_headline_says_what_does_not_fit(open_page: OpenPage) -> None:
    page = open_page("plan", {"model": "palm-8b", "system": "rtx-3090"})
    assert [plain(head.value) for head in page.subheader] == ["palm-8b on rtx-3090, 1 device: does not fit"]


def test_the_best_plan_is_a_switch(open_page: OpenPage) -> None:
    page = open_page("plan", {"recompute": "full", "micro_batch": "1"})
    slow = _answers(page)[0]
    page.sidebar.toggle(key=f"control.{BEST}").set_value(True).run()
    assert link_of(page)[BEST] == "yes"
    assert sentences(page) == []
    page.sidebar.toggle(key=f"control.{BEST}").set_value(False).run()
    assert BEST not in link_of(page)
    assert _answers(page)[0] == slow


def test_what_is_open_shows_what_was_chosen(open_page: OpenPage) -> None:
    page = open_page("plan")
    chosen = {"devices": "8", "dp": "8", "stack": "pytorch-ddp", "sequence_parallel": "no", "global_batch": "256"}
    assert {name: control_of(page, field(name)).placeholder for name in chosen} == chosen


def test_boxes_say_how_much_is_set_and_open_where_something_is_wrong(open_page: OpenPage) -> None:
    page = open_page("plan", {"tp": "2", "pp": "2", "price": "3"})
    titles = [box.label for box in page.sidebar.expander]
    assert titles == [
        "Plan and stack (2 set)",
        "Length of the run and data",
        "Fine-tuning, preferences, distillation",
        "Price and electricity (1 set)",
        "Failures and checkpoints",
    ]
    assert not [box for box in page.sidebar.text_input if box.key == "control.tp"]
    wrong = open_page("plan", {"tp": "3"})
    assert wrong.sidebar.text_input(key="control.tp").value == "3"


def test_a_field_can_be_opened_again(open_page: OpenPage) -> None:
    page = open_page("plan", {"tp": "2", "precision": "bf16"})
    control_of(page, field("tp")).set_value("").run()
    control_of(page, field("precision")).set_value(None).run()
    assert link_of(page) == {}
    assert _answers(page) == _answers(open_page("plan"))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("tp", "two", "tp='two': write a whole number from 1"),
        ("devices", "-8", "devices='-8': write a whole number from 1"),
        ("devices", "1.5", "devices='1.5': write a whole number from 1"),
        ("tokens", "many", "tokens='many': write a number such as 780B"),
    ],
)
def test_what_cannot_be_read_is_said_beside_its_control(open_page: OpenPage, name: str, text: str, words: str) -> None:
    page = open_page("plan")
    before = _answers(page)
    control_of(page, field(name)).set_value(text).run()
    assert [plain(error.value) for error in page.sidebar.error] == [words]
    assert control_of(page, field(name)).value == text
    assert _answers(page) == before
    assert link_of(page) == {}
    control_of(page, field(name)).set_value("").run()
    assert sentences(page) == []


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("tp", "3", "tp=3 does not divide 16 attention heads"),
        ("global_batch", "7", "must divide global_batch=7"),
        ("stack", "xla-tpu", "runs on a tpu"),
        ("precision", "fp8", "has no units for it"),
        ("price", "free", "price='free'"),
        ("restart", "soon", "'soon' is not a time"),
        ("lifetime", "5 years", "belongs to price_kind=owned"),
        ("target_length", "128", "belongs to an encoder-decoder"),
    ],
)
def test_what_cannot_be_is_said_beside_its_control(open_page: OpenPage, name: str, text: str, words: str) -> None:
    page = open_page("plan")
    mended = None if field(name).kind == "choice" else ""
    refuses(page, lambda: control_of(page, field(name)), text, words, mended=mended)


def test_a_wrong_link_is_told_and_mended(open_page: OpenPage) -> None:
    page = open_page("plan", {"tp": "zwei", "modle": "![x](http://elsewhere.example/x.png)", "dp": "8"})
    assert [plain(warning.value) for warning in page.warning] == [
        "The link says tp='zwei': write a whole number from 1",
        "The link names 'modle', which this page does not know; did you mean model?",
    ]
    assert link_of(page) == {"dp": "8"}
    assert len(page.metric) == 6
    control_of(page, field("dp")).set_value("").run()
    assert list(page.warning) == []


def test_nothing_of_a_link_becomes_a_mark(open_page: OpenPage) -> None:
    page = open_page("plan", {"![x](http://elsewhere.example/x.png)": "1"})
    assert "![" not in page.warning[0].value
    assert "![x]" in plain(page.warning[0].value)


def test_a_button_applies_the_change_that_helps_most(open_page: OpenPage) -> None:
    page = open_page("plan", {"recompute": "full", "micro_batch": "4"})
    page.button(key="apply.recompute").click().run()
    assert link_of(page) == {"recompute": "none", "micro_batch": "4"}
    assert control_of(page, field("recompute")).value == "none"
    after = simulator.estimate("bert-large", "dgx-a100-640gb", plan={"recompute": "none", "micro_batch": 4})
    assert page.metric[0].value == units.duration(after.step_time_s)


def test_what_does_not_fit_is_an_answer_with_what_would_make_it_fit(open_page: OpenPage) -> None:
    page = open_page("plan", {"model": "palm-62b", "offload_optimizer": "no"})
    assert sentences(page) == []
    assert page.metric[5].delta.startswith("does not fit: ")
    assert any("does not fit" in plain(warning.value) for warning in page.warning)
    page.button(key="apply.offload_optimizer").click().run()
    assert page.metric[5].delta.startswith("fits: ")
    assert not any("does not fit" in plain(warning.value) for warning in page.warning)


def test_more_is_shown_when_it_is_opened(open_page: OpenPage) -> None:
    page = open_page("plan")
    assert page.code == []
    assert page.dataframe == []
    figures = len(page.get("plotly_chart"))
    for box in ("share", "operators", "levers"):
        page.session_state[box] = True
    page.run()
    assert not page.exception
    python, command = page.code
    assert "simulator.estimate(" in python.value
    assert command.value.startswith("capsim estimate bert-large")
    assert len(page.dataframe[0].value) > 20
    assert len(page.get("plotly_chart")) == figures + 1
    assert [button.label for button in page.download_button] == ["YAML", "CSV", "JSON"]


@pytest.mark.parametrize(
    "failure", [RuntimeError("$x$ [link](y)"), ZeroDivisionError(), KeyError("a"), ValueError("v")]
)
def test_no_failure_is_a_traceback(open_page: OpenPage, failure: Exception) -> None:
    with mock.patch.object(answers, "improvements", side_effect=failure):
        page = open_page("plan")
    (sentence,) = sentences(page)
    assert sentence.startswith(f"This part of the page failed with {type(failure).__name__}")
    assert "Traceback" not in sentence


def test_what_is_chosen_stays_when_the_link_is_emptied(open_page: OpenPage) -> None:
    """Streamlit empties the link when another page is opened."""
    page = open_page("plan", {"tp": "2"})
    page.query_params.clear()
    page.session_state["capsim.view"] = "search"
    page.run()
    assert link_of(page) == {"tp": "2"}


def test_a_link_that_somebody_goes_back_to_decides(open_page: OpenPage) -> None:
    page = open_page("plan", {"tp": "2"})
    page.query_params["tp"] = "4"
    page.run()
    assert control_of(page, field("tp")).value == "4"
    page.query_params.clear()
    page.run()
    assert link_of(page) == {}
    assert control_of(page, field("tp")).value == ""


def test_a_browser_that_is_late_changes_nothing(open_page: OpenPage) -> None:
    """It may ask for something else before it heard of the link that the page has just written."""
    page = open_page("plan", {"tp": "2"})
    control_of(page, field("tp")).set_value("4").run()
    page.query_params["tp"] = "2"
    page.run()
    assert link_of(page) == {"tp": "4"}
    page.session_state["capsim.replaced"] = ({"tp": "2"}, 0.0)
    page.query_params["tp"] = "2"
    page.run()
    assert link_of(page) == {"tp": "2"}


def test_a_launch_file_is_shown_for_the_framework_that_is_chosen(open_page: OpenPage) -> None:
    page = open_page("plan", {"model": "llama-3-8b", "system": "dgx-h100", "stack": "megatron-lm"})
    page.session_state["launch"] = True
    page.run()
    assert not page.exception
    assert page.selectbox(key="launch.to").value == "megatron-lm"
    assert "--tensor-model-parallel-size" in page.code[0].value
    assert "capsim expects" in page.code[0].value
    page.selectbox(key="launch.to").set_value("nanotron").run()
    assert not page.exception
    assert page.code or page.info
    page.selectbox(key="launch.to").set_value("torchtitan").run()
    assert not page.exception
