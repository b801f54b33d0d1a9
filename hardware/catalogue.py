"""The catalogue: devices, their classes, systems, prices, profiles and sources, by name or from a file."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from hardware.classes import DeviceClass, LinkClass
from hardware.errors import InputError, about, shown, unknown
from hardware.measured import FORMAT, VERSION, MeasuredProfile
from hardware.price import Price
from hardware.reading import build, is_path, placed, read_mapping
from hardware.sheet import Sheet
from hardware.spec import Device, Failures, Figure, Grid, Overhead, Site, System

_ROOT = Path(__file__).parent

Entry = TypeVar("Entry", bound=Sheet)


def names(kind: str) -> list[str]:
    """The names of the files of one kind: devices, classes, systems or profiles."""
    return list(_stems(_ROOT / kind, (_ROOT / kind).stat().st_mtime_ns))


@cache
def _stems(folder: Path, _changed: int) -> tuple[str, ...]:
    """Names of the files of a folder as it was when it changed last."""
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def locate(root: Path, kind: str, name: str | Path, *, folder: str = "") -> Path:
    """The file that a name or a path means.

    Parameters
    ----------
    root
        What the folder of the files lies in.
    kind
        What is named, for the error.
    name
        A name without its suffix, in upper or lower case, or a path.
    folder
        Of the files; the plural of `kind` where none is given.

    Raises
    ------
    InputError
        With the nearest known names.
    """
    if is_path(name):
        return Path(name)
    if not isinstance(name, str) or not name:
        raise InputError(f"a {kind} is named by a word or a file, not by {shown(name)}")
    files = root / (folder or f"{kind}s")
    known = _stems(files, files.stat().st_mtime_ns if files.is_dir() else 0)
    if name.lower() not in known:
        raise unknown(kind, name, known)
    return files / f"{name.lower()}.yaml"


@cache
def _catalogued_device(path: Path) -> Device:
    return _device(path)


def _device(path: Path) -> Device:
    """Read a device; its id is the name of the file unless it gives one."""
    return build(Device, {"id": id_of(path), **read_mapping(path)}, path=path)


def id_of(path: Path) -> str:
    """An id after the name of a file."""
    return re.sub(r"[^a-z0-9.+-]+", "-", path.stem.lower()).strip("-.+") or "unnamed"


def load_device(name: str | Path | Device) -> Device:
    """Load a device by name, from a file, or pass one through.

    >>> load_device("a100-sxm4-80gb").peak.bf16
    312000000000000.0
    """
    if isinstance(name, Device):
        return name
    path = locate(_ROOT, "device", name)
    if path.parent == _ROOT / "devices":
        return _catalogued_device(path)
    device = _device(path)
    with placed(path), about("device_class"):
        load_class(device.device_class)
    return device


def load_system(name: str | Path | System) -> System:
    """Load a system by name, from a file, or pass one through; a device's name or file means a plain host of it.

    >>> load_system("dgx-a100-640gb").device.id
    'a100-sxm4-80gb'
    >>> load_system("rtx-3090").default_devices
    1
    """
    if isinstance(name, System):
        return name
    if not is_path(name) and str(name).lower() not in names("systems"):
        if str(name).lower() in names("devices"):
            return plain_host(load_device(name))
        raise unknown("system", str(name), names("systems") + names("devices"))
    path = locate(_ROOT, "system", name)
    document = {"id": id_of(path), **read_mapping(path)}
    if "device" not in document and "peak" in document:
        return plain_host(load_device(path))
    device = document.get("device")
    if isinstance(device, str):
        near = path.parent / device
        with placed(path), about("device"):
            document["device"] = load_device(near if is_path(device) and near.is_file() else device)
    system = build(System, document, path=path)
    with placed(path):
        _check_links(system)
        _check_offer(system)
    return system


def _check_offer(system: System) -> None:
    """Refuse the price of an offer that nobody makes."""
    if isinstance(system.price, str) and system.price not in {offer.id for offer in prices()}:
        raise unknown("offer", system.price, [offer.id for offer in prices()], fields=["price"])


def _check_links(system: System) -> None:
    """Refuse links of a kind that nobody knows."""
    for name, _, link in system.levels:
        if link.kind not in link_classes():
            raise unknown("kind of link", link.kind, sorted(link_classes()), fields=[f"{name}.kind"])


def plain_host(device: Device) -> System:
    """One host of up to eight devices: on their own board where they have one that joins all of them, else on PCIe.

    TPU chips have no links but their torus, so for them it is a slice of their pod.

    Raises
    ------
    InputError
        Where the data sheet of the device does not say enough.
    """
    if device.kind == "tpu":
        return _slice(device)
    board = device.scale_up
    if board is not None and board.topology in ("switch", "cube-mesh", "mesh"):
        rate = board.bandwidth_per_link if board.topology == "mesh" else board.bandwidth
        wiring: dict[str, object] = {"kind": board.kind, "topology": board.topology}
        wiring["in_network_reduction"] = _link_class(device, board.kind).reduction_gain > 1
    else:
        rate, wiring = device.host_link.bandwidth, {"kind": device.host_link.kind, "topology": "host-bridge"}
    if rate is None:
        raise InputError(f"{device.id}: the bandwidth of {wiring['kind']} is missing; without it there is no host")
    assumed = {
        "id": device.id,
        "name": f"Host with {device.name}"[:600],
        "device": device,
        "devices_per_node": 8,
        "most_devices": 8,
        "default_devices": 1,
        "intra_node": {**wiring, "bandwidth": f"{rate!r} B/s"},
        "note": "Assumed: one host with up to eight of these devices and no network to others.",
    }
    return build(System, assumed)


def _slice(device: Device) -> System:
    """A slice of a TPU's pod."""
    if f"{device.id}-pod" not in names("systems"):
        pods = ", ".join(name for name in names("systems") if name.startswith("tpu-"))
        raise InputError(f"{device.id}: a TPU is not used without the torus of its pod; name a system, such as {pods}")
    pod = load_system(f"{device.id}-pod")
    return pod.model_copy(update={"id": device.id, "name": f"Slice of a {pod.name}", "default_devices": 1})


def _link_class(device: Device, kind: str) -> LinkClass:
    """The constants of a device's links."""
    classes = link_classes()
    if kind not in classes:
        raise unknown(f"kind of link of {device.id}", kind, sorted(classes))
    return classes[kind]


@cache
def load_class(name: str) -> DeviceClass:
    """Load the constants that all devices of a class share."""
    path = locate(_ROOT, "device class", name, folder="classes")
    return build(DeviceClass, {"id": path.stem, **read_mapping(path)}, path=path)


def load_profile(name: str | Path | MeasuredProfile) -> MeasuredProfile:
    """Load a measured profile by name, from a file that `capsim calibrate` wrote, or pass one through.

    Raises
    ------
    InputError
        One sentence, where the file is none, is damaged, or was written by a later version.
    """
    if isinstance(name, MeasuredProfile):
        return name
    if is_path(name):
        return _profile(Path(name))
    known = names("profiles")
    if str(name).lower() not in known:
        raise unknown("profile", str(name), known, fields=["profile"])
    return _shipped_profile(str(name).lower())


@cache
def _shipped_profile(name: str) -> MeasuredProfile:
    return _profile(_ROOT / "profiles" / f"{name}.yaml")


def _profile(path: Path) -> MeasuredProfile:
    """Read a measured profile; what is of another format or version is refused before its fields are."""
    document = read_mapping(path)
    if document.get("format") != FORMAT:
        raise InputError(f"{path}: is no profile of capsim calibrate; its format does not say so")
    version = document.get("version")
    if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
        raise InputError(
            f"{path}: is a profile of version {shown(version)}, and this capsim reads version {VERSION}; update capsim"
        )
    profile = build(MeasuredProfile, {"id": id_of(path), **_renamed(document)}, path=path)
    device = profile.device
    with placed(path):
        if isinstance(device, str) and device not in names("devices"):
            raise unknown("device", device, names("devices"), fields=["device"])
        if isinstance(device, Device) and device.device_class not in names("classes"):
            raise unknown("device class", device.device_class, names("classes"), fields=["device.device_class"])
    return profile


def _renamed(document: dict[str, Any]) -> dict[str, Any]:
    """A profile whose sheet calls the class of its device by the name that earlier versions wrote."""
    sheet = document.get("device")
    if not isinstance(sheet, dict) or "profile" not in sheet or "device_class" in sheet:
        return document
    told = {"device_class" if name == "profile" else name: value for name, value in sheet.items()}
    return {**document, "device": told}


@cache
def link_classes() -> dict[str, LinkClass]:
    """Load the constants of every link technology, by kind."""
    return {entry.id: entry for entry in _entries(_ROOT / "links.yaml", LinkClass)}


def _entries(path: Path, kind: type[Entry]) -> list[Entry]:
    """Read a file that maps the id of each entry to its fields, or that holds one entry with its id among them."""
    document: dict[str, Any] = read_mapping(path)
    if isinstance(document.get("id"), str):
        return [build(kind, document, path=path)]
    return [
        build(kind, {"id": key, **fields} if isinstance(fields, dict) else fields, path=path, under=(key,))
        for key, fields in document.items()
    ]


@cache
def prices() -> tuple[Price, ...]:
    """Every price of the catalogue, dearest provider last within a device."""
    entries = [price for path in sorted((_ROOT / "prices").glob("*.yaml")) for price in _entries(path, Price)]
    return tuple(sorted(entries, key=lambda price: (price.device, price.rate)))


def load_prices(path: str | Path) -> tuple[Price, ...]:
    """Read offers of one's own: a file that maps a word for each offer to its fields, or one offer with its id.

    Raises
    ------
    InputError
        One sentence with file, line and field, also where the device of an offer is not known.
    """
    offers = _entries(Path(path), Price)
    for offer in offers:
        if offer.device not in names("devices"):
            with placed(path):
                problem = unknown("device", offer.device, names("devices"))
                raise InputError(f"{offer.id}: {problem}", fields=[f"{offer.id}.device", "device"])
    return tuple(sorted(offers, key=lambda offer: offer.rate))


@cache
def grids() -> dict[str, Grid]:
    """Carbon intensity of electricity by place."""
    return {entry.id: entry for entry in _entries(_ROOT / "grids.yaml", Grid)}


@cache
def overheads() -> dict[str, Overhead]:
    """Power usage effectiveness by kind of data centre."""
    return {entry.id: entry for entry in _entries(_ROOT / "overheads.yaml", Overhead)}


@cache
def failures() -> dict[str, Failures]:
    """How often devices fail and spot devices are preempted, by family of devices."""
    return {entry.id: entry for entry in _entries(_ROOT / "failures.yaml", Failures)}


def failures_of(device: Device) -> Failures:
    """The family of a device: the one whose words say most of its architecture, or that of all others.

    >>> failures_of(load_device("h100-sxm5-80gb")).id
    'hopper'
    """
    fitting = {
        len(words): family
        for family in failures().values()
        for words in (family.architectures or ("",))
        if device.architecture.startswith(words)
    }
    return fitting[max(fitting)]


@cache
def sites() -> dict[str, Site]:
    """What is assumed of storage, restarts and the cost of owned machines."""
    return {entry.id: entry for entry in _entries(_ROOT / "sites.yaml", Site)}


@cache
def sources() -> dict[str, str]:
    """The title of every source, by the key that figures cite."""
    return {key: str(title) for key, title in read_mapping(_ROOT / "sources.yaml").items()}


def measurements() -> tuple[Figure, ...]:
    """Published measurements of devices and links, as their sources print them."""
    return _figures("measurements.yaml")


def reliability() -> tuple[Figure, ...]:
    """Published failure rates, restarts and checkpoint sizes."""
    return _figures("reliability.yaml")


def differences() -> tuple[Figure, ...]:
    """Where a commonly quoted figure and the vendor's differ."""
    return _figures("differences.yaml")


@cache
def _figures(file: str) -> tuple[Figure, ...]:
    path = _ROOT / file
    return tuple(build(Figure, entry, path=path) for entry in read_mapping(path)["figures"])
