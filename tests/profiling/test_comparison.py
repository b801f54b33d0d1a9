"""Measured against predicted: every row once, priced as estimates price it, and errors that are those of the rows."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simulator
from hardware.catalogue import load_class, load_device, load_profile, names, plain_host
from hardware.classes import Precision
from hardware.errors import InputError
from simulator.formulas.matmul import alignment_share
from simulator.pricing.analytic import AnalyticBackend, device_columns
from simulator.pricing.measured import MeasuredBackend, device_of
from simulator.pricing.wiring import wiring
from simulator.profiling import shipped
from simulator.profiling.comparison import SIZES, WORDS, Comparison, compared, kept
from simulator.profiling.fit import attentions, products
from simulator.profiling.fit.sheet import ELEMENT_BYTES
from simulator.profiling.fit.steps import compare
from simulator.profiling.records import journal
from simulator.profiling.records.reading import measurements_of, steps_of
from simulator.profiling.records.rows import Measurements
from tests.pricing import asking
from tests.profiling.conftest import Calibrated
from tests.profiling.made_up import graphics

_TABLE = "a100-pcie"


@pytest.fixture(scope="module")
def of_table() -> Comparison:
    return simulator.compare_profile(_TABLE)


@pytest.fixture(scope="module")
def of_record(on_graphics: Calibrated) -> Comparison:
    return simulator.compare_profile(on_graphics.profile, [on_graphics.file])


def _rows(name: str) -> Measurements:
    return shipped.measured(shipped.recipes()[name])


def test_every_row_is_compared_or_counted(on_graphics: Calibrated, of_record: Comparison) -> None:
    measurements = measurements_of(on_graphics.record)
    rows = sum(
        len(each)
        for each in (measurements.products, measurements.attentions, measurements.streams, measurements.collectives)
    )
    assert sum(map(len, of_record.parts.values())) + sum(of_record.left_out.values()) == rows + len(
        steps_of(on_graphics.record)
    )
    assert list(of_record.parts) == list(WORDS) == list(SIZES)
    assert of_record.device == "rtx-3090"
    assert of_record.rows_of == on_graphics.file.name


def test_columns_are_as_long_as_their_words(of_record: Comparison) -> None:
    for part in of_record.parts.values():
        columns = (part.size, part.measured_s, part.before_s, part.form_s, part.after_s)
        assert {len(column) for column in columns} == {len(part.words)} == {len(part)}
        assert all(np.all(np.isfinite(column) & (column > 0.0)) for column in columns)
        assert len(set(part.words)) > 0.8 * len(part)


def test_a_profile_is_nearer_to_what_it_was_fitted_to_than_the_catalogue(of_record: Comparison) -> None:
    for phase, part in of_record.parts.items():
        before, form, after = (part.errors(column) for column in (part.before_s, part.form_s, part.after_s))
        assert after.median < 0.5 * before.median, phase
        assert form.rows == before.rows == len(part)
        assert after.median <= after.p90


def test_errors_are_those_of_the_rows(of_record: Comparison) -> None:
    part = of_record.parts["stream"]
    off = [after / measured - 1.0 for after, measured in zip(part.after_s, part.measured_s, strict=True)]
    errors = part.errors(part.after_s)
    assert errors.median == pytest.approx(np.median(np.abs(off)))
    assert errors.p90 == pytest.approx(np.quantile(np.abs(off), 0.9))
    assert errors.bias == pytest.approx(sum(part.after_s) / sum(part.measured_s) - 1.0)


@pytest.mark.parametrize(
    ("name", "precision"),
    [(_TABLE, "bf16"), (_TABLE, "fp32"), ("l40s", "bf16"), ("b200-sxm", "bf16"), ("v100-pcie", "fp32")],
)
def test_kernels_are_priced_as_estimates_price_them(name: str, precision: Precision) -> None:
    """At the clocks of long load, which is what estimates assume of all products."""
    profile, rows = load_profile(name), _rows(name)
    device = device_of(profile)
    backend = MeasuredBackend.of(plain_host(device), 1, precision, profile)
    mine = rows.products.where(rows.products.dtype == precision)
    long = replace(mine, sustained=np.ones(len(mine)))
    part = compared(profile, replace(rows, products=long)).parts["gemm"]
    m, n, k, batch, gradient = products.sizes(long).T
    other = np.where(gradient > 0, m, k)
    alignment = np.where(batch > 1, 1.0, alignment_share(n, other))
    wide = ELEMENT_BYTES[precision]
    sizes: dict[str, Any] = {"k": k, "batch": batch, "element_bytes": wide, "alignment": alignment}
    ahead, back = (asking.gemm(backend, m, n, weight_gradient=of_weight, **sizes) for of_weight in (False, True))
    priced = np.where(gradient > 0, back, ahead)
    np.testing.assert_allclose(part.after_s, priced, rtol=1e-12)


def test_attention_is_priced_as_estimates_price_it() -> None:
    profile, rows = load_profile("a100-sxm"), _rows("a100-sxm")
    part = compared(profile, rows).parts["attention"]
    fastest = rows.attentions.where(rows.attentions.kernel == attentions.fastest_kernel(rows.attentions))
    backend = MeasuredBackend.of(plain_host(device_of(profile)), 1, "bf16", profile)
    queries, keys, batch, heads, shared, width, causal, backward = attentions.sizes(fastest).T
    for back in (False, True):
        priced = asking.attention(
            backend,
            queries,
            keys,
            batch=batch,
            heads=heads,
            key_value_heads=shared,
            head_size=width,
            causal=causal,
            backward=back,
        )
        here = backward == back
        np.testing.assert_allclose(part.after_s[here], np.asarray(priced)[here], rtol=1e-12)


def test_streams_are_priced_as_estimates_price_them(on_graphics: Calibrated, of_record: Comparison) -> None:
    part, rows = of_record.parts["stream"], measurements_of(on_graphics.record).streams
    device = load_device("rtx-3090")
    for column, constants in (("before_s", load_class("rtx-3090")), ("after_s", on_graphics.profile.constants)):
        columns = device_columns(device, "bf16", constants=constants)
        backend = AnalyticBackend(columns, wiring(plain_host(device), 1), columns)
        for reduces, operations in ((True, ("layer_norm", "softmax_backward", "cross_entropy")), (False, ("add",))):
            here = np.isin(rows.operation, operations)
            assert np.any(here)
            priced = asking.stream(backend, rows.moved_bytes[here], 1.0, reduces=reduces)
            np.testing.assert_allclose(getattr(part, column)[here], priced, rtol=1e-12)


def test_collectives_are_priced_as_estimates_price_them(on_graphics: Calibrated, of_record: Comparison) -> None:
    part, rows = of_record.parts["collective"], measurements_of(on_graphics.record).collectives
    host = plain_host(load_device("rtx-3090"))
    before = AnalyticBackend.of(host, 4, "bf16")
    after = MeasuredBackend.of(host, 4, "bf16", on_graphics.profile)
    for kind in ("all_reduce", "all_to_all"):
        here = rows.kind == kind
        for backend, column in ((before, part.before_s), (after, part.after_s)):
            time = asking.exchange(backend, kind, rows.message_bytes[here], degree=rows.degree[here])
            np.testing.assert_allclose(column[here], time, rtol=1e-12)
    here = rows.kind == "send"
    assert np.any(here)
    time = asking.exchange(after, "send", rows.message_bytes[here], degree=2.0)
    np.testing.assert_allclose(part.after_s[here], time, rtol=1e-12)


def test_steps_are_those_of_a_check(on_graphics: Calibrated, of_record: Comparison) -> None:
    part = of_record.parts["step"]
    steps = compare(steps_of(on_graphics.record), on_graphics.profile, load_device("rtx-3090"))
    assert part.after_s.tolist() == [each.predicted_s for each in steps]
    assert part.before_s.tolist() == [each.before_s for each in steps]
    assert part.words[0].startswith("bert-base, ")
    assert np.all(part.size > 1e9)


def test_a_record_that_the_profile_never_saw(on_graphics: Calibrated, tmp_path: Path) -> None:
    file = tmp_path / "later.jsonl"
    journal.write(file, graphics().record(["bert-large"], noise=0.0))
    comparison = simulator.compare_profile(on_graphics.profile, [file])
    part = comparison.parts["step"]
    assert part.errors(part.after_s).median < 0.05 < part.errors(part.before_s).median


def test_a_record_of_another_device_is_refused(on_graphics: Calibrated) -> None:
    with pytest.raises(
        InputError, match=r"cuda\.jsonl: is of .*, and the profile of A100 .*; check it against its own"
    ):
        simulator.compare_profile("a100-sxm", [on_graphics.file])


def test_rows_without_constants_are_counted() -> None:
    rows = _rows(_TABLE)
    eight = replace(rows.products, dtype=np.full(len(rows.products), "fp8"))
    between = replace(_rows("l40s").collectives, nodes=np.full(len(_rows("l40s").collectives), 2.0))
    comparison = compared(load_profile(_TABLE), replace(rows, products=eight, collectives=between))
    assert set(comparison.parts) == {"attention", "stream"}
    assert comparison.left_out == {
        "matrix products in fp8, for which the data sheet has no peak rate": len(eight),
        "collectives between nodes, of which a profile holds nothing": len(between),
    }


def test_rows_that_beat_the_data_sheet_are_counted() -> None:
    rows = _rows(_TABLE).products
    fast = replace(rows, seconds=np.where(np.arange(len(rows)) < 5, 1e-7, rows.seconds))
    comparison = compared(load_profile(_TABLE), replace(_rows(_TABLE), products=fast))
    assert len(comparison.parts["gemm"]) == len(rows) - 5
    assert comparison.left_out == {"matrix products that beat the data sheet": 5}


def test_what_a_profile_keeps_stands_for_its_rows(tmp_path: Path, of_table: Comparison) -> None:
    profile = load_profile(_TABLE)
    comparison = simulator.compare_profile(profile)
    part, whole = comparison.parts["gemm"], of_table.parts["gemm"]
    np.testing.assert_allclose(part.after_s, part.measured_s, rtol=1e-12)
    known = dict(zip(whole.words, whole.measured_s, strict=True))
    measured = [known[words] for words in part.words]
    np.testing.assert_allclose(part.measured_s, measured, rtol=0.06)  # a shape of several rows has their mean
    file = tmp_path / "mine.yaml"
    file.write_text(simulator.profile_text(profile))
    np.testing.assert_allclose(simulator.compare_profile(file).parts["gemm"].after_s, part.after_s, rtol=1e-3)


def test_a_profile_without_shapes_has_nothing_to_compare() -> None:
    bare = load_profile(_TABLE).model_copy(update={"products": {}, "attentions": {}})
    assert compared(bare, kept(bare)).parts == {}


@pytest.mark.parametrize("name", names("profiles"))
def test_every_profile_that_is_shipped_is_compared_with_its_files(name: str) -> None:
    comparison = simulator.compare_profile(name)
    part = comparison.parts["gemm"]
    assert len(part) > 50
    assert part.errors(part.after_s).median <= part.errors(part.before_s).median
    assert "fitted to" in comparison.rows_of


def test_rows_are_plain(of_table: Comparison) -> None:
    rows = of_table.to_rows()
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    assert len(rows) == sum(map(len, of_table.parts.values()))
    assert list(rows[0]) == ["phase", "words", "size", "measured_s", "before_s", "form_s", "after_s"]
    assert {type(value) for value in rows[0].values()} == {str, float}
    told = of_table.to_dict()
    assert told["errors"]["gemm"]["profile"]["rows"] == len(of_table.parts["gemm"])
    assert told["profile"] == _TABLE


def test_profiles_are_offered_for_the_devices_that_they_suit() -> None:
    assert simulator.profiles_for("dgx-h100") == ("h100-sxm",)
    assert simulator.profiles_for("rtx-3060") == ()
    hosts = simulator.profile_hosts()
    for name in names("profiles"):
        device = device_of(load_profile(name)).id
        assert name in (hosts[device] if device in hosts else simulator.profiles_for(device))
    for device, own in hosts.items():
        assert simulator.estimate("bert-base", profile=own[0]).system == device


def test_a_fit_tells_how_far_it_is_and_can_be_ended(on_graphics: Calibrated) -> None:
    said: list[str] = []

    class _EnoughError(Exception):
        pass

    def tell(words: str) -> None:
        said.append(words)
        if "attention" in words:
            raise _EnoughError

    with pytest.raises(_EnoughError):
        simulator.calibrate([on_graphics.file], progress=tell)
    assert [words.split(" ", 1)[1] for words in said] == ["matrix products", "attention kernels"]


def test_the_public_api_fits_as_the_command_does(on_processor: Calibrated) -> None:
    profile = simulator.calibrate([on_processor.file], name="mine.yaml")
    assert profile == on_processor.profile
    assert simulator.load_profile(profile) is profile
