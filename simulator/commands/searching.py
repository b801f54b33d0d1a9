"""Better plans: `capsim search`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator.commands.shared.app import app
from simulator.commands.shared.options import (
    Given,
    Json,
    Rank,
    Where,
    all_conditions,
    number,
    print_json,
    read_money,
    scenario_options,
)
from simulator.commands.shared.progress import INTERRUPTED, progress_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.plan_search.exploration import Exploration, Progress

Aim = Annotated[str, typer.Option("--objective", help="What to minimise: time, cost, energy or memory.")]
Top = Annotated[str, number("--top", "How many plans to list.")]
Pareto = Annotated[
    str | None, typer.Option("--pareto", metavar="X,Y", help="Also list what no plan beats in both, as time,memory.")
]
Headroom = Annotated[
    str, typer.Option("--headroom", metavar="SHARE", help="Share of the memory that stays free, as 10%.")
]
Deadline = Annotated[
    str | None, typer.Option("--deadline", metavar="TIME", help="How long the run may take, as 60d or 2027-03-31.")
]
Budget = Annotated[str | None, number("--budget", "USD that the run may cost, such as 5e6, 5M or '$5M'.", read_money)]
By = Annotated[
    str | None, typer.Option("--by", metavar="X,Y", help="Also the fastest plan for each pair of values, as tp,pp.")
]
Chance = Annotated[
    str | None, typer.Option("--chance", metavar="SHARE", help="Chance of --rank safe; 70% unless given.")
]
Csv = Annotated[str | None, typer.Option("--csv", metavar="FILE", help="Write the listed plans as a table.")]


@app.command()
@scenario_options(without=("objective",))
def search(
    options: Given,
    objective: Aim = "time",
    where: Where = None,
    top: Top = "10",
    pareto: Pareto = None,
    headroom: Headroom = "0",
    deadline: Deadline = None,
    budget: Budget = None,
    by: By = None,
    rank: Rank = "safe",
    chance: Chance = None,
    csv: Csv = None,
    json: Json = False,
) -> None:
    """The best plans for a model on a number of devices.

    Options of the plan, such as --tp 8, hold for all plans; the others are tried:
    capsim search gpt3-175b --system superpod-a100 --devices 1024
    """
    from pathlib import Path

    from hardware.writing import check_output, write_table
    from simulator.plan_search.searching import searched
    from simulator.scenario.scenario import complete

    if csv is not None:
        check_output(Path(csv))
    file = options.file()
    with options.placed():
        scenario = complete(file, open_plan=True)
        wishes: dict[str, Any] = {
            "objective": objective,
            "where": all_conditions(where),
            "top": top,
            "pareto": pareto,
            "by": by,
        }
        wishes |= {"headroom": headroom, "deadline": deadline, "budget": budget, "rank": rank, "chance": chance}
        with progress_line(shown=not json) as tell:
            result = searched(scenario, file.plan, file.stack is not None, **wishes, progress=_teller(tell))
    if csv is not None:
        from simulator.terminal.search import rows

        write_table(Path(csv), rows(result))
    if json:
        print_json(result.to_dict())
    else:
        from simulator.terminal.search import show

        show(result)
    if not result.whole:
        raise typer.Exit(INTERRUPTED)


def _teller(tell: Callable[[str], None] | None) -> Progress | None:
    """What a search calls to say how far it is."""
    if tell is None:
        return None
    from hardware.units import duration

    def told(exploration: Exploration, considered: int) -> None:
        best = f", best {duration(exploration.best.places[0].time)}" if exploration.best.places else ""
        tell(f"{considered:,} plans{best}")

    return told
