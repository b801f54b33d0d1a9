"""The measured backend: shapes that were measured cost what they cost, all others what the fitted form says."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simulator
from hardware.catalogue import load_device, load_profile, load_system, plain_host
from hardware.errors import InputError
from hardware.measured import MeasuredProfile, Shapes
from hardware.spec import System
from simulator.answers.basis import BASES
from simulator.formulas import matmul
from simulator.pricing.analytic import AnalyticBackend, device_columns
from simulator.pricing.constants import Constants, shipped
from simulator.pricing.measured import TIERS, MeasuredBackend, Tier, device_of, suits
from simulator.pricing.measured_links import MeasuredLinks
from simulator.pricing.requests import HostCopy, Send, StreamKind, link_request
from simulator.pricing.wiring import wiring
from simulator.profiling.fit import attentions, products
from simulator.profiling.fit.sheet import DataSheet
from simulator.profiling.records.reading import measurements_of
from simulator.profiling.records.record import Case
from simulator.renting.rent import rent
from simulator.renting.sweeping import Option
from simulator.specs.loading import load_stack
from tests.pricing import asking
from tests.profiling.conftest import Calibrated, Fit
from tests.profiling.examples import ATTENTION_START, START, some_products, timed
from tests.profiling.examples import attentions as some_attentions
from tests.profiling.made_up import graphics

A100 = load_device("a100-sxm4-80gb")
_SHEET = DataSheet.of(A100, "bf16")
_ROWS = timed(some_products(120, seed=3, sustained=1.0), products.seconds(some_products(120, seed=3), _SHEET, START))
PRODUCTS = replace(_ROWS, seconds=_ROWS.seconds * np.exp(np.random.default_rng(0).normal(0.0, 0.1, 120)))
_FUSED = some_attentions(60, seed=4)
ATTENTIONS = timed(_FUSED, attentions.seconds(_FUSED, _SHEET, ATTENTION_START), noise=0.1)


@cache
def profile() -> MeasuredProfile:
    """Products under long load, and attention, of an A100."""
    multiplied = products.learn(PRODUCTS, _SHEET, START)
    attended = attentions.learn(ATTENTIONS, _SHEET, ATTENTION_START)
    known = load_profile("a100-sxm")
    gemm = {**known.constants.gemm, "bf16": multiplied.fitted.constants}
    fused = {**known.constants.attention, "bf16": attended.fitted.constants}
    return known.model_copy(
        update={
            "constants": known.constants.model_copy(update={"gemm": gemm, "attention": fused}),
            "products": {"bf16": multiplied.shapes},
            "attentions": {"bf16": attended.shapes},
        }
    )


def backend(system: System | None = None, devices: int = 1, **changes: Any) -> MeasuredBackend:
    host = system or plain_host(A100)
    return MeasuredBackend.of(host, devices, "bf16", profile().model_copy(update=changes))


def form(precision: Any = "bf16") -> AnalyticBackend:
    """The same constants without shapes."""
    columns = device_columns(A100, precision, constants=profile().constants)
    return AnalyticBackend(columns, wiring(plain_host(A100), 1), columns)


def multiply(priced: Any, m: Any, n: Any, k: Any, batch: Any = 1.0, weight_gradient: Any = 0.0) -> Any:
    def ask(gradient: bool) -> Any:
        return asking.gemm(priced, m, n, k=k, batch=batch, element_bytes=2.0, weight_gradient=gradient)

    if np.ndim(weight_gradient) == 0:
        return ask(bool(weight_gradient))
    return np.where(np.asarray(weight_gradient) > 0, ask(True), ask(False))


def attend(priced: Any, rows: Any, *, backward: bool, longer: float = 1.0) -> Any:
    return asking.attention(
        priced,
        rows.queries * longer,
        rows.keys * longer,
        batch=rows.batch,
        heads=rows.heads,
        key_value_heads=rows.key_value_heads,
        head_size=rows.head_size,
        causal=rows.causal,
        backward=backward,
    )


# shapes


def test_a_product_that_was_measured_costs_what_was_measured() -> None:
    rows = PRODUCTS
    _, first, counts = np.unique(products.sizes(rows), axis=0, return_index=True, return_counts=True)
    once = first[counts == 1]
    assert len(once) > 80
    priced = multiply(backend(), rows.m[once], rows.n[once], rows.k[once])
    aligned = (rows.n % 64 == 0) & (rows.k % 64 == 0)
    assert np.all(aligned[once])
    assert priced == pytest.approx(rows.seconds[once], rel=1e-4)
    assert np.abs(multiply(form(), rows.m[once], rows.n[once], rows.k[once]) / priced - 1.0).max() > 0.1


@pytest.mark.parametrize("backward", [False, True])
def test_attention_that_was_measured_costs_what_was_measured(backward: bool) -> None:
    _, first, counts = np.unique(attentions.sizes(ATTENTIONS), axis=0, return_index=True, return_counts=True)
    once = np.isin(np.arange(len(ATTENTIONS)), first[counts == 1]) & (ATTENTIONS.backward == float(backward))
    rows = ATTENTIONS.where(once)
    assert len(rows) > 10
    assert attend(backend(), rows, backward=backward) == pytest.approx(rows.seconds, rel=1e-4)


def test_far_from_all_shapes_the_form_is_left() -> None:
    m = 2.0 ** np.array([26.0, 29.0, 33.0])
    assert multiply(backend(), m, 64.0, 64.0) == pytest.approx(multiply(form(), m, 64.0, 64.0), rel=1e-6)
    rows = ATTENTIONS.where(ATTENTIONS.backward == 0)
    far = attend(backend(), rows, backward=False, longer=2.0**16)
    assert far == pytest.approx(attend(form(), rows, backward=False, longer=2.0**16), rel=1e-9)
    gradient = multiply(backend(), 4096.0, 4096.0, 4096.0, weight_gradient=1.0)
    assert gradient == multiply(form(), 4096.0, 4096.0, 4096.0, weight_gradient=1.0)


def test_near_a_shape_its_residual_counts_the_less_the_farther() -> None:
    alone = Shapes(sizes=((1024.0, 1024.0, 1024.0, 1.0, 0.0),), residuals=(0.3,))
    one = backend(products={"bf16": alone})
    m = 1024.0 * 2.0 ** np.array([0.0, 0.25, 0.5, 1.0, 2.0, 6.0])
    factor = multiply(one, m, 1024.0, 1024.0) / multiply(form(), m, 1024.0, 1024.0)
    assert factor[0] == pytest.approx(np.exp(0.3))
    assert np.all(np.diff(factor) < 0.0)
    assert factor[-1] == pytest.approx(1.0, abs=1e-3)


# tiers


def _tier(price: Any, of: Any = None) -> set[Tier]:
    """The tiers whose times make a price longer."""
    known = of or backend()
    return {tier for tier in TIERS if float(price(known.stressed(tier, 2.0))) > 1.5 * float(price(known))}


def test_each_primitive_is_served_by_one_tier() -> None:
    m, n, k, *_ = profile().products["bf16"].sizes[0]
    assert _tier(lambda b: multiply(b, m, n, k)) == {"measured"}
    assert _tier(lambda b: multiply(b, 1.5 * m, n, k)) == {"near"}
    assert _tier(lambda b: multiply(b, 2.0**33, 64.0, 64.0)) == {"fitted"}
    assert _tier(lambda b: asking.stream(b, 1e9, 1.0)) == {"fitted"}
    assert _tier(lambda b: b.time(HostCopy(moved_bytes=1e9))) == {"catalogue"}
    inside: dict[str, Any] = {"degree": 4.0, "stride": 1.0}
    assert _tier(lambda b: asking.exchange(b, "all_reduce", 1e8, **inside), backend(devices=8)) == {"fitted"}
    assert _tier(lambda b: asking.exchange(b, "send", 1e8, **inside), backend(devices=8)) == {"catalogue"}


def test_a_number_format_that_nobody_measured_is_the_catalogues() -> None:
    other = MeasuredBackend.of(plain_host(A100), 1, "fp16", profile())
    assert _tier(lambda b: multiply(b, 4096.0, 4096.0, 4096.0), other) == {"catalogue"}
    rows = ATTENTIONS.where(np.arange(len(ATTENTIONS)) == 0)
    assert _tier(lambda b: attend(b, rows, backward=False)[0], other) == {"catalogue"}
    assert multiply(other, 4096.0, 4096.0, 4096.0) == multiply(form("fp16"), 4096.0, 4096.0, 4096.0)


def test_what_was_not_measured_of_the_memory_is_the_catalogues() -> None:
    other = backend(borrowed={"memory": "nothing was measured"})
    assert _tier(lambda b: asking.stream(b, 1e9, 1.0, reduces=True), other) == {"catalogue"}


_ASKED: dict[str, Any] = {
    "system": "rtx-3090",
    "stack": "pytorch-eager",
    "plan": {"precision": "bf16", "attention": "unfused", "micro_batch": 8, "recompute": "none"},
    "workload": {"sequence_length": 512, "global_batch": 8},
}
"""Of which all is products and streams: no kernel of attention has a tier of its own."""


def _basis(**asked: Any) -> dict[str, float]:
    estimate = simulator.estimate(**{**_ASKED, **asked})
    assert estimate.basis is not None
    assert set(estimate.basis) == set(BASES)
    assert sum(estimate.basis.values()) == pytest.approx(1.0, abs=1e-9)
    assert min(estimate.basis.values()) >= 0.0
    return {str(tier): share for tier, share in estimate.basis.items()}


def test_a_step_of_measured_shapes_says_measured(on_graphics: Calibrated) -> None:
    """Of a model as it was measured nothing is near or the catalogue's; memory-bound kernels are always a form."""
    model = {"base": "bert-base", "vocabulary_size": 30528}  # as frameworks pad it
    basis = _basis(model=model, profile=on_graphics.profile)
    assert basis["measured"] > 0.5
    assert (basis["near"], basis["catalogue"]) == (0.0, 0.0)
    assert basis["measured"] + basis["fitted"] + basis["stack"] == pytest.approx(1.0)


def test_a_step_near_measured_shapes_says_near(on_graphics: Calibrated) -> None:
    # as many tokens, of narrower layers
    model = {"base": "bert-base", "hidden_size": 720, "feed_forward_size": 2880, "attention_heads": 12}
    basis = _basis(model=model, profile=on_graphics.profile)
    assert basis["measured"] == 0.0
    assert basis["near"] > 0.5


def test_a_step_far_from_measured_shapes_says_fitted(on_graphics: Calibrated, fit: Fit) -> None:
    basis = _basis(model="bert-base", profile=on_graphics.made.truth)
    assert (basis["measured"], basis["near"]) == (0.0, 0.0)
    assert basis["fitted"] > 0.9


def test_a_step_of_a_format_that_was_not_measured_says_catalogue(fit: Fit) -> None:
    products_only = fit(graphics().record(tiers=("probe",)))
    basis = _basis(model="bert-base", profile=products_only, plan={**_ASKED["plan"], "precision": "fp16"})
    assert basis["catalogue"] + basis["stack"] == pytest.approx(1.0)
    assert basis["stack"] > 0.0


def test_without_a_profile_nothing_is_said() -> None:
    assert simulator.estimate("bert-base", **_ASKED).basis is None


def test_a_share_is_what_the_step_gains_when_a_tier_is_faster(on_graphics: Calibrated) -> None:
    """Ten per cent off all measured products: as much as their share says."""
    model = {"base": "bert-base", "vocabulary_size": 30528}
    share = _basis(model=model, profile=on_graphics.profile)["measured"]
    shapes = on_graphics.profile.products["bf16"]
    faster = shapes.model_copy(update={"residuals": tuple(each - 0.01 for each in shapes.residuals)})
    quick = on_graphics.profile.model_copy(update={"products": {"bf16": faster}})
    before = simulator.estimate(model, **_ASKED, profile=on_graphics.profile).step_time_s
    after = simulator.estimate(model, **_ASKED, profile=quick).step_time_s
    gained = -np.log(after / before) / 0.01
    assert gained == pytest.approx(share, abs=0.02)


# stacks


def test_constants_of_a_stack_apply_to_it_alone(on_graphics: Calibrated) -> None:
    system, fitted_profile = load_system("rtx-3090"), on_graphics.profile
    constants = replace(shipped(), profile=fitted_profile)
    own, other = load_stack("pytorch-eager"), load_stack("huggingface")
    known = fitted_profile.stacks["pytorch-eager"]
    columns = constants.stacks(own, system, "bf16")
    assert (columns.launch, columns.step_overhead) == (known.launch, known.step_overhead)
    bare = Constants(shipped().shifts, profile=None)
    shifts = constants.of(other, system, "bf16")
    without = bare.of(other, system, "bf16")
    assert (shifts.launches, shifts.step_overhead) == (without.launches, without.step_overhead)
    assert (shifts.products, shifts.streaming, shifts.attention, shifts.host) == (0.0, 0.0, 0.0, 0.0)
    assert (without.products, without.host) != (0.0, 0.0)
    of_own, of_other = (constants.backend(stack, system, 1, "bf16") for stack in (own, other))
    assert isinstance(of_own, MeasuredBackend)
    assert isinstance(of_other, MeasuredBackend)
    assert (of_own.software, of_other.software) == (known, None)
    moved: dict[str, Any] = {"reduces": True, "kind": StreamKind.NORMALISATION}
    bandwidth, launch = float(system.device.memory.bandwidth), fitted_profile.constants.memory.launch
    rate = known.streams["normalisation"]
    assert asking.stream(of_own, 1e9, 2.0, **moved) == pytest.approx(2.0 * launch + 1e9 / (bandwidth * rate.forward))
    backward = asking.stream(of_own, 1e9, 2.0, **moved, backward=True)
    assert backward == pytest.approx(2.0 * launch + 1e9 / (bandwidth * rate.backward))
    expected = 2.0 * launch + 1e9 / (bandwidth * fitted_profile.constants.memory.normalisation_efficiency)
    assert asking.stream(of_other, 1e9, 2.0, **moved) == pytest.approx(expected)
    drawn = asking.stream(of_own, 1e9, 2.0, **moved, drawn=1e6) - asking.stream(of_own, 1e9, 2.0, **moved)
    assert drawn == pytest.approx(1e6 * known.drawn)


def test_without_steps_published_runs_still_count(fit: Fit) -> None:
    """Kernels that were timed alone say nothing of what they become in a step."""
    kernels = fit(graphics().record(tiers=("probe",)))
    stack, system = load_stack("pytorch-eager"), load_system("rtx-3090")
    measured = replace(shipped(), profile=kernels).of(stack, system, "bf16")
    assert measured == shipped().of(stack, system, "bf16")


# links


def _noded(kind: str, message: Any, **group: Any) -> tuple[Any, Any, Any]:
    """A collective by a profile of links, by its form, and by the measured links alone; nodes have eight devices."""
    system, truth = load_system("server-rtx-3090"), graphics().truth
    assert system.devices_per_node == 8
    measured = MeasuredBackend.of(system, 16, "bf16", truth)
    asked = link_request(kind, message, degree=group["degree"], stride=group["stride"])  # type: ignore[arg-type]
    if isinstance(asked, Send):
        return measured.time(asked), measured.analytic.time(asked), None
    asked = replace(asked, copies=group.get("copies", 1.0))
    by_profile, by_form = (each.time(asked) for each in (measured, measured.analytic))
    return by_profile, by_form, MeasuredLinks(truth.links).time(kind, message, group["degree"])[0]


@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
def test_links_inside_a_node_are_as_measured(kind: str) -> None:
    sizes = 2.0 ** np.arange(10, 30).astype(np.float64)
    for degree in (2.0, 3.0, 4.0):
        by_profile, by_form, alone = _noded(kind, sizes, degree=degree, stride=2.0)
        assert by_profile == pytest.approx(alone)
        assert np.all(by_profile != by_form)


@pytest.mark.parametrize(
    "group",
    [
        {"degree": 4.0, "stride": 4.0},
        {"degree": 2.0, "stride": 8.0},
        {"degree": 8.0, "stride": 1.0},
        {"degree": 4.0, "stride": 1.0, "copies": 2.0},
    ],
    ids=["across nodes", "one rank a node", "more ranks than measured", "copies of tokens"],
)
def test_other_groups_are_by_the_form(group: dict[str, float]) -> None:
    by_profile, by_form, _ = _noded("all_to_all", 2.0 ** np.arange(10, 30).astype(np.float64), **group)
    assert np.all(by_profile == by_form)


def test_transfers_between_neighbours() -> None:
    sizes = 2.0 ** np.arange(10, 30).astype(np.float64)
    by_profile, by_form, _ = _noded("send", sizes, degree=4.0, stride=2.0)
    assert by_profile == pytest.approx(np.asarray(MeasuredLinks(graphics().truth.links).time("send", sizes, 2.0)[0]))
    by_profile, by_form, _ = _noded("send", sizes, degree=4.0, stride=8.0)
    assert np.all(by_profile == by_form)


def test_groups_of_all_kinds_at_once() -> None:
    degree, stride = np.array([[1.0], [2.0], [4.0], [8.0]]), np.array([1.0, 2.0, 4.0, 8.0])
    by_profile, by_form, alone = _noded("all_reduce", 1e7, degree=degree, stride=stride)
    inside = (degree * stride <= 8.0) & (degree >= 2.0) & (degree <= 4.0)
    assert by_profile == pytest.approx(np.where(inside, alone, by_form))
    assert by_profile.shape == (4, 4)


# arrays


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([64.0, 256.0, 1000.0, 4096.0, 2.0**20]), min_size=1, max_size=4),
    st.lists(st.sampled_from([128.0, 768.0, 1024.0, 30522.0]), min_size=1, max_size=3),
    st.sampled_from([0.0, 1.0]),
)
def test_arrays_are_priced_as_their_entries(ms: list[float], ns: list[float], gradient: float) -> None:
    one = backend(load_system("dgx-a100-640gb"), 8)
    m, n = np.array(ms)[:, None], np.array(ns)
    product = multiply(one, m, n, 1024.0, weight_gradient=gradient)
    fused: dict[str, Any] = {"batch": 4.0, "heads": 16.0, "key_value_heads": 16.0, "head_size": 64.0, "causal": 1.0}
    attended = np.asarray(asking.attention(one, m, n, **fused, backward=True))
    moved = np.asarray(asking.stream(one, m * n, m, StreamKind.NORMALISATION, reduces=True))
    exchanged = np.asarray(asking.exchange(one, "all_gather", m * n, degree=np.array(4.0)))
    for at in np.ndindex(product.shape):
        a, b = float(m[at[0], 0]), float(n[at[1]])
        assert product[at] == pytest.approx(float(multiply(one, a, b, 1024.0, weight_gradient=gradient)), rel=1e-12)
        assert attended[at] == pytest.approx(float(asking.attention(one, a, b, **fused, backward=True)), rel=1e-12)
        assert moved[at] == pytest.approx(
            float(asking.stream(one, a * b, a, StreamKind.NORMALISATION, reduces=True)), rel=1e-12
        )
        alone = asking.exchange(one, "all_gather", a * b, degree=4.0)
        assert exchanged[at] == pytest.approx(float(alone), rel=1e-12)


# which systems


def test_a_profile_of_another_class_is_refused() -> None:
    sentence = (
        "profile=a100-sxm: was measured on a100-sxm4-80gb, and dgx-h100 has h100-sxm5-80gb, a device of another class;"
        " take a system with a100-sxm4-80gb, or leave the profile out"
    )
    for ask in (simulator.estimate, simulator.search):
        with pytest.raises(InputError) as refused:
            ask("bert-large", "dgx-h100", profile="a100-sxm")
        assert str(refused.value) == sentence


def test_devices_of_the_same_class_are_alike() -> None:
    known = load_profile("a100-sxm")
    assert [suits(known, load_system(name)) for name in ("a100-sxm4-40gb", "superpod-a100", "a100-pcie-80gb")] == [
        True,
        True,
        False,
    ]


def test_a_profile_alone_names_the_system(on_graphics: Calibrated, on_processor: Calibrated) -> None:
    for known in (on_graphics, on_processor):
        estimate = simulator.estimate("bert-base", profile=known.profile, workload={"sequence_length": 128})
        assert (estimate.system, estimate.backend, estimate.devices) == (device_of(known.profile).id, "measured", 1)


@pytest.mark.parametrize(("system", "which"), [("dgx-a100-640gb", "a100-sxm"), ("server-rtx-3090", "own")])
def test_a_search_ranks_as_an_estimate_prices(on_graphics: Calibrated, system: str, which: str) -> None:
    asked: dict[str, Any] = {
        "profile": on_graphics.profile if which == "own" else which,
        "stack": "pytorch-ddp",
        "workload": {"sequence_length": 128, "global_batch": 64},
    }
    plan = {"precision": "bf16", "pp": 1, "cp": 1}
    search = simulator.search("bert-large", system, devices=8, plan=plan, **asked, top=4)
    assert len(search.best) == 4
    times = [each.step_time_s for each in search.best]
    assert times == sorted(times)
    for each in search.best:
        again = simulator.estimate("bert-large", system, devices=8, plan=each.plan, **asked)
        assert again.step_time_s == pytest.approx(each.step_time_s, rel=1e-12)
        assert again.backend == each.backend == "measured"
    plain = simulator.search("bert-large", system, devices=8, plan=plan, **{**asked, "profile": None}, top=1)
    assert plain.best[0].step_time_s != times[0]


def test_a_sweep_uses_a_profile_where_it_suits() -> None:
    asked: dict[str, Any] = {"workload": {"sequence_length": 128, "global_batch": 64}, "processes": 1}
    systems = ["dgx-a100-640gb", "dgx-h100"]
    both = list(simulator.sweep(["bert-large"], systems, [8], profile="h100-sxm", **asked))
    plain = list(simulator.sweep(["bert-large"], systems, [8], **asked))
    after, before = (
        {each.estimate.system: each.estimate for each in all_} for all_ in (_options(both), _options(plain))
    )
    assert {name: each.backend for name, each in after.items()} == {
        "dgx-a100-640gb": "analytic",
        "dgx-h100": "measured",
    }
    assert after["dgx-a100-640gb"].step_time_s == before["dgx-a100-640gb"].step_time_s
    assert after["dgx-h100"].step_time_s != before["dgx-h100"].step_time_s


def _options(answers: list[Any]) -> list[Option]:
    assert all(isinstance(each, Option) for each in answers)
    return answers


def test_a_plan_uses_a_profile_where_it_suits() -> None:
    outlook = rent(
        "bert-large",
        systems=["dgx-a100-640gb", "dgx-h100"],
        max_devices=8,
        profile="h100-sxm",
        workload={"sequence_length": 128, "global_batch": 64, "tokens": 1e9},
        processes=1,
    )
    backends = {each.estimate.system: each.estimate.backend for each in outlook.options}
    assert backends == {"dgx-a100-640gb": "analytic", "dgx-h100": "measured"}


def test_a_profile_that_suits_no_system_is_refused() -> None:
    with pytest.raises(InputError, match="profile=a100-sxm: was measured on a100-sxm4-80gb, and dgx-h100 has"):
        list(simulator.sweep(["bert-large"], ["dgx-h100", "dgx-b200"], [8], profile="a100-sxm"))


def test_cases_of_a_record_cost_what_was_measured(fit: Fit) -> None:
    """From file to price: without steps, under long load, a product of the record costs what the record says."""
    made = graphics()
    constants = made.truth.constants
    steady = {name: gemm.model_copy(update={"sustained": 1.0}) for name, gemm in constants.gemm.items()}
    truth = made.truth.model_copy(update={"constants": constants.model_copy(update={"gemm": steady})})

    def kept(case: Case) -> bool:
        return case.phase == "gemm"

    record = replace(made, truth=truth).record(("bert-base",), ("probe", "model", "size"), keep=kept)
    fitted_profile = fit(record)
    assert fitted_profile.constants.gemm["bf16"].sustained > 0.98
    rows = measurements_of(record).products
    _, first, counts = np.unique(products.sizes(rows), axis=0, return_index=True, return_counts=True)
    once = rows.where(np.isin(np.arange(len(rows)), first[counts == 1]))
    other = np.where(once.weight_gradient > 0, once.m, once.k)
    shares = np.where(once.batch > 1, 1.0, matmul.alignment_share(once.n, other))
    backend_of_it = MeasuredBackend.of(plain_host(made.device), 1, "bf16", fitted_profile)
    sizes: dict[str, Any] = {"k": once.k, "batch": once.batch, "element_bytes": 2.0, "alignment": shares}
    ahead, back = (
        asking.gemm(backend_of_it, once.m, once.n, weight_gradient=gradient, **sizes) for gradient in (False, True)
    )
    priced = np.where(once.weight_gradient > 0, back, ahead)
    assert len(once) > 60
    assert priced == pytest.approx(once.seconds, rel=1.001 - fitted_profile.constants.gemm["bf16"].sustained)
