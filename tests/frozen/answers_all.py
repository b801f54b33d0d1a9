"""Answers written down, and compared after a change that must not move them.

    python -m tests.frozen.answers write before.json.gz
    python -m tests.frozen.answers compare before.json.gz

Written are 300 scenarios drawn over models, systems, stacks and plans with all that is said of each (step time,
interval, breakdown, memory, counts, roofline, stages), the first plans of some searches, and the held-out error table.
Compared is what the same arguments give now; the exit status is 1 where a number differs by more than 1e-12 of itself,
or, where it is a difference of larger ones (time that the host adds, work done again, shares by a derivative), of what
it is taken from.
"""

from __future__ import annotations

import gzip
import json
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import simulator
from hardware import catalogue
from hardware.catalogue import load_system
from hardware.errors import InputError
from simulator.specs.loading import load_stack, names

_SCENARIOS = 300
_WORDS = ("warnings", "sources", "assumed")
_KEPT_AS = {"basis": "served"}
"""What answers were called where they are kept."""
_TOLERANCE = 1e-12
_SEARCHES = (
    ("bert-large", "dgx-a100-640gb", 16),
    ("llama-3-8b", "dgx-h100", 32),
    ("mixtral-8x7b", "dgx-h100", 64),
    ("palm-62b", "tpu-v4-pod", 256),
    ("t5-3b", "dgx-a100-640gb", 16),
)


def _drawn() -> Iterator[dict[str, Any]]:
    """Arguments of `simulator.estimate`, for ever; about half of them are of plans that can be."""
    chance = random.Random(11)
    systems, stacks = sorted(catalogue.names("systems")), sorted(names("stacks"))
    while True:
        system = load_system(chance.choice(systems))
        devices = min(2 ** chance.randrange(11), system.most_devices)
        usable = [name for name in stacks if load_stack(name).platform == system.device.kind]
        plan: dict[str, Any] = {"micro_batch": 2 ** chance.randrange(4)}
        left = devices
        for axis in chance.sample(["tp", "pp", "cp"], chance.randrange(4)):
            degree = 2 ** chance.randrange(min(int(math.log2(left)), 4) + 1)
            plan[axis], left = degree, left // degree
        axes: dict[str, list[Any]] = {
            "sharding": ["none", "zero1", "zero2", "zero3"],
            "recompute": ["none", "selective", "full"],
            "sequence_parallel": [True, False],
            "optimizer": ["adamw", "lamb", "sgd", "adafactor", "adam-8bit"],
            "precision": ["fp32", "fp16", "bf16", "fp8"],
            "offload_optimizer": [True],
            "virtual_stages": [2],
            "schedule": ["gpipe", "zero-bubble"],
            "ep": [2, 4, 8],
            "placement": ["tp-dp-cp-pp", "pp-tp-cp-dp"],
            "parameters_in_fp32": [True, False],
        }
        for field, values in axes.items():
            if chance.random() < 0.3:
                plan[field] = chance.choice(values)
        workload: dict[str, Any] = {"global_batch": 2 ** chance.randrange(3, 13)}
        if chance.random() < 0.5:
            workload["sequence_length"] = 2 ** chance.randrange(6, 15)
        yield {
            "model": chance.choice(sorted(names("models"))),
            "system": system.id,
            "devices": devices,
            "stack": chance.choice(usable) if usable and chance.random() < 0.8 else None,
            "plan": plan if chance.random() < 0.9 else None,
            "workload": workload,
            "constants": chance.choice([None, None, "none"]),
        }


def _asked() -> list[dict[str, Any]]:
    """The arguments that have an answer, and one for each measured profile."""
    chosen: list[dict[str, Any]] = []
    for arguments in _drawn():
        try:
            simulator.estimate(**arguments)
        except InputError:
            continue
        chosen.append(arguments)
        if len(chosen) == _SCENARIOS:
            break
    return chosen + [{"model": "bert-large", "profile": name} for name in catalogue.names("profiles")]


def _answered(arguments: dict[str, Any]) -> dict[str, Any]:
    """All that is said of a scenario."""
    estimate = simulator.estimate(**arguments).to_dict()
    keywords = dict(arguments)
    scenario = simulator.resolve(keywords.pop("model"), keywords.pop("system", None), **keywords)
    below = simulator.roofline(scenario).to_dict()["work"]
    return {
        "estimate": {_KEPT_AS.get(name, name): value for name, value in estimate.items() if name not in _WORDS},
        "roofline": sorted((work["time_s"], work["flops"], work["moved_bytes"], work["shortest_s"]) for work in below),
        "stages": [stage.to_dict() for stage in simulator.stages(scenario)[:8]],
    }


def _searched(model: str, system: str, devices: int) -> list[list[float]]:
    """Time and memory of the first plans of a search."""
    search = simulator.search(model, system, devices=devices)
    best = [[one.step_time_s, one.memory_bytes["total"]] for one in search.best]
    return [[search.candidates, search.feasible, search.priced], *best]


def _errors() -> dict[str, Any]:
    """The held-out error table."""
    return {
        name: value
        for name, value in simulator.validate().to_dict().items()
        if isinstance(value, int | float | dict) and name != "seconds"
    }


_OF_WHOLE = {"breakdown_s": 1e-12, "limits": 1e-12, "served": 1e-8, "run": 1e-12}
"""Dictionaries of parts of a whole, and the tolerance as a share of the largest number among them."""


def _differences(before: Any, after: Any, place: str) -> Iterator[str]:
    """Where two answers differ."""
    whole = _OF_WHOLE.get(place.rpartition(".")[2])
    if whole is not None and isinstance(before, dict) and isinstance(after, dict):
        yield from _differing_parts(before, after, place, whole)
    elif isinstance(before, dict) and isinstance(after, dict):
        for name in before.keys() | after.keys():
            if name in before and name in after:
                yield from _differences(before[name], after[name], f"{place}.{name}")
            else:
                yield f"{place}.{name}: {'is new' if name in after else 'is gone'}"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _differences(one, other, f"{place}[{number}]")
    elif isinstance(before, float | int) and isinstance(after, float | int):
        if not math.isclose(before, after, rel_tol=_TOLERANCE, abs_tol=1e-300):
            yield f"{place}: {before!r} became {after!r}"
    elif before != after:
        yield f"{place}: {before!r} became {after!r}"


def _differing_parts(before: dict[str, Any], after: dict[str, Any], place: str, share: float) -> Iterator[str]:
    """Where parts of a whole differ by more than a share of the largest."""
    times = [value for name, value in before.items() if isinstance(value, float) and name.endswith("_s")]
    largest = max(times or [value for value in before.values() if isinstance(value, float)], default=0.0)
    for name in before.keys() | after.keys():
        one, other = before.get(name, 0.0), after.get(name, 0.0)
        if isinstance(one, float) and isinstance(other, float):
            scale = abs(one) if times and not name.endswith("_s") else largest
            if abs(one - other) > share * scale:
                yield f"{place}.{name}: {one!r} became {other!r}"
        elif one != other:
            yield f"{place}.{name}: {one!r} became {other!r}"


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _write(path: Path) -> int:
    asked = _asked()
    kept = {
        "scenarios": [[arguments, _answered(arguments)] for arguments in asked],
        "searches": [[list(case), _searched(*case)] for case in _SEARCHES],
        "errors": _errors(),
    }
    path.write_bytes(gzip.compress(json.dumps(kept, default=str).encode(), mtime=0))
    print(f"{len(asked)} scenarios, {len(_SEARCHES)} searches and the error table in {path}")  # noqa: T201
    return 0


def _compare(path: Path) -> int:
    kept = json.loads(gzip.decompress(path.read_bytes()))
    differences: list[str] = []
    for number, (arguments, answer) in enumerate(kept["scenarios"]):
        now = _plain(_answered(arguments))
        differences += _differences(answer, now, f"{number} {arguments['model']} on {arguments.get('system')}")
    for case, plans in kept["searches"]:
        differences += _differences(plans, _plain(_searched(*case)), f"search {case}")
    differences += _differences(kept["errors"], _plain(_errors()), "errors")
    print("\n".join(differences) if differences else "nothing differs")  # noqa: T201
    if differences:
        print(f"{len(differences)} differences")  # noqa: T201
    return 1 if differences else 0


if __name__ == "__main__":
    what, where = sys.argv[1:]
    sys.exit({"write": _write, "compare": _compare}[what](Path(where)))
