"""Models, stacks and scenarios by name, from a file, or as they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict

from hardware.catalogue import id_of, locate
from hardware.errors import InputError, unknown
from hardware.fields import Unit
from hardware.reading import build, is_document, is_path, read_mapping
from hardware.sheet import NO_FLAG
from simulator.specs.huggingface.hub import config_of, is_hub_id, repository_of
from simulator.specs.model import Model
from simulator.specs.naming import model_named, suggestions
from simulator.specs.plan import Plan
from simulator.specs.running import Ownership, PriceKind, Reliability
from simulator.specs.software.naming import no_stack, stack_meant
from simulator.specs.stack import Stack
from simulator.specs.workload import Workload

_ROOT = Path(__file__).parent


def names(kind: str) -> list[str]:
    """The names of the files of one kind: models, stacks or scenarios."""
    return sorted(path.stem for path in (_ROOT / kind).glob("*.yaml"))


@cache
def _shipped_model(path: Path) -> Model:
    return _model(path)


def _model(path: Path) -> Model:
    """Read a model of ours."""
    document = _named(path)
    if "model" in document and "layers" not in document:
        raise InputError(f"{path}: holds a scenario, not a model; a model gives layers, hidden_size and so on")
    return build(Model, document, path=path)


@cache
def _shipped_stack(path: Path) -> Stack:
    return build(Stack, _named(path), path=path)


def load_model(name: str | Path | Mapping[str, Any] | Model) -> Model:
    """Load an architecture: by name, from a file of ours or a Hugging Face ``config.json`` or Meta's ``params.json``.

    A name may be an alias of the catalogue; a folder means the ``config.json`` in it; and owner/name a model of the
    Hugging Face hub, in its cache on this machine or fetched. A JSON file that gives `layers` is one of ours, as the
    catalogue prints it. A mapping with the key ``base`` changes fields of a known model.

    Raises
    ------
    InputError
        With the nearest known names, or file, line and field.

    Examples
    --------
    >>> load_model("bert-large").hidden_size
    1024
    >>> load_model({"base": "bert-large", "objective": "span"}).objective
    'span'
    """
    if isinstance(name, Model):
        return name
    if isinstance(name, Mapping):
        changes = dict(name)
        base = load_model(changes.pop("base")).model_dump(exclude_unset=True) if "base" in changes else {}
        return build(Model, {**base, **changes})
    path, called = _place_of_model(name)
    if path.suffix == ".json" and "layers" not in (config := read_mapping(path)):
        from simulator.specs.huggingface.reading import from_config
        from simulator.specs.meta_params import from_params, is_params

        return from_params(config, path) if is_params(config) else from_config(config, path, name=called)
    return _shipped_model(path) if path.parent == _ROOT / "models" else _model(path)


def _place_of_model(name: str | Path) -> tuple[Path, str]:
    """The file of a model, and what to call what it holds where the file does not say."""
    if not isinstance(name, (str, Path)):
        return locate(_ROOT, "model", name), ""
    known = model_named(name) if isinstance(name, str) and name.isprintable() and not is_document(name) else None
    if known is not None:
        return _ROOT / "models" / f"{known}.yaml", ""
    if isinstance(name, str) and is_hub_id(name):
        return config_of(name), name.rpartition("/")[2]
    if isinstance(name, str) and name and not is_path(name) and not _is_folder(name):
        raise unknown("model", name, suggestions(name, names("models")) or names("models"))
    path = Path(name) if name and _is_folder(name) else locate(_ROOT, "model", name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"{path}: is a folder without a config.json; give a file, or a folder that holds one")
        path = path / "config.json"
    return path, repository_of(path)


def _is_folder(name: str | Path) -> bool:
    """Whether there is a folder of that name; none has a name that is too long."""
    try:
        return Path(name).is_dir()
    except OSError:
        return False


def load_stack(name: str | Path | Stack, *, platform: str | None = None) -> Stack:
    """Load a software stack by name, from a file, or pass one through.

    Parameters
    ----------
    name
        A stack's name, or another that people type for it.
    platform
        The kind of device that it is for, where a name means one stack on GPUs and another on TPUs.

    Raises
    ------
    InputError
        With what the name may mean, or why nothing prices it.

    Examples
    --------
    >>> load_stack("megatron-lm").platform
    'gpu'
    >>> load_stack("trl").id, load_stack("maxtext", platform="tpu").id
    ('huggingface', 'maxtext-tpu')
    """
    if isinstance(name, Stack):
        return name
    if isinstance(name, str) and name and not is_path(name):
        meant = stack_meant(name, platform)
        if meant is None:
            raise no_stack(name)
        name = meant
    path = locate(_ROOT, "stack", name)
    return _shipped_stack(path) if path.parent == _ROOT / "stacks" else build(Stack, _named(path), path=path)


def _named(path: Path) -> dict[str, Any]:
    """A file's fields, with an id after its name unless it gives one."""
    return {"id": id_of(path), **read_mapping(path)}


class ScenarioFile(BaseModel):
    """A scenario file: what to estimate."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    title: str | None = None
    """What the answer is headed with."""
    model: str | dict[str, Any]
    """A model's name or file, or fields that change one: `{base: bert-large, objective: span}`."""
    system: str | None = None
    """A system's name or file, or a device's, which means a plain host of it; it may be left out where a profile is
    given, which means a plain host of the profile's device."""
    devices: Annotated[int, NO_FLAG, Unit("device")] | None = None
    """Number of devices; what the system usually has unless given."""
    stack: str | None = None
    """The software: a stack's name or file; the usual one for the model and the system unless given."""
    plan: Plan = Plan()
    """How the run is split; what is left open is chosen."""
    workload: Workload = Workload()
    """What is trained on; what is left open is as the model was published."""
    price: Annotated[float, NO_FLAG, Unit("USD/h")] | str | None = None
    """Price of one device: a number of USD an hour, a provider, an offer of the catalogue, or a file of offers;
    unless given what the system's file says, else the cheapest on demand that can run the job, else the median."""
    grid: str | None = None
    """Whose electricity: a grid of the catalogue; the world's unless given."""
    overhead: str | None = None
    """Power usage effectiveness: a kind of data centre of the catalogue; the default one unless given."""
    constants: str | None = None
    """A file that capsim fit wrote, or none for the constants of the catalogue alone."""
    profile: str | None = None
    """A measured profile: its name, or a file that capsim calibrate wrote."""
    price_kind: PriceKind | None = None
    """On which terms devices are had; any unless given."""
    fits: Annotated[float, NO_FLAG, Unit("1")] | str | None = None
    """Probability of fitting in memory from which plans are chosen and recommended, such as 0.8 or 80%."""
    prices: dict[str, Annotated[float, NO_FLAG, Unit("USD/h")] | str] | None = None
    """Negotiated prices of one device, by system or device; for a scenario that is tried on several."""
    ownership: Ownership = Ownership()
    """What an owned device costs."""
    reliability: Reliability = Reliability()
    """How often a run is interrupted, and what it does about it."""


def load_scenario(name: str | Path) -> ScenarioFile:
    """Read a scenario by name or from a file; paths inside it are relative to it.

    Raises
    ------
    InputError
        With file, line and field.
    """
    path = locate(_ROOT, "scenario", name)
    document = read_mapping(path)
    if "layers" in document and "model" not in document:
        raise InputError(f"{path}: holds a model, not a scenario; a scenario names a model and a system")
    return beside(build(ScenarioFile, document, path=path), path)


def beside(scenario: ScenarioFile, path: Path) -> ScenarioFile:
    """Read paths in a scenario file from where it lies."""

    def near(name: Any) -> Any:
        moves = isinstance(name, str) and is_path(name) and not (is_hub_id(name) and not (path.parent / name).exists())
        return str(path.parent / name) if moves else name

    model = scenario.model
    if isinstance(model, dict):
        model = {key: near(value) if key == "base" else value for key, value in model.items()}
    named = ("system", "stack", "constants", "profile")
    moved: dict[str, Any] = {name: near(getattr(scenario, name)) for name in named} | {"model": near(model)}
    teacher = scenario.workload.teacher
    if isinstance(teacher, dict):
        teacher = {key: near(value) if key == "base" else value for key, value in teacher.items()}
    if teacher is not None:
        moved["workload"] = scenario.workload.model_copy(update={"teacher": near(teacher)})
    if is_document(scenario.price):
        moved["price"] = near(scenario.price)
    return scenario.model_copy(update={field: name for field, name in moved.items() if name is not None})


def scenario_of(
    name: str | Mapping[str, Any],
    *,
    plan: Mapping[str, Any],
    workload: Mapping[str, Any],
    ownership: Mapping[str, Any] | None = None,
    reliability: Mapping[str, Any] | None = None,
    objective: str | None = None,
    **others: Any,
) -> ScenarioFile:
    """A scenario from a model and options, or from a scenario file, or its fields, which the options replace.

    A YAML file is a scenario where it names a system, and a model otherwise.

    Raises
    ------
    InputError
        One sentence.
    """
    document: dict[str, Any] = {"model": name} if isinstance(name, str) else dict(name)
    path = Path(name) if isinstance(name, str) else Path()
    if is_path(name) and path.suffix != ".json" and not is_hub_id(str(name)) and not path.is_dir():
        contents = read_mapping(path)
        if "system" in contents or "profile" in contents or ("model" in contents and "layers" not in contents):
            scenario = beside(build(ScenarioFile, contents, path=path), path)
            document = scenario.model_dump(mode="json", exclude_unset=True)
    if objective is not None:
        model = document["model"]
        document["model"] = {**(dict(model) if isinstance(model, Mapping) else {"base": model}), "objective": objective}
    document |= others
    document["plan"] = {**document.get("plan", {}), **plan}
    document["ownership"] = {**document.get("ownership", {}), **(ownership or {})}
    document["reliability"] = {**document.get("reliability", {}), **(reliability or {})}
    document["workload"] = {**_without_other_total(document.get("workload", {}), workload), **workload}
    if "system" not in document and "profile" not in document:
        raise InputError("--system is missing: name what the model runs on, such as --system dgx-a100-640gb")
    return build(ScenarioFile, document)


def _without_other_total(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """A workload without the total that a new one replaces: tokens and steps exclude each other."""
    replaced = {"tokens", "steps"} if {"tokens", "steps"} & new.keys() else set()
    return {name: value for name, value in old.items() if name not in replaced}
