"""A variation is the estimate of the scenario as somebody would have written it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

import simulator
from hardware import catalogue
from hardware.spec import System
from simulator import Estimate, InputError, Variation, WhatIf
from simulator.variations import places
from simulator.variations.expressions import Value, parse
from simulator.variations.whatif import MOST

WORK = {"sequence_length": 128, "global_batch": 512}
BERT: dict[str, Any] = {"model": "bert-large", "system": "dgx-a100-640gb", "workload": WORK}
MANY: dict[str, Any] = {**BERT, "devices": 64, "workload": {**WORK, "global_batch": 4096}}
PALM: dict[str, Any] = {
    "model": "palm-540b",
    "system": "palm-2pod",
    "stack": "pathways",
    "plan": {"dp": 512, "tp": 12, "sharding": "hybrid", "sharding_group": 256, "micro_batch": 4},
}


def _one(vary: Any, scenario: dict[str, Any] = BERT, **options: Any) -> Variation:
    (variation,) = simulator.whatif(**scenario, vary=vary, **options).variations
    return variation


def _answer(variation: Variation) -> Estimate:
    assert variation.estimate is not None, variation.problem
    return variation.estimate


def _numbers(answer: Estimate) -> dict[str, Any]:
    """All but the words: what was chosen before and is kept counts as given."""
    return replace(answer, assumed=(), sources=()).to_dict()


def _kept(scenario: dict[str, Any] = BERT, **changes: Any) -> Estimate:
    """The estimate of a scenario with the plan that the unchanged one has."""
    base = simulator.resolve(**scenario)
    return simulator.estimate(
        **{**scenario, "plan": base.plan, "stack": base.stack, "devices": base.devices, **changes}
    )


def _system(document: dict[str, Any], **figures: Any) -> System:
    """A system with other figures, as a file would give them."""
    written = simulator.load_system(document["system"]).model_dump(mode="json", exclude_unset=True)
    for name, figure in figures.items():
        *inside, last = name.split("__")
        place = written
        for part in inside:
            place = place[part]
        place[last] = figure
    return System.model_validate(written)


# rows are estimates


@pytest.mark.parametrize(
    ("vary", "figures"),
    [
        ("system.intra_node.bandwidth=0.5x", {"intra_node__bandwidth": "150 GB/s"}),
        ("system.inter_node.bandwidth=+20%", {"inter_node__bandwidth": "1920 Gb/s"}),
        ("system.inter_node.bandwidth=800 Gb/s", {"inter_node__bandwidth": "800 Gb/s"}),
        ("system.inter_node.kind=ethernet", {"inter_node__kind": "ethernet"}),
        ("system.device.memory_bandwidth=3 TB/s", {"device__memory__bandwidth": "3 TB/s"}),
        ("system.device.memory.bandwidth=0.5x", {"device__memory__bandwidth": "1019.5 GB/s"}),
        ("system.device.peak.fp16=200 TFLOP/s", {"device__peak__fp16": "200 TFLOP/s"}),
        ("system.device.peak=0.5x", {"device__peak__fp16": "156 TFLOP/s", "device__peak__bf16": "156 TFLOP/s"}),
        (
            "system.device.memory_capacity=0.5x",
            {"device__memory__capacity": "40 GB", "device__memory__usable": "39.675 GiB"},
        ),
        ("system.device.processors=100", {"device__processors": 100}),
        ("system.host.power=13 kW", {"host__power": "13 kW"}),
    ],
)
def test_a_figure_of_the_system(vary: str, figures: dict[str, Any]) -> None:
    row = _one(vary, MANY)
    assert _numbers(_answer(row)) == _numbers(_kept(MANY, system=_system(MANY, **figures)))


@pytest.mark.parametrize(
    ("vary", "changes"),
    [
        ("workload.sequence_length=2x", {"workload": {**WORK, "sequence_length": 256}}),
        ("workload.global_batch=1024", {"workload": {**WORK, "global_batch": 1024}}),
        ("workload.effective_tokens=0.75x", {"workload": {**WORK, "effective_tokens": 96}}),
        ("workload.tokens=1B", {"workload": {**WORK, "tokens": 1e9}}),
        ("workload.steps=2x", {"workload": {**WORK, "steps": 2_000_000}}),
        ("model.layers=0.5x", {"model": {"base": "bert-large", "layers": 12}}),
        ("model.objective=span", {"model": {"base": "bert-large", "objective": "span"}}),
        ("price=2", {"price": 2}),
        ("price=runpod", {"price": "runpod"}),
        ("price_kind=spot", {"price_kind": "spot"}),
        ("reliability.failure_rate=0.01 /d", {"reliability": {"failure_rate": "0.01 /d"}}),
        ("grid=fr", {"grid": "fr"}),
        ("constants=none", {"constants": "none"}),
        ("system=dgx-h100", {"system": "dgx-h100"}),
    ],
)
def test_other_parts_of_the_scenario(vary: str, changes: dict[str, Any]) -> None:
    assert _numbers(_answer(_one(vary))) == _numbers(_kept(**changes))


@pytest.mark.parametrize(
    "plan", [{"recompute": "full"}, {"micro_batch": 16}, {"sharding": "zero1"}, {"optimizer": "lamb"}]
)
def test_a_field_of_the_plan(plan: dict[str, Any]) -> None:
    ((name, value),) = plan.items()
    full = simulator.resolve(**BERT).plan.model_copy(update=plan)
    assert _numbers(_answer(_one(f"plan.{name}={value}"))) == _numbers(_kept(plan=full))


@pytest.mark.parametrize(
    ("vary", "changes"),
    [
        ("plan.tp=2", {"plan": {"tp": 2}}),
        ("plan.precision=fp32", {"plan": {"precision": "fp32"}}),
        ("workload.global_batch=256", {"workload": {**WORK, "global_batch": 256}}),
        ("devices=16", {"devices": 16}),
        ("system=dgx-h100", {"system": "dgx-h100"}),
        ("system=tpu-v4-pod", {"system": "tpu-v4-pod"}),
        ("stack=megatron-lm", {"stack": "megatron-lm"}),
    ],
)
def test_with_a_new_plan_it_is_the_estimate_of_what_was_given(vary: str, changes: dict[str, Any]) -> None:
    expected = simulator.estimate(**{**BERT, "devices": 8, **changes})
    assert _numbers(_answer(_one(vary, replan=True))) == _numbers(expected)


@pytest.mark.parametrize("replan", [False, True])
@pytest.mark.parametrize(
    "path",
    ["system.device.peak", "system.device.memory_capacity", "system.latency", "stack.launch", "devices", "price",
     "system.inter_node.latency", "workload.global_batch", "plan.micro_batch", "model.hidden_size"],
)  # fmt: skip
def test_once_is_the_scenario_as_it_is(path: str, replan: bool) -> None:
    whatif = simulator.whatif(**BERT, vary=f"{path}=1x,+0%", replan=replan)
    for row in whatif.variations:
        assert row.time_ratio == 1.0
        assert _numbers(_answer(row)) == _numbers(whatif.base)
    assert whatif.base == simulator.estimate(**BERT)


# how variations compare


@pytest.mark.parametrize("scenario", [BERT, MANY, PALM], ids=["8", "64", "palm"])
def test_worse_hardware_is_never_faster(scenario: dict[str, Any]) -> None:
    levels = [name for name, _, _ in simulator.load_system(scenario["system"]).levels]
    rates = ["system.device.peak", "system.device.memory_bandwidth", *(f"system.{name}.bandwidth" for name in levels)]
    for path in rates:
        half, same, twice = (
            row.time_ratio for row in simulator.whatif(**scenario, vary=f"{path}=0.5x,1x,2x").variations
        )
        assert half is not None
        assert same is not None
        assert twice is not None
        assert half >= same == 1.0 >= twice, path
    for path in ("stack.launch", "system.latency"):
        half, twice = (row.time_ratio for row in simulator.whatif(**scenario, vary=f"{path}=0.5x,2x").variations)
        assert half is not None
        assert twice is not None
        assert half <= 1.0 <= twice, path


def test_latency_of_one_level_and_of_all() -> None:
    of_all = _one("system.latency=1000x", MANY)
    alone = [_one(f"system.{level}.latency=1000x", MANY) for level in ("intra_node", "inter_node")]
    together = _one({"system.intra_node.latency": "1000x", "system.inter_node.latency": "1000x"}, MANY)
    assert of_all.time_ratio == together.time_ratio
    assert 1.0 < max(row.time_ratio or 0 for row in alone) <= (of_all.time_ratio or 0)
    # A hop of InfiniBand takes 6.7 us.
    assert _one("system.inter_node.latency=13.4 us", MANY).changes[0].ratio == pytest.approx(2.0)


def test_latency_reaches_the_choice_of_a_plan() -> None:
    scenario = {**BERT, "model": "gpt3-13b", "devices": 16, "workload": {"global_batch": 64}}
    slow = _answer(_one("system.latency=1000000x", scenario, replan=True))
    kept = _answer(_one("system.latency=1000000x", scenario))
    assert slow.plan != kept.plan
    assert slow.step_time_s < kept.step_time_s


def test_two_places_make_every_combination_in_order() -> None:
    whatif = simulator.whatif(**BERT, vary=["system.device.peak=0.5x,2x", "plan.micro_batch=8,16,32"])
    assert [tuple(edit.text for edit in row.changes) for row in whatif.variations] == [
        (peak, batch) for peak in ("0.5x", "2x") for batch in ("8", "16", "32")
    ]
    alone = simulator.whatif(**BERT, vary="plan.micro_batch=8").variations[0]
    both = _one(["plan.micro_batch=8", "system.device.peak=1x"])
    assert both.estimate == alone.estimate


def test_the_order_of_places_does_not_matter() -> None:
    first, second = "system=dgx-h100", "system.inter_node.bandwidth=0.5x"
    assert _one([first, second]).estimate == _one([second, first]).estimate
    h100 = simulator.load_system("dgx-h100")
    assert h100.inter_node is not None
    assert _one([first, second]).changes[1].value == f"{h100.inter_node.bandwidth / 2e9:g} GB/s"


def test_a_mapping_says_the_same_as_expressions() -> None:
    by_mapping = simulator.whatif(**BERT, vary={"plan.micro_batch": [8, 16], "plan.recompute": "none,full"})
    assert by_mapping == simulator.whatif(**BERT, vary=["plan.micro_batch=8,16", "plan.recompute=none,full"])


def test_what_changed_is_told_with_its_unit() -> None:
    row = _one(["system.device.memory_bandwidth=0.5x", "workload.global_batch=2x", "plan.recompute=full"])
    assert [(edit.value, edit.ratio) for edit in row.changes] == [("1.0195 TB/s", 0.5), ("1,024", 2.0), ("full", None)]


# plans


def test_the_plan_is_kept_unless_it_shall_be_chosen_anew() -> None:
    vary = "system.device.memory_capacity=0.15x"
    base, kept, anew = simulator.estimate(**BERT), _answer(_one(vary)), _answer(_one(vary, replan=True))
    assert kept.plan == base.plan
    assert not kept.fits
    assert anew.fits
    assert anew.plan["micro_batch"] < base.plan["micro_batch"]


def test_a_variation_that_does_not_fit_says_so() -> None:
    row = _one("system.device.memory_capacity=0.1x")
    assert row.problem is not None
    assert re.match(r"does not fit: needs 16\.\d GiB on a device with 7\.9 GiB", row.problem)
    assert row.to_dict()["fits"] is False


def test_a_kept_plan_that_breaks_a_rule_says_so_and_the_others_are_priced() -> None:
    broken, priced = simulator.whatif(**BERT, vary="workload.global_batch=100,1024").variations
    assert broken.estimate is None
    assert broken.time_ratio is None
    assert broken.problem is not None
    assert "does not divide global_batch=100" in broken.problem
    assert priced.problem is None


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ("devices=100000", "dgx-a100-640gb has 1 to 16384 devices"),
        ("plan.tp=3", "does not divide devices=8"),
        ("plan.dp=4", "is not devices=8"),
        ("plan.precision=fp8", "a100-sxm4-80gb has no units for it"),
        ("system=tpu-v4-pod", "stack=pytorch-ddp runs on a gpu and tpu-v4 is a tpu"),
        ("model.attention_heads=5", "does not divide hidden_size"),
        ("workload.effective_tokens=2x", "exceeds sequence_length"),
    ],
)
def test_what_contradicts_something_else_is_an_answer(vary: str, words: str) -> None:
    problem = _one(vary).problem
    assert problem is not None
    assert words in problem


def test_a_stack_that_nobody_chose_gives_way_where_it_lacks_what_is_varied() -> None:
    varied = _one("plan.sharding=zero3")
    assert varied.note == "with pytorch-fsdp, since pytorch-ddp lacks it"
    assert _answer(varied).stack == "pytorch-fsdp"
    chosen = _one("plan.sharding=zero3", {**BERT, "stack": "pytorch-ddp"})
    assert "stack=pytorch-ddp has no sharding=zero3" in (chosen.problem or "")


def test_replicas_follow_devices_and_degrees_unless_they_were_given() -> None:
    assert _answer(_one("devices=4")).plan["dp"] == 4
    assert _answer(_one("plan.tp=2", {**BERT, "stack": "megatron-lm"})).plan["dp"] == 4
    scenario = {**BERT, "plan": {"dp": 8, "micro_batch": 8}}
    assert "is not devices=4" in (_one("devices=4", scenario).problem or "")


def test_precision_takes_the_formats_of_its_states_along() -> None:
    plan = _answer(_one("plan.precision=fp32")).plan
    assert (plan["parameters_in_fp32"], plan["gradients_in_fp32"], plan["master_weights"]) == (True, True, False)


# places


@pytest.mark.parametrize("name", catalogue.names("systems"))
def test_a_system_survives_being_rebuilt(name: str) -> None:
    system = simulator.load_system(name)
    sheets = dict.fromkeys(places.SHEETS, system)
    changed, _ = places.edited("system", sheets, {"device.memory_bandwidth": Value("2x", 2.0)}, "bf16")
    back, _ = places.edited(
        "system", {**sheets, "system": changed}, {"device.memory_bandwidth": Value("0.5x", 0.5)}, ""
    )
    assert back.model_dump() == system.model_dump()
    kept = {key: value for key, value in system.device.memory.provenance.items() if key != "bandwidth"}
    assert isinstance(back, System)
    assert dict(back.device.memory.provenance) == kept
    assert back.provenance == system.provenance


def test_every_figure_that_is_offered_can_be_varied() -> None:
    scenario = simulator.resolve(**MANY)
    sheets = {root: getattr(scenario, root) for root in ("system", "stack")}
    for root, sheet in sheets.items():
        for name, value, _ in sheet.figures():
            path = f"{root}.{name}"
            if isinstance(value, bool) or not isinstance(value, float) or path not in _offered(scenario):
                continue
            row = _one(f"{path}=0.9x", MANY)
            assert row.problem is None or value == 0, path


def _offered(scenario: simulator.Scenario) -> list[str]:
    sheets = {root: getattr(scenario, root) for root in ("system", "stack", "model", "workload", "plan", "reliability")}
    return places.paths_of({**sheets, "ownership": sheets["reliability"]})


@pytest.mark.parametrize("path", ["clock", "last_level_cache", "scale_up.bandwidth", "peak.fp64", "memory.kind"])
def test_what_no_formula_reads_cannot_be_varied(path: str) -> None:
    with pytest.raises(InputError, match=f"system.device.{path} cannot be varied"):
        simulator.whatif(**BERT, vary=f"system.device.{path}=1x")


@pytest.mark.parametrize(
    ("text", "factor"), [("2x", 2.0), ("0.5x", 0.5), (".5 x", 0.5), ("1e-1x", 0.1), ("+20%", 1.2), ("- 20%", None),
                         ("-20 %", 0.8), ("3 TB/s", None), ("full", None), ("x", None), ("-2x", None)]
)  # fmt: skip
def test_values(text: str, factor: float | None) -> None:
    assert parse(f"plan.tp={text}")[0].values[0].factor == factor


# mistakes


@pytest.mark.parametrize(
    ("vary", "sentence"),
    [
        ("", "vary='' has no values; write PATH=VALUE"),
        ("devices", "vary='devices' has no values"),
        ("devices=", "vary='devices=' has an empty value"),
        ("devices=8,", "has an empty value"),
        ("=8", "names no place of the scenario"),
        ([], "nothing is varied"),
        ({}, "nothing is varied"),
        ({"devices": []}, "has an empty value"),
        (["devices=8", "devices=16"], "devices is varied twice; give all its values at once"),
        ("system.inter_node.bandwith=2x", "did you mean system.inter_node.bandwidth"),
        ("inter_node.bandwidth=2x", "did you mean system.inter_node.bandwidth"),
        ("device=8", "unknown place 'device'; did you mean"),
        ("zzz=8", "unknown place 'zzz'; known: devices, system.device.peak"),
        ("system.cross_pod.bandwidth=2x", "this system has no cross_pod; levels that it has: intra_node, inter_node"),
        ("system.cross_pod.latency=2x", "this system has no cross_pod"),
        ("system.id=x", "system.id cannot be varied"),
        ("system.device=a100", "unknown place 'system.device'; did you mean system.device"),
        ("system.device.peak=5", "'5' has no unit; a compute rate is written like '5 TFLOP/s'"),
        ("system.device.peak=5 GB/s", "'GB/s' is not a unit of compute rate"),
        ("system.inter_node.bandwidth=nan", "'nan' is not a bandwidth"),
        ("system.inter_node.bandwidth=inf GB/s", "is not a bandwidth"),
        ("system.inter_node.bandwidth=-5 GB/s", "is out of range"),
        ("system.inter_node.bandwidth=1e300x", "is out of range"),
        ("system.inter_node.bandwidth=0x", "must leave more than nothing"),
        ("system.inter_node.bandwidth=1e999x", "must leave more than nothing and be finite"),
        ("system.inter_node.bandwidth=-100%", "must leave more than nothing"),
        ("system.inter_node.bandwidth=20%", "write +20% or -20%, or a multiple"),
        ("system.inter_node.bandwidth=nanx", "'nanx' is not a bandwidth"),
        ("system.inter_node.kind=token-ring", "unknown kind of link of inter_node 'token-ring'"),
        ("system.inter_node.latency=5", "'5' has no unit; a time is written like '5 s'"),
        ("system.latency=5 us", "levels differ in latency; give multiples"),
        ("system.device.device_class=abacus", "unknown device class 'abacus'; known: a100"),
        ("system.device.processors=0.3x", "0.3x of 108 is 32.4, not a whole number"),
        ("system=dgx", "unknown system 'dgx'; did you mean"),
        ("system=2x", "name another system"),
        ("model=bert", "unknown model 'bert'; did you mean bert-"),
        ("model.layers=-1", "model.layers=-1: must be at least 1"),
        ("model.layers=" + "9" * 190, "must be at most 10,000,000"),
        ("model.layers=" + "9" * 900, "a value has at most 200 characters"),
        ("model.key_value_heads=2x", "model.key_value_heads is not set; give the values themselves"),
        ("stack=megatrom", "unknown stack 'megatrom'; did you mean megatron"),
        ("stack.overlap.gradients=2", "stack.overlap.gradients=2: must be at most 1"),
        ("plan.recompute=half", "plan.recompute='half': valid: 'none', 'selective', 'operators' or 'full'"),
        ("plan.recompute=2x", "plan.recompute is none; give the values themselves"),
        ("plan.micro_batch=0.3x", "0.3x of 64 is 19.2, not a whole number"),
        ("plan.micro_batch=nan", "must be a whole number"),
        ("plan.sequence_parallel=maybe", "must be true or false"),
        ("plan.placement=tp", "'tp' must name tp, cp, dp and pp once each"),
        ("workload.tokens=1e400", "must be a finite number"),
        ("workload.global_batch=0", "must be at least 1"),
        ("devices=0", "devices='0': must be from 1"),
        ("devices=1.5", "devices='1.5': must be a whole number"),
        ("devices=1e300x", "devices='1e300x': must be from 1"),
        ("price=lamda", "price='lamda': no such offer"),
        ("price=1e-30x", "out of range"),
        ("price_kind=stolen", "unknown kind of price 'stolen'; known: on-demand"),
        ("grid=mars", "unknown grid 'mars'; known: "),
        ("overhead=2x", "name another overhead"),
        ("constants=nowhere.yaml", "nowhere.yaml: cannot be read"),
        ("reliability.restart=2x", "reliability.restart is not set"),
    ],
)
def test_one_sentence_says_what_would_be_valid(vary: Any, sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        simulator.whatif(**BERT, vary=vary)
    assert sentence in str(refused.value)
    assert len(str(refused.value)) < 600
    assert str(refused.value).isprintable()


def test_too_many_variations_are_refused_before_any_is_priced() -> None:
    vary = {"system.device.peak": [f"{i}x" for i in range(1, 102)], "plan.micro_batch": list(range(1, 102))}
    with pytest.raises(InputError, match=rf"101 x 101 = 10,201 variations are too many; at most {MOST:,}"):
        simulator.whatif(**BERT, vary=vary)


def test_a_place_that_only_another_system_has() -> None:
    whatif = simulator.whatif(**BERT, replan=True, vary=["system=palm-2pod", "system.cross_pod.bandwidth=0.5x"])
    assert whatif.variations[0].problem is None
    mixed = simulator.whatif(**BERT, replan=True, vary=["system=palm-2pod,dgx-h100", "system.cross_pod.bandwidth=0.5x"])
    assert [row.problem is None for row in mixed.variations] == [True, False]


# sensitivity


@pytest.mark.parametrize("scenario", [BERT, MANY, PALM], ids=["8", "64", "palm"])
def test_levers_are_sorted_by_their_span(scenario: dict[str, Any]) -> None:
    sensitivity = simulator.sensitivity(**scenario)
    spans = [lever.span for lever in sensitivity.levers]
    assert spans == sorted(spans, reverse=True)
    for lever in sensitivity.levers:
        assert lever.low <= 1.0 <= lever.high
        assert lever.span == lever.high - lever.low


def test_every_usual_lever_is_there_and_those_that_a_system_lacks_are_not() -> None:
    both = {"peak FLOP/s", "memory bandwidth", "memory size", "inter-node bandwidth", "link latency",
            "host launch time", "global batch", "sequence length", "devices"}  # fmt: skip
    assert {lever.name for lever in simulator.sensitivity(**BERT).levers} == both | {"intra-node bandwidth"}
    assert {lever.name for lever in simulator.sensitivity(**PALM).levers} == both | {"cross-pod bandwidth"}


def test_a_lever_is_the_variation_of_its_place() -> None:
    levers = {lever.name: lever for lever in simulator.sensitivity(**MANY, factor=4).levers}
    for name, path in [("inter-node bandwidth", "system.inter_node.bandwidth"), ("peak FLOP/s", "system.device.peak")]:
        rows = simulator.whatif(**MANY, vary=f"{path}=0.25x,4x").variations
        assert [row.estimate for row in levers[name].variations] == [row.estimate for row in rows]


def test_elasticity_says_how_strong_a_lever_is() -> None:
    elasticities = {lever.name: lever.elasticity for lever in simulator.sensitivity(**PALM).levers}
    peak, network, idle = elasticities["peak FLOP/s"], elasticities["inter-node bandwidth"], elasticities["memory size"]
    assert peak is not None
    assert network is not None
    assert -1.0 <= peak < -0.7 < network < 0.0
    assert idle == 0.0
    (stack,) = simulator.sensitivity(**BERT, vary="stack=megatron-lm").levers
    assert stack.elasticity is None


def test_a_tornado_lets_replicas_and_micro_batch_give_way() -> None:
    notes = {
        (lever.name, row.changes[0].text): row.note
        for lever in simulator.sensitivity(**PALM).levers
        for row in lever.variations
    }
    assert notes["devices", "3072"] == "dp=256 instead of 512"
    assert notes["global batch", "1024"] == "micro-batch 2 instead of 4"
    assert notes["peak FLOP/s", "2x"] is None


def test_contents_of_a_sequence_keep_their_share() -> None:
    scenario = {**BERT, "workload": {**WORK, "effective_tokens": 100, "predictions": 20}}
    (lever,) = [each for each in simulator.sensitivity(**scenario).levers if each.name == "sequence length"]
    work = [_answer(row).workload for row in lever.variations]
    assert [(each["sequence_length"], each["effective_tokens"], each["predictions"]) for each in work] == [
        (64, 50, 10),
        (256, 200, 40),
    ]


def test_levers_of_ones_own() -> None:
    sensitivity = simulator.sensitivity(**BERT, vary=["plan.recompute=none,full", "workload.global_batch=64,512,1024"])
    assert {lever.name: len(lever.variations) for lever in sensitivity.levers} == {
        "plan.recompute": 2,
        "workload.global_batch": 3,
    }
    assert sensitivity.factor is None


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 0, 1, -2, 1e9])
def test_a_factor_that_moves_nothing_or_everything_is_refused(factor: float) -> None:
    with pytest.raises(InputError, match=r"give a number above 1 and up to 100, such as 1\.25"):
        simulator.sensitivity(**BERT, factor=factor)


def test_results_cannot_be_changed() -> None:
    whatif: WhatIf = simulator.whatif(**BERT, vary="devices=8")
    with pytest.raises(AttributeError):
        whatif.replan = True  # type: ignore[misc]
