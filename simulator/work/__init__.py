"""What a workload consists of: requests to a device, the program of a step, messages and counts."""
