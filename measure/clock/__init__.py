"""Times of kernels, of steps and of collectives on the device at hand."""
