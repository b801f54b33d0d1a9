"""Backends price primitives: a kernel on a device, a collective on a group of ranks."""
