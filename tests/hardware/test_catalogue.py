"""The catalogue: complete, with a source for every figure, and with the vendors' values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hardware import catalogue
from hardware.errors import InputError
from hardware.sheet import Sheet
from hardware.spec import Device, System
from simulator.pricing.analytic import precisions_of

ROOT = Path(catalogue.__file__).parent
DEVICES, SYSTEMS, CLASSES = (catalogue.names(kind) for kind in ("devices", "systems", "classes"))
_WANTED_DEVICES = [
    "a100-sxm4-40gb",
    "a100-sxm4-80gb",
    "a100-pcie-40gb",
    "a100-pcie-80gb",
    "v100-sxm2-16gb",
    "v100-sxm2-32gb",
    "v100-sxm3-32gb",
    "v100-pcie-16gb",
    "v100-pcie-32gb",
    "rtx-3090",
    "rtx-a6000",
    "h100-sxm5-80gb",
    "h100-pcie-80gb",
    "h100-nvl-94gb",
    "h200-sxm-141gb",
    "b200-sxm-180gb",
    "gb200",
    "l4",
    "l40s",
    "rtx-4090",
    "rtx-5090",
    "a10",
    "t4",
    "mi250x",
    "mi300x",
    "tpu-v3",
    "tpu-v4",
    "tpu-v5e",
    "tpu-v5p",
    "tpu-v6e",
]
_WANTED_SYSTEMS = [
    "dgx-1-v100",
    "dgx-2",
    "dgx-a100-320gb",
    "dgx-a100-640gb",
    "dgx-h100",
    "dgx-b200",
    "gb200-nvl72",
    "superpod-a100",
    "superpod-h100",
    "tpu-v4-pod",
    "palm-2pod",
    "tpu-v3-pod",
    "tpu-v5e-pod",
    "tpu-v5p-pod",
    "aws-p3.16xlarge",
    "aws-p4d.24xlarge",
    "aws-p5.48xlarge",
    "gcp-a3-highgpu-8g",
]
_FORMATS = ("fp32", "tf32", "fp16", "bf16", "fp8")


def test_every_wanted_part_is_there() -> None:
    assert set(_WANTED_DEVICES) <= set(DEVICES)
    assert set(_WANTED_SYSTEMS) <= set(SYSTEMS)


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_loads_under_its_name(name: str) -> None:
    device = catalogue.load_device(name)
    assert device.id == name
    assert device.memory.capacity > 0
    assert device.memory_capacity <= 1.08 * device.memory.capacity  # a GiB is 1.074 GB
    assert device.power.rated > 10
    assert precisions_of(device)


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_has_constants_for_what_training_uses(name: str) -> None:
    device = catalogue.load_device(name)
    constants = catalogue.load_class(device.device_class).gemm
    peaks = {format_ for format_ in _FORMATS if getattr(device.peak, format_)}
    assert peaks <= set(constants)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_loads_and_its_links_are_known(name: str) -> None:
    system = catalogue.load_system(name)
    assert system.id == name
    assert system.device.id in DEVICES
    assert 1 <= system.default_devices <= system.most_devices
    assert all(link.kind in catalogue.link_classes() for _, _, link in system.levels)
    reaches = [reach for _, reach, _ in system.levels]
    assert reaches == sorted(reaches)
    assert all(reach > 1 for reach in reaches)
    assert system.price is None or system.price in {price.id for price in catalogue.prices()}


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_loads_and_some_device_is_of_it(name: str) -> None:
    assert catalogue.load_class(name).id == name
    measured = {catalogue.load_profile(each).device for each in catalogue.names("profiles")}
    sheets = [each for each in measured if isinstance(each, Device)]
    devices = [*(catalogue.load_device(device) for device in DEVICES), *sheets]
    assert name in {device.device_class for device in devices}


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_is_a_plain_host(name: str) -> None:
    host = catalogue.load_system(name)
    assert isinstance(host, System)
    assert host.device.id == name
    assert host.id == name
    assert host.default_devices == 1
    assert host.levels


def test_prices_are_of_known_devices_and_ordered() -> None:
    prices = catalogue.prices()
    assert len({price.id for price in prices}) == len(prices) > 300
    unknown = {price.device for price in prices} - set(DEVICES)
    assert unknown <= {"a10g"}
    assert all(0.05 < price.rate * 3600 < 40 for price in prices)
    low_to_high = [price for price in prices if price.rate_low is not None and price.rate_high is not None]
    assert low_to_high
    assert all(price.rate_low <= price.rate <= price.rate_high for price in low_to_high)  # type: ignore[operator]
    order = [(price.device, price.rate) for price in prices]
    assert order == sorted(order)


def test_grids_and_overheads() -> None:
    grids = catalogue.grids()
    assert grids["world"].intensity == pytest.approx(0.475 / 3.6e6)
    assert grids["fr"].intensity < grids["us"].intensity < grids["in"].intensity
    assert len(grids) > 30
    overheads = catalogue.overheads()
    assert overheads["none"].ratio == 1
    assert overheads["default"].ratio == 1.2
    assert overheads["uptime-2024"].ratio == 1.56


@pytest.mark.parametrize(
    ("device", "family"),
    [
        ("h100-sxm5-80gb", "hopper"),
        ("gh200-96gb", "hopper"),
        ("b200-sxm-180gb", "blackwell"),
        ("rtx-5090", "other"),
        ("a100-sxm4-80gb", "ampere"),
        ("rtx-3090", "other"),
        ("v100-sxm2-16gb", "volta"),
        ("mi300x", "amd"),
        ("tpu-v4", "tpu"),
        ("l4", "other"),
    ],
)
def test_every_device_has_a_family_of_failures(device: str, family: str) -> None:
    failures = catalogue.failures_of(catalogue.load_device(device))
    assert failures.id == family
    assert 0 < failures.failure_rate < failures.preemption_rate * 10


def test_figures_of_failures_and_sites_name_their_source() -> None:
    for entries in (catalogue.failures(), catalogue.sites()):
        for entry in entries.values():
            nameless = [name for name, value, seen in entry.figures() if isinstance(value, float) and seen is None]
            assert not nameless
    borrowed = ("blackwell", "volta", "amd", "other")
    for name in borrowed:
        note = catalogue.failures()[name].provenance["failure_rate"].note
        assert note is not None
        assert note.startswith("no figure of")


def _sheets() -> Iterator[tuple[str, Sheet]]:
    """Every entry that holds figures."""
    for name in DEVICES:
        yield f"devices/{name}", catalogue.load_device(name)
    for name in SYSTEMS:
        yield f"systems/{name}", catalogue.load_system(name)
    for name in CLASSES:
        yield f"classes/{name}", catalogue.load_class(name)
    for price in catalogue.prices():
        yield f"prices/{price.id}", price
    for entries in (
        catalogue.grids(),
        catalogue.overheads(),
        catalogue.link_classes(),
        catalogue.failures(),
        catalogue.sites(),
    ):
        for name, entry in entries.items():
            yield name, entry


def _is_known(source: str) -> bool:
    """Whether a source is a key of sources.yaml, arithmetic or memory, or a citation in words."""
    return source in catalogue.sources() or source in ("derived", "recalled") or len(source.split()) >= 2


def test_every_source_resolves_or_is_a_citation() -> None:
    unknown = {
        (where, name, source)
        for where, sheet in _sheets()
        for name, _, provenance in sheet.figures()
        if provenance is not None
        for source in provenance.source
        if not _is_known(source)
    }
    assert not unknown
    figures = [*catalogue.measurements(), *catalogue.reliability(), *catalogue.differences()]
    assert len(figures) > 100
    assert not {(figure.subject, source) for figure in figures for source in figure.source if not _is_known(source)}


def test_every_figure_of_a_device_names_its_source() -> None:
    nameless = {
        (device, name)
        for device in DEVICES
        for name, value, provenance in catalogue.load_device(device).figures()
        if isinstance(value, int | float) and (provenance is None or not provenance.source)
    }
    assert not nameless


def test_recalled_figures_say_so() -> None:
    """A figure whose only source is memory is marked as recalled, and the other way round."""
    for where, sheet in _sheets():
        for name, _, provenance in sheet.figures():
            if provenance is not None and provenance.source == ("recalled",):
                assert provenance.seen == "recalled", (where, name)
    usable = catalogue.load_device("rtx-3090").memory.provenance["usable"]
    assert usable.seen == "recalled"


@pytest.mark.parametrize(
    ("device", "figure", "value"),
    [
        ("a100-sxm4-40gb", "peak.bf16", 312e12),
        ("a100-sxm4-40gb", "peak.tf32", 156e12),
        ("a100-sxm4-40gb", "peak.fp32", 19.5e12),
        ("a100-sxm4-40gb", "memory.bandwidth", 1555e9),
        ("a100-sxm4-80gb", "memory.bandwidth", 2039e9),
        ("a100-sxm4-80gb", "memory.capacity", 80e9),
        ("a100-sxm4-80gb", "power.limit", 400.0),
        ("a100-sxm4-80gb", "processors", 108),
        ("a100-pcie-80gb", "memory.bandwidth", 1935e9),
        ("v100-sxm2-16gb", "peak.fp16", 125e12),
        ("v100-sxm2-16gb", "peak.fp32", 15.7e12),
        ("v100-sxm2-16gb", "peak.bf16", None),
        ("v100-pcie-16gb", "peak.fp16", 112e12),
        ("v100-pcie-16gb", "peak.fp32", 14e12),
        ("v100-sxm2-32gb", "memory.bandwidth", 900e9),
        ("rtx-3090", "peak.fp16", 71.2e12),
        ("rtx-3090", "peak.fp32", 35.6e12),
        ("rtx-3090", "peak.fp16_fp16_accumulate", 142e12),
        ("rtx-3090", "memory.bandwidth", 936e9),
        ("rtx-a6000", "peak.bf16", 154.8e12),
        ("rtx-a6000", "memory.bandwidth", 768e9),
        ("h100-sxm5-80gb", "peak.bf16", 989.4e12),
        ("h100-sxm5-80gb", "peak.fp32", 66.9e12),
        ("h100-sxm5-80gb", "memory.bandwidth", 3350e9),
        ("h100-pcie-80gb", "peak.bf16", 756e12),
        ("h200-sxm-141gb", "memory.bandwidth", 4800e9),
        ("tpu-v4", "peak.bf16", 275e12),
        ("tpu-v4", "memory.capacity", 32 * 2.0**30),
        ("tpu-v4", "memory.bandwidth", 1200e9),
        ("tpu-v3", "peak.bf16", 123e12),
        ("tpu-v5e", "peak.bf16", 197e12),
        ("tpu-v5p", "peak.bf16", 459e12),
        ("mi300x", "memory.capacity", 192 * 2.0**30),
        ("a30", "peak.int8", 330e12),
        ("tpu-v6e", "scale_up.bandwidth_per_link", 100e9),
        ("tpu-v6e", "scale_up.bandwidth_both_directions", 800e9),
    ],
)
def test_values_are_the_vendors(device: str, figure: str, value: float | None) -> None:
    figures = {name: sheet_value for name, sheet_value, _ in catalogue.load_device(device).figures()}
    assert figures[figure] == (value if value is None else pytest.approx(value, rel=1e-12))


@pytest.mark.parametrize(
    ("device", "format_", "multiply_adds"),
    [
        ("a100-sxm4-80gb", "fp32", 64),
        ("a100-sxm4-80gb", "bf16", 1024),
        ("a100-sxm4-80gb", "int8", 2048),
        ("v100-sxm2-16gb", "fp32", 64),
        ("v100-sxm2-16gb", "fp16", 512),
        ("rtx-3090", "fp32", 128),
        ("rtx-3090", "fp16", 256),
        ("rtx-a6000", "bf16", 512),
        ("rtx-4090", "bf16", 256),
        ("rtx-5090", "bf16", 256),
        ("l40s", "fp32", 128),
        ("a10", "bf16", 512),
        ("t4", "fp16", 512),
        ("mi250x", "bf16", 512),
        ("mi300x", "bf16", 1024),
        ("h100-sxm5-80gb", "fp32", 128),
        ("tpu-v3", "bf16", 128 * 128),
        ("tpu-v4", "bf16", 128 * 128),
        ("tpu-v5e", "bf16", 128 * 128),
        ("tpu-v5p", "bf16", 128 * 128),
    ],
)
def test_a_peak_is_units_times_multiply_adds_times_clock(device: str, format_: str, multiply_adds: int) -> None:
    part = catalogue.load_device(device)
    computed = part.processors * 2 * multiply_adds * part.clock
    assert getattr(part.peak, format_) == pytest.approx(computed, rel=0.013)


@pytest.mark.parametrize("name", DEVICES)
def test_peaks_are_in_order(name: str) -> None:
    """Narrower formats are not slower, and a part never has bf16 units faster than its fp16 ones."""
    peak = catalogue.load_device(name).peak
    half = peak.bf16 or peak.fp16 or 0.0
    rounding = 1.003
    assert (peak.fp32 or 0.0) <= rounding * (peak.tf32 or half) <= rounding**2 * half
    assert peak.fp8 is None or peak.fp8 >= half


@pytest.mark.parametrize(
    ("system", "devices_per_node", "memory_gb", "device"),
    [
        ("dgx-1-v100", 8, 16, "v100-sxm2-16gb"),
        ("dgx-2", 16, 32, "v100-sxm3-32gb"),
        ("dgx-a100-320gb", 8, 40, "a100-sxm4-40gb"),
        ("dgx-a100-640gb", 8, 80, "a100-sxm4-80gb"),
        ("dgx-h100", 8, 80, "h100-sxm5-80gb"),
        ("aws-p3.16xlarge", 8, 16, "v100-sxm2-16gb"),
        ("gb200-nvl72", 72, None, "gb200"),
    ],
)
def test_systems_hold_what_their_name_says(
    system: str, devices_per_node: int, memory_gb: int | None, device: str
) -> None:
    loaded_system = catalogue.load_system(system)
    assert loaded_system.devices_per_node == devices_per_node
    assert loaded_system.device.id == device
    assert memory_gb is None or loaded_system.device.memory.capacity == memory_gb * 1e9


def test_pods() -> None:
    pods = catalogue.load_system("palm-2pod")
    assert (pods.most_devices, pods.devices_per_pod, pods.device.id) == (6144, 3072, "tpu-v4")
    assert pods.inter_node is not None
    assert pods.inter_node.dimensions == (12, 16, 16)
    assert catalogue.load_system("tpu-v4-pod").default_devices == 4096
    assert catalogue.load_system("tpu-v5e-pod").default_devices == 256


def test_names_are_read_in_any_case() -> None:
    assert catalogue.load_device("A100-SXM4-80GB").id == "a100-sxm4-80gb"
    assert catalogue.load_system("DGX-A100-640GB").id == "dgx-a100-640gb"
    assert catalogue.load_system("RTX-3090").device.id == "rtx-3090"


def test_what_is_loaded_passes_through() -> None:
    device, system = catalogue.load_device("rtx-3090"), catalogue.load_system("dgx-2")
    assert catalogue.load_device(device) is device
    assert catalogue.load_system(system) is system


@pytest.mark.parametrize("name", ["rtx-309", "a100", "", "..", "x" * 5000, "\0", "a\nb", 5, None, ["a"]])
def test_an_unknown_device_is_one_sentence(name: object) -> None:
    with pytest.raises(InputError) as caught:
        catalogue.load_device(name)  # type: ignore[arg-type]
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_a_device_of_ones_own(tmp_path: Path) -> None:
    text = (ROOT / "devices" / "a100-sxm4-80gb.yaml").read_text()
    path = tmp_path / "My Own_Card.yaml"
    path.write_text(text.replace("2039 GB/s", "4 TB/s"))
    device = catalogue.load_device(path)
    assert device.id == "my-own-card"
    assert device.memory.bandwidth == 4e12
    path.write_text(text)
    assert catalogue.load_device(path).memory.bandwidth == 2.039e12  # read again, not remembered
    assert catalogue.load_system(path).device.memory.bandwidth == 2.039e12  # a plain host of it


def test_a_system_of_ones_own_finds_its_device_beside_it(tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text((ROOT / "devices" / "rtx-3090.yaml").read_text())
    path = tmp_path / "rig.yaml"
    text = (ROOT / "systems" / "server-rtx-3090.yaml").read_text()
    path.write_text(text.replace("device: rtx-3090", "device: card.yaml"))
    assert catalogue.load_system(path).device.id == "card"


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        ("device: a100-sxm4-80gb", "device: a100-sxm-80gb", "2: unknown device 'a100-sxm-80gb'; did you mean"),
        ("device: a100-sxm4-80gb", "device: none.yaml", "2: none.yaml: cannot be read"),
        ("kind: nvlink3", "kind: nvlink9", "7: unknown kind of link 'nvlink9'; did you mean nvlink"),
        ("most_devices: 16384", "most_devices: 4", " default_devices=8 exceeds most_devices=4"),
        ("topology: switch", "topology: torus", "6: intra_node: dimensions belong to a torus, and a torus needs them"),
        ("intra_node:", "intra_nod:", "6: unknown key 'intra_nod'; did you mean 'intra_node'?"),
    ],
)
def test_a_wrong_system_names_file_and_line(tmp_path: Path, old: str, new: str, fragment: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text((ROOT / "systems" / "dgx-a100-640gb.yaml").read_text().replace(old, new))
    with pytest.raises(InputError) as caught:
        catalogue.load_system(path)
    assert str(caught.value).startswith(f"{path}:{fragment}")


def test_a_wrong_device_names_file_and_line(tmp_path: Path) -> None:
    text = (ROOT / "devices" / "a100-sxm4-80gb.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("device_class: a100-sxm", "device_class: a100-smx"))
    with pytest.raises(InputError, match=r"mine\.yaml:5: unknown device class 'a100-smx'; did you mean a100-sxm"):
        catalogue.load_device(path)
    path.write_text(text.replace("kind: nvlink3", "kind: nvlink9"))
    with pytest.raises(InputError, match="unknown kind of link of mine 'nvlink9'; did you mean nvlink"):
        catalogue.load_system(path)


def test_a_chip_without_a_pod_is_no_system(tmp_path: Path) -> None:
    path = tmp_path / "tpu-own.yaml"
    path.write_text((ROOT / "devices" / "tpu-v4.yaml").read_text())
    with pytest.raises(InputError, match=r"tpu-own: a TPU is not used without the torus of its pod; .*tpu-v4-pod"):
        catalogue.load_system(path)


def test_a_device_without_a_rate_to_its_host_is_no_system(tmp_path: Path) -> None:
    device = catalogue.load_device("rtx-4090")
    bare = device.model_copy(update={"host_link": device.host_link.model_copy(update={"bandwidth": None})})
    assert isinstance(bare, Device)
    with pytest.raises(InputError, match="rtx-4090: the bandwidth of pcie4x16 is missing"):
        catalogue.plain_host(bare)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.yaml", "a"),
        ("My Own_Card.yaml", "my-own-card"),
        ("(x).yaml", "x"),
        ("é.yaml", "unnamed"),
        ("_.yaml", "unnamed"),
    ],
)
def test_an_id_after_a_file(name: str, expected: str) -> None:
    assert catalogue.id_of(Path(name)) == expected


@pytest.mark.parametrize("name", [name for name in catalogue.names("systems") if name.startswith("tpu-")])
def test_a_link_of_a_torus_is_one_port_in_one_direction(name: str) -> None:
    """What a pod says of a link, its chip says too: a rate for both directions is twice as much."""
    pod = catalogue.load_system(name)
    link, chip = pod.inter_node, pod.device.scale_up
    assert link is not None
    assert chip is not None
    assert link.bandwidth == chip.bandwidth_per_link
    if chip.bandwidth_both_directions is not None:
        assert chip.bandwidth_both_directions == 2 * (chip.links or 0) * link.bandwidth
