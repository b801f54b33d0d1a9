"""Megatron-LM: shell scripts for torchrun, and its arguments wherever they stand."""
