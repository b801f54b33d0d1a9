"""Uploads: named safely, on disk only while they are read, and chosen by names that no link has."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import simulator
from dashboard.choices import uploaded
from dashboard.choices.scenario import arguments, field, fields, has_upload, offered
from dashboard.choices.state import from_query, opening, to_query
from dashboard.choices.uploaded import (
    ENDINGS,
    Upload,
    file_of,
    has,
    is_uploaded,
    keep,
    profile_of,
    stored,
    system_of,
    title_of,
)
from dashboard.content.exports import as_command, as_python, as_yaml, file_name
from hardware.errors import InputError
from simulator import MeasuredProfile
from tests.dashboard import records


def _of_processor() -> MeasuredProfile:
    with stored([Upload.of("core.jsonl", records.of_processor())]) as files:
        return simulator.calibrate(files, name="core.yaml")


@given(st.text(max_size=120))
def test_names_lead_nowhere(name: str) -> None:
    upload = Upload.of(name, b"")
    assert Path(upload.name).name == upload.name
    assert not upload.name.startswith(".")
    assert upload.name.isascii()
    assert 0 < len(upload.name) <= 90


@pytest.mark.parametrize(
    ("raw_name", "name"),
    [
        ("record.jsonl", "record.jsonl"),
        ("../../etc/passwd.yaml", "passwd.yaml"),
        ("C:\\mine\\My Card.CSV", "My-Card.csv"),
        (".csv.gz", "unnamed.csv.gz"),
        ("TABLE.CSV.GZ", "TABLE.csv.gz"),
        ("x" * 200 + ".jsonl", "x" * 74 + ".jsonl"),
        ("", "unnamed"),
    ],
)
def test_what_a_file_is_called(raw_name: str, name: str) -> None:
    assert Upload.of(raw_name, b"").name == name


def test_what_a_file_is() -> None:
    kinds = {ending: Upload.of(f"mine{ending}", b"").kind for ending in ENDINGS}
    assert kinds == ENDINGS
    with pytest.raises(InputError, match=r"mine\.exe: is none of the files that are read; upload one that ends in"):
        _ = Upload.of("mine.exe", b"").kind
    assert has([Upload.of("a.csv.gz", b"")], "record", "table")
    assert not has([Upload.of("a.csv.gz", b"")], "record", "profile")


def test_equal_files_are_equal() -> None:
    assert Upload.of("a.csv", b"1") == Upload.of("a.csv", b"1")
    assert hash(Upload.of("a.csv", b"1")) == hash(Upload.of("a.csv", b"1"))
    assert Upload.of("a.csv", b"1") != Upload.of("a.csv", b"2")
    assert Upload.of("a.csv", b"1") != Upload.of("b.csv", b"1")


def test_nothing_stays_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with stored([Upload.of("a.csv", b"1"), Upload.of("b.csv", b"2")]) as files:
        assert [file.read_bytes() for file in files] == [b"1", b"2"]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError) as caught, stored([Upload.of("a.jsonl", b"nonsense")]) as files:
        simulator.calibrate(files)
    assert str(caught.value) == "a.jsonl: is no record of capsim measure; its first line does not say so"
    assert list(tmp_path.iterdir()) == []


def test_files_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match=r"a\.csv: was uploaded twice"), stored([Upload.of("a.csv", b"1")] * 2):
        pass


def test_a_profile_is_there_while_somebody_holds_it() -> None:
    name, held = keep(simulator.load_profile("a100-pcie").model_copy(update={"id": "gone"}))
    assert is_uploaded(name)
    assert profile_of(name) is held
    again, same = keep(held.model_copy())
    assert (again, same) == (name, held)
    assert same is held
    del held, same
    gc.collect()
    with pytest.raises(InputError, match=r"profile='gone\.yaml': was uploaded and is not there any more") as caught:
        profile_of(name)
    assert caught.value.fields == ("profile",)
    assert profile_of("a100-sxm") == "a100-sxm"


def test_names_of_uploads_and_of_the_catalogue_differ() -> None:
    known = {*field("profile").options, *field("system").options}
    assert not any(uploaded.MARK in name for name in known)
    assert (file_of("mine@12"), title_of("mine@12")) == ("mine.yaml", "mine (uploaded)")
    assert (file_of("a100-sxm"), title_of("a100-sxm")) == ("a100-sxm", "a100-sxm")


def test_links_know_nothing_of_uploads() -> None:
    name, held = keep(_of_processor())
    choices = opening(fields()).change({"profile": name, "system": system_of(name, held), "tp": 2})
    assert has_upload(choices)
    assert to_query(choices, fields()) == {"tp": "2"}
    restored_choices, problems = from_query({"profile": name}, fields())
    assert restored_choices["profile"] is None
    assert problems
    assert not has_upload(restored_choices)


def test_a_scenario_runs_on_a_device_that_only_the_profile_knows() -> None:
    name, held = keep(_of_processor())
    usual = opening(fields()).change({"model": "bert-base"})
    choices = usual.change({"profile": name, "system": system_of(name, held)})
    estimate = simulator.estimate(**arguments(choices))
    assert estimate.system == "some-processor-1-thread"
    assert estimate.basis is not None
    assert estimate.basis["fitted"] > 0.5
    assert as_python(choices).splitlines()[2] == 'answer = simulator.estimate("bert-base", None, profile="core.yaml")'
    assert as_command(choices) == "capsim estimate bert-base --profile core.yaml"
    assert file_name(choices, ".csv") == "capsim-bert-base-some-processor-1-thread.csv"
    assert "profile: core.yaml" in as_yaml(choices, None)  # type: ignore[arg-type]
    assert "system" not in as_yaml(choices, None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="system is missing"):
        simulator.estimate(**arguments(choices.change({"profile": None})))


def test_profiles_are_offered_where_they_suit() -> None:
    name, held = keep(_of_processor())
    choices = opening(fields())
    shipped = offered(field("profile"), choices, [name])
    assert shipped.options == ("a100-sxm",)
    assert offered(field("profile"), choices.change({"system": "rtx-3090"})).example == "none for this device"
    assert offered(field("profile"), choices.change({"system": "tpu-v4"})).options == ()
    own = choices.change({"system": system_of(name, held)})
    mine = offered(field("profile"), own, [name])
    assert (mine.options, mine.labels) == ((name,), ("core (uploaded)",))
    assert own["system"] in offered(field("system"), own).options
    assert offered(field("tp"), own) is field("tp")
    unsuited = choices.change({"profile": "h100-sxm"})
    assert offered(field("profile"), unsuited).options == ("a100-sxm", "h100-sxm")
