"""The mutation check itself: what it changes, what it leaves alone, and that it tells a kill from a survival."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys

import pytest

from tests.mutation.mutating import Mutant, defaults, mutants, replaced
from tests.mutation.reach import Reach
from tests.mutation.rooms import NAMED, ROOT, TESTS, modules, room_of
from tests.mutation.running import function_of


def _after(source: str, known: dict[str, frozenset[str]] | None = None) -> set[str]:
    return {f"{each.before} -> {each.after}" for each in mutants("m.py", source, known or {})}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("y = a + b", {"a + b -> a - b", "a + b -> a", "a + b -> b"}),
        ("y = a - b", {"a - b -> a + b", "a - b -> a"}),
        ("y = a * b", {"a * b -> a / b"}),
        ("y = a / b", {"a / b -> a * b"}),
        ("y = a & b", {"a & b -> a | b"}),
        ("y = -a", {"-a -> a"}),
        ("y = a < b", {"a < b -> a <= b"}),
        ("y = a >= b", {"a >= b -> a > b"}),
        ("y = a is b", {"a is b -> a is not b"}),
        ("y = a and b", {"a and b -> a or b"}),
        ("y = 0.0", {"0.0 -> 1.0"}),
        ("y = 1", {"1 -> 0", "1 -> 2"}),
        ("y = 2.0", {"2.0 -> 4.0", "2.0 -> 1.0"}),
        ("y = 3.0", {"3.0 -> 6.0"}),
        ("y = True", {"True -> False"}),
        ("y = np.maximum(a, b)", {"np.maximum(a, b) -> np.minimum(a, b)"}),
        ("y = np.ceil(a)", {"np.ceil(a) -> np.floor(a)"}),
        ("y = np.where(a, b, c)", {"np.where(a, b, c) -> np.where(a, c, b)"}),
        ("y = a if b else c", {"b -> not b"}),
        ("y = [a for a in b if c]", {"c -> not c"}),
        ("if a:\n    b()", {"a -> not a"}),
        ("def f() -> Num:\n    return a", {"a -> 0.0"}),
        ("def f() -> list[Task]:\n    return [a]", {"[a] -> []"}),
        ("def f() -> str:\n    return a", set()),
    ],
)
def test_mistakes(source: str, expected: set[str]) -> None:
    assert _after(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Docstring of 2 modules."""',
        'def f():\n    """1 + 1."""',
        'X = 1\n"""One."""'.replace("1\n", "a\n"),
        "x: Literal[1, 2]",
        "def f(x: Annotated[int, 2]) -> Annotated[int, 3]: ...",
        "@cache(2)\ndef f(): ...",
        "class A(B[2]): ...",
        "def f():\n    raise ValueError(1 + a)",
        "assert a + b == 2",
        'y = f"{a + 1}"',
        "y = text[:200]",
        "y = isinstance(a, B | C)",
        "if TYPE_CHECKING:\n    x = 1",
        "__all__ = [1]",
        "from a import b",
    ],
)
def test_what_is_left_alone(source: str) -> None:
    assert _after(source) == set()


def test_a_shortcut_past_work_that_comes_to_nothing_is_only_turned_around() -> None:
    """Where `> 1` becomes `>= 1` the work is done and comes to nothing: no test could see it."""
    shortcut = "if not np.any(pp > 1.0):\n    x()"
    assert _after(shortcut) == {
        "not np.any(pp > 1.0) -> not not np.any(pp > 1.0)",
        "not np.any(pp > 1.0) -> np.any(pp > 1.0)",
        "1.0 -> 2.0",
    }
    assert "pp > 1.0 -> pp >= 1.0" in _after("y = np.where(pp > 1.0, a, b)")


def test_keywords_are_dropped_where_they_have_a_default() -> None:
    known = defaults(["def f(a, b=1, *, c=2, d): ...", "class K:\n    x: int\n    y: int = 0"])
    assert known == {"f": {"b", "c"}, "K": {"y"}}
    assert _after("f(a, c=b, d=e)", dict(known)) == {"f(a, c=b, d=e) -> f(a, d=e)"}
    assert _after("K(x=a, y=b)", dict(known)) == {"K(x=a, y=b) -> K(x=a)"}


def test_a_mutant_knows_where_it_stands() -> None:
    source = (
        "class A:\n    def f(self):\n        def g():\n            return (a +\n                b)\n        return g\n"
    )
    all_mutants = mutants("m.py", source, {})
    assert {each.function for each in all_mutants} == {"A.f"}
    assert {each.statement for each in all_mutants} == {(4, 5)}
    assert str(all_mutants[0]) == "m.py:4: a + b  ->  a - b"
    assert all_mutants[0].mutated_line == "return ((a - b))"
    (outside,) = mutants("m.py", "def f(x=0): ...", {})
    assert outside.function is None


def test_what_is_written_for_something_else_has_to_stand_there_once() -> None:
    with pytest.raises(ValueError, match="stands there 2 times"):
        replaced("m.py", "def f():\n    return a + a", "a", "b")
    with pytest.raises(ValueError, match="no function holds"):
        replaced("m.py", "x = 1", "1", "2")
    mutant = replaced("m.py", "def f():\n    return a", "a", "b")
    assert (mutant.function, mutant.line, mutant.source) == ("f", 2, "def f():\n    return b")


def test_every_mutant_of_the_rooms_is_a_module() -> None:
    sources = {module: (ROOT / module).read_text() for room in TESTS for module in modules(room)}
    known = defaults(sources.values())
    total = 0
    for module, source in sources.items():
        all_mutants = mutants(module, source, known)
        total += len(all_mutants)
        assert len({each.source for each in all_mutants}) == len(all_mutants)
        for each in all_mutants[::29]:
            ast.parse(each.source)
            assert each.source != source
    assert total > 3000


def test_rooms_have_modules_and_tests() -> None:
    for room, folders in TESTS.items():
        assert modules(room)
        assert all((ROOT / folder).is_dir() for folder in folders)
        assert {room_of(module) for module in modules(room)} == {room}


_ALL = ("tests/step/a.py::b", "tests/work/c.py::d", "tests/pricing/a.py::b")


def test_tests_of_other_rooms_do_not_count() -> None:
    lines = {"simulator/step/time.py": {3: ["tests/step/a.py::b", "tests/pricing/a.py::b"]}}
    reach = Reach(lines, dict.fromkeys(_ALL, 0.0))
    one = Mutant("simulator/step/time.py", 3, (2, 3), "f", "", "", "")
    assert reach.tests_of(one) == {"tests/step/a.py::b"}
    assert reach.tests_of(Mutant("simulator/step/time.py", 1, (1, 1), None, "", "", "")) == {
        "tests/step/a.py::b",
        "tests/work/c.py::d",
    }


class _Holder:
    @property
    def one(self) -> int:
        return 1

    @functools.cached_property
    def two(self) -> int:
        return 2

    @classmethod
    def three(cls) -> int:
        return 3


def test_functions_are_found_in_what_wraps_them() -> None:
    assert [function_of(vars(_Holder)[name]).__name__ for name in ("one", "two", "three")] == ["one", "two", "three"]
    assert function_of(functools.cache(_quick)).__name__ == "_quick"
    with pytest.raises(LookupError, match="holds no function"):
        function_of(3)


def _quick() -> None:
    """Nothing."""


_KILLERS = {
    "simulator/work/operators.py": "test_counts.py::test_a_ring_of_one_sends_nothing",
    "simulator/work/once.py": "test_beside_layers.py::test_ends_share_the_gradient_of_a_tied_embedding[2]",
    "simulator/work/exchanges.py": "test_beside_layers.py::test_stages_send_the_activations_of_a_micro_batch[1-5760]",
}

_BIAS = "test_counts.py::test_parameters_of_linear_maps_and_normalisations"

_SCRIPT = """
import sys
from dataclasses import replace
from tests.mutation.mutating import Mutant, replaced
from tests.mutation.rooms import NAMED, ROOT
from tests.mutation.reach import Reach
from tests.mutation.running import judge

FORMULA, BIAS = "simulator/formulas/parameters.py", sys.argv.pop()
killers = dict(pair.split("=", 1) for pair in sys.argv[1:])
tried = [replaced(module, (ROOT / module).read_text(), old, new) for module, old, new in NAMED]
lines = {}
for each in tried:
    lines.setdefault(each.module, {}).update({each.statement[0]: ["tests/work/" + killers[each.module]]})
reach = Reach(lines, dict.fromkeys((test for by in lines.values() for tests in by.values() for test in tests), 0.0))
sound = [replace(each, source=(ROOT / each.module).read_text()) for each in tried]
outside = [replace(each, function=None) for each in (tried[0], sound[0])]
bias = (ROOT / FORMULA).read_text().replace("bias: Num = 0.0", "bias: Num = 1.0")
formula = Mutant(FORMULA, 1, (1, 1), None, "0.0", "1.0", bias)
reach.seconds.update({f"{FORMULA}::simulator.formulas.parameters.linear": 0.0, "tests/formulas/" + BIAS: 0.0})
for verdict in judge([*tried, *sound, *outside, formula], reach, jobs=2, limit=60.0):
    kind = "sound" if verdict.mutant in [*sound, outside[1]] else "mistaken"
    print(verdict.mutant.module, kind, verdict.killer or "-")
"""


@pytest.fixture(scope="module")
def verdicts() -> list[list[str]]:
    """Of mistakes that once passed every test, and of the same modules without them, each by one test."""
    before = {module: (ROOT / module).read_bytes() for module in _KILLERS}
    pairs = [f"{module}={killer}" for module, killer in _KILLERS.items()]
    ran = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *pairs, _BIAS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert {module: (ROOT / module).read_bytes() for module in _KILLERS} == before  # nothing is written there
    return [line.split() for line in ran.stdout.splitlines()]


def test_mistakes_that_once_passed_every_test_are_killed(verdicts: list[list[str]]) -> None:
    killed = {(module, killer) for module, kind, killer in verdicts if kind == "mistaken"}
    defaults_of = ("simulator/formulas/parameters.py", f"tests/formulas/{_BIAS}")
    assert killed == {(module, f"tests/work/{killer}") for module, killer in _KILLERS.items()} | {defaults_of}
    assert len([kind for _, kind, _ in verdicts if kind == "mistaken"]) == len(NAMED) + 2


def test_a_module_without_a_mistake_survives(verdicts: list[list[str]]) -> None:
    sound = [killer for _, kind, killer in verdicts if kind == "sound"]
    assert sound == ["-"] * (len(NAMED) + 1)
