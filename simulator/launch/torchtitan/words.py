"""What torchtitan calls models and settings, in whichever release."""

from __future__ import annotations

from simulator.specs.choices import LOOPED, V_SHAPED

MODELS = {
    "llama-3-8b": ("llama3", "8B"),
    "llama-3.1-8b": ("llama3", "8B"),
    "llama-3-70b": ("llama3", "70B"),
    "llama-3.1-70b": ("llama3", "70B"),
    "llama-3.1-405b": ("llama3", "405B"),
    "qwen3-30b-a3b": ("qwen3", "30B-A3B"),
    "qwen3-235b-a22b": ("qwen3", "235B-A22B"),
}
"""Models of the catalogue by name and flavour of torchtitan."""
TWO_CHUNKS = (*LOOPED, *V_SHAPED)
OF_CHUNK = "parallelism.pipeline_parallel_layers_per_stage"
FIRST_LESS = "parallelism.pipeline_parallel_first_stage_less_layers"
LAST_LESS = "parallelism.pipeline_parallel_last_stage_less_layers"
USUAL_EVERY = 2
"""`selective_ac_option` of `ActivationCheckpoint` in `torchtitan/config/job_config.py` of v0.2.2."""
FLOAT8 = ("quantize.linear.float8", "float8")
