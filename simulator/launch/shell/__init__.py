"""Shell scripts read as data: variables with plain values are expanded, and nothing is run."""
