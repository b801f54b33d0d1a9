"""Seconds of an engine's passes: prompts, single tokens, both at once, and whole sequences that are encoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.formulas.typing import Num
from simulator.pricing.requests import (
    Collective,
    DecodeAttention,
    FusedAttention,
    MatrixProduct,
    Request,
    Send,
    Stream,
)
from simulator.serving.served import ServingScenario
from simulator.serving.stored import served_program
from simulator.specs.serving.iterations import Iterations
from simulator.step.passes import pass_of_timed, timed_tasks, together
from simulator.work.program import Program
from simulator.work.transformer import Scenarios

Array = NDArray[np.float64]


LIMITS = ("matrix products", "memory bandwidth", "communication", "host")
"""What the time of a kernel goes by."""


@dataclass(frozen=True)
class PassCost:
    """What passes of one replica take, of what parts that is, and what limits them [s]."""

    time: Num
    parts: dict[str, Num]
    """Parts of the program, the wait for the host (`host`), and what stands between stages (`pipeline_transfer`)."""
    limits: dict[str, Num]
    """Time of kernels by what they are bound by, as `LIMITS` has it."""

    def take(self, index: Any) -> PassCost:
        """Some of the passes."""

        def of(value: Num) -> Num:
            taken: Num = np.broadcast_to(np.asarray(value), np.shape(self.time))[index]
            return taken

        parts, limits = ({name: of(value) for name, value in each.items()} for each in (self.parts, self.limits))
        return PassCost(of(self.time), parts, limits)


def pass_times(served: ServingScenario) -> ServingPasses:
    """Times of the passes of one replica.

    Parameters
    ----------
    served
        What `simulator.serving.scenario.resolve_serving` returns.

    Examples
    --------
    >>> from simulator.serving.scenario import resolve_serving
    >>> times = pass_times(resolve_serving("llama-3-8b", "dgx-h100", devices=1, stack="vllm"))
    >>> bool(times.decode(1, 1024) < times.decode(64, 1024) < times.prefill(64, 1024))
    True
    """
    return ServingPasses(served)


@dataclass(frozen=True)
class ServingPasses:
    """Seconds of passes of one replica; arguments broadcast, and every method returns float64 of their shape."""

    served: ServingScenario

    def prefill(self, sequences: Any, tokens: Any, cached: Any = 0.0) -> Array:
        """Time until `sequences` prompts with `tokens` new tokens each behind `cached` ones have their first token [s].

        Stages of a pipeline work on different sequences; a single one passes them one after the other.
        """
        return np.asarray(self.prefill_cost(sequences, tokens, cached).time)

    def decode(self, sequences: Any, context: Any) -> Array:
        """Time in which each of `sequences` gets one token at a mean `context`, prompt and answer together [s]."""
        return np.asarray(self.decode_cost(sequences, context).time)

    def mixed(self, prompt_tokens: Any, prompt_context: Any, sequences: Any, context: Any) -> Array:
        """Time of an iteration with `prompt_tokens` of one prompt behind `prompt_context`, and `sequences` beside [s].

        `sequences` get one token each at a mean `context`; either may be none.
        """
        return np.asarray(self.mixed_cost(prompt_tokens, prompt_context, sequences, context).time)

    def encode(self, sequences: Any, tokens: Any, padded: Any = None) -> Array:
        """Time of encoding `sequences` of `tokens`, in a batch as long as `padded` where that is given [s]."""
        return np.asarray(self.encode_cost(sequences, tokens, padded).time)

    def prefill_cost(self, sequences: Any, tokens: Any, cached: Any = 0.0) -> PassCost:
        """As `prefill`, with its parts."""
        of_all, new, before = _arrays(sequences, tokens, cached)
        return self.cost(of_all, new, before, 0.0, 1.0)

    def decode_cost(self, sequences: Any, context: Any) -> PassCost:
        """As `decode`, with its parts."""
        return self.cost(0.0, 1.0, 0.0, sequences, context)

    def mixed_cost(self, prompt_tokens: Any, prompt_context: Any, sequences: Any, context: Any) -> PassCost:
        """As `mixed`, with its parts."""
        new, before, of_all, length = _arrays(prompt_tokens, prompt_context, sequences, context)
        chunks = np.maximum(new / self._groups, np.minimum(new, 1.0))
        return self.cost(np.where(new > 0.0, 1.0, 0.0), np.maximum(chunks, 1.0), before, of_all, length)

    def encode_cost(self, sequences: Any, tokens: Any, padded: Any = None) -> PassCost:
        """As `encode`, with its parts."""
        of_all, new, whole = _arrays(sequences, tokens, tokens if padded is None else padded)
        return self._cost(self.served.encoding(of_all, new, whole), None)

    def cost(self, prompts: Any, tokens: Any, cached: Any, decodes: Any, context: Any) -> PassCost:
        """What passes take that read `tokens` of each of `prompts` behind `cached`, and make one of each of `decodes`.

        All arguments broadcast, so that passes of all kinds are priced in one call. Stages of a pipeline work on groups
        of sequences: several prompts follow each other through them, single tokens come to each group in turn.
        """
        read, new, before, of_all, length = _arrays(prompts, tokens, cached, decodes, context)
        groups = np.minimum(self._groups, np.maximum(read, 1.0))
        part = np.where(of_all > 0.0, np.maximum(of_all / self._groups, np.minimum(of_all, 1.0)), 0.0)
        work = self._iterations(read / groups, new, before, part, length)
        return self._cost(self.served.iteration(work), work, passes=np.where(of_all > 0.0, 1.0, groups))

    @property
    def _groups(self) -> float:
        """Groups of sequences that are in different stages at the same time."""
        return float(self.served.pp if self.served.stack.pipelined else 1)

    def _iterations(self, prompts: Num, tokens: Num, cached: Num, decodes: Num, context: Num) -> Iterations:
        """Columns of iterations; behind an encoder its input is told from what the decoder has made."""
        sampled, encoded = prompts + decodes, 0.0 * np.asarray(context)
        if self.served.model.kind == "encoder-decoder":
            load = self.served.load
            encoded = np.minimum(context, load.input_tokens) if load is not None else np.asarray(context) / 2.0
            own = np.maximum(np.asarray(context) - encoded, 1.0)
            encoded = np.where(np.asarray(prompts) > 0.0, tokens, encoded)
            context, decodes = np.where(np.asarray(prompts) > 0.0, 1.0, own), sampled
        return Iterations(
            prompts=prompts,
            prompt_tokens=tokens,
            cached=cached,
            decodes=decodes,
            context=context,
            encoded=encoded,
            sampled=sampled,
            cache_bytes=self.served.kv_cache.bytes,
            shares_sequences=float(self.served.stack.shares_sequences),
        )

    def _cost(self, columns: Scenarios, work: Iterations | None, *, passes: Num = 1.0) -> PassCost:
        """Time and parts of a pass through all stages; of `passes` groups that follow each other through them."""
        served, stack = self.served, self.served.stack
        summed = self._summed(served_program(served, columns))
        sent = self._between_stages(columns)
        reads = 1.0 if work is None else np.where(np.asarray(work.prompts) > 0.0, 1.0, 0.0)
        driven = {"none": 1.0, "all": 0.0, "decode": reads}[stack.captured]
        busy = together(summed.device, summed.host * driven)
        single = stack.iteration * np.exp(served.factors.iterations)
        reading = (stack.prefill_iteration or stack.iteration) * np.exp(served.factors.prompts)
        waits = single + reads * (reading - single)
        again = np.where(np.asarray(passes) > 1.0, (passes + served.pp - 1.0) / served.pp, 1.0)
        of_host = (busy - summed.device) * again + waits
        parts: dict[str, Num] = {name: value * again for name, value in summed.parts.items()}
        limits: dict[str, Num] = {name: value * again for name, value in summed.limits.items()}
        limits["communication"] = limits["communication"] + sent * again
        limits["host"] = of_host
        between: dict[str, Num] = {} if served.pp == 1 else {"pipeline_transfer": sent * again}
        return PassCost((busy + sent) * again + waits, {**parts, **between, "host": of_host}, limits)

    def _summed(self, program: Program) -> _Summed:
        """Times of all blocks of a program."""
        summed, launch = _Summed(), program.scenarios.stacks.launch
        peak, bandwidth = self.served.peak, float(self.served.device.memory.bandwidth)
        for block in program.blocks:
            timed = list(timed_tasks(block.tasks, self.served.backend))
            taken = pass_of_timed(timed, launch)
            for name, value in (taken.parts or {}).items():
                summed.parts[name] = summed.parts.get(name, 0.0) + block.number * value
            for task, seconds in timed:
                for name, share in _bound_by(task.request, peak, bandwidth):
                    summed.limits[name] = summed.limits[name] + block.number * share * seconds
            summed.device = summed.device + block.number * taken.forward
            summed.host = summed.host + block.number * taken.host
        return summed

    def _between_stages(self, columns: Scenarios) -> Num:
        """Time of the transfers between stages [s]."""
        plans = columns.plans
        if self.served.pp == 1:
            return 0.0
        tokens = columns.workloads.sequence_length + columns.workloads.target_length
        message = plans.micro_batch * tokens * columns.models.hidden_size * plans.element_bytes
        sent = Send(message_bytes=message, degree=plans.pp, stride=plans.pp_stride)
        return (self.served.pp - 1.0) * self.served.backend.time(sent)


@dataclass
class _Summed:
    """Times of all blocks of a program, each entry of passes by itself [s]."""

    parts: dict[str, Num] = field(default_factory=dict)
    limits: dict[str, Num] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0.0))
    device: Num = 0.0
    host: Num = 0.0
    """Of the launches."""


def _bound_by(asked: Request, peak: float, bandwidth: float) -> Iterator[tuple[str, Num]]:
    """What the time of a request goes by, with 1 or 0 for each pass."""
    if isinstance(asked, Collective | Send):
        yield "communication", 1.0
    elif isinstance(asked, Stream):
        yield "memory bandwidth", 1.0
    elif isinstance(asked, MatrixProduct | FusedAttention | DecodeAttention):
        computes = np.where(np.asarray(asked.computed_flops) * bandwidth > asked.moved_bytes * peak, 1.0, 0.0)
        yield "matrix products", computes
        yield "memory bandwidth", 1.0 - computes


def _arrays(*values: Any) -> tuple[Array, ...]:
    """Arguments as arrays of one shape."""
    whole = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in values))
    return tuple(value if value.ndim else value[()] for value in whole)
