"""The table of docs/launching.md: one file of each kind as people write it, and what is made of it."""

from __future__ import annotations

from simulator.answers.estimate import answer
from tests.launch.examples import WRITTEN_FILES, WrittenFile, scenario_of

_SHOWN = (
    *("gpt3-175b.sh", "zero2-offload.json", "llama3-405b-pp.toml", "llama3-70b.sbatch", "fsdp2-llama.yaml"),
    *("mistral-qlora.yaml", "llama2-full-zero3.yaml", "llama2-7b-gpu.yml", "gpt-20b.yaml", "mixtral-experts.yaml"),
    *("llama-1b.yaml", "llama3-lora.yaml"),
)
"""Names of the files that are shown, the first of each kind that has one."""
_HEAD = (
    "| kind | example, in [tests/launch/files](../tests/launch/files) | read | assumed | ignored | step | memory |\n"
    "|---|---|---|---|---|---|---|\n"
)


def table() -> str:
    """The table, in Markdown."""
    rows: dict[str, str] = {}
    for file in WRITTEN_FILES:
        if file.path.name in _SHOWN:
            rows.setdefault(file.path.parent.name, _row(file))
    return _HEAD + "".join(rows.values())


def _row(file: WrittenFile) -> str:
    launched, estimate = file.read(), answer(scenario_of(file))
    memory = estimate.memory_bytes["total"] / 2**30
    counts = " | ".join(str(len(part)) for part in (launched.read, launched.assumed, launched.ignored))
    step = f"{estimate.step_time_s:.3g} s"
    return f"| {launched.framework} | `{file.name}` | {counts} | {step} | {memory:.1f} GiB |\n"
