"""The software that runs a step: what it fuses, launches, overlaps and keeps, and what it does unless told."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from pydantic import Field

from hardware.classes import Precision
from hardware.fields import Unit
from hardware.quantity import Bytes, BytesOrNone, Seconds
from hardware.sheet import NO_FLAG, Name, NotNegative, Ratio, Sheet, Words
from hardware.spec import Device
from simulator.formulas.typing import Num
from simulator.specs.capabilities.sheet import PRECISIONS, Capabilities
from simulator.specs.choices import AttentionKernel, Fp8Scaling, Optimizer, Recompute, Sharding
from simulator.specs.columns import Columns

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), NO_FLAG, Unit("1")]


class Defaults(Sheet):
    """What a plan is under this stack where the user leaves it open."""

    precision: Precision
    """Number format of matrix products."""
    fp8_scaling: Fp8Scaling = "delayed"
    """What shares a scale under fp8: a tensor, by numbers of before (delayed) or of now (current), or a block of it."""
    sharding: Sharding = "none"
    """What replicas share: nothing, optimizer states (zero1), gradients too (zero2), parameters too (zero3), or all of
    it inside groups (hybrid)."""
    when_large: tuple[Sharding, ...] = ()
    """What replicas share instead of it where a model is too large for that, which users of the stack try before they
    split layers over ranks."""
    recompute: Recompute = "none"
    """What the backward pass computes again instead of keeping: nothing, attention (selective), or layers (full)."""
    sequence_parallel: bool = False
    """Whether tensor-parallel ranks also share the tokens of normalisations and dropouts."""
    optimizer: Optimizer = "adamw"
    """Optimizer."""
    parameters_in_fp32: bool = False
    """Whether the model holds its parameters in fp32 and casts them for each product (autocast)."""
    gradients_in_fp32: bool = False
    """Whether gradients are kept and summed in fp32."""
    fp32_gradients_of: tuple[Precision, ...] = PRECISIONS
    """Precisions under which they are, where they are."""
    reduction_in_fp32: bool | None = None
    """Whether gradients travel in fp32; as they are stored unless given."""
    master_weights: bool = True
    """Whether the optimizer holds an fp32 copy of 16-bit parameters."""


class Overlap(Sheet):
    """Share of the compute beside it that communication can hide behind."""

    gradients: Share = 0.0
    """Reduction of gradients, behind the backward pass."""
    parameters: Share = 0.0
    """Gathering of sharded parameters, behind forward and backward pass."""
    tensor: Share = 0.0
    """Exchange of tensor parallelism: share of its own time that may hide behind the products of its layer."""
    tensor_across_nodes: Share | None = None
    """The same where the ranks do not share a node; as inside of one unless given."""
    pipeline: Share = 0.0
    """Transfers between stages: share of their own time that is hidden."""
    context: Share = 1.0
    """Ring of context parallelism: share of the attention of a part that the next one may arrive behind."""
    experts: Share = 0.0
    """All-to-all of experts: share of its own time that may hide behind the compute of its layer."""
    experts_slow: Share = 0.0
    """Share of a device's compute that this all-to-all takes for itself while it is hidden: its kernels' processors."""


class Stack(Sheet):
    """A training framework with its kernels."""

    id: Name
    """The word that names the stack."""
    name: Words
    """Name in full."""
    family: Name = "other"
    """Stacks of one family share code and habits; a fit lets them share what it learns."""
    timed_as: Name | None = None
    """The stack whose fitted constants it shares: another release of the same software, or the nearest kin of software
    that no run was fitted for by name."""
    public: bool = True
    """Whether others can have it; what is not is used where somebody names it."""
    platform: Literal["gpu", "tpu", "cpu"]
    """Kind of device that it runs on."""
    vendor: Words | None = None
    """Maker of the devices that it is for, as their files write it; any unless given."""
    axes: tuple[Literal["dp", "tp", "pp", "cp", "ep"], ...]
    """Kinds of parallelism that it offers."""
    attention: AttentionKernel
    """Whether attention writes its scores to memory, or is one kernel (FlashAttention), unless the plan says."""
    unfused_families: tuple[Name, ...] = ()
    """Families of models whose attention it writes to memory all the same: it has no fused kernel for them."""
    attention_efficiency: Ratio = 1.0
    """Rate of its attention kernel over the device class's."""
    portable_attention: bool = False
    """Whether its attention kernel was written for the generation before Hopper (FlashAttention-2)."""
    eager: Annotated[NotNegative, Unit("1")] = 1.0
    """How much of the memory traffic and of the kernels that fusion avoids is nevertheless done: 0 fused, 1 eager."""
    fused_softmax: bool = False
    """Whether scaling, mask and softmax of unfused attention are one kernel, however eager the rest is."""
    loss_passes: Annotated[NotNegative, Unit("pass")] = 5.0
    """Times that logits cross memory in fp32 beside those of a fused cross-entropy, forward and backward."""
    fused_qkv: bool = True
    """Whether queries, keys and values are one product instead of three."""
    launch: Seconds
    """Host time of one kernel launch."""
    step_overhead: Seconds = 0.0
    """Host time of a step beside launches: data, logging, loss scaling."""
    overlap: Overlap = Overlap()
    """What communication hides behind compute."""
    reduction_efficiency: Ratio = 1.0
    """Rate of its reduction of gradients over that of the collective alone: buckets, copies, coordination of ranks."""
    reduces_each_micro_batch: bool = False
    """Whether gradients are reduced after every micro-batch instead of once a step."""
    sends_once: bool = False
    """Whether a token crosses to a node once, however many of its experts live there."""
    narrow_dispatch: bool = False
    """Whether tokens, and the gradients of what experts return, go to experts in 8 bits where products are in 8 bits;
    what comes back is in 16."""
    expert_products: Literal["grouped", "streamed", "looped"] = "grouped"
    """How products of several experts are launched: in one kernel, one by one on four streams, or one by one."""
    expert_padding: Annotated[int, Field(ge=1, le=4096), NO_FLAG, Unit("token")] = 1
    """Multiple that the tokens of each expert are filled up to."""
    narrow_expert_padding: Annotated[int, Field(ge=1, le=4096), NO_FLAG, Unit("token")] = 1
    """The same where products are in 8 bits; from 2 on tokens are copied for it, there and back."""
    capacity_factor: Annotated[NotNegative, Unit("1")] = 0.0
    """Tokens that an expert takes, and is filled up to, over the mean, unless the workload says it; 0 drops none."""
    gathers_each_pass: bool = True
    """Whether fully sharded parameters are gathered again for the backward pass."""
    pads_shards: bool = False
    """Whether tokens are shared among ranks that do not divide them."""
    regathers_inputs: bool = True
    """Whether sequence parallelism keeps only a rank's share of a product's input and gathers it again."""
    head_positions: Literal["masked", "all"] = "masked"
    """Whether the vocabulary head of masked-language modelling runs on the masked positions or on all."""
    unpads: bool = False
    """Whether padding is taken out before the model runs."""
    skips_documents: bool = True
    """Whether fused attention leaves out pairs of tokens of different documents, as kernels of variable lengths do,
    instead of computing and masking them."""
    drops_unused_recompute: bool = False
    """Whether the compiler leaves out of a recomputation the products whose result the backward pass does not need."""
    optimizer_passes: Ratio = 1.0
    """Memory traffic of the optimizer over that of one fused kernel."""
    optimizer_kernels: Annotated[NotNegative, Unit("kernel")] = 4.0
    """Kernels of an optimizer step for each layer: few where tensors are updated together, hundreds where not."""
    flat_shards: bool = False
    """Whether replicas share optimizer states as one flat buffer, in which a matrix has no rows. Unless so, those that
    share states alone own whole tensors, and those that share gradients or parameters have rows of each."""
    splits_master_weights: bool = False
    """Whether Adam with moments in bf16 or fp8 keeps of a master copy only the bits that a bf16 parameter lacks."""
    wide_table_states: bool = False
    """Whether states of tables of words, positions and types stay in fp32 where others are in 8 bits."""
    autocast: bool = False
    """Whether, where the model holds fp32 and computes in 16 bits, residual stream, normalisations and softmax stay in
    fp32 and every weight is kept in 16 bits besides (torch.autocast)."""
    activation_copies: Annotated[NotNegative, Unit("copy")] = 0.0
    """Tensors as wide as the feed-forward layer that its activation function keeps beside its input where it is written
    in single operations: both factors of its product instead of the input alone."""
    norm_copies: Annotated[NotNegative, Unit("copy")] = 0.0
    """Tensors as wide as the model that a normalisation keeps beside its input where it is written in single
    operations: the inverse deviation times the scale."""
    wide_masks: bool = False
    """Whether masks of dropouts are numbers of the format of what they drop, instead of bytes."""
    fused_gate: bool = False
    """Whether activation and product of a gated feed-forward layer are one kernel, which keeps its two inputs only."""
    expert_weights: Literal["outputs", "activations"] = "outputs"
    """What a router's weights scale: what experts return, which is then kept for the gradient of the weights, or what
    their activation functions return, which is not where a fused gate makes it again."""
    casts_repeated_inputs: bool = False
    """Whether activation functions of experts that are recomputed keep what they read in fp8 too where a plan has
    activation_inputs_in_fp8; else recomputation keeps it as it is."""
    attention_output_bytes: Annotated[NotNegative, Unit("B")] = 2.0
    """Bytes of an element of what fused attention returns that its backward pass keeps where the product behind it
    keeps a copy in fewer than 16 bits."""
    joint_adapters: bool = False
    """Whether one adapter serves all matrices that read one input, of queries, keys and values and of a gate, instead
    of one each."""
    shares_checkpoints: bool = False
    """Whether tensor-parallel ranks share the layer inputs that full recomputation keeps, also where each works on all
    tokens."""
    keeps_16_bit_gradients: bool = False
    """Whether gradients in 16 bits stay until a backward pass ends, beside the fp32 sums that they are added to."""
    narrow_weight_bytes: Annotated[NotNegative, Unit("B")] = 2.0
    """Bytes of the copies in 8 bits that it keeps of a weight under fp8: one as it is and one transposed [B]."""
    fuses_casts: bool = False
    """Whether normalisations and activation functions, and the gradient of the latter, return 8 bits where a product
    reads them so."""
    delays_head: bool = True
    """Whether zero-bubble schedules leave weight gradients of the head for a gap, as those of torch do; its logits
    stay until then."""
    balances_head: bool = False
    """Whether stages of a pipeline are cut by arithmetic, the head's with it, instead of into equal numbers of
    layers."""
    keeps_logits: bool = True
    """Whether all logits exist at once; not so where the loss is computed from hidden states piece by piece."""
    logit_copies: Annotated[NotNegative, Unit("copy")] = 2.0
    """Copies of the logits in fp32 that exist beside the kept one while the loss runs backward."""
    optimizer_copies: Annotated[NotNegative, Unit("copy")] = 0.0
    """Copies in fp32 that an optimizer step makes of what it updates: gradients cast, results between kernels."""
    early_optimizer_copies: Annotated[NotNegative, Unit("copy")] = 0.0
    """Copies in fp32 of what the optimizer updates that exist from the beginning of a step: products that wait for no
    gradient, such as decayed moments, where a graph runs each operation as soon as its inputs are there."""
    frees_gradients: bool = False
    """Whether gradients exist only from the backward pass of their layer to the update, in the place of activations
    that it frees, while they are not summed over micro-batches."""
    keeps_ends_gathered: bool = False
    """Whether embedding and head, and the gradients of both, stay whole from their forward to their backward pass under
    full sharding."""
    live_parameters: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False), NO_FLAG, Unit("parameter")] = 0.0
    """Parameters that stay gathered for a while after use under full sharding, as far as the model has them."""
    communication_buffers: BytesOrNone = 0.0
    """Buckets through which gradients are reduced and parameters gathered, held for the whole run."""
    runtime_memory: Bytes
    """What driver, runtime and libraries hold on a device."""
    fragmentation: Share = 0.05
    """Share of allocated memory that the allocator reserves beyond it."""
    defaults: Defaults
    """What a plan is under this stack where the user leaves it open."""
    offers: Capabilities = Capabilities()
    """What it can run beside its axes; what it lacks is refused with it, and recommended by no search."""
    source: Words
    """Where the constants come from, in words."""
    seen: Literal["primary", "secondary", "derived", "recalled"]
    """How they were seen: in the author's own text, in a quotation of it, by arithmetic, or from memory only."""
    note: Words | None = None
    """Anything a reader should know of the stack."""

    def runs_on(self, device: Device) -> bool:
        """Whether it is for a device."""
        return self.platform == device.kind and self.vendor in (None, device.vendor)

    def attention_of(self, family: str | None) -> AttentionKernel:
        """How it computes attention of a family of models, unless told."""
        return "unfused" if family in self.unfused_families else self.attention

    def columns(self) -> Stacks:
        """The stack as numbers."""
        overlap = dict(self.overlap)
        across, slowing = overlap.pop("tensor_across_nodes"), overlap.pop("experts_slow")
        derived = {
            "tensor_overlap_across": self.overlap.tensor if across is None else across,
            "one_tensor_overlap": float(across is None),
            "all_positions": float(self.head_positions == "all"),
            "expert_slowing": slowing,
            "deals_heads": float(self.offers.context[:1] == ("ulysses",)),
            "weighs_activations": float(self.expert_weights == "activations"),
            "experts_at_once": _AT_ONCE[self.expert_products],
            **{f"{_OVERLAPS.get(name, name)}_overlap": share for name, share in overlap.items()},
        }
        plain = {field.name: float(getattr(self, field.name)) for field in fields(Stacks) if field.name not in derived}
        return Stacks(**plain, **derived)


IN_ONE_KERNEL = 1e6
"""Products of experts at the same time where all are in one kernel: more than any device holds."""
_AT_ONCE = {"grouped": IN_ONE_KERNEL, "streamed": 4.0, "looped": 1.0}
"""Products of experts that run at the same time; Transformer Engine 2.x has four streams (util/multi_stream.cpp)."""
_OVERLAPS = {"gradients": "gradient", "parameters": "parameter", "experts": "expert"}
"""Kinds of overlap whose column has another name."""


@dataclass(frozen=True)
class Stacks(Columns):
    """Stacks as numbers; flags are 0 or 1."""

    attention_efficiency: Num
    portable_attention: Num
    eager: Num
    fused_softmax: Num
    loss_passes: Num
    fused_qkv: Num
    launch: Num
    step_overhead: Num
    gradient_overlap: Num
    parameter_overlap: Num
    tensor_overlap: Num
    tensor_overlap_across: Num
    one_tensor_overlap: Num
    """1 where what hides inside of a node hides between nodes too."""
    pipeline_overlap: Num
    context_overlap: Num
    deals_heads: Num
    """1 where ranks that share a sequence attend for some heads each (Ulysses), 0 where keys go around them."""
    expert_overlap: Num
    expert_slowing: Num
    reduction_efficiency: Num
    reduces_each_micro_batch: Num
    sends_once: Num
    narrow_dispatch: Num
    experts_at_once: Num
    expert_padding: Num
    narrow_expert_padding: Num
    capacity_factor: Num
    gathers_each_pass: Num
    regathers_inputs: Num
    pads_shards: Num
    all_positions: Num
    unpads: Num
    skips_documents: Num
    drops_unused_recompute: Num
    optimizer_passes: Num
    optimizer_kernels: Num
    flat_shards: Num
    splits_master_weights: Num
    wide_table_states: Num
    autocast: Num
    activation_copies: Num
    norm_copies: Num
    wide_masks: Num
    fused_gate: Num
    weighs_activations: Num
    """1 where a router's weights scale what activation functions of experts return, 0 where what experts return."""
    casts_repeated_inputs: Num
    attention_output_bytes: Num
    joint_adapters: Num
    shares_checkpoints: Num
    keeps_16_bit_gradients: Num
    narrow_weight_bytes: Num
    fuses_casts: Num
    delays_head: Num
    balances_head: Num
    keeps_logits: Num
    logit_copies: Num
    optimizer_copies: Num
    early_optimizer_copies: Num
    frees_gradients: Num
    keeps_ends_gathered: Num
    live_parameters: Num
    communication_buffers: Num
    runtime_memory: Num
    fragmentation: Num
