"""Launch files of training software: written from a scenario, and read into one; nothing in a file is ever executed."""
