"""Time and memory of a step: the program of `simulator.work`, evaluated."""
