"""What of a model a run trains: all of it, adapters beside it, virtual tokens or its head; and how the rest is held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, field_validator

from hardware.errors import InputError, shown
from hardware.fields import Also, Unit
from hardware.sheet import NO_FLAG, Sheet
from simulator.formulas.typing import Num
from simulator.specs.choices import BasePrecision, Trained
from simulator.specs.columns import Columns
from simulator.specs.model import Model

_USUAL_RANK, _USUAL_TOKENS = 16, 20
_FOUR_BITS = ("int4", "4bit", "4-bit", "fp4", "qlora")
"""What people write for weights in 4 bits."""
_OF_ADAPTERS = ("lora_rank", "lora_targets", "lora_dropout", "dora")
_VIRTUAL = ("prompt", "prefix")
_QUERIES, _FEED_FORWARD = ("query", "key", "value"), ("gate", "up", "down")
MATRICES = (*_QUERIES, "output", *_FEED_FORWARD)
"""Matrices of a layer that can have an adapter: those of attention, of a gate and into and out of the wide part."""
LATENTS = ("query_latent", "query_heads", "key_value_latent", "key_value_heads")
"""Those of latent attention instead of queries, keys and values: into a latent, and out of it to all heads."""
TARGETS: dict[str, tuple[str, ...]] = {
    "all-linear": (*MATRICES, *LATENTS),
    "attention": (*_QUERIES, "output", *LATENTS),
    "feed-forward": _FEED_FORWARD,
    **{name: (name,) for name in (*MATRICES, *LATENTS)},
    **dict.fromkeys(("q_a_proj", "linear_q_down_proj"), ("query_latent",)),
    **dict.fromkeys(("q_b_proj", "linear_q_up_proj"), ("query_heads",)),
    **dict.fromkeys(("kv_a_proj_with_mqa", "linear_kv_down_proj"), ("key_value_latent",)),
    **dict.fromkeys(("kv_b_proj", "linear_kv_up_proj"), ("key_value_heads",)),
    **dict.fromkeys(("qkv", "qkv_proj", "linear_qkv", "query_key_value", "c_attn"), _QUERIES),
    **dict.fromkeys(("q_proj", "q"), ("query",)),
    **dict.fromkeys(("k_proj", "k"), ("key",)),
    **dict.fromkeys(("v_proj", "v"), ("value",)),
    **dict.fromkeys(("o_proj", "o", "out_proj", "linear_proj"), ("output",)),
    "gate_proj": ("gate",),
    "up_proj": ("up",),
    **dict.fromkeys(("gate_up_proj", "linear_fc1", "fc1", "dense_h_to_4h", "wi"), ("gate", "up")),
    **dict.fromkeys(("down_proj", "linear_fc2", "fc2", "dense_4h_to_h", "wo"), ("down",)),
}
"""Names of targets, as PEFT, Megatron and the models' own modules have them, and the matrices that each means."""


@dataclass(frozen=True)
class _Format:
    """How a quantised weight is held."""

    weight_bytes: float
    """Of its elements [B]."""
    scale_bytes: float
    """Of the scale of a block [B]."""
    block: float
    """Elements that share a scale; 0 for a row of the matrix [element]."""


_FORMATS: dict[BasePrecision | None, _Format] = {
    None: _Format(0.0, 0.0, 0.0),
    "fp8": _Format(1.0, 0.0, 1.0),
    "int8": _Format(1.0, 4.0, 0.0),
    "nf4": _Format(0.5, 4.0, 64.0),
    "nf4-double": _Format(0.5, 1.0 + 4.0 / 256.0, 64.0),
}
"""Scales in fp32 of blocks of 64 (Dettmers et al., QLoRA, arXiv 2305.14314, section 3: 0.5 bits a parameter), which
double quantisation holds in 8 bits with a second scale for 256 of them (0.127 bits); of int8 one for each row
(Dettmers et al., LLM.int8(), arXiv 2208.07339; `MatMul8bitLt` and `quantize_4bit` of bitsandbytes 0.45)."""


class Tuning(Sheet):
    """What of the model is trained, and how the rest is held."""

    train: Trained | None = None
    """What is trained: the full model, adapters beside frozen weights (lora), embeddings of virtual tokens before each
    sequence (prompt), keys and values of virtual tokens in each layer (prefix), or the head alone; full unless an
    adapter is given."""
    lora_rank: Annotated[int, Field(ge=1, le=1_000_000), NO_FLAG, Unit("1")] | None = None
    """Rank of the adapters; 16 unless given."""
    lora_targets: Annotated[tuple[str, ...] | None, Also(str, "names with commas, such as q_proj,v_proj")] = None
    """Matrices with an adapter: all-linear (all but head and routers), attention, feed-forward, or names of modules
    such as q_proj; all-linear unless given."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1), NO_FLAG, Unit("1")] | None = None
    """Probability of dropping an element of an adapter's input; none unless given. Each adapter then keeps an input of
    its own."""
    dora: bool | None = None
    """Whether adapters change the direction of weights alone, with a trained magnitude for each output (DoRA); no
    unless given."""
    virtual_tokens: Annotated[int, Field(ge=1, le=1_000_000), NO_FLAG, Unit("token")] | None = None
    """Virtual tokens of a prompt or of a prefix; 20 unless given. Those of a prompt lengthen each sequence."""
    base_precision: BasePrecision | None = None
    """Format in which the linear layers of the frozen model are held: nf4, nf4 with scales quantised again
    (nf4-double), int8 or fp8; in 16 bits unless given. Each product first makes 16-bit weights of them, but of fp8
    where it takes fp8."""

    @field_validator("base_precision", mode="before")
    @classmethod
    def _of_four_bits(cls, value: object) -> object:
        if isinstance(value, str) and value.lower() in _FOUR_BITS:
            raise ValueError(f"{shown(value)}: weights in 4 bits are nf4 here, or nf4-double with quantised scales")
        return value

    @field_validator("lora_targets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        names: Any = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
        if names is None or not isinstance(names, list | tuple):
            return names
        for name in names:
            if str(name) not in TARGETS:
                raise ValueError(
                    f"unknown target {shown(name)}; valid: all-linear, attention, feed-forward, or modules such as "
                    "q_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
                )
        if not names:
            raise ValueError("name at least one target, such as all-linear")
        return tuple(names)

    def tuned(self, model: Model) -> dict[str, Any]:
        """What is left open of it, filled.

        Raises
        ------
        InputError
            Where something is given that what is trained has no use for, or that the model cannot have.
        """
        of_adapters = [name for name in _OF_ADAPTERS if getattr(self, name) is not None]
        trained = self.train or ("lora" if of_adapters or self.base_precision else "full")
        self._check_belonging(trained)
        if self.base_precision is not None and trained == "full":
            raise InputError(
                f"base_precision={self.base_precision} holds weights that no optimizer can update, and train=full "
                "updates all; train=lora, prompt, prefix or head, or leave it out",
                fields=["workload.base_precision", "workload.train"],
            )
        if trained == "full":
            return {}
        self._check_frozen(model, trained)
        if trained in _VIRTUAL:
            return {"train": trained, "virtual_tokens": self.virtual_tokens or _USUAL_TOKENS}
        if trained == "head":
            return {"train": "head"}
        return {
            "train": "lora",
            "lora_rank": self.lora_rank or min(_USUAL_RANK, _most_rank(model, self._matrices)),
            "lora_targets": self.lora_targets or ("all-linear",),
            "lora_dropout": self.lora_dropout or 0.0,
            "dora": bool(self.dora),
        }

    def _check_belonging(self, trained: Trained) -> None:
        """Refuse what is said of adapters or of virtual tokens where none are trained."""
        for name, trains in (*((each, ("lora",)) for each in _OF_ADAPTERS), ("virtual_tokens", _VIRTUAL)):
            if getattr(self, name) is not None and trained not in trains:
                raise InputError(
                    f"{name}={self._written(name)} belongs to train={' or '.join(trains)}, not to train={trained}; "
                    "leave one out",
                    fields=[f"workload.{name}", "workload.train"],
                )

    def _check_frozen(self, model: Model, trained: Trained) -> None:
        """Refuse adapters that are wider than what they stand beside, and heads and models that cannot be frozen."""
        if trained == "head" and model.tied_head and model.objective in ("causal", "mlm", "seq2seq"):
            raise InputError(
                f"train=head: the head of {model.id} is its table of words, which every token reads; train=lora, or "
                f"give a head of its own: {{base: {model.id}, tied_head: false}} or objective=classification",
                fields=["workload.train"],
            )
        relative = model.positions == "transformer-xl" or model.position_products
        if (trained in ("lora", *_VIRTUAL) and relative) or (trained == "prefix" and model.key_value_rank):
            what = "products of relative positions" if relative else "latent attention"
            kind = "adapters" if trained == "lora" else "virtual tokens"
            raise InputError(
                f"train={trained}: {kind} beside {what} of {model.id} cannot be counted; train=full or head",
                fields=["workload.train"],
            )
        if trained in _VIRTUAL:
            self._check_virtual(model, trained)
        if self.dora and model.experts > 1 and self._matrices & set(_FEED_FORWARD):
            raise InputError(
                f"dora: magnitudes of the experts of {model.id} cannot be counted; lora_targets=attention, or leave "
                "dora out",
                fields=["workload.dora", "workload.lora_targets"],
            )
        if trained == "lora" and not self._matrices & _widths(model).keys():
            raise InputError(
                f"lora_targets={self._written('lora_targets')}: {model.id} has none of them; valid: "
                f"{', '.join(_NAMES[name] for name in _widths(model))}, attention, feed-forward or all-linear",
                fields=["workload.lora_targets"],
            )
        most = _most_rank(model, self._matrices)
        if trained == "lora" and (self.lora_rank or 1) > most:
            raise InputError(
                f"lora_rank={self.lora_rank} exceeds {most}, the width of the narrowest matrix with an adapter of "
                f"{model.id}; valid: 1 to {most}",
                fields=["workload.lora_rank", "workload.lora_targets"],
            )

    def _check_virtual(self, model: Model, trained: Trained) -> None:
        """Refuse virtual tokens where models have no place for them, or packed documents no beginning."""
        why = None
        if getattr(self, "document_lengths", None) is not None:
            why = "virtual tokens stand before one document a sequence; leave document_lengths out"
        elif trained == "prompt" and model.embedding_size is not None:
            why = f"the words of {model.id} are narrower than its layers, which no virtual token is; train=lora or head"
        elif trained == "prefix" and model.decoder_layers is not None:
            why = f"prefixes of both towers of {model.id} cannot be counted; train=prompt or lora"
        if why is not None:
            raise InputError(f"train={trained}: {why}", fields=["workload.train", "workload.document_lengths"])

    def _written(self, name: str) -> str:
        """A field as somebody would write it."""
        value = getattr(self, name)
        if isinstance(value, bool):
            return "yes" if value else "no"
        return ",".join(value) if isinstance(value, tuple) else shown(value)

    @property
    def is_tuned(self) -> bool:
        """Whether most of the model is frozen, of a resolved workload."""
        return self.train not in (None, "full")

    @property
    def lengthening(self) -> int:
        """Virtual tokens before each sequence, of a resolved workload [token]."""
        return (self.virtual_tokens or 0) if self.train == "prompt" else 0

    @property
    def _matrices(self) -> frozenset[str]:
        """Matrices that have an adapter."""
        return frozenset(matrix for name in self.lora_targets or ("all-linear",) for matrix in TARGETS[name])

    def tunings(self) -> Tunings:
        """What is trained, as numbers, of a resolved workload."""
        trained, held = self.train or "full", _FORMATS[self.base_precision]
        matrices = self._matrices if trained == "lora" else frozenset()
        return Tunings(
            base=float(trained == "full"),
            flows=float(trained != "head"),
            head=float(trained in ("full", "head")),
            rank=float(self.lora_rank or 0) if trained == "lora" else 0.0,
            drops=float(bool(self.lora_dropout)),
            magnitudes=float(bool(self.dora)),
            prompt=float(self.lengthening),
            prefix=float(self.virtual_tokens or 0) if trained == "prefix" else 0.0,
            **{name: float(name in matrices) for name in (*MATRICES, *LATENTS)},
            weight_bytes=held.weight_bytes,
            scale_bytes=held.scale_bytes,
            scale_block=held.block,
        )


_NAMES = {
    **{name: f"{name[0]}_proj" for name in (*_QUERIES, "output")},
    **{name: f"{name}_proj" for name in _FEED_FORWARD},
    **dict(zip(LATENTS, ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"), strict=True)),
}
"""Names of modules of transformers, by matrix."""


def _widths(model: Model) -> dict[str, int]:
    """The narrower side of each matrix of a model's layers that can have an adapter, as far as they differ."""
    hidden, heads, head = model.hidden_size, model.attention_heads, model.width_of_head
    experts = model.expert_feed_forward_size or model.feed_forward_size if model.experts > 1 else None
    wide = min(model.feed_forward_size, experts or model.feed_forward_size)
    shared = {"output": min(hidden, heads * (model.value_head_size or head))}
    shared |= dict.fromkeys(_FEED_FORWARD, min(hidden, wide))
    if model.key_value_rank is None:
        width = model.kv_heads * head
        return {"query": min(hidden, heads * head), "key": min(hidden, width), "value": min(hidden, width), **shared}
    rank, turned = model.key_value_rank, model.rotary_head_size or 0
    values = heads * (head - turned + (model.value_head_size or head))
    latents = {"key_value_latent": min(hidden, rank + turned), "key_value_heads": min(rank, values), **shared}
    if model.query_rank is None:
        return {"query": min(hidden, heads * head), **latents}
    rank = model.query_rank
    return {"query_latent": min(hidden, rank), "query_heads": min(rank, heads * head), **latents}


def _most_rank(model: Model, matrices: frozenset[str]) -> int:
    """The narrower side of the narrowest matrix that has an adapter."""
    return min(width for name, width in _widths(model).items() if name in matrices)


@dataclass(frozen=True)
class Tunings(Columns):
    """What is trained, as numbers; flags are 0 or 1."""

    base: Num
    """Whether the weights of layers and embedding are trained."""
    flows: Num
    """Whether gradients flow back through the layers."""
    head: Num
    """Whether the vocabulary head and what leads to it are trained; heads of classes always are."""
    rank: Num
    """Of the adapters; 0 without any [1]."""
    drops: Num
    """Whether adapters drop elements of their input."""
    magnitudes: Num
    """Whether adapters have trained magnitudes beside (DoRA)."""
    prompt: Num
    """Virtual tokens before each sequence, among its length [token]."""
    prefix: Num
    """Virtual tokens of which each layer has keys and values [token]."""
    query: Num
    """Whether the projection of queries has an adapter, and so on."""
    key: Num
    value: Num
    output: Num
    gate: Num
    up: Num
    down: Num
    query_latent: Num
    """Whether the projection into the latent of queries has an adapter, and so on."""
    query_heads: Num
    key_value_latent: Num
    key_value_heads: Num
    weight_bytes: Num
    """Of an element of a quantised weight; 0 where none is quantised [B]."""
    scale_bytes: Num
    """Of the scale of a block of them [B]."""
    scale_block: Num
    """Elements of a block; 0 for a row [element]."""
