"""From a record to a profile: what is true comes back, and what was not measured is said to be borrowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simulator
from hardware.catalogue import load_class, load_device, load_profile
from hardware.errors import InputError
from hardware.measured import HeldOutScore, MeasuredProfile
from hardware.spec import Device
from simulator.pricing.measured import device_of
from simulator.pricing.measured_links import MeasuredLinks
from simulator.profiling import calibrate, shipped
from simulator.profiling.fit import products
from simulator.profiling.fit.sheet import DataSheet
from simulator.profiling.fit.steps import compare
from simulator.profiling.records import journal
from simulator.profiling.records.reading import measurements_of, steps_of
from simulator.profiling.records.record import CallTimes, Case, Record, Result, Session
from simulator.profiling.records.rows import Products, Values
from simulator.profiling.tables import reading as tables
from simulator.specs.loading import load_stack
from tests.profiling.conftest import Calibrated, Fit
from tests.profiling.made_up import UNSEEN, graphics, processor

_NOISE = 0.02


def _scores(profile: MeasuredProfile) -> dict[str, HeldOutScore]:
    return {score.what: score for score in profile.held_out}


def _changed(record: Record, **changes: Any) -> Record:
    """The record of a device of which something else is said."""
    (first, *others) = record.sessions
    device = first.environment.device.model_copy(update=changes)
    environment = first.environment.model_copy(update={"device": device})
    return Record((Session(environment, first.results), *others))


# what is true comes back


def test_constants_of_kernels_come_back(calibrated: Calibrated) -> None:
    """As rates: the sheet of a processor is the best that was measured, so that shares of it are others."""
    made, profile = calibrated.made, calibrated.profile
    device, dtype = device_of(profile), made.dtype
    truth, fitted = made.truth.constants.gemm[dtype], profile.constants.gemm[dtype]
    scale = getattr(device.peak, dtype) / getattr(made.device.peak, dtype)
    assert fitted.efficiency * scale == pytest.approx(truth.efficiency, rel=0.04)
    assert fitted.launch == pytest.approx(truth.launch, rel=0.06)
    assert fitted.fill == pytest.approx(truth.fill, rel=0.1)
    assert fitted.sustained == pytest.approx(truth.sustained, rel=0.02)
    wider = float(device.memory.bandwidth) / float(made.device.memory.bandwidth)
    assert fitted.bandwidth_efficiency * wider == pytest.approx(truth.bandwidth_efficiency, rel=0.05)
    weight_gradient = made.truth.constants.weight_gradient_efficiency
    assert profile.constants.weight_gradient_efficiency == pytest.approx(weight_gradient, rel=0.02)
    memory, true_memory = profile.constants.memory, made.truth.constants.memory
    assert memory.efficiency * wider == pytest.approx(true_memory.efficiency, rel=0.04)
    assert memory.normalisation_efficiency * wider == pytest.approx(true_memory.normalisation_efficiency, rel=0.05)
    fused, true_fused = profile.constants.attention[dtype], made.truth.constants.attention[dtype]
    assert fused.efficiency * scale == pytest.approx(true_fused.efficiency, rel=0.12)
    assert fused.backward_efficiency * scale == pytest.approx(true_fused.backward_efficiency, rel=0.12)


def test_constants_of_steps_come_back(on_graphics: Calibrated) -> None:
    constants = on_graphics.profile.stacks["pytorch-eager"]
    truth = on_graphics.made.truth.stacks["pytorch-eager"]
    assert constants.step_overhead == pytest.approx(truth.step_overhead, rel=0.1)
    assert constants.drawn == pytest.approx(truth.drawn, rel=0.15)
    assert constants.streams["optimizer"].forward == pytest.approx(truth.streams["optimizer"].forward, rel=0.05)
    assert "steps" not in on_graphics.profile.borrowed


def test_links_come_back(on_graphics: Calibrated) -> None:
    sizes: Values = 2.0 ** np.arange(12, 29).astype(np.float64)
    truth, links = (MeasuredLinks(each.links) for each in (on_graphics.made.truth, on_graphics.profile))
    for kind in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all"):
        for ranks in (2.0, 4.0):
            expected, _ = truth.time(kind, sizes, ranks)
            time, known = links.time(kind, sizes, ranks)
            assert np.all(known)
            assert time == pytest.approx(expected, rel=0.08)


def test_held_out_errors_are_those_of_the_noise(calibrated: Calibrated) -> None:
    """The median of a normal deviation is two thirds of it; what the form leaves out is less than the noise."""
    of_steps = 0
    for score in calibrated.profile.held_out:
        if score.scored >= 20 or score.phase == "step":
            assert score.median <= (2.0 if score.phase == "collective" else 1.3) * _NOISE, score.what
            assert score.before is not None
            assert score.median < 0.35 * score.before, score.what
            of_steps += score.phase == "step"
    assert of_steps == 1
    assert {"gemm", "attention", "step"} <= {score.phase for score in calibrated.profile.held_out}


def test_rows_are_fitted_or_scored_and_never_both(on_graphics: Calibrated) -> None:
    rows = measurements_of(on_graphics.record).products
    scores = _scores(on_graphics.profile)
    for dtype in ("bf16", "tf32"):
        every = scores[f"all {dtype} products"]
        assert every.fitted + every.scored == int((rows.dtype == dtype).sum())
    steps = scores["steps of models left out"]
    assert steps.scored == len(steps_of(on_graphics.record))


def test_steps_of_a_model_unlike_all_others_are_not_learned_from_themselves(fit: Fit) -> None:
    """All steps of one model take twice as long: nothing but these steps could tell."""
    made = graphics()
    record = made.record(tiers=("step",), keep=lambda case: case.dimensions.get("layers") == 2)

    def slower(result: Result) -> Result:
        if not result.case.variant.startswith("gpt2"):
            return result
        parts = {name: _doubled(times) for name, times in result.parts.items()}
        return result.model_copy(update={"times": _doubled(result.times), "parts": parts})

    (session,) = record.sessions
    changed = Record((Session(session.environment, tuple(slower(result) for result in session.results)),))
    assert _scores(fit(changed))["steps of models left out"].p90 > 0.4


def _doubled(times: CallTimes | None) -> CallTimes:
    assert times is not None
    doubled = {name: 2.0 * getattr(times, name) for name in ("least", "lower_quartile", "median", "upper_quartile")}
    return times.model_copy(update=doubled)


def test_steps_of_other_models_are_predicted(calibrated: Calibrated) -> None:
    made = calibrated.made
    asked = steps_of(made.record(UNSEEN, ("step",), noise=0.0, keep=lambda case: case.phase == "step"))
    assert len(asked) >= 12
    steps = compare(asked, calibrated.profile, device_of(calibrated.profile))
    errors = np.array([abs(each.error) for each in steps])
    before = np.array([abs(each.before_s / each.step.seconds - 1.0) for each in steps])
    assert np.median(errors) < 0.015
    assert errors.max() < 0.06
    assert np.median(errors) < 0.2 * np.median(before)


@pytest.mark.parametrize("model", UNSEEN)
def test_estimates_of_whole_models_are_near_the_truth(on_graphics: Calibrated, model: str) -> None:
    asked: dict[str, Any] = {
        "system": "rtx-3090",
        "stack": "pytorch-eager",
        "plan": {"precision": "bf16", "micro_batch": 8, "recompute": "none"},
        "workload": {"sequence_length": 128, "global_batch": 32},
    }
    truth = simulator.estimate(model, profile=on_graphics.made.truth, **asked).step_time_s
    estimate = simulator.estimate(model, profile=on_graphics.profile, **asked)
    without = simulator.estimate(model, **asked).step_time_s
    assert estimate.step_time_s == pytest.approx(truth, rel=0.03)
    assert abs(estimate.step_time_s / truth - 1.0) < 0.2 * abs(without / truth - 1.0)
    assert estimate.step_time_low_s is not None
    assert estimate.step_time_high_s is not None
    assert estimate.step_time_low_s < truth < estimate.step_time_high_s
    assert estimate.step_time_high_s / estimate.step_time_low_s < 1.15


# less and less data


def test_the_more_was_measured_the_nearer_are_products_of_other_models(fit: Fit, on_graphics: Calibrated) -> None:
    made = graphics()
    asked = measurements_of(made.record(UNSEEN, ("model",), noise=0.0)).products
    probed = made.record(tiers=("probe",), keep=lambda case: case.phase == "gemm")
    nothing, twelve = fit(made.record(tiers=())), fit(probed)
    errors = [_error(asked, profile) for profile in (nothing, twelve, on_graphics.profile)]
    assert errors[0] > 0.2
    assert errors[1] < 0.05
    assert errors[2] < 0.6 * errors[1]


def _error(asked: Products, profile: MeasuredProfile) -> float:
    """How far off products in bf16 are, in the median."""
    sheet, gradient = DataSheet.of(device_of(profile), "bf16"), profile.constants.weight_gradient_efficiency
    seconds = products.seconds(asked, sheet, profile.constants.gemm["bf16"], weight_gradient=gradient)
    return float(np.median(np.abs(seconds / asked.seconds - 1.0)))


def test_nothing_measured_leaves_the_catalogue_and_says_so(fit: Fit) -> None:
    profile = fit(graphics().record(tiers=()))
    assert profile.constants == load_class("rtx-3090")
    assert (profile.fitted, profile.held_out, profile.stacks, profile.links) == ((), (), {}, {})
    assert profile.borrowed["steps"] == "0 training steps were measured, and 3 are needed"
    for name in ("gemm.bf16", "gemm.fp32", "attention", "memory"):
        assert profile.borrowed[name].endswith("measured; as rtx-3090")
    with_it = simulator.estimate("bert-large", "rtx-3090", profile=profile)
    assert with_it.step_time_s == simulator.estimate("bert-large", "rtx-3090").step_time_s
    assert with_it.basis is not None
    assert with_it.basis["catalogue"] > 0.9


def test_twelve_probes_fit_what_they_can_and_borrow_the_rest(fit: Fit) -> None:
    made = graphics()
    profile = fit(made.record(tiers=("probe",), keep=lambda case: case.phase == "gemm"))
    start = load_class("rtx-3090").gemm["bf16"]
    fitted, truth = profile.constants.gemm["bf16"], made.truth.constants.gemm["bf16"]
    assert profile.fitted == ("bf16",)
    assert fitted.efficiency == pytest.approx(truth.efficiency, rel=0.05)
    assert fitted.sustained == pytest.approx(truth.sustained, rel=0.06)
    assert (fitted.fill, fitted.small_tile) == (start.fill, start.small_tile)
    assert profile.borrowed["gemm.bf16.fill"] == "12 shapes, 60 needed; as rtx-3090"
    assert profile.borrowed["gemm.bf16.weight_gradient"] == "0 weight gradients, 3 needed; as rtx-3090"
    assert profile.borrowed["gemm.fp16"] == "no product was measured; as rtx-3090"
    assert len(profile.products["bf16"].sizes) == 12
    every = _scores(profile)["all bf16 products"]
    assert every.fitted + every.scored == 13


def test_a_few_products_are_fitted_and_not_scored(fit: Fit) -> None:
    made = graphics()
    seven = [case for case in made.cases(("bert-base",), ("probe",)) if case.phase == "gemm"][:7]
    profile = fit(made.record(("bert-base",), ("probe",), keep=lambda case: case in seven))
    assert profile.fitted == ("bf16",)
    assert profile.held_out == ()


def test_two_steps_are_too_few(fit: Fit) -> None:
    made = graphics()
    steps = [case for case in made.cases(("bert-base",), ("step",)) if case.phase == "step"][:2]
    profile = fit(made.record(("bert-base",), ("step",), keep=lambda case: case in steps))
    assert profile.borrowed["steps"] == "2 training steps were measured, and 3 are needed"
    assert profile.stacks == {}


def test_steps_of_one_model_are_fitted_and_not_scored(fit: Fit) -> None:
    profile = fit(graphics().record(("bert-base",), ("step",)))
    assert set(profile.stacks) == {"pytorch-eager"}
    assert profile.held_out == ()
    assert profile.spread is None


def test_host_times_that_no_step_tells_are_borrowed(on_graphics: Calibrated, fit: Fit) -> None:
    """A large step keeps the device busy, and says nothing of the host; a slow host is seen."""
    made = graphics()
    busy = fit(made.record(("llama-3.2-1b",), ("step",)))
    known = load_stack("pytorch-eager")
    for name, value in (("launch", known.launch), ("step_overhead", known.step_overhead)):
        words = busy.borrowed[f"stacks.pytorch-eager.{name}"]
        assert words == "the steps hardly depend on it; as pytorch-eager has it"
        assert getattr(busy.stacks["pytorch-eager"], name) == pytest.approx(value, rel=0.2)
    assert "memory.launch" not in on_graphics.profile.borrowed
    software = made.truth.stacks["pytorch-eager"].model_copy(update={"launch": 6e-5})
    slow = replace(made, truth=made.truth.model_copy(update={"stacks": {"pytorch-eager": software}}))
    profile = fit(slow.record(("bert-base", "gpt2-124m"), ("probe", "model", "step")))
    assert "stacks.pytorch-eager.launch" not in profile.borrowed
    assert profile.stacks["pytorch-eager"].launch == pytest.approx(6e-5, rel=0.1)


# which device it is


def test_records_of_one_device_are_fitted_together(fit: Fit, tmp_path: Path) -> None:
    made = graphics()
    sides: list[Callable[[Case], bool]] = [lambda case: _side(case) == 0, lambda case: _side(case) == 1]
    halves = [
        made.record(("bert-base",), ("probe", "model", "step"), seed=seed, keep=side) for seed, side in enumerate(sides)
    ]
    whole = journal.merge(*halves)
    assert len(whole.results) == sum(len(half.results) for half in halves)
    both, merged = fit(*halves), fit(whole)
    assert _numbers(both) == _numbers(merged)
    assert both.stacks == merged.stacks
    assert both.products == merged.products
    assert both.held_out == merged.held_out
    assert both.source.count("capsim measure on GeForce RTX 3090, 2026-") == 2


def _numbers(profile: MeasuredProfile) -> dict[str, Any]:
    """The constants of products and attention in bf16, and of the memory."""
    constants = profile.constants
    kinds = {"gemm": constants.gemm["bf16"], "attention": constants.attention["bf16"], "memory": constants.memory}
    return {kind: each.model_dump(exclude={"source"}) for kind, each in kinds.items()}


def _side(case: Case) -> int:
    return sum(map(ord, case.key)) % 2


def test_records_of_two_devices_are_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    record = graphics().record(tiers=("first",))
    journal.write(one, record)
    journal.write(other, _changed(record, name="NVIDIA L4", catalogue="l4"))
    for device in (None, "rtx-3090"):
        with pytest.raises(InputError, match=r"other\.jsonl was measured on NVIDIA L4 .* and .*one\.jsonl on GeForce"):
            calibrate.calibrate([one, other], device=device)


def test_an_unknown_graphics_card_needs_its_sheet(fit: Fit, tmp_path: Path) -> None:
    made = graphics()
    record = _changed(made.record(tiers=("probe",)), name="Some Card", catalogue=None)
    with pytest.raises(InputError, match=r"record-0\.jsonl: the record is of 'Some Card', which is not .* --device"):
        fit(record)
    assert device_of(fit(record, device="rtx-3090")) == made.device
    sheet = tmp_path / "some-card.yaml"
    text = (Path(simulator.__file__).parents[1] / "hardware" / "devices" / "rtx-3090.yaml").read_text()
    sheet.write_text(text.replace("GeForce RTX 3090", "Some Card").replace("936 GB/s", "900 GB/s"))
    profile = fit(record, device=str(sheet), name="some-card.yaml")
    assert isinstance(profile.device, Device)
    assert (profile.id, profile.device.name, profile.device.memory.bandwidth) == ("some-card", "Some Card", 900e9)
    assert profile.device.memory.provenance["bandwidth"].source == ("ga102",)
    with pytest.raises(InputError, match="unknown device 'some-card'"):
        fit(record, device="some-card")


def test_a_changed_sheet_is_not_taken_for_the_catalogues(fit: Fit, tmp_path: Path) -> None:
    sheet = tmp_path / "rtx-3090.yaml"
    text = (Path(simulator.__file__).parents[1] / "hardware" / "devices" / "rtx-3090.yaml").read_text()
    sheet.write_text(text)
    record = graphics().record(tiers=("first",))
    assert fit(record, device=str(sheet)).device == "rtx-3090"
    sheet.write_text(text.replace("936 GB/s", "900 GB/s"))
    assert device_of(fit(record, device=str(sheet))).memory.bandwidth == 900e9


def test_a_sheet_of_another_kind_is_refused(fit: Fit) -> None:
    with pytest.raises(InputError, match=r"was measured on a cpu, and rtx-3090 is a gpu"):
        fit(processor().record(tiers=("first", "probe")), device="rtx-3090")
    with pytest.raises(InputError, match=r"was measured on a gpu, and tpu-v4 is a tpu"):
        fit(graphics().record(tiers=("first", "probe")), device="tpu-v4")


def test_a_processor_is_as_fast_as_its_fastest_product(fit: Fit) -> None:
    made = processor()
    record = made.record(tiers=("first", "probe"), noise=0.0)
    device = device_of(fit(record))
    rows = measurements_of(record).products
    assert device.peak.fp32 == pytest.approx(float((rows.flops / rows.seconds).max()), rel=1e-5)
    assert (device.kind, device.processors, device.name) == ("cpu", 1, "Some Processor")
    assert device.peak.provenance["fp32"].source == ("measured",)
    with pytest.raises(InputError, match="no product in fp32, so that the rate of the processor is not known"):
        fit(made.record(tiers=("first",)))
    with pytest.raises(InputError, match="no copy, so that the bandwidth of the memory is not known"):
        fit(made.record(tiers=("probe",)))


# tables


def test_a_table_needs_a_device() -> None:
    table = tables.SHIPPED / "gemm_simumax_bf16_passes.csv.gz"
    with pytest.raises(InputError, match=r"a table does not say which device of the catalogue it is of; give --device"):
        calibrate.calibrate([table])
    profile = calibrate.calibrate([table], device="a100-pcie-80gb", name="profiles/Mine.yaml")
    assert (profile.id, profile.device, profile.fitted, profile.stacks) == ("mine", "a100-pcie-80gb", ("bf16",), {})
    assert profile.borrowed["attention"] == "no fused attention was measured; as a100-pcie"
    assert _scores(profile)["large bf16 products"].median < 0.03


def test_rows_of_a_device_of_another_name(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("device,dtype,m,n,k,us\nmy card,bf16,4096,4096,4096,2400\n")
    with pytest.raises(InputError, match="rtx-3090"):
        calibrate.calibrate([table], device="rtx-3090")
    assert calibrate.calibrate([table], device="rtx-3090", rows_of="my card").fitted == ("bf16",)


def test_a_table_and_a_record_are_fitted_together(tmp_path: Path) -> None:
    file, table = tmp_path / "record.jsonl", tmp_path / "table.csv"
    journal.write(file, graphics().record(tiers=("first",)))
    table.write_text("device,dtype,m,n,k,us\nrtx-3090,bf16,4096,4096,4096,2400\n")
    profile = calibrate.calibrate([table, file])
    assert (profile.device, profile.fitted) == ("rtx-3090", ("bf16",))
    assert profile.source.endswith("; table.csv")


def test_a_table_of_a_device_without_a_stack_of_its_own(tmp_path: Path) -> None:
    """Steps are measured on GPUs and CPUs; products of a TPU may come from a table."""
    table = tmp_path / "table.csv"
    table.write_text("device,dtype,m,n,k,us\ntpu-v4,bf16,8192,8192,8192,4500\n")
    assert calibrate.calibrate([table], device="tpu-v4").fitted == ("bf16",)


def test_nothing_to_fit() -> None:
    with pytest.raises(InputError, match="give at least one record of capsim measure, or one table"):
        calibrate.calibrate([])


def test_shipped_profiles_are_what_their_recipes_give() -> None:
    """All of them would take minutes; this is the smallest."""
    assert set(shipped.recipes()) >= {"a100-pcie", "h100-sxm"}
    again = shipped.fit("a100-pcie", shipped.recipes()["a100-pcie"])
    known = load_profile("a100-pcie")
    assert again.borrowed == known.borrowed
    assert again.held_out == known.held_out
    assert again.constants == known.constants
    assert again.device == load_device("a100-pcie-80gb").id


# checks against steps of another record


def test_steps_of_another_record_are_compared(on_graphics: Calibrated, tmp_path: Path) -> None:
    file = tmp_path / "check.jsonl"
    made, profile = on_graphics.made, on_graphics.profile
    journal.write(file, made.record(("bert-large",), ("step",), seed=9))
    steps = calibrate.steps_in(file, made.device)
    compared_steps = compare(steps, profile, made.device)
    assert len(compared_steps) == len(steps) >= 5
    assert max(abs(each.error) for each in compared_steps) < 0.1
    assert set(compared_steps[0].to_dict()) >= {"step", "layers", "dtype", "measured_s", "predicted_s", "catalogue_s"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "NVIDIA L4", "catalogue": "l4"}, "is of NVIDIA L4, and the profile of GeForce RTX 3090"),
        ({"kind": "cpu"}, "was measured on a cpu, and rtx-3090 is a gpu"),
        ({}, "has no training steps; measure some with capsim measure --phases step"),
    ],
)
def test_steps_of_another_device_are_not_compared(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    file = tmp_path / "check.jsonl"
    journal.write(file, _changed(graphics().record(tiers=("first",)), **changes))
    with pytest.raises(InputError, match=sentence):
        calibrate.steps_in(file, load_device("rtx-3090"))
