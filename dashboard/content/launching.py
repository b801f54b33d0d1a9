"""Launch files of a scenario: pure, without streamlit."""

from __future__ import annotations

from dashboard.content.answers import Answer
from hardware.errors import InputError
from simulator.launch.frameworks import WRITERS, written
from simulator.launch.naming import stack_of
from simulator.launch.record import WrittenLaunch

FRAMEWORKS = tuple(WRITERS)
"""For which files are written."""


def usual(answer: Answer) -> str:
    """The framework that the scenario's stack stands for, or else the first."""
    return next((name for name in FRAMEWORKS if stack_of(name) == answer.scenario.stack.id), FRAMEWORKS[0])


def launch_file(answer: Answer, framework: str) -> WrittenLaunch | str:
    """A launch file, or the sentence that says why there is none."""
    try:
        return written(answer.scenario, framework)
    except InputError as error:
        return str(error)


def language(made: WrittenLaunch) -> str:
    """In which colours it is shown."""
    ending = made.file_name.rpartition(".")[2]
    return {"sh": "bash", "yml": "yaml"}.get(ending, ending)
