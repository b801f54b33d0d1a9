"""The one reader of launch files: each framework adds what its settings mean, its table the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.launch.documents import settings_from
from simulator.launch.naming import stack_of
from simulator.launch.record import LaunchFile
from simulator.launch.settings import LaunchSettings
from simulator.launch.tables import options_of


@dataclass(frozen=True)
class WhatIsSaid:
    """What the settings of a launch file mean, in the words of a scenario."""

    plan: Mapping[str, Any]
    workload: Mapping[str, Any] = field(default_factory=dict)
    model: str | Mapping[str, Any] | None = None
    devices: int | None = None
    stack: str | None = None
    """Another stack than the one that stands for the framework."""


Meaning = Callable[[LaunchSettings, int | None, list[str]], WhatIsSaid]
"""What settings mean, with the devices that somebody says; a list takes what is open and was chosen."""


@dataclass(frozen=True)
class DocumentReader:
    """The reader of a framework's files of data."""

    framework: str
    """By the name of its table."""
    meaning: Meaning

    def __call__(self, document: Mapping[str, Any], path: str, devices: int | None = None) -> LaunchFile:
        """What a configuration says.

        Parameters
        ----------
        document
            What the file holds.
        path
            The file.
        devices
            Devices of the run, where somebody says.

        Raises
        ------
        InputError
            With file and line.
        """
        comment = options_of(self.framework).comment
        kept = {key: value for key, value in document.items() if key != comment}
        settings = settings_from(kept, path, options_of(self.framework))
        assumed: list[str] = []
        return launch_file_of(self.framework, settings, self.meaning(settings, devices, assumed), assumed)


def launch_file_of(
    framework: str, settings: LaunchSettings, said: WhatIsSaid, assumed: list[str], *, set_only: bool = False
) -> LaunchFile:
    """A launch file that was read, with what is listed of it.

    Parameters
    ----------
    framework
        By the name of its table.
    settings
        Its settings, of which all that matters was asked for.
    said
        What they mean.
    assumed
        What the file leaves open, and what was taken for it.
    set_only
        Whether errors about a field name the file only where it sets the field.

    Raises
    ------
    InputError
        Where something is set that is neither read nor ignored.
    """
    table = options_of(framework)
    places = table.places.items()
    return LaunchFile(
        framework=table.framework,
        path=settings.path,
        stack=said.stack or stack_of(framework),
        model=said.model,
        workload=said.workload,
        plan=said.plan,
        devices=said.devices,
        read=settings.read(),
        assumed=tuple(assumed),
        ignored=settings.finish(),
        places={name: settings.place(option) for name, option in places if not set_only or option in settings},
    )
