"""What a transformer executes on one device for one micro-batch: its layers, its embedding and its head.

Each function lists operators whose numbers are arrays over plans. A layer is made of typed parts
(`simulator.specs.parts`); the module of a part registers its operators with `operators_of`, and every module of this
package and of those in it is imported here, so that a new kind of part needs its file and nothing else.
"""

from importlib import import_module
from pkgutil import walk_packages

from simulator.work.transformer.embedding import embedding
from simulator.work.transformer.head import head
from simulator.work.transformer.layer import layer, tokens_of_layers
from simulator.work.transformer.part import operators_of
from simulator.work.transformer.tokens import Scenarios, Tokens, autocasts, stream_bytes, tokens_of

for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = [
    "Scenarios",
    "Tokens",
    "autocasts",
    "embedding",
    "head",
    "layer",
    "operators_of",
    "stream_bytes",
    "tokens_of",
    "tokens_of_layers",
]
