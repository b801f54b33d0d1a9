"""A scenario: what the user said, completed with defaults and prices."""
