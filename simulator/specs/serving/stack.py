"""The software that serves a model: what it captures, fuses, stores and schedules."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hardware.catalogue import id_of, locate
from hardware.errors import InputError
from hardware.fields import Unit
from hardware.quantity import Bytes, BytesOrNone, Seconds
from hardware.reading import build, is_path, read_mapping
from hardware.sheet import NO_FLAG, Fraction, Name, NotNegative, Ratio, Seen, Sheet, Words
from hardware.spec import Device
from simulator.specs.choices import AttentionKernel
from simulator.specs.serving.formats import FormatName
from simulator.specs.stack import Defaults, Overlap, Stack

_FOLDER = Path(__file__).with_name("stacks")
Task = Literal["generate", "encode"]
Axis = Literal["tp", "pp", "ep"]


class ServingStack(Sheet):
    """An engine that serves models, with its kernels."""

    id: Name
    """The word that names it."""
    name: Words
    """Name in full."""
    family: Name = "other"
    """Engines of one family share code and habits."""
    platforms: tuple[Literal["gpu", "tpu", "cpu"], ...] = ("gpu",)
    """Kinds of devices that it runs on."""
    vendors: tuple[Words, ...] = ()
    """Makers of the devices that it is for; any unless given."""
    tasks: tuple[Task, ...] = ("generate",)
    """Whether it generates, encodes, or both."""
    axes: tuple[Axis, ...] = ()
    """Kinds of parallelism inside a replica that it offers."""
    continuous: bool = True
    """Whether requests join and leave a running batch, instead of beginning and ending with it."""
    chunked: bool = True
    """Whether prompts are read in chunks beside sequences that get single tokens."""
    pipelined: bool = True
    """Whether stages of a pipeline work on different sequences at the same time."""
    paged: bool = True
    """Whether the cache is kept in blocks, instead of one piece as long as the longest sequence may become."""
    captured: Literal["none", "decode", "all"] = "decode"
    """Iterations whose kernels are launched as one graph or compiled program, without the host between them."""
    launch: Seconds
    """Host time of one kernel launch where nothing is captured."""
    iteration: Seconds
    """Host time of an iteration that the device waits for: scheduling, inputs, choice of tokens, answers."""
    prefill_iteration: Seconds | None = None
    """The same of one that reads prompts; as of others unless given."""
    eager: Annotated[NotNegative, Unit("1")] = 0.0
    """How much of the memory traffic and of the kernels that fusion avoids is nevertheless done."""
    fused_qkv: bool = True
    """Whether queries, keys and values are one product."""
    attention: AttentionKernel = "fused"
    """Whether attention of prompts writes its scores to memory, or is one kernel."""
    unpads: bool = True
    """Whether padding of a batch is taken out."""
    shares_tokens: bool = False
    """Whether tensor-parallel ranks share the tokens of normalisations and additions, which they gather and scatter."""
    shares_sequences: bool = False
    """Whether ranks that would hold copies of a key head's cache hold that of some sequences each instead, for all
    query heads, which they exchange."""
    one_shot_all_reduce: bool = False
    """Whether small messages are reduced in one kernel of its own instead of by the collective library."""
    overlap: Overlap = Overlap()
    """What communication hides behind compute."""
    product_efficiency: Ratio = 1.0
    """Rate of its matrix products that are bound by arithmetic, over that of the device class."""
    streaming_efficiency: Ratio = 1.0
    """Rate at which its products stream weights, over that of the device class."""
    attention_efficiency: Ratio = 1.0
    """Rate of its attention of prompts, over that of the device class."""
    decode_attention_efficiency: Ratio = 1.0
    """Rate of its attention over the cache, over that of the device class."""
    kernel_efficiency: Ratio = 1.0
    """Rate of its element-wise kernels and normalisations, over that of the device class."""
    link_efficiency: Ratio = 1.0
    """Rate of its collectives, over that of the links."""
    int8_products: bool = False
    """Whether products of weights in 8 bits run in 8 bits, their rows quantised too, unless told."""
    weights: tuple[FormatName, ...] = ("bf16", "fp16")
    """Formats of weights that it offers, the usual one first."""
    kv_cache: tuple[FormatName, ...] = ("bf16", "fp16")
    """Formats of the cache that it offers, the usual one first."""
    memory_utilisation: Fraction = 0.9
    """Share of a device's memory that it takes unless told."""
    block_size: Annotated[int, Field(ge=1, le=65_536), NO_FLAG, Unit("token")] = 16
    """Tokens of one block of its cache unless told."""
    chunk: Annotated[int, Field(ge=1, le=10_000_000), NO_FLAG, Unit("token")] = 8192
    """Tokens of an iteration at most unless told."""
    most_sequences: Annotated[int, Field(ge=1, le=10_000_000), NO_FLAG, Unit("sequence")] = 256
    """Sequences of an iteration at most."""
    runtime_memory: Bytes
    """What driver, runtime and libraries hold on a device."""
    graph_memory: BytesOrNone = 0.0
    """What captured graphs hold on a device."""
    source: Words
    """Where the facts come from, in words."""
    seen: Seen
    """How they were seen."""
    note: Words | None = None
    """Anything a reader should know of it."""

    def runs_on(self, device: Device) -> bool:
        """Whether it is for a device."""
        return device.kind in self.platforms and (not self.vendors or device.vendor in self.vendors)

    def kernels(self, platform: str) -> Stack:
        """What the parts of a model need to know of it: fusion, launches, overlap."""
        return _kernels(self, platform)


@cache
def _kernels(stack: ServingStack, platform: str) -> Stack:
    return Stack.model_validate(
        {
            "id": stack.id,
            "name": stack.name,
            "family": stack.family,
            "platform": platform,
            "axes": ("dp", "tp", "pp", "ep"),
            "attention": stack.attention,
            "eager": stack.eager,
            "fused_softmax": True,
            "fused_qkv": stack.fused_qkv,
            "fused_gate": stack.eager == 0.0,
            "launch": f"{stack.launch!r} s",
            "overlap": stack.overlap,
            "unpads": stack.unpads,
            "runtime_memory": f"{stack.runtime_memory!r} B",
            "fragmentation": 0.0,
            "defaults": Defaults(precision="bf16", master_weights=False),
            "source": stack.source,
            "seen": "derived" if stack.seen == "unstated" else stack.seen,
        }
    )


def serving_stacks() -> list[str]:
    """Names of all engines."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


@cache
def _shipped(path: Path) -> ServingStack:
    return build(ServingStack, {"id": id_of(path), **read_mapping(path)}, path=path)


def load_serving_stack(name: str | Path | ServingStack) -> ServingStack:
    """An engine by name, from a file, or as it is.

    Raises
    ------
    InputError
        With the names that are known, or file, line and field.

    Examples
    --------
    >>> load_serving_stack("vllm").continuous, load_serving_stack("pathways").platforms
    (True, ('tpu',))
    """
    if isinstance(name, ServingStack):
        return name
    if isinstance(name, str) and name.lower() in serving_stacks():
        return _shipped(_FOLDER / f"{name.lower()}.yaml")
    if not isinstance(name, str | Path) or not is_path(str(name)):
        raise InputError(
            f"stack={str(name)[:60]!r} is no engine that serves models; valid: {', '.join(serving_stacks())}",
            fields=["stack"],
        )
    path = locate(_FOLDER, "stack", str(name))
    return build(ServingStack, {"id": id_of(path), **read_mapping(path)}, path=path)
