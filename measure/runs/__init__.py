"""A run: which cases are measured, within which budget, on one device or among ranks."""
