"""Counts of a deep model from shallow ones: one layer of each kind, times how many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from simulator.specs.model import Model

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Kind:
    """Layers that are all alike."""

    name: str
    number: int
    bigger: Model
    """A shallow model with one of these layers more than `smaller`, and else alike."""
    smaller: Model


@dataclass(frozen=True)
class Parts(Generic[Key]):
    """Counts of a model, by place."""

    layers: tuple[Mapping[Key, int], ...]
    """Counts of one layer of each kind."""
    numbers: tuple[int, ...]
    """How many layers there are of each kind."""
    ends: Mapping[Key, int]
    """Of embedding and head."""

    def together(self, numbers: tuple[int, ...] | None = None) -> Counter[Key]:
        """Counts of the model, or of one with other numbers of layers; what comes out as 0 is left out."""
        total = Counter(dict(self.ends))
        for one, number in zip(self.layers, numbers or self.numbers, strict=True):
            total.update({key: number * value for key, value in one.items()})
        return Counter({key: value for key, value in total.items() if value})


def shallow(model: Model) -> Model:
    """The model with one layer of each kind."""
    dense, experts = _first_tower(model)
    changes: dict[str, Any] = {"layers": 1 + (dense > 0 and experts > 0), "expert_period": 1, "dense_layers_first": 0}
    changes |= {"dense_layers": (), "rotary_pattern": ()}
    if dense > 0 and experts > 0:
        changes["expert_period"] = 2
    if _first_differs(model):
        changes["layers"] = 2
    return model.model_copy(update=changes | ({"decoder_layers": 1} if model.decoder_layers else {}))


def kinds(model: Model) -> tuple[Kind, ...]:
    """The kinds of layers, in the order of its columns: a first one, dense ones, ones with experts, the decoder's."""
    base, (dense, experts) = shallow(model), _first_tower(model)
    two = base.model_copy(update={"layers": 2})
    one = base.model_copy(update={"layers": 1})
    both = dense > 0 and experts > 0
    listed = []
    if _first_differs(model):
        plain = one.model_copy(update={"first_layer_norms": None})
        return Kind("first layer", 1, base, plain), Kind("layer", dense - 1, base, one)
    if dense:
        without = one.model_copy(update={"expert_period": 1})
        listed.append(Kind("layer", dense, base, without) if both else Kind("layer", dense, two, one))
    if experts:
        name = "layer with experts"
        # The first of every two layers has none.
        listed.append(Kind(name, experts, base, one) if both else Kind(name, experts, two, one))
    if model.decoder_layers:
        more = base.model_copy(update={"decoder_layers": 2})
        listed.append(Kind("layer of the decoder", model.decoder_layers, more, base))
    return tuple(listed)


def _first_differs(model: Model) -> bool:
    """Whether the first of several layers has fewer normalisations."""
    return model.first_layer_norms is not None and model.layers > 1


def _first_tower(model: Model) -> tuple[int, int]:
    """Layers of the encoder, or of the only tower, without and with experts."""
    experts = sum(model.kind_of_layer(index).has_experts for index in range(model.layers))
    return model.layers - experts, experts


def by_kind(model: Model, count: Callable[[Model], Mapping[Key, int]]) -> Parts[Key]:
    """Count shallow models, and tell from them what each layer and what the ends have.

    Parameters
    ----------
    model
        The model, of any depth.
    count
        Counts a shallow one.
    """
    known: dict[tuple[int | None, ...], Mapping[Key, int]] = {}

    def counted(one: Model) -> Mapping[Key, int]:
        place = (one.layers, one.decoder_layers, one.expert_period, one.first_layer_norms)
        if place not in known:
            known[place] = count(one)
        return known[place]

    every = kinds(model)
    layers = tuple(_less(counted(kind.bigger), counted(kind.smaller)) for kind in every)
    ends = counted(shallow(model))
    for one in layers:
        ends = _less(ends, one)
    return Parts(layers, tuple(kind.number for kind in every), ends)


def _less(whole: Mapping[Key, int], part: Mapping[Key, int]) -> dict[Key, int]:
    """What one count has more than another."""
    return {key: whole.get(key, 0) - part.get(key, 0) for key in {**whole, **part}}
