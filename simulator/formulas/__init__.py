"""Pure formulas of transformer training: numbers or arrays in, numbers or arrays out, SI units, each with its source.

The names of their parameters are explained in README.md beside this file.
"""
