"""A run told whole: parts add up, nothing of its own source is behind it, and the figures are those of a validation."""

from __future__ import annotations

import json

import pytest

from simulator.corpus import runs
from simulator.corpus.mapping import case_of
from simulator.evidence import held_out
from simulator.evidence.stories import story_of
from simulator.evidence.validation import Validation

_IDS = ("palm-540b-6144", "deepspeed-flopsprofiler-a100-b80")


@pytest.mark.parametrize("name", _IDS)
def test_a_story_is_what_the_validation_says(validation: Validation, name: str) -> None:
    story = story_of(case_of(runs.one_of(runs.shipped(), name)))
    outcome = next(each for each in validation.outcomes if each.id == name)
    assert story.predicted_s == pytest.approx(outcome.predicted_s)
    assert (story.low_s, story.high_s) == pytest.approx((outcome.low_s, outcome.high_s))
    assert sum(story.breakdown_s.values()) == pytest.approx(story.predicted_s)
    assert list(story.breakdown_s.values()) == sorted(story.breakdown_s.values(), reverse=True)
    assert json.loads(json.dumps(story.to_dict(), allow_nan=False))["neighbours"]


def test_neighbours_are_of_other_sources_with_their_own_errors(validation: Validation) -> None:
    run = runs.one_of(runs.shipped(), _IDS[1])
    story = story_of(case_of(run))
    outcomes = {each.id: each for each in validation.outcomes}
    errors = held_out.shipped().errors["new source"]
    assert len(story.neighbours) == 5
    assert [each.distance for each in story.neighbours] == sorted(each.distance for each in story.neighbours)
    for each in story.neighbours:
        assert outcomes[each.id].source != run.collection
        assert each.measured_s == outcomes[each.id].measured_s
        assert each.error == pytest.approx(outcomes[each.id].error, abs=2e-3)
        assert each.id in errors.ids
