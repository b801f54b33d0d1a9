"""How far off we are: `capsim claims`, `capsim validate`, `capsim fit`."""

from __future__ import annotations

from typing import Annotated

import typer

from simulator.commands.shared.app import app
from simulator.commands.shared.options import Constants, Json, number, print_json

Runs = Annotated[
    list[str] | None, typer.Argument(metavar="[PATH]...", help="Files or folders of runs; the shipped ones if none.")
]
OwnRuns = Annotated[list[str] | None, typer.Option("--runs", metavar="PATH", help="A file or folder of own runs.")]
OwnRun = Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write the run.")]
Output = Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write the constants.")]


@app.command()
def claims(json: Json = False) -> None:
    """Published facts and claims beside capsim's figures."""
    from simulator.answers import claims as published
    from simulator.terminal.claims import show

    rows = published.compare()
    if json:
        print_json([row.to_dict() for row in rows])
    else:
        show(rows)


@app.command()
def validate(
    paths: Runs = None,
    constants: Constants = None,
    html: Annotated[str | None, typer.Option("--html", metavar="FILE", help="Write a page as well.")] = None,
    explain: Annotated[
        str | None, typer.Option("--explain", metavar="ID", help="How one run is read, field by field.")
    ] = None,
    json: Json = False,
) -> None:
    """Predicted against measured, for published or own runs.

    Each run is priced by constants that were not fitted to it.

    What is scored, and how far off it is, by source, device, stack and task, runs of training and of serving:
    capsim validate

    What the words of one run were taken to mean, by which rule, what was assumed, and what its prediction rests on:
    capsim validate --explain palm-540b-6144
    """
    from simulator.corpus.serving import runs
    from simulator.evidence.serving.validation import validate_serving
    from simulator.evidence.validation import validate as compare
    from simulator.pricing.constants import find

    if explain is not None:
        _explain(explain, paths, constants, html, json=json)
        return
    trained, served = runs.load(paths) if paths else (None, None)
    validation = compare(trained, find(constants) if constants else None)
    serving = validate_serving(served)
    if html is not None:
        from simulator.terminal.evidence.page import write

        write(validation, html)
    if json:
        print_json(validation.to_dict() | serving.to_dict())
    else:
        from simulator.terminal.evidence.serving import show_serving
        from simulator.terminal.evidence.tables import show

        if trained is None or trained or not served:
            show(validation)
        if serving.rows:
            show_serving(serving)


def _explain(the_id: str, paths: list[str] | None, constants: str | None, html: str | None, *, json: bool) -> None:
    """Print how one run is read, and its prediction where it is priced."""
    from hardware.errors import InputError
    from simulator.corpus import runs
    from simulator.corpus.explaining import explain
    from simulator.corpus.mapping import case_of
    from simulator.corpus.serving import runs as serving_runs
    from simulator.evidence.stories import story_of
    from simulator.evidence.validation import validate as compare
    from simulator.pricing.constants import find
    from simulator.terminal.evidence.run import show

    if html is not None:
        raise InputError("--explain prints one run and --html writes a page of all; give one of them")
    run = runs.one_of(serving_runs.load(paths)[0] if paths else runs.shipped(), the_id)
    explained, own = explain(run), find(constants) if constants else None
    story = story_of(case_of(run), own) if explained.refused is None else None
    validation = compare((run,), own)
    outcome = next(iter((*validation.outcomes, *validation.suspect)), None)
    if json:
        more = {"outcome": None if outcome is None else dict(vars(outcome))}
        print_json(explained.to_dict() | more | {"prediction": None if story is None else story.to_dict()})
    else:
        show(explained, outcome, story)


@app.command()
def fit(
    runs: OwnRuns = None,
    output: Output = None,
    constants: Constants = None,
    json: Json = False,
) -> None:
    """Fit the constants of device classes, links and stacks to runs.

    Three to ten runs of one's own stack are enough to gain: rows as capsim new runs writes them, scenarios that have
    measured: {step_time_s: ...} too, or a table (CSV) of either. capsim read-log reads the time of a step from a log.
    capsim fit --runs mine.yaml -o mine-constants.yaml
    Without runs it repeats the fit of the shipped constants and their cross-validation, which takes minutes.
    """
    from pathlib import Path

    from hardware.writing import check_output
    from simulator.corpus.own import files
    from simulator.evidence import held_out, memory_errors, refit
    from simulator.evidence.errors import SHIPPED as ERRORS
    from simulator.pricing.constants import SHIPPED, find
    from simulator.step.chances import SHIPPED as MEMORY_ERRORS
    from simulator.terminal.evidence.tables import show_fit

    file = Path(output or "constants.yaml")
    check_output(file)
    if runs:
        own = files.load(runs)
        fitted = refit.own(own.published, find(constants), cases=own.cases)
    else:
        fitted, checked = refit.shipped()
        ours = file.resolve() == SHIPPED
        held_out.save(checked, ERRORS if ours else file.with_name(ERRORS.name))
        memory_errors.save(
            memory_errors.of_shipped_runs(), MEMORY_ERRORS if ours else file.with_name(MEMORY_ERRORS.name)
        )
    refit.write(fitted.constants, fitted.cases, file)
    if json:
        print_json(fitted.to_dict() | {"output": str(file)})
    else:
        show_fit(fitted, str(file))


@app.command("read-log")
def read_log(
    log: Annotated[str, typer.Argument(metavar="FILE", help="Of Megatron, W&B (.csv, .jsonl) or TensorBoard.")],
    name: Annotated[str | None, typer.Option("--name", help="Column or tag that has the time of a step.")] = None,
    warm_up: Annotated[
        str | None, number("--warm-up", "Records at the beginning that do not count; a fifth, 20 at most, if none.")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option("--scenario", metavar="FILE", help="The scenario that ran, to write a run of it.")
    ] = None,
    output: OwnRun = None,
    json: Json = False,
) -> None:
    """The time of a step in a log, for capsim fit.

    The median once the run is steady:
    capsim read-log train.log

    The same as a run to fit to:
    capsim read-log train.log --scenario mine.yaml -o run.yaml
    """
    from pathlib import Path

    from hardware.errors import InputError
    from hardware.writing import check_output, write_text, yaml_text
    from simulator.corpus.own import logs
    from simulator.terminal.evidence.tables import show_log

    if (scenario is None) != (output is None):
        raise InputError("--scenario and -o go together: a run is a scenario with what was measured, written to a file")
    if output is not None:
        check_output(Path(output))
    read = logs.read_log(log, name=name, warm_up=warm_up)  # type: ignore[arg-type]
    if scenario is not None and output is not None:
        write_text(Path(output), yaml_text([logs.with_measured(scenario, read)]))
    if json:
        print_json({**read.to_dict(), **({"output": output} if output is not None else {})})
    else:
        show_log(read, output)
