"""The measured backend on a profile of round numbers: what was measured, how far it reaches, and what is left."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from hardware.catalogue import load_profile, load_system
from hardware.errors import InputError
from hardware.measured import CollectiveName, LinkConstants, MeasuredProfile, Shapes, StackConstants, StreamConstants
from simulator.pricing.analytic import AnalyticBackend
from simulator.pricing.constants import Constants, Shifts, names_of
from simulator.pricing.measured import TIERS, MeasuredBackend, Tier, check, host_of, suits
from simulator.pricing.measured_links import MeasuredLinks, volume
from simulator.pricing.nearest import Nearest
from simulator.pricing.requests import (
    Collective,
    FusedAttention,
    HostCopy,
    HostWork,
    MatrixProduct,
    Request,
    Send,
    Stream,
    StreamKind,
)
from simulator.specs.loading import load_stack
from tests.work.asking import plain

_PRODUCT = MatrixProduct(m=1024.0, n=1024.0, k=1024.0, element_bytes=2.0)
_ATTENTION = FusedAttention(
    queries=512.0, keys=512.0, batch=4.0, heads=16.0, key_value_heads=16.0, head_size=64.0, causal=0.0
)
_STREAM = Stream(kind=StreamKind.RESIDUAL, moved_bytes=1e9, kernels=2.0, drawn=1e6)


def _links(latency: float, rate: float) -> LinkConstants:
    costs: dict[str, Any] = {"medium_cost": 1e-6, "medium_size": 1e3, "large_cost": 2e-6, "large_size": 1e6}
    return LinkConstants.model_construct(latency=latency, rate=rate, **costs)


@cache
def _profile() -> MeasuredProfile:
    """One product and one attention, measured twice and half as long as the form says; two kinds of links."""
    stack = StackConstants.model_construct(
        launch=1e-6,
        step_overhead=1e-3,
        drawn=1e-9,
        streams={"dropout-and-residual": StreamConstants.model_construct(forward=0.5, backward=0.25)},
    )
    kinds: dict[CollectiveName, dict[int, LinkConstants]] = {
        "all_reduce": {2: _links(1e-5, 1e9), 8: _links(4e-5, 4e9)},
        "send": {2: _links(1e-5, 1e9)},
    }
    changes = {
        "fitted": ("bf16",),
        "products": {"bf16": Shapes(sizes=((1024.0, 1024.0, 1024.0, 1.0, 0.0),), residuals=(float(np.log(2.0)),))},
        "attentions": {
            "bf16": Shapes(sizes=((512.0, 512.0, 4.0, 16.0, 16.0, 64.0, 0.0, 0.0),), residuals=(float(-np.log(2.0)),))
        },
        "links": kinds,
        "stacks": {"pytorch-ddp": stack},
        "borrowed": {},
    }
    return load_profile("a100-sxm").model_copy(update=changes)


def _backend(
    precision: Any = "bf16", stack: str = "", system: str = "dgx-a100-640gb", **changes: Any
) -> MeasuredBackend:
    return MeasuredBackend.of(load_system(system), 8, precision, _profile().model_copy(update=changes), stack)


def _ratio(request: Request, **how: Any) -> float:
    backend = _backend(**how)
    return plain(backend.time(request)) / plain(backend.analytic.time(request))


def test_measured_shapes_take_what_was_measured() -> None:
    assert _ratio(_PRODUCT) == pytest.approx(2.0)
    assert _ratio(replace(_PRODUCT, weight_gradient=True)) == pytest.approx(1.0)
    assert _ratio(replace(_PRODUCT, batch=1000.0)) == pytest.approx(1.0, abs=0.1)
    assert _ratio(_ATTENTION) == pytest.approx(0.5)
    assert _ratio(replace(_ATTENTION, backward=True)) == pytest.approx(1.0)
    assert _ratio(replace(_ATTENTION, causal=1.0)) == pytest.approx(1.0)


def test_under_8_bits_what_stays_wide_is_as_measured_in_16() -> None:
    profile = load_profile("h100-sxm").model_copy(
        update={"products": _profile().products, "attentions": _profile().attentions, "fitted": ("bf16",)}
    )
    backend = MeasuredBackend.of(load_system("dgx-h100"), 8, "fp8", profile)

    def ratio(request: Request) -> float:
        return plain(backend.time(request)) / plain(backend.analytic.time(request))

    assert ratio(replace(_PRODUCT, wide=True)) == pytest.approx(2.0)
    assert ratio(_PRODUCT) == 1.0
    assert ratio(_ATTENTION) == pytest.approx(0.5)
    assert _tiers(backend, _PRODUCT) == {"catalogue"}
    assert _tiers(backend, replace(_PRODUCT, wide=True)) == {"measured"}
    # Shapes of 8 bits say nothing of what stays in 16.
    narrow = profile.model_copy(update={"products": {"fp8": _profile().products["bf16"]}})
    backend = MeasuredBackend.of(load_system("dgx-h100"), 8, "fp8", narrow)
    assert (ratio(_PRODUCT), ratio(replace(_PRODUCT, wide=True))) == (pytest.approx(2.0), 1.0)


def _tiers(backend: MeasuredBackend, request: Request) -> set[Tier]:
    """The tiers that serve a request: those whose emphasis changes its time, by as much."""
    before = plain(backend.time(request))
    after = {tier: plain(backend.stressed(tier, 3.0).time(request)) / before for tier in TIERS}
    served = {tier for tier, ratio in after.items() if abs(ratio - 1.0) > 1e-9}
    assert len(served) != 1 or after[next(iter(served))] == pytest.approx(3.0)
    return served


@pytest.mark.parametrize(
    ("request_", "tier"),
    [
        (_PRODUCT, "measured"),
        (replace(_PRODUCT, m=1500.0), "near"),
        (replace(_PRODUCT, m=2048.0), "near"),
        (replace(_PRODUCT, m=2100.0), "fitted"),
        (_ATTENTION, "measured"),
        (replace(_ATTENTION, keys=700.0), "near"),
        (replace(_ATTENTION, backward=True), "fitted"),
        (_STREAM, "fitted"),
        (Collective(kind="all_reduce", message_bytes=1e6, degree=4.0, stride=1.0), "fitted"),
        (Collective(kind="all_reduce", message_bytes=1e6, degree=16.0, stride=1.0), "catalogue"),
        (Collective(kind="all_gather", message_bytes=1e6, degree=4.0, stride=1.0), "catalogue"),
        (Send(message_bytes=1e6, degree=4.0, stride=1.0), "fitted"),
        (HostCopy(moved_bytes=1e6), "catalogue"),
    ],
)
def test_who_serves_a_request(request_: Request, tier: Tier) -> None:
    assert _tiers(_backend(), request_) == {tier}


def test_what_nobody_measured_is_the_catalogues() -> None:
    nothing: dict[str, Any] = {"products": {}, "attentions": {}}
    assert _tiers(_backend(**nothing), _PRODUCT) == {"fitted"}
    assert _tiers(_backend(**nothing, fitted=()), _PRODUCT) == {"catalogue"}
    assert _tiers(_backend(**nothing), _ATTENTION) == {"catalogue"}
    assert _tiers(_backend(borrowed={"memory": "a sheet"}), _STREAM) == {"catalogue"}
    empty = {"products": {"bf16": Shapes(sizes=(), residuals=())}}
    assert _ratio(_PRODUCT, **empty) == 1.0
    assert _backend().time(HostWork(seconds=0.5)) == 0.5
    assert _backend().name == "measured"


def test_streams_run_at_the_rates_that_steps_say() -> None:
    """Half of the bandwidth forward and a quarter backward, launches, and a nanosecond for each random number."""
    backend = _backend(stack="pytorch-ddp")
    device = backend.analytic.device
    bandwidth, launch = plain(device.bandwidth), plain(device.stream_launch)
    assert plain(backend.time(_STREAM)) == pytest.approx(2 * launch + 1e9 / bandwidth / 0.5 + 1e6 * 1e-9)
    back = replace(_STREAM, backward=True, drawn=0.0)
    assert plain(backend.time(back)) == pytest.approx(2 * launch + 1e9 / bandwidth / 0.25)
    other = replace(_STREAM, kind=StreamKind.SOFTMAX)
    assert plain(backend.time(other)) == pytest.approx(plain(backend.analytic.time(other)) + 1e-3)
    assert _tiers(backend, _STREAM) == _tiers(backend, other) == {"fitted"}
    elsewhere = _backend(stack="megatron-lm")
    assert plain(elsewhere.time(_STREAM)) == plain(elsewhere.analytic.time(_STREAM))


# Links


def _seconds(size: float, latency: float, sent: float, rate: float) -> float:
    squared = size**2
    return latency + 1e-6 * squared / (squared + 1e6) + 2e-6 * squared / (squared + 1e12) + sent / rate


@pytest.mark.parametrize(
    ("kind", "sent"),
    [("all_reduce", 2 * 7e6), ("all_gather", 7e6), ("reduce_scatter", 7e6), ("all_to_all", 7e6), ("send", 8e6)],
)
def test_what_a_rank_sends(kind: str, sent: float) -> None:
    assert float(volume(kind, 8e6, 8.0)) == pytest.approx(sent)
    assert np.shape(volume(kind, 8e6, np.full(3, 8.0))) == (3,)


def test_links_as_measured_and_between() -> None:
    """Latency between two numbers of ranks by their number, the rate by its inverse."""
    links = MeasuredLinks(_profile().links)
    for ranks, latency, rate in ((2.0, 1e-5, 1e9), (8.0, 4e-5, 4e9), (4.0, 2e-5, 3e9)):
        time, known = links.time("all_reduce", 1e6, ranks)
        assert bool(known)
        assert plain(time) == pytest.approx(_seconds(1e6, latency, 2 * 1e6 * (ranks - 1) / ranks, rate))
    for ranks in (1.0, 9.0):
        time, known = links.time("all_reduce", 1e6, ranks)
        assert not bool(known)
        assert np.isfinite(time)
    time, known = links.time("all_gather", np.ones(3), np.ones((2, 1)))
    assert np.shape(time) == np.shape(known) == (2, 3)
    assert not np.any(known)
    time, known = links.time("all_reduce", np.ones(3), np.array([[2.0], [9.0]]))
    assert np.asarray(known).tolist() == [[True] * 3, [False] * 3]


@pytest.mark.parametrize(
    ("degree", "stride", "copies", "is_measured"),
    [(8, 1, 1, True), (4, 2, 1, True), (2, 4, 1, True), (4, 4, 1, False), (16, 1, 1, False), (8, 1, 2, False)],
)
def test_links_count_inside_a_node_and_for_whole_messages(
    degree: float, stride: float, copies: float, is_measured: bool
) -> None:
    backend = _backend(system="superpod-a100")
    asked = Collective(kind="all_reduce", message_bytes=1e6, degree=degree, stride=stride, copies=copies)
    measured = plain(MeasuredLinks(_profile().links).time("all_reduce", 1e6, degree)[0])
    assert plain(backend.time(asked)) == (measured if is_measured else plain(backend.analytic.time(asked)))


@pytest.mark.parametrize(("degree", "stride", "is_measured"), [(2, 1, True), (8, 1, True), (2, 4, True), (4, 4, False)])
def test_transfers_inside_a_node_are_between_two(degree: float, stride: float, is_measured: bool) -> None:
    backend, asked = _backend(), Send(message_bytes=1e6, degree=degree, stride=stride)
    expected = _seconds(1e6, 1e-5, 1e6, 1e9) if is_measured else plain(backend.analytic.time(asked))
    assert plain(backend.time(asked)) == pytest.approx(expected)


# Whom a profile speaks for


def test_a_profile_speaks_for_its_class() -> None:
    own, other = load_system("dgx-a100-320gb"), load_system("dgx-h100")
    assert suits(_profile(), own)
    assert not suits(_profile(), other)
    check(_profile(), own)
    with pytest.raises(InputError, match="a device of another class"):
        check(_profile(), other)
    assert host_of(_profile()).device.id == _profile().device


def test_what_was_measured_is_not_shifted() -> None:
    """Links are as measured; of a stack with steps its launches too; published runs still say what is left."""
    stack, system = load_stack("pytorch-ddp"), load_system("dgx-a100-640gb")
    of = names_of(stack, system, "bf16")
    shifts = {
        "products": {"device": {of["device"]: 0.1}},
        "inner_links": {"inner link": {of["inner link"]: 0.1}},
        "outer_links": {"outer link": {of["outer link"]: 0.1}},
        "launches": {"stack": {of["stack"]: 0.1}},
        "reductions": {"stack": {of["stack"]: 0.1}},
    }

    def kinds(profile: MeasuredProfile | None, name: str = "pytorch-ddp") -> set[str]:
        applied_shifts = Constants(shifts, profile=profile).of(load_stack(name), system, "bf16")
        return {kind for kind, value in vars(applied_shifts).items() if value}

    assert kinds(None) == set(shifts)
    assert kinds(_profile()) == {"outer_links", "reductions"}
    assert kinds(_profile(), "megatron-lm") == {"outer_links"}
    assert kinds(_profile().model_copy(update={"stacks": {}})) == {"products", "outer_links", "launches", "reductions"}
    assert kinds(_profile().model_copy(update={"links": {}})) == {"inner_links", "outer_links", "reductions"}
    columns = Constants(shifts, profile=_profile()).stacks(stack, system, "bf16")
    assert (columns.launch, columns.step_overhead) == (1e-6, 1e-3)
    plain_stack = Constants(shifts).stacks(stack, system, "bf16")
    assert plain(plain_stack.launch) == pytest.approx(stack.launch * np.exp(0.1))


def test_constants_make_the_backend_that_suits() -> None:
    stack, system = load_stack("pytorch-ddp"), load_system("dgx-a100-640gb")
    shifts = {"outer_links": {"all": {"all": 0.1}}, "products": {"all": {"all": 0.2}}}
    analytic = Constants(shifts).backend(stack, system, 8, "bf16")
    assert isinstance(analytic, AnalyticBackend)
    assert analytic == Shifts(outer_links=0.1, products=0.2).on_backend(AnalyticBackend.of(system, 8, "bf16"))
    measured = Constants(shifts, profile=_profile()).backend(stack, system, 8, "bf16")
    assert isinstance(measured, MeasuredBackend)
    untouched = _backend(stack="pytorch-ddp")
    assert measured.software == untouched.software is not None
    assert measured.analytic == Shifts(outer_links=0.1).on_backend(untouched.analytic)
    assert measured.node == 8
    assert list(Constants(shifts).items()) == [(("outer_links", "all", "all"), 0.1), (("products", "all", "all"), 0.2)]


# Nearest shapes


def test_a_residual_counts_less_the_farther_and_nothing_beyond_reach() -> None:
    """Of few shapes: one half of a doubling away as much as the form itself, less a little for the distance."""
    nearest = Nearest(np.array([[1024.0, 1024.0, 1024.0, 1.0, 0.0]]), np.array([1.0]))
    assert (nearest.width, nearest.power) == (0.5, 2.0)

    def learned(doublings: float) -> float:
        factor, distance = nearest.correction(1024.0 * 2.0**doublings, 1024.0, 1024.0, 1.0, 0.0)
        assert float(distance) == pytest.approx(doublings)
        return float(np.log(factor))

    for away in (0.25, 0.5, 1.0, 3.0, 6.0):
        weight = (0.5 / away) ** 2 * np.exp(-((away / 3.0) ** 2) / 2)
        assert learned(away) == pytest.approx(weight / (1 + weight))


def test_eight_shapes_speak_at_most() -> None:
    sizes = np.array([[2.0**at, 64.0, 64.0, 1.0, 0.0] for at in range(12)])
    far = np.zeros(12)
    far[-1] = 1.0
    factor, _ = Nearest(sizes, far).correction(2.0**0.5, 64.0, 64.0, 1.0, 0.0)
    assert float(factor) == 1.0
    factor, _ = Nearest(sizes, far).correction(2.0**10.5, 64.0, 64.0, 1.0, 0.0)
    assert float(factor) > 1.0


def test_arrays_of_many_sizes_are_told_apart() -> None:
    """More different sizes than one code can hold."""
    random = np.random.default_rng(0)
    nearest = Nearest(np.exp2(random.uniform(5, 12, (40, 8))), random.normal(0.0, 0.1, 40))
    asked = np.exp2(random.uniform(5, 12, (8, 300)))
    factor, distance = nearest.correction(*asked)
    for at in (0, 7, 299):
        one = nearest.correction(*asked[:, at])
        assert (factor[at], distance[at]) == (pytest.approx(float(one[0])), pytest.approx(float(one[1])))
