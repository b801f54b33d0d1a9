"""The command line. Everything heavy is imported inside its command, so that help and errors are immediate."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import Annotated, Any, NoReturn

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for plugins costs a tenth of the start
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here multiplies matrices, and threads cost as much

import typer

from hardware.errors import InputError, one_line, shown

_INTERRUPTED = 130
"""The status that a shell expects of what Ctrl-C ended."""

app = typer.Typer(
    name="capsim",
    help="Capacity planning for transformer training: time, memory and money of a run before it is paid for.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root() -> None:
    """Capacity planning for transformer training: time, memory and money of a run before it is paid for."""


def _whole(option: typer.CallbackParam, value: str | None) -> Any:
    """Read a whole number such as 8 or 1e6."""
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        number = _float(value)
    if number is None or not number.is_integer():
        raise InputError(f"{option.opts[0]}={shown(value)}: write a whole number")
    return int(number)


def _real(option: typer.CallbackParam, value: str | None) -> Any:
    """Read a number."""
    if value is not None and _float(value) is None:
        raise InputError(f"{option.opts[0]}={shown(value)}: write a number")
    return None if value is None else _float(value)


def _amount(option: typer.CallbackParam, value: str | None) -> Any:
    """Read a count such as 780e9 or 780B."""
    if value is None:
        return None
    scale = {"k": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}.get(value[-1:], 1.0)
    number = _float(value if scale == 1.0 else value[:-1])
    if number is None:
        raise InputError(f"{option.opts[0]}={shown(value)}: write a number such as 780e9 or 780B")
    return number * scale


def _float(text: str) -> float | None:
    """A number, or nothing where the text is none."""
    try:
        return float(text)
    except ValueError:
        return None


def _number(name: str, words: str, read: Callable[..., Any] = _whole) -> Any:
    """An option that is a number; it is read here, so that an error names option and value."""
    return typer.Option(name, callback=read, metavar="N", help=words)


Model = Annotated[str, typer.Argument(help="A model's name or file, a Hugging Face config.json, or a scenario file.")]
SystemName = Annotated[
    str | None, typer.Option("--system", help="A system's name or file; a device's name means a host.")
]
Devices = Annotated[str | None, _number("--devices", "Number of devices.")]
StackName = Annotated[str | None, typer.Option("--stack", help="The software: a stack's name or file.")]
Objective = Annotated[
    str | None, typer.Option("--objective", help="What the head does: causal, mlm, seq2seq, classification, span.")
]
SequenceLength = Annotated[str | None, _number("--seq-len", "Tokens of a sequence.")]
TargetLength = Annotated[str | None, _number("--target-len", "Tokens of a target (encoder-decoder).")]
EffectiveTokens = Annotated[str | None, _number("--effective-tokens", "Mean real tokens a sequence.", _real)]
Predictions = Annotated[str | None, _number("--predictions", "Masked positions a sequence.")]
GlobalBatch = Annotated[str | None, _number("--global-batch", "Sequences of an optimizer step.")]
Amount = Annotated[str | None, _number("--tokens", "Tokens of the run, such as 780e9 or 780B.", _amount)]
Steps = Annotated[str | None, _number("--steps", "Steps of the run, instead of tokens.")]
MicroBatch = Annotated[str | None, _number("--micro-batch", "Sequences of one forward pass.")]
Data = Annotated[str | None, _number("--dp", "Data-parallel replicas.")]
Tensor = Annotated[str | None, _number("--tp", "Tensor-parallel ranks.")]
Pipeline = Annotated[str | None, _number("--pp", "Pipeline stages.")]
Virtual = Annotated[str | None, _number("--virtual-stages", "Chunks of layers of a device.")]
Context = Annotated[str | None, _number("--cp", "Context-parallel ranks.")]
Expert = Annotated[str | None, _number("--ep", "Expert-parallel ranks.")]
SequenceParallel = Annotated[
    bool | None, typer.Option("--sequence-parallel/--no-sequence-parallel", help="Share tokens of normalisations.")
]
ShardingName = Annotated[str | None, typer.Option("--sharding", help="none, zero1, zero2, zero3 or hybrid.")]
ShardingGroup = Annotated[str | None, _number("--sharding-group", "Ranks that share, under hybrid or zero1.")]
Schedule = Annotated[str | None, typer.Option("--schedule", help="1f1b, gpipe, interleaved or zero-bubble.")]
RecomputeName = Annotated[str | None, typer.Option("--recompute", help="none, selective or full.")]
PrecisionName = Annotated[str | None, typer.Option("--precision", help="fp32, tf32, fp16, bf16 or fp8.")]
OptimizerName = Annotated[str | None, typer.Option("--optimizer", help="adamw, lamb, sgd, adafactor or adam-8bit.")]
Offload = Annotated[
    bool | None, typer.Option("--offload-optimizer/--no-offload-optimizer", help="Optimizer states on the host.")
]
Placement = Annotated[str | None, typer.Option("--placement", help="Axes from the innermost, such as tp-cp-dp-pp.")]
Price = Annotated[str | None, typer.Option("--price", help="USD an hour of a device, a provider, or an offer.")]
GridName = Annotated[str | None, typer.Option("--grid", help="Whose electricity.")]
OverheadName = Annotated[str | None, typer.Option("--overhead", help="Power usage effectiveness of the site.")]
Fitted = Annotated[
    str | None, typer.Option("--constants", help="Constants that capsim fit wrote, or none for the catalogue's own.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Sources = Annotated[bool, typer.Option("--sources", help="List the source of every figure.")]


@app.command()
def estimate(
    model: Model,
    system: SystemName = None,
    devices: Devices = None,
    stack: StackName = None,
    objective: Objective = None,
    seq_len: SequenceLength = None,
    target_len: TargetLength = None,
    effective_tokens: EffectiveTokens = None,
    predictions: Predictions = None,
    global_batch: GlobalBatch = None,
    tokens: Amount = None,
    steps: Steps = None,
    micro_batch: MicroBatch = None,
    dp: Data = None,
    tp: Tensor = None,
    pp: Pipeline = None,
    virtual_stages: Virtual = None,
    cp: Context = None,
    ep: Expert = None,
    sequence_parallel: SequenceParallel = None,
    sharding: ShardingName = None,
    sharding_group: ShardingGroup = None,
    schedule: Schedule = None,
    recompute: RecomputeName = None,
    precision: PrecisionName = None,
    optimizer: OptimizerName = None,
    offload_optimizer: Offload = None,
    placement: Placement = None,
    price: Price = None,
    grid: GridName = None,
    overhead: OverheadName = None,
    constants: Fitted = None,
    json: Json = False,
    sources: Sources = False,
) -> None:
    """Time, memory, utilisation and money of one training run.

    What is left open is chosen, and the answer says so:
    capsim estimate bert-large --system dgx-a100-640gb
    """
    from hardware.reading import placed
    from simulator.estimation import answer
    from simulator.scenario import complete
    from simulator.specs.loading import scenario_of

    plan = _given(
        {
            "dp": dp,
            "tp": tp,
            "pp": pp,
            "virtual_stages": virtual_stages,
            "cp": cp,
            "ep": ep,
            "micro_batch": micro_batch,
            "sequence_parallel": sequence_parallel,
            "sharding": sharding,
            "sharding_group": sharding_group,
            "schedule": schedule,
            "recompute": recompute,
            "precision": precision,
            "optimizer": optimizer,
            "offload_optimizer": offload_optimizer,
            "placement": placement,
        }
    )
    workload = _given(
        {
            "sequence_length": seq_len,
            "target_length": target_len,
            "effective_tokens": effective_tokens,
            "predictions": predictions,
            "global_batch": global_batch,
            "tokens": tokens,
            "steps": steps,
        }
    )
    others = _given(
        {
            "system": system,
            "devices": devices,
            "stack": stack,
            "objective": objective,
            "price": price,
            "grid": grid,
            "overhead": overhead,
            "constants": constants,
        }
    )
    file = scenario_of(model, plan=plan, workload=workload, **others)
    besides = [*others, *(f"plan.{name}" for name in plan), *(f"workload.{name}" for name in workload)]
    with placed(model, besides=besides):
        result = answer(complete(file))
    if json:
        _print_json(result.to_dict())
    else:
        from simulator.report import print_estimate

        print_estimate(result, title=file.title, sources=sources)


@app.command()
def catalogue(
    kind: Annotated[str | None, typer.Argument(help="devices, systems, models, stacks, prices, ...")] = None,
    name: Annotated[str | None, typer.Argument(help="One entry, with the source of each figure.")] = None,
    json: Json = False,
) -> None:
    """What the catalogue holds: devices, systems, models, stacks, prices, with the source of each figure."""
    from simulator import browse

    if json:
        _print_json(browse.data(kind, name))
    else:
        browse.show(kind, name)


@app.command()
def claims(json: Json = False) -> None:
    """Published facts and claims beside what capsim says of them."""
    from simulator.evidence import claims as published

    rows = published.compare()
    if json:
        _print_json([row.to_dict() for row in rows])
    else:
        published.show(rows)


Runs = Annotated[
    list[str] | None, typer.Argument(metavar="[PATH]...", help="Files or folders of runs; the shipped ones if none.")
]
OwnRuns = Annotated[list[str] | None, typer.Option("--runs", metavar="PATH", help="A file or folder of own runs.")]
Output = Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write the constants.")]


@app.command()
def validate(
    paths: Runs = None,
    constants: Fitted = None,
    html: Annotated[str | None, typer.Option("--html", metavar="FILE", help="Write a page as well.")] = None,
    json: Json = False,
) -> None:
    """Predictions beside published or own runs, each priced by constants that were not fitted to it.

    What is scored, and how far off it is, by source, device, stack and task:
    capsim validate
    """
    from simulator.calibration import find
    from simulator.evidence import runs
    from simulator.evidence.validation import validate as compare

    found = compare(runs.load(paths) if paths else None, find(constants) if constants else None)
    if html is not None:
        from simulator.evidence.page import write

        write(found, html)
    if json:
        _print_json(found.to_dict())
    else:
        from simulator.evidence.report import show

        show(found)


@app.command()
def fit(
    runs: OwnRuns = None,
    output: Output = None,
    constants: Fitted = None,
    json: Json = False,
) -> None:
    """Fit the constants of device classes, links and stacks to runs.

    Three to ten runs of one's own stack are enough to gain:
    capsim fit --runs mine.yaml -o mine-constants.yaml
    Without runs it repeats the fit of the shipped constants and their cross-validation, which takes minutes.
    """
    from pathlib import Path

    from simulator.calibration import find
    from simulator.evidence import held_out, refit
    from simulator.evidence import runs as published
    from simulator.evidence.report import show_fit

    file = Path(output or "constants.yaml")
    refit.check_output(file)
    if runs:
        fitted = refit.own(published.load(runs), find(constants))
    else:
        fitted, checked = refit.shipped()
        held_out.save(checked, file.with_name("held_out.json.gz"))
    refit.write(fitted.constants, fitted.cases, file)
    if json:
        _print_json(fitted.to_dict() | {"output": str(file)})
    else:
        show_fit(fitted, str(file))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that somebody gave."""
    return {name: value for name, value in options.items() if value is not None}


def _print_json(value: Any) -> None:
    """Print JSON that any parser reads."""
    from json import dumps

    typer.echo(dumps(value, indent=2, allow_nan=False))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and status 2."""
    given = sys.argv[1:] if arguments is None else arguments
    gc.set_threshold(100_000)  # looking for garbage again and again during imports costs a tenth of the start
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal has the characters of bars
    try:
        status = app(args=given or ["--help"], prog_name="capsim", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read the answer has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("CAPSIM_TRACEBACK"):
            raise
        _fail(*_told(error))
    if status == _INTERRUPTED:
        _fail("interrupted", _INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _told(error: BaseException) -> tuple[str, int]:
    """What to say of an error, and the status to end with."""
    if isinstance(error, InputError):
        return str(error), 2
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "capsim"
        return f"{error.format_message().rstrip('.')}; see {command} --help", error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted", _INTERRUPTED
    if isinstance(error, OSError):
        return f"cannot write the answer ({error.strerror or error})", 1
    return f"failed with {type(error).__name__}: {error}; CAPSIM_TRACEBACK=1 shows where, please report it", 1


def _fail(sentence: str, status: int) -> NoReturn:
    """End with one sentence."""
    if sys.stderr is not None:
        sys.stderr.write(f"capsim: {one_line(sentence)}\n")
    sys.exit(status)


if __name__ == "__main__":
    main()
