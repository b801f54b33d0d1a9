"""Attention of all kinds: what they share is in `core`; the others register what their part executes."""
