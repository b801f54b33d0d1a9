"""Predictions of serving held against published runs: prices, a fit, errors of cross-validation, intervals."""
