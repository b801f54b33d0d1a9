"""Adapters by the names of modules, as PEFT takes them: which matrices they stand beside, and the other way round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hardware.reading import read_mapping
from simulator.launch.saying import lacks
from simulator.launch.settings import LaunchSettings
from simulator.specs.loading import load_model
from simulator.specs.model import Model
from simulator.specs.training.tuning import MATRICES, TARGETS
from simulator.specs.workload import Workload

_ALL = ("all", "all-linear")
_OF_EXPERTS = frozenset({"gate", "up", "down"})
_CHOICE = "choose lora_targets=attention"


@dataclass(frozen=True)
class LayerModules:
    """The modules of a layer of some families of models."""

    paths: Mapping[str, str]
    """Ends of their paths, by matrix."""
    linear: bool
    """Whether a framework that adapts all linear modules finds them."""

    def named(self, name: str) -> tuple[str, ...]:
        """The matrices of modules whose paths end in a name, as PEFT compares them."""
        return tuple(matrix for matrix, path in self.paths.items() if _ends_in(path, name))

    def short_name(self, path: str) -> str:
        """The shortest end of a path that no other module of the layer has."""
        parts = path.split(".")
        ends = [".".join(parts[index:]) for index in reversed(range(len(parts)))]
        others = set(self.paths.values()) - {path}
        return next(end for end in ends if not any(_ends_in(other, end) for other in others))


def _ends_in(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


@cache
def _layers() -> dict[str, LayerModules]:
    """Modules of a layer, by family."""
    layers: dict[str, LayerModules] = {}
    for entry in read_mapping(Path(__file__).parents[1] / "names" / "modules.yaml").values():
        paths = {matrix: entry[matrix] for matrix in MATRICES if matrix in entry}
        layers |= dict.fromkeys(entry["families"], LayerModules(paths, linear=entry["linear"]))
    return layers


def written_targets(model: Model, work: Workload, framework: str) -> tuple[str, ...] | None:
    """Names of the modules with an adapter; none where they are all linear ones.

    Parameters
    ----------
    model
        The model, of transformers.
    work
        The resolved workload, with adapters.
    framework
        As people write it.

    Raises
    ------
    InputError
        Where the modules of the model cannot have these adapters.
    """
    tunings, layer = work.tunings(), _layers().get(model.family)
    wanted = [matrix for matrix in MATRICES if getattr(tunings, matrix)]
    if layer is None:
        raise lacks(framework, f"names of the modules of {model.id}", "choose another model")
    if model.experts > 1 and _OF_EXPERTS & set(wanted):
        raise lacks(framework, "adapters of experts, which transformers holds as one parameter", _CHOICE)
    paths = dict.fromkeys(layer.paths[matrix] for matrix in wanted if matrix in layer.paths)
    for path in paths:
        together = layer.named(path)
        if not set(together) <= set(wanted):
            what = f"adapter of {', '.join(matrix for matrix in together if matrix in wanted)} alone"
            raise lacks(framework, f"{what}: {path} computes {', '.join(together)}", _CHOICE)
    if layer.linear and model.experts == 1 and set(paths) == set(layer.paths.values()):
        return None
    return tuple(layer.short_name(path) for path in paths)


def shares_adapters(model: Model, work: Workload) -> bool:
    """Whether one adapter of the model's modules stands for several that are counted."""
    layer = _layers().get(model.family)
    return layer is not None and len(set(layer.paths.values())) < len(layer.paths) and bool(work.tunings().query)


def read_targets(
    settings: LaunchSettings, key: str, names: Sequence[str], model: str | None, assumed: list[str]
) -> tuple[str, ...]:
    """Targets of adapters, in the words of a workload.

    Parameters
    ----------
    settings
        The settings of the trainer.
    key
        That names the modules.
    names
        Of modules, as PEFT compares them with the ends of paths; `all` or `all-linear` for all linear ones.
    model
        A model's name or file, where it is known.
    assumed
        Takes what follows from the model rather than from the file.

    Raises
    ------
    InputError
        Where a module is no matrix of a layer.
    """
    sheet = None if model is None else load_model(model)
    layer = _layers().get(sheet.family if sheet is not None else "llama") or _layers()["llama"]
    experts = sheet is not None and sheet.experts > 1
    targets: list[str] = []
    for name in names:
        words = (name,) if name in TARGETS else layer.named(name)
        if name in _ALL:
            words = ("attention",) if experts else ("all-linear",)
            if experts:
                assumed.append("lora_targets=attention: all linear modules; experts are one parameter of transformers")
        elif not words:
            sentence = f"names {name}, which is no matrix of a layer; capsim reads names such as q_proj and down_proj"
            raise settings.wrong(key, sentence)
        elif experts and _OF_EXPERTS & {matrix for word in words for matrix in TARGETS[word]}:
            raise settings.wrong(key, f"names {name}: adapters of experts are not understood; keep those of attention")
        targets += [word for word in words if word not in targets]
    return tuple(targets)
