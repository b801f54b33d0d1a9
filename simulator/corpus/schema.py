"""The schema of published runs: what a source may tell of one, in its own words where there is no other way."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hardware.fields import Unit

NOT_GIVEN = re.compile(
    r"\s*(?:|-+|\?|n/?a|none|null|unknown|unstated|tbd|todo|not (?:re)?(?:stated|published|given|known)\b.*)\s*"
)
"""Words for a number or a flag that was not published."""
_YES = ("true", "yes", "on", "1", "1.0")
_NO = ("false", "no", "off", "0", "0.0")


def _as_words(value: Any) -> Any:
    """A flag or a number where words are usual, as words."""
    return str(value) if isinstance(value, bool | int | float) else value


def _not_given(value: Any) -> bool:
    """Whether a value says that there is none."""
    return isinstance(value, str) and NOT_GIVEN.fullmatch(value.lower()) is not None


def _as_count(value: Any) -> Any:
    """A number, or nothing where words or a zero say that there is none: no quantity of a run is zero."""
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic turns only this into a sentence
    return None if _not_given(value) or (isinstance(value, int | float) and value == 0) else value


def _as_flag(value: Any) -> Any:
    """A flag, also where it is written in words."""
    if _not_given(value):
        return None
    words = str(value).strip().lower() if isinstance(value, str | int | float) else value
    return True if words in _YES else False if words in _NO else value


def _as_number(value: Any) -> Any:
    """A number as one, also where it is written as words."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return value
    except OverflowError:
        raise ValueError("must be a number of fewer digits") from None


Words = Annotated[str, BeforeValidator(_as_words)]
"""Words, also where they look like a number."""
Free = Annotated[str | None, BeforeValidator(_as_words)]
"""Words of the source, in no fixed vocabulary."""
Given = Annotated[Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, BeforeValidator(_as_count)]
"""A number, where it was published."""
Duration = Annotated[Annotated[float, Field(ge=1e-9, le=1e9)] | None, BeforeValidator(_as_count), Unit("s")]
"""A time that a step may take [s]."""
Layers = Annotated[Given, Unit("layer")]
Heads = Annotated[Given, Unit("head")]
Width = Annotated[Given, Unit("element")]
Tokens = Annotated[Given, Unit("token")]
Sequences = Annotated[Given, Unit("sequence")]
Devices = Annotated[Given, Unit("device")]
Ranks = Annotated[Given, Unit("rank")]
Stages = Annotated[Given, Unit("stage")]
Ratio = Annotated[Given, Unit("1")]
Flag = Annotated[bool | None, BeforeValidator(_as_flag)]
"""A flag, where it was published."""
NumberOrWords = Annotated[float | str | None, BeforeValidator(_as_number)]
"""A number where one was published, or words."""


class RunPart(BaseModel):
    """A part of a run; unknown keys are kept, and reported."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, value: Any) -> Any:
        """Leave out what was not published."""
        return {name: part for name, part in value.items() if part is not None} if isinstance(value, dict) else value


class RunModel(RunPart):
    """The architecture, as far as it was published; what is not is filled from the name and the family."""

    name: Words = ""
    """Name of the model, in the source's spelling."""
    family: Words = "gpt"
    """Models of one family share their form, such as bert, gpt, llama or palm."""
    layers: Layers = None
    """Transformer layers."""
    hidden: Width = None
    """Width of the residual stream."""
    heads: Heads = None
    """Query heads of a layer."""
    kv_heads: Heads = None
    """Key and value heads of a layer."""
    head_dim: Width = None
    """Width of one attention head."""
    ffn: Width = None
    """Width of the feed-forward layer."""
    ffn_gated: Flag = None
    """Whether the feed-forward layer is gated (SwiGLU)."""
    vocab: Annotated[Given, Unit("row")] = None
    """Rows of the embedding table."""
    seq_len: Tokens = None
    """Tokens of a sequence."""
    params_b: Annotated[Given, Unit("1e9 parameter")] = None
    """Parameters as published."""
    computed_params_b: Annotated[Given, Unit("1e9 parameter")] = None
    """Parameters as whoever collected the run computed them from the sizes."""
    tied_embeddings: Flag = None
    """Whether the vocabulary head uses the embedding table."""
    learned_positions: Flag = None
    """Whether positions are a learned table."""
    encoder_layers: Layers = None
    """Layers of the encoder of an encoder-decoder; as layers unless given."""
    decoder_layers: Layers = None
    """Layers of the decoder of an encoder-decoder; as layers unless given."""
    target_len: Tokens = None
    """Tokens of a target sequence of an encoder-decoder."""
    experts: Annotated[Given, Unit("expert")] = None
    """Experts of a layer that has them."""
    experts_per_token: Annotated[Given, Unit("expert")] = None
    """Experts that a token is routed to."""
    shared: Annotated[Given, Unit("expert")] = None
    """Experts that every token passes."""
    moe_ffn: Width = None
    """Width of one expert; ffn unless given."""
    dense_ffn: Width = None
    """Width of the feed-forward layers that have no experts; ffn unless given."""
    moe_every: Layers = None
    """Every how many layers one has experts."""
    first_dense: Layers = None
    """Layers at the beginning without experts."""
    sliding_window: Tokens = None
    """Tokens that attention looks back on; all unless given."""
    mla: Free = None
    """Sizes of latent attention, in words; such a run is refused."""


class RunHardware(RunPart):
    """What it ran on; the two kinds of link are free words."""

    device: Words = ""
    """Name of the device, in the source's spelling."""
    devices: Devices = None
    """Number of devices; of TPU always chips."""
    devices_per_node: Devices = None
    """Devices of one node."""
    intra: Free = None
    """What joins the devices of a node, in words, such as "NVLink, NVSwitch"."""
    inter: Free = None
    """What joins the nodes, in words, such as "8x 400 Gb/s InfiniBand"."""
    slices: Annotated[Given, Unit("slice")] = None
    """Number of TPU slices that the data-centre network joins."""
    chips_per_slice: Devices = None
    """Chips of one TPU slice."""
    form_factor_stated: Flag = None
    """Whether the source says which variant of the device it is."""


class RunPlan(RunPart):
    """How it was split, and by which software; what is not given is as the software's defaults have it."""

    framework: Free = None
    """The software, in words, with its version where it is known."""
    precision: Free = None
    """Number format of matrix products: fp32, tf32, fp16, bf16, fp8, or words that mean one."""
    global_batch: Sequences = None
    """Sequences of one optimizer step."""
    micro_batch: Sequences = None
    """Sequences of one forward pass of one replica."""
    dp: Ranks = None
    """Data-parallel replicas."""
    tp: Ranks = None
    """Tensor-parallel ranks."""
    pp: Stages = None
    """Pipeline stages."""
    vpp: Stages = None
    """Chunks of layers of one device in an interleaved pipeline."""
    cp: Ranks = None
    """Context-parallel ranks."""
    ep: Ranks = None
    """Expert-parallel ranks."""
    sequence_parallel: Flag = None
    """Whether tensor-parallel ranks also share the tokens of normalisations and dropouts."""
    sharding: Free = None
    """What replicas share: none, zero1, zero2, zero3 or fsdp, hsdp, or words that mean one of them."""
    recompute: Free = None
    """What the backward pass computes again: none, selective, full, or words that mean one of them."""
    flash_attention: Flag = None
    """Whether attention is one kernel."""
    optimizer: Free = None
    """Optimizer, such as adamw or lamb; "offload" in it means states in the host's memory."""
    grad_accum: Annotated[Given, Unit("micro-batch")] = None
    """Micro-batches of one replica in an optimizer step."""
    peft: Free = None
    """Adapters that were trained instead of the whole model: lora, or others, and such a run is refused."""
    lora_rank: Ratio = None
    """Rank of low-rank adapters."""
    lora_targets: Free = None
    """Matrices that had one, as a workload names them."""
    torch_compile: Free = None
    """Whether torch.compile was on, or its mode."""
    compiler: Free = None
    """Another compiler, in words."""
    quantization: Free = None
    """Quantisation of the parameters, in words; of other than frozen ones, such a run is refused."""
    remat_policy: Free = None
    """What is recomputed, in the words of JAX frameworks, where recompute is not given."""
    ici: Free = None
    """Degrees over the links of a TPU slice, such as fsdp=256."""
    dcn: Free = None
    """Degrees over the data-centre network between TPU slices."""
    zero1_group: Ranks = None
    """Ranks that share optimizer states under ZeRO-1; all replicas unless given."""
    amp: Free = None
    """Automatic mixed precision, in words."""


class Measured(RunPart):
    """What was measured; step_time_s is what predictions are compared with, memory_gb and oom where they are given."""

    step_time_s: Duration = None
    """Time of one optimizer step."""
    step_time_from: Free = None
    """What the step time was derived from, where it was not read."""
    tokens_per_s: Annotated[Given, Unit("token/s")] = None
    """Tokens of all devices together, padding included."""
    samples_per_s: Annotated[Given, Unit("sequence/s")] = None
    """Sequences of all devices together."""
    tflops_per_device: Annotated[Given, Unit("TFLOP/s")] = None
    """Arithmetic of one device, by the convention of the source; it is not compared."""
    flops_convention: Free = None
    """How the source counts that arithmetic, in words."""
    mfu: Ratio = None
    """Model FLOPs utilisation, by the convention of the source."""
    hfu: Ratio = None
    """Hardware FLOPs utilisation, by the convention of the source."""
    memory_gb: Annotated[Given, Unit("GiB")] = None
    """Memory of the fullest device, as tools print it."""
    time_to_train_s: Annotated[Given, Unit("s")] = None
    """Time of the whole run."""
    oom: Flag = None
    """Whether the run ended for want of memory."""
    step_std_s: Annotated[Given, Unit("s")] = None
    """Standard deviation of step times."""


class Extra(RunPart):
    """What only some sources tell."""

    effective_tokens_per_seq: Annotated[NumberOrWords, Unit("token")] = None
    """Mean number of real tokens of a padded sequence, or words such as "sorted by length"."""
    mlm_head_positions_per_seq: Annotated[NumberOrWords, Unit("position")] = None
    """Positions that the vocabulary head of masked-language modelling runs on, a share of the sequence such as "15 %",
    or all."""
    input_mode: Free = None
    """Whether sequences are padded, unpadded, packed or sorted by length."""
    expert_imbalance: Annotated[Given, Unit("1")] = None
    """Tokens of the busiest expert over the mean of all; 1 where balance was forced."""
    capacity_factor: Annotated[Given, Unit("1")] = None
    """Tokens that an expert took, and was filled up to, over the mean, where more were dropped."""
    container: Free = None
    """Image or release of the software, such as 20.06."""


class RunSource(RunPart):
    """Where it was published."""

    title: Words = ""
    """Title of the source."""
    where: Words = ""
    """Table, figure, address or file inside it."""
    seen: Words = "unstated"
    """How it was seen: primary, secondary or recalled."""


class Run(RunPart):
    """One published or locally measured run."""

    id: Words
    """The word that names the run; unique among all runs that are read together."""
    task: Words = "pretrain"
    """What ran: pretrain, finetune, train_step or forward; a forward pass is refused."""
    model: RunModel
    """The architecture."""
    hardware: RunHardware
    """What it ran on."""
    plan: RunPlan = RunPlan()
    """How it was split, and by which software."""
    measured: Measured = Measured()
    """What was measured."""
    source: RunSource = RunSource()
    """Where it was published."""
    extra: Extra = Extra()
    """What only some sources tell."""
    note: Words = ""
    """Anything a reader should know of the run."""
    suspect: Free = None
    """Why the run contradicts itself or its neighbours: it is priced, but scored apart and never fitted."""
    collection: str = ""
    """The file that it stands in, which is the unit that cross-validation leaves out; the file's name is taken."""

    @model_validator(mode="after")
    def _with_step_time(self) -> Self:
        if self.measured.step_time_s is None and (implied := self._implied_step()) is not None:
            seconds, source = implied
            known = self.measured.model_copy(update={"step_time_s": seconds, "step_time_from": source})
            object.__setattr__(self, "measured", known)
        return self

    def _implied_step(self) -> tuple[float, str] | None:
        """The time of a step that follows from a rate and the batch, where both are published, and from what [s]."""
        plan, measured = self.plan, self.measured
        inner = (plan.tp or 1.0) * (plan.pp or 1.0) * (plan.cp or 1.0)
        replicas = plan.dp or (self.hardware.devices / inner if self.hardware.devices else None)
        batch = plan.global_batch
        if batch is None and plan.micro_batch and plan.grad_accum and replicas:
            batch = plan.micro_batch * plan.grad_accum * replicas
        if batch is None or measured.oom:
            return None
        tokens = measured.tokens_per_s / self.model.seq_len if measured.tokens_per_s and self.model.seq_len else None
        rate = measured.samples_per_s or tokens
        name = "samples_per_s" if measured.samples_per_s else "tokens_per_s"
        return (batch / rate, f"the batch over {name}") if rate and 1e-9 <= batch / rate <= 1e9 else None
