"""Versions that are locked are versions that are allowed, and every requirement says how old is too old."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.versions import lock, oldest, requirements

LOCKED = (Path(__file__).parents[2] / "constraints.txt").read_text().splitlines()


def test_every_line_locks_one_version() -> None:
    assert [line for line in LOCKED if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_the_lock_is_of_its_own_kind() -> None:
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lock())
    assert {line.partition("==")[0] for line in lock()} >= {"numpy", "pydantic", "pytest"}


@pytest.mark.parametrize("requirement", requirements())
def test_locked_versions_are_allowed(requirement: str) -> None:
    versions = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in LOCKED)}
    required = Requirement(requirement)
    assert required.specifier.contains(versions[canonicalize_name(required.name)])


@pytest.mark.parametrize("requirement", requirements())
def test_oldest_versions_are_allowed(requirement: str) -> None:
    version = oldest(requirement).partition("==")[2]
    assert Requirement(requirement).specifier.contains(version)


def test_a_requirement_without_an_oldest_version_is_refused() -> None:
    with pytest.raises(ValueError, match="no oldest version; write numpy>="):
        oldest("numpy")
