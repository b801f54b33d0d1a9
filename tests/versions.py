"""Versions of what capsim needs, as constraints for pip.

``python -m tests.versions oldest`` prints the oldest that pyproject.toml allows, ``python -m tests.versions lock``
those of the environment that runs it.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
_LOWEST = re.compile(r"(?P<name>[A-Za-z0-9._-]+)>=(?P<version>[0-9.]+)")
_OURS = ("capsim", "pip")
"""What no line is about: the project itself, and what installs it."""


def requirements() -> list[str]:
    """What the project and all its extras require."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    return [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]


def oldest(requirement: str) -> str:
    """The oldest version that a requirement allows.

    >>> oldest("torch>=2.10,<2.14")
    'torch==2.10'

    Raises
    ------
    ValueError
        Where it allows any.
    """
    match = _LOWEST.match(requirement)
    if match is None:
        raise ValueError(f"{PROJECT.name}: {requirement} has no oldest version; write {requirement}>=...")
    return f"{match['name']}=={match['version']}"


def lock() -> list[str]:
    """What is installed beside this Python, without the part of a version that names one builder's variant."""
    installed = {one.name.lower(): one.version.partition("+")[0] for one in distributions()}
    return [f"{name}=={version}" for name, version in sorted(installed.items()) if name not in _OURS]


if __name__ == "__main__":
    lines = {"oldest": lambda: map(oldest, requirements()), "lock": lock}[sys.argv[1]]()
    sys.stdout.write("".join(f"{line}\n" for line in lines))
