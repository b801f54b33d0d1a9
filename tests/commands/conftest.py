"""The command line inside the test's own process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from simulator import cli


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The answer as data; not a number and infinities are no JSON."""

        def refuse(name: str) -> None:
            raise AssertionError(f"{name} in JSON")

        assert self.out, self.err
        return json.loads(self.out, parse_constant=refuse)


Capsim = Callable[..., Outcome]


def assert_one_sentence(outcome: Outcome, *fragments: str) -> None:
    """Whether bad input ended with one clear sentence on standard error, status 2, and nothing else."""
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.startswith("capsim: ")
    assert outcome.err.endswith("\n")
    assert outcome.err[:-1].isprintable()
    assert len(outcome.err) < 600
    assert "Traceback" not in outcome.err
    assert all(fragment in outcome.err for fragment in fragments), outcome.err


@pytest.fixture
def capsim(capsys: pytest.CaptureFixture[str]) -> Capsim:
    """Run the command line with arguments."""

    def run(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, captured.out, captured.err)

    return run
