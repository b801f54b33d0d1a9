"""Reference PyTorch modules, built from a simulator model specification: what the counts are checked against.

They run forward, backward and a step like any other module, on the meta device for counting and on a real one for
timing.
"""

from measure.models.distributed import distribute
from measure.models.layer import Layer, Tower, parameters_of
from measure.models.parallel import Alone, Split
from measure.models.setting import Setting
from measure.models.transformer import Batch, Transformer, build, random_batch

__all__ = [
    "Alone",
    "Batch",
    "Layer",
    "Setting",
    "Split",
    "Tower",
    "Transformer",
    "build",
    "distribute",
    "parameters_of",
    "random_batch",
]
