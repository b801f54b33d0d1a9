"""What was measured on one machine, and the constants that are fitted to it: records and profiles."""
