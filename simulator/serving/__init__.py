"""Serving a model: the time of an engine's iterations, the memory of a device, and what follows at steady load."""
