"""Real values for files to begin with: what entries of the catalogue and published runs have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hardware import catalogue
from hardware.errors import InputError
from hardware.price import Price
from hardware.sheet import Sheet
from simulator.corpus import runs
from simulator.specs import loading
from simulator.terminal.files.kinds import FileKind

Document = dict[str, Any]

_SCENARIO: Document = {
    "title": "BERT-large on one DGX A100",
    "model": "bert-large",
    "system": "dgx-a100-640gb",
    "devices": 8,
    "stack": "nvidia-bert",
    "plan": {
        "dp": 8,
        "tp": 1,
        "pp": 1,
        "virtual_stages": 1,
        "cp": 1,
        "ep": 1,
        "sequence_parallel": False,
        "sharding": "none",
        "micro_batch": 32,
        "schedule": "1f1b",
        "recompute": "none",
        "attention": "unfused",
        "precision": "fp16",
        "activation_inputs_in_fp8": False,
        "parameters_in_fp32": False,
        "gradients_in_fp32": False,
        "master_weights": True,
        "optimizer": "lamb",
        "clip_gradients": True,
        "optimizer_in_backward": False,
        "offload_optimizer": False,
        "placement": "tp-cp-dp-pp",
    },
    "workload": {
        "sequence_length": 512,
        "effective_tokens": 254,
        "document_lengths": [254, 128, 64],
        "predictions": 76,
        "global_batch": 256,
        "steps": 1000000,
    },
    "price": 1.79,
    "grid": "world",
    "overhead": "default",
    "constants": "none",
    "profile": "a100-sxm",
    "price_kind": "on-demand",
    "prices": {"dgx-a100-640gb": 1.79},
    "ownership": {"purchase_price": "30000 USD", "lifetime": "5 years", "electricity": "0.08 USD/kWh"},
    "reliability": {
        "failure_rate": "0.0005 /d",
        "preemption_rate": "0.01 /h",
        "capacity_wait": "2 h",
        "restart": "10 min",
        "checkpoint_every": "30 min",
        "storage_bandwidth": "50 GB/s",
    },
}
"""A scenario that says all that one can say of it."""
_ELSEWHERE: Document = {
    "plan": {
        "sharding_group": 8,
        "recompute_modules": ["core_attn", "mlp"],
        "recompute_layers": 4,
        "recompute_method": "block",
        "cross_entropy": "chunked",
        "fp8_scaling": "blockwise",
    },
    "workload": {
        "target_length": 114,
        "document_lengths": 700,
        "document_deviation": 500,
        "tokens": 131000000000,
        "expert_imbalance": 1.5,
        "label_smoothing": 0.1,
        "z_loss": 0.0001,
        "capacity_factor": 1.25,
        "multi_token": True,
        "train": "lora",
        "lora_rank": 16,
        "lora_targets": ["all-linear"],
        "lora_dropout": 0.05,
        "dora": True,
        "virtual_tokens": 20,
        "base_precision": "nf4",
        "preference": "dpo",
        "reference": "copy",
        "teacher": "llama-3.1-8b",
        "keeps_teacher_logits": True,
    },
}
"""What one can say of other scenarios, or instead."""


@dataclass(frozen=True)
class Examples:
    """Where the values of a kind of file come from."""

    usual: Callable[[], str]
    names: Callable[[], list[str]]
    load: Callable[[str], Document]
    """An entry as a file holds it, without sources."""
    use: Callable[[Document], str]
    """The command that uses a file with what an entry says; `{file}` stands for its name."""
    others: Callable[[], list[Document]] | None = None
    """Documents that say what an entry leaves open; all entries unless given."""

    def documents(self) -> list[Document]:
        """What there is to take the value of a field from that one entry leaves open, the likeliest first."""
        return self.others() if self.others is not None else [self.load(name) for name in self.names()]


def _stated(sheet: Sheet) -> Document:
    """What a sheet says, without sources."""
    document: Document = _plain(sheet.written(stated_only=True))
    return document


def _offers() -> dict[str, Price]:
    """Every offer of the catalogue, by its word."""
    return {offer.id: offer for offer in catalogue.prices()}


def _usual_offer() -> str:
    """An offer on demand of joined instances of A100, or any."""
    fitting = (name for name, offer in _offers().items() if offer.device == "a100-sxm4-80gb" and _is_whole(offer))
    return next(fitting, next(iter(_offers())))


def _is_whole(offer: Price) -> bool:
    """Whether an offer is on demand and states what its instances hold and what joins them."""
    joined = offer.network is not None and offer.network.bandwidth is not None
    return offer.kind == "on-demand" and not offer.is_floor and joined


def _system(name: str) -> Document:
    """A system that names its device."""
    system = catalogue.load_system(name)
    return _stated(system) | {"device": system.device.id}


def _run(name: str) -> Document:
    """A published run; numbers of things without a point."""
    (run,) = runs.named([name])
    document: Document = _whole(run.model_dump(mode="json", exclude_defaults=True))
    return document


def _scenario(name: str) -> Document:
    """A scenario of the catalogue."""
    return loading.load_scenario(name).model_dump(mode="json", exclude_unset=True)


_ESTIMATE = "capsim estimate bert-large"
_ON = {"gpu": "--system dgx-a100-640gb", "tpu": "--system tpu-v4-pod", "cpu": "--profile cpu-amd-epyc"}
"""What stacks of each platform run on."""
_KINDS = {
    "device": Examples(
        usual=lambda: "a100-sxm4-80gb",
        names=lambda: catalogue.names("devices"),
        load=lambda name: _stated(catalogue.load_device(name)),
        use=lambda _: f"{_ESTIMATE} --system {{file}}",
    ),
    "system": Examples(
        usual=lambda: "dgx-a100-640gb",
        names=lambda: catalogue.names("systems"),
        load=_system,
        use=lambda _: f"{_ESTIMATE} --system {{file}}",
    ),
    "model": Examples(
        usual=lambda: "llama-3.1-8b",
        names=lambda: loading.names("models"),
        load=lambda name: _stated(loading.load_model(name)),
        use=lambda _: "capsim estimate {file} --system dgx-a100-640gb",
    ),
    "stack": Examples(
        usual=lambda: "pytorch-fsdp",
        names=lambda: loading.names("stacks"),
        load=lambda name: _stated(loading.load_stack(name)),
        use=lambda stack: f"{_ESTIMATE} {_ON[stack['platform']]} --stack {{file}}",
    ),
    "scenario": Examples(
        usual=lambda: "bert-large",
        names=lambda: loading.names("scenarios"),
        load=_scenario,
        use=lambda _: "capsim estimate {file}",
        others=lambda: [_SCENARIO, _ELSEWHERE],
    ),
    "runs": Examples(
        usual=lambda: "lambda-v0-8xa100-pcie-8x-a100-pcie-40gb-large-fp16-b32",
        names=lambda: [run.id for run in runs.shipped()],
        load=_run,
        use=lambda _: "capsim validate {file}",
    ),
    "prices": Examples(
        usual=_usual_offer,
        names=lambda: list(_offers()),
        load=lambda name: _stated(_offers()[name]),
        use=lambda offer: f"{_ESTIMATE} --system {offer['device']} --price {{file}}",
    ),
}
WORDS = tuple(_KINDS)
"""Kinds of files that can be begun with."""


def examples_of(kind: FileKind) -> Examples:
    """Where the values of a kind of file come from.

    Raises
    ------
    InputError
        Where nobody begins such a file by hand.
    """
    if kind.word not in _KINDS:
        hint = "it is a part of a scenario" if kind.word in ("plan", "workload") else "capsim calibrate writes it"
        raise InputError(f"{kind.word}: is no file to begin with ({hint}); valid: {', '.join(WORDS)}")
    return _KINDS[kind.word]


def _plain(document: Any) -> Any:
    """A document without sources and without what is not known."""
    if isinstance(document, list):
        return [_plain(part) for part in document]
    if not isinstance(document, dict):
        return document
    if "value" in document:
        return _plain(document["value"])
    plain = {name: _plain(part) for name, part in document.items()}
    return {name: _whole(part) for name, part in plain.items() if part is not None}


def _whole(document: Any) -> Any:
    """A document whose whole numbers are written as such."""
    if isinstance(document, dict):
        return {name: _whole(part) for name, part in document.items()}
    return int(document) if isinstance(document, float) and document.is_integer() else document
