"""What the command line of measuring accepts; a mistake is one sentence."""

from __future__ import annotations

import argparse
from typing import Literal, NoReturn, get_args

from hardware.errors import InputError, shown
from hardware.quantity import read_amount
from simulator.profiling.records.record import Phase

_SHORTEST, _LONGEST = 1.0, 7 * 86400.0
DEFAULT_MODELS = "bert-large,palm-8b"
PHASES: tuple[Phase, ...] = tuple(phase for phase in get_args(Phase) if phase != "collective")
SHARED_PHASES: tuple[Phase, ...] = ("collective", "step")
"""What ranks measure together."""

RUN_WORDS = """\
Time kernels and training steps on this machine's device, and write every result to a record as soon as it is known.

A run that ends, however it ends, goes on where it was when it is started again with the same record.

  python -m measure                          ten minutes on the first GPU, or on the CPU where there is none
  python -m measure --budget 1m --models bert-large -o mine.jsonl
  python -m measure --trace step.json.gz     two steps of a model under torch's profiler; see --trace FILE --help
  python -m measure show mine.jsonl
  python -m measure merge mine.jsonl yours.jsonl -o both.jsonl
  torchrun --nproc-per-node 8 -m measure collectives -o links.jsonl
"""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are those of the rest of capsim."""

    def error(self, message: str) -> NoReturn:
        """Refuse.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError(f"{message}; see {self.prog} --help")


def run_parser(program: str) -> Parser:
    """Of a run on one device."""
    parser = Parser(prog=program, description=RUN_WORDS, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="10m", help="time to spend, such as 90s, 10m or 2h (default: 10m)")
    parser.add_argument("--device", help="cuda:N or cpu (default: the first GPU, or the CPU)")
    parser.add_argument(
        "--models", default=DEFAULT_MODELS, help=f"whose kernels come first (default: {DEFAULT_MODELS})"
    )
    parser.add_argument("--phases", help=f"measure these only, of {', '.join(PHASES)} (default: all of them)")
    parser.add_argument("-o", "--output", default="record.jsonl", help="the record (default: record.jsonl)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="go on with a record that must be there")
    existing.add_argument("--plan-only", action="store_true", help="say what would be measured, and measure nothing")
    parser.add_argument("--tiny", action="store_true", help="smallest sizes, to try out that everything works")
    return parser


def trace_parser(program: str) -> Parser:
    """Of a trace of a few steps on one device."""
    parser = Parser(
        prog=f"{program} --trace FILE",
        description="Run training steps of a model on this machine's device under torch's profiler, and write their "
        "trace: capsim timeline --measured FILE lays it beside what is predicted, and Perfetto opens it.",
    )
    parser.add_argument(
        "--trace", required=True, metavar="FILE", help="where to: step.json, or compressed step.json.gz"
    )
    parser.add_argument("--model", default="bert-base", help="whose steps (default: bert-base)")
    parser.add_argument("--seq-len", default="128", help="tokens of a sequence (default: 128)")
    parser.add_argument("--micro-batch", default="1", help="sequences of a step (default: 1)")
    parser.add_argument("--layers", help="layers of the model (default: all of them)")
    parser.add_argument(
        "--precision", help="fp32, tf32, fp16 or bf16 (default: bf16 where a GPU has it; on a CPU fp32)"
    )
    parser.add_argument("--attention", help="fused or unfused (default: fused where the device has it)")
    parser.add_argument("--steps", default="2", help="steps to trace (default: 2)")
    parser.add_argument("--device", help="cuda:N or cpu (default: the first GPU, or the CPU)")
    return parser


def collectives_parser(program: str) -> Parser:
    """Of collectives, and of training steps that ranks share, under torchrun."""
    parser = Parser(
        prog=program,
        description="Time collectives over every size of group, and training steps of the models under "
        "DistributedDataParallel and fully_shard; run it under torchrun.",
    )
    parser.add_argument("--budget", default="10m", help="time to spend, such as 90s, 10m or 2h (default: 10m)")
    parser.add_argument("--backend", choices=["nccl", "gloo"], help="default: nccl where there are GPUs, else gloo")
    parser.add_argument("--models", default=DEFAULT_MODELS, help=f"whose steps are timed (default: {DEFAULT_MODELS})")
    parser.add_argument("--phases", help=f"measure these only, of {', '.join(SHARED_PHASES)} (default: both)")
    parser.add_argument("--smallest", default="1KiB", help="smallest message (default: 1KiB)")
    parser.add_argument("--largest", help="largest message (default: 1GiB, with gloo 64MiB)")
    parser.add_argument("-o", "--output", default="collectives.jsonl", help="the record (default: collectives.jsonl)")
    parser.add_argument("--tiny", action="store_true", help="few small messages, to try out that everything works")
    return parser


def merge_parser(program: str) -> Parser:
    """Of two records that become one."""
    parser = Parser(prog=program, description="Put the results of two records of the same device into one.")
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("-o", "--output", required=True, help="the record to write")
    return parser


def show_parser(program: str) -> Parser:
    """Of a record in words."""
    parser = Parser(prog=program, description="Say what a record holds.")
    parser.add_argument("record")
    parser.add_argument("--all", action="store_true", help="list every result")
    return parser


def phases(option: str, text: str | None, known: tuple[Phase, ...] = PHASES) -> tuple[Phase, ...]:
    """Read a list of phases; all that are known where none is given.

    >>> phases("--phases", "gemm, step")
    ('gemm', 'step')
    """
    if text is None:
        return known
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names or [""]:
        if name not in known:
            raise InputError(f"{option}={shown(name)}: is no phase; valid: {', '.join(known)}")
    return tuple(phase for phase in known if phase in names)


def seconds(option: str, text: str) -> float:
    """Read a time.

    >>> seconds("--budget", "10m"), seconds("--budget", "1.5 h"), seconds("--budget", "90s")
    (600.0, 5400.0, 90.0)
    """
    value = _read(option, text, "time", "90s, 10m or 2h")
    if not _SHORTEST <= value <= _LONGEST:
        raise InputError(f"{option}={shown(text)}: must be 1 s to 7 days")
    return value


def whole(option: str, text: str, most: int) -> int:
    """Read a whole number from 1 on.

    >>> whole("--seq-len", "128", 1_000_000)
    128
    """
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:12]) <= most:
        raise InputError(f"{option}={shown(text)}: write a whole number from 1 to {most:,}")
    return int(text)


def size(option: str, text: str) -> int:
    """Read a memory size.

    >>> size("--largest", "1GB"), size("--largest", "64MiB")
    (1000000000, 67108864)
    """
    value = _read(option, text, "memory size", "64MB")
    if not 1 <= value <= 64e9:
        raise InputError(f"{option}={shown(text)}: must be 1B to 64GB")
    return int(value)


def _read(option: str, text: str, dimension: Literal["time", "memory size"], example: str) -> float:
    """A number and its unit."""
    try:
        return read_amount(text, dimension)
    except ValueError:
        raise InputError(f"{option}={shown(text)}: write a {dimension} such as {example}") from None
