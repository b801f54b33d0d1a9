"""What a launch file says, in the words of a scenario, and what one that is written leaves unsaid."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from hardware.errors import InputError


@dataclass(frozen=True)
class LaunchFile:
    """A launch file that was read."""

    framework: str
    """Whose file it is, as people write it."""
    path: str
    stack: str
    """The stack that stands for the framework."""
    model: str | Mapping[str, Any] | None = None
    """A model's name or its sizes; none where files of this kind do not say."""
    workload: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    devices: int | None = None
    read: tuple[str, ...] = ()
    """Settings that were understood, with their places."""
    assumed: tuple[str, ...] = ()
    """What the file leaves open, and what was taken for it."""
    ignored: tuple[str, ...] = ()
    """Settings that change neither time nor memory, or are left to the habits of the stack."""

    places: Mapping[str, str] = field(default_factory=dict)
    """Where fields of the plan and the workload stand, by names such as ``plan.tp``."""

    def document(self, devices: int | None = None, *, with_replicas: bool = True) -> dict[str, Any]:
        """The same as fields of a scenario file; a system is missing, which no launch file names.

        Parameters
        ----------
        devices
            Devices of the run, in the place of those that the file says.
        with_replicas
            Whether the replicas that follow from the degrees are in the plan; not where other degrees replace them.
        """
        number = devices or self.devices
        parts = {"stack": self.stack, "model": self.model, "devices": number}
        kept = {name: value for name, value in parts.items() if value is not None}
        return {
            **kept,
            "plan": self._whole_plan(number) if with_replicas else dict(self.plan),
            "workload": dict(self.workload),
        }

    def _whole_plan(self, devices: int | None) -> dict[str, Any]:
        """The plan, with the replicas that follow from the devices."""
        plan = dict(self.plan)
        inner = math.prod(plan.get(name) or 1 for name in ("tp", "pp", "cp"))
        if devices is not None and "dp" not in plan and {"tp", "pp", "cp"} <= plan.keys() and devices % inner == 0:
            plan["dp"] = devices // inner
        return plan

    @contextmanager
    def placed(self, besides: Collection[str] = ()) -> Iterator[None]:
        """Add file and line to errors about what the file says.

        Parameters
        ----------
        besides
            Fields that something else than the file gave.
        """
        try:
            yield
        except InputError as error:
            place = next((self.places[name] for name in error.fields if name in self.places), None)
            if place is None or set(besides) & set(error.fields):
                raise
            raise InputError(f"{place}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """What was read, assumed and ignored, as plain lists."""
        return {
            "framework": self.framework,
            "file": self.path,
            "read": list(self.read),
            "assumed": list(self.assumed),
            "ignored": list(self.ignored),
        }


@dataclass(frozen=True)
class WrittenLaunch:
    """A launch file that was written."""

    framework: str
    file_name: str
    """What such a file is usually called."""
    text: str
    command: str
    """What starts it."""
    where: str = ""
    """On which of several nodes the command is given, and what its variables stand for."""
    unsaid: tuple[str, ...] = ()
    """What the framework cannot say of the scenario."""
    fits: bool = True
    """Whether the run is expected to fit in memory."""

    def named(self, path: str) -> WrittenLaunch:
        """The same under another name, which its command and its comment say.

        Parameters
        ----------
        path
            Where it is written, as somebody names it.
        """
        name = self.file_name
        return replace(self, text=self.text.replace(name, path), command=self.command.replace(name, path))
