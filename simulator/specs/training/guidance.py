"""What a run learns from besides its tokens: pairs that people prefer one of, or a teacher; and the model beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PrivateAttr

from hardware.errors import InputError, about
from hardware.fields import Also
from hardware.sheet import Sheet
from simulator.formulas.typing import Num
from simulator.specs.architectures import Models
from simulator.specs.choices import Preference, Reference
from simulator.specs.columns import Columns
from simulator.specs.model import Model

PAIR = 2
"""Sequences of a pair: the chosen and the rejected one."""
_OF_WORDS = ("causal", "mlm", "seq2seq")


class Guidance(Sheet):
    """Preferences or a teacher, and the frozen model that runs beside the trained one."""

    preference: Preference | None = None
    """Training on pairs of a chosen and a rejected sequence, two sequences of the batch each: direct preference
    optimization (dpo), or of a reward model with one score a sequence (reward)."""
    reference: Reference | None = None
    """Where dpo has the log-probabilities of its reference from: a frozen copy of the model, the base without its
    adapters, or a pass before training (precomputed); the base under adapters and a copy otherwise unless given."""
    teacher: Annotated[str | dict[str, Any] | None, Also(str, "a model's name or file")] = None
    """A model whose logits the trained one learns (distillation): its name or file, or fields that change one. It is
    frozen, runs forward on the same tokens, and is held in 16 bits."""
    keeps_teacher_logits: bool | None = None
    """Whether the teacher's probabilities of all words stay until the backward pass, in fp32; so where the stack keeps
    all logits unless given."""
    _frozen: Model | None = PrivateAttr(default=None)
    """The model that runs beside the trained one, of a resolved workload."""

    def guided(self, model: Model, global_batch: int) -> tuple[dict[str, Any], Model | None]:
        """What is left open of it, filled, and the model that runs beside the trained one.

        Raises
        ------
        InputError
            Where things are said that do not belong together, or that the model cannot be trained by.
        """
        self._check_together()
        if self.preference is not None:
            self._check_pairs(model, global_batch)
        if self.teacher is not None:
            return {}, self._taught_by(model)
        if self.preference != "dpo":
            return {}, None
        reference = self.reference or ("base" if self._has_adapters else "copy")
        if reference == "base" and not self._has_adapters:
            raise InputError(
                "reference=base is a model without its adapters, and there are none; train=lora, or reference=copy or "
                "precomputed",
                fields=["workload.reference", "workload.train"],
            )
        return {"reference": reference}, None if reference == "precomputed" else model

    @property
    def _has_adapters(self) -> bool:
        """Whether adapters are trained, also of a workload whose `train` is still open."""
        told = ("lora_rank", "lora_targets", "lora_dropout", "dora", "base_precision")
        train = getattr(self, "train", None)
        return train == "lora" or (train is None and any(getattr(self, name, None) is not None for name in told))

    def _check_together(self) -> None:
        """Refuse what belongs to another way of training."""
        others = {
            "reference": (self.reference, self.preference == "dpo", "preference=dpo"),
            "keeps_teacher_logits": (self.keeps_teacher_logits, self.teacher is not None, "a teacher"),
            "teacher": (self.teacher, self.preference is None, "a run without preference"),
        }
        for name, (value, belongs, where) in others.items():
            if value is not None and not belongs:
                written = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
                raise InputError(
                    f"{name}={written} belongs to {where}; leave one out",
                    fields=[f"workload.{name}", "workload.preference"],
                )

    def _check_pairs(self, model: Model, global_batch: int) -> None:
        """Refuse batches of half a pair, and heads without what a preference compares."""
        if global_batch % PAIR:
            raise InputError(
                f"global_batch={global_batch} sequences hold half a pair; preference={self.preference} has two "
                "sequences a pair: give an even number",
                fields=["workload.global_batch", "workload.preference"],
            )
        if self.preference == "reward" and (model.objective, model.classes) != ("classification", 1):
            raise InputError(
                f"preference=reward trains one score a sequence; {model.id} has objective={model.objective}: give "
                f"{{base: {model.id}, objective: classification, classes: 1}}",
                fields=["workload.preference"],
            )
        if self.preference == "dpo" and model.objective not in ("causal", "seq2seq"):
            raise InputError(
                f"preference=dpo compares probabilities of words that follow; {model.id} has objective="
                f"{model.objective}: take a causal model, or preference=reward",
                fields=["workload.preference"],
            )

    def _taught_by(self, model: Model) -> Model:
        """The teacher, which has the same words as its student."""
        from simulator.specs.loading import load_model

        with about("workload.teacher"):
            teacher = load_model(self.teacher or "")
        alike = teacher.objective == model.objective and teacher.objective in _OF_WORDS
        if not alike:
            raise InputError(
                f"teacher={teacher.id} has objective={teacher.objective} and {model.id} objective={model.objective}; "
                "a teacher predicts the same words: causal, mlm or seq2seq",
                fields=["workload.teacher"],
            )
        if teacher.vocabulary_size != model.vocabulary_size:
            raise InputError(
                f"teacher={teacher.id} has {teacher.vocabulary_size:,} words and {model.id} has "
                f"{model.vocabulary_size:,}; where these differ by padding alone, give {{base: {teacher.id}, "
                f"vocabulary_size: {model.vocabulary_size}}}",
                fields=["workload.teacher"],
            )
        return teacher

    def scored(self, model: Model) -> Model:
        """The model with the head that its preference trains: one score a sequence, of a reward model."""
        if self.preference != "reward" or (model.objective == "classification" and model.classes == 1):
            return model
        from simulator.specs.loading import load_model

        with about("workload.preference"):
            return load_model({"base": model, "objective": "classification", "classes": 1})

    def frozen_model(self) -> FrozenModel | None:
        """The model beside the trained one, as numbers; of a resolved workload."""
        if self._frozen is None:
            return None
        keeps = -1.0 if self.keeps_teacher_logits is None else float(self.keeps_teacher_logits)
        return FrozenModel(
            models=self._frozen.columns(),
            held=float(self.reference != "base"),
            teaches=float(self.teacher is not None),
            keeps_logits=keeps,
        )


@dataclass(frozen=True)
class FrozenModel(Columns):
    """A model that runs forward beside the trained one, as numbers; flags are 0 or 1."""

    models: Models
    held: Num
    """Whether its weights are others than those of the trained model."""
    teaches: Num
    """Whether it is a teacher, of which all words' probabilities count, or a reference."""
    keeps_logits: Num
    """Whether those stay until the backward pass; -1 where the stack says."""
