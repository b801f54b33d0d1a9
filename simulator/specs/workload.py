"""What is trained on: sequence lengths, batch, and how much of it in total."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from hardware.errors import InputError
from hardware.fields import Unit
from hardware.sheet import NO_FLAG
from simulator.formulas import flops
from simulator.formulas.typing import Num
from simulator.specs.columns import Columns
from simulator.specs.model import Model, Size, Tokens
from simulator.specs.training.documents import Document, Packing
from simulator.specs.training.guidance import PAIR, FrozenModel, Guidance
from simulator.specs.training.tuning import Tuning, Tunings

TOKENS_PRICED = 1e9
"""Tokens whose time and cost are told where nothing says how long a run is [token]."""
Amount = Annotated[float, Field(ge=1, le=1e18, allow_inf_nan=False), NO_FLAG, Unit("token")]


_TUNED_LENGTH, _TUNED_SAMPLES = 2048, 64
"""Tokens of a sequence and samples of a step of fine-tuning, of 8 devices that accumulate 8 samples each: 2,048 tokens
and 1 x 8 samples a device in LLaMA-Factory (hiyouga/LLaMA-Factory examples/train_lora/qwen3_lora_sft.yaml at 77e7f47d),
4,096 and 2 x 4 in axolotl (axolotl-ai-cloud/axolotl examples/llama-3/lora-8b.yml at 107c67ae), 2,048 in PEFT
(huggingface/peft examples/sft/run_peft_deepspeed.sh at 1715e065)."""
_UNDER_A_LOSS, _MEASURED = 1.52, 64.0
"""Tokens of the busiest expert over the mean, of a 3B mixture of 64 experts trained with an auxiliary loss: MaxVio 0.52
(0.72 at 1B), Wang et al., arXiv 2408.15664, table 2."""
_UNDER_A_BIAS = 1.04
"""The same with a bias per expert instead of the loss: MaxVio 0.04 at 1B and at 3B, table 2."""


class Workload(Guidance, Packing, Tuning):
    """The data of a training run; what is not given comes from the model's published training."""

    sequence_length: Tokens | None = None
    """Tokens of a sequence, padding included."""
    target_length: Tokens | None = None
    """Tokens of a target sequence, of encoder-decoder models."""
    effective_tokens: Annotated[float, Field(ge=1, le=10_000_000), NO_FLAG, Unit("token")] | None = None
    """Mean number of real tokens a sequence, where sequences are padded; all of them unless given."""
    predictions: Annotated[Size, Unit("position")] | None = None
    """Masked positions of a sequence that the head predicts; the model's mask rate unless given."""
    expert_imbalance: Annotated[float, Field(ge=1, le=10_000), NO_FLAG, Unit("1")] | None = None
    """Tokens of the busiest expert over the mean of all, of mixtures of experts: 1 where routing is balanced; as
    measured unless given: under an auxiliary loss 1.3 for 8 experts and 1.6 for 128, with a bias per expert 1.04."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1), NO_FLAG, Unit("1")] | None = None
    """Probability that a label gives to all classes alike; it costs a byte for each word that is predicted."""
    z_loss: Annotated[float, Field(ge=0, le=1), NO_FLAG, Unit("1")] | None = None
    """Weight of the squared logarithm of the softmax's sum in the loss; none unless given. Where the loss is single
    operations, the logits that it is of stay besides."""
    capacity_factor: Annotated[float, Field(ge=0, le=10_000), NO_FLAG, Unit("1")] | None = None
    """Tokens that an expert takes, and is filled up to, over the mean (GShard, Switch); more are dropped. 0 drops none;
    as the stack does unless given."""
    multi_token: bool | None = None
    """Whether modules that predict further tokens are trained too, of models that have them; so where the whole model
    is trained by software that has them."""
    global_batch: Annotated[Size, Unit("sequence")] | None = None
    """Sequences of one optimizer step."""
    tokens: Amount | None = None
    """Tokens of the whole run, padding included."""
    steps: Annotated[Size, Unit("step")] | None = None
    """Optimizer steps of the whole run; give this or tokens."""

    @model_validator(mode="after")
    def _one_total(self) -> Self:
        if self.tokens is not None and self.steps is not None:
            raise ValueError("tokens and steps say the same; give one of them")
        if self.effective_tokens and self.sequence_length and self.effective_tokens > self.sequence_length:
            raise ValueError(
                f"effective_tokens={self.effective_tokens:.15g} exceeds sequence_length={self.sequence_length}"
            )
        return self

    def resolve(self, model: Model) -> Workload:
        """Fill what is not given from the model's training.

        Raises
        ------
        InputError
            Where something is given that the model has no use for.
        """
        asked, training = self, model.training
        tuned = asked.tuned(model)
        longest, batch = asked._usual(model, fine_tuned=bool(tuned) or asked.preference is not None)
        sequence = asked.sequence_length or longest
        self._check(model, sequence)
        filled: dict[str, Any] = {
            "sequence_length": sequence,
            "global_batch": asked.global_batch or batch,
            "effective_tokens": asked.effective_tokens or sequence,
            **tuned,
        }
        if model.decoder_layers is not None:
            filled["target_length"] = asked.target_length or training.target_length or sequence
        if model.objective == "mlm":
            filled["predictions"] = asked.predictions or math.ceil(round(model.mask_rate * sequence, 6))
        if model.experts > 1:
            filled["expert_imbalance"] = asked.expert_imbalance or _usual_imbalance(model)
        guided, frozen = asked.guided(model, filled["global_batch"])
        trained_anew = filled.get("train", "full") == "full" and asked.preference is None and asked.teacher is None
        if asked.tokens is None and asked.steps is None and trained_anew:
            filled |= {"tokens": training.tokens, "steps": training.steps}
        resolved = asked.model_copy(update=filled | guided)
        resolved._frozen = frozen
        return resolved

    def _usual(self, model: Model, *, fine_tuned: bool) -> tuple[int, int]:
        """Length and number of sequences of a step where nobody says: of recipes, or of the published training."""
        training = model.training
        if not fine_tuned:
            return training.sequence_length, training.global_batch
        pair = PAIR if self.preference is not None else 1
        return min(_TUNED_LENGTH, training.sequence_length), _TUNED_SAMPLES * pair

    def _check(self, model: Model, sequence: int) -> None:
        """Refuse lengths that do not belong to the model or exceed its sequences."""
        if self.target_length is not None and model.decoder_layers is None:
            raise InputError(
                f"target_length={self.target_length} belongs to an encoder-decoder; {model.id} is {model.kind} only",
                fields=["workload.target_length"],
            )
        if self.predictions is not None and model.objective != "mlm":
            raise InputError(
                f"predictions={self.predictions} belongs to objective=mlm; {model.id} has objective={model.objective}",
                fields=["workload.predictions"],
            )
        self._check_loss(model)
        self._check_routing(model)
        self._check_further(model)
        self.check_documents(model)
        for name in ("effective_tokens", "predictions"):
            if (getattr(self, name) or 0) > sequence:
                raise InputError(
                    f"{name}={getattr(self, name):.15g} exceeds sequence_length={sequence}", fields=[f"workload.{name}"]
                )

    def _check_loss(self, model: Model) -> None:
        """Refuse a z-loss of models without words to predict."""
        if self.z_loss and model.objective not in ("causal", "mlm", "seq2seq"):
            raise InputError(
                f"z_loss={self.z_loss:.15g} belongs to the prediction of words; {model.id} has "
                f"objective={model.objective}",
                fields=["workload.z_loss"],
            )

    def _check_further(self, model: Model) -> None:
        """Refuse modules that predict further tokens where there are none, or where only a part of it is trained."""
        if not self.multi_token:
            return
        why = None
        if not model.multi_token_modules or model.objective != "causal":
            why = f"{model.id} has no modules that predict further tokens (multi_token_modules)"
        elif not self.trains_anew:
            why = "modules that predict further tokens are trained with the whole model, by the next tokens alone"
        if why is not None:
            raise InputError(f"multi_token=yes: {why}; leave it out", fields=["workload.multi_token"])

    def trains_further(self, model: Model) -> bool:
        """Whether modules that predict further tokens are usually trained, by software that has them."""
        return bool(model.multi_token_modules) and model.objective == "causal" and self.trains_anew

    @property
    def trains_anew(self) -> bool:
        """Whether the whole model is trained, and by nothing but its data."""
        tunes = self.train or ("lora" if self.base_precision or self.lora_rank or self.lora_targets else "full")
        return tunes == "full" and self.preference is None and self.teacher is None

    def _check_routing(self, model: Model) -> None:
        """Refuse what is said of experts that the model does not have, or cannot be of those that it has."""
        for name in ("expert_imbalance", "capacity_factor"):
            value = getattr(self, name)
            if value is not None and model.experts <= 1:
                raise InputError(
                    f"{name}={value:.15g} belongs to a mixture of experts; {model.id} is dense, leave it out",
                    fields=[f"workload.{name}"],
                )
            if value is not None and value > _most(model):
                raise InputError(
                    f"{name}={value:.15g} exceeds {_most(model):.15g}, where every token goes to the same"
                    f" {model.experts_per_token} of {model.experts} experts",
                    fields=[f"workload.{name}"],
                )

    @property
    def tokens_per_step(self) -> float:
        """Tokens of one step, padding included; only of a resolved workload."""
        per_sequence = (self.sequence_length or 0) + (self.target_length or 0)
        return float(per_sequence * (self.global_batch or 0))

    @property
    def says_length(self) -> bool:
        """Whether somebody says how long the run is: the user, or the model's published training."""
        return self.steps is not None or self.tokens is not None

    @property
    def total_steps(self) -> float:
        """Steps of the run; where nothing says how long it is those of a billion tokens, which need not be whole."""
        if self.steps is not None:
            return self.steps
        if self.tokens is not None:
            return math.ceil(self.tokens / self.tokens_per_step)
        return TOKENS_PRICED / self.tokens_per_step

    def columns(self) -> Workloads:
        """The resolved workload as numbers."""
        virtual = float(self.lengthening)
        sequence = float(self.sequence_length or 0) + virtual
        return Workloads(
            sequence_length=sequence,
            target_length=float(self.target_length or 0),
            effective_tokens=float(self.effective_tokens or 0) + virtual if self.effective_tokens else sequence,
            predictions=float(self.predictions or 0),
            global_batch=float(self.global_batch or 0),
            expert_imbalance=float(self.expert_imbalance or 1.0),
            z_loss=float(bool(self.z_loss)),
            label_smoothing=float(bool(self.label_smoothing)),
            capacity_factor=float(-1.0 if self.capacity_factor is None else self.capacity_factor),
            multi_token=float(bool(self.multi_token)),
            tuning=self.tunings(),
            documents=self.documents(sequence),
            sequences=float(PAIR if self.preference is not None else 1),
            frozen=self.frozen_model(),
        )


def _usual_imbalance(model: Model) -> float:
    """Tokens of the busiest expert over the mean where routing is balanced as the model's is."""
    measured = _UNDER_A_BIAS if model.router_balance == "bias" else _UNDER_A_LOSS
    usual = flops.imbalance_among(measured, float(model.experts), measured=_MEASURED)
    return min(round(float(usual), 2), _most(model))


def _most(model: Model) -> float:
    """Tokens of the busiest expert over the mean where every token goes to the same experts."""
    return model.experts / model.experts_per_token


@dataclass(frozen=True)
class Workloads(Columns):
    """Workloads as numbers."""

    sequence_length: Num
    """With the virtual tokens of a prompt [token]."""
    target_length: Num
    effective_tokens: Num
    predictions: Num
    global_batch: Num
    expert_imbalance: Num
    """Tokens of the busiest expert over the mean of all [1]."""
    capacity_factor: Num
    """-1 where it is the stack's."""
    z_loss: Num
    """Whether the loss has one: 1 or 0."""
    label_smoothing: Num
    """Whether labels are smoothed: 1 or 0."""
    multi_token: Num
    """Whether modules that predict further tokens are trained: 1 or 0."""
    tuning: Tunings
    documents: tuple[Document, ...] = ()
    """Those that a sequence is packed of, by length; none where it is one."""
    sequences: Num = 1.0
    """Of a sample: two of a pair [sequence]."""
    frozen: FrozenModel | None = None
    """The model that runs forward beside the trained one."""
