"""What is noted while a published run is read: which words led to what, and what was assumed."""

from __future__ import annotations

from dataclasses import dataclass, field

from simulator.corpus.words import RuleMatch


@dataclass(frozen=True)
class FieldReading:
    """How one field of a run was read."""

    field: str
    """Of the run, such as hardware.inter."""
    rule: str
    """The rule that decided, such as "fabrics: infiniband"."""
    word: str
    """The words of the field that the rule went by."""
    result: str
    """What follows for the scenario, such as "plan.precision = bf16"."""


@dataclass
class Notes:
    """What is noted of one run; every reader adds to it."""

    readings: list[FieldReading] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    """What the run leaves open, and how it was filled."""

    def read(self, place: str, match: RuleMatch | str, result: str, word: str = "") -> None:
        """Note how a field was read.

        Parameters
        ----------
        place
            The field of the run.
        match
            The rule of rules.yaml that decided, or in words what did.
        result
            What follows for the scenario.
        word
            What decided, where it was no rule of rules.yaml.
        """
        rule, told = (match, word) if isinstance(match, str) else (f"{match.kind}: {match.rule['match']}", match.word)
        self.readings.append(FieldReading(place, rule, told, result))

    def assume(self, what: str) -> None:
        """Note what was filled because it was not published, once."""
        if what not in self.assumed:
            self.assumed.append(what)
