"""Hugging Face ``config.json`` files as models."""

from simulator.specs.huggingface.families import FAMILIES, examples
from simulator.specs.huggingface.reading import from_config

__all__ = ["FAMILIES", "examples", "from_config"]
