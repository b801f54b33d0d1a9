"""Answering requests with a model: passes, memory, formats, schedulers."""
