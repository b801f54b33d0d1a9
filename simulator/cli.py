"""The command line. Everything heavy is imported inside its command, so that help and errors are immediate."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for plugins costs a tenth of the start

import click
import typer

from hardware.errors import InputError

app = typer.Typer(
    name="capsim",
    help="Capacity planning for transformer training: time, memory and money of a run before it is paid for.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _root() -> None:
    """Capacity planning for transformer training: time, memory and money of a run before it is paid for."""


Model = Annotated[str, typer.Argument(help="A model's name or file, a Hugging Face config.json, or a scenario file.")]
SystemName = Annotated[
    str | None, typer.Option("--system", help="A system's name or file; a device's name means a host.")
]
Devices = Annotated[int | None, typer.Option("--devices", help="Number of devices.")]
StackName = Annotated[str | None, typer.Option("--stack", help="The software: a stack's name or file.")]
Objective = Annotated[
    str | None, typer.Option("--objective", help="What the head does: causal, mlm, seq2seq, classification, span.")
]
SequenceLength = Annotated[int | None, typer.Option("--seq-len", help="Tokens of a sequence.")]
TargetLength = Annotated[int | None, typer.Option("--target-len", help="Tokens of a target (encoder-decoder).")]
EffectiveTokens = Annotated[float | None, typer.Option("--effective-tokens", help="Mean real tokens a sequence.")]
Predictions = Annotated[int | None, typer.Option("--predictions", help="Masked positions a sequence.")]
GlobalBatch = Annotated[int | None, typer.Option("--global-batch", help="Sequences of an optimizer step.")]
Amount = Annotated[str | None, typer.Option("--tokens", help="Tokens of the run, such as 780e9 or 780B.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Steps of the run, instead of tokens.")]
MicroBatch = Annotated[int | None, typer.Option("--micro-batch", help="Sequences of one forward pass.")]
Data = Annotated[int | None, typer.Option("--dp", help="Data-parallel replicas.")]
Tensor = Annotated[int | None, typer.Option("--tp", help="Tensor-parallel ranks.")]
Pipeline = Annotated[int | None, typer.Option("--pp", help="Pipeline stages.")]
Virtual = Annotated[int | None, typer.Option("--virtual-stages", help="Chunks of layers of a device.")]
Context = Annotated[int | None, typer.Option("--cp", help="Context-parallel ranks.")]
Expert = Annotated[int | None, typer.Option("--ep", help="Expert-parallel ranks.")]
SequenceParallel = Annotated[
    bool | None, typer.Option("--sequence-parallel/--no-sequence-parallel", help="Share tokens of normalisations.")
]
ShardingName = Annotated[str | None, typer.Option("--sharding", help="none, zero1, zero2, zero3 or hybrid.")]
ShardingGroup = Annotated[int | None, typer.Option("--sharding-group", help="Ranks of hybrid sharding.")]
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
    json: Json = False,
    sources: Sources = False,
) -> None:
    """Time, memory, utilisation and money of one training run.

    What is left open is chosen, and the answer says so:
    capsim estimate bert-large --system dgx-a100-640gb
    """
    from simulator.estimate import answer
    from simulator.specs.loading import scenario_of

    plan = {
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
    workload = {
        "sequence_length": seq_len,
        "target_length": target_len,
        "effective_tokens": effective_tokens,
        "predictions": predictions,
        "global_batch": global_batch,
        "tokens": _amount(tokens),
        "steps": steps,
    }
    others = {
        "system": system,
        "devices": devices,
        "stack": stack,
        "objective": objective,
        "price": price,
        "grid": grid,
        "overhead": overhead,
    }
    file = scenario_of(model, plan=_given(plan), workload=_given(workload), **_given(others))
    from simulator.scenario import complete

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


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that somebody gave."""
    return {name: value for name, value in options.items() if value is not None}


def _amount(text: str | None) -> float | None:
    """Read a count such as 780e9 or 780B."""
    if text is None:
        return None
    scale = {"k": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}.get(text[-1:], 1.0)
    try:
        return float(text[:-1] if scale != 1.0 else text) * scale
    except ValueError:
        raise InputError(f"tokens={text}: write a number such as 780e9 or 780B") from None


def _print_json(value: Any) -> None:
    """Print JSON that any parser reads."""
    from json import dumps

    typer.echo(dumps(value, indent=2, allow_nan=False))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and status 2."""
    try:
        status = app(args=arguments, standalone_mode=False)
    except InputError as error:
        _fail(str(error), 2)
    except click.UsageError as error:
        _fail(error.format_message(), 2)
    except click.ClickException as error:
        _fail(error.format_message(), 1)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(sentence: str, status: int) -> None:
    """End with one sentence."""
    sys.stderr.write(f"capsim: {sentence}\n")
    sys.exit(status)


if __name__ == "__main__":
    main()
