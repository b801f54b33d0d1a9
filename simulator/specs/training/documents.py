"""Documents packed in a sequence, whose tokens attend to those of their own document only."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from hardware.amounts import read_number
from hardware.errors import InputError, shown
from hardware.fields import Also, Unit
from hardware.sheet import NO_FLAG, Sheet
from simulator.formulas.typing import Num
from simulator.specs.columns import Columns
from simulator.specs.model import Model

_MOST = 100
"""Lengths that a list has at most: every layer goes through them."""
_NODES = 32
"""Lengths that stand for a distribution."""
Length = Annotated[float, Field(ge=1, le=10_000_000, allow_inf_nan=False), NO_FLAG, Unit("token")]


class Packing(Sheet):
    """How long the documents are of which sequences are packed."""

    document_lengths: Annotated[
        tuple[Length, ...] | None,
        Also(float, "the length of every document, or the mean of them beside document_deviation"),
        Also(str, "lengths with commas, such as 2048,1024,512,512"),
    ] = None
    """Lengths of the documents that a sequence is packed of, of which each attends to itself only: their mean, or a
    sample of them, in whose proportions they come; longer ones than a sequence are cut at its end. One document as long
    as the sequence unless given."""
    document_deviation: Annotated[float, Field(gt=0, le=10_000_000, allow_inf_nan=False), NO_FLAG, Unit("token")] | (
        None
    ) = None
    """Standard deviation of the lengths of documents, whose logarithms are then normal, beside their mean."""

    @field_validator("document_lengths", mode="before")
    @classmethod
    def _split_lengths(cls, value: object) -> object:
        if isinstance(value, str):
            numbers = [read_number(part.strip()) for part in value.split(",")]
            if any(number is None for number in numbers):
                raise ValueError(f"{shown(value)} are no lengths; write tokens such as 700 or 2048,1024,512,512")
            return tuple(numbers)
        return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("document_lengths")
    @classmethod
    def _are_some(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and not 1 <= len(value) <= _MOST:
            raise ValueError(
                f"{len(value)} lengths; valid: 1 to {_MOST}, or the mean of more of them with document_deviation"
            )
        return value

    def check_documents(self, model: Model) -> None:
        """Refuse documents of which nothing can be said.

        Raises
        ------
        InputError
            Where the model's attention cannot be told apart by document, or a deviation has no mean.
        """
        lengths, deviation = self.document_lengths, self.document_deviation
        if deviation is not None and (lengths is None or len(lengths) > 1):
            what = "goes with one mean length, not with a list" if lengths else "needs the mean length of documents"
            raise InputError(
                f"document_deviation={deviation:.15g} {what}; give the mean beside it, such as document_lengths=700, "
                "or a list of lengths without it",
                fields=["workload.document_deviation", "workload.document_lengths"],
            )
        relative = model.positions == "transformer-xl" or model.position_products
        if lengths is not None and (relative or model.decoder_layers is not None):
            what = "products of relative positions" if relative else "an encoder and a decoder"
            raise InputError(
                f"document_lengths={','.join(f'{length:.15g}' for length in lengths)}: packed documents of {model.id}, "
                f"a model with {what}, cannot be counted; leave it out",
                fields=["workload.document_lengths"],
            )

    def documents(self, longest: float) -> tuple[Document, ...]:
        """Documents by length, cut at the longest sequence [token]; none where a sequence is one document."""
        if self.document_lengths is None:
            return ()
        if self.document_deviation is None:
            numbers: Iterable[tuple[float, float]] = ((length, 1.0) for length in self.document_lengths)
        else:
            lengths, shares = _log_normal_lengths(self.document_lengths[0], self.document_deviation)
            numbers = zip(lengths.tolist(), shares.tolist(), strict=True)
        tokens: dict[float, float] = {}
        for length, number in numbers:
            whole = math.floor(length / longest)
            for piece, pieces in ((longest, whole), (length - whole * longest, 1)):
                if pieces and piece > 0.0:
                    tokens[piece] = tokens.get(piece, 0.0) + number * pieces * piece
        together = math.fsum(tokens.values())
        return tuple(Document(length=length, share=part / together) for length, part in tokens.items())


@dataclass(frozen=True)
class Document(Columns):
    """Documents of one length, as numbers."""

    length: Num
    """Of one of them [token]."""
    share: Num
    """Of all tokens that lie in such documents [1]."""


def _log_normal_lengths(
    mean_length: float, length_deviation: float, *, nodes: int = _NODES
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lengths and their shares that stand for a log-normal distribution of lengths.

    Nodes x and weights of the Gauss-Hermite quadrature: ``l = m exp(s x - s^2 / 2)``, ``s^2 = ln(1 + d^2 / m^2)``.

    Parameters
    ----------
    mean_length
        Of the lengths m [token].
    length_deviation
        Standard deviation of the lengths d [token].
    nodes
        Number of lengths [1].

    Returns
    -------
    tuple of NDArray
        Lengths [token] and the share of documents of each, which sum to 1 [1]; shape ``(nodes,)``.

    Notes
    -----
    For one mean and deviation. Sums of smooth functions of the length, such as its square, are exact to rounding while
    the deviation is no more than three times the mean.

    References
    ----------
    Abramowitz and Stegun, Handbook of Mathematical Functions, 25.4.46.
    """
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    spread = np.sqrt(np.log1p((length_deviation / np.asarray(mean_length)) ** 2))
    return mean_length * np.exp(spread * points - spread**2 / 2.0), weights / weights.sum()
