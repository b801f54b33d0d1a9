"""``capsim new``: what it writes is read, priced and never lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simulator.terminal.files.examples import WORDS
from tests.commands.conftest import Capsim, assert_one_sentence
from tests.rights import open_folder, without_rights

_BERT = ("estimate", "bert-large")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", WORDS)
def test_it_says_how_the_file_is_used_and_that_works(capsim: Capsim, kind: str) -> None:
    outcome = capsim("new", kind, "mine")
    assert (outcome.status, outcome.err) == (0, "")
    said = re.fullmatch(r"mine\.yaml: written; use it with capsim (.*)\n", outcome.out)
    assert said is not None
    used = capsim(*said[1].split(), "--json")
    assert (used.status, used.err) == (0, "")
    assert used.json
    assert [path.name for path in Path().iterdir()] == ["mine.yaml"]


def test_a_system_and_its_device_price_as_their_entries_do(capsim: Capsim) -> None:
    for kind, entry in (("system", "dgx-h100"), ("device", "rtx-3090")):
        capsim("new", kind, "mine", "--like", entry, "--force")
        # what published runs say of a device belongs to its name
        unfitted = (*_BERT, "--constants", "none", "--json", "--system")
        own, known = (capsim(*unfitted, system).json for system in ("mine.yaml", entry))
        assert own["system"] == "mine"
        assert own["step_time_s"] == pytest.approx(known["step_time_s"], rel=1e-12)


def test_a_model_is_counted_as_its_entry_is(capsim: Capsim) -> None:
    capsim("new", "model", "mine", "--like", "t5-base")
    own, known = (
        capsim("estimate", model, "--system", "dgx-a100-640gb", "--json").json for model in ("mine.yaml", "t5-base")
    )
    assert own["model"] == "mine"
    assert own["parameters"] == known["parameters"]


def test_a_stack_is_timed_as_its_entry_where_it_says_so(capsim: Capsim) -> None:
    capsim("new", "stack", "mine", "--like", "nvidia-bert")
    path = Path("mine.yaml")
    path.write_text(path.read_text().replace("#timed_as: nvidia-bert", "timed_as: nvidia-bert"))
    own, known = (
        capsim(*_BERT, "--system", "dgx-a100-640gb", "--stack", stack, "--json").json
        for stack in ("mine.yaml", "nvidia-bert")
    )
    assert own["stack"] == "mine"
    assert own["step_time_s"] == pytest.approx(known["step_time_s"], rel=1e-12)


def test_prices_are_what_a_run_costs(capsim: Capsim) -> None:
    capsim("new", "prices", "ours")
    path = Path("ours.yaml")
    path.write_text(re.sub(r"^  rate: .*$", "  rate: 2.50 USD/h", path.read_text(), flags=re.MULTILINE))
    device = re.search(r"^  device: (.*)$", path.read_text(), re.MULTILINE)
    assert device is not None
    run = capsim(*_BERT, "--system", device[1], "--price", "ours.yaml", "--json").json["run"]
    assert run["cost_usd"] == pytest.approx(run["device_hours"] * 2.5, rel=1e-9)


def test_a_scenario_with_all_that_it_may_say_is_priced(capsim: Capsim) -> None:
    capsim("new", "scenario", "mine")
    path = Path("mine.yaml")
    kept, sheets = [], ("plan", "workload", "reliability")
    fields = (*sheets, "price", "price_kind", "devices", "grid", "overhead", "constants")
    inside = False
    for line in path.read_text().splitlines():
        inside = line.startswith(tuple(f"#{name}:" for name in sheets)) or (inside and line.startswith("#  "))
        kept.append(line.replace("#", "", 1) if inside or line.startswith(tuple(f"#{n}:" for n in fields)) else line)
    path.write_text("\n".join(kept))
    answer = capsim("estimate", path, "--json").json
    assert answer["plan"]["optimizer"] == "lamb"
    assert answer["workload"]["effective_tokens"] == 254
    assert answer["run"]["cost_usd"] == pytest.approx(answer["run"]["device_hours"] * 1.79, rel=1e-9)


def test_runs_are_scored(capsim: Capsim) -> None:
    capsim("new", "runs", "mine", "-o", "runs.yaml")
    answer = capsim("validate", "runs.yaml", "--json").json
    assert "mine" in str(answer)
    assert "1 priced (100.0 %)" in capsim("validate", "runs.yaml").out


@pytest.mark.parametrize("kind", WORDS)
def test_the_catalogue_or_the_schema_shows_what_was_written(capsim: Capsim, kind: str) -> None:
    capsim("new", kind, "mine")
    part = {"device": "devices", "system": "systems", "model": "models", "stack": "stacks", "prices": "prices"}
    if kind in part:
        outcome = capsim("catalogue", part[kind], "mine.yaml")
        assert (outcome.status, outcome.err) == (0, "")
        assert "mine" in outcome.out


def test_a_file_that_exists_stays_unless_it_may_be_replaced(capsim: Capsim) -> None:
    Path("mine.yaml").write_text("precious")
    assert_one_sentence(capsim("new", "system", "mine"), "mine.yaml: exists already", "--force")
    assert Path("mine.yaml").read_text() == "precious"
    assert capsim("new", "system", "mine", "--force").status == 0
    assert "precious" not in Path("mine.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("cluster", "mine"), ["unknown kind of file 'cluster'"]),
        (("plan", "mine"), ["plan: is no file to begin with", "valid: device"]),
        (("system", "My Cluster"), ["name='My Cluster'", "lower-case"]),
        (("system", "mine", "--like", "dgx-h10"), ["unknown entry of system 'dgx-h10'", "dgx-h100"]),
        (("system", "mine", "-o", "none/mine.yaml"), ["none/mine.yaml: cannot be written", "folder that exists"]),
        (("system", "mine", "-o", "."), ["is a directory"]),
        (("system", "mine", "-o", "-"), ["-: is no file; name one"]),
        (("system",), ["name"]),
    ],
)
def test_what_cannot_be_written_is_refused(capsim: Capsim, arguments: tuple[str, ...], fragments: list[str]) -> None:
    assert_one_sentence(capsim("new", *arguments), *fragments)
    assert not list(Path().iterdir())


def test_a_folder_that_may_not_be_written_is_refused(capsim: Capsim) -> None:
    with open_folder() as folder, without_rights():
        assert_one_sentence(capsim("new", "system", "mine", "-o", folder / "mine.yaml"), "Permission denied")
        assert not list(folder.iterdir())
