"""Parameters as the transformers library has them, counted on models without storage."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from simulator.scenario.scenario import parameters_of
from simulator.specs.loading import load_model
from simulator.specs.model import Model
from simulator.specs.workload import Workload


def ours(model: Model) -> int:
    """Parameters of a model as capsim counts them."""
    count = parameters_of(model, Workload().resolve(model))
    assert count == int(count)
    return int(count)


def theirs(architecture: str, **changes: Any) -> tuple[Any, int]:
    """A configuration of the library, and the parameters of the model it makes, each counted once."""
    import torch
    import transformers

    kind = getattr(transformers, architecture)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="transformers")
        config = kind.config_class(**changes)
        config.architectures = [architecture]
        with torch.device("meta"):
            model = kind(config)
    return config, sum(parameter.numel() for parameter in model.parameters())


def reloaded(config: Any, folder: Path) -> Model:
    """The model that capsim reads from the file in which the library keeps a configuration."""
    config.save_pretrained(folder)
    return load_model(folder / "config.json")
