"""Which kinds of work keep the catalogue's constants, because a fit is worse on rows that it had not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from hardware.measured import HeldOutScore

Learned = TypeVar("Learned")

_WORSE = 1.05
"""Held-out error of a fit over that of the catalogue's constants, up to which the fit is taken."""
_MARGIN = {"collective": 0.02}
"""Error by which a fit of a phase must be worse besides: the catalogue's links were fitted to the tables of collectives
that come with the product, so that its errors there are not those on rows it had not seen."""


def error_of(score: HeldOutScore) -> float:
    """The median error of a fit, with the nearest shapes where these make it less."""
    return min(score.median, score.median if score.with_residuals is None else score.with_residuals)


def is_worse(score: HeldOutScore) -> bool:
    """Whether a fit is further off than the catalogue's constants, on rows that it had not seen."""
    if score.before is None:
        return False
    error = error_of(score)
    return error > _WORSE * score.before and error > score.before + _MARGIN.get(score.phase, 0.0)


def why(scores: Iterable[HeldOutScore]) -> str:
    """Why a fit is not taken: the rows on which it is worse, and by how much; nothing where it is worse on none."""
    worse = [score for score in scores if is_worse(score)]
    if not worse:
        return ""
    told = (
        f"{score.what} {100 * error_of(score):.1f} % off by a fit to {score.fitted} others, "
        f"{100 * (score.before or 0.0):.1f} % by the catalogue"
        for score in worse
    )
    return "; ".join(told)


def kept(scores: Iterable[HeldOutScore]) -> list[HeldOutScore]:
    """Scores of a fit that was not taken: the profile has the catalogue's constants for such rows."""
    return [score.model_copy(update={"constants": "catalogue"}) for score in scores]


def best(
    learn: Callable[[tuple[str, ...]], Learned],
    scores_of: Callable[[Learned], Sequence[HeldOutScore]],
    by_part: dict[str, tuple[str, ...]],
) -> tuple[Learned, tuple[str, ...], bool]:
    """The fit with the fewest constants of the catalogue that is worse than it on no part.

    Parameters
    ----------
    learn
        Fits, with some constants held at the catalogue's.
    scores_of
        Held-out scores of a fit.
    by_part
        Constants that the rows of a part are priced by, by the first word of the part's name.

    Returns
    -------
    The fit, the constants that were held, and whether it may be taken. Where no fit passes, the first is returned.
    """
    first = learn(())
    worse = [score.what.partition(" ")[0] for score in scores_of(first) if is_worse(score)]
    if not worse:
        return first, (), True
    for part in [name for name in by_part if name in worse] or [*by_part]:
        trial = learn(by_part[part])
        if not any(is_worse(score) for score in scores_of(trial)):
            return trial, by_part[part], True
    return first, (), False
