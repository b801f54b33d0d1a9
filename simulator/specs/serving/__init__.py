"""What is served, how its numbers are stored, how it is split, and the software that does it."""
