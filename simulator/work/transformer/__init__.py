"""What a transformer executes on one device for one micro-batch: its layers, its embedding and its head.

Each function lists typed operators whose numbers are arrays over plans. Flags enter as factors of 0 and 1, so that
one list serves serial and parallel blocks, plain and gated layers, dense ones and ones with experts.
"""

from simulator.work.transformer.embedding import embedding
from simulator.work.transformer.head import head
from simulator.work.transformer.layer import layer
from simulator.work.transformer.tokens import Scenarios, Tokens, autocasts, stream_bytes, tokens_of

__all__ = ["Scenarios", "Tokens", "autocasts", "embedding", "head", "layer", "stream_bytes", "tokens_of"]
