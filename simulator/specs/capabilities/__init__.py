"""What software can run: stated by each stack, checked for one plan or for millions by the same data."""
