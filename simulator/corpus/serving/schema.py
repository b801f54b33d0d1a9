"""The schema of published runs of serving: what a source may tell of answers that a model gave."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import model_validator

from hardware.fields import Unit
from simulator.corpus.schema import (
    Devices,
    Duration,
    Flag,
    Free,
    Given,
    Ranks,
    Ratio,
    RunModel,
    RunPart,
    RunSource,
    Sequences,
    Stages,
    Tokens,
    Width,
    Words,
)

Task = Literal["generate", "prefill", "decode", "encode"]
METRICS = (
    "ttft_s",
    "tpot_s",
    "total_latency_s",
    "output_tokens_per_s",
    "total_tokens_per_s",
    "sequences_per_s",
    "requests_per_s",
    "memory_gb",
)
"""What predictions are compared with; rates are of all devices together, memory is of the fullest one."""
Metric = Literal[
    "ttft_s",
    "tpot_s",
    "total_latency_s",
    "output_tokens_per_s",
    "total_tokens_per_s",
    "sequences_per_s",
    "requests_per_s",
    "memory_gb",
]
Rate = Annotated[Given, Unit("1/s")]


class ServedModel(RunModel):
    """The architecture, as for training, with the words that inference has for experts and latents."""

    attention: Free = None
    """Kind of attention where it is no usual one, such as mla."""
    dense_layers: Annotated[Given, Unit("layer")] = None
    """Layers at the beginning without experts."""
    shared_experts: Annotated[Given, Unit("expert")] = None
    """Experts that every token passes."""
    q_lora_rank: Width = None
    """Width of the latent of queries."""
    kv_lora_rank: Width = None
    """Width of the latent of keys and values."""
    shared_ffn: Width = None
    """Width of an expert that every token passes, where it is not that of the others."""
    rope_head_dim: Width = None
    """Width of the part of a head that carries positions."""


class ServedHardware(RunPart):
    """What it ran on."""

    device: Words = ""
    """Name of the device, in the source's spelling."""
    devices: Devices = None
    """Number of devices, all pools together."""
    devices_per_node: Devices = None
    """Devices of one node."""
    intra: Free = None
    """What joins the devices of a node, in words."""
    inter: Free = None
    """What joins the nodes, in words."""


class Disaggregated(RunPart):
    """Pools that prefill and decode apart."""

    prefill_workers: Annotated[Given, Unit("1")] = None
    """Engines that prefill."""
    prefill_tp: Ranks = None
    """Tensor-parallel ranks of each of them."""
    prefill_dp: Ranks = None
    """Data-parallel ranks of each of them."""
    decode_workers: Annotated[Given, Unit("1")] = None
    """Engines that decode."""
    decode_tp: Ranks = None
    """Tensor-parallel ranks of each of them."""
    decode_dp: Ranks = None
    """Data-parallel ranks of each of them."""


class ServedPlan(RunPart):
    """The software, its formats, and how the model was split."""

    framework: Free = None
    """The software, in words."""
    framework_version: Free = None
    """Its version, in words."""
    weight_precision: Free = None
    """Format of the weights, such as bf16, fp8, awq-int4 or q4_k_m."""
    compute_precision: Free = None
    """Format of the products."""
    kv_precision: Free = None
    """Format of keys and values in the cache."""
    weights_gib: Annotated[Given, Unit("GiB")] = None
    """Size of the file of weights."""
    tp: Ranks = None
    """Tensor-parallel ranks."""
    pp: Stages = None
    """Stages that layers are split over."""
    ep: Ranks = None
    """Expert-parallel ranks."""
    dp: Ranks = None
    """Replicas, or ranks of data-parallel attention."""
    moe_tp: Ranks = None
    """Tensor-parallel ranks of experts, where they are not those of the rest."""
    batching: Free = None
    """Static, continuous or dynamic."""
    prompt_batch: Tokens = None
    """Tokens of a prompt that one pass takes, of llama.cpp."""
    cache_length: Tokens = None
    """Tokens that the cache holds for each sequence."""
    disaggregated: Disaggregated | Flag = None
    """Pools that prefill and decode apart, or whether there were such."""


class ServedLoad(RunPart):
    """What was asked of it: a static batch, clients that ask again, a rate, or as much as it takes."""

    input_tokens: Tokens = None
    """Tokens of a prompt, the mean where they vary; of an encoder tokens of a sequence."""
    output_tokens: Tokens = None
    """Tokens that each answer has, the mean where they vary."""
    mean_input_tokens: Tokens = None
    """Tokens of a sequence without padding, in the mean."""
    padded_to: Tokens = None
    """Tokens that sequences are padded to, or would be."""
    cached_tokens: Tokens = None
    """Tokens that are in the cache before."""
    context_tokens: Tokens = None
    """Tokens that a decoded token attends to."""
    batch: Sequences = None
    """Sequences of a static batch."""
    concurrency: Annotated[Given, Unit("sequence")] = None
    """Requests that are under way all the time."""
    request_rate: Rate = None
    """Requests that come in a second."""
    saturated: Flag = None
    """Whether requests always wait."""
    requested_input: Tokens = None
    """Tokens of a prompt that were asked for, where others were counted."""
    requested_output: Tokens = None
    """Tokens of an answer that were asked for, where others were counted."""
    dataset: Free = None
    """Where lengths come from, in words."""
    num_prompts: Annotated[Given, Unit("sequence")] = None
    """Requests of the whole run."""


class ServedMeasured(RunPart):
    """What was measured; rates are totals of all devices."""

    total_latency_s: Duration = None
    """From the request, or the batch, to the last token."""
    latency_p90_s: Duration = None
    """90th percentile of that."""
    latency_p95_s: Duration = None
    """The 95th percentile of that."""
    latency_p99_s: Duration = None
    """99th percentile of that."""
    ttft_s: Duration = None
    """Time to the first token."""
    ttft_p99_s: Duration = None
    """99th percentile of that."""
    tpot_s: Duration = None
    """Time for each further token."""
    tpot_p50_s: Duration = None
    """Median of that."""
    tpot_p99_s: Duration = None
    """99th percentile of that."""
    output_tokens_per_s: Rate = None
    """Tokens that were written."""
    total_tokens_per_s: Rate = None
    """Tokens of prompts and answers together."""
    requests_per_s: Rate = None
    """Requests that were answered."""
    sequences_per_s: Rate = None
    """Sequences that were encoded."""
    memory_gb: Annotated[Given, Unit("GiB")] = None
    """Memory of all devices together, as tools print it."""
    mfu: Ratio = None
    """Model FLOPs utilisation, by the convention of the source."""


class ServedSource(RunSource):
    """Where it was published."""

    commit_or_version: Words = ""
    """State of what was published."""


class ServingRun(RunPart):
    """One published or locally measured run of serving."""

    id: Words
    """The word that names the run; unique among all runs that are read together."""
    task: Task
    """Whether it answers (generate), reads prompts (prefill), writes (decode) or encodes."""
    model: ServedModel
    """The architecture."""
    hardware: ServedHardware
    """What it ran on."""
    plan: ServedPlan = ServedPlan()
    """The software, formats, and how it was split."""
    load: ServedLoad = ServedLoad()
    """What was asked of it."""
    measured: ServedMeasured = ServedMeasured()
    """What was measured."""
    source: ServedSource = ServedSource()
    """Where it was published."""
    note: Words = ""
    """Anything a reader should know of the run."""
    suspect: Free = None
    """Why the run breaks a physical bound or its own table: it is neither fitted nor scored."""
    collection: str = ""
    """The file that it stands in, which is the unit that cross-validation leaves out; the file's name is taken."""

    @property
    def told(self) -> dict[str, float]:
        """What was measured of that with which predictions are compared, by its name."""
        values = {name: getattr(self.measured, name) for name in METRICS}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def is_suspect(self) -> bool:
        """Whether it is neither fitted nor scored."""
        return (self.suspect or "").strip().lower() not in ("", "false", "no", "none")

    @model_validator(mode="after")
    def _asked_in_one_way(self) -> Self:
        ways = [name for name in ("batch", "concurrency", "request_rate") if getattr(self.load, name) is not None]
        if len(ways) > 1:
            raise ValueError(f"load has {' and '.join(ways)}; give one of them")  # pydantic makes a sentence of it
        return self
