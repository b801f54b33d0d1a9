"""The scheduler of a serving engine: requests in, iterations, latencies out; by simulation and in closed form."""
