"""Trainers on top of transformers: accelerate, axolotl and LLaMA-Factory."""
