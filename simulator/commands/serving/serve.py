"""What it takes to serve a model: `capsim serve`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from simulator.commands.shared.app import app
from simulator.commands.shared.options import Json, Price, number, print_json, read_prices, read_real

Model = Annotated[str, typer.Argument(help="A model's name or file, or a config.json.")]
Sources = Annotated[bool, typer.Option("--sources", help="List the source of every figure.")]


def _text(name: str, words: str) -> Any:
    return Annotated[str | None, typer.Option(name, help=words)]


def _count(name: str, words: str, *, real: bool = False) -> Any:
    return Annotated[str | None, number(name, words, read_real) if real else number(name, words)]


@app.command()
def serve(
    model: Model,
    system: _text("--system", "A system's name or file; a device's name means a host.") = None,
    devices: _count("--devices", "Number of devices; one replica's unless given.") = None,
    stack: _text("--stack", "The engine: vllm, sglang, tensorrt-llm, llama-cpp and so on, or a file.") = None,
    objective: _text("--objective", "What the head does: causal, encoding, classification, span, ...") = None,
    input_tokens: _count("--input-tokens", "Mean tokens of a prompt, or of an encoded sequence.", real=True) = None,
    output_tokens: _count("--output-tokens", "Mean tokens of an answer.", real=True) = None,
    batch: _count("--batch", "Sequences that begin and end together.") = None,
    concurrency: _count("--concurrency", "Requests in work at any time.") = None,
    rate: _text("--rate", "Requests that arrive in a second, such as 20/s.") = None,
    cached: _count("--cached", "Share of a prompt that is in the prefix cache.", real=True) = None,
    tp: _count("--tp", "Tensor-parallel ranks of a replica.") = None,
    pp: _count("--pp", "Pipeline stages of a replica.") = None,
    ep: _count("--ep", "Expert-parallel ranks.") = None,
    replicas: _count("--replicas", "Copies of the model.") = None,
    weights: _text("--weights", "Format of weights: bf16, fp8, int8, int4, q4_k_m, nvfp4 and so on.") = None,
    kv_cache: _text("--kv-cache", "Format of the cache: bf16, fp16, fp8 or int8.") = None,
    precision: _text("--precision", "Format of products; that of the weights where the device has it.") = None,
    memory_utilisation: _count("--memory-utilisation", "Share of a device that the engine takes.", real=True) = None,
    block_size: _count("--block-size", "Tokens of a block of the cache.") = None,
    chunk: _count("--chunk", "Tokens of an iteration at most.") = None,
    ttft: _text("--ttft", "Service level: time to the first token, such as 2s.") = None,
    tpot: _text("--tpot", "Service level: time between tokens, such as 50ms.") = None,
    price: Price = None,
    price_kind: _text("--price-kind", "on-demand, spot, reserved or marketplace.") = None,
    grid: _text("--grid", "Whose electricity.") = None,
    overhead: _text("--overhead", "Power usage effectiveness of the site.") = None,
    constants: _text("--constants", "Constants that capsim fit wrote, or none for the catalogue's own.") = None,
    profile: _text("--profile", "Measured profile of the device: a name or a file.") = None,
    sources: Sources = False,
    json: Json = False,
) -> None:
    """Latency, throughput, memory and cost of serving a model.

    What is left open is chosen, and the answer says so:
    capsim serve llama-3-8b --system dgx-h100 --devices 1 --input-tokens 1024 --output-tokens 256 --concurrency 32
    """
    from hardware.errors import InputError
    from simulator.answers import serving

    said = dict(locals())
    kept = ("InputError", "serving", "sources", "json", "model", "system", "objective", "price", *_OF_PLAN)
    told = {name: value for name, value in said.items() if name not in kept and value is not None}
    plan = {name: said[name] for name in _OF_PLAN if said[name] is not None}
    if system is None:
        raise InputError("system is missing: name what the model runs on, such as --system dgx-h100")
    known: Any = model if objective is None else {"base": model, "objective": objective}
    result = serving.serve(known, system, plan=plan or None, **told, **read_prices(price))
    if json:
        print_json(result.to_dict())
    else:
        from simulator.terminal.serving.tables import print_serving

        print_serving(result, sources=sources)


_OF_PLAN = ("memory_utilisation", "block_size", "chunk")
"""Options that are fields of the plan and no arguments of `simulator.serve`."""
