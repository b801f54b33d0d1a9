"""Models from the params.json of Meta's and Mistral's checkpoints, beside those of the catalogue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hardware.errors import InputError
from simulator.specs.loading import load_model

_FILES: dict[str, dict[str, Any]] = {
    "llama-2-7b": {"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, "norm_eps": 1e-05, "vocab_size": -1},
    "llama-2-70b": {
        "dim": 8192,
        "multiple_of": 4096,
        "ffn_dim_multiplier": 1.3,
        "n_heads": 64,
        "n_kv_heads": 8,
        "n_layers": 80,
        "norm_eps": 1e-05,
        "vocab_size": -1,
    },
    "llama-3-8b": {
        "dim": 4096,
        "n_layers": 32,
        "n_heads": 32,
        "n_kv_heads": 8,
        "vocab_size": 128256,
        "multiple_of": 1024,
        "ffn_dim_multiplier": 1.3,
        "norm_eps": 1e-05,
        "rope_theta": 500000.0,
    },
    "llama-3-70b": {
        "dim": 8192,
        "n_layers": 80,
        "n_heads": 64,
        "n_kv_heads": 8,
        "vocab_size": 128256,
        "multiple_of": 4096,
        "ffn_dim_multiplier": 1.3,
        "norm_eps": 1e-05,
        "rope_theta": 500000.0,
    },
    "mixtral-8x7b": {
        "dim": 4096,
        "n_layers": 32,
        "head_dim": 128,
        "hidden_dim": 14336,
        "n_heads": 32,
        "n_kv_heads": 8,
        "norm_eps": 1e-05,
        "vocab_size": 32000,
        "moe": {"num_experts_per_tok": 2, "num_experts": 8},
    },
}


def _written(tmp_path: Path, document: dict[str, Any]) -> Path:
    path = tmp_path / "params.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("name", _FILES)
def test_it_is_the_model_of_the_catalogue(tmp_path: Path, name: str) -> None:
    assert load_model(_written(tmp_path, _FILES[name])).columns() == load_model(name).columns()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": "large"}, "dim='large': must be a whole number"),
        ({"n_layers": 0}, "n_layers=0: must be a whole number of at least 1"),
        ({"ffn_dim_multiplier": "x"}, "ffn_dim_multiplier='x': must be a number such as 1.3"),
        ({"mla": 1}, "mla=1: is not understood"),
        ({"moe": 8}, "moe=8: must hold num_experts"),
    ],
)
def test_bad_values_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        load_model(_written(tmp_path, {**_FILES["llama-3-8b"], **changes}))
    assert message in str(refused.value)
