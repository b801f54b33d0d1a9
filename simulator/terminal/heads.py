"""What all answers of a table share, above it: batch, number format, optimizer, software."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simulator.answers.estimate import Estimate

_SHARED = ("precision", "optimizer", "stack")


def batch_words(workload: Mapping[str, Any]) -> str:
    """The batch of a resolved workload in words.

    >>> batch_words({"global_batch": 2048, "sequence_length": 8192})
    'batch 2,048 x 8,192 tokens'
    >>> batch_words({"global_batch": 8, "sequence_length": 512, "target_length": 128})
    'batch 8 x 512 + 128 tokens'
    """
    target = f" + {workload['target_length']:,}" if workload.get("target_length") else ""
    return f"batch {workload['global_batch']:,} x {workload['sequence_length']:,}{target} tokens"


def lengths_words(answers: Sequence[Estimate]) -> str:
    """The batch of all answers, or where it grows with the devices the length of their sequences."""
    words = dict.fromkeys(batch_words(answer.workload) for answer in answers)
    if len(words) == 1:
        return next(iter(words))
    return ", ".join(dict.fromkeys(f"sequences of {answer.workload['sequence_length']:,} tokens" for answer in answers))


def software_words(answer: Estimate, *, without: Sequence[str] = ()) -> str:
    """Number format, optimizer and stack of an answer in words, as far as they are not said elsewhere."""
    values = _values(answer)
    return ", ".join(values[name] for name in _SHARED if name not in without)


def shared_fields(answers: Sequence[Estimate]) -> tuple[str, ...]:
    """Of number format, optimizer and stack those that all answers have alike."""
    every = [_values(answer) for answer in answers]
    return tuple(name for name in _SHARED if len({each[name] for each in every}) == 1)


def shared_words(answers: Sequence[Estimate]) -> str:
    """Batch, number format, optimizer and stack of all answers, as far as they are alike."""
    shared = shared_fields(answers)
    apart = [name for name in _SHARED if name not in shared]
    alike = software_words(answers[0], without=apart) if shared else ""
    return ", ".join(filter(None, (lengths_words(answers), alike)))


def _values(answer: Estimate) -> dict[str, str]:
    """What answers may share, in words."""
    return {
        "precision": str(answer.plan["precision"]),
        "optimizer": str(answer.plan["optimizer"]),
        "stack": f"stack {answer.stack}",
    }
