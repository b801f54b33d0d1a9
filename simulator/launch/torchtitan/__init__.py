"""torchtitan: TOML that releases up to 0.2 read, and the command line of its configurations in Python since 0.3."""
