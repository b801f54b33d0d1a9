"""Every table that is printed, one module for each command."""
