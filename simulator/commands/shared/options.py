"""Options that several commands share: how they are read, and those that say what a scenario is."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hardware.amounts import read_number
from hardware.errors import InputError, shown

if TYPE_CHECKING:
    from simulator.launch.record import LaunchFile
    from simulator.specs.loading import ScenarioFile


def read_whole(option: typer.CallbackParam, value: str | None) -> Any:
    """Read a whole number such as 8 or 1e6."""
    number = None if value is None else read_number(value)
    if value is not None and not isinstance(number, int):
        raise InputError(f"{option.opts[0]}={shown(value)}: write a whole number")
    return number


def read_real(option: typer.CallbackParam, value: str | None) -> Any:
    """Read a number such as 0.8, 80% or 1.5."""
    number = None if value is None else read_number(value)
    if value is not None and number is None:
        raise InputError(f"{option.opts[0]}={shown(value)}: write a number such as 1.5")
    return number


def read_count(option: typer.CallbackParam, value: str | None) -> Any:
    """Read a large number such as 780e9 or 780B."""
    number = None if value is None else read_number(value)
    if value is not None and number is None:
        raise InputError(f"{option.opts[0]}={shown(value)}: write a number such as 780e9 or 780B")
    return number


def read_money(option: typer.CallbackParam, value: str | None) -> Any:
    """Read an amount of USD such as 5e6, $12k or 12,000 USD."""
    if value is None:
        return None
    from hardware.quantity import read_amount

    try:
        return read_amount(value, "sum of money")
    except ValueError as error:
        raise InputError(f"{option.opts[0]}={shown(value)}: {error}") from None


def number(name: str, words: str, read: Callable[..., Any] = read_whole) -> Any:
    """An option that is a number; it is read here, so that an error names option and value."""
    return typer.Option(name, callback=read, metavar="N", help=words)


def _text(name: str, words: str) -> Any:
    """An option that is a name."""
    return Annotated[str | None, typer.Option(name, help=words)]


def _count(name: str, words: str, read: Callable[..., Any] = read_whole) -> Any:
    """An option that is a number, or not given."""
    return Annotated[str | None, number(name, words, read)]


def _flag(name: str, words: str) -> Any:
    """An option that is given as it is, with ``no`` before it, or not at all."""
    return Annotated[bool | None, typer.Option(f"--{name}/--no-{name}", help=words)]


Price = Annotated[
    list[str] | None,
    typer.Option(
        "--price",
        metavar="PRICE",
        help="USD an hour, a provider, an offer, or a file of offers; or SYSTEM=USD, for each that was negotiated.",
    ),
]


Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="CONDITIONS", help='On plans, such as "tp<=8,sharding=zero1|zero3"; all hold.'),
]


Rank = Annotated[
    str, typer.Option("--rank", help="By what plans stay below with a chance (safe), or by the time that is expected.")
]


def all_conditions(where: list[str] | None) -> str | None:
    """The conditions of all `--where` together.

    >>> all_conditions(["tp<=8", "pp=1"])
    'tp<=8,pp=1'
    """
    return ",".join(where) if where else None


def read_prices(texts: list[str] | None) -> dict[str, Any]:
    """What `--price` says: one price for all, and those of systems that are named with theirs.

    Raises
    ------
    InputError
        Where one is said twice.

    Examples
    --------
    >>> read_prices(["dgx-h100=2.10", "lambda"])
    {'prices': {'dgx-h100': '2.10'}, 'price': 'lambda'}
    >>> read_prices(["of=ours.yaml"])
    {'price': 'of=ours.yaml'}
    """
    from hardware.reading import is_document

    said: dict[str, Any] = {}
    prices: dict[str, str] = {}
    for text in texts or []:
        name, named, rate = ("", "", text) if is_document(text) else text.rpartition("=")
        if not named and "price" in said:
            raise InputError(f"--price={shown(text)}: there is one already; name systems, as in --price dgx-h100=2.10")
        if named and name in prices:
            raise InputError(f"--price={shown(text)}: {name} has a price already")
        if named:
            prices[name] = rate
        else:
            said["price"] = text
    return {"prices": prices, **said} if prices else said


_OTHERS: dict[str, Any] = {
    "system": _text("--system", "A system's name or file; a device's name means a host."),
    "devices": _count("--devices", "Number of devices."),
    "stack": _text("--stack", "The software: a stack's name or file."),
    "of_model": _text("--model", "The model of a launch file that does not say which it trains."),
    "fits": _count("--fits", "Probability of fitting from which plans are recommended.", read_real),
    "objective": _text(
        "--objective",
        "What the head does: causal, mlm, seq2seq, classification, token-classification, span, multiple-choice, ...",
    ),
}
_WORKLOAD: dict[str, Any] = {
    "sequence_length": _count("--seq-len", "Tokens per sequence."),
    "target_length": _count("--target-len", "Tokens per target (encoder-decoder)."),
    "effective_tokens": _count("--effective-tokens", "Mean real tokens per sequence.", read_real),
    "document_lengths": _text("--document-lengths", "Documents packed in a sequence: 700, or 2048,1024,512,512."),
    "document_deviation": _count("--document-deviation", "Standard deviation of their lengths.", read_real),
    "predictions": _count("--predictions", "Masked positions per sequence."),
    "expert_imbalance": _count("--expert-imbalance", "Tokens of the busiest expert over the mean.", read_real),
    "label_smoothing": _count("--label-smoothing", "Share of a label that all classes have.", read_real),
    "z_loss": _count("--z-loss", "Weight of the z-loss, such as 1e-4.", read_real),
    "capacity_factor": _count("--capacity-factor", "Tokens that an expert takes over the mean.", read_real),
    "multi_token": _flag("multi-token", "Modules that predict further tokens are trained too."),
    "global_batch": _count("--global-batch", "Sequences per optimizer step."),
    "tokens": _count("--tokens", "Tokens of the run, such as 780e9 or 780B.", read_count),
    "steps": _count("--steps", "Steps of the run, instead of tokens."),
    "train": _text("--train", "What is trained: full, lora, prompt, prefix or head."),
    "lora_rank": _count("--lora-rank", "Rank of adapters."),
    "lora_targets": _text("--lora-targets", "all-linear, attention, or names such as q_proj,v_proj."),
    "lora_dropout": _count("--lora-dropout", "Dropout of adapters' inputs, such as 0.05.", read_real),
    "dora": _flag("dora", "Adapters with magnitudes (DoRA)."),
    "virtual_tokens": _count("--virtual-tokens", "Virtual tokens of a prompt or a prefix."),
    "preference": _text("--preference", "Pairs: dpo, or reward for a reward model."),
    "reference": _text("--reference", "Reference of dpo: copy, base or precomputed."),
    "teacher": _text("--teacher", "Distillation: the teacher's name or file."),
    "keeps_teacher_logits": _flag("keeps-teacher-logits", "Probabilities of the teacher stay in memory."),
    "base_precision": _text("--base-precision", "Frozen weights in fp8, int8, nf4 or nf4-double."),
}
_PLAN: dict[str, Any] = {
    "micro_batch": _count("--micro-batch", "Sequences per forward pass."),
    "dp": _count("--dp", "Data-parallel replicas."),
    "tp": _count("--tp", "Tensor-parallel ranks."),
    "pp": _count("--pp", "Pipeline stages."),
    "virtual_stages": _count("--virtual-stages", "Chunks of layers per device."),
    "cp": _count("--cp", "Context-parallel ranks."),
    "ep": _count("--ep", "Expert-parallel ranks."),
    "etp": _count("--etp", "Tensor-parallel ranks of an expert."),
    "sequence_parallel": _flag("sequence-parallel", "Shard normalisations over tokens."),
    "sharding": _text("--sharding", "none, zero1, zero2, zero3 or hybrid."),
    "sharding_group": _count("--sharding-group", "Ranks that share, under hybrid or zero1."),
    "schedule": _text("--schedule", "1f1b, gpipe, interleaved, zero-bubble and so on: see capsim schema plan."),
    "recompute": _text("--recompute", "none, selective, operators or full."),
    "recompute_modules": _text("--recompute-modules", "Of selective: core_attn, mlp and the like."),
    "recompute_layers": _count("--recompute-layers", "Of full: how many layers."),
    "recompute_method": _text("--recompute-method", "What they are: every, block or uniform."),
    "attention": _text("--attention", "fused or unfused; the stack's unless given."),
    "cross_entropy": _text("--cross-entropy", "unfused, fused or chunked; the stack's unless given."),
    "precision": _text("--precision", "fp32, tf32, fp16, bf16, fp8, mxfp8 or nvfp4."),
    "fp8_scaling": _text("--fp8-scaling", "Scales of fp8: delayed, current or blockwise."),
    "optimizer": _text("--optimizer", "adamw, adam-bf16, adam-8bit, adafactor, lamb, lion, muon, sgd and others."),
    "activation_inputs_in_fp8": _flag("activation-inputs-in-fp8", "Inputs of gated activations kept in fp8."),
    "parameters_in_fp32": _flag("parameters-in-fp32", "Parameters in fp32, cast for each product."),
    "gradients_in_fp32": _flag("gradients-in-fp32", "Gradients kept and summed in fp32."),
    "reduction_in_fp32": _flag("reduction-in-fp32", "Gradients travel in fp32."),
    "master_weights": _flag("master-weights", "An fp32 copy of 16-bit parameters."),
    "clip_gradients": _flag("clip-gradients", "Gradients clipped by their norm."),
    "optimizer_in_backward": _flag("optimizer-in-backward", "Updates while the backward pass runs."),
    "offload_optimizer": _flag("offload-optimizer", "Optimizer states on the host."),
    "placement": _text("--placement", "Axes from the innermost, such as tp-cp-dp-pp."),
}
_MONEY: dict[str, Any] = {
    "price": Price,
    "price_kind": _text("--price-kind", "on-demand, spot, reserved, marketplace or owned."),
    "grid": _text("--grid", "Whose electricity."),
    "overhead": _text("--overhead", "Power usage effectiveness of the site."),
    "constants": _text("--constants", "Constants that capsim fit wrote, or none for the catalogue's own."),
    "profile": _text("--profile", "Measured profile of the device (capsim calibrate): a name or a file."),
}
_OWNERSHIP: dict[str, Any] = {
    "purchase_price": _text("--purchase-price", "USD per owned device."),
    "lifetime": _text("--lifetime", "Depreciation period of an owned device, such as '5 years'."),
    "electricity": _text("--electricity", "Price of electricity for owned devices, such as '0.08 USD/kWh'."),
}
_RELIABILITY: dict[str, Any] = {
    "failure_rate": _text("--failure-rate", "Failures of one device, such as '5e-4 /d'."),
    "preemption_rate": _text("--preemption-rate", "How often one spot instance is preempted, such as '0.01 /h'."),
    "capacity_wait": _text("--capacity-wait", "Time from a preemption until capacity is back, such as '2 h'."),
    "restart": _text("--restart", "Time from an interruption to the next step, such as '10 min'."),
    "checkpoint_every": _text("--checkpoint-every", "Work between checkpoints; the optimum unless given."),
    "storage_bandwidth": _text("--storage-bandwidth", "Rate at which checkpoints are written, such as '50 GB/s'."),
}
_GROUPS = {"plan": _PLAN, "workload": _WORKLOAD, "ownership": _OWNERSHIP, "reliability": _RELIABILITY}
"""Options that are fields of one part of a scenario, by that part."""
_SCENARIO = {**_OTHERS, **_WORKLOAD, **_PLAN, **_MONEY, **_OWNERSHIP, **_RELIABILITY}
Model = Annotated[str, typer.Argument(help="A model's name or file, a config.json, a scenario or a launch file.")]
Stack = _OTHERS["stack"]
Fits = _OTHERS["fits"]
SequenceLength = _WORKLOAD["sequence_length"]
GlobalBatch = _WORKLOAD["global_batch"]
Tokens = _WORKLOAD["tokens"]
Constants = _MONEY["constants"]
Profile = _MONEY["profile"]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output (JSON).")]


@dataclass(frozen=True)
class Given:
    """What options said of a scenario."""

    model: str
    plan: dict[str, Any] = field(default_factory=dict)
    workload: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)
    ownership: dict[str, Any] = field(default_factory=dict)
    reliability: dict[str, Any] = field(default_factory=dict)

    def file(self, **others: Any) -> ScenarioFile:
        """The scenario file that the options are, or what they make of the one that is named.

        Parameters
        ----------
        others
            What a command says where it has no option for it.
        """
        from simulator.specs.loading import scenario_of

        groups = {name: getattr(self, name) for name in _GROUPS}
        told = {name: value for name, value in self.others.items() if name != "of_model"}
        launched = self.launched
        base: Any = self.model
        if launched is not None:
            follows = {"dp"} & self.plan.keys() or not {"tp", "pp", "cp"} & self.plan.keys()
            base = launched.document(self.others.get("devices"), with_replicas=bool(follows))
        return scenario_of(base, **groups, **told, **others)

    @cached_property
    def launched(self) -> LaunchFile | None:
        """What the launch file says that is named in the place of a model; none where it is no such file."""
        from simulator.launch.documents import may_be_launched

        of_model = self.others.get("of_model")
        if may_be_launched(self.model):
            from simulator.launch.recognition import launch_file, with_model

            launched = launch_file(self.model, self.others.get("devices"))
            if launched is not None:
                return with_model(launched, of_model)
        if of_model is not None:
            raise InputError(
                f"--model={shown(of_model)}: belongs to a launch file, which {self.model} is not; leave it out"
            )
        return None

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Let errors name the line of the scenario file, where it is not an option that is wrong."""
        from hardware.reading import placed

        options = [f"{group}.{name}" for group in _GROUPS for name in getattr(self, group)]
        if self.launched is not None:
            with self.launched.placed(besides=[*self.others, *options]):
                yield
            return
        with placed(self.model, besides=[*self.others, *options]):
            yield


def scenario_options(*, without: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that make a scenario; the command receives them as its first argument.

    Parameters
    ----------
    without
        Options that make no sense for the command.
    """
    offered = {name: kind for name, kind in _SCENARIO.items() if name not in without}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

        @functools.wraps(command)
        def run(model: str, **options: Any) -> None:
            said = {name: options.pop(name) for name in offered}
            told = {name: value for name, value in said.items() if value is not None}
            told |= read_prices(told.pop("price", None))
            groups = {
                group: {name: told.pop(name) for name in kinds if name in told} for group, kinds in _GROUPS.items()
            }
            command(Given(model, others=told, **groups), **options)

        kind, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter("model", kind, annotation=Model)]
        parameters += [inspect.Parameter(n, keyword, default=None, annotation=t) for n, t in offered.items()]
        parameters += [parameter.replace(kind=keyword) for parameter in own]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def print_json(value: Any) -> None:
    """Print JSON that any parser reads."""
    from json import dumps

    typer.echo(dumps(value, indent=2, allow_nan=False))
