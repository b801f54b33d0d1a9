"""What stands beside weights that are tuned: adapters, and the products that they are made of."""
