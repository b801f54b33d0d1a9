"""Forks that collect tests in process and print nothing."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from importlib.abc import MetaPathFinder
from typing import NoReturn

import pytest

from tests.mutation.rooms import ROOT, SLOW_FIXTURES, TESTS, room_of

_OPTIONS = ["-p", "no:cacheprovider", "-p", "no:faulthandler", "-p", "no:benchmark", "-s"]


def collected(
    paths: Sequence[str], loop: Callable[[pytest.Session], None], finder: MetaPathFinder | None = None
) -> bool:
    """Collect tests, leave the slow ones out, and do something with the rest; whether it never came to that.

    A finder is there when `conftest.py` is loaded, and after that before pytest's own, which loads the files that it is
    given by itself.
    """
    came = False
    if finder is not None:
        sys.meta_path.insert(0, finder)

    class Plugin:
        @pytest.hookimpl
        def pytest_configure(self) -> None:
            _steady()

        @pytest.hookimpl
        def pytest_sessionstart(self) -> None:
            if finder is not None:
                sys.meta_path.insert(0, finder)

        @pytest.hookimpl(tryfirst=True)
        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            items[:] = [item for item in items if not SLOW_FIXTURES & set(getattr(item, "fixturenames", ()))]

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtestloop(self, session: pytest.Session) -> bool:
            nonlocal came
            came = True
            loop(session)
            return True

    pytest.main([*_OPTIONS, f"--rootdir={ROOT}", *(str(ROOT / path) for path in paths)], plugins=[Plugin()])
    return not came


def _steady() -> None:
    """Property tests try the same examples each time."""
    from hypothesis import settings

    settings.register_profile("mutants", derandomize=True, database=None, deadline=None)
    settings.load_profile("mutants")


def folders(modules: Iterable[str]) -> list[str]:
    """Where the tests of the rooms of some modules stand."""
    rooms = sorted({room_of(module) for module in modules})
    return list(dict.fromkeys(folder for room in rooms for folder in TESTS[room]))


def quietly(work: Callable[[], object]) -> NoReturn:
    """Do something in a fork that prints nothing, and end it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    if "CAPSIM_MUTANTS_LOUD" not in os.environ:
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def read_all(pipe: int) -> str:
    """What was written to a pipe until its other end closed."""
    with os.fdopen(pipe) as lines:
        return lines.read()
