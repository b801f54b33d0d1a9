"""The question asked backwards: `capsim rent`, and the best plans for many cases: `capsim sweep`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hardware.errors import InputError, shown
from simulator.commands.shared.app import app
from simulator.commands.shared.options import (
    Fits,
    Given,
    GlobalBatch,
    Json,
    Price,
    Profile,
    Rank,
    SequenceLength,
    Stack,
    Tokens,
    Where,
    all_conditions,
    number,
    print_json,
    read_money,
    read_prices,
    read_real,
    scenario_options,
)
from simulator.commands.shared.progress import INTERRUPTED, progress_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.specs.loading import ScenarioFile

Deadline = Annotated[
    str | None, typer.Option("--deadline", metavar="TIME", help="When the run has to end, as 60d or 2027-03-31.")
]
Budget = Annotated[str | None, number("--budget", "USD that the run may cost, such as 5e6, 5M or '$5M'.", read_money)]
Systems = Annotated[str, typer.Option("--systems", metavar="NAMES", help="all, or names separated by commas.")]
Most = Annotated[str, number("--max-devices", "Devices at most.")]
Source = Annotated[
    str | None, typer.Option("--price-source", help="A provider or a kind of price; the cheapest that count if none.")
]
Confidence = Annotated[str, number("--confidence", "Probability with which limits are kept.", read_real)]
EveryPlan = Annotated[
    bool, typer.Option("--every-plan", help="Try every plan for each case, not first those that most runs use.")
]
Csv = Annotated[str | None, typer.Option("--csv", metavar="FILE", help="Write all options as a table.")]
Cluster = Annotated[
    str | None, typer.Option("--cluster", metavar="ADDRESS", help="A Dask scheduler, such as tcp://10.0.0.1:8786.")
]
Processes = Annotated[str | None, number("--processes", "Processes on this machine; one a core unless given.")]
Models = Annotated[list[str], typer.Argument(help="Models' names or files, or Hugging Face config.json files.")]
Counts = Annotated[
    str | None, typer.Option("--devices", metavar="N,N,...", help="Numbers of devices; all up to the most if none.")
]


@app.command()
@scenario_options(without=("system", "devices", "price_kind"))
def rent(
    options: Given,
    deadline: Deadline = None,
    budget: Budget = None,
    systems: Systems = "all",
    max_devices: Most = "8192",
    price_source: Source = None,
    confidence: Confidence = "0.8",
    where: Where = None,
    every_plan: EveryPlan = False,
    rank: Rank = "safe",
    cluster: Cluster = None,
    processes: Processes = None,
    csv: Csv = None,
    json: Json = False,
) -> None:
    """What to rent for a run, by a deadline or within a budget.

    Every system and every number of devices is tried.

    capsim rent palm-62b --tokens 780e9 --deadline 60d --budget 5e6
    """
    from pathlib import Path

    from hardware.writing import check_output, write_table
    from simulator.renting.rent import rent as what_to_rent

    if csv is not None:
        check_output(Path(csv))
    file = options.file(system="dgx-h100")  # a scenario needs one; the systems of the plan replace it
    _refuse_price(options.others.get("price"))
    with options.placed(), progress_line(shown=not json) as tell:
        rental = what_to_rent(
            file.model,
            deadline=deadline,
            budget=budget,
            systems=systems,
            max_devices=max_devices,  # type: ignore[arg-type]
            price_source=price_source,
            confidence=confidence,
            plan=file.plan,
            where=all_conditions(where),
            every_plan=every_plan,
            rank=rank,
            cluster=cluster,
            processes=processes,  # type: ignore[arg-type]
            progress=_teller(tell),
            **_shared(file),
        )
    if csv is not None:
        from simulator.terminal.renting import rows

        write_table(Path(csv), rows(rental.options, rental))
    if json:
        print_json(rental.to_dict())
    else:
        from simulator.terminal.renting import show

        show(rental)
    if not rental.whole:
        raise typer.Exit(INTERRUPTED)


@functools.wraps(rent)
def _plan(**options: Any) -> None:
    """Answer `capsim plan`, the former name of `capsim rent`, and say so."""
    typer.echo("capsim: capsim plan is now called capsim rent", err=True)
    rent(**options)


app.command("plan", hidden=True)(_plan)


@app.command()
def sweep(
    models: Models,
    systems: Systems = "all",
    devices: Counts = None,
    max_devices: Most = "1024",
    tokens: Tokens = None,
    sequence_length: SequenceLength = None,
    global_batch: GlobalBatch = None,
    stack: Stack = None,
    profile: Profile = None,
    price: Price = None,
    fits: Fits = None,
    where: Where = None,
    every_plan: EveryPlan = False,
    rank: Rank = "safe",
    cluster: Cluster = None,
    processes: Processes = None,
    csv: Csv = None,
    json: Json = False,
) -> None:
    """The best plan for each model, system and number of devices.

    capsim sweep gpt3-175b palm-62b --systems superpod-a100,superpod-h100 --devices 512,1024
    """
    from pathlib import Path

    from hardware.writing import check_output, write_table
    from simulator.plan_search.safety import read_chance
    from simulator.renting.cases import cases_of, counts_from
    from simulator.renting.sweeping import collected

    if csv is not None:
        check_output(Path(csv))
    said = {"tokens": tokens, "sequence_length": sequence_length, "global_batch": global_batch}
    paid = read_prices(price)
    _refuse_price(paid.get("price"))
    with progress_line(shown=not json) as tell:
        listed = cases_of(
            models,
            systems,
            counts_from(devices),
            max_devices=max_devices,  # type: ignore[arg-type]
            where=all_conditions(where),
            every_plan=every_plan,
            chance=read_chance(rank),
            stack=stack,
            profile=profile,
            fits=fits,
            prices=paid.get("prices"),
            workload={name: value for name, value in said.items() if value is not None},
        )
        swept = collected(listed, cluster=cluster, processes=processes, progress=_teller(tell))  # type: ignore[arg-type]
    if csv is not None:
        from simulator.terminal.renting import rows

        write_table(Path(csv), rows(swept.options))
    if json:
        print_json(swept.to_dict())
    else:
        from simulator.terminal.renting import show_sweep

        show_sweep(swept)
    if not swept.whole:
        raise typer.Exit(INTERRUPTED)


def _shared(file: ScenarioFile) -> dict[str, Any]:
    """What a scenario says that holds for all systems."""
    names = (
        "stack",
        "workload",
        "grid",
        "overhead",
        "constants",
        "profile",
        "prices",
        "ownership",
        "reliability",
        "fits",
    )
    return {name: getattr(file, name) for name in names if getattr(file, name) is not None}


def _refuse_price(price: str | None) -> None:
    """Refuse one price for systems of all kinds."""
    if price is not None:
        raise InputError(f"--price={shown(price)}: name the system that it is of, as in --price dgx-h100=2.10")


def _teller(tell: Callable[[str], None] | None) -> Callable[[int, int], None] | None:
    """What a sweep calls to say how far it is."""
    return None if tell is None else lambda done, of: tell(f"{done:,} of {of:,} systems and numbers of devices")
