"""Sweeps: the same answers wherever they are computed, whatever is lost on the way."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import simulator
from hardware import catalogue
from hardware.errors import InputError
from simulator.plan_search.exploration import Exploration
from simulator.plan_search.ranking import Best
from simulator.renting import sweeping
from simulator.renting.cases import RentCase, cases_of, counts_from, counts_of
from simulator.renting.sweeping import Option, Refused, best_of, collected, sweep
from tests.renting.clusters import Cluster, cluster

MODELS = ["bert-base", "bert-large"]
SYSTEMS = ["workstation-rtx-3090", "dgx-1-v100"]
WORK: dict[str, Any] = {"workload": {"sequence_length": 128, "global_batch": 512, "tokens": 1e9}}


@pytest.fixture(scope="module")
def cases() -> list[RentCase]:
    """Two models on two systems that hold both of them."""
    return cases_of(MODELS, SYSTEMS, max_devices=16, **WORK)


@pytest.fixture(scope="module")
def here(cases: list[RentCase]) -> sweeping.Swept:
    """What this process finds."""
    return collected(cases, processes=1)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler with two workers."""
    with cluster(tmp_path, 2) as pair:
        yield pair


# where it is computed


def test_processes_find_the_same(cases: list[RentCase], here: sweeping.Swept) -> None:
    assert collected(cases, processes=2) == here
    assert here.whole
    assert len(here.options) == len(cases)


def test_a_cluster_finds_the_same_though_it_loses_a_worker(
    two: Cluster, cases: list[RentCase], here: sweeping.Swept
) -> None:
    assert collected(cases, cluster=two.address) == here

    def tell(done: int, of: int) -> None:
        assert of == len(cases)
        if done == 3:
            two.kill()

    assert collected(cases, cluster=two.address, progress=tell) == here
    assert two.known() == 1
    wishes: dict[str, Any] = {"systems": SYSTEMS, "max_devices": 16, "deadline": 86400.0, **WORK}
    outlook = simulator.rent("bert-large", cluster=two.address, **wishes)
    alone = simulator.rent("bert-large", processes=1, **wishes)
    assert {**outlook.to_dict(), "seconds": 0.0} == {**alone.to_dict(), "seconds": 0.0}


def test_results_come_as_they_are_ready(cases: list[RentCase], here: sweeping.Swept) -> None:
    results = sweep(MODELS, SYSTEMS, max_devices=16, processes=1, **WORK)
    first = next(results)
    assert isinstance(first, Option)
    assert first.devices == max(case.devices for case in cases)
    assert {(each.model, each.system, each.devices) for each in (first, *results)} == {
        (option.model, option.system, option.devices) for option in here.options
    }


def test_cases_hold_all_that_other_machines_need(tmp_path: Path) -> None:
    model = tmp_path / "mine.yaml"
    specs = Path(simulator.__file__).parent / "specs"
    model.write_text((specs / "models" / "bert-large.yaml").read_text())
    plan, stack = tmp_path / "plan.yaml", tmp_path / "stack.yaml"
    plan.write_text("micro_batch: 4\n")
    stack.write_text((specs / "stacks" / "pytorch-ddp.yaml").read_text())
    rent_cases = cases_of([model], ["rtx-3090"], [1], max_devices=1, plan=plan, stack=stack)
    for file in (model, plan, stack):
        file.unlink()
    option = best_of(pickle.loads(pickle.dumps(rent_cases[0])))
    assert isinstance(option, Option)
    assert option.estimate.plan["micro_batch"] == 4
    assert pickle.loads(pickle.dumps(option)) == option


# interruptions


@pytest.mark.parametrize("processes", [1, 2])
def test_an_interruption_keeps_what_was_found(cases: list[RentCase], processes: int) -> None:
    def interrupt(done: int, of: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    swept = collected(cases, processes=processes, progress=interrupt)
    assert not swept.whole
    assert len(swept.options) == 3


def test_an_interruption_on_a_cluster(two: Cluster, cases: list[RentCase]) -> None:
    def interrupt(done: int, of: int) -> None:
        raise KeyboardInterrupt

    swept = collected(cases, cluster=two.address, progress=interrupt)
    assert (swept.whole, len(swept.options)) == (False, 1)
    assert two.known() == 2


def test_half_a_search_is_no_option(cases: list[RentCase], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RentCase] = []

    def explore(*arguments: Any, **options: Any) -> Exploration:
        seen.append(cases[0])
        if len(seen) < 3:
            return real(*arguments, **options)
        return Exploration(Best(1), whole=False)

    real = sweeping.explore
    monkeypatch.setattr(sweeping, "explore", explore)
    with pytest.raises(KeyboardInterrupt):
        [best_of(case) for case in cases]
    seen.clear()
    swept = collected(cases, processes=1)
    assert (swept.whole, len(swept.options)) == (False, 2)


# refusals


def test_a_mistake_in_all_cases_is_an_error() -> None:
    with pytest.raises(InputError, match="unknown grid 'mars'"):
        collected(cases_of(MODELS, SYSTEMS, max_devices=4, grid="mars"), processes=1)


def test_a_mistake_in_some_cases_is_their_answer() -> None:
    swept = collected(cases_of(["bert-large"], SYSTEMS, [4, 64], max_devices=64, **WORK), processes=1)
    assert [(option.system, option.devices) for option in swept.options] == [
        ("dgx-1-v100", 64),
        ("dgx-1-v100", 4),
        ("workstation-rtx-3090", 4),
    ]
    assert [each.reason for each in swept.refused] == ["devices=64: workstation-rtx-3090 has 1 to 4 devices"]
    assert swept.refused[0].rule is None


def test_no_plan_is_an_answer() -> None:
    swept = collected(cases_of(["palm-540b"], ["workstation-rtx-3090"], max_devices=4), processes=1)
    assert swept.options == []
    assert swept.refused == [
        Refused("palm-540b", "workstation-rtx-3090", number, "no plan is left: memory", "memory")
        for number in (1, 2, 4)
    ]


def test_conditions_that_leave_nothing() -> None:
    swept = collected(cases_of(["bert-large"], ["rtx-3090"], [1], max_devices=1, where="tp=64"), processes=1)
    assert [each.rule for each in swept.refused] == ["conditions"]


@pytest.mark.parametrize(
    ("models", "sentence"),
    [(["bert-large", "bert-larg"], "unknown model 'bert-larg'"), (["none.yaml"], "none.yaml: cannot be read")],
)
def test_models_are_read_before_anything_is_computed(models: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        sweep(models, SYSTEMS)


def test_systems_are_read_before_anything_is_computed() -> None:
    with pytest.raises(InputError, match="unknown system 'dgx-3'"):
        sweep(MODELS, [*SYSTEMS, "dgx-3"])


# numbers of devices


@pytest.mark.parametrize("name", catalogue.names("systems"))
def test_numbers_of_devices_can_be_had(name: str) -> None:
    system = catalogue.load_system(name)
    counts = counts_of(system, 10**6)
    assert counts == sorted(set(counts))
    assert counts[0] == 1
    assert all(1 <= number <= system.most_devices for number in counts)
    assert all(number % system.devices_per_node == 0 for number in counts if number > system.devices_per_node)
    assert counts_of(system, 100) == [number for number in counts if number <= 100]


def test_numbers_of_devices_from_text() -> None:
    assert counts_from(None) is None
    assert counts_from("64, 8,8") == [8, 64]
    assert counts_from("1k,2,048,1e3") == [1000, 2048]


@pytest.mark.parametrize("text", ["", "8,", "eight", "-8", "0", "8.5", "8;16", "1e-3", "9999999", "²"])
def test_numbers_of_devices_that_cannot_be(text: str) -> None:
    with pytest.raises(InputError, match="write whole numbers separated by commas, such as 8,64,512"):
        counts_from(text)
