from __future__ import annotations

from pathlib import Path

import pytest

from hardware.errors import InputError
from simulator.scenario.scenario import parameters_of
from simulator.specs.loading import load_model, load_stack, names
from simulator.specs.model import Model
from simulator.specs.plan import Plan
from simulator.specs.workload import Workload
from simulator.work.counts import counts_of
from simulator.work.program import program_of
from simulator.work.transformer import Scenarios
from tests.specs.checkpoints import CHECKPOINTS
from tests.specs.reference import ours, reloaded, theirs

MODELS = names("models")

EXACT = {
    "bert-base": 110_106_428,
    "bert-large": 336_226_108,
    "roberta-base": 124_697_433,
    "roberta-large": 355_412_057,
    "distilbert": 66_985_530,
    "gpt2-124m": 124_439_808,
    "gpt2-355m": 354_823_168,
    "gpt2-774m": 774_030_080,
    "gpt2-1.5b": 1_557_611_200,
    "llama-7b": 6_738_415_616,
    "llama-2-70b": 68_976_648_192,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344,
    "falcon-7b": 6_921_720_704,
    "mpt-7b": 6_649_286_656,
    "gpt-neox-20b": 20_554_567_680,
    "pythia-12b": 11_846_072_320,
    "bloom-176b": 176_247_271_424,
    "palm-540b": 540_356_474_880,
}
"""As the checkpoints have them, which the library confirms in `test_catalogue_against_transformers`."""


@pytest.mark.parametrize("name", MODELS)
def test_published_parameters(name: str) -> None:
    model = load_model(name)
    assert model.id == name
    assert model.published_parameters is not None
    assert ours(model) == pytest.approx(model.published_parameters, rel=model.published_parameters_tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_figures_are_sourced_and_runs_are_plausible(name: str) -> None:
    model = load_model(name)
    provenance = model.provenance["published_parameters"]
    assert provenance.source
    assert provenance.seen != "unstated"
    work = Workload().resolve(model)
    assert work.tokens is None or work.steps is None
    assert 1 <= work.total_steps < 20_000_000
    assert model.positions != "learned" or model.position_rows >= model.training.sequence_length


@pytest.mark.parametrize(("name", "parameters"), EXACT.items())
def test_exact_parameters(name: str, parameters: int) -> None:
    assert ours(load_model(name)) == parameters


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_catalogue_against_transformers(name: str, tmp_path: Path) -> None:
    architecture, sizes = CHECKPOINTS[name]
    config, parameters = theirs(architecture, **sizes)
    model = load_model(name)
    assert ours(model) == parameters
    assert reloaded(config, tmp_path).columns() == model.columns()


def test_megatron_bert_against_transformers() -> None:
    sizes = {"hidden_size": 2560, "num_hidden_layers": 48, "num_attention_heads": 40, "intermediate_size": 10_240}
    _, parameters = theirs("MegatronBertForPreTraining", vocab_size=30_720, **sizes)
    assert ours(load_model("megatron-bert-3.9b")) == parameters


def test_narayanan_formula_2_is_met() -> None:
    # 12 l h^2 (1 + 13 / (12 h) + (V + s) / (12 l h)) leaves out the last normalisation, 2 h.
    for name in (name for name in MODELS if name.startswith("megatron-") and "bert" not in name):
        model = load_model(name)
        layers, hidden = model.layers, model.hidden_size
        formula = 12 * layers * hidden**2 + 13 * layers * hidden + (51_200 + 2048) * hidden
        assert ours(model) == formula + 2 * hidden


def _active(name: str) -> float:
    model, stack = load_model(name), load_stack("pytorch-eager")
    work = Workload().resolve(model)
    plan = Plan(dp=1, micro_batch=1).with_defaults(stack).with_degrees(1)
    scenarios = Scenarios(model.columns(), work.columns(), plan.columns(work), stack.columns())
    return float(counts_of(program_of(scenarios)).active_parameters)


def test_active_parameters_of_experts() -> None:
    assert _active("glam-1.2t") == pytest.approx(96.6e9, rel=0.002)  # Du et al., table 4
    assert _active("mixtral-8x7b") == pytest.approx(12.9e9, rel=0.002)  # Jiang et al., arXiv 2401.04088
    assert _active("mixtral-8x22b") == pytest.approx(39e9, rel=0.005)
    assert _active("bert-base") == ours(load_model("bert-base"))


def test_transformer_xl_adds_a_projection_to_each_layer() -> None:
    chinchilla = load_model("chinchilla-70b")
    plain = load_model({"base": "chinchilla-70b", "positions": "none"})
    assert ours(chinchilla) - ours(plain) == chinchilla.layers * chinchilla.hidden_size**2


def test_albert_counts_shared_layers_once() -> None:
    one, many = (load_model({"base": "albert-base", "layers": layers}) for layers in (1, 12))
    assert ours(one) == ours(many)
    own = load_model({"base": "albert-base", "shared_layers": False})
    assert ours(own) > 5 * ours(many)


SMALL = {
    "id": "small",
    "name": "small",
    "family": "gpt",
    "kind": "decoder",
    "objective": "causal",
    "layers": 2,
    "hidden_size": 48,
    "attention_heads": 4,
    "feed_forward_size": 96,
    "vocabulary_size": 100,
    "training": {"sequence_length": 16, "global_batch": 8},
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attention_heads": 5}, ["attention_heads=5", "hidden_size=48", "head_size"]),
        ({"key_value_heads": 3}, ["key_value_heads=3", "attention_heads=4"]),
        ({"experts": 2, "experts_per_token": 3}, ["experts_per_token=3", "experts=2"]),
        ({"experts": 8, "expert_groups": 3}, ["expert_groups=3", "experts=8"]),
        ({"experts": 8, "expert_groups": 2, "groups_per_token": 3}, ["groups_per_token=3", "expert_groups=2"]),
        ({"experts": 8, "experts_per_token": 3, "expert_groups": 4}, ["groups_per_token=1", "experts_per_token=3"]),
        ({"experts": 2, "expert_period": 3}, ["expert_period=3", "layers=2"]),
        ({"kind": "encoder-decoder"}, ["decoder_layers"]),
        ({"decoder_layers": 2}, ["decoder_layers"]),
        ({"objective": "seq2seq"}, ["seq2seq", "encoder-decoder"]),
        ({"layers": 0}, ["layers=0", "at least 1"]),
        ({"layers": -1}, ["layers=-1", "at least 1"]),
        ({"layers": "many"}, ["layers='many'"]),
        ({"hidden_size": float("nan")}, ["hidden_size=nan"]),
        ({"hiden_size": 48}, ["unknown key", "hidden_size"]),
        ({"mask_rate": 0.0}, ["mask_rate", "greater than 0"]),
        ({"mask_rate": float("nan")}, ["mask_rate"]),
        ({"norms_per_layer": 5}, ["norms_per_layer=5", "at most 4"]),
        ({"biases": ["everything"]}, ["biases", "qkv"]),
        ({"training": {"sequence_length": 16}}, ["training.global_batch", "missing"]),
        ({"published_parameters": {"value": -1.0}}, ["published_parameters", "greater than 0"]),
    ],
)
def test_wrong_models_get_one_sentence(changes: dict[str, object], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_model({**SMALL, **changes})
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_defaults_of_a_model() -> None:
    model = load_model(SMALL)
    assert isinstance(model, Model)
    assert (model.kv_heads, model.width_of_head, model.all_layers) == (4, 12, 2)
    assert load_model({**SMALL, "head_size": 7, "attention_heads": 5}).width_of_head == 7
    assert load_model({"base": "t5-small", "decoder_layers": 3}).all_layers == 9


def test_a_decoder_classifies_without_pooler_and_an_encoder_with_one() -> None:
    for base, more in (("bert-base", 768 * 768 + 768 + 3 * 768 + 3), ("gpt2-124m", 3 * 768)):
        bare = load_model({"base": base, "objective": "span"})
        classified = load_model({"base": base, "objective": "classification", "classes": 3})
        assert ours(classified) - ours(bare) == more - (2 * 768 + 2)


def test_parameters_do_not_depend_on_the_workload() -> None:
    model = load_model("t5-small")
    short = Workload(sequence_length=32, target_length=8, global_batch=1).resolve(model)
    assert parameters_of(model, short) == ours(model)
