"""What it takes to serve a model: `capsim serve`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from hardware.errors import InputError
from simulator.commands.shared.app import app
from simulator.commands.shared.options import Json, Price, number, print_json, read_prices, read_real

Model = Annotated[str, typer.Argument(help="A model's name or file, or a config.json.")]
Sources = Annotated[bool, typer.Option("--sources", help="List the source of every figure.")]


_LENGTHS = "When simulated: a number, uniform:LEAST-MOST or lognormal:MEAN,DEVIATION."


def _text(name: str, words: str) -> Any:
    """An option that is a name, or an amount with its unit."""
    return Annotated[str | None, typer.Option(name, help=words)]


def _count(name: str, words: str) -> Any:
    """An option that is a whole number."""
    return Annotated[str | None, number(name, words)]


def _real(name: str, words: str) -> Any:
    """An option that is a number."""
    return Annotated[str | None, number(name, words, read_real)]


_OF_PLAN: dict[str, Any] = {
    "tp": _count("--tp", "Tensor-parallel ranks of a replica."),
    "pp": _count("--pp", "Pipeline stages of a replica."),
    "ep": _count("--ep", "Expert-parallel ranks."),
    "replicas": _count("--replicas", "Copies of the model."),
    "weights": _text("--weights", "Format of weights: bf16, fp8, int8, int4, q4_k_m, nvfp4 and so on."),
    "kv_cache": _text("--kv-cache", "Format of the cache: bf16, fp16, fp8 or int8."),
    "precision": _text("--precision", "Format of products; that of the weights where the device has it."),
    "memory_utilisation": _real("--memory-utilisation", "Share of a device that the engine takes."),
    "block_size": _count("--block-size", "Tokens of a block of the cache."),
    "chunk": _count("--chunk", "Tokens of an iteration at most."),
}
"""Options that are fields of the plan."""
_OTHERS: dict[str, Any] = {
    "system": _text("--system", "A system's name or file; a device's name means a host."),
    "devices": _count("--devices", "Number of devices; one replica's unless given."),
    "stack": _text("--stack", "The engine: vllm, sglang, tensorrt-llm, llama-cpp and so on, or a file."),
    "objective": _text("--objective", "What the head does: causal, encoding, classification, span, ..."),
    "input_tokens": _real("--input-tokens", "Mean tokens of a prompt, or of an encoded sequence."),
    "output_tokens": _real("--output-tokens", "Mean tokens of an answer."),
    "batch": _count("--batch", "Sequences that begin and end together."),
    "concurrency": _count("--concurrency", "Requests in work at any time."),
    "rate": _text("--rate", "Requests that arrive in a second, such as 20/s."),
    "cached": _real("--cached", "Share of a prompt that is in the prefix cache."),
    "ttft": _text("--ttft", "Service level: time to the first token, such as 2s."),
    "tpot": _text("--tpot", "Service level: time between tokens, such as 50ms."),
    "price": Price,
    "price_kind": _text("--price-kind", "on-demand, spot, reserved or marketplace."),
    "grid": _text("--grid", "Whose electricity."),
    "overhead": _text("--overhead", "Power usage effectiveness of the site."),
    "constants": _text("--constants", "Constants that capsim fit wrote, or none for the catalogue's own."),
    "profile": _text("--profile", "Measured profile of the device: a name or a file."),
}


def serving_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what is served; it receives those that are given as a dictionary.

    Parameters
    ----------
    command
        With a model, the dictionary, and options of its own.
    """
    offered = {**_OTHERS, **_OF_PLAN}
    own = list(inspect.signature(command, eval_str=True).parameters.values())[2:]

    @functools.wraps(command)
    def run(model: str, **options: Any) -> None:
        said = {name: options.pop(name) for name in offered}
        told = {name: value for name, value in said.items() if value is not None}
        told |= read_prices(told.pop("price", None))
        plan = {name: told.pop(name) for name in _OF_PLAN if name in told}
        command(model, {**told, "plan": plan} if plan else told, **options)

    kind, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("model", kind, annotation=Model)]
    parameters += [inspect.Parameter(name, keyword, default=None, annotation=each) for name, each in offered.items()]
    parameters += [parameter.replace(kind=keyword) for parameter in own]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@app.command()
@serving_options
def serve(
    model: str,
    said: dict[str, Any],
    simulate: Annotated[
        str | None, number("--simulate", "Answer so many requests one by one, for percentiles.")
    ] = None,
    input_lengths: Annotated[str | None, typer.Option("--input-lengths", help=_LENGTHS)] = None,
    output_lengths: Annotated[str | None, typer.Option("--output-lengths", help=_LENGTHS)] = None,
    trace: Annotated[
        str | None, typer.Option("--trace", metavar="FILE", help="Lengths and arrivals to simulate: CSV or JSON lines.")
    ] = None,
    draft_length: Annotated[
        str | None, number("--draft-length", "Tokens that a draft proposes, when simulated.")
    ] = None,
    acceptance: Annotated[
        str | None, number("--acceptance", "Probability that a drafted token is taken.", read_real)
    ] = None,
    sources: Sources = False,
    json: Json = False,
) -> None:
    """Latency, throughput, memory and cost of serving a model.

    What is left open is chosen, and the answer says so:
    capsim serve llama-3-8b --system dgx-h100 --devices 1 --input-tokens 1024 --output-tokens 256 --concurrency 32

    Percentiles of requests that come at random, whose lengths differ:
    capsim serve llama-3-8b --system dgx-h100 --input-tokens 1024 --output-tokens 256 --rate 4/s --simulate 2000
    """
    from simulator.answers.serving import estimate
    from simulator.answers.serving.simulated import Simulated

    objective, system = said.pop("objective", None), said.pop("system", None)
    if system is None:
        raise InputError("system is missing: name what the model runs on, such as --system dgx-h100")
    own = {
        "input_lengths": input_lengths,
        "output_lengths": output_lengths,
        "trace": trace,
        "draft_length": draft_length,
        "acceptance": acceptance,
    }
    given = {name: value for name, value in own.items() if value is not None}
    if simulate is not None:
        given["requests"] = simulate
    simulation = Simulated(**given) if given else None  # type: ignore[arg-type]
    known: Any = model if objective is None else {"base": model, "objective": objective}
    result = estimate.serve(known, system, simulate=simulation, **said)
    if json:
        print_json(result.to_dict())
    else:
        from simulator.terminal.serving.tables import print_serving

        print_serving(result, sources=sources)
