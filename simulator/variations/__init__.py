"""What if something were different: one scenario varied in named places, and what moves its answer most."""
