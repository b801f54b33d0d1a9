"""What the backward pass computes again instead of keeping, beside attention or whole layers.

The words are those of the software that has them: modules and methods of Megatron Core (`recompute_modules` and
`recompute_method` in `megatron/core/transformer/transformer_config.py`, and `megatron/core/recompute.py`, of
core_v0.19.0), operators and every n-th layer of torchtitan (`torchtitan/distributed/activation_checkpoint.py` of
v0.2.2).
"""

from simulator.specs.recomputation.columns import NAMES, Recomputation, lacking_modules, numbers_of
from simulator.specs.recomputation.words import COMPANIONS, contradiction, in_words, read_modules, with_implied

__all__ = [
    "COMPANIONS",
    "NAMES",
    "Recomputation",
    "contradiction",
    "in_words",
    "lacking_modules",
    "numbers_of",
    "read_modules",
    "with_implied",
]
