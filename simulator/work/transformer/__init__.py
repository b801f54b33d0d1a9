"""What a transformer executes on one device for one micro-batch: its layers, its embedding and its head.

Each function lists operators whose numbers are arrays over plans. A layer is made of typed parts
(`simulator.specs.parts`); the module of a part registers its operators with `operators_of`, and every module of this
package is imported here, so that a new kind of part needs its file and nothing else.
"""

from importlib import import_module
from pkgutil import iter_modules

from simulator.work.transformer.embedding import embedding
from simulator.work.transformer.head import head
from simulator.work.transformer.layer import layer, tokens_of_layers
from simulator.work.transformer.part import operators_of
from simulator.work.transformer.tokens import Scenarios, Tokens, autocasts, stream_bytes, tokens_of

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

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
