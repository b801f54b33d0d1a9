"""What a workload consists of: operators, the program of a step, and what is counted in it."""
