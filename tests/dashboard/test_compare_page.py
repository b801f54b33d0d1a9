"""The Compare page: every control, every error, every button, without a browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.choices.scenario import BEST, field, fields
from dashboard.choices.state import Choices, opening
from dashboard.content import answers, comparing
from dashboard.content.comparing import to_text
from hardware import units
from tests.dashboard.conftest import OpenPage, link_of, plain, sentences

_SECTIONS = ("plan", "run", "money", "failures")


def _changed(**values: Any) -> Choices:
    return opening(fields()).change(values)


def _shown(page: AppTest) -> list[dict[str, str]]:
    """The rows of the table of answers."""
    rows: list[dict[str, str]] = page.dataframe[0].value.to_dict("records")
    return rows


def _link(rows: Sequence[Choices], at: int = 1) -> dict[str, str]:
    """The link of some scenarios."""
    return {"compare_rows": to_text(rows)} | ({} if at == 1 else {"compare_row": str(at)})


def _control(page: AppTest, name: str, row: int, kind: str = "text_input") -> Any:
    """A control of the scenario that is edited."""
    return getattr(page.sidebar, kind)(key=f"control.row{row}.{name}")


def test_it_opens_on_four_systems_side_by_side(open_page: OpenPage) -> None:
    page = open_page("compare")
    assert [row["scenario"] for row in _shown(page)] == comparing.labels(comparing.begun_with())
    wanted = [units.duration(answers.answer(row).estimate.step_time_s) for row in comparing.begun_with()]
    assert [row["step time"] for row in _shown(page)] == wanted
    assert [head.value.removeprefix("##### ") for head in page.markdown if head.value.startswith("#####")] == [
        "Time to train", "Cost", "Energy", "Memory per device", "Where a step goes", "Where they differ",
        "Basis of each answer",
    ]  # fmt: skip
    assert link_of(page) == {}
    assert sentences(page) == []


@pytest.mark.parametrize("title", comparing.ready_made())
def test_a_ready_made_set_replaces_what_is_compared(open_page: OpenPage, title: str) -> None:
    page = open_page("compare", _link([_changed(tp=2)]))
    assert page.selectbox(key="compare.set").value is None
    page.selectbox(key="compare.set").set_value(title).run()
    rows = comparing.ready_made()[title]
    assert [row["scenario"] for row in _shown(page)] == comparing.labels(rows)
    assert link_of(page) == ({} if rows == comparing.begun_with() else _link(rows))
    assert page.selectbox(key="compare.set").value == title
    page.selectbox(key="compare.set").set_value(None).run()
    assert len(_shown(page)) == len(rows)


def test_a_scenario_is_edited_by_its_own_controls(open_page: OpenPage) -> None:
    page = open_page("compare", _link([_changed(), _changed(system="rtx-3090")], at=2))
    first = _shown(page)[0]
    _control(page, "sequence_length", 2).set_value("128").run()
    rows = [_changed(), _changed(system="rtx-3090", sequence_length=128)]
    assert link_of(page) == _link(rows, at=2)
    assert _shown(page)[0] | {"scenario": ""} == first | {"scenario": ""}
    assert _shown(page)[1]["step time"] == units.duration(answers.answer(rows[1]).estimate.step_time_s)
    again = open_page("compare", link_of(page))
    assert _shown(again) == _shown(page)
    assert _control(again, "sequence_length", 2).value == "128"
    assert "sequence_length" not in link_of(page)
    page.sidebar.selectbox(key="control.compare_row").set_value(1).run()
    assert _control(page, "sequence_length", 1).value == ""
    assert link_of(page) == _link(rows)


def test_scenarios_are_duplicated_and_removed(open_page: OpenPage) -> None:
    one, two = _changed(system="rtx-3090"), _changed(system="rtx-a6000")
    page = open_page("compare", _link([one, two]))
    page.button(key="compare.duplicate").click().run()
    assert link_of(page) == _link([one, one, two], at=2)
    assert page.sidebar.selectbox(key="control.compare_row").value == 2
    page.button(key="compare.remove").click().run()
    page.button(key="compare.remove").click().run()
    assert link_of(page) == _link([two])
    assert page.button(key="compare.remove").disabled


def test_a_link_without_rows_is_the_opening_set(open_page: OpenPage) -> None:
    page = open_page("compare", {"compare_rows": "", "compare_row": "3"})
    assert page.sidebar.selectbox(key="control.compare_row").value == 3
    assert _control(page, "system", 3, "selectbox").value == "server-rtx-3090"


def test_what_plan_shows_is_added(open_page: OpenPage) -> None:
    page = open_page("compare", {"model": "gpt2-1.5b", "devices": "4"})
    page.button(key="compare.add").click().run()
    rows = [*comparing.begun_with(), _changed(model="gpt2-1.5b", devices=4)]
    assert link_of(page) == {"model": "gpt2-1.5b", "devices": "4"} | _link(rows, at=5)
    assert _shown(page)[-1]["scenario"].startswith("5 gpt2-1.5b")


def test_a_scenario_goes_to_plan(open_page: OpenPage) -> None:
    page = open_page("compare", _link([_changed(), _changed(system="rtx-3090", micro_batch=4)], at=2))
    page.button(key="compare.plan").click().run()
    assert page.session_state["capsim.wanted"][0] == "plan"
    link = link_of(page)
    assert (link["system"], link["micro_batch"]) == ("rtx-3090", "4")


def test_the_scenario_that_is_edited_has_a_launch_file(open_page: OpenPage) -> None:
    shared = {"model": "llama-3.2-1b", "system": "dgx-h100", "sequence_length": 2048, "global_batch": 256}
    rows = [_changed(**shared, stack="megatron-lm"), _changed(**shared, stack="deepspeed", devices=16)]
    page = open_page("compare", _link(rows, at=2))
    page.session_state["launch.2"] = True
    page.run()
    assert not page.exception
    assert page.selectbox(key="launch.2.to").value == "deepspeed"
    assert '"train_batch_size": 256' in page.code[0].value
    assert any("on the first of 2 nodes" in caption.value for caption in page.caption)
    page.session_state["launch.1"] = True
    page.selectbox(key="control.compare_row").set_value(1).run()
    assert page.selectbox(key="launch.1.to").value == "megatron-lm"
    assert "--global-batch-size 256" in page.code[0].value


def test_twelve_are_the_most(open_page: OpenPage) -> None:
    page = open_page("compare", _link([_changed(system="rtx-3090", global_batch=8 * n) for n in range(1, 13)]))
    assert len(_shown(page)) == 12
    assert page.button(key="compare.duplicate").disabled
    assert page.button(key="compare.add").disabled
    more = open_page("compare", {"compare_rows": "~~".join(["."] * 13)})
    assert len(_shown(more)) == 12
    assert sentences(more) == ["The link compares 13 scenarios; the first 12 are shown, which is the most."]


def test_a_link_that_would_be_too_long_is_refused(open_page: OpenPage) -> None:
    names = ("price", "purchase_price", "lifetime", "electricity", "failure_rate")
    rows = [_changed(**dict.fromkeys(names, f"{'x' * 190}{number}")) for number in range(3)]
    page = open_page("compare", _link(rows, at=3))
    page.button(key="compare.duplicate").click().run()
    assert link_of(page) == _link(rows, at=3)
    assert sentences(page)[0].endswith("4,000 at most: remove one, or open fields.")
    page.button(key="compare.remove").click().run()
    assert not any("remove one" in sentence for sentence in sentences(page))


@pytest.mark.parametrize(
    ("link", "sentence"),
    [
        ({"compare_rows": "modle.x"}, "Scenario 1: the link names 'modle', which no scenario has; did you mean model?"),
        ({"compare_rows": "tp.two"}, "Scenario 1: The link says tp='two': write a whole number from 1"),
        ({"compare_row": "9"}, "The link edits scenario 9 of 4; write 1 to 4."),
    ],
)
def test_a_wrong_link_says_what_is_wrong(open_page: OpenPage, link: dict[str, str], sentence: str) -> None:
    page = open_page("compare", link)
    assert sentences(page)[0] == sentence
    assert page.dataframe


def test_a_link_of_no_list_falls_back(open_page: OpenPage) -> None:
    page = open_page("compare", {"compare_rows": "x" * 4001})
    assert plain(page.warning[0].value).startswith("The link says compare_rows=")
    assert len(_shown(page)) == 4


def test_what_is_wrong_with_one_leaves_the_others(open_page: OpenPage) -> None:
    page = open_page("compare", _link([_changed(), _changed(tp=3), _changed(system="rtx-3090", devices=999)], at=2))
    first, second, third = _shown(page)
    assert first["step time"]
    assert second["step time"] == third["step time"] == ""
    said = sentences(page)
    assert any(sentence.startswith("tp=3 does not divide 16 attention heads") for sentence in said)
    assert any(sentence.startswith("2 dgx-a100-640gb, tp 3: tp=3") for sentence in said)
    assert any("devices=999: rtx-3090 has 1 to 8 devices" in sentence for sentence in said)
    only = open_page("compare", _link([_changed(tp=3)]))
    assert not [head for head in only.markdown if head.value == "##### Cost"]


def test_a_wrong_value_stands_beside_its_control(open_page: OpenPage) -> None:
    page = open_page("compare", _link([_changed(), _changed()], at=2))
    before = link_of(page)
    _control(page, "devices", 2).set_value("many").run()
    assert sentences(page) == ["devices='many': write a whole number from 1"]
    assert link_of(page) == before
    assert _control(page, "devices", 2).value == "many"
    page.sidebar.selectbox(key="control.compare_row").set_value(1).run()
    assert sentences(page) == []
    assert _control(page, "devices", 1).value == ""
    page.sidebar.selectbox(key="control.compare_row").set_value(2).run()
    _control(page, "devices", 2).set_value("4").run()
    assert sentences(page) == []


@pytest.mark.parametrize("section", _SECTIONS)
def test_every_control_of_a_scenario_is_there(open_page: OpenPage, section: str) -> None:
    page = open_page("compare")
    before = {each.key for each in (*page.sidebar.text_input, *page.sidebar.selectbox, *page.sidebar.toggle)}
    page.session_state[f"section.row1.{section}"] = True
    page.run()
    controls = {each.key: each for each in (*page.sidebar.text_input, *page.sidebar.selectbox, *page.sidebar.toggle)}
    new = set(controls) - before
    assert new
    assert all(key.startswith("control.row1.") and field(key.rpartition(".")[2]) for key in new)
    assert all(controls[key].help for key in new)


def test_the_best_plan_is_searched_for_and_the_search_can_be_stopped(open_page: OpenPage) -> None:
    rows = [_changed(), _changed(system="rtx-3090", global_batch=64)]
    page = open_page("compare", _link(rows, at=2))
    _control(page, BEST, 2, "toggle").set_value(True).run()
    best = rows[1].change({BEST: True})
    assert link_of(page) == _link([rows[0], best], at=2)
    estimate = answers.answer(best).estimate
    assert _shown(page)[1]["step time"] == units.duration(estimate.step_time_s)


def test_everything_can_be_taken_elsewhere(open_page: OpenPage) -> None:
    page = open_page("compare")
    page.session_state["share"] = True
    page.run()
    python, command = (each.value for each in page.code)
    assert python == comparing.as_python(comparing.begun_with())
    assert command == comparing.as_command(comparing.begun_with())
    buttons: Any = page.get("download_button")
    assert [each.label for each in buttons] == ["YAML", "CSV", "JSON"]
