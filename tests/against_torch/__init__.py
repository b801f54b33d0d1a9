"""The simulator's counts against those of real torch, to the integer and without tolerance."""
