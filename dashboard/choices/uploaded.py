"""What somebody uploaded: files in memory, and profiles that live as long as a session; pure, without streamlit.

A profile is chosen by a name such as ``mine@3f2a90c1b7d4``. No link has such names, and none is read from a link.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal
from weakref import WeakValueDictionary

import simulator
from hardware.errors import InputError, shown
from hardware.spec import Device
from simulator import MeasuredProfile

Kind = Literal["record", "profile", "table"]
ENDINGS: dict[str, Kind] = {
    ".jsonl": "record",
    ".yaml": "profile",
    ".yml": "profile",
    ".csv": "table",
    ".csv.gz": "table",
}
"""What a file is, by the end of its name."""
NOTE = ":material/upload_file: Uploaded: only this browser tab knows it, and no link has it."
"""What is said wherever an upload is used."""
MARK = "@"
"""Between a name and what tells uploads of equal names apart."""
_LONGEST = 80
_PROFILES: WeakValueDictionary[str, MeasuredProfile] = WeakValueDictionary()
"""Profiles that a session holds, by the names that they are chosen by."""


@dataclass(frozen=True)
class Upload:
    """A file that was uploaded; equal ones have the same name and content."""

    name: str
    digest: str
    content: bytes = field(repr=False, compare=False)

    @classmethod
    def of(cls, name: str, content: bytes) -> Upload:
        """A file by its name, without folders, and what it holds."""
        bare = re.sub(r"[^\w.+-]+", "-", re.split(r"[/\\]", name)[-1], flags=re.ASCII)[-_LONGEST:]
        ending = next((each for each in ENDINGS if bare.lower().endswith(each)), "")
        stem = bare[: len(bare) - len(ending)].lstrip(".-")
        return cls(f"{stem or 'unnamed'}{ending}", sha256(content).hexdigest(), content)

    @property
    def kind(self) -> Kind:
        """What it is, by its name.

        Raises
        ------
        InputError
            Where it can be nothing that is read.
        """
        for ending, kind in ENDINGS.items():
            if self.name.lower().endswith(ending):
                return kind
        raise InputError(f"{self.name}: is none of the files that are read; upload one that ends in {_listed()}")


def has(uploads: Sequence[Upload], *kinds: Kind) -> bool:
    """Whether there are files of some kinds."""
    return any(each.name.endswith(ending) for each in uploads for ending, kind in ENDINGS.items() if kind in kinds)


def _listed() -> str:
    return ", ".join(list(ENDINGS)[:-1]) + f" or {list(ENDINGS)[-1]}"


@contextmanager
def stored(uploads: Sequence[Upload]) -> Iterator[list[Path]]:
    """Files on disk for as long as they are read; sentences about them name them as they were uploaded."""
    names = [each.name for each in uploads]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{twice}: was uploaded twice; remove one of them")
    with tempfile.TemporaryDirectory(prefix="capsim-") as folder:
        paths = [Path(folder) / name for name in names]
        for path, each in zip(paths, uploads, strict=True):
            path.write_bytes(each.content)
        try:
            yield paths
        except InputError as error:
            raise InputError(str(error).replace(f"{folder}{os.sep}", ""), fields=error.fields) from None


def keep(profile: MeasuredProfile) -> tuple[str, MeasuredProfile]:
    """The name that a profile is chosen by for as long as somebody holds what comes with it."""
    digest = sha256(simulator.profile_text(profile).encode()).hexdigest()
    name = f"{profile.id}{MARK}{digest[:12]}"
    return name, _PROFILES.setdefault(name, profile)


def is_uploaded(value: object) -> bool:
    """Whether a choice means something that was uploaded."""
    return isinstance(value, str) and MARK in value


def profile_of(name: str) -> str | MeasuredProfile:
    """What the API takes for a profile that was chosen: a name, or the profile that was uploaded.

    Raises
    ------
    InputError
        Where the upload is gone.
    """
    if not is_uploaded(name):
        return name
    profile = _PROFILES.get(name)
    if profile is None:
        raise InputError(
            f"profile={shown(file_of(name))}: was uploaded and is not there any more; upload it again under Calibrate",
            fields=["profile"],
        )
    return profile


def system_of(name: str, profile: MeasuredProfile) -> str:
    """What is chosen as the system for a profile: a plain host of its device, in the catalogue or not."""
    if isinstance(profile.device, Device):
        return f"{profile.device.id}{MARK}{name.rpartition(MARK)[2]}" if is_uploaded(name) else profile.device.id
    return profile.device


def file_of(name: str) -> str:
    """The file that an uploaded profile is called in programs and commands, or the name of one that is shipped."""
    return f"{name.rpartition(MARK)[0]}.yaml" if is_uploaded(name) else name


def title_of(name: str) -> str:
    """What a choice is called on a page."""
    return f"{name.rpartition(MARK)[0]} (uploaded)" if is_uploaded(name) else name
