"""One engine: requests wait, their prompts are computed, they decode; iteration by iteration, or many at once.

Between events (an arrival, a request that ends, a cache that is full) the same sequences decode, and their context
grows by the same tokens in every iteration: times of iterations then are an arithmetic series, and one step covers them
all.
"""

from __future__ import annotations

import math
from collections import deque
from heapq import heappop, heappush
from typing import NamedTuple

from simulator.serving.scheduling.policy import Policy
from simulator.serving.scheduling.times import IterationTable


class Left(NamedTuple):
    """A request that leaves an engine."""

    request: int
    time: float
    """[s]."""


class Gaps:
    """Times between tokens, and how many tokens each stands for."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.tokens: list[float] = []

    def add(self, time: float, tokens: float) -> None:
        """Count tokens that came a time after the one before."""
        if tokens > 0.0:
            self.times.append(time)
            self.tokens.append(tokens)


class Engine:
    """An engine with its queue, its cache and its clock.

    Parameters
    ----------
    table
        Times of iterations.
    policy
        How it schedules.
    inputs, outputs
        Tokens of every request, by its number.
    firsts
        Receives when each request had its first token [s].
    role
        "both", or what the engine of a pool does: "prefill" or "decode".
    """

    def __init__(
        self,
        table: IterationTable,
        policy: Policy,
        inputs: list[int],
        outputs: list[int],
        firsts: list[float],
        role: str = "both",
    ) -> None:
        self.table, self.policy, self.role = table, policy, role
        self.inputs, self.outputs, self.firsts = inputs, outputs, firsts
        self.clock = 0.0
        self.busy_time = 0.0
        self.sequence_time = 0.0
        """Integral of the decoding sequences over time [sequence s]."""
        self.most_held = 0.0
        """Tokens of the cache that were held at most [token]."""
        self.preemptions = 0
        self.admitted: list[int] = []
        """Requests in the order in which they were let in, each again when it was put out before."""
        self.gaps = Gaps()
        self._waiting: deque[int] = deque()
        self._prompts: deque[int] = deque()
        """Requests whose prompts are being computed."""
        self._left: dict[int, float] = {}
        """Tokens that these still have to compute [token]."""
        self._produced: dict[int, float] = {}
        """Tokens that requests had got when they were put out [token]."""
        self._order: dict[int, None] = {}
        """Decoding requests, in the order in which they began."""
        self._began: dict[int, int] = {}
        """Step at which each of them began."""
        self._ends: list[tuple[int, int]] = []
        """Step after which each ends; entries of requests that were put out are stale."""
        self._step = 0
        self._context = 0.0
        """Tokens in the cache of all decoding sequences [token]."""
        self._prompt_held = 0.0
        """Tokens of the cache that prompts hold [token]."""
        self._reserved = 0.0
        self._stalled, self._stall = 0, 0.0

    def submit(self, request: int, time: float) -> None:
        """Queue a request that came at a time [s]."""
        if not self.busy:
            self.clock = max(self.clock, time)
        self._waiting.append(request)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._waiting or self._prompts or self._order)

    @property
    def load(self) -> int:
        """Requests that are here."""
        return len(self._waiting) + len(self._prompts) + len(self._order)

    def advance(self, horizon: float) -> list[Left]:
        """Go on by one iteration, or by many that are alike.

        Parameters
        ----------
        horizon
            When something may come from outside, which ends many iterations with the first that reaches it [s].

        Returns
        -------
        list of Left
            Requests that ended, in a prefill pool those whose prompts are computed.
        """
        self._admit()
        if self._prompts and not (self.policy.chunked and self._order):
            return self._compute_prompts(decoding=False)
        self._make_room()
        if self._prompts:
            return self._compute_prompts(decoding=True)
        if self._order:
            return self._decode(horizon)
        return []

    # Letting in and putting out

    def _whole(self, request: int) -> float:
        """Tokens of a request in the end [token]."""
        return float(self.inputs[request] + self.outputs[request])

    def _needed(self, request: int) -> float:
        """Tokens of the cache that a request takes when it is let in [token]."""
        if self.policy.reserves_all and self.role != "prefill":
            return self._whole(request)
        return self.inputs[request] + self._produced.get(request, 0.0)

    def _held(self) -> float:
        """Tokens of the cache that are taken [token]."""
        policy = self.policy
        sequences = len(self._order) + len(self._prompts)
        if policy.reserves_all and self.role != "prefill":
            return policy.held(self._reserved, sequences)
        return policy.held(self._context + self._prompt_held, sequences)

    def _admit(self) -> None:
        """Let waiting requests in, the first come first, as long as there is room."""
        policy = self.policy
        held = self._held()
        pending = sum(self._left.values()) if self._waiting else 0.0
        while self._waiting and len(self._order) + len(self._prompts) < policy.most_sequences:
            request = self._waiting[0]
            needed = self._needed(request)
            took = policy.held(needed, 1)
            # Room for the next token of everyone is kept, so that nobody is put out by the one who comes.
            sequences = len(self._order) + len(self._prompts) + 1
            growth = 0.0 if policy.reserves_all else sequences * policy.tokens_a_step
            busy = self._order or self._prompts
            if busy and (held + took + growth > policy.kv_tokens or pending >= policy.token_budget):
                break
            self._waiting.popleft()
            held += took
            pending += self._enter(request)

    def _enter(self, request: int) -> float:
        """Let one request in; returns the tokens of its prompt that have to be computed."""
        self.admitted.append(request)
        self._reserved += self._whole(request)
        tokens = self.inputs[request] + self._produced.get(request, 0.0)
        if self.role == "decode" and request not in self._produced:
            self._start_decoding(request, 1.0)
            return 0.0
        hits = 0.0 if request in self._produced else self.policy.prefix_hits
        computed = max(math.ceil(tokens * (1.0 - hits)), 1)
        self._prompts.append(request)
        self._left[request] = float(computed)
        self._prompt_held += tokens
        return float(computed)

    def _make_room(self) -> None:
        """Put out whoever came last until all decoding sequences can go on (vLLM's preemption by recomputation)."""
        policy = self.policy
        if policy.reserves_all:
            return
        while (
            len(self._order) + len(self._prompts) > 1
            and self._held() + (len(self._order) + len(self._prompts)) * policy.tokens_a_step > policy.kv_tokens
        ):
            self.preemptions += 1
            if self._prompts:
                request = self._prompts.pop()
                self._prompt_held -= self.inputs[request] + self._produced.get(request, 0.0)
                del self._left[request]
            else:
                request = next(reversed(self._order))
                self._stop_decoding(request)
            self._reserved -= self._whole(request)
            self._waiting.appendleft(request)

    def _start_decoding(self, request: int, produced: float) -> None:
        """Let a request decode that has some tokens already."""
        e = self.policy.tokens_a_step
        self._produced[request] = produced
        self._order[request] = None
        self._began[request] = self._step
        steps = max(math.ceil((self.outputs[request] - produced) / e - 1e-9), 0)
        heappush(self._ends, (self._step + steps, request))
        self._context += self.inputs[request] + produced

    def _stop_decoding(self, request: int) -> None:
        """Take a request from those that decode, and keep how far it came."""
        grown = (self._step - self._began.pop(request)) * self.policy.tokens_a_step
        del self._order[request]
        self._context -= self.inputs[request] + self._produced[request] + grown
        self._produced[request] += grown
        if not self._order:
            self._context = 0.0

    # Iterations

    def _chunks(self, budget: float) -> tuple[float, float, list[int]]:
        """Prompt tokens of an iteration, the tokens ahead of them in the mean, and whose prompts it completes."""
        taken, ahead, done = 0.0, 0.0, []
        for request in self._prompts:
            left = self._left[request]
            part = min(left, budget - taken)
            if part <= 0.0:
                break
            whole = self.inputs[request] + self._produced.get(request, 0.0)
            ahead += part * (whole - left)
            taken += part
            self._left[request] = left - part
            if left - part <= 0.0:
                done.append(request)
        return taken, ahead / max(taken, 1.0), done

    def _compute_prompts(self, *, decoding: bool) -> list[Left]:
        """One iteration with prompts, in which others decode or wait."""
        policy, running = self.policy, len(self._order)
        decoded = running * policy.slots_a_step if decoding else 0
        taken, ahead, done = self._chunks(max(policy.token_budget - decoded, 1.0))
        time = self._time(taken, ahead, running if decoding else 0)
        self._pass(time, running)
        left = self._step_on(1, time) if decoding else []
        if running and not decoding:
            self._stalled = running if self._stall == 0.0 else self._stalled
            self._stall += time
        for request in done:
            left += self._completed(request)
        return left

    def _time(self, prompt_tokens: float, prompt_context: float, sequences: int) -> float:
        """Time of one iteration [s]."""
        mean = self._context / max(len(self._order), 1)
        return timed(self.table, self.policy, prompt_tokens, prompt_context, sequences, mean)

    def _completed(self, request: int) -> list[Left]:
        """A prompt is computed: its request has a token more, and decodes or leaves."""
        self._prompts.remove(request)
        del self._left[request]
        before = self._produced.get(request, 0.0)
        self._prompt_held -= self.inputs[request] + before
        if before == 0.0:
            self.firsts[request] = self.clock
        if self.role == "prefill" or before + 1.0 >= self.outputs[request]:
            self._reserved -= self._whole(request)
            self._produced.pop(request, None)
            return [Left(request, self.clock)]
        self._start_decoding(request, before + 1.0)
        return []

    def _decode(self, horizon: float) -> list[Left]:
        """Iterations in which the same sequences decode, up to the next event."""
        while self._ends and self._is_stale(self._ends[0]):
            heappop(self._ends)
        policy, running = self.policy, len(self._order)
        steps = self._ends[0][0] - self._step
        if not policy.reserves_all:
            room = (policy.kv_tokens - self._held()) / (running * policy.tokens_a_step)
            steps = min(steps, max(int(room + 1e-9), 1))
        first = self._time(0.0, 0.0, running)
        self._context += running * policy.tokens_a_step
        growth = self._time(0.0, 0.0, running) - first
        self._context -= running * policy.tokens_a_step
        steps = min(steps, _steps_until(horizon - self.clock, first, growth))
        time = steps * first + growth * steps * (steps - 1) / 2.0
        self._pass(time, running)
        return self._step_on(steps, time)

    def _pass(self, time: float, running: int) -> None:
        """Let time pass."""
        self.clock += time
        self.busy_time += time
        self.sequence_time += time * running

    def _step_on(self, steps: int, time: float) -> list[Left]:
        """Give every decoding sequence its tokens of some steps, and let go whoever is done."""
        running, e = len(self._order), self.policy.tokens_a_step
        self._step += steps
        self._context += running * steps * e
        self.most_held = max(self.most_held, self._held())
        if steps:
            stalled = min(self._stalled, running) if self._stall else 0
            self.gaps.add((time / steps + self._stall) / e, stalled * e)
            self.gaps.add(time / steps / e, (running * steps - stalled) * e)
            self._stalled, self._stall = 0, 0.0
        left = []
        while self._ends and (self._is_stale(self._ends[0]) or self._ends[0][0] <= self._step):
            entry = heappop(self._ends)
            if not self._is_stale(entry):
                request = entry[1]
                self._reserved -= self._whole(request)
                self._stop_decoding(request)
                del self._produced[request]
                left.append(Left(request, self.clock))
        return left

    def _is_stale(self, entry: tuple[int, int]) -> bool:
        """Whether an entry is of a request that was put out since."""
        end, request = entry
        began = self._began.get(request)
        if began is None:
            return True
        rest = (self.outputs[request] - self._produced[request]) / self.policy.tokens_a_step
        return end != began + max(math.ceil(rest - 1e-9), 0)


def timed(
    table: IterationTable, policy: Policy, prompt_tokens: float, prompt_context: float, sequences: float, context: float
) -> float:
    """Time of one iteration, with drafted tokens where there are any [s].

    Every sequence has its drafted tokens checked with its own one: so many more tokens are computed, and the cache is
    streamed once for all of them.

    Parameters
    ----------
    table, policy
        Of the engine.
    prompt_tokens, prompt_context, sequences, context
        As of `IterationTable.time`.
    """
    speculation = policy.speculation
    if speculation is None or not sequences:
        return table.time(prompt_tokens, prompt_context, sequences, context)
    slots = policy.slots_a_step
    time = table.time(prompt_tokens, prompt_context, sequences * slots, context / slots)
    return time + speculation.length * speculation.draft_time


def _steps_until(time: float, first: float, growth: float) -> int:
    """The fewest iterations whose times, which grow evenly, add up to a time; one at least.

    >>> _steps_until(6.0, 1.0, 1.0), _steps_until(6.1, 1.0, 1.0), _steps_until(3.0, 1.0, 0.0)
    (3, 4, 3)
    """
    if time == math.inf:
        return 1 << 60
    if time <= first:
        return 1
    if growth <= 1e-9 * first:
        return math.ceil(time / first - 1e-9)
    middle = first - growth / 2.0
    return math.ceil((math.sqrt(middle * middle + 2.0 * growth * time) - middle) / growth - 1e-9)
