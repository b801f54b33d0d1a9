"""Every plan for a model on a number of devices: enumerated, constrained, weighed, priced in grids, ranked."""
