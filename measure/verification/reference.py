"""The reference module of a scenario, and what of the scenario it cannot be built for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from measure.count.autocast import Autocast
from measure.count.collectives import fake_ranks
from measure.models import Alone, Batch, Setting, Split, Transformer, build, random_batch
from simulator.formulas.typing import Num
from simulator.scenario.scenario import Scenario
from simulator.specs.model import Model
from simulator.work.program import Program, program_of
from simulator.work.transformer import Scenarios, autocasts

_ELEMENTS = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    **dict.fromkeys(("fp8", "mxfp8", "nvfp4"), torch.bfloat16),
}
"""What activations are held in; under fp8 tensors between products stay in 16 bits."""


def number(value: Num) -> float:
    """The one number of a column."""
    return float(np.asarray(value).item())


@dataclass(frozen=True)
class Reference:
    """How the reference module of a scenario is built and run on the meta device."""

    scenario: Scenario

    @cached_property
    def columns(self) -> Scenarios:
        """The scenario as the formulas take it, of the trained model alone."""
        columns = self.scenario.columns()
        return replace(columns, workloads=replace(columns.workloads, frozen=None))

    @cached_property
    def program(self) -> Program:
        """What the formulas say of one device."""
        return program_of(self.columns)

    @property
    def model(self) -> Model:
        """The architecture; a window of attention only changes which scores a fused kernel computes.

        Nor does it matter which layers have rotary positions, unless these alone normalise queries and keys.
        """
        alike = {"sliding_window": None, "window_pattern": (), "rotary_pattern": ()}
        return self.scenario.model.model_copy(update=alike)

    @property
    def tensor_ranks(self) -> int:
        """Ranks that share every product."""
        return self.scenario.plan.tp or 1

    @property
    def replicas(self) -> int:
        """Ranks that reduce gradients together."""
        return int(number(self.columns.plans.replicas))

    @property
    def element(self) -> torch.dtype:
        """What activations are held in."""
        return _ELEMENTS[self.scenario.plan.precision or "bf16"]

    @property
    def parameter(self) -> torch.dtype:
        """What parameters are held in."""
        return torch.float32 if self.scenario.plan.parameters_in_fp32 else self.element

    @property
    def gradient(self) -> torch.dtype:
        """What gradients are held in."""
        return torch.float32 if self.scenario.plan.gradients_in_fp32 else self.element

    @property
    def reduced(self) -> torch.dtype:
        """What gradients are reduced in."""
        return torch.float32 if number(self.columns.plans.reduced_bytes) == torch.float32.itemsize else self.element

    @property
    def autocasts(self) -> bool:
        """Whether products alone run in 16 bits."""
        return number(autocasts(self.columns)) > 0

    @property
    def held(self) -> torch.dtype:
        """What a module runs in: automatic casts leave it in the precision of its parameters."""
        return self.parameter if self.autocasts else self.element

    def setting(self, **changes: Any) -> Setting:
        """The whole module in the precision of activations, without recomputation and fused attention."""
        work, stack = self.scenario.workload, self.scenario.stack
        setting = Setting(
            sequence_length=work.sequence_length or 0,
            target_length=work.target_length or 0,
            document_lengths=self.documents if self.separable is None else (),
            masks_documents=False,
            device="meta",
            dtype=self.element,
            fused_qkv=stack.fused_qkv,
            fused_gate=stack.fused_gate,
            weighs_activations=stack.expert_weights == "activations",
            multi_token=bool(work.multi_token),
            all_positions=stack.head_positions == "all",
        )
        return replace(setting, **changes)

    def on_rank(self, kind: type[Split] = Split, **changes: Any) -> Setting:
        """The part of a tensor-parallel rank, with the recomputation and the attention of the scenario."""
        plan, stack = self.scenario.plan, self.scenario.stack
        shares = bool(plan.sequence_parallel) and self.unequal_tokens is None
        split = kind(self.tensor_ranks, sequence_parallel=shares, regathers_inputs=stack.regathers_inputs)
        setting = self.setting(
            fused_attention=plan.attention == "fused",
            recompute=plan.recompute,
            recompute_modules=plan.recompute_modules or (),
            recompute_layers=plan.recompute_layers,
            recompute_method=plan.recompute_method,
            activation_inputs_in_fp8=bool(plan.activation_inputs_in_fp8),
            split=split,
        )
        if plan.recompute == "operators":
            setting = replace(setting, fused_qkv=False)  # the policy is of models with a matrix each
        return replace(setting, **changes)

    def of_replica(self, **changes: Any) -> Setting:
        """The part of a tensor-parallel rank whose partners are left out, for counting what replicas send."""
        return self.setting(split=Alone(self.tensor_ranks), **changes)

    def batch(self, model: Model, setting: Setting, sequences: int | None = None) -> Batch:
        """A micro-batch, or so many sequences."""
        work, plan = self.scenario.workload, self.scenario.plan
        return random_batch(model, setting, sequences or plan.micro_batch or 1, predictions=work.predictions or 0)

    @contextmanager
    def run(self, model: Model, setting: Setting) -> Iterator[tuple[Transformer, Batch]]:
        """A module with a micro-batch, among pretended ranks where it is split."""
        apart = setting.split.degree > 1 and not isinstance(setting.split, Alone)
        with fake_ranks(setting.split.degree) if apart else nullcontext():
            yield build(model, setting), self.batch(model, setting)

    def casts(self) -> Autocast | None:
        """Automatic casts, where the scenario has them."""
        return Autocast(self.element) if self.autocasts else None

    @property
    def unlike(self) -> str | None:
        """What of the work of one device the reference module does not do."""
        plan = self.scenario.plan
        if (plan.cp or 1) > 1:
            return "context parallelism is not built"
        if self.scenario.model.query_key_norm == "unweighted" and self.scenario.model.rotary_pattern:
            return "layers with and without rotary positions, which alone normalise heads, are not built one of each"
        if self.scenario.model.first_layer_norms is not None and self.scenario.model.experts > 1:
            return "a first layer with fewer normalisations is built of dense layers only"
        return self.padding or self.unequal_columns or self.unequal_experts(plan.micro_batch or 1)

    @property
    def padding(self) -> str | None:
        """Whether the stack takes out padding that there is."""
        stack, work = self.scenario.stack, self.scenario.workload
        tokens = work.sequence_length or 0
        padded = stack.unpads and (work.effective_tokens or tokens) < tokens
        return "the stack takes padding out, the reference module keeps it" if padded else None

    @property
    def unequal_columns(self) -> str | None:
        """Whether ranks cannot share the feed-forward layer equally."""
        width = self.model.feed_forward_size
        return f"torch cuts {width:,} columns into equal parts only" if width % self.tensor_ranks else None

    @property
    def unequal_tokens(self) -> str | None:
        """Whether ranks cannot share tokens equally."""
        lengths = (self.scenario.workload.sequence_length or 0, self.scenario.workload.target_length or 0)
        if self.scenario.plan.sequence_parallel and any(length % self.tensor_ranks for length in lengths):
            return f"torch cuts {max(lengths):,} tokens among {self.tensor_ranks} ranks into equal parts only"
        return None

    @property
    def documents(self) -> tuple[int, ...]:
        """Lengths of the documents of a sequence, where one kernel tells them apart; else none."""
        work = self.scenario.workload
        if not work.document_lengths or self.scenario.plan.attention != "fused":
            return ()
        lengths = work.document_lengths if self.scenario.stack.skips_documents else ()
        repeated = lengths * round((work.sequence_length or 0) / lengths[0]) if len(lengths) == 1 else lengths
        return tuple(round(length) for length in repeated)

    @property
    def separable(self) -> str | None:
        """Whether a sequence cannot be packed of the documents that are told."""
        work, lengths = self.scenario.workload, self.documents
        length = work.sequence_length or 0
        told = sorted({round(each) for each in work.document_lengths or ()})
        exact = sorted(set(work.document_lengths or ())) == told and work.document_deviation is None
        if lengths and not (exact and sum(lengths) == length == (work.effective_tokens or length)):
            return f"torch packs whole documents: lengths that make up {length:,} tokens, without a deviation"
        return None

    @property
    def windowed(self) -> str | None:
        """Whether a fused kernel leaves scores out that torch's meta kernel counts."""
        model, length = self.scenario.model, self.scenario.workload.sequence_length or 0
        window = min(filter(None, (model.sliding_window, *model.window_pattern)), default=length)
        if self.scenario.plan.attention == "fused" and window < length:
            return f"torch counts fused attention without its window of {window:,} tokens"
        return self.separable

    @property
    def counted_layers(self) -> str | None:
        """Whether some layers are recomputed and others are not, while torch counts one of each kind."""
        if self.scenario.plan.recompute_layers is None:
            return None
        return "one layer of a kind is run, of which recompute_layers tells nothing"

    @property
    def spread_experts(self) -> str | None:
        """Whether experts lie on several devices."""
        return "experts on several devices are not built" if (self.scenario.plan.ep or 1) > 1 else None

    def unequal_experts(self, sequences: int) -> str | None:
        """Whether experts cannot share the tokens of so many sequences equally."""
        model = self.model
        tokens = sequences * (self.scenario.workload.sequence_length or 0) * model.experts_per_token
        if model.experts > 1 and tokens % model.experts:
            return f"{tokens:,} tokens cannot be shared equally by {model.experts} experts"
        return None
