"""Whatever a file holds, it is a sound answer or one sentence: never another exception, never a hang."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import simulator
from hardware.errors import InputError
from hardware.price import Price
from hardware.reading import build, read_mapping
from tests.thorough import cases

ROOT = Path(__file__).parents[2]
HARDWARE, SPECS = ROOT / "hardware", ROOT / "simulator" / "specs"
_SMALL = {"sequence_length": 128, "global_batch": 64}
_STABLE = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

Document = dict[str, Any]
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Kind:
    """One kind of file: a valid document, and what somebody does with such a file."""

    valid: Document
    use: Callable[[Path], simulator.Estimate]
    ending: str = ".yaml"


def _first(path: Path) -> Document:
    return dict(next(iter(read_mapping(path).values())))


def _priced(path: Path) -> simulator.Estimate:
    price = build(Price, {"id": "x", **read_mapping(path)}, path=path)
    return simulator.estimate("bert-large", "rtx-3090", price=price, workload=_SMALL)


_PLAN: Document = {
    "dp": 2,
    "tp": 2,
    "pp": 2,
    "virtual_stages": 2,
    "cp": 1,
    "ep": 1,
    "sequence_parallel": True,
    "sharding": "zero1",
    "micro_batch": 4,
    "schedule": "interleaved",
    "recompute": "full",
    "precision": "bf16",
    "parameters_in_fp32": False,
    "gradients_in_fp32": True,
    "master_weights": True,
    "optimizer": "adamw",
    "offload_optimizer": False,
    "placement": "tp-cp-dp-pp",
}
_CONFIG: Document = {
    "model_type": "bert",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "vocab_size": 1000,
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
}
_SCENARIO: Document = {
    "title": "a scenario",
    "model": "bert-large",
    "system": "dgx-a100-640gb",
    "devices": 8,
    "stack": "nvidia-bert",
    "plan": {"dp": 8, "tp": 1, "micro_batch": 4},
    "workload": {**_SMALL, "steps": 100},
    "price": 1.5,
    "grid": "us",
    "overhead": "aws",
    "price_kind": "spot",
    "reliability": {
        "failure_rate": "0.001 /d",
        "preemption_rate": "0.01 /d",
        "restart": "10 min",
        "checkpoint_every": "1 h",
        "storage_bandwidth": "1 GB/s",
    },
}
_OWNED: Document = {
    "model": "bert-large",
    "system": "dgx-a100-640gb",
    "plan": {"dp": 8, "micro_batch": 4},
    "workload": {**_SMALL, "steps": 100},
    "price_kind": "owned",
    "ownership": {"purchase_price": 15000, "lifetime": "5 years", "electricity": "0.1 USD/kWh"},
}
KINDS: dict[str, Kind] = {
    "device": Kind(
        read_mapping(HARDWARE / "devices" / "a100-sxm4-80gb.yaml"),
        lambda path: simulator.estimate("bert-large", path, workload=_SMALL),
    ),
    "system": Kind(
        read_mapping(HARDWARE / "systems" / "dgx-a100-640gb.yaml"),
        lambda path: simulator.estimate("bert-large", path, workload={"sequence_length": 128, "global_batch": 512}),
    ),
    "torus": Kind(
        read_mapping(HARDWARE / "systems" / "palm-2pod.yaml"), lambda path: simulator.estimate("palm-540b", path)
    ),
    "encoder": Kind(
        read_mapping(SPECS / "models" / "bert-large.yaml"), lambda path: simulator.estimate(path, "rtx-3090")
    ),
    "experts": Kind(
        read_mapping(SPECS / "models" / "mixtral-8x7b.yaml"),
        lambda path: simulator.estimate(path, "dgx-h100", devices=64, workload=_SMALL, stack="megatron-lm"),
    ),
    "two towers": Kind(
        read_mapping(SPECS / "models" / "t5-small.yaml"), lambda path: simulator.estimate(path, "rtx-3090")
    ),
    "config": Kind(_CONFIG, lambda path: simulator.estimate(path, "rtx-3090"), ".json"),
    "stack": Kind(
        read_mapping(SPECS / "stacks" / "megatron-lm.yaml"),
        lambda path: simulator.estimate("bert-large", "dgx-a100-640gb", stack=path, workload=_SMALL),
    ),
    "plan": Kind(_PLAN, lambda path: simulator.estimate("bert-large", "dgx-a100-640gb", plan=path, workload=_SMALL)),
    "workload": Kind(
        {**_SMALL, "effective_tokens": 100.5, "predictions": 20, "tokens": 1e9},
        lambda path: simulator.estimate("bert-large", "dgx-a100-640gb", workload=path),
    ),
    "price": Kind(_first(HARDWARE / "prices" / "vast.yaml"), _priced),
    "scenario": Kind(_SCENARIO, lambda path: simulator.answer(simulator.from_file(path))),
    "owned": Kind(_OWNED, lambda path: simulator.answer(simulator.from_file(path))),
    "scenario in json": Kind(_SCENARIO, lambda path: simulator.answer(simulator.from_file(path)), ".json"),
}

_NUMBERS = st.one_of(
    st.integers(-3, 20),
    st.sampled_from([10**6, 9_999_999, 10**7, 10**18, 2**63, 10**30, 10**400, -(10**30)]),
    st.floats(),
    st.sampled_from([1e-300, 5e-324, 1e300, 0.5, 1e9]),
)
_STRINGS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["80 GiB", "1 B", "1e308 TB/s", "1 B/s", "1 EB/s", "1 FLOP/s", "5 W", "0 s", "52 weeks", "1 us", "1", "nan"]
    ),
    st.sampled_from(["none", "no", "fp8", "zero3", "hybrid", "gpipe", "a.yaml", "../b", "/", "x" * 700, "torus"]),
)
_PLAIN = st.one_of(st.none(), st.booleans(), _NUMBERS, _STRINGS)
_VALUES = st.one_of(
    _PLAIN,
    st.lists(_PLAIN, max_size=4),
    st.dictionaries(st.text(max_size=8), _PLAIN, max_size=3),
    st.fixed_dictionaries({"value": _PLAIN}, optional={"source": _PLAIN, "seen": _PLAIN, "note": _PLAIN}),
    st.recursive(_PLAIN, lambda inside: st.lists(inside, max_size=2) | st.dictionaries(_STRINGS, inside, max_size=2)),
)


def _places(document: Any, place: Place = ()) -> Iterator[Place]:
    """Every place inside a document."""
    parts = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in parts:
        yield (*place, key)
        yield from _places(value, (*place, key))


@st.composite
def _changed(draw: st.DrawFn, valid: Document) -> Document:
    """A document with one or a few mistakes."""
    document = copy.deepcopy(valid)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        *above, key = draw(st.sampled_from(list(_places(document)) or [("new",)]))
        holder: Any = document
        for part in above:
            holder = holder[part]
        change = draw(st.sampled_from(["set", "set", "set", "set", "remove", "misspell", "add"]))
        if change == "set":
            holder[key] = draw(_VALUES)
        elif change == "remove":
            del holder[key]
        elif isinstance(holder, dict):
            value = holder.pop(key) if change == "misspell" else draw(_VALUES)
            holder[draw(st.text(max_size=8)) if change == "add" else f"{str(key)[:-1]}x"] = value
    return document


def _write(path: Path, document: Any) -> None:
    text = json.dumps(document) if path.suffix == ".json" else yaml.safe_dump(document, sort_keys=False)
    path.write_text(text, encoding="utf-8")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for part in value.values():
            yield from _numbers(part)
    elif isinstance(value, list):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, int | float):
        yield float(value)


def _assert_sound(estimate: simulator.Estimate) -> None:
    """Every number is finite and not negative, and the answer itself is positive."""
    answer = estimate.to_dict()
    assert all(math.isfinite(number) and number >= 0 for number in _numbers(answer))
    assert answer["step_time_s"] > 0
    assert answer["tokens_per_s"] > 0
    assert answer["memory_bytes"]["total"] > 0
    json.dumps(answer, allow_nan=False)


def _use(kind: Kind, path: Path) -> None:
    try:
        estimate = kind.use(path)
    except InputError as error:
        sentence = str(error)
        assert sentence
        assert len(sentence) < 600
        assert sentence.isprintable()
    else:
        _assert_sound(estimate)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_valid_documents_have_a_sound_answer(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / f"file{kind.ending}"
    _write(path, kind.valid)
    _assert_sound(kind.use(path))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@settings(_STABLE, max_examples=120)
@given(data=st.data())
def test_wrong_documents_have_one_sentence(kind: Kind, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / f"file{kind.ending}"
    _write(path, data.draw(_changed(kind.valid)))
    _use(kind, path)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@settings(_STABLE, max_examples=25)
@given(content=st.binary(max_size=200))
def test_random_bytes_have_one_sentence(kind: Kind, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / f"file{kind.ending}"
    path.write_bytes(content)
    _use(kind, path)


@settings(_STABLE, max_examples=100)
@given(document=_VALUES, ending=st.sampled_from([".yaml", ".json"]))
def test_any_document_has_one_sentence(tmp_path: Path, document: Any, ending: str) -> None:
    path = tmp_path / f"file{ending}"
    _write(path, document)
    for kind in KINDS.values():
        _use(kind, path)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_field_refuses_nonsense_or_works(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / f"file{kind.ending}"
    wrong: tuple[Any, ...] = (None, True, -1, 0, 10**30, 1e-300, math.nan, math.inf, "", "abc", [], {})
    some = len(wrong) // cases(usual=4, thorough=len(wrong))
    for number, place in enumerate(_places(kind.valid)):
        told = wrong[:2] if {"source", "note", "seen"} & set(place) else wrong[number % some :: some]
        for value in told:
            document: Any = copy.deepcopy(kind.valid)
            holder = document
            for part in place[:-1]:
                holder = holder[part]
            holder[place[-1]] = value
            _write(path, document)
            _use(kind, path)
