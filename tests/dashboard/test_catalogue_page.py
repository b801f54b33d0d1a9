"""The Catalogue page: every part, every control, every error, without a browser."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.content import browsing
from dashboard.content.browsing import PARTS
from hardware import catalogue, units
from simulator.terminal import catalogue as browse
from tests.dashboard.conftest import OpenPage, link_of, plain, sentences


def _figures(page: AppTest) -> list[dict[str, str]]:
    """The figures of the entry that is shown."""
    rows: list[dict[str, str]] = page.table[0].value.to_dict("records")
    return [{name: plain(cell) for name, cell in row.items()} for row in rows]


def _entry(page: AppTest) -> str:
    """The entry that is shown."""
    return next(plain(each.value).removeprefix("##### ") for each in page.markdown if each.value.startswith("#####"))


def test_it_opens_on_the_device_at_hand(open_page: OpenPage) -> None:
    page = open_page("catalogue")
    assert list(page.dataframe[0].value["device"]) == list(browsing.names("devices"))
    assert _entry(page) == "a100-sxm4-80gb"
    assert _figures(page) == browsing.figures("devices", "a100-sxm4-80gb")
    sources = [plain(each.value) for each in page.caption]
    assert any("[1] ai-dynamo" in text and "Primary figures were read" in text for text in sources)
    assert link_of(page) == {}
    assert sentences(page) == []


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_listed_with_an_entry(open_page: OpenPage, part: str) -> None:
    page = open_page("catalogue", {"catalogue_entry": "rtx-3090"})
    page.selectbox(key="control.catalogue_part").set_value(part).run()
    assert sentences(page) == []
    assert link_of(page) == ({"catalogue_entry": "rtx-3090"} if part == PARTS[0] else {"catalogue_part": part})
    assert len(page.dataframe[0].value) == len(browse.names(part))
    entries = units.plural(len(browse.names(part)), "entry", "entries")
    assert f"{part}: {browse.parts()[part]}, {entries}" in plain(page.caption[0].value)
    again = open_page("catalogue", link_of(page))
    assert _entry(again) == _entry(page)
    assert _figures(again) == _figures(page)


def test_an_entry_is_picked(open_page: OpenPage) -> None:
    page = open_page("catalogue")
    page.selectbox(key="control.catalogue_entry").set_value("rtx-3090").run()
    assert link_of(page) == {"catalogue_entry": "rtx-3090"}
    assert _figures(page) == browsing.figures("devices", "rtx-3090")
    page.selectbox(key="control.catalogue_entry").set_value(None).run()
    assert link_of(page) == {}
    assert _entry(page) == "a100-sxm4-80gb"


def test_numbered_entries_are_picked_by_what_they_are_about(open_page: OpenPage) -> None:
    page = open_page("catalogue", {"catalogue_part": "differences"})
    label = browsing.label("differences", "2")
    page.selectbox(key="control.catalogue_entry").set_value(label).run()
    assert link_of(page) == {"catalogue_part": "differences", "catalogue_entry": "2"}
    assert _entry(page) == label
    assert _figures(page)[0]["value"] == catalogue.differences()[2].subject


def test_words_are_looked_for(open_page: OpenPage) -> None:
    page = open_page("catalogue")
    page.text_input(key="control.catalogue_search").set_value("hopper hbm3").run()
    matches = browsing.matching("devices", "hopper hbm3")
    assert link_of(page) == {"catalogue_search": "hopper hbm3"}
    assert list(page.dataframe[0].value["device"]) == matches
    assert _entry(page) == matches[0]
    assert f"{len(matches)} of {len(browsing.names('devices'))} entries" in plain(page.caption[0].value)
    page.selectbox(key="control.catalogue_part").set_value("systems").run()
    assert link_of(page) == {"catalogue_part": "systems"}


def test_a_search_that_finds_nothing_says_so(open_page: OpenPage) -> None:
    page = open_page("catalogue", {"catalogue_search": "abacus", "catalogue_entry": "rtx-3090"})
    assert sentences(page) == ["catalogue_search='abacus': none of the devices has all of this; write fewer words"]
    assert not page.dataframe
    assert _entry(page) == "rtx-3090"


def test_an_entry_outside_the_search_stays(open_page: OpenPage) -> None:
    page = open_page("catalogue", {"catalogue_search": "hopper", "catalogue_entry": "rtx-3090"})
    assert _entry(page) == "rtx-3090"
    assert sentences(page) == []


@pytest.mark.parametrize(
    ("link", "sentence"),
    [
        ({"catalogue_entry": "rtx-309"}, "unknown entry of devices 'rtx-309'; did you mean rtx-3090"),
        ({"catalogue_part": "measurements", "catalogue_entry": "99999"}, "unknown entry of measurements '99999'"),
    ],
)
def test_an_unknown_entry_is_a_sentence(open_page: OpenPage, link: dict[str, str], sentence: str) -> None:
    page = open_page("catalogue", link)
    assert len(sentences(page)) == 1
    assert sentences(page)[0].startswith(sentence)
    assert page.dataframe


def test_a_wrong_part_falls_back(open_page: OpenPage) -> None:
    page = open_page("catalogue", {"catalogue_part": "device"})
    (said,) = (plain(each.value) for each in page.warning)
    assert said.startswith("The link says catalogue_part='device': did you mean devices")
    assert _entry(page) == "a100-sxm4-80gb"


def test_an_entry_is_used_in_plan(open_page: OpenPage) -> None:
    page = open_page("catalogue", {"tp": "8", "devices": "16", "catalogue_entry": "rtx-3090"})
    page.button(key="catalogue.use").click().run()
    assert page.session_state["capsim.wanted"][0] == "plan"
    assert link_of(page) == {"system": "rtx-3090", "catalogue_entry": "rtx-3090"}
    assert not open_page("catalogue", {"catalogue_part": "links"}).button


@pytest.mark.parametrize("part", ["devices", "systems", "links", "measurements"])
def test_quoted_figures_stand_beside_the_vendors(open_page: OpenPage, part: str) -> None:
    page = open_page("catalogue", {"catalogue_part": part})
    shown = [plain(subject) for subject in page.table[1].value["subject"]]
    assert shown == [figure.subject for figure in catalogue.differences()]


def test_everything_can_be_taken_elsewhere(open_page: OpenPage) -> None:
    page = open_page("catalogue", {"catalogue_part": "prices", "catalogue_entry": "aws-p4d.24xlarge"})
    page.session_state["share"] = True
    page.run()
    assert [each.value for each in page.code] == [
        browsing.as_python("prices", "aws-p4d.24xlarge"),
        "capsim catalogue prices aws-p4d.24xlarge",
    ]
    buttons: Any = page.get("download_button")
    assert [each.label for each in buttons] == ["YAML", "CSV", "JSON"]
