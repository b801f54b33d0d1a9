"""One step, replayed: what every pipeline stage does when, on which resource, and what it holds meanwhile."""
