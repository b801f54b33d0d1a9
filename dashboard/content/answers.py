"""Answers for what was chosen, each computed once: pure, without streamlit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, TypeVar

import simulator
from dashboard.choices.scenario import BEST, arguments, fields
from dashboard.choices.state import Choices, Value
from simulator import Estimate, Improvement, Roofline, Scenario, Sensitivity, Stage

Found = TypeVar("Found")
Progress = Callable[..., None]
Tell = Callable[[str], None]
"""Is told in words how far work is, often; what it raises ends the work."""


class Kept(Generic[Found]):
    """The latest answers by their question, for all sessions together; errors are not kept.

    Parameters
    ----------
    most
        How many answers are kept.
    """

    def __init__(self, most: int = 256) -> None:
        self._most, self._lock = most, Lock()
        self._answers: OrderedDict[Hashable, Found] = OrderedDict()

    def get(self, question: Hashable, compute: Callable[[], Found]) -> Found:
        """The answer that is kept, or else the one that `compute` gives."""
        with self._lock:
            if question in self._answers:
                self._answers.move_to_end(question)
                return self._answers[question]
        answer = compute()
        with self._lock:
            self._answers[question] = answer
            while len(self._answers) > self._most:
                self._answers.popitem(last=False)
        return answer

    def knows(self, question: Hashable) -> bool:
        """Whether the answer is kept, so that it takes no time."""
        with self._lock:
            return question in self._answers


def in_words(tell: Tell | None, words: Callable[..., str]) -> Progress:
    """What the public API calls while it works.

    Parameters
    ----------
    tell
        Who hears how far it is, if anybody does.
    words
        Says it, for what the API passes.
    """

    def progress(*passed: object) -> None:
        if tell is not None:
            tell(words(*passed))

    return progress


@dataclass(frozen=True)
class Answer:
    """A complete scenario and what is said of it."""

    scenario: Scenario
    estimate: Estimate


_ANSWERS: Kept[Answer] = Kept()


def answer(choices: Choices, progress: Progress | None = None) -> Answer:
    """What `simulator` says of a scenario; with the best plan of all where that is chosen.

    Parameters
    ----------
    choices
        Of a scenario.
    progress
        What `simulator.search` calls while it looks for the best plan; what it raises ends the search.

    Raises
    ------
    InputError
        One sentence, with the fields that it is about.
    """
    asked = choices.only(fields())
    return _ANSWERS.get(asked, lambda: _answer(asked, progress))


def is_quick(choices: Choices) -> bool:
    """Whether the answer takes no search, or is known."""
    return not choices[BEST] or _ANSWERS.knows(choices.only(fields()))


def _answer(choices: Choices, progress: Progress | None) -> Answer:
    """Ask the public API."""
    keywords = arguments(choices)
    if choices[BEST]:
        result = simulator.search(**keywords, top=1, progress=progress)
        best = next(iter(result.best), result.nearest)
        if best is not None:
            keywords["plan"] = planned(best)
            scenario = simulator.resolve(**keywords)
            return Answer(scenario, best)
    scenario = simulator.resolve(**keywords)
    return Answer(scenario, simulator.answer(scenario))


def planned(estimate: Estimate) -> dict[str, Any]:
    """The plan of an estimate, as `simulator.estimate` takes it."""
    return dict(estimate.plan)


_IMPROVEMENTS: Kept[tuple[Improvement, ...]] = Kept()
_STAGES: Kept[tuple[Stage, ...]] = Kept()
_ROOFLINES: Kept[Roofline] = Kept()
_LEVERS: Kept[Sensitivity] = Kept()


def improvements(choices: Choices, answer: Answer) -> tuple[Improvement, ...]:
    """The single changes that would help a scenario most."""
    return _IMPROVEMENTS.get(choices.only(fields()), lambda: simulator.improvements(answer.scenario))


def stages(choices: Choices, answer: Answer) -> tuple[Stage, ...]:
    """What every stage of the pipeline holds."""
    return _STAGES.get(choices.only(fields()), lambda: simulator.stages(answer.scenario))


def roofline(choices: Choices, answer: Answer) -> Roofline:
    """The operators under the roofline of the device."""
    return _ROOFLINES.get(choices.only(fields()), lambda: simulator.roofline(answer.scenario))


def levers(choices: Choices, answer: Answer) -> Sensitivity:
    """What moves the answer most; the plan that was found is kept."""
    keywords = {**arguments(choices), "plan": planned(answer.estimate), "stack": answer.estimate.stack}
    return _LEVERS.get(choices.only(fields()), lambda: simulator.sensitivity(**keywords))


def applied(choices: Choices, change: Improvement) -> dict[str, Value | None]:
    """What to choose so that a scenario becomes what an improvement says.

    The change alone, where what is open then follows as it says; the whole plan where something else would be chosen.
    """
    values: dict[str, Value | None] = {**change.changes, BEST: False}
    if change.field in ("tp", "pp", "cp"):
        values["dp"] = None
    plan = {name: _chosen(value) for name, value in change.plan if name in {each.name for each in fields()}}
    whole = {**values, **plan, "stack": change.stack}
    if choices[BEST]:
        return whole
    try:
        same = simulator.resolve(**arguments(choices.change(values)))
    except simulator.InputError:
        return whole
    return values if same.plan == change.plan and same.stack.id == change.stack else whole


def _chosen(value: Any) -> Value | None:
    """A value of a plan as a choice."""
    return "-".join(value) if isinstance(value, tuple) else value
