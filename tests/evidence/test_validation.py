"""The comparison with published runs: what is priced and scored, and that nothing is judged by its own fit."""

from __future__ import annotations

import errno
import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hardware.errors import InputError
from simulator.corpus import runs
from simulator.corpus.mapping import MappedRun
from simulator.corpus.runs import Run
from simulator.evidence import errors, held_out, scores
from simulator.evidence.batch import RunBatch, Values, mapped, shifts_of
from simulator.evidence.scores import Outcome
from simulator.evidence.traits import traits_of
from simulator.evidence.validation import Validation, validate
from simulator.pricing.constants import KINDS, UNFITTED, Constants, names_of, shipped
from simulator.terminal.evidence import page
from tests.evidence.examples import fitted_to, made, timed, written

_KEYS = {
    "rows",
    "priced",
    "refused",
    "median_abs_error",
    "mean_abs_error",
    "p90_abs_error",
    "bias",
    "macro_median_abs_error",
    "interval_coverage_90",
    "seconds",
    "by_source",
    "by_device",
    "by_task",
    "by_stack",
    "memory",
    "runs",
}
_RUN_KEYS = {"id", "measured_s", "predicted_s", "low_s", "high_s", "source", "device", "stack"}


@pytest.fixture(scope="module")
def document(validation: Validation) -> dict[str, Any]:
    """The comparison as another program reads it."""
    answer: dict[str, Any] = json.loads(json.dumps(validation.to_dict(), allow_nan=False))
    return answer


# Shipped runs


def test_nearly_all_timed_training_runs_are_priced(document: dict[str, Any]) -> None:
    assert document["rows"] == len(runs.shipped())
    assert document["timed_training_rows"] == len(timed())
    assert document["priced"] >= 0.95 * document["timed_training_rows"]


def test_every_row_is_priced_or_refused_with_a_reason(document: dict[str, Any]) -> None:
    assert document["priced"] + sum(document["refused"].values()) == document["rows"]
    assert all(reason and number > 0 for reason, number in document["refused"].items())


def test_the_document_has_what_readers_ask_for(document: dict[str, Any]) -> None:
    assert set(document) >= _KEYS
    assert document["memory"]
    assert document["unknown_keys"] == {}
    assert len(document["runs"]) == document["priced"]
    for row in document["runs"]:
        assert set(row) >= _RUN_KEYS
        assert 0.0 < row["low_s"] <= row["predicted_s"] <= row["high_s"]
        assert 0.0 < row["known_low_s"] <= row["known_stack_s"] <= row["known_high_s"]
        assert row["measured_s"] > 0.0


def test_a_comparison_takes_seconds(document: dict[str, Any]) -> None:
    assert 0.0 < document["seconds"] < 60.0


def test_scores_are_those_of_the_rows(document: dict[str, Any]) -> None:
    rows = [row for row in document["runs"] if not row["suspect"]]
    errors = np.array([row["predicted_s"] / row["measured_s"] - 1.0 for row in rows])
    inside = [row["low_s"] <= row["measured_s"] <= row["high_s"] for row in rows]
    assert document["median_abs_error"] == pytest.approx(np.median(np.abs(errors)))
    assert document["mean_abs_error"] == pytest.approx(np.mean(np.abs(errors)))
    assert document["p90_abs_error"] == pytest.approx(np.quantile(np.abs(errors), 0.9))
    assert document["bias"] == pytest.approx(np.median(errors))
    assert document["interval_coverage_90"] == pytest.approx(np.mean(inside))
    medians = [score["median_abs_error"] for score in document["by_source"].values()]
    assert document["macro_median_abs_error"] == pytest.approx(np.median(medians))


@pytest.mark.parametrize("trait", ["source", "device", "task", "stack"])
def test_groups_hold_every_row_once(document: dict[str, Any], trait: str) -> None:
    rows = [row for row in document["runs"] if not row["suspect"]]
    groups = document[f"by_{trait}"]
    assert set(groups) == {row[trait] for row in rows}
    assert sum(group["rows"] for group in groups.values()) == len(rows)
    for name, group in groups.items():
        errors = [abs(row["predicted_s"] / row["measured_s"] - 1.0) for row in rows if row[trait] == name]
        assert group["median_abs_error"] == pytest.approx(np.median(errors))


def test_a_fit_is_worth_it_and_a_known_stack_is_better_known(document: dict[str, Any]) -> None:
    known, before = document["known_stack"], document["unfitted"]
    assert known["median_abs_error"] < document["median_abs_error"] < before["median_abs_error"]
    assert document["median_abs_error"] < 0.25


def test_suspect_runs_are_apart(validation: Validation, document: dict[str, Any]) -> None:
    suspect = {run.id for run in runs.shipped() if run.suspect is not None}
    assert {each.id for each in validation.suspect} <= suspect
    assert not suspect & {each.id for each in validation.outcomes}
    assert document["suspect"]["rows"] == len(validation.suspect) > 0
    assert all(row["suspect"] is (row["id"] in suspect) for row in document["runs"])


# No run is judged by its own fit


def _times(cases: Sequence[MappedRun], of: Callable[[Run], Constants]) -> Values:
    """Step times, each case by the constants of its run."""
    shifts = [of(case.run).of(case.stack, case.system, case.plan.precision or "bf16") for case in cases]
    return RunBatch(cases).price(type(shifts[0]).stack(shifts)).time


@pytest.fixture(scope="module")
def counted() -> list[MappedRun]:
    """The runs that count."""
    return list(mapped(run for run in timed() if run.suspect is None).cases)


@pytest.fixture(scope="module")
def sample(counted: list[MappedRun]) -> list[MappedRun]:
    """One in twenty of them."""
    return counted[3::20]


def _predicted(validation: Validation, cases: list[MappedRun], name: str) -> list[float]:
    rows = {each.id: each for each in validation.outcomes}
    return [getattr(rows[case.run.id], name) for case in cases]


def test_a_run_is_priced_without_its_source(validation: Validation, sample: list[MappedRun]) -> None:
    stored = held_out.shipped()
    expected = _times(sample, lambda run: stored.by_source[run.collection])
    assert _predicted(validation, sample, "predicted_s") == pytest.approx(expected, rel=1e-9)


def test_a_known_stack_is_priced_without_its_configuration(validation: Validation, sample: list[MappedRun]) -> None:
    stored = held_out.shipped()
    expected = _times(sample, lambda run: stored.by_fold[held_out.fold_of(run)])
    assert _predicted(validation, sample, "known_stack_s") == pytest.approx(expected, rel=1e-9)
    assert _predicted(validation, sample, "unfitted_s") == pytest.approx(_times(sample, lambda _: UNFITTED), rel=1e-9)


def test_what_is_saved_is_what_was_read(tmp_path: Path) -> None:
    held_out.save(held_out.shipped(), tmp_path / "held_out.json.gz")
    assert (tmp_path / "held_out.json.gz").read_bytes() == errors.SHIPPED.read_bytes()


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "held_out.json.gz"
    path.write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match=r"held_out.json.gz: cannot be written \(No space left on device\)"):
        held_out.save(held_out.shipped(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_run_is_priced_by_the_shipped_constants(validation: Validation, sample: list[MappedRun]) -> None:
    fitted = RunBatch(sample).price(shifts_of(sample, shipped())).time
    for name in ("predicted_s", "known_stack_s"):
        same = np.isclose(_predicted(validation, sample, name), fitted, rtol=1e-9)
        assert np.mean(same) < 0.02


def test_constants_of_cross_validation_differ_from_the_shipped() -> None:
    stored, everywhere = held_out.shipped(), dict(shipped().items())
    every = [*stored.by_source.values(), *stored.by_fold]
    assert len(stored.by_fold) == held_out.FOLDS
    assert set(stored.by_source) == {run.collection for run in runs.shipped() if run.id in stored.ids}
    for constants in every:
        assert dict(constants.items()) != everywhere
    assert len({json.dumps(constants.shifts, sort_keys=True) for constants in every}) == len(every)


def _sources_of_names(cases: list[MappedRun]) -> dict[tuple[str, str, str], set[str]]:
    """Every constant, and the sources whose runs feel it."""
    sources: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for case in cases:
        names = names_of(case.stack, case.system, case.plan.precision or "bf16")
        for kind, about in KINDS.items():
            for level in about.levels:
                sources[kind, level, names[level]].add(case.run.collection)
    return sources


def test_what_only_one_source_tells_is_unknown_without_it(counted: list[MappedRun]) -> None:
    stored, alone = held_out.shipped(), 0
    without = {source: dict(constants.items()) for source, constants in stored.by_source.items()}
    told = set()
    for name, sources in _sources_of_names(counted).items():
        if len(sources) == 1:
            (source,) = sources
            alone += 1
            told |= {(source, name)} if without[source].get(name, 0.0) != 0.0 else set()
    assert alone > 50
    assert told == set()


def test_intervals_of_a_run_rest_on_other_sources(validation: Validation, sample: list[MappedRun]) -> None:
    errors = held_out.shipped().errors["new source"]
    rows = {each.id: each for each in validation.outcomes}
    for case in sample[::10]:
        interval = errors.around(traits_of(case), among=errors.sources != case.run.collection)
        row = rows[case.run.id]
        assert row.low_s == pytest.approx(row.predicted_s * interval.low, rel=1e-9)
        assert row.high_s == pytest.approx(row.predicted_s * interval.high, rel=1e-9)


def test_stored_runs_are_the_shipped_ones_that_count(counted: list[MappedRun]) -> None:
    assert held_out.shipped().ids == {case.run.id for case in counted}


# Runs of a user


def _file(path: Path, contents: Sequence[Run], **changes: Any) -> Path:
    """Runs in the published schema."""
    rows = [written(run, **changes) for run in contents]
    path.write_text(yaml.safe_dump(rows, allow_unicode=True), encoding="utf-8")
    return path


def _renamed(originals: Sequence[Run]) -> list[Run]:
    return [run.model_copy(update={"id": f"mine-{run.id}"}) for run in originals]


def _predictions(report: Validation) -> dict[str, float]:
    return {each.id: each.predicted_s for each in report.outcomes}


def test_runs_of_a_file_are_priced_by_the_shipped_constants(tmp_path: Path) -> None:
    own_runs = _renamed(fitted_to("bigscience", 4) + fitted_to("maxtext_tpu", 3))
    validation = validate(runs.load([_file(tmp_path / "mine.yaml", own_runs)]))
    cases = mapped(own_runs).cases
    times = RunBatch(cases).price(shifts_of(cases, shipped())).time
    assert [each.predicted_s for each in validation.outcomes] == pytest.approx(times, rel=1e-9)
    assert [each.known_stack_s for each in validation.outcomes] == pytest.approx(times, rel=1e-9)
    assert {each.source for each in validation.outcomes} == {"mine"}
    assert validation.rows == len(own_runs)


def test_runs_of_a_file_are_priced_by_other_constants(tmp_path: Path) -> None:
    own_runs = _renamed(fitted_to("bigscience", 3))
    file, cases = _file(tmp_path / "mine.yaml", own_runs), mapped(own_runs).cases
    validation = validate(runs.load([file]), UNFITTED)
    assert [each.predicted_s for each in validation.outcomes] == pytest.approx(
        [each.unfitted_s for each in validation.outcomes]
    )
    slower = Constants({"products": {"device": {case.system.device.id: -0.5 for case in cases}}})
    later = validate(runs.load([file]), slower)
    assert all(after.predicted_s > before.predicted_s for before, after in zip(*_pair(validation, later), strict=True))


def _pair(left: Validation, right: Validation) -> tuple[tuple[Outcome, ...], tuple[Outcome, ...]]:
    assert [each.id for each in left.outcomes] == [each.id for each in right.outcomes]
    return left.outcomes, right.outcomes


@pytest.mark.parametrize("name", ["bigscience", "copied-under-another-name"])
def test_shipped_runs_in_a_file_are_not_judged_by_their_own_fit(
    tmp_path: Path, validation: Validation, name: str
) -> None:
    shipped_runs = fitted_to("bigscience", 4)
    report = validate(runs.load([_file(tmp_path / f"{name}.yaml", shipped_runs)]))
    known = {each.id: each for each in validation.outcomes}
    assert len(report.outcomes) == len(mapped(shipped_runs).cases)
    for each in report.outcomes:
        assert each.predicted_s == pytest.approx(known[each.id].predicted_s, rel=1e-9)
        assert each.known_stack_s == pytest.approx(known[each.id].known_stack_s, rel=1e-9)
        assert (each.low_s, each.high_s) == pytest.approx((known[each.id].low_s, known[each.id].high_s), rel=1e-9)


def test_unknown_keys_are_ignored_and_told(tmp_path: Path) -> None:
    own_runs = _renamed(fitted_to("bigscience", 2))
    plain = validate(runs.load([_file(tmp_path / "mine.yaml", own_runs)]))
    rows = [written(run, weather="rain", seen_by=["me"]) for run in own_runs]
    rows[0]["plan"]["colour"] = {"of": "bikeshed"}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(rows))
    validation = validate(runs.load([tmp_path / "more.yaml"]))
    assert validation.unknown_keys == plain.unknown_keys | {"weather": 2, "seen_by": 2, "plan.colour": 1}
    assert validation.to_dict()["unknown_keys"] == validation.unknown_keys
    assert _predictions(validation) == _predictions(plain)


def test_a_folder_is_all_of_its_files(tmp_path: Path) -> None:
    first, second = fitted_to("bigscience", 2), fitted_to("maxtext_tpu", 2)
    _file(tmp_path / "one.yaml", _renamed(first))
    _file(tmp_path / "two.yml", _renamed(second))
    (tmp_path / "notes.txt").write_text("- no: runs")
    validation = validate(runs.load([tmp_path]))
    assert validation.rows == len(first) + len(second)
    assert set(validation.to_dict()["by_source"]) == {"one", "two"}
    apart = [validate(runs.load([tmp_path / name])) for name in ("one.yaml", "two.yml")]
    assert _predictions(validation) == pytest.approx(_predictions(apart[0]) | _predictions(apart[1]), rel=1e-12)


def test_runs_without_a_price_are_counted() -> None:
    unpriced_runs = [made(task="forward"), made(measured__step_time_s=None), made(plan__tp=7), made(model__layers=None)]
    validation = validate(run.model_copy(update={"id": f"run {row}"}) for row, run in enumerate(unpriced_runs))
    document = json.loads(json.dumps(validation.to_dict(), allow_nan=False))
    assert (document["rows"], document["priced"], document["runs"]) == (4, 0, [])
    assert sum(document["refused"].values()) == 4
    assert document["median_abs_error"] is None
    assert document["suspect"] == document["known_stack"] == {}


def test_of_no_runs_nothing_is_said() -> None:
    document = validate([]).to_dict()
    assert (document["rows"], document["priced"], document["refused"]) == (0, 0, {})
    assert set(document) >= _KEYS
    assert "0 runs" in page.page(validate([]))


@pytest.mark.parametrize("seconds", [5e-324, 1e-300, 1e-6, 1e6, 1e300, 1.7e308])
def test_absurd_times_are_refused_or_an_answer(tmp_path: Path, seconds: float) -> None:
    file = _file(tmp_path / "mine.yaml", [made()], measured={"step_time_s": seconds})
    try:
        loaded_runs = runs.load([file])
    except InputError as error:
        assert "step_time_s" in str(error)  # noqa: PT017 - either will do
        return
    validation = validate(loaded_runs)
    json.dumps(validation.to_dict(), allow_nan=False)
    assert "<table>" in page.page(validation)


# The page


def test_the_page_has_every_run_and_refers_to_nothing(validation: Validation) -> None:
    text = page.page(validation)
    listed = text[text.index("<h2>Runs</h2>") :]
    cells = set(re.findall(r"<tr><td>([^<]*)</td>", listed))
    assert cells == {escape(each.id) for each in (*validation.outcomes, *validation.suspect)}
    for pattern in (
        r"\b(src|href|srcset|action|poster|data)\s*=",
        r"url\(",
        r"@import",
        r"<(script|link|iframe|img)\b",
    ):
        assert not re.search(pattern, text, re.IGNORECASE), pattern
    assert "http" not in re.sub(r"<td>[^<]*</td>|<title>[^<]*</title>", "", text)
    assert text.count("<circle") == len(validation.outcomes)
    assert len(text) < 5_000_000


def test_the_page_escapes_what_runs_are_called() -> None:
    name = "<script>alert('1')</script> & \"x\""
    hostile = made().model_copy(update={"id": name, "collection": name, "task": f"pretrain {name}"})
    text = page.page(validate([hostile]))
    assert name not in text
    assert "<script" not in text
    assert escape(name) in text


def test_the_page_is_written_as_utf_8(tmp_path: Path) -> None:
    validation = validate([made().model_copy(update={"id": "größe-測試"})])
    page.write(validation, str(tmp_path / "page.html"))
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page.page(validation)
    assert "größe-測試" in page.page(validation)


def test_a_page_marks_runs_outside_their_interval(validation: Validation) -> None:
    inside = next(each for each in validation.outcomes if each.covered)
    outside = replace(inside, measured_s=100.0 * inside.high_s)
    for each, marked in ((inside, False), (outside, True)):
        assert ("class=miss" in page.page(replace(validation, outcomes=(each,), suspect=()))) is marked


# Whoever waits


def test_it_says_how_far_it_is() -> None:
    shipped_runs = runs.shipped()[:60]
    told: list[tuple[str, int, int]] = []
    validation = validate(shipped_runs, progress=lambda *words: told.append(words))
    assert list(dict.fromkeys(what for what, _, _ in told)) == [
        "runs read",
        "intervals found, new source",
        "intervals found, known stack",
    ]
    read = [(done, of) for what, done, of in told if what == "runs read"]
    assert read == [(number, validation.timed) for number in range(validation.timed)]
    assert validate(shipped_runs).outcomes == validation.outcomes


def test_it_can_be_ended() -> None:
    def end(what: str, done: int, of: int) -> None:
        if done == 3:
            raise KeyboardInterrupt(what)

    with pytest.raises(KeyboardInterrupt, match="runs read"):
        validate(runs.shipped()[:60], progress=end)


def test_every_scheme_scores_its_own_predictions(validation: Validation) -> None:
    outcomes = validation.outcomes
    for each in outcomes[::50]:
        assert each.by("new source").predicted_s == each.predicted_s
        assert each.by("known stack").low_s == each.known_low_s
        bare = each.by("nothing fitted")
        assert bare.low_s == bare.predicted_s == bare.high_s == each.unfitted_s
        assert (each.error, each.covered) == (each.by("new source").error, each.by("new source").covered)
    for scheme, scoring in scores.SCORINGS.items():
        predictions = [each.by(scheme) for each in outcomes]
        score = scoring(outcomes)
        assert score.median_abs_error == pytest.approx(np.median([abs(each.error) for each in predictions]))
        assert score.coverage_90 == pytest.approx(np.mean([each.covered for each in predictions]))
