"""The Calibrate page: every control, every upload, every error, without a browser."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from unittest import mock

import pytest
from streamlit.testing.v1 import AppTest

import simulator
from dashboard.choices.scenario import field
from dashboard.choices.state import opening
from dashboard.choices.uploaded import NOTE
from dashboard.content import calibrated, calibrating
from dashboard.content.calibrating import FIELDS
from hardware import units
from tests.dashboard import records
from tests.dashboard.conftest import OpenPage, link_of, plain, sentences

_SAMPLES = {
    "calibrate_profile": "l40s",
    "calibrate_phase": "collective",
    "calibrate_priced": "form_s",
    "calibrate_errors": "histogram",
}
"""Of the controls that are there without files."""
_MOST = 0.3
"""Time of the processor on the server for a change [s]."""


def _headlines(page: AppTest) -> dict[str, tuple[str, str]]:
    return {metric.label: (metric.value, metric.delta) for metric in page.metric}


def _upload(page: AppTest, files: Mapping[str, bytes]) -> AppTest:
    """Choose files in the uploader."""
    page.file_uploader(key="calibrate.files").set_value([(name, content, "") for name, content in files.items()])
    page.run(timeout=60)
    assert not page.exception, page.exception
    return page


def _control(page: AppTest, name: str) -> Any:
    return page.selectbox(key=f"control.{name}")


def _words(page: AppTest) -> list[str]:
    return [plain(each.value) for each in page.markdown]


def test_it_opens_on_an_answer(open_page: OpenPage) -> None:
    page = open_page("calibrate")
    profile = simulator.load_profile("a100-sxm")
    gemm = next(score for score in profile.held_out if score.phase == "gemm")
    assert [plain(head.value) for head in page.subheader] == [profile.title]
    shown = _headlines(page)
    assert list(shown) == ["Matrix products", "Fused attention", "Memory-bound kernels", "Collectives"]
    assert shown["Matrix products"] == (
        units.percent(gemm.with_residuals or 0.0),
        f"catalogue {units.percent(gemm.before or 0.0)}",
    )
    assert all(metric.help for metric in page.metric)
    assert len(page.get("plotly_chart")) == 2
    assert link_of(page) == {}
    assert sentences(page) == []
    assert len(page.dataframe[0].value) == len(profile.held_out)
    assert len(page.dataframe[1].value) == len([each for each in simulator.profile_constants(profile) if each.fitted])
    assert any("The profile was fitted to these rows" in words for words in _words(page))
    assert all(why in [plain(each.value) for each in page.caption] for why in profile.borrowed.values())


def test_it_opens_on_a_profile_for_the_system_at_hand(open_page: OpenPage) -> None:
    page = open_page("calibrate", {"system": "dgx-h100"})
    assert [plain(head.value) for head in page.subheader] == [simulator.load_profile("h100-sxm").title]
    assert _control(page, "calibrate_profile").placeholder == "h100-sxm"
    assert _control(page, "calibrate_profile").value is None


@pytest.mark.parametrize("name", _SAMPLES)
def test_every_control_changes_the_page_and_the_link(open_page: OpenPage, name: str) -> None:
    page = open_page("calibrate")
    before = [chart.proto.spec for chart in page.get("plotly_chart")]
    control = _control(page, name)
    assert control.help
    control.set_value(_SAMPLES[name]).run()
    assert sentences(page) == []
    assert link_of(page) == {name: _SAMPLES[name]}
    after = [chart.proto.spec for chart in page.get("plotly_chart")]
    assert after != before
    again = open_page("calibrate", link_of(page))
    assert [chart.proto.spec for chart in again.get("plotly_chart")] == after
    assert link_of(again) == link_of(page)
    _control(again, name).set_value(opening(FIELDS)[name]).run()
    assert link_of(again) == {}


def test_what_is_open_shows_what_was_chosen(open_page: OpenPage) -> None:
    page = open_page("calibrate")
    assert _control(page, "calibrate_phase").placeholder == "matrix products"
    assert "training steps" in _control(page, "calibrate_phase").options


def test_a_kind_of_work_that_was_not_measured(open_page: OpenPage) -> None:
    page = open_page("calibrate", {"calibrate_phase": "step"})
    assert page.get("plotly_chart") == []
    assert plain(page.info[0].value).startswith("No training steps to compare")
    assert sentences(page) == []


def test_a_record_is_fitted(open_page: OpenPage) -> None:
    page = _upload(open_page("calibrate"), {"my card.jsonl": records.of_graphics()})
    assert sentences(page) == []
    assert list(_headlines(page)) == [
        "Matrix products",
        "Fused attention",
        "Memory-bound kernels",
        "Collectives",
        "Training steps",
    ]
    assert [plain(head.value) for head in page.subheader] == ["GeForce RTX 3090, measured"]
    assert link_of(page) == {}
    assert any(NOTE in each.value for each in page.caption)
    _control(page, "calibrate_phase").set_value("step").run()
    assert link_of(page) == {"calibrate_phase": "step"}
    assert "12 rows: the median error is" in "\n".join(_words(page))
    assert not [box for box in page.selectbox if box.key == "control.calibrate_profile"]


def test_a_table_needs_its_device(open_page: OpenPage) -> None:
    page = _upload(open_page("calibrate"), {"card.csv": records.table_of_one()})
    assert sentences(page) == ["card.csv: does not say which device it is of; choose it"]
    assert page.metric == []
    _control(page, "calibrate_device").set_value("h100-sxm5-80gb").run(timeout=60)
    assert sentences(page) == []
    assert list(_headlines(page)) == ["Matrix products"]
    assert link_of(page) == {"calibrate_device": "h100-sxm5-80gb"}
    assert _control(page, "calibrate_rows").options == ["card"]


def test_a_table_of_a_faster_device_has_nothing_to_compare(open_page: OpenPage) -> None:
    page = _upload(open_page("calibrate"), {"card.csv": records.table_of_one()})
    _control(page, "calibrate_device").set_value("rtx-3090").run(timeout=60)
    assert sentences(page) == []
    told = [plain(each.value) for each in page.info]
    assert told[0].startswith("Too little was measured")
    assert told[1] == "No matrix products to compare: none that is priced is among card.csv."
    assert page.dataframe[-1].value["why"].tolist() == ["matrix products that beat the data sheet"]


def test_a_table_of_several_devices_needs_its_name_for_it(open_page: OpenPage) -> None:
    page = _upload(open_page("calibrate", {"calibrate_device": "gb200"}), {"t.csv.gz": records.table()})
    assert link_of(page) == {}, "what was chosen for other files is opened"
    _control(page, "calibrate_device").set_value("gb200").run()
    assert sentences(page) == ["t.csv.gz: has rows of 2 devices; choose one of them"]
    _control(page, "calibrate_rows").set_value("b200").run(timeout=60)
    assert sentences(page) == []
    assert link_of(page) == {"calibrate_device": "gb200", "calibrate_rows": "b200"}
    assert page.metric[0].label == "Matrix products"


def test_a_profile_of_ones_own(open_page: OpenPage) -> None:
    page = _upload(open_page("calibrate"), {"mine.yaml": records.profile()})
    assert sentences(page) == []
    assert any("The profile keeps these very shapes" in words for words in _words(page))
    assert [box.key for box in page.selectbox] == [
        "control.calibrate_phase",
        "control.calibrate_priced",
        "control.calibrate_errors",
    ]


def test_files_are_checked_against_a_profile(open_page: OpenPage) -> None:
    page = _upload(open_page("calibrate"), {"t.csv.gz": records.table()})
    _control(page, "calibrate_do").set_value("check").run(timeout=60)
    assert sentences(page) == ["t.csv.gz: has rows of 2 devices; choose one of them"]
    _control(page, "calibrate_profile").set_value("a100-pcie").run(timeout=60)
    assert sentences(page) == []
    assert link_of(page) == {"calibrate_do": "check", "calibrate_profile": "a100-pcie"}
    assert any("was not fitted to these rows" in words for words in _words(page))


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"a.jsonl": b"nonsense"}, "a.jsonl: is no record of capsim measure; its first line does not say so"),
        ({"a.jsonl": b""}, "a.jsonl: is empty; a record begins with a line that says what was measured on"),
        ({"a.yaml": b"!!python/object:os.system x"}, "a.yaml:1: the YAML tag"),
        ({"a.yaml": b"[" * 100}, "a.yaml"),
        ({"a.csv": b"a,b\n1,2\n"}, "a.csv: column device is missing; a table of"),
        ({"a.csv.gz": b"nonsense"}, "a.csv.gz: cannot be read (Not a gzipped file"),
        ({"a.yaml": b"x: 1", "b.yaml": b"x: 1"}, "b.yaml: is a second profile beside a.yaml; remove one of them"),
        ({"$x$ [a](b).jsonl": b"{}"}, "-x-a-b-.jsonl: is no record"),
    ],
)
def test_a_wrong_file_is_one_sentence(open_page: OpenPage, files: dict[str, bytes], sentence: str) -> None:
    page = _upload(open_page("calibrate"), files)
    (said,) = sentences(page)
    assert said.lstrip("-").startswith(sentence.lstrip("-"))
    assert "/tmp" not in said
    assert page.metric == []
    _upload(page, {})
    assert sentences(page) == []
    assert len(page.metric) == 4


def test_files_stay_when_another_page_was_visited(open_page: OpenPage) -> None:
    """Streamlit then empties the uploader."""
    page = _upload(open_page("calibrate"), {"core.jsonl": records.of_processor()})
    title = page.subheader[0].value
    later = AppTest.from_function(_calibrate, default_timeout=60)
    later.session_state["capsim.uploads"] = page.session_state["capsim.uploads"]
    later.run()
    assert later.subheader[0].value == title
    assert any("core.jsonl (" in words for words in _words(later))
    later.button(key="calibrate.remove").click().run()
    assert [plain(head.value) for head in later.subheader] == [simulator.load_profile("a100-sxm").title]


def _calibrate() -> None:
    from dashboard.shell import show

    show("calibrate")


def test_every_kind_of_work_that_a_profile_tells_of_has_a_headline(open_page: OpenPage) -> None:
    """A file may hold scores that no fit of ours makes."""
    known = simulator.load_profile("t4")
    score = known.held_out[0].model_copy(update={"phase": "optimizer", "what": "all"})
    text = simulator.profile_text(known.model_copy(update={"held_out": (score,)}))
    page = _upload(open_page("calibrate"), {"mine.yaml": text.encode()})
    assert sentences(page) == []
    assert [each.label for each in page.metric] == ["Optimizer"]


def test_a_profile_is_used_in_plan(open_page: OpenPage) -> None:
    page = open_page("calibrate")
    page.button(key="calibrate.use").click().run()
    assert page.session_state["capsim.wanted"][0] == "plan"
    assert link_of(page) == {"profile": "a100-sxm"}
    plan = open_page("plan", link_of(page))
    wanted = simulator.estimate("bert-large", "dgx-a100-640gb", profile="a100-sxm")
    assert plan.metric[0].value == units.duration(wanted.step_time_s)
    assert "##### Basis of the estimate" in [each.value for each in plan.markdown]
    assert not any(NOTE in each.value for each in plan.caption)
    assert "##### Basis of the estimate" not in [each.value for each in open_page("plan").markdown]


def test_an_uploaded_profile_is_used_in_plan_and_stays_out_of_links(open_page: OpenPage) -> None:
    page = _upload(open_page("calibrate"), {"core.jsonl": records.of_processor()})
    page.button(key="calibrate.use").click().run()
    assert page.session_state["capsim.wanted"][0] == "plan"
    assert link_of(page) == {}
    plan = AppTest.from_function(_plan, default_timeout=60)
    for name in ("capsim.choices", "capsim.held"):
        plan.session_state[name] = page.session_state[name]
    plan.session_state["section.plan"] = plan.session_state["share"] = True
    plan.run()
    assert sentences(plan) == []
    assert [plain(head.value) for head in plan.subheader] == ["bert-large on some-processor-1-thread, 1 device"]
    assert link_of(plan) == {}
    assert plan.sidebar.selectbox(key="control.profile").options == ["core (uploaded)"]
    assert sum(NOTE in each.value for each in plan.caption) == 3, "beside system and profile, and below the bar"
    assert any("leaves out what was uploaded" in each.value for each in plan.caption)
    assert 'profile="core.yaml"' in plan.code[0].value
    plan.sidebar.selectbox(key="control.system").set_value("rtx-3090").run()
    assert plan.sidebar.selectbox(key="control.profile").value is not None
    assert "was measured on some-processor-1-thread" in sentences(plan)[0]
    plan.sidebar.selectbox(key="control.profile").set_value(None).run()
    assert sentences(plan) == []
    assert link_of(plan) == {"system": "rtx-3090"}


def _plan() -> None:
    from dashboard.shell import show

    show("plan")


def test_going_back_keeps_what_was_uploaded(open_page: OpenPage) -> None:
    page = _upload(open_page("calibrate"), {"core.jsonl": records.of_processor()})
    page.button(key="calibrate.use").click().run()
    page.query_params["tp"] = "2"
    page.run()
    choices = page.session_state["capsim.choices"]
    assert choices["tp"] == 2
    assert str(choices["profile"]).startswith("core@")


def test_a_link_to_an_upload_is_told(open_page: OpenPage) -> None:
    page = open_page("plan", {"profile": "core@123456789abc"})
    (warning,) = page.warning
    assert plain(warning.value).startswith("The link says profile='core@123456789abc': ")
    assert link_of(page) == {}
    assert len(page.metric) == 6


def test_more_is_shown_when_it_is_opened(open_page: OpenPage) -> None:
    page = open_page("calibrate")
    assert page.code == []
    page.session_state["share"] = True
    page.run()
    python, command = page.code
    assert 'simulator.load_profile(name="a100-sxm")' in python.value
    assert command.value == "capsim calibrate --profile a100-sxm"
    assert [button.label for button in page.download_button] == [
        "Download the profile",
        "YAML of the profile",
        "CSV of the rows",
        "JSON of the errors",
    ]


def test_work_can_be_stopped_and_begun_again(open_page: OpenPage) -> None:
    page = open_page("calibrate")
    asked = calibrating.question(opening((*FIELDS, *_scenario())), ())
    page.session_state["capsim.stopped"] = asked
    with mock.patch.object(calibrating, "is_known", return_value=False):
        page.run()
        assert page.metric == []
        assert [button.label for button in page.button] == ["Go on"]
    page.button(key="go.on").click().run()
    assert len(page.metric) == 4


def _scenario() -> tuple[Any, ...]:
    return tuple(field(name) for name in ("model", "system", "best_plan"))


@pytest.mark.parametrize("failure", [RuntimeError("$x$"), KeyError("a"), MemoryError()])
def test_no_failure_is_a_traceback(open_page: OpenPage, failure: Exception) -> None:
    with mock.patch.object(calibrated, "headlines", side_effect=failure):
        page = open_page("calibrate")
    (sentence,) = sentences(page)
    assert sentence.startswith(f"This part of the page failed with {type(failure).__name__}")


def test_a_change_is_answered_at_once(open_page: OpenPage) -> None:
    page = open_page("calibrate")
    taken = []
    for phase in ("attention", "collective", "stream", "gemm"):
        control = _control(page, "calibrate_phase").set_value(phase)
        start = time.process_time()
        control.run()
        taken.append(time.process_time() - start)
    assert sorted(taken)[1] < _MOST


@pytest.mark.parametrize("name", ["plan", "search", "scale", "catalogue"])
def test_a_device_that_only_a_profile_knows_is_known_to_every_page(open_page: OpenPage, name: str) -> None:
    device, (profile, *_) = next(iter(simulator.profile_hosts().items()))
    link = {"model": "bert-base", "system": device, "profile": profile}
    page = open_page(name, link)
    assert sentences(page) == []
    assert link_of(page) == link
