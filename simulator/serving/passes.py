"""Seconds of an engine's passes: prompts, single tokens, both at once, and whole sequences that are encoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.formulas.typing import Num
from simulator.pricing.requests import Send
from simulator.serving.scenario import ServingScenario
from simulator.serving.stored import served_program
from simulator.specs.serving.iterations import Iterations
from simulator.step.passes import pass_of, together
from simulator.work.program import Program
from simulator.work.transformer import Scenarios

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PassCost:
    """What one pass of one replica takes, and of what parts that is [s]."""

    time: Num
    parts: dict[str, Num]
    """Parts of the program, the wait for the host (`host`), and what stands between stages (`pipeline_transfer`)."""


def pass_times(served: ServingScenario) -> PassTimes:
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
    return PassTimes(served)


@dataclass(frozen=True)
class PassTimes:
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
        groups = np.minimum(self._groups, np.maximum(of_all, 1.0))
        work = self._iterations(of_all / groups, new, before, 0.0 * of_all, 1.0 + 0.0 * of_all)
        return self._cost(self.served.iteration(work), work, passes=groups)

    def decode_cost(self, sequences: Any, context: Any) -> PassCost:
        """As `decode`, with its parts."""
        of_all, length = _arrays(sequences, context)
        part = np.where(of_all > 0.0, np.maximum(of_all / self._groups, np.minimum(of_all, 1.0)), 0.0)
        nothing = 0.0 * of_all
        work = self._iterations(nothing, nothing + 1.0, nothing, part, length)
        return self._cost(self.served.iteration(work), work)

    def mixed_cost(self, prompt_tokens: Any, prompt_context: Any, sequences: Any, context: Any) -> PassCost:
        """As `mixed`, with its parts."""
        new, before, of_all, length = _arrays(prompt_tokens, prompt_context, sequences, context)
        part = np.where(of_all > 0.0, np.maximum(of_all / self._groups, np.minimum(of_all, 1.0)), 0.0)
        some = np.where(new > 0.0, 1.0, 0.0)
        work = self._iterations(some, np.maximum(new / self._groups, 1.0), before, part, length)
        return self._cost(self.served.iteration(work), work)

    def encode_cost(self, sequences: Any, tokens: Any, padded: Any = None) -> PassCost:
        """As `encode`, with its parts."""
        of_all, new, whole = _arrays(sequences, tokens, tokens if padded is None else padded)
        return self._cost(self.served.encoding(of_all, new, whole), None)

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
        )

    def _cost(self, columns: Scenarios, work: Iterations | None, *, passes: Num = 1.0) -> PassCost:
        """Time and parts of a pass through all stages; of `passes` groups that follow each other through them."""
        served, program = self.served, served_program(self.served, columns)
        parts, device, started = self._summed(program)
        sent = self._between_stages(columns)
        stack = served.stack
        reads = 1.0 if work is None else np.where(np.asarray(work.prompts) > 0.0, 1.0, 0.0)
        driven = {"none": 1.0, "all": 0.0, "decode": reads}[stack.captured]
        busy = together(device, started * driven)
        single = stack.iteration * np.exp(served.factors.iterations)
        reading = (stack.prefill_iteration or stack.iteration) * np.exp(served.factors.prompts)
        waits = single + reads * (reading - single)
        again = np.where(np.asarray(passes) > 1.0, (passes + served.pp - 1.0) / served.pp, 1.0)
        parts = {name: value * again for name, value in parts.items()}
        parts["pipeline_transfer"] = sent * again
        parts["host"] = (busy - device) * again + waits
        return PassCost((busy + sent) * again + waits, parts)

    def _summed(self, program: Program) -> tuple[dict[str, Num], Num, Num]:
        """Time of each part, of all of them on the device, and of the launches on the host [s]."""
        parts: dict[str, Num] = {}
        device: Num = 0.0
        host: Num = 0.0
        launch = program.scenarios.stacks.launch
        for block in program.blocks:
            taken = pass_of(block.tasks, self.served.backend, launch)
            for name, value in (taken.parts or {}).items():
                parts[name] = parts.get(name, 0.0) + block.number * value
            device, host = device + block.number * taken.forward, host + block.number * taken.host
        return parts, device, host

    def _between_stages(self, columns: Scenarios) -> Num:
        """Time of the transfers between stages [s]."""
        plans = columns.plans
        if self.served.pp == 1:
            return 0.0
        tokens = columns.workloads.sequence_length + columns.workloads.target_length
        message = plans.micro_batch * tokens * columns.models.hidden_size * plans.element_bytes
        sent = Send(message_bytes=message, degree=plans.pp, stride=plans.pp_stride)
        return (self.served.pp - 1.0) * self.served.backend.time(sent)


def _arrays(*values: Any) -> tuple[Array, ...]:
    """Arguments as arrays of one shape."""
    whole = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in values))
    return tuple(value if value.ndim else value[()] for value in whole)
