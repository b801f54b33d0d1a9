"""Figures of speed, measured apart from the tests: machines are shared and noisy."""
