"""Parameters of Hugging Face families, counted here and by the classes of the transformers library."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from simulator.scenario.scenario import parameters_of
from simulator.specs.huggingface.families import FAMILIES, examples
from simulator.specs.huggingface.heads import endings_of
from simulator.specs.huggingface.reading import from_config
from simulator.specs.workload import Workload


@dataclass(frozen=True)
class CountedFamily:
    """One head of one family at one size."""

    family: str
    architecture: str
    ours: int
    theirs: int

    @property
    def difference(self) -> int:
        """What we count more."""
        return self.ours - self.theirs


def counted_families(only: str | None = None) -> Iterator[CountedFamily]:
    """Every head that the library has of every family, at each of the two sizes.

    Parameters
    ----------
    only
        One family; all unless given.
    """
    for model_type in FAMILIES if only is None else (only,):
        for architecture in architectures_of(model_type):
            for sizes in examples()[model_type]:
                yield compared(model_type, architecture, sizes)


def architectures_of(model_type: str) -> list[str]:
    """The classes of the library whose heads capsim knows, by the endings of their names."""
    named = _config_class(model_type).__name__.removesuffix("Config")
    endings = (*endings_of(FAMILIES[model_type].kind), "Model")
    names = [f"{stem}{ending}" for stem in dict.fromkeys((named.removesuffix("Text"), named)) for ending in endings]
    known = [name for name in names if hasattr(transformers, name)]
    return [name for name in known if getattr(transformers, name).config_class is _config_class(model_type)]


def compared(model_type: str, architecture: str, sizes: Mapping[str, Any]) -> CountedFamily:
    """Count one architecture both ways, from the same keys."""
    family = FAMILIES[model_type]
    # A class that stands in for one of another name has defaults of its own.
    sizes = {"tie_word_embeddings": family.tied, **sizes} if family.counted_by else sizes
    document = {**sizes, "model_type": model_type, "architectures": [architecture]}
    model = from_config(document, Path(f"{model_type}.json"))
    ours = parameters_of(model, Workload().resolve(model))
    return CountedFamily(model_type, architecture, int(ours), theirs(model_type, architecture, sizes))


def theirs(model_type: str, architecture: str, sizes: Mapping[str, Any]) -> int:
    """Parameters of the model that the library makes of such keys, each counted once."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        model = getattr(transformers, architecture)(configuration_of(model_type, sizes))
    return sum(parameter.numel() for parameter in model.parameters())


def configuration_of(model_type: str, sizes: Mapping[str, Any]) -> Any:
    """The library's configuration with such keys."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _config_class(model_type)(**sizes)


def _config_class(model_type: str) -> Any:
    """The library's configuration of a family, or of the one whose class has the same parameters."""
    return CONFIG_MAPPING[FAMILIES[model_type].counted_by or model_type]
