"""Fits of the forms in `simulator.formulas` to measured times."""
