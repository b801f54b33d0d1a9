"""Constants: what each kind moves, how levels add up, and that a file of them is read with suspicion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware import catalogue
from hardware.errors import InputError
from simulator.corpus.mapping import MappedRun, case_of
from simulator.evidence import refit
from simulator.evidence.batch import RunBatch, mapped, shifts_of
from simulator.pricing.analytic import MOST_JITTER, PRECISIONS, AnalyticBackend, precisions_of
from simulator.pricing.constants import KINDS, SHIPPED, UNFITTED, Constants, Shifts, find, load, names_of, shipped
from simulator.specs.columns import Columns
from simulator.specs.loading import load_stack, names
from simulator.specs.stack import Stacks
from tests.evidence.examples import made, timed


def _case() -> MappedRun:
    return case_of(made())


def _leaves(part: Any, place: str = "") -> dict[str, Any]:
    """Every number of a struct by its place."""
    if isinstance(part, tuple):
        return {name: value for at, each in enumerate(part) for name, value in _leaves(each, f"{place}.{at}").items()}
    if not isinstance(part, Columns):
        return {place.lstrip("."): part}
    leaves = [_leaves(value, f"{place}.{name}") for name, value in vars(part).items()]
    return {name: value for each in leaves for name, value in each.items()}


def _changes(before: Columns, after: Columns) -> dict[str, tuple[float, float]]:
    """Numbers that differ: before and after."""
    old, new = _leaves(before), _leaves(after)
    assert list(old) == list(new)
    return {name: (float(old[name]), float(new[name])) for name in old if not np.array_equal(old[name], new[name])}


def _shifted(shifts: Shifts) -> dict[str, tuple[float, float]]:
    """What shifts change of a stack and a backend."""
    stacks, backend = _case().stack.columns(), _case().backend()
    return _changes(stacks, shifts.on_stacks(stacks)) | _changes(backend, shifts.on_backend(backend))


# What shifts do


def test_shifts_of_zero_change_nothing() -> None:
    assert _shifted(Shifts()) == {}


def test_shifts_of_zero_change_nothing_in_arrays() -> None:
    cases = [_case()] * 3
    stacks = Stacks.stack([case.stack.columns() for case in cases])
    backend = AnalyticBackend.stack([case.backend() for case in cases])
    zeros = Shifts.stack([Shifts()] * 3)
    assert _equal(stacks, zeros.on_stacks(stacks))
    assert _equal(backend, zeros.on_backend(backend))
    batch = RunBatch(cases)
    assert np.array_equal(batch.price(zeros).time, batch.price(Shifts()).time)


def _equal(left: Columns, right: Columns) -> bool:
    old, new = _leaves(left), _leaves(right)
    return list(old) == list(new) and all(np.array_equal(old[name], new[name]) for name in old)


def test_an_array_of_shifts_is_a_shift_each() -> None:
    batch, steps = RunBatch([_case()] * 3), [0.0, -0.2, 0.7]
    together = batch.price(Shifts(products=np.array(steps), launches=np.array(steps))).time
    alone = [RunBatch([_case()]).price(Shifts(products=step, launches=step)).time[0] for step in steps]
    assert together == pytest.approx(alone, rel=1e-12)


def _factor(before: float, by: float) -> float:
    return before * float(np.exp(by))


def _on_the_line(before: float, by: float) -> float:
    """A share of a link's rate, which stays one."""
    return min(_factor(before, by), 1.0)


def _sum(before: float, by: float) -> float:
    return max(before + by, 0.0)


def _log_odds(before: float, by: float) -> float:
    odds = float(np.log(before / (1.0 - before))) + by
    return float(1.0 / (1.0 + np.exp(-odds)))


_MOVES: dict[str, tuple[Callable[[float, float], float], set[str]]] = {
    "products": (_factor, {"device.efficiency", "wide.efficiency"}),
    "streaming": (_factor, {"device.stream_efficiency", "device.reduce_efficiency"}),
    "attention": (_factor, {"device.attention_efficiency", "device.attention_backward_efficiency"}),
    "host": (_factor, {"launch", "step_overhead"}),
    "inner_links": (_on_the_line, {"wires.levels.1.efficiency"}),
    "outer_links": (_on_the_line, {"wires.levels.2.efficiency"}),
    "stragglers": (_factor, {"jitter"}),
    "launches": (_factor, {"launch"}),
    "eager": (_sum, {"eager"}),
    "attention_kernels": (_factor, {"attention_efficiency"}),
    "reductions": (_factor, {"reduction_efficiency"}),
    "gradient_overlap": (_log_odds, {"gradient_overlap"}),
    "parameter_overlap": (_log_odds, {"parameter_overlap"}),
    "tensor_overlap": (_log_odds, {"tensor_overlap", "tensor_overlap_across"}),
    "step_overhead": (_factor, {"step_overhead"}),
    "optimizer": (_factor, {"optimizer_passes"}),
}


def test_every_kind_is_listed() -> None:
    assert list(_MOVES) == list(KINDS) == list(vars(Shifts()))


@pytest.mark.parametrize("by", [-0.3, 0.4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_moves_what_it_says(kind: str, by: float) -> None:
    move, places = _MOVES[kind]
    stack = _case().stack.columns()
    middle = dict.fromkeys(("gradient_overlap", "parameter_overlap", "tensor_overlap", "tensor_overlap_across"), 0.4)
    stack = Stacks(**{**vars(stack), **middle, "step_overhead": 0.01, "eager": 0.7})
    shifts, backend = Shifts(**{kind: by}), _case().backend()
    changes = _changes(stack, shifts.on_stacks(stack)) | _changes(backend, shifts.on_backend(backend))
    assert set(changes) == places
    for before, after in changes.values():
        assert after == pytest.approx(move(before, by), rel=1e-9)


def test_the_share_of_avoidable_traffic_is_never_negative() -> None:
    stacks = _case().stack.columns()
    assert float(np.asarray(Shifts(eager=-5.0).on_stacks(stacks).eager)) == 0.0


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("by", [-5.0, -0.01, 0.01, 5.0])
def test_a_shifted_overlap_stays_a_share(share: float, by: float) -> None:
    stacks = Stacks(**{**vars(_case().stack.columns()), "tensor_overlap": share})
    assert 0.0 <= float(np.asarray(Shifts(tensor_overlap=by).on_stacks(stacks).tensor_overlap)) <= 1.0


def test_priors_are_those_that_the_shipped_constants_were_fitted_with() -> None:
    """Whoever changes one fits again: `make fit`."""
    assert {kind: tuple(about.levels.values()) for kind, about in KINDS.items()} == {
        "products": (0.15, 0.15, 0.08, 0.1),
        "streaming": (0.12, 0.12),
        "attention": (0.15, 0.15),
        "host": (0.25,),
        "inner_links": (0.03, 0.1),
        "outer_links": (0.03, 0.05),
        "stragglers": (1.0,),
        "launches": (0.2, 0.5),
        "eager": (0.4, 0.3),
        "attention_kernels": (0.2, 0.2),
        "reductions": (0.3, 0.3),
        "gradient_overlap": (0.8, 0.6),
        "parameter_overlap": (0.8, 0.6),
        "tensor_overlap": (0.8, 0.6),
        "step_overhead": (0.6, 0.6),
        "optimizer": (0.4, 0.4),
    }


# What they do to time

_SLOWER = {"host", "stragglers", "launches", "eager", "step_overhead", "optimizer"}


@pytest.fixture(scope="module")
def spread() -> RunBatch:
    """One in forty of the shipped runs."""
    return RunBatch(mapped(timed()[::40]).cases)


@pytest.mark.parametrize("by", [-0.3, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_time_goes_the_physical_way(spread: RunBatch, kind: str, by: float) -> None:
    longer = (by > 0.0) == (kind in _SLOWER)
    ratio = spread.price(Shifts(**{kind: by})).time / spread.price(Shifts()).time
    assert np.all(ratio >= 1.0 - 1e-12) if longer else np.all(ratio <= 1.0 + 1e-12)
    assert np.any(np.abs(ratio - 1.0) > 1e-3)


def test_time_is_reciprocal_where_all_rates_and_times_change(spread: RunBatch) -> None:
    shifts = Shifts(host=0.2, products=-0.2, streaming=-0.2, attention=-0.2, inner_links=-0.2, outer_links=-0.2)
    ratio = spread.price(shifts).time / spread.price(Shifts()).time
    assert np.all((ratio > 1.0) & (ratio < np.exp(0.2) * (1.0 + 1e-9)))


def test_shifts_do_not_change_memory(spread: RunBatch) -> None:
    moved = Shifts(**dict.fromkeys(KINDS, 0.3))
    assert np.array_equal(spread.price(moved).memory.total, spread.price(Shifts()).memory.total)


# Constants by level and name


def test_levels_add_up_and_unknown_names_do_not_count() -> None:
    case = _case()
    of = names_of(case.stack, case.system, "bf16")
    constants = Constants(
        {
            "products": {
                "class and format": {of["class and format"]: 0.1, "b200 8-bit": 3.0},
                "device": {of["device"]: 0.02, "nothing": 4.0},
            },
            "launches": {"family": {of["family"]: -0.5}, "stack": {of["stack"]: 0.25, "": 1.0}},
            "outer_links": {"outer link": {"none": 5.0}},
        }
    )
    shifts = constants.of(case.stack, case.system, "bf16")
    assert shifts.products == pytest.approx(0.12)
    assert shifts.launches == pytest.approx(-0.25)
    assert {name for name, value in vars(shifts).items() if value} == {"products", "launches"}


def test_formats_share_constants_by_their_width() -> None:
    case = _case()
    of = {name: names_of(case.stack, case.system, name)["class and format"] for name in PRECISIONS}
    assert of["bf16"] == of["fp16"]
    assert len(set(of.values())) == 4


def test_without_a_fit_nothing_belongs_to_a_device_or_a_stack() -> None:
    """Kernels are slower inside a step than alone, everywhere by as much."""
    case = _case()
    assert UNFITTED.of(case.stack, case.system, "bf16") == Shifts(products=-0.16, streaming=-0.11, attention=-0.25)
    assert {level for (_, level, _), _ in UNFITTED.items()} == {"all"}
    fitted = {kind: shift for (kind, level, _), shift in shipped().items() if level == "all"}
    for (kind, _, _), shift in UNFITTED.items():
        assert shift == pytest.approx(fitted[kind], abs=0.05)
    assert find("none") is UNFITTED


def test_constants_are_found() -> None:
    assert find(None) is shipped()
    assert find(UNFITTED) is UNFITTED
    assert dict(find(SHIPPED).items()) == dict(shipped().items())


def test_shipped_constants_are_moderate_and_say_where_they_come_from() -> None:
    constants = shipped()
    values = {name: shift for name, shift in constants.items() if name[0] != "stragglers"}
    assert len(values) > 100
    assert max(map(abs, values.values())) < 2.0
    assert "runs of" in constants.origin


@pytest.mark.parametrize("name", catalogue.names("systems"))
def test_no_link_carries_more_than_its_rate_and_no_wait_is_longer_than_measured(name: str) -> None:
    system = catalogue.load_system(name)
    precision = precisions_of(system.device)[-1]
    stack = load_stack(next(each for each in names("stacks") if load_stack(each).platform == system.device.kind))
    backend = AnalyticBackend.of(system, system.default_devices, precision)
    shifted = shipped().of(stack, system, precision).on_backend(backend)
    for level in shifted.wires.levels:
        assert level.efficiency <= 1.0
    assert shifted.jitter <= MOST_JITTER


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """Names of the catalogue, by what constants belong to."""
    stacks = [load_stack(name) for name in names("stacks")]
    links = {*catalogue.link_classes(), "none"}
    formats = {"16-bit", "8-bit", "fp32", "tf32"}
    classes = catalogue.names("classes")
    return {
        "all": {"all"},
        "class": set(classes),
        "class and format": {f"{name} {width}" for name in classes for width in formats},
        "stack, class and format": {
            f"{stack.id} {name} {width}" for stack in stacks for name in classes for width in formats
        },
        "device": set(catalogue.names("devices")),
        "family": {stack.family for stack in stacks},
        "stack": {stack.id for stack in stacks},
        "inner link": links,
        "outer link": links,
    }


@pytest.mark.parametrize("level", sorted({level for kind in KINDS.values() for level in kind.levels}))
def test_shipped_constants_name_what_the_catalogue_has(known: dict[str, set[str]], level: str) -> None:
    named = {name for (_, at, name), _ in shipped().items() if at == level}
    assert named
    assert named <= known[level]


def test_shipped_constants_have_every_kind_and_level() -> None:
    pairs = {(kind, level) for (kind, level, _), _ in shipped().items()}
    assert pairs == {(kind, level) for kind, about in KINDS.items() for level in about.levels}


# Files


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_is_written_is_read(tmp_path: Path, newline: str) -> None:
    path, cases = tmp_path / "constants.yaml", mapped(timed()[::300]).cases
    refit.write(shipped(), cases, path)
    path.write_bytes(path.read_bytes().replace(b"\n", newline.encode()))
    again = load(path)
    assert dict(again.items()) == dict(shipped().items())
    assert again.origin == shipped().origin
    assert all(case.run.id in path.read_text() for case in cases)
    shifts, other = shifts_of(cases, again), shifts_of(cases, shipped())
    assert all(np.array_equal(getattr(shifts, kind), getattr(other, kind)) for kind in KINDS)


def test_what_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        refit.write(UNFITTED, [], tmp_path / "nowhere" / "constants.yaml")


def test_a_file_may_leave_kinds_out(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("shifts: {launches: {stack: {megatron-lm: 1}}}\n")
    constants = load(path)
    assert dict(constants.items()) == {("launches", "stack", "megatron-lm"): 1}
    assert constants.origin == "own.yaml"


def _launches(value: str) -> str:
    return f"shifts:\n  launches:\n    stack:\n      megatron-lm: {value}\n"


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("shifts: {speed: {}}", "unknown kind of constant 'speed'; valid: products"),
        ("shifts: {launches: {device: {}}}", "launches: unknown level 'device'; valid: family, stack"),
        ("shifts: {launches: {stack: [1]}}", "launches"),
        ("shifts: {launches: 3}", "launches"),
        ("shifts: {launches: null}", "launches"),
        ("shifts: [1, 2]", "no shifts; write the file with capsim fit"),
        ("shifts:", "no shifts"),
        ("origin: me", "no shifts"),
        ("", "must hold a mapping"),
        ("- shifts", "must hold a mapping"),
        ("shifts", "must hold a mapping"),
        (_launches(".nan"), "launches: stack: megatron-lm=nan: write a number from -5 to 5"),
        (_launches(".inf"), "megatron-lm=inf: write a number"),
        (_launches("-.inf"), "megatron-lm=-inf: write a number"),
        (_launches("5.001"), "megatron-lm=5.001: write a number from -5 to 5"),
        (_launches("-1e300"), "write a number from -5 to 5"),
        (_launches("1e999"), "write a number from -5 to 5"),
        (_launches("9" * 400), "write a number from -5 to 5"),
        (_launches("9" * 9000), "not valid YAML"),
        (_launches("true"), "write a number from -5 to 5"),
        (_launches("fast"), "megatron-lm=fast: write a number"),
        (_launches("'0.5'"), "write a number"),
        (_launches("null"), "write a number"),
        (_launches("[0.5]"), "write a number"),
        (_launches("x" * 5000), "write a number"),
        ("shifts: {launches: {stack: {1: 0.5}}}", "a key must be a word"),
        ("shifts: {}\nshifts: {}", "given twice"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nshifts: {}", "anchors and aliases are not accepted"),
        ("shifts: !!python/object/apply:os.system [ls]", "is not accepted"),
        ("shifts: " + "{a: " * 5000, "nested too deeply"),
        ("shifts: {", "not valid YAML"),
        ("#" * 1_100_000, "must hold a mapping"),
        ("a: \0", "not valid YAML"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, content: str, fragment: str) -> None:
    path = tmp_path / "constants.yaml"
    path.write_text(content)
    _assert_refused(path, fragment)


def _assert_refused(path: Path, fragment: str) -> None:
    with pytest.raises(InputError) as caught:
        find(path)
    said = str(caught.value)
    assert str(path) in said
    assert fragment in said
    assert said.isprintable()
    assert len(said) < 600


def test_a_file_that_is_none(tmp_path: Path) -> None:
    _assert_refused(tmp_path / "nothing.yaml", "cannot be read")
    _assert_refused(tmp_path, "is a directory")
    path = tmp_path / "binary.yaml"
    path.write_bytes(bytes(range(256)))
    _assert_refused(path, "is not UTF-8 text")


def test_many_own_runs_give_constants_that_can_be_read(tmp_path: Path) -> None:
    path, case = tmp_path / "constants.yaml", _case()
    named = replace(case, run=case.run.model_copy(update={"id": "a-run-of-our-own-" + "x" * 50}))
    refit.write(shipped(), [named] * 20_000, path)
    assert dict(load(path).items()) == dict(shipped().items())
