"""Pictures of a step, before they are drawn: which bars and lines, where, and what they say."""
