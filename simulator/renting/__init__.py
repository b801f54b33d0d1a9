"""Many cases at once: sweeps over systems and numbers of devices, and what to rent."""
