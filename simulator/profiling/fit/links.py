"""Constants of collectives inside a node, from measured times.

Every kind and number of ranks has six constants, and few rows to say them by. So what all rows have in common is
fitted first, as factors on what the catalogue says; then what sets a number of ranks apart, then a kind, and at last
one kind over one number of ranks. Each stage is held near the one before by a prior, the tighter the less it is
expected to differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from hardware.measured import CollectiveName, HeldOutScore, LinkConstants
from hardware.quantity import show
from simulator.formulas.collectives import measured_link_time
from simulator.pricing.backend import Backend
from simulator.pricing.measured_links import COSTS, SCALES, MeasuredLinks, volume
from simulator.pricing.requests import link_request
from simulator.profiling.fit.held_out import score
from simulator.profiling.fit.robust import Constant, solve
from simulator.profiling.records.rows import Collectives, Mask, Values

KINDS: tuple[CollectiveName, ...] = get_args(CollectiveName)
FEWEST_SIZES = 3
"""With fewer sizes of message, times are only scaled."""

Constants = dict[str, float]
Group = tuple[CollectiveName, int]
"""Kind, and number of ranks."""
Known = dict[Group, Constants]

_NAMES = (*COSTS, *SCALES)
_MEDIUM, _LARGE = 2.0**14, 1.5 * 2.0**20
"""Sizes of message [B] about which NCCL changes its protocol."""
_GRID: Values = 2.0 ** np.arange(10, 31).astype(np.float64)
_WIDEST = 50.0
"""Factor, either way, by which a stage may change a constant."""
_SCALE_DEVIATION = 0.3
"""Of the logarithm of the factor on times of which there are few."""
_SMALLEST = {"latency": 1e-8, "medium_cost": 1e-8, "large_cost": 1e-8, "rate": 1e3}

_Stage = Mapping[str, float]
"""Constants that differ from those of the stage before, and the deviation expected of their logarithms."""
_ALL: _Stage = dict.fromkeys(_NAMES, 1.0)
_KIND: _Stage = {**dict.fromkeys(_NAMES, 1.0), "rate": 0.5}
_DEGREE: _Stage = {"latency": 0.5, "large_cost": 0.5, "rate": 0.5}
_ALONE: _Stage = {"latency": 0.5, "medium_cost": 0.5, "large_cost": 0.5, "rate": 0.3}
"""Sizes about which a protocol changes are taken to be those of the kind."""
_TELLING = 0.5
"""Rows tell a constant where it is at least this share of the time of one of them."""


@dataclass(frozen=True)
class FittedLinks:
    """What rows say of the links inside a node."""

    constants: dict[CollectiveName, dict[int, LinkConstants]]
    scores: tuple[HeldOutScore, ...]
    borrowed: dict[str, str]
    """What the rows could not determine, and where it comes from."""
    used: int
    dropped: int
    """Rows of groups that span nodes, of other kinds, or without a time."""


def fit(rows: Collectives, catalogue: Backend) -> FittedLinks:
    """Fit constants for every kind and number of ranks that were measured within one node.

    Parameters
    ----------
    rows
        Measured times; each message is the whole reduced, gathered, scattered or exchanged tensor.
    catalogue
        Prices collectives by what is known without measurements: it is the start, and what little data only scales.

    Notes
    -----
    Scores start from the catalogue too. Its constants of NVLink were fitted to the tables that come with the product:
    to score these without what they taught, give the catalogue of another device.
    """
    usable = _usable(rows)
    inside = rows.where(usable)
    known, borrowed = _fitted(inside, catalogue)
    return FittedLinks(
        constants=_by_kind(known),
        scores=tuple(_scores(inside, catalogue)),
        borrowed=borrowed,
        used=len(inside),
        dropped=len(rows) - len(inside),
    )


def _usable(rows: Collectives) -> Mask:
    sound = np.isfinite(rows.seconds) & (rows.seconds > 0) & np.isfinite(rows.message_bytes) & (rows.message_bytes > 0)
    return np.asarray(sound & (rows.degree > 1) & (rows.nodes <= 1.0) & np.isin(rows.kind, KINDS), dtype=np.bool_)


def _groups(rows: Collectives) -> list[Group]:
    """The kinds that were measured, each with its numbers of ranks."""
    return [
        (kind, int(ranks))
        for kind in KINDS
        if np.any(rows.kind == kind)
        for ranks in np.unique(rows.degree[rows.kind == kind])
    ]


def _before(catalogue: Backend, kind: CollectiveName, ranks: int, message_bytes: Values) -> Values:
    """Times without measurements."""
    asked = link_request(kind, message_bytes, degree=float(ranks))
    return np.asarray(catalogue.time(asked), dtype=np.float64)


def _start(catalogue: Backend, kind: CollectiveName, ranks: int) -> Constants:
    """The constants nearest to what the catalogue says: linear, since the sizes are NCCL's usual ones."""
    from scipy.optimize import nnls  # only fits need it

    times, sent = _before(catalogue, kind, ranks, _GRID), np.asarray(volume(kind, _GRID, float(ranks)))
    steps = [_GRID**2 / (_GRID**2 + size**2) for size in (_MEDIUM, _LARGE)]
    terms = np.stack([np.ones_like(_GRID), *steps, sent]) / times
    largest = terms.max(axis=1)
    weights, _ = nnls((terms / largest[:, None]).T, np.ones_like(_GRID))
    latency, medium, large, inverse = (float(each) for each in weights / largest)
    return {
        "latency": max(latency, 1e-6),
        "medium_cost": max(medium, 0.2 * latency, 2e-7),
        "large_cost": max(large, latency, 1e-6),
        "medium_size": _MEDIUM,
        "large_size": _LARGE,
        "rate": 1.0 / max(inverse, 1e-15),
    }


def _fitted(rows: Collectives, catalogue: Backend) -> tuple[Known, dict[str, str]]:
    """All constants, stage by stage, and what the rows did not determine."""
    known = {group: _start(catalogue, *group) for group in _groups(rows)}
    known = _refined(known, rows, list(known), _ALL)
    for ranks in dict.fromkeys(ranks for _, ranks in known):
        known = _refined(known, rows, [group for group in known if group[1] == ranks], _DEGREE)
    for kind in dict.fromkeys(kind for kind, _ in known):
        known = _refined(known, rows, [group for group in known if group[0] == kind], _KIND)
    for group in known:
        known = _refined(known, rows, [group], _ALONE)
    words = {f"links.{kind}.{ranks}": _words(rows, (kind, ranks), each) for (kind, ranks), each in known.items()}
    return known, {name: each for name, each in words.items() if each}


def _refined(known: Known, rows: Collectives, groups: Sequence[Group], stage: _Stage) -> Known:
    """Multiply the constants of some groups by what their rows say."""
    part = {group: known[group] for group in groups}
    factors = _factors(rows.where(_members(rows, groups)), part, stage)
    return known | {group: {name: each[name] * factors[name] for name in _NAMES} for group, each in part.items()}


def _members(rows: Collectives, groups: Sequence[Group]) -> Mask:
    """The rows of some groups."""
    members = np.zeros(len(rows), dtype=np.bool_)
    for kind, ranks in groups:
        members |= (rows.kind == kind) & (rows.degree == ranks)
    return members


def _columns(rows: Collectives, known: Known) -> tuple[dict[str, Values], Values]:
    """The constants of each row, and the bytes that one rank sends."""
    columns = {name: np.empty(len(rows)) for name in _NAMES}
    sent = np.empty(len(rows))
    for group, each in known.items():
        here = _members(rows, [group])
        sent[here] = volume(group[0], rows.message_bytes[here], float(group[1]))
        for name in _NAMES:
            columns[name][here] = each[name]
    return columns, sent


def _factors(rows: Collectives, known: Known, stage: _Stage) -> Constants:
    """What to multiply constants by so that these rows are met."""
    columns, sent = _columns(rows, known)
    few = _sizes(rows) < FEWEST_SIZES
    deviations = {"scale": _SCALE_DEVIATION} if few else stage
    free = [
        Constant(name, 1.0, 1.0 / _WIDEST, _WIDEST, deviation, relative=True) for name, deviation in deviations.items()
    ]

    def logs(values: Mapping[str, float]) -> Values:
        factors = _spread(values)
        moved = {name: columns[name] * factors[name] for name in _NAMES}
        return np.log(np.asarray(measured_link_time(rows.message_bytes, sent, **moved), dtype=np.float64))

    return _spread(solve(free, logs, np.log(rows.seconds), np.ones(len(rows)), goes_back=False).values)


def _spread(values: Mapping[str, float]) -> Constants:
    """Factors of all constants, also where only the time as a whole is scaled."""
    ones = dict.fromkeys(_NAMES, 1.0)
    scale = values.get("scale")
    return {**ones, **values} if scale is None else {**ones, **dict.fromkeys(COSTS, scale), "rate": 1.0 / scale}


def _words(rows: Collectives, group: Group, constants: Constants) -> str:
    """What the rows of a group leave open, and where it comes from."""
    kind, alone = _shown(group[0]), rows.where(_members(rows, [group]))
    sizes = _sizes(alone)
    if sizes < FEWEST_SIZES:
        alike = _sizes(rows.where(rows.kind == group[0])) >= FEWEST_SIZES
        form = f"{kind} over other numbers of ranks" if alike else "the catalogue and of others"
        return f"only {sizes} of the {FEWEST_SIZES} sizes of message that a fit needs: the form of {form}, scaled"
    columns, sent = _columns(alone, {group: constants})
    time = measured_link_time(alone.message_bytes, sent, **columns)
    if np.max(columns["latency"] / time) < _TELLING:
        return "latency: from others and the catalogue, since no message is small enough to tell"
    if np.max(sent / columns["rate"] / time) < _TELLING:
        return "rate: from others and the catalogue, since no message is large enough to tell"
    return ""


def _shown(kind: str) -> str:
    return kind.replace("_", "-")


def _sizes(rows: Collectives) -> int:
    """How many sizes of message were measured."""
    return len(np.unique(rows.message_bytes))


def _written(constants: Constants) -> LinkConstants:
    """As a profile holds them: figures with their units, none finer than times can be measured."""
    units = {"rate": "bandwidth", "medium_size": "memory size", "large_size": "memory size"}
    rounded = {name: max(float(f"{constants[name]:.4g}"), _SMALLEST.get(name, 1.0)) for name in _NAMES}
    return LinkConstants.model_validate({name: show(rounded[name], units.get(name, "time")) for name in _NAMES})


def _by_kind(known: Known) -> dict[CollectiveName, dict[int, LinkConstants]]:
    """As a profile holds them."""
    by_kind: dict[CollectiveName, dict[int, LinkConstants]] = {}
    for (kind, ranks), constants in known.items():
        by_kind.setdefault(kind, {})[ranks] = _written(constants)
    return by_kind


def _priced(rows: Collectives, known: Known) -> Values:
    """Times of rows [s], where constants of their kind are known about their number of ranks, else nan."""
    links = MeasuredLinks(_by_kind(known))
    times = np.full(len(rows), np.nan)
    for kind in KINDS:
        here = rows.kind == kind
        time, certain = links.time(kind, rows.message_bytes[here], rows.degree[here])
        times[here] = np.where(certain, time, np.nan)
    return times


def _catalogued(rows: Collectives, catalogue: Backend) -> Values:
    """Times of rows without measurements [s]."""
    times = np.empty(len(rows))
    for group in _groups(rows):
        here = _members(rows, [group])
        times[here] = _before(catalogue, *group, rows.message_bytes[here])
    return times


def _scores(rows: Collectives, catalogue: Backend) -> list[HeldOutScore]:
    """How far off times are: of every second size of message by a fit to the others, and of ranks left out."""
    before = _catalogued(rows, catalogue)
    odd = np.round(np.log2(rows.message_bytes)) % 2 == 1
    by_size = _held_out(rows, catalogue, [odd, ~odd])
    parts: list[tuple[str, Mask]] = [("all", np.ones(len(rows), dtype=bool))]
    parts += [(_shown(kind), rows.kind == kind) for kind in KINDS]
    parts += [(f"{_shown(kind)} over {ranks} ranks", _members(rows, [(kind, ranks)])) for kind, ranks in _groups(rows)]
    scores = [_score(what, rows, part, by_size, before) for what, part in parts]
    between = np.unique(rows.degree)[1:-1]
    by_ranks = _held_out(rows, catalogue, [rows.degree == ranks for ranks in between])
    scores.append(_score("numbers of ranks left out", rows, np.ones(len(rows), dtype=bool), by_ranks, before))
    return [each for each in scores if each is not None]


@dataclass(frozen=True)
class _HeldOut:
    """Times [s] by fits that had not seen the row, nan where such a fit does not tell; and rows of a fit."""

    seconds: Values
    fitted: int


def _held_out(rows: Collectives, catalogue: Backend, folds: Sequence[Mask]) -> _HeldOut:
    """Price the rows of each fold by a fit to those outside of it."""
    seconds, fitted = np.full(len(rows), np.nan), []
    for fold in folds:
        if np.any(fold) and not np.all(fold):
            known, _ = _fitted(rows.where(~fold), catalogue)
            seconds[fold] = _priced(rows.where(fold), known)
            fitted.append(int((~fold).sum()))
    return _HeldOut(seconds, min(fitted, default=0))


def _score(what: str, rows: Collectives, part: Mask, held_out: _HeldOut, before: Values) -> HeldOutScore | None:
    """The score of some rows, or none where no fit tells of them."""
    scored = part & np.isfinite(held_out.seconds)
    if not np.any(scored):
        return None
    return score(
        "collective",
        what,
        rows.seconds[scored],
        fitted=held_out.fitted,
        predicted=held_out.seconds[scored],
        before=before[scored],
    )
