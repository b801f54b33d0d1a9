"""Links: what is chosen survives the way into a link and back, and a wrong link is told and mended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.choices.scenario import BEST, field, fields
from dashboard.choices.state import Choices, Field, Value, from_query, opening, to_query

_EXTRAS = (
    Field("sorted_by", "Sorted by", "choice", ("time", "cost"), default="time"),
    Field("listed", "Listed", "whole", default=10),
    Field("share", "Share", "amount"),
    Field("words", "Words", "text", default="all", example="all"),
    Field("folded", "Folded", "flag", default=True),
    Field("level", "Level", "level", ("low", "middle", "high"), default="middle", labels=("Low", "Middle", "High")),
    Field("several", "Several", "several", ("a", "b", "c")),
)
_KNOWN = (*fields(), *_EXTRAS)


def _values(each: Field) -> st.SearchStrategy[Value]:
    """Values that a field can have."""
    kinds: dict[str, st.SearchStrategy[Value]] = {
        "choice": st.sampled_from(each.options or ("none",)),
        "level": st.sampled_from(each.options or ("none",)),
        "several": st.sets(st.sampled_from(each.options or ("none",)), min_size=1).map(
            lambda chosen: ",".join(each for each in "abc" if each in chosen)
        ),
        "whole": st.integers(1, 10**15),
        "amount": st.floats(min_value=1e-3, max_value=1e18),
        "flag": st.booleans(),
        "text": st.text(
            st.characters(categories=("L", "N", "P", "S"), exclude_characters="\x00"), min_size=1, max_size=200
        ),
    }
    return kinds[each.kind]


_CHOICES = st.fixed_dictionaries({}, optional={each.name: _values(each) for each in _KNOWN}).map(
    lambda values: opening(_KNOWN).change(values)
)


@given(_CHOICES)
def test_a_link_brings_back_what_was_chosen(choices: Choices) -> None:
    restored_choices, problems = from_query(to_query(choices, _KNOWN), _KNOWN)
    assert problems == []
    assert restored_choices == choices
    assert hash(restored_choices) == hash(choices)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=300), max_size=8))
def test_no_link_breaks_a_page(query: dict[str, str]) -> None:
    choices, problems = from_query(query, _KNOWN)
    assert all(sentence.isprintable() and len(sentence) < 600 for sentence in problems)
    assert from_query(to_query(choices, _KNOWN), _KNOWN) == (choices, [])
    unknown = [name for name in query if name not in {each.name for each in _KNOWN}]
    assert len(problems) >= len(unknown)


@given(st.sampled_from(_KNOWN), st.text(max_size=30))
def test_what_is_read_can_be_written_and_what_cannot_is_one_sentence(each: Field, text: str) -> None:
    choices, problems = from_query({each.name: text}, [each])
    if problems:
        assert problems[0].startswith(f"The link says {each.name}=")
        assert choices == opening([each])
    elif text:
        assert each.read(each.write(each.read(text))) == each.read(text)


def test_what_is_usual_is_left_out() -> None:
    assert to_query(opening(_KNOWN), _KNOWN) == {}
    assert from_query({}, _KNOWN) == (opening(_KNOWN), [])
    choices = opening(_KNOWN).change({"tp": 8, "model": "bert-base", "folded": False, "listed": None})
    assert to_query(choices, _KNOWN) == {"model": "bert-base", "tp": "8", "listed": "", "folded": "no"}


def test_a_wrong_link_says_what_is_wrong_and_falls_back() -> None:
    link = {"modle": "x", "tp": "zwei", "system": "dgx-a100", "dp": "0", "tokens": "-1", BEST: "maybe", "pp": "4"}
    choices, problems = from_query(link, _KNOWN)
    assert choices == opening(_KNOWN).change({"pp": 4})
    assert problems == [
        "The link names 'modle', which this page does not know; did you mean model?",
        "The link says tp='zwei': write a whole number from 1",
        "The link says system='dgx-a100': did you mean dgx-a100-320gb or dgx-a100-640gb or dgx-h100?",
        "The link says dp='0': write a whole number from 1",
        "The link says tokens='-1': write a number such as 780B",
        "The link says best_plan='maybe': write yes or no",
    ]


def test_a_link_names_no_files() -> None:
    for name in ("model", "system", "stack", "constants"):
        _, problems = from_query({name: "../secret.yaml"}, _KNOWN)
        assert len(problems) == 1


def test_numbers_are_written_as_people_write_them() -> None:
    assert field("tokens").read("780B") == 780e9
    assert field("devices").read("4k") == 4000
    assert field("devices").read("1,024") == 1024
    assert field("devices").read("999999999999999") == 999999999999999
    assert field("tokens").write(780e9) == "780000000000"


def test_choices_are_what_they_hold() -> None:
    choices = Choices.of({"tp": 8, "dp": None})
    assert choices["tp"] == 8
    assert choices["dp"] is None
    assert choices.change({"tp": None}) == Choices()
    assert choices.only([field("dp")]) == Choices()
    assert choices.whole("tp") == 8


def test_several_are_each_kept_once_in_their_order() -> None:
    several = Field("several", "Several", "several", ("first", "second", "third"))
    assert several.read("third, first,third") == "first,third"
    with pytest.raises(ValueError, match=r"^several='first,thrid': did you mean third\?$"):
        several.read("first,thrid")
