"""A user's own runs: scenarios with what was measured, tables, and logs of step times."""
