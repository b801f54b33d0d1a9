"""How the cross-entropy over words is computed: by single operations, in one kernel, or piece by piece."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.formulas import activations
from simulator.formulas.typing import Num
from simulator.work.transformer.tokens import Scenarios

_SINGLE_PASSES, _SINGLE_COPIES = 5.0, 2.0
"""Of single operations, as of `simulator.specs.stack.Stack`."""
_FUSED_PASSES = 3.0
"""Times that one kernel moves the logits: it reads them for their sum, and again, and writes the gradient."""


@dataclass(frozen=True)
class LossHabits:
    """What computing the loss keeps and moves.

    References
    ----------
    `LigerCrossEntropyFunction` and `LigerFusedLinearCrossEntropyFunction` of Liger Kernel 0.5
    (src/liger_kernel/ops/cross_entropy.py and fused_linear_cross_entropy.py): the gradient takes the place of the
    logits; pieces of logits leave the gradient of hidden states, and add to that of the head.
    """

    keeps: Num
    """Whether all logits exist at once: 1 or 0."""
    fused: Num
    """Whether their gradient takes their place: 1 or 0."""
    in_kernel: Num
    """Whether one kernel computes it, of all or of pieces: 1 or 0."""
    passes: Num
    copies: Num
    """As of `simulator.specs.stack.Stack`."""

    def saved_bytes(self, rows: Num, words: Num, element_bytes: Num) -> Num:
        """Bytes that the loss keeps: of logits in fp32, or of their gradient."""
        whole = self.keeps * activations.cross_entropy(rows, words)
        if not np.any(np.asarray(self.fused) > 0.0):
            return whole
        gradient = activations.tensor(rows, words, element_bytes=element_bytes)
        return np.where(np.asarray(self.fused) > 0.0, gradient, whole)

    def of_terms(self, rows: Num, words: Num, *, z_loss: Num, smoothed: Num) -> Num:
        """Bytes that other terms of the loss keep besides, where no kernel has them.

        A z-loss keeps logits in fp32 and the logarithms of their sums, smoothed labels which of them are ignored.
        """
        if not np.any(np.maximum(z_loss, smoothed) > 0.0):
            return 0.0
        both = activations.tensor(rows, words + 1.0, element_bytes=activations.STATISTIC_BYTES)
        ignored = activations.tensor(rows, 1.0, element_bytes=activations.MASK_BYTES)
        return self.keeps * (1.0 - np.asarray(self.in_kernel)) * (z_loss * both + smoothed * ignored)

    def moved(self, logits: Num, element_bytes: Num) -> tuple[Num, Num]:
        """Bytes that cross memory in both passes for so many logits."""
        ahead = logits * (element_bytes + 2.0 * self.passes + 4.0)
        back = logits * (4.0 + element_bytes + 2.0 * self.passes)
        if not np.any(np.asarray(self.in_kernel) > 0.0):
            return ahead, back
        alone = np.asarray(self.in_kernel) > 0.0
        return np.where(alone, _FUSED_PASSES * logits * element_bytes, ahead), np.where(alone, 0.0, back)


def loss_of(scenarios: Scenarios) -> LossHabits:
    """How the loss is computed: as the plan says, else as the stack does."""
    plans, stacks = scenarios.plans, scenarios.stacks
    flags = (plans.unfused_loss, plans.fused_loss, plans.chunked_loss)
    single, fused, chunked = (np.asarray(flag) > 0.0 for flag in flags)
    if not np.any(single | fused | chunked):
        return LossHabits(stacks.keeps_logits, 0.0, 0.0, stacks.loss_passes, stacks.logit_copies)
    kernel = fused | chunked
    return LossHabits(
        keeps=np.where(single | fused, 1.0, np.where(chunked, 0.0, stacks.keeps_logits)),
        fused=np.where(fused, 1.0, 0.0),
        in_kernel=np.where(kernel, 1.0, 0.0),
        passes=np.where(single, _SINGLE_PASSES, np.where(kernel, 0.0, stacks.loss_passes)),
        copies=np.where(single, _SINGLE_COPIES, np.where(kernel, 0.0, stacks.logit_copies)),
    )
