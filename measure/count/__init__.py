"""Torch as an oracle without a clock: arithmetic, kept bytes, collectives, pipelines."""
